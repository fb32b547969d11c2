//! Every statement that is asked finds its rows by an index, at a million of them.

use crate::stores::prepared;
use penstock_engine::store::postgres::statements;
use penstock_tests::PgServer;
use penstock_tests::postgres::installed;
use serde_json::Value;

/// Read every row, on purpose: jobs and the status of an import.
const READ_ALL: [&str; 3] = ["events", "counts", "popularity_scores"];
/// Of one row each.
const SMALL: [&str; 5] = ["catalog", "meta", "heartbeat", "job_state", "penstock_events"];

const ROWS: &str = "
    SET penstock.bulk = 'on';
    INSERT INTO penstock.products (product_id, name, category, brand, price, created_at, popularity_score)
        SELECT 'p' || n, 'Product ' || n, 'Category ' || n % 500, 'Brand ' || n % 900, n % 90, now(), random() * 20
        FROM generate_series(1, 1000000) n;
    INSERT INTO penstock.event_ids SELECT 'e' || n, now() - n * interval '1 second' FROM generate_series(1, 1000000) n;
    INSERT INTO penstock.events (event_id, user_id, product_id, event_type, \"timestamp\")
        SELECT 'e' || n, 'u' || n % 50000, 'p' || n % 1000000 + 1, 'view', now() - n * interval '1 second'
        FROM generate_series(1, 1000000) n;
    INSERT INTO penstock.product_changes (ordinal, revision, product_id)
        SELECT n, n, 'p' || n FROM generate_series(1, 1000000) n;
    INSERT INTO penstock.feature_values (entity, entity_id, name, version, value)
        SELECT 'user', 'u' || n, 'user_category_affinity', 1, '{}' FROM generate_series(1, 100000) n;
    UPDATE penstock.catalog SET revision = 1000000;
    ANALYZE";

/// As the store has it while it stores events.
const STAGE: &str = "CREATE TEMP TABLE penstock_events (
    number bigint NOT NULL, event_id text COLLATE \"C\" NOT NULL, user_id text COLLATE \"C\" NOT NULL,
    product_id text COLLATE \"C\" NOT NULL, event_type text NOT NULL, \"timestamp\" timestamptz NOT NULL,
    source text NOT NULL)";

/// Tables that a plan reads from one end to the other.
fn read_whole(plan: &Value, found: &mut Vec<String>) {
    match plan {
        Value::Object(node) => {
            if node.get("Node Type").is_some_and(|kind| kind == "Seq Scan") {
                found.push(node["Relation Name"].as_str().unwrap_or_default().to_owned());
            }
            node.values().for_each(|value| read_whole(value, found));
        }
        Value::Array(nodes) => nodes.iter().for_each(|node| read_whole(node, found)),
        _ => {}
    }
}

async fn plan(server: &PgServer, sql: &str) -> Value {
    let parameters = (1..10).filter(|n| sql.contains(&format!("${n}"))).count();
    let nulls = vec!["NULL"; parameters].join(", ");
    let arguments = if nulls.is_empty() { nulls } else { format!("({nulls})") };
    let asked = format!(
        "SET plan_cache_mode = force_generic_plan; {STAGE}; PREPARE asked AS {sql};
         EXPLAIN (FORMAT JSON) EXECUTE asked{arguments}"
    );
    let rows = server.sql(&asked).await;
    let text = rows.last().expect("a plan").join("");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn every_statement_uses_an_index_at_a_million_rows() {
    if !installed() {
        return;
    }
    let server = PgServer::relaxed().await;
    prepared(&server, &[]).await;
    server.sql(ROWS).await;
    let mut wrong = Vec::new();
    for (name, sql) in statements().filter(|(name, _)| !READ_ALL.contains(name)) {
        let plan = plan(&server, sql).await;
        let mut whole = Vec::new();
        read_whole(&plan, &mut whole);
        whole.retain(|table| !SMALL.contains(&table.as_str()));
        // A month that has no rows is read in no time, whichever way.
        whole.retain(|table| !table.starts_with("events_"));
        if !whole.is_empty() {
            wrong.push(format!("{name} reads all of {whole:?}: {plan:#}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (column, table) in [
        ("category = 'Category 7'", "products"),
        ("popularity_score > 19.999", "products"),
        ("user_id = 'u7' AND product_id = 'p8'", "events"),
        ("\"timestamp\" > now() - interval '2 minutes'", "events"),
    ] {
        let sql = format!("EXPLAIN (FORMAT JSON) SELECT * FROM penstock.{table} WHERE {column}");
        let rows = server.sql(&sql).await;
        let plan: Value = serde_json::from_str(&rows[0].join("")).expect("JSON");
        assert!(plan.to_string().contains("Index"), "{column}: {plan:#}");
    }
}
