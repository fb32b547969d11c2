//! What every store promises, asked of both: the file and PostgreSQL.

use crate::stores::{Held, embedded, event, import, product, shop};
use penstock_engine::catalog::{Event, EventKind, Product, UserEvent};
use penstock_engine::store::{
    Changed, ChangedProduct, Counts, DataStore, Imported, ProductChange, ProductPatch, StoreError,
};

macro_rules! of_every_store {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        mod of_a_file {
            $($(#[$doc])* #[tokio::test] async fn $name() {
                let super::Held { store, .. } = &super::embedded();
                super::$name(&**store).await;
            })*
        }
        mod of_postgres {
            $($(#[$doc])* #[tokio::test] async fn $name() {
                let Some(super::Held { store, .. }) = &super::shop().await else { return };
                super::$name(&**store).await;
            })*
        }
    };
}

of_every_store! {
    products_come_in_the_order_asked;
    recent_events_are_newest_first;
    an_event_counts_once;
    nothing_is_visible_before_commit;
    importing_again_updates;
    numbers_ascend_and_are_never_given_twice;
    events_of_unknown_products_are_counted;
    callers_share_work_and_each_gets_its_own_answer;
    a_running_import_blocks_nobody;
    single_products_change_and_changes_are_known;
    what_changes_nothing_is_no_change;
    nothing_is_changed_by_a_change_that_cannot_be;
}

/// All products with their numbers.
fn catalogue(store: &dyn DataStore) -> Vec<(u32, Product)> {
    let mut all = Vec::new();
    store.scan_products(&mut |p| all.push((p.ordinal.0, p.product))).unwrap();
    all
}

async fn products_come_in_the_order_asked(store: &dyn DataStore) {
    let all = [product("a", "one"), product("b'\"", "two"), product("ü\t", "3")];
    import(store, &all, &[]);
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

async fn recent_events_are_newest_first(store: &dyn DataStore) {
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
    check("v\0", 9, &[]).await;
    let found = store.recent_events("v".into(), 1).await.unwrap();
    let expected =
        UserEvent { product_id: "other".into(), kind: EventKind::AddToCart, at_micros: 40 };
    assert_eq!(found, [expected]);
}

async fn an_event_counts_once(store: &dyn DataStore) {
    let append = async |events: &[Event]| store.append_events(events.to_vec()).await.unwrap();
    let [one, two] = [event("1", "u", "p", 1), event("2", "u", "p", 2)];
    assert_eq!(append(&[]).await, [] as [bool; 0]);
    assert_eq!(append(&[one.clone(), one.clone()]).await, [true, false]);
    assert_eq!(append(&[two.clone(), one.clone()]).await, [true, false]);
    // Sent again with another time, from another month: the same event.
    let later = Event { at_micros: 90 * 86_400_000_000, ..one.clone() };
    assert_eq!(append(&[later]).await, [false]);
    let imported = import(store, &[], &[two, event("3", "u", "p", 3), one]);
    assert_eq!((imported.events_added, imported.events_known), (1, 2));
    assert_eq!(store.counts().unwrap().events, 3);
}

async fn nothing_is_visible_before_commit(store: &dyn DataStore) {
    let mut session = store.begin_import().unwrap();
    session.put_product(product("a", "one")).unwrap();
    session.put_event(event("1", "u", "a", 1)).unwrap();
    assert_eq!(store.counts().unwrap(), Counts::default());
    drop(session);
    assert_eq!(store.counts().unwrap(), Counts::default());
}

async fn importing_again_updates(store: &dyn DataStore) {
    let of = |added, updated, unchanged| Imported {
        products_added: added,
        products_updated: updated,
        products_unchanged: unchanged,
        ..Imported::default()
    };
    let check = |products: &[Product], expected: Imported, revision: u64| {
        assert_eq!(import(store, products, &[]), expected);
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
    assert_eq!(catalogue(store), expected);
}

async fn numbers_ascend_and_are_never_given_twice(store: &dyn DataStore) {
    import(store, &[product("a", "A")], &[]);
    for _ in 0..3 {
        import(store, &[product("a", "A2"), product("b", "B")], &[]);
        import(store, &[product("a", "A"), product("b", "B2")], &[]);
    }
    import(store, &[product("c", "C")], &[]);
    let numbers: Vec<u32> = catalogue(store).iter().map(|(n, _)| *n).collect();
    assert_eq!(numbers, [1, 2, 3]);
    store.change_products(vec![ProductChange::Delete("c".into())]).unwrap();
    store.change_products(vec![ProductChange::Put(product("c", "C"))]).unwrap();
    import(store, &[product("d", "D")], &[]);
    let numbers: Vec<u32> = catalogue(store).iter().map(|(n, _)| *n).collect();
    assert_eq!(numbers, [1, 2, 4, 5]);
}

async fn events_of_unknown_products_are_counted(store: &dyn DataStore) {
    let events =
        [event("1", "u", "a", 1), event("2", "u", "ghost", 2), event("2", "u", "ghost", 2)];
    let imported = import(store, &[product("a", "A")], &events);
    let got = (imported.events_added, imported.events_known, imported.events_adrift);
    assert_eq!(got, (2, 1, 1));
    let imported = import(store, &[], &[event("2", "u", "ghost", 2), event("3", "u", "a", 2)]);
    let got = (imported.events_added, imported.events_known, imported.events_adrift);
    assert_eq!(got, (1, 1, 0));
}

async fn callers_share_work_and_each_gets_its_own_answer(store: &dyn DataStore) {
    let calls = (0..200).map(|n| {
        // Every id is sent by two calls: exactly one of them is told that it is new.
        let id = format!("e{}", n / 2);
        store.append_events(vec![event(&id, "u", "p", n), event(&format!("own{n}"), "u", "p", n)])
    });
    let answers = futures_util::future::join_all(calls).await;
    let mut firsts = 0;
    for answer in answers {
        let answer = answer.unwrap();
        assert!(answer[1]);
        firsts += usize::from(answer[0]);
    }
    assert_eq!(firsts, 100);
    assert_eq!(store.counts().unwrap().events, 300);
}

/// A proxy stores events while an import stages, and two imports stage at once.
async fn a_running_import_blocks_nobody(store: &dyn DataStore) {
    let mut one = store.begin_import().unwrap();
    let mut two = store.begin_import().unwrap();
    for n in 0..100 {
        one.put_product(product(&format!("a{n}"), "one")).unwrap();
        two.put_product(product(&format!("b{n}"), "two")).unwrap();
        let events = vec![event(&format!("e{n}"), "u", "a1", n)];
        assert_eq!(store.append_events(events).await.unwrap(), [true]);
    }
    two.put_product(product("a1", "newer")).unwrap();
    assert_eq!(one.commit().unwrap().products_added, 100);
    let second = two.commit().unwrap();
    assert_eq!((second.products_added, second.products_updated), (100, 1));
    assert_eq!(store.catalog_revision().unwrap(), 2);
    assert_eq!(store.counts().unwrap(), Counts { products: 200, events: 100 });
}

fn patch(id: &str) -> ProductPatch {
    ProductPatch { id: id.into(), ..ProductPatch::default() }
}

async fn single_products_change_and_changes_are_known(store: &dyn DataStore) {
    import(store, &[product("a", "A"), product("b", "B")], &[]);
    let first = store.catalog_revision().unwrap();
    let outcome = store.change_products(vec![
        ProductChange::Put(product("c", "C")),
        ProductChange::Patch(ProductPatch {
            name: Some("A2".into()),
            price: Some(None),
            ..patch("a")
        }),
        ProductChange::Delete("b".into()),
        ProductChange::Delete("ghost".into()),
        ProductChange::Patch(patch("ghost")),
    ]);
    use Changed::{Added, Deleted, Unknown, Updated};
    assert_eq!(outcome.unwrap(), [Added, Updated, Deleted, Unknown, Unknown]);
    let second = store.catalog_revision().unwrap();
    assert!(second > first);
    let a = Product { price: None, ..product("a", "A2") };
    assert_eq!(catalogue(store), [(1, a.clone()), (3, product("c", "C"))]);

    let changed = |ordinal: u32, id: &str, product: Option<Product>| ChangedProduct {
        ordinal: penstock_engine::catalog::Ordinal(ordinal),
        id: id.into(),
        product,
    };
    let changes = store.changes_since(first, 100).unwrap().unwrap();
    assert_eq!(changes.revision, second);
    let expected =
        [changed(1, "a", Some(a)), changed(2, "b", None), changed(3, "c", Some(product("c", "C")))];
    assert_eq!(changes.products, expected);
    assert_eq!(store.changes_since(first, 3).unwrap().unwrap().products.len(), 3);
    assert_eq!(store.changes_since(first, 2).unwrap(), None);
    let none = store.changes_since(second, 100).unwrap().unwrap();
    assert_eq!((none.revision, none.products.len()), (second, 0));
    // A revision that this store never had: whoever knows it knows another store.
    assert_eq!(store.changes_since(second + 1, 100).unwrap(), None);
    // Of an import, too, and each product once however often it changed.
    import(store, &[product("a", "A3"), product("d", "D")], &[]);
    let changes = store.changes_since(first, 100).unwrap().unwrap();
    let ids: Vec<&str> = changes.products.iter().map(|changed| changed.id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "c", "d"]);
}

async fn what_changes_nothing_is_no_change(store: &dyn DataStore) {
    import(store, &[product("a", "A")], &[]);
    let before = store.catalog_revision().unwrap();
    let outcome = store.change_products(vec![
        ProductChange::Put(product("a", "A")),
        ProductChange::Patch(ProductPatch { name: Some("A".into()), ..patch("a") }),
        ProductChange::Delete("ghost".into()),
    ]);
    use Changed::{Unchanged, Unknown};
    assert_eq!(outcome.unwrap(), [Unchanged, Unchanged, Unknown]);
    assert_eq!(store.catalog_revision().unwrap(), before);
    assert_eq!(store.change_products(Vec::new()).unwrap(), []);
}

async fn nothing_is_changed_by_a_change_that_cannot_be(store: &dyn DataStore) {
    import(store, &[product("a", "A")], &[]);
    let before = (catalogue(store), store.catalog_revision().unwrap());
    let bad = Product { price: Some(f64::NAN), ..product("b", "B") };
    for bad in [bad, product("", "B"), product("b\0", "B"), product(&"x".repeat(300), "B")] {
        let good = ProductChange::Delete("a".into());
        let outcome = store.change_products(vec![good, ProductChange::Put(bad.clone())]);
        let error = outcome.expect_err(&bad.id);
        assert!(matches!(error, StoreError::Invalid(_)), "{error}");
        assert_eq!((catalogue(store), store.catalog_revision().unwrap()), before, "{:?}", bad.id);
    }
}
