//! A query made ready for one index: concepts with their rarity, spellings with their postings.

use super::index::KeywordIndex;
use super::layer::Segment;
use super::plan::{Concept, Lexicon, Place, plan};
use super::schema::{FIELDS, boosts};
use super::score::{Cursor, Wanted, rarity, saturate, score_range};
use super::words::plain;
use crate::catalog::Ordinal;
use crate::retrieve::{Ask, Candidate, Source};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use tantivy::DocId;
use tantivy::postings::TermInfo;
use tantivy::schema::IndexRecordOption;

/// A query over an index.
pub(super) struct Question<'a> {
    known: Known<'a>,
    concepts: Vec<Concept>,
    /// Of each concept.
    weights: Vec<f32>,
    boosts: [f32; FIELDS],
    /// The weights of what a product should cover.
    required: f32,
    /// What the perfect product would score.
    perfect: f32,
}

impl<'a> Question<'a> {
    /// Reads the query of `ask`.
    pub fn new(index: &'a KeywordIndex, ask: &Ask) -> Self {
        let query = &ask.policy.query;
        let known = Known { index, terms: RefCell::default() };
        let concepts = plan(&ask.text, query.max_terms, &known);
        let boosts = boosts(&query.keyword.boosts);
        let weights: Vec<f32> = concepts
            .iter()
            .map(|concept| {
                let spellings = concept.spellings.iter();
                let mut frequencies = spellings.map(|s| known.frequency(&s.term, s.place));
                // The query's own spelling, when it is known, says how rare the concept is.
                let frequency = frequencies.find(|n| *n > 0).unwrap_or(0);
                concept.weight * rarity(frequency, index.len() as u64)
            })
            .collect();
        let required = concepts.iter().zip(&weights);
        let required = required.filter(|(c, _)| c.required).map(|(_, w)| w).sum();
        let perfect = perfect(index, &concepts, &weights, &boosts);
        Self { known, concepts, weights, boosts, required, perfect }
    }

    /// There is nothing in the query to look for.
    pub fn is_empty(&self) -> bool {
        self.concepts.is_empty()
    }

    /// Scores ranges of documents of layer `nth`, which must ascend: `(document, raw score)` to
    /// `each`, in no stated order within a range.
    pub fn score(
        &self,
        nth: usize,
        ranges: impl IntoIterator<Item = Range<DocId>>,
        mut each: impl FnMut(DocId, f32),
    ) {
        let segment = &self.known.index.layers[nth].segment;
        let mut wanted: Vec<Wanted<'_>> = self
            .concepts
            .iter()
            .zip(&self.weights)
            .map(|(concept, &weight)| Wanted {
                spellings: self.cursors(concept, segment, nth),
                weight,
                required: concept.required,
            })
            .collect();
        for docs in ranges {
            score_range(&mut wanted, self.required, docs.start, docs.end, &mut each);
        }
    }

    fn cursors(&self, concept: &Concept, segment: &'a Segment, nth: usize) -> Vec<Vec<Cursor<'a>>> {
        let spellings = concept.spellings.iter().map(|spelling| {
            let found = self.known.lookup(&spelling.term);
            let here = found.iter().filter(|found| {
                found.layer == nth
                    && spelling.place.has(found.field)
                    && self.boosts[found.field] > 0.0
            });
            here.filter_map(|found| {
                let text = &segment.texts[found.field];
                let postings = text
                    .postings
                    .read_postings_from_terminfo(&found.info, IndexRecordOption::WithFreqs)
                    .ok()?;
                Some(Cursor {
                    postings,
                    lengths: &text.lengths,
                    factors: &self.known.index.factors[found.field],
                    weight: self.boosts[found.field] * spelling.weight,
                })
            })
            .collect()
        });
        spellings.collect()
    }

    /// A product with this raw score.
    pub fn candidate(&self, ordinal: Ordinal, raw: f32) -> Candidate {
        Candidate {
            ordinal,
            score: share_of_perfect(raw / self.perfect),
            raw,
            source: Source::Keyword,
        }
    }
}

/// Score of the product whose name is the query, word for word.
const PERFECT: f32 = 0.9;

/// In [0, 1], growing for ever: a product that says it in name, brand and description is more than
/// perfect, and two of those are not equal.
fn share_of_perfect(share: f32) -> f32 {
    if share <= 1.0 { PERFECT * share.max(0.0) } else { 1.0 - (1.0 - PERFECT) / share }
}

/// The raw score of a product whose name is the query, word for word. Scores are shares of it.
///
/// The bound belongs to the query and not to its results (as the best result's score would): a query
/// that the catalogue cannot answer gets low scores throughout, and fusion listens to the other
/// retrievers. It is reached, unlike the theoretical bound of endless repetition, so that a perfect
/// match compares with a cosine of 1.
fn perfect(
    index: &KeywordIndex,
    concepts: &[Concept],
    weights: &[f32],
    boosts: &[f32; FIELDS],
) -> f32 {
    let words = concepts.iter().filter(|concept| concept.required).count();
    let length = tantivy::fieldnorm::FieldNormReader::fieldnorm_to_id(words as u32);
    let best = boosts.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let once = saturate(best * index.factors[0][usize::from(length)]);
    weights.iter().sum::<f32>() * once
}

/// Where a term is in the index.
struct Occurrence {
    layer: usize,
    field: usize,
    info: TermInfo,
    /// Products that count.
    frequency: u64,
}

/// What the index knows about the terms of one query, each looked up once.
struct Known<'a> {
    index: &'a KeywordIndex,
    terms: RefCell<HashMap<String, Rc<Vec<Occurrence>>>>,
}

impl Known<'_> {
    fn lookup(&self, term: &str) -> Rc<Vec<Occurrence>> {
        if let Some(found) = self.terms.borrow().get(term) {
            return found.clone();
        }
        let mut found = Vec::new();
        for (layer, held) in self.index.layers.iter().enumerate() {
            for (field, text) in held.segment.texts.iter().enumerate() {
                // A dictionary that cannot be read was refused by its checksum long before.
                if let Ok(Some(info)) = text.postings.terms().get(term) {
                    let frequency = held.frequency(text, &info);
                    found.push(Occurrence { layer, field, info, frequency });
                }
            }
        }
        found.retain(|found| found.frequency > 0);
        let found = Rc::new(found);
        self.terms.borrow_mut().insert(term.to_owned(), found.clone());
        found
    }
}

impl Lexicon for Known<'_> {
    fn frequency(&self, term: &str, place: Place) -> u64 {
        let mut by_field = [0_u64; FIELDS];
        for found in self.lookup(term).iter().filter(|found| place.has(found.field)) {
            by_field[found.field] += found.frequency;
        }
        by_field.into_iter().max().unwrap_or(0)
    }

    fn near(&self, word: &str, limit: usize) -> Vec<String> {
        // People get the first letter right: another one is believed only when it is far more common.
        const OTHER_FIRST_LETTER: f64 = 0.2;
        const SHORT: usize = 4;
        let first = word.chars().next();
        let same_first = |near: &str| near.chars().next() == first;
        let short = word.chars().count() <= SHORT;
        let found = self.index.within_one_edit(word).into_iter();
        let mut found: Vec<(f64, String)> = found
            .filter(|(near, _)| plain(near) && (!short || same_first(near)))
            .map(|(near, frequency)| {
                let likely = if same_first(&near) { 1.0 } else { OTHER_FIRST_LETTER };
                (frequency as f64 * likely, near)
            })
            .collect();
        found.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        found.into_iter().take(limit).map(|(_, near)| near).collect()
    }
}
