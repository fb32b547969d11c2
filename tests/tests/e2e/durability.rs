//! Acknowledged means durable: events survive whatever dies, and count once.

use penstock_tests::postgres::installed;
use penstock_tests::wait::until_true;
use penstock_tests::{DatabaseShop, Penstock, PgServer};
use rand::Rng;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const CLIENTS: usize = 8;
const EVENTS: usize = 100_000;
const BATCH: usize = 50;
const PROXY_KILLS: usize = 20;
const DATABASE_KILLS: usize = 5;
/// Everything, on a machine that is busy building.
const PATIENCE: Duration = Duration::from_secs(240);

fn event(id: &str, user: &str) -> Value {
    json!({"user_id": user, "product_id": "p", "event_type": "view", "event_id": id})
}

/// What a client was told of its events.
#[derive(Default)]
struct Told {
    acknowledged: Vec<String>,
    not: Vec<String>,
}

/// One client: sends its share in batches. A batch that is refused is sent again; one without an answer is sent again
/// or given up.
async fn client(number: usize, base: String, acknowledged: Arc<AtomicUsize>) -> Told {
    let http =
        reqwest::Client::builder().timeout(Duration::from_secs(10)).build().expect("a client");
    let mut told = Told::default();
    let mut sent = 0;
    while sent < EVENTS / CLIENTS {
        let ids: Vec<String> = (sent..sent + BATCH).map(|n| format!("{number}-{n}")).collect();
        let body: Vec<Value> = ids.iter().map(|id| event(id, &format!("user-{number}"))).collect();
        match http.post(format!("{base}/events")).json(&body).send().await {
            Ok(response) if response.status() == 202 => {
                acknowledged.fetch_add(BATCH, Ordering::Relaxed);
                told.acknowledged.extend(ids);
                sent += BATCH;
            }
            Ok(response) => {
                assert_eq!(response.status(), 503, "refused is a 503");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // Nobody listens: it was not sent at all.
            Err(error) if error.is_connect() => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(_) if rand::random() => {}
            Err(_) => {
                told.not.extend(ids);
                sent += BATCH;
            }
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_stored_once_whatever_is_killed() {
    if !installed() {
        return;
    }
    let mut server = PgServer::start().await;
    let shop = DatabaseShop::prepared(&[&server]);
    let mut penstock = shop.proxy().start().await;
    let base = penstock.url("");
    let base = base.trim_end_matches('/').to_owned();
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::spawn(client(number, base.clone(), acknowledged.clone())))
        .collect();
    let deadline = penstock_config::clock::now() + PATIENCE;
    for kill in 1..=PROXY_KILLS {
        // Spread over the whole stream, whatever its pace.
        let goal = EVENTS * kill / (PROXY_KILLS + 2);
        while acknowledged.load(Ordering::Relaxed) < goal
            && clients.iter().any(|client| !client.is_finished())
        {
            assert!(penstock_config::clock::now() < deadline, "only {acknowledged:?} so far");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let wait = rand::rng().random_range(0..50);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        penstock.kill();
        if kill % (PROXY_KILLS / DATABASE_KILLS) == 0 {
            server.kill();
            server.restart().await;
        }
        penstock = penstock.setup().start().await;
    }
    let mut told = Told::default();
    for client in clients {
        let one = client.await.expect("a client does not panic");
        told.acknowledged.extend(one.acknowledged);
        told.not.extend(one.not);
    }
    eprintln!("{} acknowledged, {} not", told.acknowledged.len(), told.not.len());
    assert!(told.acknowledged.len() > EVENTS * 9 / 10, "most were taken");
    until_drained(&penstock).await;
    let rows = server.sql("SELECT event_id, count(*) FROM penstock.events GROUP BY 1").await;
    let mut stored = HashSet::new();
    for row in rows {
        assert_eq!(row[1], "1", "{} is there more than once", row[0]);
        stored.insert(row[0].clone());
    }
    let lost: Vec<&String> = told.acknowledged.iter().filter(|id| !stored.contains(*id)).collect();
    assert!(
        lost.is_empty(),
        "{} acknowledged events are lost: {:?}",
        lost.len(),
        &lost[..lost.len().min(5)]
    );
    let known: HashSet<&String> = told.acknowledged.iter().chain(&told.not).collect();
    assert!(stored.iter().all(|id| known.contains(id)), "events that nobody sent");
}

async fn until_drained(penstock: &Penstock) {
    until_true("everything is in the database", PATIENCE, async || {
        penstock.status().await["database"]["spool"]["waiting"] == 0
    })
    .await;
}

#[tokio::test]
async fn events_are_taken_while_the_database_is_away_and_known_at_once() {
    if !installed() {
        return;
    }
    let mut server = PgServer::relaxed().await;
    let shop = DatabaseShop::demo(&[&server]);
    let penstock = shop.proxy().policy("cache.toml", "enabled = false\n").start().await;
    // Not shipped yet, and known: nothing is in the tables before the second look.
    let before = penstock.items("/recommend/somebody-new?k=20&fields=category").await;
    let popular = &before[0];
    let category = popular.text("category").to_owned();
    let reply = penstock.post("/events", &event("1", "somebody-new")).await.expect(202);
    assert!(reply.text().contains("\"1\""), "{}", reply.describe());
    for n in 2..8 {
        let bought = json!({"user_id": "somebody-new", "product_id": popular.product_id,
            "event_type": "purchase", "event_id": n.to_string()});
        penstock.post("/events", &bought).await.expect(202);
        // What was bought is not recommended, on the very next request.
        let after = penstock.items("/recommend/somebody-new?k=20").await;
        assert!(!after.iter().any(|item| item.product_id == popular.product_id), "{category}");
    }
    server.kill();
    for n in 10..60 {
        penstock.post("/events", &event(&n.to_string(), "somebody-new")).await.expect(202);
        penstock.items("/recommend/somebody-new?k=5").await;
    }
    let spool = penstock.status().await["database"]["spool"].clone();
    assert!(spool["waiting"].as_u64() >= Some(50), "{spool}");
    // The same again counts once.
    let again = penstock.post("/events", &event("10", "somebody-new")).await.expect(202);
    assert!(again.text().contains("\"duplicates\":[\"10\"]"), "{}", again.describe());
    server.restart().await;
    until_drained(&penstock).await;
    let count = "SELECT count(*), count(DISTINCT event_id) FROM penstock.events WHERE event_id ~ '^[0-9]{1,2}$'";
    assert_eq!(server.sql(count).await, [["57", "57"]]);
}

#[tokio::test]
async fn a_spool_that_is_full_refuses_and_loses_nothing() {
    if !installed() {
        return;
    }
    let mut server = PgServer::relaxed().await;
    let shop = DatabaseShop::prepared(&[&server]);
    let penstock = shop.proxy().env("PENSTOCK_SPOOL_BYTES", 1 << 20).start().await;
    server.kill();
    let mut taken = 0;
    let refused = loop {
        let events: Vec<Value> = (0..200).map(|n| event(&format!("{taken}-{n}"), "u")).collect();
        let reply = penstock.post("/events", &json!(events)).await;
        if reply.status != 202 {
            break reply;
        }
        taken += 1;
        assert!(taken < 1_000, "a megabyte holds no 200,000 events");
    };
    let refused = refused.expect(503);
    assert!(refused.text().contains("/problems/store-full"), "{}", refused.describe());
    assert!(refused.header("retry-after").parse::<u32>().expect("seconds") > 0);
    server.restart().await;
    until_drained(&penstock).await;
    let count = server.sql("SELECT count(*) FROM penstock.events").await;
    assert_eq!(count, [[(taken * 200).to_string()]]);
    penstock.post("/events", &event("after", "u")).await.expect(202);
}
