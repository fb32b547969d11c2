//! What was measured, as a table and as JSON.

use super::Query;
use super::metrics::Gain;
use std::fmt::Write;

/// One way of finding products.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Row {
    /// What was asked: `keyword`, `semantic learnt`, `hybrid learnt max:0.8`.
    pub name: String,
    /// Mean nDCG at `k` in the whole catalogue.
    pub ndcg: f64,
    /// Mean nDCG at `k` when only judged products may be found; none where that cannot be asked.
    pub ndcg_judged: Option<f64>,
    /// Mean recall at `depth`.
    pub recall: f64,
    /// Mean reciprocal rank within `depth`.
    pub mrr: f64,
    /// Microseconds: half of the queries took no longer.
    pub p50_micros: u64,
    /// Microseconds: 99 of 100 queries took no longer.
    pub p99_micros: u64,
}

/// How long an index version took to build.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Build {
    /// The embedding model's name.
    pub model: String,
    /// Seconds for words, embeddings and vectors.
    pub seconds: f64,
}

/// An evaluation.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Report {
    /// Name of the folder.
    pub data: String,
    /// Products in the catalogue.
    pub products: usize,
    /// Judged queries.
    pub queries: usize,
    /// Those of them with a relevant product.
    pub queries_with_relevant: usize,
    /// nDCG looks at so many ranks.
    pub k: usize,
    /// Recall and MRR look at so many.
    pub depth: usize,
    /// Grades from here on are relevant.
    pub relevant: u32,
    /// What a grade is worth.
    pub gain: Gain,
    /// Whether this program was compiled with optimisation; latencies without it mean nothing.
    pub optimised: bool,
    /// One per way.
    pub rows: Vec<Row>,
    /// One per model.
    pub builds: Vec<Build>,
}

impl Report {
    /// How many queries have a relevant product.
    pub fn with_relevant(queries: &[Query], relevant: u32) -> usize {
        let has = |query: &&Query| query.grades.values().any(|grade| *grade >= relevant);
        queries.iter().filter(has).count()
    }

    /// As a table in Markdown, with what its figures mean.
    pub fn table(&self) -> String {
        let Self { k, depth, .. } = self;
        let mut out = String::new();
        let mut line = |text: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{text}");
        };
        line(format!(
            "{}: {} products, {} queries, {} of them with a relevant product (grade {} or more)\n",
            self.data, self.products, self.queries, self.queries_with_relevant, self.relevant
        ));
        line(format!("| | nDCG@{k} | nDCG@{k} judged | recall@{depth} | MRR | p50 µs | p99 µs |"));
        line("|---|---|---|---|---|---|---|".to_owned());
        for row in &self.rows {
            let judged = row.ndcg_judged.map_or("–".to_owned(), |ndcg| format!("{ndcg:.3}"));
            line(format!(
                "| {} | {:.3} | {judged} | {:.3} | {:.3} | {} | {} |",
                row.name, row.ndcg, row.recall, row.mrr, row.p50_micros, row.p99_micros
            ));
        }
        let builds = self.builds.iter();
        let builds: Vec<String> =
            builds.map(|build| format!("{} {:.1} s", build.model, build.seconds)).collect();
        line(format!("\nIndex build: {}.", builds.join(", ")));
        let gain = match self.gain {
            Gain::Linear => "the grade",
            Gain::Exponential => "2^grade − 1",
        };
        line(format!(
            "Gain is {gain}; unjudged products gain nothing; \"judged\" lets only judged products be \
             found. nDCG is 0 for a query without a gain; recall and MRR leave out queries without a \
             relevant product."
        ));
        if !self.optimised {
            line("Latencies are of a build without optimisation and mean nothing.".to_owned());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_every_row() {
        let row = |name: &str, ndcg_judged| Row {
            name: name.into(),
            ndcg: 0.5,
            ndcg_judged,
            recall: 0.75,
            mrr: 1.0,
            p50_micros: 12,
            p99_micros: 340,
        };
        let report = Report {
            data: "shop".into(),
            products: 10,
            queries: 4,
            queries_with_relevant: 3,
            k: 10,
            depth: 100,
            relevant: 1,
            gain: Gain::Linear,
            optimised: false,
            rows: vec![row("keyword", Some(0.25)), row("final ranking", None)],
            builds: vec![Build { model: "learnt".into(), seconds: 1.25 }],
        };
        let table = report.table();
        for expected in [
            "shop: 10 products, 4 queries, 3 of them",
            "| keyword | 0.500 | 0.250 | 0.750 | 1.000 | 12 | 340 |",
            "| final ranking | 0.500 | – | 0.750 |",
            "learnt 1.2 s",
            "without optimisation",
        ] {
            assert!(table.contains(expected), "{table}");
        }
    }
}
