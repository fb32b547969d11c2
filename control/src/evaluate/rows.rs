//! One row of the table: a way of finding products, asked every query.

use super::metrics::{Gain, Mean, ndcg, recall, reciprocal_rank};
use super::shop::{Indexed, Shop};
use super::{Query, Row};
use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use penstock_config::clock;
use penstock_config::policy::{Fusion, Policy, Weights};
use penstock_engine::query::normalise;
use penstock_engine::rank::{Found, fuse, merge};
use penstock_engine::resilience::Mode;
use penstock_engine::retrieve::{Allowed, Ask, Candidate, Retriever};
use penstock_engine::serve::{Engine, SearchAsk};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Longer than any retrieval: nothing is left out because the machine is busy.
const NO_DEADLINE: Duration = Duration::from_secs(600);
/// Queries asked before the first one is measured, to fault in pages; ten of thousands are not enough
/// to fill a cache.
const WARM_UP: usize = 10;

/// What is measured how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// nDCG looks at so many ranks.
    pub k: usize,
    /// Recall and reciprocal rank look at so many.
    pub depth: usize,
    /// Grades from here on are relevant.
    pub relevant: u32,
    /// What a grade is worth.
    pub gain: Gain,
    /// The policy under which everything runs.
    pub policy: Policy,
}

/// Measures rows.
pub struct Measure<'m> {
    shop: &'m Shop,
    queries: &'m [Query],
    settings: Settings,
    runtime: Runtime,
}

/// As in the table and on the command line: `max:0.4:0.1`.
pub fn fusion_name(fusion: &Fusion) -> String {
    match fusion {
        Fusion::Max { semantic_weight, tie_breaker } => {
            format!("max:{semantic_weight}:{tie_breaker}")
        }
        Fusion::Weighted { semantic_weight } => format!("weighted:{semantic_weight}"),
        Fusion::ReciprocalRank { k } => format!("rrf:{k}"),
    }
}

impl<'m> Measure<'m> {
    /// Prepares to ask `queries`.
    pub fn new(
        shop: &'m Shop,
        queries: &'m [Query],
        mut settings: Settings,
    ) -> anyhow::Result<Self> {
        let deadlines = &mut settings.policy.resilience.deadlines;
        deadlines.retrieve = NO_DEADLINE;
        deadlines.store = NO_DEADLINE;
        deadlines.request = NO_DEADLINE;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        Ok(Self { shop, queries, settings, runtime })
    }

    /// One retriever on its own.
    pub fn retriever(
        &self,
        name: &str,
        retriever: &dyn Retriever,
        told: &dyn Fn(usize),
    ) -> anyhow::Result<Row> {
        let policy = Arc::new(self.settings.policy.clone());
        let retrieve = |text: &str, allowed| {
            let mut found = retriever.retrieve(&self.ask(&policy, text, allowed))?;
            // Ties as the engine breaks them: the order of the import file must not decide.
            found.sort_by(|a, b| {
                b.raw.total_cmp(&a.raw).then_with(|| {
                    let id = |candidate: &Candidate| self.shop.id(candidate.ordinal);
                    id(a).cmp(id(b))
                })
            });
            Ok(self.ids(found.iter().map(|candidate| candidate.ordinal)))
        };
        let among = |query: &Query| retrieve(&query.text, Some(self.judged(query)));
        self.row(name, &|text| retrieve(text, None), Some(&among), told)
    }

    /// Searches by the engine in which only the fused score counts.
    pub fn hybrid(
        &self,
        name: &str,
        indexed: &Indexed,
        fusion: Fusion,
        told: &dyn Fn(usize),
    ) -> anyhow::Result<Row> {
        let mut policy = self.settings.policy.clone();
        policy.ranking.fusion = fusion;
        policy.ranking.by_category.clear();
        policy.ranking.weights = Weights { search: 1.0, cf: 0.0, popularity: 0.0, freshness: 0.0 };
        let policy = Arc::new(policy);
        let engine = self.shop.engine(indexed, policy.clone())?;
        let search = |text: &str| self.search(&engine, &policy, text);
        let among = |query: &Query| self.fused_among_judged(indexed, &policy, query);
        let name = format!("{name} {}", fusion_name(&fusion));
        self.row(&name, &search, Some(&among), told)
    }

    /// Searches by the engine under the policy as it is.
    pub fn ranking(
        &self,
        name: &str,
        indexed: &Indexed,
        told: &dyn Fn(usize),
    ) -> anyhow::Result<Row> {
        let policy = Arc::new(self.settings.policy.clone());
        let engine = self.shop.engine(indexed, policy.clone())?;
        self.row(name, &|text| self.search(&engine, &policy, text), None, told)
    }

    fn search(
        &self,
        engine: &Engine,
        policy: &Arc<Policy>,
        text: &str,
    ) -> anyhow::Result<Vec<String>> {
        let ask = SearchAsk { q: text.to_owned(), k: self.settings.depth, ..SearchAsk::default() };
        let answer = self.runtime.block_on(engine.search(policy.clone(), ask))?;
        ensure!(
            answer.mode == Mode::Full,
            "less than a full search: {}",
            answer.trace.degraded.join("; ")
        );
        Ok(answer.items.into_iter().map(|item| item.product_id).collect())
    }

    /// What the engine does, with both retrievers held to the judged products.
    fn fused_among_judged(
        &self,
        indexed: &Indexed,
        policy: &Arc<Policy>,
        query: &Query,
    ) -> anyhow::Result<Vec<String>> {
        let ask = self.ask(policy, &query.text, Some(self.judged(query)));
        let keyword = indexed.keyword.retrieve(&ask)?;
        let semantic = indexed.semantic.retrieve(&ask)?;
        let mut matches = merge([&keyword[..], &semantic[..]]);
        let ordinals: Vec<_> = matches.iter().map(|(ordinal, _)| *ordinal).collect();
        let scores = indexed.semantic.scores(&ask, &ordinals);
        for ((_, found), candidate) in matches.iter_mut().zip(scores) {
            let scored = |candidate: Candidate| Found { candidate, rank: 0 };
            found.semantic = found.semantic.or(candidate.map(scored));
        }
        let mut order: Vec<(f32, &str)> = matches
            .iter()
            .map(|(ordinal, found)| (fuse(found, &policy.ranking.fusion), self.shop.id(*ordinal)))
            .collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        Ok(order.into_iter().map(|(_, id)| id.to_owned()).collect())
    }

    fn ask(&self, policy: &Arc<Policy>, text: &str, allowed: Option<Arc<Allowed>>) -> Ask {
        Ask {
            policy: policy.clone(),
            text: normalise(text),
            history: Vec::new(),
            long_term: penstock_engine::features::Affinity::default(),
            like: None,
            allowed,
            k: self.settings.depth,
        }
    }

    fn judged(&self, query: &Query) -> Arc<Allowed> {
        let ids = query.grades.keys();
        let ordinals = ids.filter_map(|id| self.shop.ordinal(id));
        Arc::new(Allowed::from_ordinals(ordinals))
    }

    fn ids(
        &self,
        ordinals: impl Iterator<Item = penstock_engine::catalog::Ordinal>,
    ) -> Vec<String> {
        ordinals.map(|ordinal| self.shop.id(ordinal).to_owned()).collect()
    }

    fn row(
        &self,
        name: &str,
        find: &dyn Fn(&str) -> anyhow::Result<Vec<String>>,
        among_judged: Option<&dyn Fn(&Query) -> anyhow::Result<Vec<String>>>,
        told: &dyn Fn(usize),
    ) -> anyhow::Result<Row> {
        let Settings { k, depth, relevant, gain, .. } = self.settings;
        for query in self.queries.iter().rev().take(WARM_UP) {
            find(&query.text)?;
        }
        let mut latency = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)
            .context("the bounds of the histogram")?;
        let [mut all, mut pool, mut recalled, mut first] = [Mean::default(); 4];
        for (nth, query) in self.queries.iter().enumerate() {
            let start = clock::now();
            let found = find(&query.text).with_context(|| format!("query {:?}", query.text))?;
            let took = clock::now().saturating_duration_since(start);
            latency.saturating_record(took.as_micros().try_into().unwrap_or(u64::MAX));

            let judged = query.judged();
            let listed = query.grades_of(found.iter().map(String::as_str).take(depth));
            all.add(ndcg(&listed, &judged, k, gain));
            if let Some(share) = recall(&listed, &judged, depth, relevant) {
                recalled.add(share);
            }
            if let Some(rank) = reciprocal_rank(&listed, &judged, relevant) {
                first.add(rank);
            }
            if let Some(among_judged) = among_judged {
                let found = among_judged(query)?;
                let listed = query.grades_of(found.iter().map(String::as_str));
                pool.add(ndcg(&listed, &judged, k, gain));
            }
            told(nth + 1);
        }
        Ok(Row {
            name: name.to_owned(),
            ndcg: all.get(),
            ndcg_judged: among_judged.map(|_| pool.get()),
            recall: recalled.get(),
            mrr: first.get(),
            p50_micros: latency.value_at_quantile(0.5),
            p99_micros: latency.value_at_quantile(0.99),
        })
    }
}
