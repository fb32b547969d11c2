use super::*;
use crate::catalog::EventKind;
use crate::store::{Bulk, Counts, Imported};
use penstock_config::clock;
use tempfile::TempDir;

mod faults;
mod killed;

pub(super) fn product(id: &str, name: &str) -> Product {
    Product {
        id: id.into(),
        name: name.into(),
        description: "what it is".into(),
        category: "Home > Sofas".into(),
        brand: "Acme".into(),
        price: Some(9.5),
        created_at: Some(-5),
        popularity: None,
    }
}

pub(super) fn event(id: &str, user: &str, product: &str, at: i64) -> Event {
    Event {
        event_id: id.into(),
        user_id: user.into(),
        product_id: product.into(),
        kind: EventKind::AddToCart,
        at_micros: at,
        source: "test".into(),
    }
}

pub(super) fn open(folder: &TempDir) -> SqliteStore {
    SqliteStore::in_folder(folder, clock::system()).unwrap()
}

/// A store in a new folder.
pub(super) fn fresh() -> (TempDir, SqliteStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    (folder, store)
}

pub(super) fn import(store: &SqliteStore, products: &[Product], events: &[Event]) -> Imported {
    let mut import = store.begin_import().unwrap();
    for product in products {
        import.put_product(product.clone()).unwrap();
    }
    for event in events {
        import.put_event(event.clone()).unwrap();
    }
    import.commit().unwrap()
}

/// All products with their numbers.
pub(super) fn catalogue(store: &SqliteStore) -> Vec<(u32, Product)> {
    let mut all = Vec::new();
    store.scan_products(&mut |p| all.push((p.ordinal.0, p.product))).unwrap();
    all
}

/// All events: user, product, time.
pub(super) fn history(store: &SqliteStore) -> Vec<(String, String, i64)> {
    let mut all = Vec::new();
    store
        .scan_events(&mut |user, e| all.push((user.to_owned(), e.product_id, e.at_micros)))
        .unwrap();
    all
}

/// Names of what is in the folder beside the store's own files.
pub(super) fn strangers(folder: &TempDir) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with("store."))
        .collect();
    names.sort();
    names
}

#[test]
fn nothing_is_visible_before_commit() {
    let (folder, store) = fresh();
    let mut session = store.begin_import().unwrap();
    session.put_product(product("a", "one")).unwrap();
    session.put_event(event("1", "u", "a", 1)).unwrap();
    assert_eq!(store.counts().unwrap(), Counts::default());
    assert_eq!(strangers(&folder).len(), 1, "rows are staged in the folder");
    drop(session);
    assert_eq!(store.counts().unwrap(), Counts::default());
    assert_eq!(strangers(&folder), [] as [String; 0]);
}

#[test]
fn numbers_are_dense_and_never_beyond_32_bits() {
    let (folder, store) = fresh();
    import(&store, &[product("a", "A")], &[]);
    for _ in 0..3 {
        import(&store, &[product("a", "A2"), product("b", "B")], &[]);
        import(&store, &[product("a", "A"), product("b", "B2")], &[]);
    }
    import(&store, &[product("c", "C")], &[]);
    let numbers: Vec<u32> = catalogue(&store).iter().map(|(n, _)| *n).collect();
    assert_eq!(numbers, [1, 2, 3]);

    let side = Connection::open(folder.path().join(FILE_NAME)).unwrap();
    side.execute(
        "UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'products'",
        [i64::from(u32::MAX) - 1],
    )
    .unwrap();
    import(&store, &[product("last", "fits")], &[]);
    let mut session = store.begin_import().unwrap();
    session.put_product(product("a", "would change")).unwrap();
    session.put_product(product("over", "does not fit")).unwrap();
    let error = session.commit().unwrap_err();
    assert!(matches!(error, StoreError::Format(_)), "{error}");
    let all = catalogue(&store);
    assert_eq!(all.last().unwrap().0, u32::MAX);
    assert_eq!((all.len(), &*all[0].1.name), (4, "A"));
}

#[test]
fn the_identity_is_made_once() {
    let (folder, store) = fresh();
    let id = store.store_id().unwrap();
    assert_eq!(id.len(), 32);
    drop(store);
    assert_eq!(open(&folder).store_id().unwrap(), id);
    let (_other, store) = fresh();
    assert_ne!(store.store_id().unwrap(), id);
}

/// A proxy stores events while an import stages, and two imports stage at once.
#[tokio::test]
async fn a_running_import_blocks_nobody() {
    let (folder, store) = fresh();
    let other = open(&folder);
    let mut one = store.begin_import().unwrap();
    let mut two = other.begin_import().unwrap();
    for n in 0..500 {
        one.put_product(product(&format!("a{n}"), "one")).unwrap();
        two.put_product(product(&format!("b{n}"), "two")).unwrap();
        let events = vec![event(&format!("e{n}"), "u", "a1", n)];
        assert_eq!(other.append_events(events).await.unwrap(), [true]);
    }
    two.put_product(product("a1", "newer")).unwrap();
    assert_eq!(one.commit().unwrap().products_added, 500);
    let second = two.commit().unwrap();
    assert_eq!((second.products_added, second.products_updated), (500, 1));
    assert_eq!(store.catalog_revision().unwrap(), 2);
    let counts = Counts { products: 1000, events: 500 };
    assert_eq!(store.counts().unwrap(), counts);
}

#[tokio::test]
async fn a_full_queue_is_busy_and_an_abandoned_call_is_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { readers: 1, queue: 2, ..Settings::default() };
    let path = folder.path().join(FILE_NAME);
    let store = SqliteStore::open_with(&path, clock::system(), settings).unwrap();
    // Another process writes: the writer thread waits for it with one call in hand.
    let blocker = Connection::open(&path).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut waiting: Vec<_> =
        (0..5).map(|n| store.append_events(vec![event(&format!("e{n}"), "u", "p", n)])).collect();
    let mut busy = 0;
    let mut pending = Vec::new();
    for call in &mut waiting {
        match futures::poll!(call.as_mut()) {
            std::task::Poll::Ready(Err(StoreError::Busy(2))) => {
                busy += 1;
                pending.push(false);
            }
            std::task::Poll::Ready(other) => panic!("{other:?}"),
            std::task::Poll::Pending => pending.push(true),
        }
    }
    // Two in the queue, and up to one already in the writer's hand.
    assert!((2..=3).contains(&busy), "{busy}");
    // The last caller that still waits gives up.
    let last = pending.iter().rposition(|waits| *waits).unwrap();
    drop(waiting.remove(last));
    pending.remove(last);
    blocker.execute_batch("COMMIT").unwrap();
    drop(blocker);
    for (call, waits) in waiting.into_iter().zip(pending) {
        if waits {
            assert_eq!(call.await.unwrap(), [true]);
        }
    }
    drop(store);
    let events = history(&open(&folder));
    assert!(!events.iter().any(|(_, _, at)| *at == last as i64), "{events:?}");
}

#[test]
fn commits_are_flushed() {
    let (folder, _store) = fresh();
    let settings = Settings::default();
    let connection = file::connect(&folder.path().join(FILE_NAME), &settings).unwrap();
    let pragma = |name: &str| -> String {
        connection
            .query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, rusqlite::types::Value>(0))
            .map(|value| match value {
                rusqlite::types::Value::Integer(number) => number.to_string(),
                rusqlite::types::Value::Text(text) => text,
                other => format!("{other:?}"),
            })
            .unwrap()
    };
    assert_eq!((&*pragma("journal_mode"), &*pragma("synchronous")), ("wal", "2"));
}
