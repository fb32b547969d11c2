//! From the lists of several retrievers to one search score per product.

use crate::catalog::Ordinal;
use crate::retrieve::{Candidate, Source};
use penstock_config::policy::Fusion;
use std::collections::BTreeMap;

/// A candidate and its place in its list, 1 the best; 0 when the score was fetched afterwards for a
/// product that the retriever did not bring itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// The candidate.
    pub candidate: Candidate,
    /// 1 is best.
    pub rank: usize,
}

/// Everything the retrievers said about one product.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Match {
    /// BM25.
    pub keyword: Option<Found>,
    /// Embeddings.
    pub semantic: Option<Found>,
    /// Collaborative filtering.
    pub collaborative: Option<Found>,
    /// Popular in the categories the question is about.
    pub popular: Option<Found>,
}

impl Match {
    /// The place for what `source` says.
    pub fn of_mut(&mut self, source: Source) -> &mut Option<Found> {
        match source {
            Source::Keyword => &mut self.keyword,
            Source::Semantic => &mut self.semantic,
            Source::Collaborative => &mut self.collaborative,
            Source::Popular => &mut self.popular,
        }
    }

    /// What `source` says.
    pub fn of(&self, source: Source) -> Option<Found> {
        match source {
            Source::Keyword => self.keyword,
            Source::Semantic => self.semantic,
            Source::Collaborative => self.collaborative,
            Source::Popular => self.popular,
        }
    }
}

/// Joins the lists by product, ascending by ordinal. Lists are best first.
pub fn merge<'a>(lists: impl IntoIterator<Item = &'a [Candidate]>) -> Vec<(Ordinal, Match)> {
    let mut matches: BTreeMap<Ordinal, Match> = BTreeMap::new();
    for list in lists {
        for (index, candidate) in list.iter().enumerate() {
            let found = Found { candidate: *candidate, rank: index + 1 };
            *matches.entry(candidate.ordinal).or_default().of_mut(candidate.source) = Some(found);
        }
    }
    matches.into_iter().collect()
}

/// The search score in [0, 1] of a product that keyword and semantic retrieval matched so.
pub fn fuse(found: &Match, fusion: &Fusion) -> f32 {
    let score = |found: Option<Found>| found.map_or(0.0, |found| found.candidate.score);
    let (keyword, semantic) = (score(found.keyword), score(found.semantic));
    match *fusion {
        Fusion::Max { semantic_weight, tie_breaker } => {
            let semantic = semantic_weight * semantic;
            let (larger, smaller) = (keyword.max(semantic), keyword.min(semantic));
            (larger + tie_breaker * smaller) / (1.0 + tie_breaker)
        }
        Fusion::Weighted { semantic_weight } => {
            (1.0 - semantic_weight) * keyword + semantic_weight * semantic
        }
        Fusion::ReciprocalRank { k } => {
            let share = |found: Option<Found>| match found {
                Some(found) if found.rank > 0 => (k + 1.0) / (k + found.rank as f32),
                _ => 0.0,
            };
            (share(found.keyword) + share(found.semantic)) / 2.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(ordinal: u32, score: f32, source: Source) -> Candidate {
        Candidate { ordinal: Ordinal(ordinal), score, raw: score, source }
    }

    #[test]
    fn scores_join_by_product() {
        let keyword = [candidate(2, 0.9, Source::Keyword), candidate(1, 0.5, Source::Keyword)];
        let semantic = [candidate(1, 0.8, Source::Semantic), candidate(3, 0.6, Source::Semantic)];
        let merged = merge([&keyword[..], &semantic[..]]);
        let check = |fusion: Fusion, expected: [f32; 3]| {
            for ((ordinal, found), expected) in merged.iter().zip(expected) {
                let got = fuse(found, &fusion);
                assert!((got - expected).abs() < 1e-5, "{fusion:?} {ordinal:?}: {got}");
            }
        };
        assert_eq!(merged.iter().map(|(o, _)| o.0).collect::<Vec<_>>(), [1, 2, 3]);
        check(Fusion::Max { semantic_weight: 0.5, tie_breaker: 0.0 }, [0.5, 0.9, 0.3]);
        let both_and_one = [(0.5 + 0.25 * 0.4) / 1.25, 0.9 / 1.25, 0.3 / 1.25];
        check(Fusion::Max { semantic_weight: 0.5, tie_breaker: 0.25 }, both_and_one);
        check(Fusion::Weighted { semantic_weight: 0.25 }, [0.575, 0.675, 0.15]);
        check(Fusion::ReciprocalRank { k: 1.0 }, [(2.0 / 3.0 + 1.0) / 2.0, 0.5, 1.0 / 3.0]);
    }
}
