//! The catalogue and the events are in PostgreSQL, with replicas; servers stand still and die.

use penstock_tests::postgres::installed;
use penstock_tests::wait::until_true;
use penstock_tests::{DatabaseShop, Penstock, PgServer, Traffic};
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(45);

/// Every answer is made anew, and asks the database.
const NO_CACHE: &str = "enabled = false\n";

async fn rotation(penstock: &Penstock) -> Vec<bool> {
    let status = penstock.status().await;
    let replicas = status["database"]["replicas"].as_array().cloned().unwrap_or_default();
    replicas.iter().map(|replica| replica["in_rotation"] == true).collect()
}

async fn until_rotation(penstock: &Penstock, expected: [bool; 2]) {
    until_true(&format!("{expected:?}"), PATIENCE, async || rotation(penstock).await == expected)
        .await;
}

fn event(id: &str, user: &str, product: &str) -> Value {
    json!({"user_id": user, "product_id": product, "event_type": "view", "event_id": id})
}

#[tokio::test]
async fn answers_go_on_while_servers_of_the_database_die() {
    if !installed() {
        return;
    }
    let primary = PgServer::relaxed().await;
    let (one, two) = tokio::join!(PgServer::replica_of(&primary), PgServer::replica_of(&primary));
    let (mut primary, mut one, mut two) = (primary, one, two);
    let shop = DatabaseShop::demo(&[&primary, &one, &two]);
    let proxy = shop.proxy().policy("cache.toml", NO_CACHE).env("PENSTOCK_MAX_LAG_SECONDS", 2);
    let penstock = proxy.start().await;
    until_rotation(&penstock, [true, true]).await;
    let search = Traffic::keep_alive(&penstock.url("/search?q=shoes&fields=name,description"), 2);
    let recommend = Traffic::keep_alive(&penstock.url("/recommend/user-1?fields=name"), 2);
    let all = async || {
        search.wait_for(40).await;
        recommend.wait_for(40).await;
    };
    all().await;

    one.pause_replay().await;
    until_rotation(&penstock, [false, true]).await;
    all().await;
    one.resume_replay().await;
    until_rotation(&penstock, [true, true]).await;
    one.kill();
    all().await;
    two.kill();
    until_rotation(&penstock, [false, false]).await;
    all().await;
    tokio::join!(one.restart(), two.restart());
    until_rotation(&penstock, [true, true]).await;
    assert!(penstock.metric(r#"db_reads_at_primary_total{reason="none_well"}"#).await > 0.0);

    primary.kill();
    all().await;
    one.promote().await;
    until_true("the new primary is found", PATIENCE, async || {
        penstock.status().await["database"]["primary"]["in_rotation"] == true
    })
    .await;
    all().await;
    penstock.post("/events", &event("after", "user-1", "p")).await.expect(202);
    until_true("the event is at the new primary", PATIENCE, async || {
        let sql = "SELECT count(*) FROM penstock.events WHERE event_id = 'after'";
        one.sql(sql).await[0][0] == "1"
    })
    .await;

    // `stop` fails the test unless every request got a success.
    let searched = search.stop().await;
    let recommended = recommend.stop().await;
    let full = |samples: &[penstock_tests::traffic::Sample]| {
        samples.iter().filter(|sample| sample.reply.header("x-penstock-mode") == "full").count()
    };
    eprintln!(
        "searches: {} of {} in full; recommendations: {} of {}",
        full(&searched),
        searched.len(),
        full(&recommended),
        recommended.len()
    );
    assert!(full(&searched) * 10 > searched.len() * 9, "searches hardly need the database");
}

#[tokio::test]
async fn without_a_schema_or_a_database_it_says_what_to_do() {
    if !installed() {
        return;
    }
    let mut server = PgServer::relaxed().await;
    let shop = penstock_tests::Shop::empty();
    let url = server.url("penstock");
    let mut penstock = Penstock::over(shop).env("PENSTOCK_DATABASE_URL", &url).spawn();
    penstock.wait_alive().await;
    let reply = penstock.get("/search?q=shoes").await.expect(503);
    until_true("the status page says what to do", PATIENCE, async || {
        penstock.status().await["engine"].to_string().contains("run penstock-control migrate")
    })
    .await;
    assert!(!reply.text().contains("secret"));
    server.kill();
    until_true("the status page says what is missing", PATIENCE, async || {
        penstock.status().await["engine"].to_string().contains("connecting to the database")
    })
    .await;
    server.restart().await;
    let env = [("PENSTOCK_DATABASE_URL", url.as_str())];
    let data = penstock.shop.data().to_owned();
    drop(penstock_tests::binaries::control_with(&data, &["migrate"], &env).ok());
    penstock.wait_ready().await;
}

#[tokio::test]
async fn what_is_changed_by_sql_is_found_within_a_second_by_every_proxy() {
    if !installed() {
        return;
    }
    let server = PgServer::relaxed().await;
    let shop = DatabaseShop::demo(&[&server]);
    let elsewhere = shop.elsewhere();
    let (one, two) = tokio::join!(shop.proxy().start(), elsewhere.proxy().start());
    let proxies = [&one, &two];
    let found = async |words: &str, id: &str| {
        for proxy in proxies {
            let items = proxy.items(&format!("/search?q={words}&k=50")).await;
            if !items.iter().any(|item| item.product_id == id) {
                return false;
            }
        }
        true
    };
    let within = Duration::from_secs(20);
    assert!(!found("zwiebelschneider", "x-1").await);
    let sql = |text: String| {
        let server = &server;
        async move { server.sql(&text).await }
    };
    sql("INSERT INTO penstock.products (product_id, name, category, price)
         VALUES ('x-1', 'Zwiebelschneider Deluxe', 'Kitchen > Tools', 12)"
        .into())
    .await;
    until_true("the new product is found", within, async || found("zwiebelschneider", "x-1").await)
        .await;
    sql("UPDATE penstock.products SET name = 'Gurkenhobel Deluxe', price = 8 WHERE product_id = 'x-1'".into()).await;
    until_true("it is found by its new name", within, async || found("gurkenhobel", "x-1").await)
        .await;
    for proxy in proxies {
        let product = proxy.get("/products/x-1").await.expect(200).json();
        assert_eq!(product["price"], 8.0, "{product}");
    }
    sql("DELETE FROM penstock.products WHERE product_id = 'x-1'".into()).await;
    until_true("it is gone", within, async || {
        let mut gone = true;
        for proxy in proxies {
            gone &= proxy.get("/products/x-1").await.status == 404;
            let items = proxy.items("/search?q=gurkenhobel&k=50").await;
            gone &= !items.iter().any(|item| item.product_id == "x-1");
        }
        gone
    })
    .await;
    // And through the command.
    let put = r#"{"id": "x-2", "name": "Spiralschneider", "price": 3}"#;
    let file = shop.shop.write("put.json", put);
    drop(shop.control(&["products", "put", penstock_tests::binaries::text(&file)]).ok());
    until_true("what was put is found", within, async || found("spiralschneider", "x-2").await)
        .await;
}

#[tokio::test]
async fn a_slow_query_is_logged_with_its_plan_and_its_request() {
    if !installed() {
        return;
    }
    let server = PgServer::relaxed().await;
    let shop = DatabaseShop::demo(&[&server]);
    let penstock = shop.proxy().policy("cache.toml", NO_CACHE).start().await;
    penstock.items("/recommend/user-1").await;
    let lock = "BEGIN; LOCK TABLE penstock.events; SELECT pg_sleep(1); COMMIT";
    let (_, trace_id) = tokio::join!(server.sql(lock), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let reply = penstock.get("/recommend/user-secret?k=5").await.expect(200);
        reply.header("x-trace-id").to_owned()
    });
    until_true("the slow query is in the log", PATIENCE, async || {
        let logs = penstock.logs();
        logs.lines().any(|line| {
            line.contains("\"slow query\"")
                && line.contains(&trace_id)
                && line.contains("WHERE user_id = $1 ORDER BY")
                && line.contains("Index")
        })
    })
    .await;
    let slow = penstock.logs();
    let slow: Vec<&str> = slow.lines().filter(|line| line.contains("slow query")).collect();
    assert!(slow.iter().any(|line| line.contains(&trace_id)), "{slow:#?}");
    assert!(!slow.iter().any(|line| line.contains("user-secret")), "values are of people");
    assert!(penstock.metric(r#"db_slow_queries_total{query_type="recent_events"}"#).await >= 1.0);
}
