//! What was found for a question, with its features: all that ranking needs. It does not depend on weights,
//! fusion or rules, so a change of those orders it anew without asking a retriever.

use crate::cache::Cached;
use crate::catalog::Ordinal;
use crate::features::FeatureBatch;
use crate::rank::{Found, Match};
use crate::retrieve::{Candidate, Source};
use serde::{Deserialize, Serialize};

/// The candidates of a question, ascending by ordinal, and their features in the same order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(into = "Columns", try_from = "Columns")]
pub(super) struct Pool {
    pub matches: Vec<(Ordinal, Match)>,
    pub features: FeatureBatch,
}

impl Cached for Pool {
    fn weight(&self) -> usize {
        self.matches.len() * (size_of::<(Ordinal, Match)>() + 2 * size_of::<f32>())
    }
}

/// Score, raw score, rank.
type Said = (f32, f32, u32);

/// A pool as it is written: column by column.
#[derive(Serialize, Deserialize)]
struct Columns {
    products: Vec<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keyword: Vec<Option<Said>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    semantic: Vec<Option<Said>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    collaborative: Vec<Option<Said>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    popular: Vec<Option<Said>>,
    popularity: Vec<f32>,
    freshness: Vec<f32>,
}

impl From<Pool> for Columns {
    fn from(pool: Pool) -> Self {
        // A retriever that said nothing has no column.
        let column = |source: Source| -> Vec<Option<Said>> {
            let said = pool.matches.iter().map(|(_, found)| {
                let Found { candidate, rank } = found.of(source)?;
                Some((candidate.score, candidate.raw, rank as u32))
            });
            let column: Vec<_> = said.collect();
            if column.iter().all(Option::is_none) { Vec::new() } else { column }
        };
        Self {
            products: pool.matches.iter().map(|(ordinal, _)| ordinal.0).collect(),
            keyword: column(Source::Keyword),
            semantic: column(Source::Semantic),
            collaborative: column(Source::Collaborative),
            popular: column(Source::Popular),
            popularity: pool.features.popularity.clone(),
            freshness: pool.features.freshness.clone(),
        }
    }
}

impl TryFrom<Columns> for Pool {
    type Error = &'static str;

    fn try_from(columns: Columns) -> Result<Self, Self::Error> {
        let rows = columns.products.len();
        let whole = |length: usize| length == rows;
        let sources = [
            (Source::Keyword, &columns.keyword),
            (Source::Semantic, &columns.semantic),
            (Source::Collaborative, &columns.collaborative),
            (Source::Popular, &columns.popular),
        ];
        let said_whole = sources.iter().all(|(_, said)| said.is_empty() || whole(said.len()));
        let ascending = columns.products.is_sorted_by(|a, b| a < b);
        if !said_whole
            || !whole(columns.popularity.len())
            || !whole(columns.freshness.len())
            || !ascending
        {
            return Err("the columns of the candidates do not fit together");
        }
        let matches = columns.products.iter().enumerate().map(|(row, &ordinal)| {
            let ordinal = Ordinal(ordinal);
            let mut found = Match::default();
            for (source, said) in sources {
                *found.of_mut(source) =
                    said.get(row).copied().flatten().map(|(score, raw, rank)| {
                        let candidate = Candidate { ordinal, score, raw, source };
                        Found { candidate, rank: rank as usize }
                    });
            }
            (ordinal, found)
        });
        let matches = matches.collect();
        let Columns { popularity, freshness, .. } = columns;
        Ok(Self { matches, features: FeatureBatch { popularity, freshness } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Pool {
        let said = |ordinal: u32, source, score| {
            let ordinal = Ordinal(ordinal);
            Some(Found { candidate: Candidate { ordinal, score, raw: 9.5, source }, rank: 3 })
        };
        let matches = vec![
            (Ordinal(2), Match { keyword: said(2, Source::Keyword, 0.25), ..Match::default() }),
            (
                Ordinal(7),
                Match {
                    keyword: said(7, Source::Keyword, 0.1),
                    semantic: said(7, Source::Semantic, 1.0),
                    ..Match::default()
                },
            ),
        ];
        let features =
            FeatureBatch { popularity: vec![0.5, 0.125], freshness: vec![0.0, 0.333_333_34] };
        Pool { matches, features }
    }

    #[test]
    fn what_is_written_is_read_to_the_bit() {
        for pool in [pool(), Pool::default()] {
            let json = serde_json::to_string(&pool).unwrap();
            assert_eq!(serde_json::from_str::<Pool>(&json).unwrap(), pool, "{json}");
            assert!(!json.contains("collaborative"), "{json}");
        }
    }

    #[test]
    fn what_does_not_fit_together_is_no_pool() {
        let json = serde_json::to_string(&pool()).unwrap();
        let check = |from: &str, to: &str| {
            let broken = json.replace(from, to);
            assert_ne!(broken, json);
            assert!(serde_json::from_str::<Pool>(&broken).is_err(), "{broken}");
        };
        check("[2,7]", "[2]");
        check("[2,7]", "[7,2]");
        check("[2,7]", "[2,2]");
        check("[0.5,0.125]", "[0.5]");
        check("[0.5,0.125]", "[0.5,\"\"]");
    }
}
