//! The job `maintenance`.

use super::{DAY, Shop, of_every_store};
use crate::stores::{event, import, product};
use penstock_config::clock;
use penstock_engine::features::Entity;
use penstock_engine::jobs::Job;
use penstock_engine::store::ProductChange;
use penstock_engine::store::jobs::Keep;
use serde_json::json;
use std::time::Duration;

of_every_store! {
    runs_are_bounded_and_values_of_products_that_are_gone_go;
}

async fn runs_are_bounded_and_values_of_products_that_are_gone_go(shop: &Shop) {
    let store = &*shop.store;
    import(store, &[product("a", "A")], &[]);
    let values = [("a".to_owned(), json!(1)), ("gone".to_owned(), json!(1))];
    store.put_features(Entity::Product, "freshness", 1, &values).unwrap();
    for _ in 0..5 {
        shop.run(Job::Popularity, false).unwrap();
    }
    let now_micros = clock::unix_micros();
    let keep = Keep { now_micros, changes: Duration::from_hours(1), runs: 2 };
    let done = store.maintain(&keep).unwrap();
    assert_eq!((done.runs_forgotten, done.values_of_nobody), (3, 1));
    assert_eq!(store.runs(None, 9).unwrap().len(), 2);
    let again = store.maintain(&keep).unwrap();
    assert_eq!((again.runs_forgotten, again.values_of_nobody, again.changes_forgotten), (0, 0, 0));
}

#[tokio::test]
async fn months_that_are_over_go_and_others_stay() {
    let Some(shop) = Shop::of_postgres().await else { return };
    let (store, server) = (&*shop.store, shop.server.as_ref().unwrap());
    let now = clock::unix_micros();
    let ages = [0, 20, 140, 200, 900];
    let events: Vec<_> = ages
        .iter()
        .map(|age| event(&format!("{age}"), "u", "a", now - i64::from(*age) * DAY))
        .collect();
    import(store, &[product("a", "A")], &events);
    let done = shop.run(Job::Maintenance, false).unwrap();
    let rows = server.sql("SELECT event_id FROM penstock.events ORDER BY \"timestamp\" DESC").await;
    assert_eq!(rows, [["0"], ["20"]], "{done}");
    let ids = server.sql("SELECT count(*) FROM penstock.event_ids").await;
    assert_eq!(ids, [["2"]]);
    assert!(shop.run(Job::Maintenance, false).unwrap()["months_retired"] == json!([]));
    // Months to come are there.
    let months = "SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'penstock.events'::regclass AND c.relname >= to_char(now(), '\"events_\"YYYY_MM')
        AND c.relname <> 'events_other'";
    assert_eq!(server.sql(months).await, [["4"]]);
}

#[tokio::test]
async fn who_knows_an_older_revision_than_is_kept_reads_everything() {
    let Some(shop) = Shop::of_postgres().await else { return };
    let (store, server) = (&*shop.store, shop.server.as_ref().unwrap());
    for id in ["a", "b", "c"] {
        store.change_products(vec![ProductChange::Put(product(id, "name"))]).unwrap();
    }
    server.sql("UPDATE penstock.product_changes SET at = now() - interval '8 days' WHERE revision <= 2").await;
    let done = shop.run(Job::Maintenance, false).unwrap();
    assert_eq!(done["changes_forgotten"], 2);
    assert_eq!(store.changes_since(1, 9).unwrap(), None);
    assert_eq!(store.changes_since(2, 9).unwrap().unwrap().products.len(), 1);
    assert_eq!(store.changes_since(3, 9).unwrap().unwrap().products.len(), 0);
}
