use super::*;
use crate::catalog::EventKind;
use crate::store::{Bulk, Counts};
use penstock_config::clock;

fn product(id: &str, name: &str) -> Product {
    Product {
        id: id.into(),
        name: name.into(),
        price: Some(9.5),
        ..Product::default()
    }
}

fn event(id: &str, user: &str, product: &str, at: i64) -> Event {
    Event {
        event_id: id.into(),
        user_id: user.into(),
        product_id: product.into(),
        kind: EventKind::View,
        at_micros: at,
        source: "test".into(),
    }
}

fn open(folder: &tempfile::TempDir) -> SqliteStore {
    SqliteStore::in_folder(folder, clock::system()).unwrap()
}

#[tokio::test]
async fn round_trip() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let mut import = store.begin_import().unwrap();
    for (id, name) in [("a", "one"), ("b", "two"), ("a", "three")] {
        import.put_product(product(id, name)).unwrap();
    }
    import.put_event(event("e1", "u", "a", 5)).unwrap();
    assert_eq!(store.counts().unwrap(), Counts::default());
    let imported = import.commit().unwrap();
    assert_eq!((imported.products_added, imported.events_added), (2, 1));
    assert_eq!(store.catalog_revision().unwrap(), 1);
    let found = store
        .products(vec!["b".into(), "no\0".into(), "a".into()])
        .await
        .unwrap();
    let names: Vec<_> = found.iter().map(|p| p.as_ref().map(|p| &*p.name)).collect();
    assert_eq!(names, [Some("two"), None, Some("three")]);
    let fresh = store
        .append_events(vec![event("e1", "u", "a", 5), event("e2", "u", "b", 7)])
        .await
        .unwrap();
    assert_eq!(fresh, [false, true]);
    let recent = store.recent_events("u".into(), 10).await.unwrap();
    assert_eq!(
        recent.iter().map(|e| &*e.product_id).collect::<Vec<_>>(),
        ["b", "a"]
    );
}
