//! Reading the index.

use super::KeywordError;
use super::plan::{Concept, Lexicon, plan};
use super::schema::{FIELDS, ORDINAL, boosts, schema, text_fields};
use super::score::{B, Cursor, Weighted, idf, length_factors, saturate, score_range};
use crate::catalog::Ordinal;
use crate::retrieve::{Ask, Candidate, RetrieveError, Retriever, Source};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::Path;
use std::sync::Arc;
use tantivy::fieldnorm::FieldNormReader;
use tantivy::index::SegmentReader;
use tantivy::postings::TermInfo;
use tantivy::query::FuzzyTermQuery;
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{DocId, Index, InvertedIndexReader, TERMINATED, Term};

/// A keyword index, read-only, memory-mapped.
pub struct KeywordIndex {
    segments: Vec<Segment>,
    /// Where each product is, ascending by ordinal.
    places: Vec<(Ordinal, u32, DocId)>,
    fields: [Field; FIELDS],
    factors: [Box<[f32; 256]>; FIELDS],
}

struct Segment {
    /// In the order of the schema.
    texts: Vec<Text>,
    /// By document.
    ordinals: Vec<Ordinal>,
}

/// One text field of a segment.
struct Text {
    postings: Arc<InvertedIndexReader>,
    norms: FieldNormReader,
}

impl std::fmt::Debug for KeywordIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeywordIndex")
            .field("products", &self.places.len())
            .finish_non_exhaustive()
    }
}

impl KeywordIndex {
    /// Opens the index in `dir`. Nothing is written, not even a lock; the files' checksums are the
    /// caller's business (the manifest of the index version).
    ///
    /// # Errors
    /// There is no index, it cannot be read, or it has another schema.
    pub fn open(dir: &Path) -> Result<Self, KeywordError> {
        let wrap = |e| KeywordError::tantivy(dir, &e);
        let index = Index::open_in_dir(dir).map_err(wrap)?;
        if index.schema() != schema() {
            return Err(KeywordError::Folder {
                dir: dir.to_owned(),
                why: "made by another version of Penstock: build it again".into(),
            });
        }
        let fields = text_fields(&index.schema()).map_err(wrap)?;
        let mut segments = Vec::new();
        for segment in index.searchable_segments().map_err(wrap)? {
            let reader = SegmentReader::open(&segment).map_err(wrap)?;
            segments.push(Segment::open(&reader, fields).map_err(wrap)?);
        }
        let mut places: Vec<_> = segments
            .iter()
            .enumerate()
            .flat_map(|(nth, segment)| {
                let docs = segment.ordinals.iter().enumerate();
                docs.map(move |(doc, &ordinal)| (ordinal, nth as u32, doc as DocId))
            })
            .collect();
        places.sort_unstable();
        let factors = std::array::from_fn(|field| {
            Box::new(length_factors(B[field], average_length(&segments, field)))
        });
        Ok(Self {
            segments,
            places,
            fields,
            factors,
        })
    }

    /// How many products it holds.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// It holds none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn term_infos(&self, term: &str) -> impl Iterator<Item = (usize, usize, TermInfo)> + '_ {
        let bytes = term.as_bytes().to_vec();
        self.segments
            .iter()
            .enumerate()
            .flat_map(move |(nth, segment)| {
                let bytes = bytes.clone();
                (0..FIELDS).filter_map(move |field| {
                    // A dictionary that cannot be read has been refused by its checksum long before.
                    let info = segment.texts[field]
                        .postings
                        .terms()
                        .get(&bytes)
                        .ok()
                        .flatten()?;
                    Some((nth, field, info))
                })
            })
    }

    fn question(&self, ask: &Ask) -> Question {
        let keyword = &ask.policy.query.keyword;
        let concepts = plan(&ask.text, ask.policy.query.max_terms, self);
        let boosts = boosts(&keyword.boosts);
        let idfs: Vec<f32> = concepts
            .iter()
            .map(|concept| {
                let known = concept
                    .spellings
                    .iter()
                    .map(|spelling| self.frequency(&spelling.term));
                let frequency = known.into_iter().find(|&n| n > 0).unwrap_or(0);
                concept.weight * idf(frequency, self.len() as u64)
            })
            .collect();
        let total: f32 = idfs.iter().sum();
        // The product whose name is the query, word for word.
        let length = FieldNormReader::fieldnorm_to_id(concepts.len() as u32);
        let best = boosts.into_iter().fold(f32::MIN_POSITIVE, f32::max);
        let ideal = total * saturate(best * self.factors[0][usize::from(length)]);
        Question {
            concepts,
            idfs,
            boosts,
            total,
            ideal,
        }
    }

    fn weighted<'a>(&'a self, question: &Question, nth: usize) -> Vec<Weighted<'a>> {
        let segment = &self.segments[nth];
        question
            .concepts
            .iter()
            .zip(&question.idfs)
            .map(|(concept, &idf)| {
                let spellings = concept
                    .spellings
                    .iter()
                    .map(|spelling| {
                        self.term_infos(&spelling.term)
                            .filter(|(segment, field, _)| {
                                *segment == nth && question.boosts[*field] > 0.0
                            })
                            .filter_map(|(_, field, info)| {
                                let postings = segment.texts[field]
                                    .postings
                                    .read_postings_from_terminfo(
                                        &info,
                                        IndexRecordOption::WithFreqs,
                                    )
                                    .ok()?;
                                Some(Cursor {
                                    postings,
                                    norms: &segment.texts[field].norms,
                                    factors: &self.factors[field],
                                    weight: question.boosts[field] * spelling.weight,
                                })
                            })
                            .collect()
                    })
                    .collect();
                Weighted { spellings, idf }
            })
            .collect()
    }
}

/// A query, ready to be scored.
struct Question {
    concepts: Vec<Concept>,
    idfs: Vec<f32>,
    boosts: [f32; FIELDS],
    total: f32,
    ideal: f32,
}

impl Question {
    fn candidate(&self, ordinal: Ordinal, raw: f32) -> Candidate {
        Candidate {
            ordinal,
            score: (raw / self.ideal).clamp(0.0, 1.0),
            raw,
            source: Source::Keyword,
        }
    }
}

impl Segment {
    fn open(reader: &SegmentReader, fields: [Field; FIELDS]) -> tantivy::Result<Self> {
        let column = reader.fast_fields().u64(ORDINAL)?;
        let ordinals = (0..reader.max_doc())
            .map(|doc| Ordinal(column.first(doc).unwrap_or(u64::from(u32::MAX)) as u32))
            .collect();
        let text = |field| {
            Ok(Text {
                postings: reader.inverted_index(field)?,
                norms: reader.get_fieldnorms_reader(field)?,
            })
        };
        Ok(Self {
            texts: fields
                .into_iter()
                .map(text)
                .collect::<tantivy::Result<_>>()?,
            ordinals,
        })
    }
}

/// Average number of terms in a field, over the products that have it: an empty field has no length.
fn average_length(segments: &[Segment], field: usize) -> f32 {
    let tokens: u64 = segments
        .iter()
        .map(|s| s.texts[field].postings.total_num_tokens())
        .sum();
    let filled: u64 = segments
        .iter()
        .map(|s| {
            let norms = &s.texts[field].norms;
            (0..norms.num_docs())
                .filter(|&doc| norms.fieldnorm_id(doc) > 0)
                .count() as u64
        })
        .sum();
    if filled == 0 {
        1.0
    } else {
        tokens as f32 / filled as f32
    }
}

impl Lexicon for KeywordIndex {
    fn frequency(&self, term: &str) -> u64 {
        let mut per_field = [0_u64; FIELDS];
        for (_, field, info) in self.term_infos(term) {
            per_field[field] += u64::from(info.doc_freq);
        }
        per_field.into_iter().max().unwrap_or(0)
    }

    fn near(&self, term: &str, limit: usize) -> Vec<String> {
        let mut found: Vec<(u64, String)> = Vec::new();
        for segment in &self.segments {
            for (field, Text { postings, .. }) in self.fields.iter().zip(&segment.texts) {
                let query = FuzzyTermQuery::new(Term::from_field_text(*field, term), 1, true);
                let Ok(automaton) = query.automaton() else {
                    continue;
                };
                let Ok(mut stream) = postings.terms().search(automaton).into_stream() else {
                    continue;
                };
                while stream.advance() {
                    if let Ok(near) = std::str::from_utf8(stream.key())
                        && !near.bytes().any(|b| b.is_ascii_digit())
                    {
                        found.push((u64::from(stream.value().doc_freq), near.to_owned()));
                    }
                }
            }
        }
        found.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        let mut out: Vec<String> = Vec::new();
        for (_, near) in found {
            if out.len() < limit && !out.contains(&near) {
                out.push(near);
            }
        }
        out
    }
}

/// Orders by score, then by ordinal, smaller first. Scores are finite: sums of finite, positive parts.
#[derive(PartialEq)]
struct Ranked(f32, Reverse<Ordinal>);

impl Eq for Ranked {}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0
            .total_cmp(&other.0)
            .then_with(|| self.1.cmp(&other.1))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Retriever for KeywordIndex {
    fn source(&self) -> Source {
        Source::Keyword
    }

    fn applies(&self, ask: &Ask) -> bool {
        !ask.text.is_empty()
    }

    fn retrieve(&self, ask: &Ask) -> Result<Vec<Candidate>, RetrieveError> {
        let wanted = ask.k.max(ask.policy.query.keyword.candidates);
        let question = self.question(ask);
        if question.concepts.is_empty() || wanted == 0 {
            return Ok(Vec::new());
        }
        let mut best: BinaryHeap<Reverse<Ranked>> =
            BinaryHeap::with_capacity(wanted.min(self.len()) + 1);
        for (nth, segment) in self.segments.iter().enumerate() {
            let mut concepts = self.weighted(&question, nth);
            let docs = segment.ordinals.len() as DocId;
            score_range(&mut concepts, question.total, 0, docs, |doc, raw| {
                let ordinal = segment.ordinals[doc as usize];
                if ask
                    .allowed
                    .as_ref()
                    .is_some_and(|allowed| !allowed.contains(ordinal))
                {
                    return;
                }
                let entry = Ranked(raw, Reverse(ordinal));
                if best.len() < wanted {
                    best.push(Reverse(entry));
                } else if let Some(mut worst) = best.peek_mut()
                    && entry > worst.0
                {
                    *worst = Reverse(entry);
                }
            });
        }
        let mut best: Vec<Ranked> = best.into_iter().map(|Reverse(entry)| entry).collect();
        best.sort_unstable_by(|a, b| b.cmp(a));
        Ok(best
            .into_iter()
            .map(|Ranked(raw, Reverse(ordinal))| question.candidate(ordinal, raw))
            .collect())
    }

    fn score(&self, ask: &Ask, ordinal: Ordinal) -> Option<Candidate> {
        let question = self.question(ask);
        let at = self
            .places
            .binary_search_by_key(&ordinal, |place| place.0)
            .ok()?;
        let (_, nth, doc) = self.places[at];
        let mut found = None;
        let mut concepts = self.weighted(&question, nth as usize);
        debug_assert!(doc < TERMINATED);
        score_range(&mut concepts, question.total, doc, doc + 1, |_, raw| {
            found = Some(raw)
        });
        found.map(|raw| question.candidate(ordinal, raw))
    }
}
