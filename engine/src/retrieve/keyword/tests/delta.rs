//! An index with changes over it finds what an index finds that is built anew, with the same scores.

use super::*;
use crate::store::ChangedProduct;
use std::collections::BTreeMap;

type Held = BTreeMap<u32, Product>;

fn built(held: &Held) -> (tempfile::TempDir, KeywordIndex) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("keyword");
    let mut builder = Builder::create(&folder).unwrap();
    for (number, product) in held {
        let stored = StoredProduct { ordinal: Ordinal(*number), product: product.clone() };
        builder.add(&stored).unwrap();
    }
    builder.finish().unwrap();
    let index = KeywordIndex::open(&folder).unwrap();
    (dir, index)
}

fn changed(batch: &BTreeMap<u32, Option<Product>>) -> Vec<ChangedProduct> {
    let changed = |(number, product): (&u32, &Option<Product>)| ChangedProduct {
        ordinal: Ordinal(*number),
        id: String::new(),
        product: product.clone(),
    };
    batch.iter().map(changed).collect()
}

fn apply(held: &mut Held, batch: &BTreeMap<u32, Option<Product>>) {
    for (number, product) in batch {
        match product {
            Some(product) => held.insert(*number, product.clone()),
            None => held.remove(number),
        };
    }
}

/// Words that have forms, compounds, units and misspellings of each other.
const WORDS: [&str; 14] = [
    "lamp", "lamps", "lmap", "desk", "firepit", "fire", "pit", "trimmer", "trim", "18-volt", "18v",
    "2x4", "wi-fi", "the",
];

fn text(most: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&WORDS[..]), 0..=most).prop_map(|w| w.join(" "))
}

fn product() -> impl Strategy<Value = Product> {
    (text(4), text(6), text(2), text(1)).prop_map(|(name, description, category, brand)| Product {
        name,
        description,
        category,
        brand,
        ..Product::default()
    })
}

fn alike(found: &[Candidate], expected: &[Candidate]) {
    assert_eq!(found.len(), expected.len(), "{found:?}\n{expected:?}");
    for (found, expected) in found.iter().zip(expected) {
        close(Some(found), Some(expected));
    }
    // Ties may be broken by the last bit of a sum: the products are the same, and so is what each scores.
    let by_number = |list: &[Candidate]| -> Vec<u32> {
        let mut numbers: Vec<u32> = list.iter().map(|candidate| candidate.ordinal.0).collect();
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(by_number(found), by_number(expected));
}

fn close(found: Option<&Candidate>, expected: Option<&Candidate>) {
    let numbers = |c: &Candidate| [c.score, c.raw];
    let (found, expected) = (found.map(numbers), expected.map(numbers));
    let near = match (found, expected) {
        (None, None) => true,
        (Some(a), Some(b)) => a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-4 * b.max(1.0)),
        _ => false,
    };
    assert!(near, "{found:?} {expected:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn changes_over_an_index_are_as_good_as_building_it_anew(
        first in prop::collection::btree_map(0..12_u32, product(), 0..10),
        batches in prop::collection::vec(
            prop::collection::btree_map(0..18_u32, prop::option::of(product()), 0..5), 1..9
        ),
        queries in prop::collection::vec(text(3), 4),
    ) {
        let mut held: Held = first;
        let (_dir, mut index) = built(&held);
        for batch in &batches {
            index = index.after(&changed(batch)).unwrap();
            apply(&mut held, batch);
        }
        let (_other, anew) = built(&held);
        prop_assert_eq!(index.len(), anew.len());
        let some = Arc::new(Allowed::from_ordinals((0..18).step_by(2).map(Ordinal)));
        for (query, allowed) in queries.iter().flat_map(|q| [(q, None), (q, Some(some.clone()))]) {
            let ask = Ask { allowed, ..ask(query) };
            alike(&index.retrieve(&ask).unwrap(), &anew.retrieve(&ask).unwrap());
            let numbers: Vec<Ordinal> = (0..20).map(Ordinal).collect();
            let (found, expected) = (index.scores(&ask, &numbers), anew.scores(&ask, &numbers));
            for (found, expected) in found.iter().zip(&expected) {
                close(found.as_ref(), expected.as_ref());
            }
        }
    }
}

#[test]
fn many_small_changes_end_up_in_few_layers() {
    let named = |name: String| Product { name, ..Product::default() };
    let mut held: Held = (0..50).map(|n| (n, named(format!("lamp {n}")))).collect();
    let (_dir, mut index) = built(&held);
    for n in 0..300_u32 {
        let batch = BTreeMap::from([(n % 90, Some(named(format!("desk {}", n % 7))))]);
        index = index.after(&changed(&batch)).unwrap();
        apply(&mut held, &batch);
        assert!(index.layers.len() <= 6, "{n}: {} layers", index.layers.len());
    }
    let (_other, anew) = built(&held);
    for query in ["desk", "lamp", "desk 3"] {
        alike(&index.retrieve(&ask(query)).unwrap(), &anew.retrieve(&ask(query)).unwrap());
    }
    let gone: BTreeMap<u32, Option<Product>> = (0..90).map(|n| (n, None)).collect();
    let empty = index.after(&changed(&gone)).unwrap();
    assert!(empty.is_empty() && empty.layers.len() == 1);
    assert!(empty.retrieve(&ask("desk lamp")).unwrap().is_empty());
}
