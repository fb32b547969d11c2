use super::*;
use crate::catalog::{EventKind, Product};
use crate::store::SqliteStore;
use penstock_config::clock;
use std::collections::{HashMap, HashSet};

// 2026-05-01T09:00:00Z
const NOW: i64 = 1_777_626_000_000_000;

fn made(shop: DemoShop) -> (tempfile::TempDir, SqliteStore, Imported) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::in_folder(&folder, clock::system()).unwrap();
    let imported = shop.generate(&store, &|_| {}).unwrap();
    (folder, store, imported)
}

fn products(store: &SqliteStore) -> Vec<Product> {
    let mut all = Vec::new();
    store.scan_products(&mut |stored| all.push(stored.product)).unwrap();
    all
}

fn events(store: &SqliteStore) -> Vec<(String, crate::catalog::UserEvent)> {
    let mut all = Vec::new();
    store.scan_events(&mut |user, event| all.push((user.to_owned(), event))).unwrap();
    all
}

#[test]
fn the_vocabulary_is_sound() {
    let departments = vocabulary::departments();
    assert!(departments.len() >= 12);
    for department in &departments {
        assert!(department.brands.len() >= 4, "{}", department.name);
        for tier in 1..=3 {
            let has = department.brands.iter().any(|b| b.tier == tier);
            assert!(has, "{} has no brand of tier {tier}", department.name);
        }
        assert!(department.aisles.len() >= 2, "{}", department.name);
        for aisle in &department.aisles {
            assert!(aisle.of.len() >= 4 && aisle.is.len() >= 4 && aisle.uses.len() >= 2);
            assert!(!aisle.things.is_empty(), "{}", aisle.name);
        }
    }
    for (text, line) in [
        ("sofa | a; b", 1),
        ("= A | 13 | B 1", 1),
        ("= A | 1 | B 4", 1),
        ("= A | 1 | B 1\n> C | 5, x | of: a | is: b | for: c", 2),
        ("= A | 1 | B 1\n\n> C | 5, 1 | of: a | is: b | for: c\nd | one", 4),
    ] {
        assert_eq!(vocabulary::parse(text).err(), Some(line), "{text}");
    }
}

#[test]
fn the_default_shop_is_believable() {
    let shop = DemoShop::on_day_of(NOW);
    let (_folder, store, imported) = made(shop);
    assert_eq!(imported.products_added, 6000);
    assert_eq!(imported.events_added, 120_000);

    let products = products(&store);
    let names: HashSet<_> = products.iter().map(|p| &p.name).collect();
    assert_eq!(names.len(), products.len(), "names are unique");
    let departments: HashSet<_> =
        products.iter().map(|p| p.category.split(" > ").next().unwrap()).collect();
    assert!(departments.len() >= 12);
    let two_years = shop.as_of_micros / 1_000_000 - 730 * 86_400;
    for p in &products {
        assert_eq!(p.category.split(" > ").count(), 2);
        assert!(p.name.starts_with(&p.brand) && p.description.len() > 60);
        assert!(p.price.unwrap() > 0.0);
        let created = p.created_at.unwrap();
        assert!((two_years..=shop.as_of_micros / 1_000_000).contains(&created));
    }
    let called = |name: &str| products.iter().filter(|p| p.name.ends_with(name)).count();
    assert!(called("Sofa") > 0 && called("Couch") > 0 && called("Running Shoes") > 0);

    let created: HashMap<&str, i64> =
        products.iter().map(|p| (&*p.id, p.created_at.unwrap())).collect();
    let category: HashMap<&str, &str> = products.iter().map(|p| (&*p.id, &*p.category)).collect();
    let mut kinds: HashMap<EventKind, u64> = HashMap::new();
    let mut sold: HashMap<String, u64> = HashMap::new();
    let mut visited: HashMap<String, HashMap<&str, u64>> = HashMap::new();
    for (user, event) in events(&store) {
        assert!(event.at_micros <= shop.as_of_micros);
        assert!(event.at_micros >= shop.as_of_micros - 120 * DAY_MICROS);
        assert!(event.at_micros / 1_000_000 >= created[&*event.product_id]);
        *kinds.entry(event.kind).or_default() += 1;
        let aisle = category[&*event.product_id];
        *visited.entry(user).or_default().entry(aisle).or_default() += 1;
        *sold.entry(event.product_id).or_default() += 1;
    }
    let [views, carts, purchases] =
        [EventKind::View, EventKind::AddToCart, EventKind::Purchase].map(|k| kinds[&k]);
    assert!(views > 4 * carts && carts > 3 * purchases / 2 && purchases > 2000);
    assert!(visited.len() > 2000, "{} users came", visited.len());
    // Popularity is uneven, but no product rules the shop.
    let mut sold: Vec<u64> = sold.into_values().collect();
    sold.sort_unstable();
    let top: u64 = sold.iter().rev().take(sold.len() / 10).sum();
    assert!((40_000..100_000).contains(&top), "a tenth has {top} events");
    assert!(*sold.last().unwrap() < 3000);
    // Users have tastes: most of what one does is in three of more than fifty aisles.
    let mut inside = 0;
    let mut all = 0;
    for aisles in visited.values() {
        let mut counts: Vec<u64> = aisles.values().copied().collect();
        counts.sort_unstable();
        inside += counts.iter().rev().take(3).sum::<u64>();
        all += counts.iter().sum::<u64>();
    }
    assert!(inside * 10 > all * 6, "{inside} of {all}");
}

#[test]
fn the_same_seed_gives_the_same_shop() {
    let shop = DemoShop { products: 300, events: 2000, users: 50, ..DemoShop::on_day_of(NOW) };
    let (_one, one, _) = made(shop);
    let (_two, two, _) = made(DemoShop {
        as_of_micros: DemoShop::on_day_of(NOW + 3_600_000_000).as_of_micros,
        ..shop
    });
    assert_eq!(products(&one), products(&two));
    assert_eq!(events(&one), events(&two));
    let (_three, three, _) = made(DemoShop { seed: 8, ..shop });
    assert_ne!(products(&one), products(&three));
    // More events leave the products alone.
    let (_four, four, _) = made(DemoShop { events: 10, ..shop });
    assert_eq!(products(&one), products(&four));
    // Into the same store again: nothing new.
    let again = shop.generate(&one, &|_| {}).unwrap();
    assert_eq!((again.products_unchanged, again.events_known), (300, 2000));
    assert_eq!(one.catalog_revision().unwrap(), 1);
}

#[test]
fn odd_sizes_work() {
    for (products, events, users) in [(1, 10, 1), (0, 0, 0), (3, 0, 5), (20_000, 50, 2)] {
        let shop = DemoShop { products, events, users, ..DemoShop::on_day_of(NOW) };
        let (_folder, _, imported) = made(shop);
        assert_eq!(imported.products_added, u64::from(products.max(1)));
        assert_eq!(imported.events_added, events);
    }
}
