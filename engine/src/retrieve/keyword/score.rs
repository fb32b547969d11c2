//! Scoring: BM25F with coordination.
//!
//! BM25F (Robertson, Zaragoza, Taylor, CIKM 2004): the frequencies of a term in all fields are first
//! added, each divided by its field's length and multiplied by its field's boost, and saturate
//! together. A sum of per-field BM25 scores counts a word that stands in name, brand and description
//! three times over, which in a shop rewards verbose products; BM25F counts it once, well supported.
//!
//! The sum over the query's concepts is then multiplied by a power of the share of the query (by
//! idf) that the product covers: half a query is worth less than half a score.

use super::schema::FIELDS;
use tantivy::postings::{Postings, SegmentPostings};
use tantivy::{DocId, DocSet};

/// Saturation of term frequency. Names say a thing once, so a second mention proves little.
pub(super) const K1: f32 = 0.6;
/// Length normalisation per field, in the order of the schema: 0 none, 1 full.
pub(super) const B: [f32; FIELDS] = [0.5, 0.3, 0.3, 0.6];
/// Power of the covered share of the query.
pub(super) const COORDINATION: f32 = 1.0;

/// Products scored at a time; the buffers stay in the cache of a core.
const WINDOW: u32 = 4096;

/// How rare a concept is: ln(1 + (N − n + ½) / (n + ½)), at least a little above 0.
pub(super) fn idf(containing: u64, all: u64) -> f32 {
    let containing = containing.min(all) as f64;
    let all = all as f64;
    (1.0 + (all - containing + 0.5) / (containing + 0.5)).ln() as f32
}

/// Frequency, weighted over the fields, to its share of the idf: 0 to 1.
pub(super) fn saturate(frequency: f32) -> f32 {
    frequency / (K1 + frequency)
}

/// 1 / (1 − b + b·length/average) for every length a field norm can tell.
pub(super) fn length_factors(b: f32, average: f32) -> [f32; 256] {
    let mut out = [1.0; 256];
    for (id, slot) in out.iter_mut().enumerate() {
        let length = tantivy::fieldnorm::FieldNormReader::id_to_fieldnorm(id as u8) as f32;
        *slot = 1.0 / (1.0 - b + b * length / average);
    }
    out
}

/// The occurrences of one term in one field of one segment.
pub(super) struct Cursor<'a> {
    pub postings: SegmentPostings,
    pub norms: &'a tantivy::fieldnorm::FieldNormReader,
    pub factors: &'a [f32; 256],
    /// Boost of the field times weight of the spelling.
    pub weight: f32,
}

/// A concept of the query in one segment.
pub(super) struct Weighted<'a> {
    /// Cursors per spelling; a product counts the best spelling.
    pub spellings: Vec<Vec<Cursor<'a>>>,
    /// idf times the concept's weight.
    pub idf: f32,
}

/// Scores every product of a segment between `from` and `to` that contains a concept, in windows, and
/// hands `(doc, raw score)` to `each`. `total` is the sum of all idfs of the query, those of concepts
/// no product has included.
pub(super) fn score_range(
    concepts: &mut [Weighted<'_>],
    total: f32,
    from: DocId,
    to: DocId,
    mut each: impl FnMut(DocId, f32),
) {
    let size = WINDOW.min(to - from) as usize;
    let mut sums = vec![0.0_f32; size];
    let mut covered = vec![0.0_f32; size];
    let mut concept_best = vec![0.0_f32; size];
    let mut spelling = vec![0.0_f32; size];
    let mut touched: Vec<u32> = Vec::new();
    let mut touched_here: Vec<u32> = Vec::new();
    let mut touched_spelling: Vec<u32> = Vec::new();

    let mut base = from;
    while base < to {
        let end = to.min(base.saturating_add(WINDOW));
        for concept in &mut *concepts {
            for cursors in &mut concept.spellings {
                for cursor in cursors {
                    gather(cursor, base, end, &mut spelling, &mut touched_spelling);
                }
                for slot in touched_spelling.drain(..) {
                    let frequency = std::mem::take(&mut spelling[slot as usize]);
                    let best = &mut concept_best[slot as usize];
                    if *best == 0.0 {
                        touched_here.push(slot);
                    }
                    *best = best.max(frequency);
                }
            }
            for slot in touched_here.drain(..) {
                let frequency = std::mem::take(&mut concept_best[slot as usize]);
                if covered[slot as usize] == 0.0 {
                    touched.push(slot);
                }
                sums[slot as usize] += concept.idf * saturate(frequency);
                covered[slot as usize] += concept.idf;
            }
        }
        for slot in touched.drain(..) {
            let sum = std::mem::take(&mut sums[slot as usize]);
            let share = std::mem::take(&mut covered[slot as usize]) / total;
            each(base + slot, sum * share.powf(COORDINATION));
        }
        base = end;
    }
}

fn gather(
    cursor: &mut Cursor<'_>,
    base: DocId,
    end: DocId,
    into: &mut [f32],
    touched: &mut Vec<u32>,
) {
    if cursor.postings.doc() < base {
        cursor.postings.seek(base);
    }
    let mut doc = cursor.postings.doc();
    while doc < end {
        let slot = doc - base;
        let factor = cursor.factors[usize::from(cursor.norms.fieldnorm_id(doc))];
        let value = &mut into[slot as usize];
        if *value == 0.0 {
            touched.push(slot);
        }
        *value += cursor.weight * cursor.postings.term_freq() as f32 * factor;
        doc = cursor.postings.advance();
    }
}
