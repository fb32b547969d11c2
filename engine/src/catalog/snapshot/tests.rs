use super::*;
use crate::catalog::Product;

fn catalog() -> Catalog {
    let mut catalog = Catalog::new(1);
    let rows = [
        ("a", "Kitchen > Mugs", "Acme", Some(5.0)),
        ("b", "Kitchen > Pans", "ACME", Some(50.0)),
        ("c", "Garden", "Bloom", None),
    ];
    for (index, (id, category, brand, price)) in rows.into_iter().enumerate() {
        let product = Product {
            id: id.into(),
            category: category.into(),
            brand: brand.into(),
            price,
            ..Product::default()
        };
        catalog.push(Ordinal(index as u32 + 1), &product);
    }
    catalog
}

#[test]
fn filters_meet() {
    let catalog = catalog();
    let check = |filter: Filter, expected: &[u32]| {
        let allowed = catalog.allowed(&filter).expect("a filter that limits");
        assert_eq!(allowed.iter().map(|o| o.0).collect::<Vec<_>>(), expected, "{filter:?}");
        assert_eq!(allowed.len(), expected.len());
    };
    let category = |text: &str| Filter { category: Some(text.into()), ..Filter::default() };
    let brand = |text: &str| Filter { brand: Some(text.into()), ..Filter::default() };
    check(category("kitchen"), &[1, 2]);
    check(category("unknown"), &[]);
    check(brand(" acme "), &[1, 2]);
    check(Filter { min_price: Some(10.0), ..Filter::default() }, &[2]);
    check(Filter { max_price: Some(10.0), ..brand("acme") }, &[1]);
    check(Filter { category: Some("pans".into()), ..brand("acme") }, &[2]);
    check(Filter { max_price: Some(1e9), ..category("garden") }, &[]);
    assert!(catalog.allowed(&Filter::default()).is_none());
}

#[test]
fn rows_are_found_by_id_and_by_number() {
    let catalog = catalog();
    assert_eq!(catalog.ordinal("b"), Some(Ordinal(2)));
    assert_eq!(catalog.ordinal("x"), None);
    assert!(catalog.row(Ordinal(0)).is_none());
    assert_eq!(&*catalog.row(Ordinal(3)).expect("row").id, "c");
    assert_eq!((catalog.len(), catalog.columns()), (3, 4));
}

/// All that can be asked of a catalogue, by ids: numbers of categories may differ.
fn told(catalog: &Catalog) -> Vec<String> {
    let ids = |found: &[Ordinal]| -> Vec<&str> {
        found.iter().filter_map(|o| catalog.row(*o)).map(|row| &*row.id).collect()
    };
    let mut told = vec![format!("{} {}", catalog.len(), catalog.revision())];
    for (ordinal, row) in catalog.iter() {
        let Row { id, name, brand, category, price, text, .. } = row;
        let leaves: Vec<&str> =
            row.categories.iter().map(|id| catalog.categories().path(*id)).collect();
        told.push(format!(
            "{ordinal:?} {id} {name} {brand} {category} {price:?} {text} {leaves:?}"
        ));
        assert_eq!(catalog.ordinal(id), Some(ordinal));
    }
    for brand in ["acme", "bloom", "other"] {
        told.push(format!("{brand} {:?}", ids(catalog.of_brand(brand))));
    }
    for text in ["kitchen", "mugs", "garden", "kitchen > mugs"] {
        let mut found = catalog.categories().find(text);
        found.sort_by_key(|id| catalog.categories().path(*id));
        let found: Vec<_> =
            found.iter().map(|id| ids(catalog.categories().products(*id))).collect();
        told.push(format!("{text} {found:?} {}", catalog.categories().has_path(text)));
    }
    told.push(format!("{:?}", catalog.categories().largest(9)));
    told
}

#[test]
fn a_catalogue_after_changes_is_the_one_that_is_read_anew() {
    use crate::store::{ChangedProduct, Changes};
    use proptest::prelude::*;
    let category =
        prop::sample::select(vec!["", "Kitchen", "Kitchen > Mugs", "Garden|Kitchen > Mugs"]);
    let brand = prop::sample::select(vec!["", "Acme", "Bloom"]);
    let product = (prop::bool::ANY, category, brand, 0..3_u8);
    let change = (0..400_u32, prop::option::of(product));
    let batches =
        prop::collection::vec(prop::collection::btree_map(0..400_u32, change, 0..6), 1..9);
    proptest!(|(batches in batches)| {
        let mut catalog = Catalog::new(0);
        let mut held = std::collections::BTreeMap::new();
        for (revision, batch) in (1..).zip(batches) {
            let products: Vec<ChangedProduct> = batch
                .into_iter()
                .map(|(number, (_, product))| ChangedProduct {
                    ordinal: Ordinal(number),
                    id: format!("p{number}"),
                    product: product.map(|(named, category, brand, price)| Product {
                        id: format!("p{number}"),
                        name: if named { "one" } else { "two" }.into(),
                        category: category.into(),
                        brand: brand.into(),
                        price: Some(f64::from(price)),
                        ..Product::default()
                    }),
                })
                .collect();
            for changed in &products {
                match &changed.product {
                    Some(product) => held.insert(changed.ordinal, product.clone()),
                    None => held.remove(&changed.ordinal),
                };
            }
            let before = told(&catalog);
            let after = catalog.after(&Changes { revision, products });
            prop_assert_eq!(before, told(&catalog), "the one before stays as it was");
            let mut anew = Catalog::new(revision);
            held.iter().for_each(|(ordinal, product)| anew.push(*ordinal, product));
            prop_assert_eq!(told(&after), told(&anew));
            let numbers = || catalog.numbers(&after);
            prop_assert_eq!(
                catalog.difference(&after, numbers(), 999),
                catalog.difference(&anew, numbers(), 999)
            );
            catalog = after;
        }
    });
}

#[test]
fn a_difference_says_which_answers_it_may_be_about() {
    let lamp =
        Product { id: "a".into(), name: "Lamp".into(), price: Some(1.0), ..Product::default() };
    let check =
        |before: Option<&Product>, now: Option<&Product>, expected: (&[&str], bool, bool)| {
            let of = |product: Option<&Product>| {
                let mut catalog = Catalog::new(1);
                product.into_iter().for_each(|product| catalog.push(Ordinal(3), product));
                catalog
            };
            let (before, now) = (of(before), of(now));
            let found = before.difference(&now, before.numbers(&now), 9);
            let changed: Vec<&str> = found.changed.iter().map(String::as_str).collect();
            assert_eq!((&*changed, found.widens, found.prices), expected);
        };
    let cheap = Product { price: Some(0.5), ..lamp.clone() };
    let renamed = Product { name: "Light".into(), ..lamp.clone() };
    let described = Product { description: "bright".into(), ..lamp.clone() };
    check(Some(&lamp), Some(&lamp), (&[], false, false));
    check(Some(&lamp), Some(&cheap), (&["a"], false, true));
    check(Some(&lamp), Some(&renamed), (&["a"], true, false));
    check(Some(&lamp), Some(&described), (&["a"], true, false));
    check(Some(&lamp), None, (&["a"], false, false));
    check(None, Some(&lamp), (&[], true, true));
}
