//! Batch jobs beside proxies that serve: what they make is taken up.

use penstock_tests::binaries::{command, run_with, text};
use penstock_tests::postgres::installed;
use penstock_tests::wait::until_true;
use penstock_tests::{Penstock, PgServer, Shop, until};
use std::fs::File;
use std::process::Child;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);
/// Answers are made anew; popularity is looked for once an hour, so that what is in force at once was heard of.
const HEARD: &str = "[features]\npopularity_ttl = \"1h\"\n[results]\nenabled = false\n";
const PRODUCTS: &str = "id,name,category,price,created_at\n\
    mug,Blue mug,Mugs,9,2026-01-01\npan,Iron pan,Pans,30,2026-01-01\npot,Iron pot,Pots,40,2026-01-01\n";

/// Mugs lately, pans long ago and far more than an answer looks at.
fn events() -> String {
    let mut lines = "user_id,product_id,event_type,timestamp\n".to_owned();
    for n in 0..300 {
        lines += &format!("ann,pan,purchase,2026-01-{:02}T00:{:02}:00Z\n", 1 + n % 5, n / 5);
    }
    for n in 0..200 {
        lines += &format!("ann,mug,view,2026-02-{:02}T00:{:02}:00Z\n", 1 + n % 5, n / 5);
    }
    lines
}

/// A data folder and a database with everything in it.
async fn fleet() -> Option<(Shop, PgServer)> {
    if !installed() {
        return None;
    }
    let (shop, server) = (Shop::empty(), PgServer::relaxed().await);
    control(&shop, &server, &["migrate"]);
    let products = shop.write("incoming/products.csv", PRODUCTS);
    let events = shop.write("incoming/events.csv", events());
    control(&shop, &server, &["import", "--products", text(&products), "--events", text(&events)]);
    control(&shop, &server, &["index"]);
    Some((shop, server))
}

fn control(shop: &Shop, server: &PgServer, args: &[&str]) -> String {
    let url = server.url("penstock");
    let env = [("PENSTOCK_DATA_DIR", text(shop.data())), ("PENSTOCK_DATABASE_URL", &*url)];
    run_with("penstock-control", args, &env).ok().stdout
}

async fn most_popular(penstock: &Penstock) -> String {
    penstock.items("/popular?k=1").await.remove(0).product_id
}

#[tokio::test]
async fn proxies_take_up_the_popularity_that_the_job_made() {
    let Some((shop, server)) = fleet().await else { return };
    let penstock = Penstock::over(shop)
        .env("PENSTOCK_DATABASE_URL", server.url("penstock"))
        .policy("cache.toml", HEARD)
        .start()
        .await;
    let shop = &penstock.shop;
    // Without the job everything works, and an operator reads what it costs.
    let notes = async || penstock.status().await.to_string().contains("run penstock-control jobs");
    assert!(notes().await);
    assert_eq!(most_popular(&penstock).await, "pan");
    control(shop, &server, &["jobs", "run", "popularity"]);
    until_true("the job's scores are in force", PATIENCE, async || !notes().await).await;
    assert_eq!(most_popular(&penstock).await, "pan");
    server
        .sql(
            "INSERT INTO penstock.events (event_id, user_id, product_id, event_type, \"timestamp\")
             SELECT 'e' || n, 'bob', 'pot', 'purchase', '2026-02-06' FROM generate_series(1, 900) n",
        )
        .await;
    let said = control(shop, &server, &["jobs", "run", "popularity"]);
    assert!(said.contains("events 900") && said.contains("products 1"), "{said}");
    until_true("the pot is popular", PATIENCE, async || most_popular(&penstock).await == "pot")
        .await;
    // The catalogue is as it was.
    let status = penstock.status().await.to_string();
    assert!(status.contains("\"catalog_revision\":1"), "{status}");
    let features = penstock.ops("/features").await.expect(200).json();
    assert!(features.as_array().unwrap().iter().any(|one| one["name"] == "user_category_affinity"));
}

/// Whether ann is recommended something for what she did long before.
async fn remembers_long_ago(penstock: &Penstock) -> bool {
    let items = penstock.items("/recommend/ann?k=10").await;
    assert!(items.iter().any(|item| item.reason.contains("where you were lately")), "{items:?}");
    items.iter().any(|item| item.reason.contains("which you came for before"))
}

#[tokio::test]
async fn long_term_affinity_is_used_as_soon_as_the_job_has_made_it() {
    let catalogue = PRODUCTS.to_owned() + "wok,Iron wok,Pans,50,2026-01-01\n";
    let penstock = Penstock::over(Shop::of(&catalogue, &events())).start().await;
    assert!(!remembers_long_ago(&penstock).await);
    let job = ["jobs", "run", "user_category_affinity"];
    let said = penstock.shop.control(&job).ok().stdout;
    assert!(said.contains("users 1"), "{said}");
    // Histories, affinities and answers are remembered for hours; the job's news are not waited for so long.
    until_true("pans are known", PATIENCE, async || remembers_long_ago(&penstock).await).await;
}

#[tokio::test]
async fn checks_find_what_was_never_made_and_files_are_written() {
    let shop = Shop::imported(PRODUCTS, &events());
    let check = shop.control(&["features", "check"]);
    assert_eq!(check.code, Some(1), "{}", check.stdout);
    assert!(check.stdout.contains("the job popularity was never done"), "{}", check.stdout);
    for job in ["popularity", "freshness", "user_category_affinity", "maintenance"] {
        drop(shop.control(&["jobs", "run", job]).ok());
    }
    let check = shop.control(&["features", "check", "--json"]).ok();
    let found: serde_json::Value = serde_json::from_str(&check.stdout).unwrap();
    assert!(found.as_array().unwrap().iter().all(|one| one["problems"] == serde_json::json!([])));
    let written = shop.control(&["features", "snapshot", "--date", "2026-02-07"]).ok().stdout;
    assert!(written.contains("products.parquet: 3 rows"), "{written}");
    assert!(shop.data().join("features/2026-02-07/manifest.json").exists());
    assert_eq!(shop.control(&["features", "snapshot", "--date", "../x"]).code, Some(2));
    let list = shop.control(&["jobs", "list"]).ok().stdout;
    assert!(list.contains("popularity") && !list.contains("never"), "{list}");
    let history = shop.control(&["jobs", "history", "popularity"]).ok().stdout;
    assert!(history.contains("events 500"), "{history}");
    assert_eq!(shop.control(&["jobs", "run", "nonsense"]).code, Some(2));
    let shown = shop.control(&["features", "show", "popularity"]).ok().stdout;
    assert!(shown.contains("events.event_type") && shown.contains("job popularity"), "{shown}");
}

/// `jobs start`, with what it says in a file of this name.
fn started(shop: &Shop, server: &PgServer, name: &str) -> Child {
    let said = File::create(shop.data().join(name)).expect("the data folder is writable");
    command("penstock-control", &["jobs", "start"])
        .env("PENSTOCK_DATA_DIR", shop.data())
        .env("PENSTOCK_DATABASE_URL", server.url("penstock"))
        .stderr(said)
        .spawn()
        .expect("a binary that exists can be started")
}

#[tokio::test]
async fn a_leader_that_dies_is_replaced_within_seconds() {
    let Some((shop, server)) = fleet().await else { return };
    let says = async |name: &str, what: &str| {
        until(&format!("{name}: {what}"), PATIENCE, async || {
            let said = std::fs::read_to_string(shop.data().join(name)).unwrap_or_default();
            said.contains(what).then_some(said)
        })
        .await
    };
    let mut first = started(&shop, &server, "first.said");
    says("first.said", ": leads").await;
    says("first.said", "feature_snapshot: ").await;
    let mut second = started(&shop, &server, "second.said");
    says("second.said", "waiting to lead").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!says("second.said", "waiting").await.contains("leads"));
    first.kill().unwrap();
    first.wait().unwrap();
    says("second.said", ": leads").await;
    penstock_tests::binaries::signal(second.id(), "TERM");
    assert!(second.wait().unwrap().success());
    // What the first had done is not due again.
    assert!(!says("second.said", "does not lead any more").await.contains("failed"));
    let runs = "SELECT count(*) FROM penstock.job_runs WHERE job = 'freshness'";
    assert_eq!(server.sql(runs).await, [["1"]]);
}
