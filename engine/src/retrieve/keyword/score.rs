//! Scoring: BM25F with coordination.
//!
//! BM25F (Robertson, Zaragoza, Taylor, CIKM 2004): the frequencies of a term in all fields are first
//! added, each divided by its field's relative length and multiplied by its field's boost, and
//! saturate together. A sum of per-field BM25 scores counts a word that stands in name, brand and
//! description three times over, which in a shop rewards verbose products; BM25F counts it once, well
//! supported.
//!
//! The sum over the query's concepts is then multiplied by a power of the share of the query (by
//! weight) that the product covers: half a query is worth less than half a score.

use super::schema::FIELDS;
use tantivy::fieldnorm::FieldNormReader;
use tantivy::postings::{Postings, SegmentPostings};
use tantivy::{DocId, DocSet};

/// Saturation of frequency, as in BM25.
const K1: f32 = 1.2;
/// Length normalisation per field of the schema: 0 none, 1 full. Long names are mostly exact names,
/// long descriptions are mostly talk; a pair of words stands in a name once.
const B: [f32; FIELDS] = [0.4, 0.3, 0.3, 0.8, 0.0];
/// Power of the covered share of the query.
const COORDINATION: f32 = 0.5;
/// Power of the idf: a rare word counts more, but in a catalogue of near-identical products less so
/// than in prose.
const RARITY: f32 = 0.7;

/// Documents scored at a time; the buffers stay in the cache of a core.
const WINDOW: u32 = 4096;

/// What a concept counts that `containing` of `all` products have: `ln(1 + (N − n + ½) / (n + ½))`,
/// never 0 or less, to the power of [`RARITY`].
pub(super) fn rarity(containing: u64, all: u64) -> f32 {
    let containing = containing.min(all) as f64;
    let all = all as f64;
    let idf = (1.0 + (all - containing + 0.5) / (containing + 0.5)).ln();
    (idf as f32).powf(RARITY)
}

/// Frequency, weighted over the fields, to a share of the concept's weight: 0 to 1.
pub(super) fn saturate(frequency: f32) -> f32 {
    frequency / (K1 + frequency)
}

/// What an occurrence counts in a field of the schema, by the length of the field in the product as
/// Tantivy encodes it: `1 / (1 − b + b·length/average)`.
pub(super) fn length_factors(field: usize, average: f32) -> Box<[f32; 256]> {
    let b = B[field];
    Box::new(std::array::from_fn(|id| {
        let length = FieldNormReader::id_to_fieldnorm(id as u8) as f32;
        1.0 / (1.0 - b + b * length / average)
    }))
}

/// The occurrences of one term in one field of one segment.
pub(super) struct Cursor<'a> {
    pub postings: SegmentPostings,
    pub lengths: &'a FieldNormReader,
    pub factors: &'a [f32; 256],
    /// Boost of the field times weight of the spelling.
    pub weight: f32,
}

/// A concept of the query in one segment.
pub(super) struct Wanted<'a> {
    /// Cursors per spelling; a product counts the best spelling.
    pub spellings: Vec<Vec<Cursor<'a>>>,
    /// Rarity times the concept's weight.
    pub weight: f32,
    /// Whether it is part of what a product should cover.
    pub required: bool,
}

/// Scores every document from `from` up to `to` that contains a concept and hands `(document, score)`
/// to `each`, in no stated order. `required` is the weight of all required concepts of the query,
/// those that no product has included.
pub(super) fn score_range(
    wanted: &mut [Wanted<'_>],
    required: f32,
    from: DocId,
    to: DocId,
    mut each: impl FnMut(DocId, f32),
) {
    let size = WINDOW.min(to.saturating_sub(from)) as usize;
    let mut by_spelling = Sparse::new(size);
    let mut by_concept = Sparse::new(size);
    let mut sums = Sparse::new(size);
    let mut covered = vec![0.0; size];
    let mut base = from;
    while base < to {
        let end = to.min(base.saturating_add(WINDOW));
        for concept in &mut *wanted {
            for cursors in &mut concept.spellings {
                for cursor in cursors {
                    gather(cursor, base, end, &mut by_spelling);
                }
                by_spelling.drain(|slot, frequency| by_concept.raise(slot, frequency));
            }
            by_concept.drain(|slot, frequency| {
                sums.add(slot, concept.weight * saturate(frequency));
                if concept.required {
                    covered[slot as usize] += concept.weight;
                }
            });
        }
        sums.drain(|slot, sum| {
            let covered = std::mem::take(&mut covered[slot as usize]);
            each(base + slot, sum * (covered / required).min(1.0).powf(COORDINATION));
        });
        base = end;
    }
}

fn gather(cursor: &mut Cursor<'_>, base: DocId, end: DocId, into: &mut Sparse) {
    let postings = &mut cursor.postings;
    if postings.doc() < base {
        postings.seek(base);
    }
    let mut doc = postings.doc();
    while doc < end {
        let factor = cursor.factors[usize::from(cursor.lengths.fieldnorm_id(doc))];
        let frequency = postings.term_freq() as f32;
        into.add(doc - base, cursor.weight * frequency * factor);
        doc = postings.advance();
    }
}

/// Positive numbers by slot, most of them absent.
struct Sparse {
    values: Vec<f32>,
    touched: Vec<u32>,
}

impl Sparse {
    fn new(size: usize) -> Self {
        Self { values: vec![0.0; size], touched: Vec::new() }
    }

    fn add(&mut self, slot: u32, value: f32) {
        let held = self.slot(slot);
        *held += value;
    }

    fn raise(&mut self, slot: u32, value: f32) {
        let held = self.slot(slot);
        *held = held.max(value);
    }

    fn slot(&mut self, slot: u32) -> &mut f32 {
        let held = &mut self.values[slot as usize];
        if *held == 0.0 {
            self.touched.push(slot);
        }
        held
    }

    /// Hands out every number and forgets it.
    fn drain(&mut self, mut each: impl FnMut(u32, f32)) {
        for slot in self.touched.drain(..) {
            let value = std::mem::take(&mut self.values[slot as usize]);
            // Twice touched when what was added was 0.
            if value > 0.0 {
                each(slot, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{length_factors, rarity, saturate};

    #[test]
    fn rare_is_worth_more_and_everything_is_worth_something() {
        assert!((rarity(1, 1_000) - 6.502_f32.powf(0.7)).abs() < 0.01);
        assert!(rarity(0, 10) > rarity(1, 10) && rarity(9, 10) > rarity(10, 10));
        assert!(rarity(10, 10) > 0.0);
        assert!(rarity(11, 10) > 0.0, "more than all cannot be");
    }

    #[test]
    fn frequency_saturates() {
        assert_eq!(saturate(0.0), 0.0);
        assert!((saturate(1.2) - 0.5).abs() < 1e-6);
        assert!(saturate(1e9) <= 1.0);
    }

    #[test]
    fn longer_than_average_counts_less() {
        let name = length_factors(0, 10.0);
        assert!((name[10] - 1.0).abs() < 1e-6);
        assert!(name[5] > 1.0 && name[20] < 1.0);
        let pairs = length_factors(4, 10.0);
        assert!((pairs[200] - 1.0).abs() < 1e-6);
    }
}
