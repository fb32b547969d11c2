//! Reading the index.

use super::KeywordError;
use super::layer::{self, Layer, Segment};
use super::question::Question;
use super::schema::{FIELDS, VOCABULARY, schema, text_fields};
use super::score::length_factors;
use crate::catalog::Ordinal;
use crate::retrieve::{Ask, Candidate, RetrieveError, Retriever, Source};
use crate::store::ChangedProduct;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::Path;
use std::sync::Arc;
use tantivy::query::FuzzyTermQuery;
use tantivy::schema::Field;
use tantivy::{DocId, Index, Term};

/// A keyword index, read-only, memory-mapped; with products that changed since in memory.
pub struct KeywordIndex {
    pub(super) layers: Vec<Layer>,
    /// How many of them were built.
    built: usize,
    /// What an occurrence counts, by field and length.
    pub(super) factors: [Box<[f32; 256]>; FIELDS],
}

impl std::fmt::Debug for KeywordIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeywordIndex").field("products", &self.len()).finish_non_exhaustive()
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
        let mut layers = Vec::new();
        for segment in index.searchable_segments().map_err(wrap)? {
            layers.push(Layer::of(Segment::open(segment, fields).map_err(wrap)?));
        }
        let built = layers.len();
        Ok(Self::of(layers, built))
    }

    fn of(layers: Vec<Layer>, built: usize) -> Self {
        let factors =
            std::array::from_fn(|field| length_factors(field, average_length(&layers, field)));
        Self { layers, built, factors }
    }

    /// The index after these products changed: each of them once, as it is now. Scores are those of an index that
    /// is built anew.
    pub fn after(&self, changed: &[ChangedProduct]) -> Result<Self, KeywordError> {
        Ok(Self::of(layer::after(&self.layers, self.built, changed)?, self.built))
    }

    /// How many products it holds.
    pub fn len(&self) -> usize {
        self.layers.iter().map(Layer::len).sum()
    }

    /// It holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Terms one edit away from `word` in names, brands and categories, with the number of products
    /// that have them in one of these fields.
    pub(super) fn within_one_edit(&self, word: &str) -> BTreeMap<String, u64> {
        let mut found: BTreeMap<String, [u64; VOCABULARY.end]> = BTreeMap::new();
        // The field of the term is of no matter to the automaton.
        let query =
            FuzzyTermQuery::new(Term::from_field_text(Field::from_field_id(0), word), 1, true);
        for layer in &self.layers {
            for field in VOCABULARY {
                let text = &layer.segment.texts[field];
                let Ok(automaton) = query.automaton() else {
                    continue;
                };
                let Ok(mut stream) = text.postings.terms().search(automaton).into_stream() else {
                    continue;
                };
                while stream.advance() {
                    if let Ok(near) = std::str::from_utf8(stream.key()) {
                        let held = found.entry(near.to_owned()).or_default();
                        held[field] += layer.frequency(text, stream.value());
                    }
                }
            }
        }
        let most = |by_field: [u64; VOCABULARY.end]| by_field.into_iter().max().unwrap_or(0);
        let found = found.into_iter().map(|(near, by_field)| (near, most(by_field)));
        found.filter(|(_, frequency)| *frequency > 0).collect()
    }
}

/// Average number of terms in a field, over the products that have it: an empty field has no length.
fn average_length(layers: &[Layer], field: usize) -> f32 {
    let sizes = layers.iter().map(|layer| layer.size(field));
    let (terms, filled) = sizes.fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1));
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
        for (nth, layer) in self.layers.iter().enumerate() {
            let all = 0..layer.segment.ordinals.len() as DocId;
            question.score(nth, [all], |doc, raw| {
                let ordinal = layer.segment.ordinals[doc as usize];
                if layer.gone.contains(ordinal)
                    || ask.allowed.as_ref().is_some_and(|allowed| !allowed.contains(ordinal))
                {
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
            let mut layers = self.layers.iter().zip(0_u32..);
            let place = layers.find_map(|(layer, nth)| Some((nth, layer.doc(*ordinal)?, at)));
            places.extend(place);
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

    fn after(
        &self,
        changed: &[ChangedProduct],
    ) -> Result<Option<Arc<dyn Retriever>>, RetrieveError> {
        let failed = |error: KeywordError| RetrieveError::Unavailable {
            source_name: Source::Keyword.name(),
            why: error.to_string(),
        };
        Ok(Some(Arc::new(self.after(changed).map_err(failed)?)))
    }
}
