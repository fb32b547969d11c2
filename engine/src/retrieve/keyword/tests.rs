use super::{Builder, KeywordIndex};
use crate::catalog::{Ordinal, Product};
use crate::retrieve::{Allowed, Ask, Candidate, Retriever};
use crate::store::StoredProduct;
use penstock_config::policy::Policy;
use proptest::prelude::*;
use std::sync::{Arc, OnceLock};

mod delta;

fn build(products: &[Product]) -> (tempfile::TempDir, KeywordIndex) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("keyword");
    let mut builder = Builder::create(&folder).unwrap();
    for (nth, product) in products.iter().enumerate() {
        builder
            .add(&StoredProduct { ordinal: Ordinal(nth as u32 + 1), product: product.clone() })
            .unwrap();
    }
    builder.finish().unwrap();
    let index = KeywordIndex::open(&folder).unwrap();
    (dir, index)
}

fn named(names: &[&str]) -> (tempfile::TempDir, KeywordIndex) {
    let products: Vec<Product> =
        names.iter().map(|name| Product { name: (*name).into(), ..Product::default() }).collect();
    build(&products)
}

fn ask(text: &str) -> Ask {
    Ask {
        policy: Arc::new(Policy::default()),
        text: crate::query::normalise(text),
        history: Vec::new(),
        long_term: crate::features::Affinity::default(),
        like: None,
        allowed: None,
        k: 10,
    }
}

fn found(index: &KeywordIndex, text: &str) -> Vec<u32> {
    let candidates = index.retrieve(&ask(text)).unwrap();
    candidates.iter().map(|c| c.ordinal.0).collect()
}

#[test]
fn finds_what_is_written_another_way() {
    let (_dir, index) = named(&[
        "DEWALT 18-Volt Drill",              // 1
        "2 in. x 4 in. x 8 ft. Cedar Board", // 2
        "Lamp LP-123",                       // 3
        "Wi-Fi Router",                      // 4
        "Stainless Dishwasher",              // 5
        "Tool Box with Tray",                // 6
        "Vacuum Cleaners",                   // 7
        "Crème brûlée torch",                // 8
        "Pipe 3/4 in.",                      // 9
    ]);
    for (query, first) in [
        ("18v drill", 1),
        ("18 volts", 1),
        ("2x4", 2),
        ("2 x 4 board", 2),
        ("lp123", 3),
        ("lp 123", 3),
        ("LP-123", 3),
        ("wifi", 4),
        ("wi fi", 4),
        ("dish washer", 5),
        ("toolbox", 6),
        ("vaccum cleaner", 7),
        ("creme brulee", 8),
        ("0.75 inch pipe", 9),
        ("¾\" pipe", 9),
    ] {
        assert_eq!(found(&index, query).first(), Some(&first), "{query}");
    }
}

#[test]
fn nothing_to_look_for_finds_nothing() {
    let (_dir, index) = named(&["Lamp", "The Boys"]);
    for query in ["", " ", "the of and", "😀", "\"*:()[]^~", "zzzzzz"] {
        assert_eq!(found(&index, query), Vec::<u32>::new(), "{query:?}");
    }
}

#[test]
fn query_syntax_means_nothing() {
    let (_dir, index) = named(&["red lamp", "green lamp"]);
    for query in
        ["lamp", "lamp*", "name:lamp", "(lamp)", "+lamp -red", "lamp^9", "/lamp/", "[lamp TO z]"]
    {
        let found = found(&index, query);
        assert!(found.contains(&1) && found.contains(&2), "{query}: {found:?}");
    }
}

#[test]
fn ties_are_in_the_order_of_ordinals() {
    let (_dir, index) = named(&["lamp"; 300]);
    let expected: Vec<u32> = (1..=200).collect();
    assert_eq!(found(&index, "lamp"), expected);
}

#[test]
fn a_filter_is_applied_before_the_best_are_chosen() {
    let mut names = vec!["lamp"; 500];
    names.extend(["a long name with one lamp in it"; 3]);
    let (_dir, index) = named(&names);
    let mut ask = ask("lamp");
    ask.allowed = Some(Arc::new(Allowed::from_ordinals([2, 501, 503, 9999].map(Ordinal))));
    let found: Vec<u32> = index.retrieve(&ask).unwrap().iter().map(|c| c.ordinal.0).collect();
    assert_eq!(found, [2, 501, 503]);
}

#[test]
fn the_score_of_one_product_is_its_score_in_the_list() {
    let (_dir, index) =
        named(&["red lamp", "lamp for the desk", "green table", "red red lamp shade"]);
    let ask = ask("red lamp 5000k");
    let list = index.retrieve(&ask).unwrap();
    assert_eq!(list.len(), 3);
    for candidate in list {
        assert_eq!(index.score(&ask, candidate.ordinal), Some(candidate));
    }
    let many = [4, 3, 1, 77, 2].map(Ordinal);
    let one_by_one = many.map(|ordinal| index.score(&ask, ordinal));
    assert_eq!(index.scores(&ask, &many), one_by_one);
    assert_eq!(index.score(&ask, Ordinal(3)), None);
    assert_eq!(index.score(&ask, Ordinal(77)), None);
}

#[test]
fn the_query_as_a_name_is_perfect_and_less_scores_less() {
    let (_dir, index) =
        named(&["red desk lamp", "desk lamp", "a very long name of a lamp", "chair"]);
    let scores: Vec<f32> =
        index.retrieve(&ask("red desk lamp")).unwrap().iter().map(|c| c.score).collect();
    assert!((scores[0] - 0.9).abs() < 1e-3, "{scores:?}");
    assert!(scores[1] < 0.8 && scores[2] < scores[1] && scores[2] > 0.0, "{scores:?}");
}

#[test]
fn boosts_are_those_of_the_question() {
    let (_dir, index) = build(&[
        Product { name: "lamp".into(), ..Product::default() },
        Product { name: "other".into(), description: "lamp".into(), ..Product::default() },
    ]);
    let mut ask = ask("lamp");
    let mut policy = Policy::default();
    policy.query.keyword.boosts.name = 0.0;
    policy.query.keyword.boosts.description = 1.0;
    ask.policy = Arc::new(policy);
    let found: Vec<u32> = index.retrieve(&ask).unwrap().iter().map(|c| c.ordinal.0).collect();
    assert_eq!(found, [2]);
}

#[test]
fn only_so_many_terms_are_looked_at() {
    let (_dir, index) = named(&["alpha", "beta", "gamma"]);
    let mut ask = ask("alpha beta gamma");
    let mut policy = Policy::default();
    policy.query.max_terms = 2;
    ask.policy = Arc::new(policy);
    let found: Vec<u32> = index.retrieve(&ask).unwrap().iter().map(|c| c.ordinal.0).collect();
    assert_eq!(found, [1, 2]);
}

#[test]
fn an_empty_index_opens_and_a_missing_one_says_so() {
    let (_dir, index) = named(&[]);
    assert!(index.is_empty());
    assert_eq!(found(&index, "lamp"), Vec::<u32>::new());
    let missing = tempfile::tempdir().unwrap();
    assert!(KeywordIndex::open(missing.path()).is_err());
    assert!(KeywordIndex::open(&missing.path().join("nowhere")).is_err());
}

fn shared() -> &'static KeywordIndex {
    static INDEX: OnceLock<(tempfile::TempDir, KeywordIndex)> = OnceLock::new();
    &INDEX
        .get_or_init(|| named(&["red lamp 12v", "2x4 cedar", "LP-123 wi-fi", "日本 lampe", "x"]))
        .1
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        let mut ask = ask(&text);
        sensible(&shared().retrieve(&ask).unwrap());
        // Whoever calls without normalising first gets an answer as well.
        ask.text = text;
        sensible(&shared().retrieve(&ask).unwrap());
    }

    #[test]
    fn no_shop_text_makes_it_panic(text in "[a-z0-9 x./,'\"-]{0,80}") {
        sensible(&shared().retrieve(&ask(&text)).unwrap());
    }

    #[test]
    fn every_term_is_of_a_size_that_can_be_indexed(text in any::<String>()) {
        let terms = super::analysis::terms(&text);
        prop_assert!(terms.iter().all(|(_, term)| !term.is_empty() && term.len() <= 128));
    }
}

fn sensible(list: &[Candidate]) {
    for candidate in list {
        assert!(candidate.raw.is_finite() && candidate.raw > 0.0, "{candidate:?}");
        assert!((0.0..=1.0).contains(&candidate.score), "{candidate:?}");
    }
    for pair in list.windows(2) {
        let order = (pair[1].score, pair[0].ordinal) <= (pair[0].score, pair[1].ordinal);
        assert!(order, "{pair:?}");
    }
}

#[test]
fn a_word_of_any_length_is_indexed() {
    let long = "x".repeat(200_000);
    let (_dir, index) = named(&[&long, &"9".repeat(200_000), "lamp"]);
    assert_eq!(found(&index, "lamp"), [3]);
    assert_eq!(found(&index, &long), [1]);
}
