//! Nearest vectors, whichever way they are found: [`super::exact`] or [`super::faiss`].

use super::Allowed;
use crate::catalog::Ordinal;
use std::cmp::Ordering;

/// Why a vector was refused or an index did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VectorError {
    /// FAISS drops vectors of the wrong length without a word.
    #[error("a vector has {found} numbers, the index has {expected}")]
    Length {
        /// Of the vector.
        found: usize,
        /// Of the index.
        expected: usize,
    },
    /// A NaN makes HNSW search loop for ever.
    #[error("a vector holds a number that is not finite")]
    NotFinite,
    /// The index cannot be built, written, read or searched.
    #[error("vector index: {0}")]
    Index(String),
}

/// A vector found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Its position in the index.
    pub position: u32,
    /// Inner product with the query; of unit vectors, the cosine.
    pub similarity: f32,
}

impl Hit {
    /// Best first, ties by position.
    pub fn order(&self, other: &Self) -> Ordering {
        other.similarity.total_cmp(&self.similarity).then(self.position.cmp(&other.position))
    }
}

/// Unit vectors at positions `0..len`. Immutable; searched from many threads at once.
pub trait VectorIndex: Send + Sync + std::fmt::Debug {
    /// Numbers in a vector.
    fn dims(&self) -> usize;

    /// How many vectors.
    fn len(&self) -> usize;

    /// There are no vectors.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `k` vectors most similar to `query` (all, or those in `among`), best first, ties by
    /// position. Refuses a query of the wrong length or with numbers that are not finite.
    fn search(
        &self,
        query: &[f32],
        k: usize,
        among: Option<&Positions>,
    ) -> Result<Vec<Hit>, VectorError>;

    /// Copies the vector at `position` to `out`, which has [`VectorIndex::dims`] numbers.
    fn copy(&self, position: u32, out: &mut [f32]) -> Result<(), VectorError>;
}

/// Refuses what no index must see.
pub fn check(vector: &[f32], dims: usize) -> Result<(), VectorError> {
    if vector.len() != dims {
        return Err(VectorError::Length { found: vector.len(), expected: dims });
    }
    if vector.iter().all(|x| x.is_finite()) { Ok(()) } else { Err(VectorError::NotFinite) }
}

/// Inner product. Eight running sums, so that the compiler may use vector registers.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 8;
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// Keeps the best `k` of the hits it is offered.
#[derive(Debug)]
pub(super) struct Best {
    k: usize,
    hits: Vec<Hit>,
    /// Hits below this cannot be among the best.
    threshold: f32,
}

impl Best {
    pub(super) fn new(k: usize) -> Self {
        Self { k, hits: Vec::with_capacity(2 * k.min(10_000)), threshold: f32::NEG_INFINITY }
    }

    pub(super) fn offer(&mut self, position: u32, similarity: f32) {
        if similarity < self.threshold || self.k == 0 {
            return;
        }
        self.hits.push(Hit { position, similarity });
        // Cutting back only when twice as many are there costs a constant per offer.
        if self.hits.len() >= 2 * self.k {
            self.hits.select_nth_unstable_by(self.k - 1, Hit::order);
            self.hits.truncate(self.k);
            self.threshold = self.hits[self.k - 1].similarity;
        }
    }

    pub(super) fn into_sorted(mut self) -> Vec<Hit> {
        self.hits.sort_unstable_by(Hit::order);
        self.hits.truncate(self.k);
        self.hits
    }
}

/// Which products have the vector at each position. Products with the same text share one: exact
/// twins link to each other only, and a few hundred of them wall off whole regions of an HNSW graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owners {
    /// Products with a vector, ascending.
    ordinals: Vec<u32>,
    /// Where the vector of each is.
    positions: Vec<u32>,
    /// The same by position: the owners of position `p` are `owners[starts[p]..starts[p + 1]]`.
    starts: Vec<u32>,
    owners: Vec<u32>,
}

impl Owners {
    /// From products in strictly ascending order and the position of each one's vector, all below
    /// `vectors`, none left without an owner. `None` when they are not.
    pub fn new(ordinals: Vec<u32>, positions: Vec<u32>, vectors: usize) -> Option<Self> {
        let ascending = ordinals.is_sorted_by(|a, b| a < b);
        let mut starts = vec![0_u32; vectors + 1];
        for position in &positions {
            *starts.get_mut(*position as usize + 1)? += 1;
        }
        let owned = starts[1..].iter().all(|owners| *owners > 0);
        if !ascending || !owned || ordinals.len() != positions.len() {
            return None;
        }
        for position in 0..vectors {
            starts[position + 1] += starts[position];
        }
        let mut next = starts.clone();
        let mut owners = vec![0; ordinals.len()];
        for (ordinal, position) in ordinals.iter().zip(&positions) {
            let place = &mut next[*position as usize];
            owners[*place as usize] = *ordinal;
            *place += 1;
        }
        Some(Self { ordinals, positions, starts, owners })
    }

    /// Products with a vector.
    pub fn products(&self) -> usize {
        self.ordinals.len()
    }

    /// Vectors.
    pub fn vectors(&self) -> usize {
        self.starts.len() - 1
    }

    /// The products whose vector is at `position`, ascending.
    pub fn at(&self, position: u32) -> impl Iterator<Item = Ordinal> + '_ {
        let bound = |at: usize| self.starts.get(at).map_or(self.owners.len(), |&at| at as usize);
        let range = bound(position as usize)..bound(position as usize + 1);
        self.owners[range].iter().copied().map(Ordinal)
    }

    /// The position of a product's vector; `None` where it has none.
    pub fn position(&self, ordinal: Ordinal) -> Option<u32> {
        let at = self.ordinals.binary_search(&ordinal.0).ok()?;
        Some(self.positions[at])
    }
}

/// A set of positions, one bit each.
#[derive(Debug, Clone, Default)]
pub struct Positions {
    /// Bit `p % 8` of byte `p / 8`: the layout FAISS reads.
    bits: Vec<u8>,
    count: usize,
}

impl Positions {
    /// The positions of vectors with an owner that is allowed and not one of `but`.
    pub fn of(allowed: &Allowed, but: &Allowed, owners: &Owners) -> Self {
        let mut bits = vec![0_u8; owners.vectors().div_ceil(8)];
        let mut set = |position: u32, bit: u8| bits[position as usize / 8] |= bit << (position % 8);
        // Looking up a few is cheaper than testing all.
        if allowed.len() < owners.products() / 16 {
            let allowed = allowed.iter().filter(|ordinal| !but.contains(*ordinal));
            for position in allowed.filter_map(|ordinal| owners.position(ordinal)) {
                set(position, 1);
            }
        } else {
            for (ordinal, position) in owners.ordinals.iter().zip(&owners.positions) {
                let ordinal = Ordinal(*ordinal);
                set(*position, u8::from(allowed.contains(ordinal) && !but.contains(ordinal)));
            }
        }
        let count = bits.iter().map(|bits| bits.count_ones() as usize).sum();
        Self { bits, count }
    }

    /// All of so many.
    pub(super) fn all(count: usize) -> Self {
        let mut bits = vec![u8::MAX; count.div_ceil(8)];
        if let Some(last) = bits.last_mut().filter(|_| !count.is_multiple_of(8)) {
            *last = (1 << (count % 8)) - 1;
        }
        Self { bits, count }
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, position: u32) {
        let (byte, bit) = (position as usize / 8, 1 << (position % 8));
        if let Some(byte) = self.bits.get_mut(byte) {
            self.count -= usize::from(*byte & bit != 0);
            *byte &= !bit;
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.count
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.bits.iter().zip(0_u32..).flat_map(|(&byte, at)| {
            let mut left = byte;
            std::iter::from_fn(move || {
                (left != 0).then(|| {
                    let bit = left.trailing_zeros();
                    left &= left - 1;
                    at * 8 + bit
                })
            })
        })
    }

    /// Bit `p % 8` of byte `p / 8`.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bits
    }
}

#[cfg(test)]
mod tests {
    use super::{Best, Hit, Ordinal, Owners, Positions, dot};
    use crate::retrieve::Allowed;

    #[test]
    fn the_best_are_those_of_a_full_sort() {
        // Falling, rising, with ties, shuffled.
        let orders: [fn(u32) -> f32; 4] =
            [|n| -(n as f32), |n| n as f32, |n| (n / 10) as f32, |n| ((n * 7_919) % 1_009) as f32];
        for (order, k) in orders.iter().flat_map(|order| [0, 1, 7, 100, 500].map(|k| (order, k))) {
            let hits = (0..300).map(|position| Hit { position, similarity: order(position) });
            let mut sorted: Vec<Hit> = hits.clone().collect();
            sorted.sort_by(Hit::order);
            sorted.truncate(k);
            let mut best = Best::new(k);
            hits.for_each(|hit| best.offer(hit.position, hit.similarity));
            assert_eq!(best.into_sorted(), sorted, "{k}");
        }
    }

    #[test]
    fn owners_are_found_both_ways_or_refused() {
        let owners = Owners::new(vec![2, 5, 9, 40], vec![1, 0, 1, 2], 3).unwrap();
        assert_eq!((owners.products(), owners.vectors()), (4, 3));
        let at = |position| owners.at(position).map(|ordinal| ordinal.0).collect::<Vec<_>>();
        assert_eq!([at(0), at(1), at(2), at(3)], [vec![5], vec![2, 9], vec![40], vec![]]);
        let positions = [2, 5, 9, 40, 3].map(|ordinal| owners.position(Ordinal(ordinal)));
        assert_eq!(positions, [Some(1), Some(0), Some(1), Some(2), None]);

        let refused = |ordinals: &[u32], positions: &[u32], vectors| {
            assert_eq!(Owners::new(ordinals.into(), positions.into(), vectors), None);
        };
        refused(&[2, 2], &[0, 1], 2);
        refused(&[3, 2], &[0, 1], 2);
        refused(&[1, 2], &[0], 1);
        refused(&[1, 2], &[0, 2], 2);
        refused(&[1, 2], &[0, 0], 2);
        refused(&[], &[], 1);
        assert!(Owners::new(vec![], vec![], 0).is_some());
    }

    #[test]
    fn a_filter_on_products_is_one_on_vectors() {
        // Products 0, 3, 6, …; the last two of every five share a vector.
        let ordinals: Vec<u32> = (0..500).map(|n| n * 3).collect();
        let positions: Vec<u32> = (0..500).map(|n| n / 5 * 4 + (n % 5).min(3)).collect();
        let owners = Owners::new(ordinals, positions, 400).unwrap();
        let check = |kept: fn(u32) -> bool| {
            let allowed = Allowed::from_ordinals((0..2_000).filter(|n| kept(*n)).map(Ordinal));
            let found = Positions::of(&allowed, &Allowed::default(), &owners);
            let expected: Vec<u32> = (0..400)
                .filter(|position| owners.at(*position).any(|ordinal| kept(ordinal.0)))
                .collect();
            assert!(found.iter().eq(expected.iter().copied()));
            assert_eq!((found.len(), found.is_empty()), (expected.len(), expected.is_empty()));
        };
        check(|_| true);
        check(|_| false);
        check(|n| n % 2 == 0);
        check(|n| n > 1_490 || n == 9);
        check(|n| n == 12);
        check(|n| n == 1);
    }

    #[test]
    fn products_of_any_length_are_summed_whole() {
        for count in [0, 1, 7, 8, 9, 16, 31] {
            let a: Vec<f32> = (0..count).map(|n| n as f32).collect();
            let expected: f32 = a.iter().map(|x| x * 2.0).sum();
            assert_eq!(dot(&a, &vec![2.0; count]), expected, "{count}");
        }
    }
}
