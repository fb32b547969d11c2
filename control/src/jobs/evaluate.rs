//! `penstock-control evaluate`: how good and how fast search is, on a catalogue with judged queries.

use super::import::{Display as ImportDisplay, find};
use super::index::Display as IndexDisplay;
use super::{Bar, Usage};
use crate::evaluate::metrics::Gain;
use crate::evaluate::{Build, Measure, Report, Row, Settings, Shop, fusion_name, judged};
use anyhow::Context;
use penstock_config::policy::{Fusion, Policy};
use penstock_engine::train::index::Model;
use std::io::Write as _;
use std::path::PathBuf;

/// Measures relevance and latency of search on a catalogue with judged queries
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Options {
    /// A folder with products, queries.csv (query_id,query) and judgments.csv
    /// (query_id,product_id,grade)
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// An embedding model to compare, beside the one learnt from the catalogue; may be given again
    #[arg(long, value_name = "NAME=FOLDER", value_parser = named)]
    embedding_model: Vec<(String, PathBuf)>,
    /// A fusion of keyword and semantic, max:WEIGHT[:TIE_BREAKER], weighted:WEIGHT or rrf:K, where
    /// WEIGHT is that of semantic; may be given again [default: that of the policy, weighted:0.3 and
    /// rrf:60]
    #[arg(long, value_name = "METHOD:NUMBER", value_parser = fusion)]
    fusion: Vec<Fusion>,
    /// The policy to measure, instead of the defaults
    #[arg(long, env = "PENSTOCK_POLICY_DIR", value_name = "FOLDER")]
    policy_dir: Option<PathBuf>,
    /// nDCG looks at so many ranks
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = ranks)]
    k: usize,
    /// Recall and MRR look at so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = ranks)]
    depth: usize,
    /// Grades from here on are relevant
    #[arg(long, value_name = "GRADE", default_value_t = 1)]
    relevant: u32,
    /// What a grade is worth
    #[arg(long, value_enum, default_value_t = Gain::Linear)]
    gain: Gain,
    /// Asks only every Nth query
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = ranks)]
    every: usize,
    /// Writes the figures as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
Everything happens in a temporary folder (TMPDIR says where); the data folder is not touched. \
Latency of keyword and semantic is that of the retriever alone, of hybrid and ranking that of a \
whole search by the engine, one at a time.";

fn named(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, folder)) if !name.trim().is_empty() && !folder.is_empty() => {
            Ok((name.trim().to_owned(), folder.into()))
        }
        _ => Err("write it as NAME=FOLDER".into()),
    }
}

fn fusion(text: &str) -> Result<Fusion, String> {
    let (method, numbers) = text.split_once(':').ok_or("write it as METHOD:NUMBER")?;
    let numbers: Vec<f32> = numbers
        .split(':')
        .map(|number| number.parse().map_err(|_| format!("{number:?} is no number")))
        .collect::<Result<_, _>>()?;
    let share = |number: f32| (0.0..=1.0).contains(&number);
    match (method, numbers.as_slice()) {
        ("max" | "weighted", numbers) if !numbers.iter().copied().all(share) => {
            Err("the weight of semantic and the tie breaker are between 0 and 1".into())
        }
        ("max", &[semantic_weight]) => Ok(Fusion::Max { semantic_weight, tie_breaker: 0.0 }),
        ("max", &[semantic_weight, tie_breaker]) => {
            Ok(Fusion::Max { semantic_weight, tie_breaker })
        }
        ("weighted", &[semantic_weight]) => Ok(Fusion::Weighted { semantic_weight }),
        ("rrf", &[k]) if (1.0..=10_000.0).contains(&k) => Ok(Fusion::ReciprocalRank { k }),
        ("rrf", &[_]) => Err("the constant of rrf is between 1 and 10000".into()),
        ("max" | "weighted" | "rrf", _) => Err("too many numbers".into()),
        _ => Err("the methods are max, weighted and rrf".into()),
    }
}

fn ranks(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|n| (1..=10_000).contains(n));
    number.ok_or_else(|| "a whole number between 1 and 10000".into())
}

/// Runs the command.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let policy = policy(options)?;
    let products = find(&options.data, "products")?;
    if products.is_empty() {
        let folder = options.data.display();
        return Err(Usage(format!("{folder} has no products.csv, .jsonl or .parquet")).into());
    }
    let events = find(&options.data, "events")?;
    let mut queries = judged::read(&options.data)?;
    let mut nth = 0;
    queries.retain(|_| {
        nth += 1;
        (nth - 1) % options.every == 0
    });
    let shop = Shop::import(products, events, &ImportDisplay::default().teller())?;
    let settings = Settings {
        k: options.k,
        depth: options.depth,
        relevant: options.relevant,
        gain: options.gain,
        policy,
    };
    let fusions = fusions(options, &settings.policy);
    let measure = Measure::new(&shop, &queries, settings)?;
    let (rows, builds) = rows(options, &shop, &measure, &fusions, queries.len())?;
    let report = Report {
        data: data_name(&options.data),
        products: shop.products(),
        queries: queries.len(),
        queries_with_relevant: Report::with_relevant(&queries, options.relevant),
        k: options.k,
        depth: options.depth,
        relevant: options.relevant,
        gain: options.gain,
        optimised: !cfg!(debug_assertions),
        rows,
        builds,
    };
    // Not print: it panics when whoever reads has seen enough.
    std::io::stdout().write_all(report.table().as_bytes())?;
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn policy(options: &Options) -> anyhow::Result<Policy> {
    match &options.policy_dir {
        Some(folder) => Ok(Policy::load(folder)?.0),
        None => Ok(Policy::default()),
    }
}

fn fusions(options: &Options, policy: &Policy) -> Vec<Fusion> {
    if !options.fusion.is_empty() {
        return options.fusion.clone();
    }
    let usual = [Fusion::Weighted { semantic_weight: 0.3 }, Fusion::ReciprocalRank { k: 60.0 }];
    let mut all = vec![policy.ranking.fusion];
    all.extend(usual.into_iter().filter(|fusion| *fusion != policy.ranking.fusion));
    all
}

fn data_name(folder: &std::path::Path) -> String {
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| folder.display().to_string())
}

fn rows(
    options: &Options,
    shop: &Shop,
    measure: &Measure<'_>,
    fusions: &[Fusion],
    queries: usize,
) -> anyhow::Result<(Vec<Row>, Vec<Build>)> {
    let given = options.embedding_model.iter();
    let given = given.map(|(name, folder)| (name.clone(), Model::Folder(folder.clone())));
    let models = std::iter::once(("learnt".to_owned(), Model::Learnt)).chain(given);
    let mut rows: Vec<Row> = Vec::new();
    let mut builds = Vec::new();
    for (name, model) in models {
        let display = IndexDisplay::default();
        let indexed = shop.index(model, &|stage, done, total| display.tell(stage, done, total))?;
        display.end();
        builds.push(Build { model: name.clone(), seconds: indexed.took.as_secs_f64() });
        let mut shown = |label: &str, row: &dyn Fn(&dyn Fn(usize)) -> anyhow::Result<Row>| {
            let bar = Bar::new(label, queries as u64);
            let row = row(&|done| bar.set(done as u64, done as u64, "queries"))?;
            bar.finish(&format!("nDCG@{} {:.3}", options.k, row.ndcg));
            rows.push(row);
            anyhow::Ok(())
        };
        // The keyword index does not depend on the model.
        if builds.len() == 1 {
            shown("keyword", &|told| measure.retriever("keyword", &*indexed.keyword, told))?;
        }
        let semantic = format!("semantic {name}");
        shown(&semantic, &|told| measure.retriever(&semantic, &*indexed.semantic, told))?;
        let hybrid = format!("hybrid {name}");
        for fusion in fusions {
            let label = format!("{hybrid} {}", fusion_name(fusion));
            shown(&label, &|told| measure.hybrid(&hybrid, &indexed, *fusion, told))?;
        }
        let ranking = format!("final ranking {name}");
        shown(&ranking, &|told| measure.ranking(&ranking, &indexed, told))?;
    }
    Ok((rows, builds))
}

#[cfg(test)]
mod tests {
    use super::{Options, fusion, named, ranks, run};
    use crate::evaluate::fusion_name;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn evaluate(folder: &std::path::Path, more: &[&str]) -> anyhow::Result<serde_json::Value> {
        let json = folder.join("figures.json");
        let mut line = vec!["evaluate", "--data", folder.to_str().unwrap()];
        line.extend(["--json", json.to_str().unwrap()]);
        line.extend(more);
        run(&Cli::try_parse_from(line)?.options)?;
        Ok(serde_json::from_slice(&std::fs::read(json)?)?)
    }

    /// Every product is the only answer to its own name; the third query has no relevant product.
    #[test]
    fn a_small_shop_is_measured_from_files_to_figures() {
        let folder = tempfile::tempdir().unwrap();
        let mut products = String::from("id,name\n");
        for colour in ["red", "green", "blue", "black", "white"] {
            for thing in ["lamp", "chair", "table", "shelf"] {
                products.push_str(&format!("{colour}-{thing},{colour} {thing}\n"));
            }
        }
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("products.csv", &products);
        write("queries.csv", "query_id,query\n1,red lamp\n2,blue shelf\n3,violin\n");
        write(
            "judgments.csv",
            "query_id,product_id,grade\n1,red-lamp,3\n1,red-chair,1\n2,blue-shelf,3\n3,red-lamp,0\n",
        );
        let figures = evaluate(folder.path(), &["--fusion", "max:0.5", "--relevant", "3"]).unwrap();
        assert_eq!(figures["queries"], 3);
        assert_eq!(figures["queries_with_relevant"], 2);
        let rows = figures["rows"].as_array().unwrap();
        let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
        assert_eq!(
            names,
            ["keyword", "semantic learnt", "hybrid learnt max:0.5:0", "final ranking learnt"]
        );
        let keyword = &rows[0];
        assert_eq!((&keyword["mrr"], &keyword["recall"]), (&1.0.into(), &1.0.into()));
        // Two perfect orders of the judged, and a query without a gain.
        let judged = keyword["ndcg_judged"].as_f64().unwrap();
        assert!((judged - 2.0 / 3.0).abs() < 1e-6, "{judged}");
        assert!(rows[3]["ndcg_judged"].is_null());
        assert_eq!(figures["builds"][0]["model"], "learnt");
    }

    #[test]
    fn a_folder_without_what_is_needed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = evaluate(folder.path(), &[]).unwrap_err();
        assert!(format!("{error:#}").contains("has no products"), "{error:#}");
        std::fs::write(folder.path().join("products.csv"), "id,name\n1,lamp\n").unwrap();
        let error = evaluate(folder.path(), &[]).unwrap_err();
        assert!(format!("{error:#}").contains("queries.csv"), "{error:#}");
    }

    #[test]
    fn options_are_read_and_refused() {
        for text in ["max:0.8:0.1", "weighted:0.3", "rrf:60"] {
            assert_eq!(fusion_name(&fusion(text).unwrap()), text);
        }
        for text in [
            "max",
            "max:2",
            "max:NaN",
            "max:0.5:2",
            "max:0:0:0",
            "rrf:1:1",
            "rrf:0",
            "rrf:x",
            "sum:1",
            "",
        ] {
            assert!(fusion(text).is_err(), "{text}");
        }
        assert_eq!(named("mini=a=b").unwrap(), ("mini".to_owned(), "a=b".into()));
        assert!(named("=x").is_err() && named("x=").is_err() && named("x").is_err());
        assert!(ranks("1").is_ok() && ranks("0").is_err() && ranks("10001").is_err());
    }
}
