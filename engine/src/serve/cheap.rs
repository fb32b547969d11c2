//! The cheapest answer: what is popular, out of lists that are in order already. Neither a ranking thread nor the
//! store is asked, so that it is there however much waits for them.

use super::run::Run;
use super::{Outcome, RetrieverReport};
use crate::catalog::Ordinal;
use crate::query::Filter;
use crate::rank::{Found, Match, Parts, Ranked};
use crate::resilience::Mode;
use crate::retrieve::Source;

impl Run<'_> {
    /// Nothing that has to wait is wanted.
    pub fn is_to_be_cheap(&self) -> bool {
        self.most.leaves_out(Mode::Stale)
    }

    /// The `k` most popular products that pass `filter`, but not `not`; by popularity alone.
    pub fn most_popular(&mut self, filter: &Filter, k: usize, not: Option<Ordinal>) -> Vec<Ranked> {
        let clock = self.engine.clock().clone();
        let began = clock.now();
        let mut found = self.snapshot.popular.best(filter, k + usize::from(not.is_some()));
        found.retain(|candidate| Some(candidate.ordinal) != not);
        found.truncate(k);
        let ranked = found.iter().enumerate().map(|(index, candidate)| Ranked {
            ordinal: candidate.ordinal,
            score: candidate.score,
            parts: Parts { popularity: candidate.score, ..Parts::default() },
            found: Match {
                popular: Some(Found { candidate: *candidate, rank: index + 1 }),
                ..Match::default()
            },
        });
        let ranked = ranked.collect();
        let micros = clock.now().saturating_duration_since(began).as_micros() as u64;
        let outcome = Outcome::Found { candidates: found.len() };
        self.trace.retrievers.push(RetrieverReport { source: Source::Popular, outcome, micros });
        self.stage("retrieve");
        ranked
    }

    /// As [`Run::most_popular`], in place of what was asked for.
    pub fn most_popular_instead(
        &mut self,
        filter: &Filter,
        k: usize,
        not: Option<Ordinal>,
    ) -> Vec<Ranked> {
        self.degrade(Mode::Popular, self.most.why.clone());
        self.most_popular(filter, k, not)
    }
}
