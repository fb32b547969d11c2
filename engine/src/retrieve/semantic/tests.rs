use super::*;
use crate::catalog::Product;
use crate::retrieve::vectors::Owners;
use penstock_config::policy::Policy;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// One direction a letter: texts are similar that share letters.
#[derive(Debug)]
struct Letters;

const DIMS: usize = 8;

impl Embedder for Letters {
    fn dims(&self) -> usize {
        DIMS
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Option<Vec<f32>>>, EmbedError> {
        let vector = |text: &&str| {
            let mut vector = vec![0.0; DIMS];
            for byte in text.bytes().filter(u8::is_ascii_lowercase) {
                vector[usize::from(byte - b'a') % DIMS] += 1.0;
            }
            embedding::to_unit(vector)
        };
        Ok(texts.iter().map(vector).collect())
    }

    fn fingerprint(&self) -> &'static str {
        "letters"
    }

    fn kind(&self) -> Kind {
        Kind::Static
    }
}

type Held = BTreeMap<u32, String>;

fn product(name: &str) -> Product {
    Product { name: name.into(), ..Product::default() }
}

/// An index of these names, in which products with the same name share a vector.
fn built(held: &Held, hnsw: bool) -> SemanticIndex {
    let (mut ordinals, mut positions, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let mut known: BTreeMap<&str, u32> = BTreeMap::new();
    for (number, name) in held {
        let text = embedding::product_text(&product(name), Kind::Static);
        let Some(vector) = Letters.embed(&[&text]).unwrap().pop().flatten() else { continue };
        let next = known.len() as u32;
        let position = *known.entry(name).or_insert(next);
        if position == next {
            values.extend(vector);
        }
        ordinals.push(*number);
        positions.push(position);
    }
    let owners = Owners::new(ordinals, positions, known.len()).unwrap();
    let vectors: Box<dyn VectorIndex> = if hnsw {
        Box::new(Hnsw::build(DIMS, &values, 1, &|_| {}).unwrap())
    } else {
        Box::new(Exact::new(DIMS, values).unwrap())
    };
    SemanticIndex::new(Arc::new(Letters), vectors, owners, Calibration::IDENTITY).unwrap()
}

fn changed(batch: &BTreeMap<u32, Option<String>>) -> Vec<ChangedProduct> {
    let changed = |(number, name): (&u32, &Option<String>)| ChangedProduct {
        ordinal: Ordinal(*number),
        id: String::new(),
        product: name.as_deref().map(product),
    };
    batch.iter().map(changed).collect()
}

fn apply(held: &mut Held, batch: &BTreeMap<u32, Option<String>>) {
    for (number, name) in batch {
        match name {
            Some(name) => held.insert(*number, name.clone()),
            None => held.remove(number),
        };
    }
}

fn ask(text: &str, like: Option<u32>, allowed: Option<Arc<Allowed>>, k: usize) -> Ask {
    let mut policy = Policy::default();
    policy.query.semantic.candidates = 1;
    let policy = Arc::new(policy);
    Ask {
        policy,
        text: text.into(),
        history: Vec::new(),
        long_term: crate::features::Affinity::default(),
        like: like.map(Ordinal),
        allowed,
        k,
    }
}

proptest! {
    #[test]
    fn changes_over_an_index_are_as_good_as_building_it_anew(
        first in prop::collection::btree_map(0..12_u32, "[a-d]{0,3}", 0..12),
        batches in prop::collection::vec(
            prop::collection::btree_map(0..18_u32, prop::option::of("[a-d]{0,3}"), 0..5), 1..6
        ),
        k in 1..9_usize,
    ) {
        let mut held: Held = first;
        let mut index = built(&held, false);
        for batch in &batches {
            index = index.after(&changed(batch)).unwrap();
            apply(&mut held, batch);
        }
        let anew = built(&held, false);
        prop_assert_eq!(index.len(), anew.len());
        let some = Arc::new(Allowed::from_ordinals((0..18).step_by(2).map(Ordinal)));
        let asked = ["abc", "d", ""].map(|text| (text, None)).into_iter();
        for (text, like) in asked.chain((0..18).map(|like| ("", Some(like)))) {
            for allowed in [None, Some(some.clone())] {
                let ask = ask(text, like, allowed, k);
                prop_assert_eq!(index.retrieve(&ask).unwrap(), anew.retrieve(&ask).unwrap());
                let numbers: Vec<Ordinal> = (0..20).map(Ordinal).collect();
                prop_assert_eq!(index.scores(&ask, &numbers), anew.scores(&ask, &numbers));
            }
        }
    }
}

#[test]
fn what_is_masked_takes_no_place_in_a_graph() {
    let name = |n: u32| -> String {
        (0..4).map(|at| char::from(b'a' + (n >> (2 * at)) as u8 % 8)).collect()
    };
    let mut held: Held = (0..1_000).map(|n| (n, name(n))).collect();
    let gone: BTreeMap<u32, Option<String>> = (0..1_000).step_by(2).map(|n| (n, None)).collect();
    let index = built(&held, true).after(&changed(&gone)).unwrap();
    apply(&mut held, &gone);
    let anew = built(&held, false);
    for text in ["abcd", "hhhh", "aceg"] {
        let ask = ask(text, None, None, 20);
        let raw =
            |found: Vec<Candidate>| found.iter().map(|c| (c.raw * 1e4) as i32).collect::<Vec<_>>();
        let found = index.retrieve(&ask).unwrap();
        assert!(found.iter().all(|candidate| candidate.ordinal.0 % 2 == 1), "{found:?}");
        assert_eq!(raw(found), raw(anew.retrieve(&ask).unwrap()), "{text}");
    }
}
