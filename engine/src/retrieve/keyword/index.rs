//! Reading the index.

use super::KeywordError;
use super::question::Question;
use super::schema::{FIELDS, ORDINAL, VOCABULARY, schema, text_fields};
use super::score::length_factors;
use crate::catalog::Ordinal;
use crate::retrieve::{Ask, Candidate, RetrieveError, Retriever, Source};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::Path;
use std::sync::Arc;
use tantivy::fieldnorm::FieldNormReader;
use tantivy::index::SegmentReader;
use tantivy::query::FuzzyTermQuery;
use tantivy::schema::Field;
use tantivy::{DocId, Index, InvertedIndexReader, Term};

/// A keyword index, read-only, memory-mapped.
pub struct KeywordIndex {
    pub(super) segments: Vec<Segment>,
    /// What an occurrence counts, by field and length.
    pub(super) factors: [Box<[f32; 256]>; FIELDS],
    /// Where each product is, ascending by ordinal.
    places: Vec<(Ordinal, u32, DocId)>,
}

pub(super) struct Segment {
    /// In the order of the schema.
    pub texts: Vec<Text>,
    /// By document.
    ordinals: Vec<Ordinal>,
}

/// One field of a segment.
pub(super) struct Text {
    pub postings: Arc<InvertedIndexReader>,
    pub lengths: FieldNormReader,
}

impl std::fmt::Debug for KeywordIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeywordIndex").field("products", &self.places.len()).finish_non_exhaustive()
    }
}

impl KeywordIndex {
    /// Opens the index in `dir`. Nothing is written, not even a lock; the files' checksums are the
    /// caller's business (the manifest of the index version).
    ///
    /// # Errors
    /// There is no index, it cannot be read, or it has another schema.
    pub fn open(dir: &Path) -> Result<Self, KeywordError> {
        let wrap = |e| KeywordError::folder(dir, &e);
        let index = Index::open_in_dir(dir).map_err(wrap)?;
        if index.schema() != schema() {
            let why = "made by another version of Penstock: build it again";
            return Err(KeywordError::folder(dir, &why));
        }
        let fields = text_fields(&index.schema()).map_err(wrap)?;
        let mut segments = Vec::new();
        for segment in index.searchable_segments().map_err(wrap)? {
            let reader = SegmentReader::open(&segment).map_err(wrap)?;
            segments.push(Segment::open(&reader, fields).map_err(wrap)?);
        }
        let by_segment = segments.iter().zip(0_u32..);
        let mut places: Vec<_> = by_segment
            .flat_map(|(segment, nth)| {
                let docs = segment.ordinals.iter().zip(0..);
                docs.map(move |(&ordinal, doc)| (ordinal, nth, doc))
            })
            .collect();
        places.sort_unstable();
        let factors =
            std::array::from_fn(|field| length_factors(field, average_length(&segments, field)));
        Ok(Self { segments, factors, places })
    }

    /// How many products it holds.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// It holds none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Terms one edit away from `word` in names, brands and categories, with the number of products
    /// that have them in one of these fields.
    pub(super) fn within_one_edit(&self, word: &str) -> BTreeMap<String, u64> {
        let mut found = BTreeMap::new();
        // The field of the term is of no matter to the automaton.
        let query =
            FuzzyTermQuery::new(Term::from_field_text(Field::from_field_id(0), word), 1, true);
        for segment in &self.segments {
            for text in &segment.texts[VOCABULARY] {
                let Ok(automaton) = query.automaton() else {
                    continue;
                };
                let Ok(mut stream) = text.postings.terms().search(automaton).into_stream() else {
                    continue;
                };
                while stream.advance() {
                    if let Ok(near) = std::str::from_utf8(stream.key()) {
                        let frequency = u64::from(stream.value().doc_freq);
                        let held: &mut u64 = found.entry(near.to_owned()).or_default();
                        *held = frequency.max(*held);
                    }
                }
            }
        }
        found
    }
}

impl Segment {
    fn open(reader: &SegmentReader, fields: [Field; FIELDS]) -> tantivy::Result<Self> {
        let column = reader.fast_fields().u64(ORDINAL)?;
        let ordinal = |doc| Ordinal(column.first(doc).unwrap_or(u64::from(u32::MAX)) as u32);
        let text = |field| {
            Ok(Text {
                postings: reader.inverted_index(field)?,
                lengths: reader.get_fieldnorms_reader(field)?,
            })
        };
        Ok(Self {
            texts: fields.into_iter().map(text).collect::<tantivy::Result<_>>()?,
            ordinals: (0..reader.max_doc()).map(ordinal).collect(),
        })
    }
}

/// Average number of terms in a field, over the products that have it: an empty field has no length.
fn average_length(segments: &[Segment], field: usize) -> f32 {
    let texts = || segments.iter().map(|segment| &segment.texts[field]);
    let terms: u64 = texts().map(|text| text.postings.total_num_tokens()).sum();
    let filled = |text: &Text| {
        let docs = 0..text.lengths.num_docs();
        docs.filter(|&doc| text.lengths.fieldnorm_id(doc) > 0).count()
    };
    let filled: usize = texts().map(filled).sum();
    if filled == 0 { 1.0 } else { terms as f32 / filled as f32 }
}

/// Ordered by raw score, then by ordinal, the smaller the better.
#[derive(PartialEq)]
struct Scored(f32, Reverse<Ordinal>);

impl Eq for Scored {}

impl Ord for Scored {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0).then_with(|| self.1.cmp(&other.1))
    }
}

impl PartialOrd for Scored {
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
        let question = Question::new(self, ask);
        if question.is_empty() || wanted == 0 {
            return Ok(Vec::new());
        }
        let mut best: BinaryHeap<Reverse<Scored>> = BinaryHeap::new();
        for (nth, segment) in self.segments.iter().enumerate() {
            let all = 0..segment.ordinals.len() as DocId;
            question.score(nth, [all], |doc, raw| {
                let ordinal = segment.ordinals[doc as usize];
                if ask.allowed.as_ref().is_some_and(|allowed| !allowed.contains(ordinal)) {
                    return;
                }
                let entry = Scored(raw, Reverse(ordinal));
                if best.len() < wanted {
                    best.push(Reverse(entry));
                } else if let Some(mut worst) = best.peek_mut()
                    && entry > worst.0
                {
                    *worst = Reverse(entry);
                }
            });
        }
        // Sorted ascending by the reverse: best first.
        let best = best.into_sorted_vec().into_iter();
        let candidate = |Reverse(Scored(raw, Reverse(ordinal)))| question.candidate(ordinal, raw);
        Ok(best.map(candidate).collect())
    }

    fn score(&self, ask: &Ask, ordinal: Ordinal) -> Option<Candidate> {
        self.scores(ask, &[ordinal]).pop().flatten()
    }

    fn scores(&self, ask: &Ask, ordinals: &[Ordinal]) -> Vec<Option<Candidate>> {
        let question = Question::new(self, ask);
        let mut scores = vec![None; ordinals.len()];
        // By segment and document, so that the postings are opened once and read forwards.
        let mut places: Vec<(u32, DocId, usize)> = Vec::with_capacity(ordinals.len());
        for (at, ordinal) in ordinals.iter().enumerate() {
            if let Ok(place) = self.places.binary_search_by_key(ordinal, |place| place.0) {
                let (_, nth, doc) = self.places[place];
                places.push((nth, doc, at));
            }
        }
        places.sort_unstable();
        places.dedup_by_key(|(nth, doc, _)| (*nth, *doc));
        for places in places.chunk_by(|a, b| a.0 == b.0) {
            let docs = places.iter().map(|&(_, doc, _)| doc..doc + 1);
            question.score(places[0].0 as usize, docs, |doc, raw| {
                if let Ok(found) = places.binary_search_by_key(&doc, |place| place.1) {
                    let at = places[found].2;
                    scores[at] = Some(question.candidate(ordinals[at], raw));
                }
            });
        }
        scores
    }
}
