//! The job `popularity`: each event once, whatever happens.

use super::{DAY, Shop, by, of_every_store, scores};
use crate::stores::{event, import, product};
use penstock_engine::catalog::{Event, EventKind};
use penstock_engine::jobs::Job;
use penstock_engine::store::jobs::{JobStore, PopularityBy};
use penstock_tests::wait::until_true;
use rand::{Rng, SeedableRng};
use std::time::Duration;

of_every_store! {
    counting_what_is_new_gives_what_counting_all_gives;
    counting_twice_changes_nothing;
    other_weights_count_all_again;
    a_product_that_comes_after_its_events_has_them;
    scores_are_what_the_formula_says;
}

fn close(a: &[(u32, f64)], b: &[(u32, f64)]) {
    assert_eq!(a.len(), b.len(), "{a:?}\n{b:?}");
    for ((left, x), (right, y)) in a.iter().zip(b) {
        assert!(left == right && (x - y).abs() < 1e-9, "{left}: {x}, {right}: {y}");
    }
}

async fn counting_what_is_new_gives_what_counting_all_gives(shop: &Shop) {
    let store = &*shop.store;
    let products: Vec<_> = (0..20).map(|n| product(&format!("p{n}"), "name")).collect();
    import(store, &products, &[]);
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let kinds = [EventKind::View, EventKind::AddToCart, EventKind::Purchase];
    for round in 0..8 {
        let events: Vec<Event> = (0..random.random_range(0..60))
            .map(|n| {
                // Some are of products that are not there, some long ago, some of a day to come.
                let product = format!("p{}", random.random_range(0..25));
                let at = random.random_range(-4_000 * DAY..=20_500 * DAY);
                let id = format!("{round} {n}");
                let kind = kinds[random.random_range(0..3)];
                Event { kind, ..event(&id, "u", &product, at) }
            })
            .collect();
        let count = events.len() as u64;
        store.append_events(events).await.unwrap();
        let folded = store.fold_popularity(&by(false)).unwrap();
        assert_eq!((folded.events, folded.full.is_some()), (count, round == 0));
        let incremental = (scores(store), store.popularity_made().unwrap().unwrap());
        let full = store.fold_popularity(&by(true)).unwrap();
        assert_eq!(full.full, if round == 0 { full.full } else { Some("asked for") });
        close(&incremental.0, &scores(store));
        let made = store.popularity_made().unwrap().unwrap();
        assert_eq!(incremental.1.newest_micros, made.newest_micros);
    }
}

async fn counting_twice_changes_nothing(shop: &Shop) {
    let store = &*shop.store;
    let revision = |store: &dyn JobStore| store.catalog_revision().unwrap();
    import(store, &[product("a", "A")], &[event("1", "u", "a", DAY)]);
    let before = revision(store);
    let first = store.fold_popularity(&by(false)).unwrap();
    assert_eq!((first.events, first.products, first.number), (1, 1, 1));
    let all = scores(store);
    for _ in 0..2 {
        let again = store.fold_popularity(&by(false)).unwrap();
        assert_eq!((again.events, again.products, again.number), (0, 0, 1));
        assert_eq!(again.full, None);
    }
    assert_eq!((scores(store), revision(store)), (all, before));
}

async fn other_weights_count_all_again(shop: &Shop) {
    let store = &*shop.store;
    import(store, &[product("a", "A")], &[event("1", "u", "a", 0)]);
    store.fold_popularity(&by(false)).unwrap();
    close(&scores(store), &[(1, 3_f64.log2())]);
    let mut other = by(false);
    other.weights.add_to_cart = 8.0;
    let folded = store.fold_popularity(&other).unwrap();
    assert_eq!((folded.events, folded.full.is_some()), (1, true));
    close(&scores(store), &[(1, 3.0)]);
    other.weights.add_to_cart = 0.0;
    store.fold_popularity(&other).unwrap();
    close(&scores(store), &[]);
    let other = PopularityBy { half_life: Duration::from_hours(24), ..other };
    assert!(store.fold_popularity(&other).unwrap().full.is_some());
}

async fn a_product_that_comes_after_its_events_has_them(shop: &Shop) {
    let store = &*shop.store;
    import(store, &[], &[event("1", "u", "a", 0)]);
    store.fold_popularity(&by(false)).unwrap();
    close(&scores(store), &[]);
    import(store, &[product("a", "A")], &[]);
    store.fold_popularity(&by(false)).unwrap();
    close(&scores(store), &[(1, 3_f64.log2())]);
}

async fn scores_are_what_the_formula_says(shop: &Shop) {
    let store = &*shop.store;
    let view = |id: &str, at| Event { kind: EventKind::View, ..event(id, "u", "a", at) };
    import(store, &[product("a", "A")], &[view("1", 0), view("2", 30 * DAY), view("3", 60 * DAY)]);
    store.fold_popularity(&by(false)).unwrap();
    // 1 + 2 + 4: the newest counts four times what was done sixty days before.
    let [(_, score)] = scores(store)[..] else { panic!() };
    assert!((score - 7_f64.log2()).abs() < 1e-12);
    let made = store.popularity_made().unwrap().unwrap();
    assert_eq!((made.newest_micros, made.half_life), (Some(60 * DAY), by(false).half_life));
    assert!(shop.run(Job::Popularity, false).unwrap()["number"].as_u64() >= Some(1));
}

const INSERT: &str =
    "INSERT INTO penstock.events (event_id, user_id, product_id, event_type, \"timestamp\")";

#[tokio::test]
async fn what_is_committed_late_is_counted_exactly_once() {
    let Some(shop) = Shop::of_postgres().await else { return };
    let (store, server) = (&*shop.store, shop.server.as_ref().unwrap());
    import(store, &[product("a", "A")], &[]);
    store.fold_popularity(&by(false)).unwrap();
    // A transaction that has stored an event and goes on for a while.
    let late = format!(
        "BEGIN; {INSERT} VALUES ('late', 'u', 'a', 'view', '1970-01-01 00:00+00'); SELECT pg_sleep(2); COMMIT"
    );
    let (_, ()) = tokio::join!(server.sql(&late), async {
        let asleep = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        let patience = Duration::from_secs(10);
        until_true("it is stored", patience, async || !server.sql(asleep).await.is_empty()).await;
        let early = format!("{INSERT} VALUES ('early', 'u', 'a', 'view', '1970-01-01 00:00+00')");
        server.sql(&early).await;
        let folded = store.fold_popularity(&by(false)).unwrap();
        assert_eq!(folded.events, 1, "the late one cannot be seen yet");
        close(&scores(store), &[(1, 0.0)]);
    });
    assert_eq!(store.fold_popularity(&by(false)).unwrap().events, 1);
    close(&scores(store), &[(1, 1.0)]);
    assert_eq!(store.fold_popularity(&by(false)).unwrap().events, 0);
}

#[tokio::test]
async fn a_run_that_is_killed_in_the_middle_changes_nothing() {
    let Some(shop) = Shop::of_postgres().await else { return };
    let (store, server) = (&*shop.store, shop.server.as_ref().unwrap());
    import(store, &[product("a", "A")], &[event("1", "u", "a", 0)]);
    store.fold_popularity(&by(false)).unwrap();
    let before = scores(store);
    store.append_events(vec![event("2", "u", "a", 0)]).await.unwrap();
    // It waits for a product's row, with everything counted and nothing committed.
    let holding = "BEGIN; SELECT FROM penstock.products FOR UPDATE; SELECT pg_sleep(3); COMMIT";
    let (_, ()) = tokio::join!(server.sql(holding), async {
        let asleep = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        let patience = Duration::from_secs(10);
        until_true("it is held", patience, async || !server.sql(asleep).await.is_empty()).await;
        let running = shop.store.clone();
        let run = tokio::task::spawn_blocking(move || running.fold_popularity(&by(false)));
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE wait_event_type = 'Lock' AND query LIKE '%popularity_score%'";
        until_true("it waits and dies", patience, async || !server.sql(kill).await.is_empty())
            .await;
        assert!(run.await.unwrap().is_err());
    });
    assert_eq!(scores(store), before);
    let folded = store.fold_popularity(&by(false)).unwrap();
    assert_eq!((folded.events, folded.full), (1, None));
    close(&scores(store), &[(1, 6_f64.log2())]);
}

#[tokio::test]
async fn a_restored_database_is_counted_anew_and_only_once() {
    let Some(shop) = Shop::of_postgres().await else { return };
    let (store, server) = (&*shop.store, shop.server.as_ref().unwrap());
    import(store, &[product("a", "A")], &[event("1", "u", "a", 0)]);
    store.fold_popularity(&by(false)).unwrap();
    // As a dump of a server whose transactions have much greater numbers leaves it.
    server
        .sql("UPDATE penstock.job_state SET state = jsonb_set(state, '{snapshot}', '\"900000000:900000000:\"')")
        .await;
    server.sql("UPDATE penstock.events SET stored_by = 800000000").await;
    let folded = store.fold_popularity(&by(false)).unwrap();
    assert_eq!((folded.events, folded.full), (1, Some("the database was restored")));
    assert_eq!(store.fold_popularity(&by(false)).unwrap().events, 0);
    close(&scores(store), &[(1, 3_f64.log2())]);
}
