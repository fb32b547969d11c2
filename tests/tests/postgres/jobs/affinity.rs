//! The jobs `user_category_affinity` and `freshness`.

use super::{DAY, Shop, of_every_store};
use crate::stores::{event, import, product};
use penstock_config::clock;
use penstock_engine::catalog::Product;
use penstock_engine::features::{AFFINITY, Affinity, Entity};
use penstock_engine::jobs::Job;
use penstock_engine::store::jobs::JobStore;
use serde_json::{Value, json};

of_every_store! {
    only_users_with_new_events_are_computed;
    freshness_is_stored_and_unknown_dates_are_null;
    values_are_read_as_requests_read_them;
}

fn of(category: &str, id: &str) -> Product {
    Product { category: category.into(), ..product(id, "name") }
}

fn values(store: &dyn JobStore, entity: Entity, name: &str) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    store.scan_features(entity, name, &mut |id, value| all.push((id.to_owned(), value))).unwrap();
    all
}

async fn only_users_with_new_events_are_computed(shop: &Shop) {
    let store = &*shop.store;
    let products = [of("Mugs", "mug"), of("Pans", "pan")];
    import(store, &products, &[event("1", "ann", "mug", 0), event("2", "bob", "pan", DAY)]);
    let run = |full| {
        let done = shop.run(Job::Affinity, full).unwrap();
        (done["users"].clone(), done["changed"].clone())
    };
    assert_eq!(run(false), (json!(2), json!(2)));
    assert_eq!(run(false), (json!(0), json!(0)));
    let number = store.features_number().unwrap();
    store
        .append_events(vec![event("3", "ann", "pan", 0), event("4", "cy", "gone", 0)])
        .await
        .unwrap();
    assert_eq!(run(false), (json!(2), json!(2)));
    let incremental = values(store, Entity::User, AFFINITY);
    let ids: Vec<&str> = incremental.iter().map(|(id, _)| &**id).collect();
    assert_eq!(ids, ["ann", "bob", "cy"]);
    let ann: Affinity = serde_json::from_value(incremental[0].1.clone()).unwrap();
    let expected = [("Mugs".to_owned(), 1.0), ("Pans".to_owned(), 1.0)];
    assert_eq!((&ann.categories[..], ann.events), (&expected[..], 2));
    let cy: Affinity = serde_json::from_value(incremental[2].1.clone()).unwrap();
    assert_eq!(cy, Affinity::default());
    // From everything it is the same, and nobody needs to forget anything.
    assert_eq!(run(true), (json!(3), json!(0)));
    assert_eq!(values(store, Entity::User, AFFINITY), incremental);
    assert!(store.is_shared() || store.features_number().unwrap() == number + 1);
}

async fn freshness_is_stored_and_unknown_dates_are_null(shop: &Shop) {
    let store = &*shop.store;
    let now = clock::unix_micros() / 1_000_000;
    let new = Product { created_at: Some(now), ..product("new", "name") };
    let old = Product { created_at: Some(0), ..product("old", "name") };
    let unknown = Product { created_at: None, ..product("unknown", "name") };
    import(store, &[new, old, unknown], &[]);
    let done = shop.run(Job::Freshness, false).unwrap();
    assert_eq!((&done["products"], &done["without_date"]), (&json!(3), &json!(1)));
    let all = values(store, Entity::Product, "freshness");
    let ids: Vec<&str> = all.iter().map(|(id, _)| &**id).collect();
    assert_eq!(ids, ["new", "old", "unknown"]);
    assert!(all[0].1.as_f64().unwrap() > 0.999);
    assert!(all[1].1.as_f64().unwrap() < 0.001);
    assert_eq!(all[2].1, Value::Null);
}

async fn values_are_read_as_requests_read_them(shop: &Shop) {
    let store = &*shop.store;
    import(store, &[of("Mugs", "mug")], &[event("1", "ann", "mug", 0)]);
    shop.run(Job::Affinity, false).unwrap();
    let read = async |id: &str| {
        store.features(Entity::User, id.to_owned(), vec!["no such", AFFINITY]).await.unwrap()
    };
    let found = read("ann").await;
    assert_eq!(found[0], None);
    assert_eq!(found[1].as_ref().unwrap()["categories"], json!([["Mugs", 1.0]]));
    for nobody in ["bob", "", "a\0", "' OR 1=1 --"] {
        assert_eq!(read(nobody).await, [None, None]);
    }
}
