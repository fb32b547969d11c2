use super::super::tests::{catalogue, fresh, import, open, product};
use super::*;
use crate::store::{Bulk, ProductPatch};
use std::collections::BTreeMap;

fn patch(id: &str, name: &str) -> ProductChange {
    ProductChange::Patch(ProductPatch {
        id: id.into(),
        name: Some(name.into()),
        ..ProductPatch::default()
    })
}

fn put(id: &str, name: &str) -> ProductChange {
    ProductChange::Put(product(id, name))
}

fn delete(id: &str) -> ProductChange {
    ProductChange::Delete(id.into())
}

/// Numbers and names (`None`: gone) of what changed since `revision`.
fn since(store: &SqliteStore, revision: u64) -> Option<Vec<(u32, Option<String>)>> {
    let changes = store.changes_since(revision, 100).unwrap()?;
    assert_eq!(changes.revision, store.catalog_revision().unwrap());
    let named = |c: ChangedProduct| (c.ordinal.0, c.product.map(|product| product.name));
    Some(changes.products.into_iter().map(named).collect())
}

fn named(name: &str) -> Option<String> {
    (!name.is_empty()).then(|| name.into())
}

#[test]
fn products_change_one_by_one_and_what_changed_is_known() {
    let (_folder, store) = fresh();
    import(&store, &[product("a", "A"), product("b", "B")], &[]);
    let check = |changes: &[ProductChange], expected: &[Changed], revision: u64| {
        assert_eq!(store.change_products(changes.to_vec()).unwrap(), expected, "{changes:?}");
        assert_eq!(store.catalog_revision().unwrap(), revision, "{changes:?}");
    };
    use Changed::{Added, Deleted, Unchanged, Unknown, Updated};
    check(&[], &[], 1);
    check(&[put("a", "A"), patch("b", "B"), patch("x", "X")], &[Unchanged, Unchanged, Unknown], 1);
    check(&[put("c", "C"), patch("a", "A2"), delete("x")], &[Added, Updated, Unknown], 2);
    // Later ones see what earlier ones did; a number never comes back.
    check(&[delete("c"), put("c", "C3"), patch("c", "C4")], &[Deleted, Added, Updated], 3);
    assert_eq!(since(&store, 3), Some(vec![]));
    assert_eq!(since(&store, 2), Some(vec![(3, None), (4, named("C4"))]));
    assert_eq!(since(&store, 1), Some(vec![(1, named("A2")), (3, None), (4, named("C4"))]));
    assert_eq!(since(&store, 4), None, "a revision that was never");
    assert_eq!(store.changes_since(1, 2).unwrap(), None, "more than asked for");
    let others =
        ProductPatch { price: Some(None), brand: Some(String::new()), ..ProductPatch::default() };
    let others = ProductChange::Patch(ProductPatch { id: "b".into(), ..others });
    check(&[others], &[Updated], 4);
    let all = catalogue(&store);
    assert_eq!(all[1].1, Product { price: None, brand: String::new(), ..product("b", "B") });
}

#[test]
fn what_makes_no_sense_changes_nothing() {
    let (_folder, store) = fresh();
    import(&store, &[product("a", "A")], &[]);
    for bad in [put("", "x"), put("a", ""), put("a\0", "x"), patch("a", ""), delete(" a")] {
        let refused = store.change_products(vec![put("b", "B"), bad.clone()]).unwrap_err();
        assert!(matches!(refused, StoreError::Invalid(_)), "{bad:?}: {refused}");
    }
    let negative = Product { price: Some(-1.0), ..product("b", "B") };
    assert!(store.change_products(vec![ProductChange::Put(negative)]).is_err());
    assert_eq!((catalogue(&store).len(), store.catalog_revision().unwrap()), (1, 1));
}

#[test]
fn an_import_lists_what_it_changes_and_a_large_one_is_everything() {
    let (_folder, store) = fresh();
    assert_eq!(since(&store, 0), Some(vec![]));
    import(&store, &[product("a", "A"), product("b", "B")], &[]);
    import(&store, &[product("a", "A"), product("b", "B2"), product("c", "C")], &[]);
    assert_eq!(since(&store, 1), Some(vec![(2, named("B2")), (3, named("C"))]));
    assert_eq!(since(&store, 0).map(|all| all.len()), Some(3));
    let many: Vec<Product> = (0..=MOST_LISTED).map(|n| product(&format!("p{n}"), "many")).collect();
    import(&store, &many, &[]);
    assert_eq!(since(&store, 2), None);
    assert_eq!(since(&store, 3), Some(vec![]));
    store.change_products(vec![delete("p7")]).unwrap();
    assert_eq!(since(&store, 3).map(|all| all.len()), Some(1));
}

#[test]
fn the_list_is_bounded_and_who_is_older_reads_everything() {
    let (_folder, store) = fresh();
    for n in 0..10 {
        store
            .change_products(vec![put(&format!("a{n}"), "A"), put(&format!("b{n}"), "B")])
            .unwrap();
    }
    prune(&store.side(), 5).unwrap();
    // Five of twenty are left: one of the two of revision 8 has gone with those before.
    let known: Vec<bool> = (0..=10).map(|revision| since(&store, revision).is_some()).collect();
    assert_eq!(known, [[false; 8].as_slice(), &[true; 3]].concat());
    assert_eq!(since(&store, 8).map(|all| all.len()), Some(4));
}

#[test]
fn a_change_that_was_not_listed_makes_everything_be_read() {
    let (_folder, store) = fresh();
    import(&store, &[product("a", "A"), product("b", "B")], &[]);
    let by_hand = "DELETE FROM products WHERE id = 'b';
        UPDATE meta SET value = value + 1 WHERE name = 'catalog_revision'";
    store.side().execute_batch(by_hand).unwrap();
    assert_eq!((since(&store, 1), since(&store, 2)), (None, Some(vec![])));
    store.change_products(vec![put("c", "C")]).unwrap();
    assert_eq!((since(&store, 1), since(&store, 2).map(|all| all.len())), (None, Some(1)));
}

#[test]
fn a_store_of_the_first_version_learns_to_tell_and_begins_with_now() {
    let (folder, store) = fresh();
    import(&store, &[product("a", "A")], &[]);
    drop(store);
    let file = rusqlite::Connection::open(folder.path().join(super::super::FILE_NAME)).unwrap();
    file.execute_batch(
        "DROP TABLE product_changes; DELETE FROM meta WHERE name = 'changes_from';
         PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(file);
    let store = open(&folder);
    assert_eq!((since(&store, 0), since(&store, 1)), (None, Some(vec![])));
    store.change_products(vec![patch("a", "A2")]).unwrap();
    assert_eq!(since(&store, 1), Some(vec![(1, named("A2"))]));
}

/// Whoever applies what changed since the revision he has, has what a whole read gives.
#[test]
fn what_changed_makes_the_old_catalogue_the_new_one() {
    use rand::{Rng, SeedableRng};
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let (_folder, store) = fresh();
    let mut held: BTreeMap<u32, Product> = BTreeMap::new();
    let mut revision = 0;
    for round in 0..60 {
        let changes = (0..random.random_range(1..4)).map(|_| {
            let id = format!("p{}", random.random_range(0..12));
            match random.random_range(0..3) {
                0 => put(&id, &format!("name {round}")),
                1 => patch(&id, &format!("patched {round}")),
                _ => delete(&id),
            }
        });
        store.change_products(changes.collect()).unwrap();
        if random.random_bool(0.4) {
            let changes = store.changes_since(revision, 1_000).unwrap().unwrap();
            revision = changes.revision;
            for changed in changes.products {
                match changed.product {
                    Some(product) => held.insert(changed.ordinal.0, product),
                    None => held.remove(&changed.ordinal.0),
                };
            }
            assert_eq!(held.clone().into_iter().collect::<Vec<_>>(), catalogue(&store));
        }
    }
}
