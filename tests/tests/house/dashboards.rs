//! Every metric that a dashboard or an alert names is one that a running proxy exposes.

use super::{read, repository};
use penstock_tests::{Penstock, Shop, Upstream};
use serde_json::json;
use std::collections::BTreeSet;

/// Names of metrics in a PromQL expression: words with our prefixes, without the suffixes that
/// histograms add.
fn metrics(expression: &str) -> impl Iterator<Item = String> {
    expression
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("penstock_") || word.starts_with("process_"))
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

#[tokio::test]
async fn every_metric_they_name_is_exposed() {
    let mut named = Vec::new();
    let dashboards = std::fs::read_dir(repository("deploy/grafana/dashboards")).expect("a folder");
    for dashboard in dashboards {
        let path = dashboard.expect("an entry of it").path();
        let text = std::fs::read_to_string(&path).expect("a dashboard");
        let json = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        expressions(&json, &mut named);
    }
    assert!(named.len() > 20, "only {} expressions", named.len());
    let rules = serde_yaml::from_str(&read("deploy/prometheus/rules.yml")).expect("YAML");
    expressions(&rules, &mut named);
    let named: BTreeSet<String> = named.iter().flat_map(|text| metrics(text)).collect();

    // One request of each kind, so that every labelled metric has a value.
    let upstream = Upstream::http1().await;
    let shop = Shop::demo();
    let penstock = Penstock::over(shop).upstream(&[upstream.address]).start().await;
    penstock.items("/search?q=lamp").await;
    penstock.get("/search").await.expect(400);
    penstock.get("/account").await.expect(200);
    let event = json!({"user_id": "u", "product_id": "p", "event_type": "view"});
    penstock.post("/events", &event).await.expect(202);

    let exposed = penstock.ops("/metrics").await.expect(200).body;
    let exposed = String::from_utf8_lossy(&exposed);
    let exposed: BTreeSet<&str> = exposed
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let missing: Vec<&String> =
        named.iter().filter(|name| !exposed.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "not exposed: {missing:?}\nexposed: {exposed:?}");
}
