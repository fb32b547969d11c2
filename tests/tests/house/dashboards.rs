//! Every metric that a dashboard or an alert names is one that a running proxy exposes, and a dashboard is
//! one that Grafana shows as it is meant.

use super::{read, repository};
use penstock_tests::postgres::installed;
use penstock_tests::{DatabaseShop, Penstock, PgServer, RedisServer, Shop, Upstream};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Limits that a few requests go over: /popular is refused, what is passed through would be.
const FEW: &str = "[address.recommend]\nper_minute = 1\nburst = 3\n\
    [address.passthrough]\nenabled = true\nper_minute = 1\nburst = 3\nshadow = true\n";

/// What names of metrics begin with.
const PREFIXES: [&str; 7] =
    ["penstock_", "process_", "rate_limit_", "cache_", "db_", "event_spool_", "async_"];
/// What is exposed where there is a database.
const OF_DATABASES: [&str; 3] = ["db_", "event_spool_", "async_"];
/// Labels that begin as metrics do.
const LABELS: [&str; 2] = ["cache_type", "cache_layer"];

/// Names of metrics in a PromQL expression: words with our prefixes, without the suffixes that
/// histograms add.
fn metrics(expression: &str) -> impl Iterator<Item = String> {
    expression
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix)))
        .filter(|word| !LABELS.contains(word))
        .map(|word| {
            ["_bucket", "_sum", "_count"]
                .into_iter()
                .find_map(|suffix| word.strip_suffix(suffix))
                .unwrap_or(word)
                .to_owned()
        })
}

/// Every `expr` and `query` in a JSON or YAML document.
fn expressions(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    serde_json::Value::String(text) if name == "expr" || name == "query" => {
                        found.push(text.clone());
                    }
                    _ => expressions(value, found),
                }
            }
        }
        serde_json::Value::Array(items) => {
            for item in items {
                expressions(item, found);
            }
        }
        _ => {}
    }
}

/// The dashboards, by file name.
fn dashboards() -> BTreeMap<String, Value> {
    let folder = std::fs::read_dir(repository("deploy/grafana/dashboards")).expect("a folder");
    let read = folder.map(|entry| {
        let path = entry.expect("an entry of it").path();
        let text = std::fs::read_to_string(&path).expect("a dashboard");
        let json = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path.file_name().expect("a file").to_string_lossy().into_owned(), json)
    });
    read.collect()
}

#[tokio::test]
async fn every_metric_they_name_is_exposed() {
    let mut named = Vec::new();
    for dashboard in dashboards().values() {
        expressions(dashboard, &mut named);
    }
    assert!(named.len() > 50, "only {} expressions", named.len());
    for rules in super::deploy::RULES {
        let rules = serde_yaml::from_str(&read(rules)).expect("YAML");
        expressions(&rules, &mut named);
    }
    let named: BTreeSet<String> = named.iter().flat_map(|text| metrics(text)).collect();

    // Requests of each kind, so that every labelled metric has a value. The repeated search is found in the
    // cache from the second on.
    let upstream = Upstream::http1().await;
    let redis = RedisServer::start().await;
    let servers = match installed() {
        true => {
            let primary = PgServer::relaxed().await;
            let replica = PgServer::replica_of(&primary).await;
            Some((primary, replica))
        }
        false => None,
    };
    let over = match &servers {
        Some((primary, replica)) => DatabaseShop::demo(&[primary, replica]).proxy(),
        None => Penstock::over(Shop::demo()),
    };
    let penstock = over
        .upstream(&[upstream.address])
        .env("PENSTOCK_REDIS_URL", redis.url())
        .policy("limits.toml", FEW);
    let penstock = penstock.start().await;
    for _ in 0..21 {
        penstock.get("/search?q=lamp").await;
    }
    penstock.get("/search").await.expect(400);
    for _ in 0..3 {
        penstock.get("/popular").await.expect(200);
        penstock.get("/account").await.expect(200);
    }
    penstock.get("/popular").await.expect(429);
    penstock.get("/account").await.expect(200);
    let event = json!({"user_id": "u", "product_id": "p", "event_type": "view"});
    penstock.post("/events", &event).await.expect(202);

    let exposed = penstock.ops("/metrics").await.expect(200).body;
    let exposed = String::from_utf8_lossy(&exposed);
    let exposed: BTreeSet<&str> = exposed
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let of_databases = |name: &str| OF_DATABASES.iter().any(|prefix| name.starts_with(prefix));
    if servers.is_none() {
        println!("left out without PostgreSQL: metrics that begin with {OF_DATABASES:?}");
    }
    let missing: Vec<&str> = named
        .iter()
        .map(String::as_str)
        .filter(|name| servers.is_some() || !of_databases(name))
        .filter(|name| !exposed.contains(name))
        .collect();
    assert!(missing.is_empty(), "not exposed: {missing:?}\nexposed: {exposed:?}");
}

#[test]
fn dashboards_are_shown_as_they_are_meant() {
    let mut uids = BTreeSet::new();
    for (file, dashboard) in &dashboards() {
        let uid = dashboard["uid"].as_str().expect("a uid");
        assert!(uids.insert(uid.to_owned()), "{file}: {uid} is another dashboard's");
        let panels = dashboard["panels"].as_array().expect("panels");
        let mut ids = BTreeSet::new();
        let mut taken = BTreeMap::new();
        for panel in panels {
            let title = panel["title"].as_str().expect("a title");
            assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{file}: {title}");
            let at = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
            assert!(at("x") + at("w") <= 24, "{file}: {title} is wider than the page");
            for cell in 0..at("w") * at("h") {
                let cell = (at("x") + cell % at("w"), at("y") + cell / at("w"));
                let other = taken.insert(cell, title);
                assert_eq!(other, None, "{file}: {title} covers another panel");
            }
            if panel["type"] == "row" {
                continue;
            }
            assert!(panel["description"].is_string(), "{file}: what does {title} say?");
            let targets = panel["targets"].as_array().expect("targets");
            assert!(!targets.is_empty(), "{file}: {title} asks nothing");
            for target in targets {
                let asked = target["expr"].as_str().expect("an expression");
                assert!(asked.contains("$instance"), "{file}: {title} ignores the chosen instance");
            }
        }
    }
}
