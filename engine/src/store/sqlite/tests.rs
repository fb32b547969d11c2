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

#[tokio::test]
async fn products_come_in_the_order_asked() {
    let (_folder, store) = fresh();
    let all = [product("a", "one"), product("b'\"", "two"), product("ü\t", "3")];
    import(&store, &all, &[]);
    let check = async |ids: &[&str], expected: &[Option<usize>]| {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        let expected: Vec<Option<Product>> =
            expected.iter().map(|at| at.map(|at| all[at].clone())).collect();
        assert_eq!(store.products(ids).await.unwrap(), expected);
    };
    check(&[], &[]).await;
    check(&["a"], &[Some(0)]).await;
    check(&["b'\"", "nobody", "a", "a"], &[Some(1), None, Some(0), Some(0)]).await;
    check(&["ü\t", "a\0", "", "A", "a' OR 1=1 --"], &[Some(2), None, None, None, None]).await;
    let many: Vec<String> = (0..5000).map(|n| format!("x{n}")).collect();
    assert_eq!(store.products(many).await.unwrap(), vec![None; 5000]);
}

#[tokio::test]
async fn recent_events_are_newest_first() {
    let (_folder, store) = fresh();
    let given = [
        event("1", "u", "old", 10),
        event("2", "u", "new", 30),
        event("3", "v", "other", 40),
        event("4", "u", "same-time-later", 30),
        event("5", "u", "late-arrival", 20),
    ];
    let fresh = store.append_events(given.to_vec()).await.unwrap();
    assert_eq!(fresh, [true; 5]);
    let check = async |user: &str, limit: usize, expected: &[&str]| {
        let found = store.recent_events(user.into(), limit).await.unwrap();
        let found: Vec<_> = found.iter().map(|e| &*e.product_id).collect();
        assert_eq!(found, expected);
    };
    let all = ["same-time-later", "new", "late-arrival", "old"];
    check("u", usize::MAX, &all).await;
    check("u", 2, &all[..2]).await;
    check("u", 0, &[]).await;
    check("v", 9, &["other"]).await;
    check("nobody", 9, &[]).await;
    let found = store.recent_events("v".into(), 1).await.unwrap();
    let expected =
        UserEvent { product_id: "other".into(), kind: EventKind::AddToCart, at_micros: 40 };
    assert_eq!(found, [expected]);
}

#[tokio::test]
async fn an_event_counts_once() {
    let (_folder, store) = fresh();
    let append = async |events: &[Event]| store.append_events(events.to_vec()).await.unwrap();
    let [one, two] = [event("1", "u", "p", 1), event("2", "u", "p", 2)];
    assert_eq!(append(&[]).await, [] as [bool; 0]);
    assert_eq!(append(&[one.clone(), one.clone()]).await, [true, false]);
    assert_eq!(append(&[two.clone(), one.clone()]).await, [true, false]);
    let imported = import(&store, &[], &[two, event("3", "u", "p", 3), one]);
    assert_eq!((imported.events_added, imported.events_known), (1, 2));
    assert_eq!(store.counts().unwrap().events, 3);
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
fn importing_again_updates() {
    let (_folder, store) = fresh();
    let of = |added, updated, unchanged| Imported {
        products_added: added,
        products_updated: updated,
        products_unchanged: unchanged,
        ..Imported::default()
    };
    let check = |products: &[Product], expected: Imported, revision: u64| {
        assert_eq!(import(&store, products, &[]), expected);
        assert_eq!(store.catalog_revision().unwrap(), revision);
    };
    let [a, b, c] = [product("a", "A"), product("b", "B"), product("c", "C")];
    check(&[], of(0, 0, 0), 0);
    check(&[a.clone(), b.clone()], of(2, 0, 0), 1);
    check(&[b.clone(), a.clone()], of(0, 0, 2), 1);
    check(&[a.clone(), c.clone()], of(1, 0, 1), 2);
    // Every value counts, one at a time.
    let mut changed = a.clone();
    let steps: [fn(&mut Product); 8] = [
        |p| p.name = "other".into(),
        |p| p.description.clear(),
        |p| p.category = "Garden".into(),
        |p| p.brand = "acme".into(),
        |p| p.price = None,
        |p| p.price = Some(0.0),
        |p| p.created_at = None,
        |p| p.popularity = Some(0.5),
    ];
    for (step, change) in steps.iter().enumerate() {
        change(&mut changed);
        check(&[changed.clone(), b.clone()], of(0, 1, 1), 3 + step as u64);
        check(&[changed.clone()], of(0, 0, 1), 3 + step as u64);
    }
    // The last row of an id wins; a product keeps its number.
    let first = product("c", "first");
    check(&[first, c.clone()], of(0, 0, 1), 10);
    let expected = [(1, changed), (2, b), (3, c)];
    assert_eq!(catalogue(&store), expected);
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

#[test]
fn events_of_unknown_products_are_counted() {
    let (_folder, store) = fresh();
    let events =
        [event("1", "u", "a", 1), event("2", "u", "ghost", 2), event("2", "u", "ghost", 2)];
    let imported = import(&store, &[product("a", "A")], &events);
    let expected = (2, 1, 1);
    let got = (imported.events_added, imported.events_known, imported.events_adrift);
    assert_eq!(got, expected);
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
async fn callers_share_a_flush_and_each_gets_its_own_answer() {
    let (_folder, store) = fresh();
    let calls = (0..200).map(|n| {
        // Every id is sent by two calls: exactly one of them is told that it is new.
        let id = format!("e{}", n / 2);
        store.append_events(vec![event(&id, "u", "p", n), event(&format!("own{n}"), "u", "p", n)])
    });
    let answers = futures::future::join_all(calls).await;
    let mut firsts = 0;
    for answer in answers {
        let answer = answer.unwrap();
        assert!(answer[1]);
        firsts += usize::from(answer[0]);
    }
    assert_eq!(firsts, 100);
    assert_eq!(store.counts().unwrap().events, 300);
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
