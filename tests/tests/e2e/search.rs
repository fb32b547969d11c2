//! The shape and the meaning of `/search`, `/similar`, `/popular`, `/products`.

use crate::{FIELDS, popular};
use penstock_tests::items::{assert_ranked, ids};
use penstock_tests::{Item, Penstock, urlencode};
use std::collections::BTreeSet;

#[tokio::test]
async fn every_list_is_ranked_repeatable_and_as_long_as_asked() {
    let penstock = Penstock::demo().await;
    let product = popular(&penstock).await.swap_remove(0);
    let name = urlencode(product.text("name"));
    for path in [
        format!("/search?q={name}"),
        format!("/search?q={name}&user_id=somebody"),
        "/recommend/somebody?".to_owned(),
        format!("/similar/{}?", urlencode(&product.product_id)),
        "/popular?".to_owned(),
    ] {
        let ten = penstock.items(&path).await;
        assert_ranked(&ten);
        assert_eq!(ten.len(), 10, "{path}");
        assert!(ten.iter().all(|item| item.fields.is_empty()), "{ten:?}");
        assert_eq!(ids(&ten), ids(&penstock.items(&path).await), "{path}");
        let three = penstock.items(&format!("{path}&k=3")).await;
        assert_eq!(ids(&three), ids(&ten)[..3], "{path}");
        let hundred = penstock.items(&format!("{path}&k=100")).await;
        assert_ranked(&hundred);
        assert_eq!(ids(&hundred)[..10], ids(&ten), "{path}");
    }
}

#[tokio::test]
async fn a_product_is_found_by_its_name() {
    let penstock = Penstock::demo().await;
    let mut missed = Vec::new();
    for product in popular(&penstock).await.iter().take(40) {
        let name = product.text("name");
        let found = penstock.items(&format!("/search?q={}&fields=name", urlencode(name))).await;
        // Several products of a shop may share a name.
        if !found.iter().any(|item| item.text("name") == name) {
            missed.push(name.to_owned());
        }
    }
    assert!(missed.is_empty(), "not on the first page: {missed:#?}");
}

#[tokio::test]
async fn filters_hold_for_every_result() {
    let penstock = Penstock::demo().await;
    let products = popular(&penstock).await;
    for product in products.iter().step_by(20) {
        let query = format!("/search?q={}&k=100", urlencode(product.text("name")));
        let category = product.text("category");
        for above in ancestors(category) {
            let url = format!("{query}&category={}&{FIELDS}", urlencode(&above));
            check(&penstock, &url, product, |item| {
                item.text("category")
                    .split('|')
                    .any(|path| path == above || path.starts_with(&format!("{above} > ")))
            })
            .await;
        }
        let brand = product.text("brand");
        let url = format!("{query}&brand={}&{FIELDS}", urlencode(&brand.to_uppercase()));
        check(&penstock, &url, product, |item| item.text("brand") == brand).await;
        let (low, high) = (product.price() - 1.0, product.price() + 1.0);
        let url = format!("{query}&min_price={low}&max_price={high}&{FIELDS}");
        check(&penstock, &url, product, |item| (low..=high).contains(&item.price())).await;
    }

    async fn check(penstock: &Penstock, url: &str, wanted: &Item, holds: impl Fn(&Item) -> bool) {
        let items = penstock.items(url).await;
        assert_ranked(&items);
        let broken = items.iter().find(|item| !holds(item));
        assert!(broken.is_none(), "{url}: {broken:?}");
        assert!(ids(&items).contains(&wanted.product_id.as_str()), "{url}");
    }

    fn ancestors(category: &str) -> Vec<String> {
        let parts: Vec<&str> = category.split('|').next().unwrap().split(" > ").collect();
        (1..=parts.len()).map(|n| parts[..n].join(" > ")).collect()
    }
}

#[tokio::test]
async fn fields_are_those_asked_for() {
    let penstock = Penstock::demo().await;
    for (fields, expected) in [
        ("name", vec!["name"]),
        ("price,name", vec!["name", "price"]),
        (
            "name,description,category,brand,price,created_at",
            vec!["brand", "category", "created_at", "description", "name", "price"],
        ),
    ] {
        let items = penstock.items(&format!("/popular?k=5&fields={fields}")).await;
        for item in items {
            let got: BTreeSet<&str> = item.fields.keys().map(String::as_str).collect();
            assert_eq!(got, expected.iter().copied().collect(), "{item:?}");
        }
    }
}

#[tokio::test]
async fn every_answer_says_how_it_was_made() {
    let penstock = Penstock::demo().await;
    let product = popular(&penstock).await.swap_remove(0);
    let name = urlencode(product.text("name"));
    let version = penstock.get("/popular").await.header("x-policy-version").to_owned();
    assert!(version.len() == 12 && version.bytes().all(|b| b.is_ascii_hexdigit()), "{version}");
    let mut traces = BTreeSet::new();
    for path in [
        format!("/search?q={name}"),
        "/recommend/u".to_owned(),
        "/popular".to_owned(),
        format!("/similar/{}", urlencode(&product.product_id)),
    ] {
        let reply = penstock.get(&path).await.expect(200);
        assert_eq!(reply.header("x-penstock-mode"), "full", "{path}");
        assert_eq!(reply.header("x-policy-version"), version, "{path}");
        let cache = reply.header("x-cache");
        assert!(["hit-l1", "hit-l2", "miss", "stale", "bypass"].contains(&cache), "{cache}");
        let trace = reply.header("x-trace-id").to_owned();
        assert!(trace.len() == 32 && trace.bytes().all(|b| b.is_ascii_hexdigit()), "{trace}");
        assert!(traces.insert(trace), "a trace id of its own: {path}");
    }
}

#[tokio::test]
async fn one_product_is_shown_as_the_shop_describes_it() {
    let penstock = Penstock::demo().await;
    let product = popular(&penstock).await.swap_remove(7);
    let id = urlencode(&product.product_id);
    let shown = penstock.get(&format!("/products/{id}")).await.expect(200).json();
    let shown_id = shown.get("product_id").or(shown.get("id"));
    assert_eq!(shown_id.and_then(|id| id.as_str()), Some(product.product_id.as_str()), "{shown}");
    for field in ["name", "category", "brand", "price"] {
        assert_eq!(shown[field], product.fields[field], "{shown}");
    }
    penstock.get("/products/no-such-product").await.expect(404).problem();
    penstock.get("/similar/no-such-product").await.expect(404).problem();
}

#[tokio::test]
async fn similar_products_are_of_its_kind_and_not_itself() {
    let penstock = Penstock::demo().await;
    let products = popular(&penstock).await;
    let (mut alike, mut all) = (0, 0);
    for product in products.iter().step_by(10) {
        let id = urlencode(&product.product_id);
        let similar = penstock.items(&format!("/similar/{id}?{FIELDS}")).await;
        assert!(!ids(&similar).contains(&product.product_id.as_str()));
        let same = |item: &&Item| item.department() == product.department();
        alike += similar.iter().filter(same).count();
        all += similar.len();
    }
    assert!(alike * 10 >= all * 7, "{alike} of {all} are of the same department");
}

#[tokio::test]
async fn popular_follows_the_category_and_what_is_bought() {
    let penstock = Penstock::demo().await;
    let products = popular(&penstock).await;
    let department = products[0].department().to_owned();
    let url = format!("/popular?k=100&category={}&{FIELDS}", urlencode(&department));
    let in_department = penstock.items(&url).await;
    assert_ranked(&in_department);
    assert!(in_department.iter().all(|item| item.text("category").contains(&department)));
    // The order inside a department is that of the whole shop.
    let expected: Vec<&str> = products
        .iter()
        .filter(|item| item.department() == department)
        .map(|item| item.product_id.as_str())
        .collect();
    assert_eq!(ids(&in_department)[..expected.len()], expected);
}

/// The numbers of an object.
fn numbers(object: &serde_json::Value) -> Vec<(&str, f64)> {
    let object = object.as_object().unwrap_or_else(|| panic!("{object}"));
    object.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_f64()?))).collect()
}

#[tokio::test]
async fn an_explanation_adds_up_to_the_score() {
    let penstock = Penstock::demo().await;
    let mut explained = 0;
    for product in popular(&penstock).await.iter().step_by(20) {
        let query = format!("q={}&user_id=somebody", urlencode(product.text("name")));
        let found = penstock.items(&format!("/search?{query}")).await;
        for (place, item) in found.iter().enumerate().step_by(3) {
            let id = urlencode(&item.product_id);
            let url = format!("/search/explain?{query}&product_id={id}");
            let explanation = penstock.get(&url).await.expect(200).json();
            let score = explanation["score"].as_f64().unwrap();
            assert!((score - item.score).abs() < 1e-6, "{item:?}: {explanation:#}");
            let terms = numbers(&explanation["terms"]);
            let sum: f64 = terms.iter().map(|(_, term)| term).sum();
            assert!((sum - score).abs() < 1e-5, "{sum}: {explanation:#}");
            for (name, term) in terms {
                let weight = explanation["weights"][name].as_f64().unwrap();
                let feature = explanation["features"][name].as_f64().unwrap();
                assert!((weight * feature - term).abs() < 1e-6, "{name}: {explanation:#}");
            }
            assert_eq!(explanation["rank"], place + 1, "{explanation:#}");
            explained += 1;
        }
    }
    assert!(explained >= 15, "{explained}");
}

#[tokio::test]
async fn an_explanation_says_why_a_product_is_not_there() {
    let penstock = Penstock::demo().await;
    let products = popular(&penstock).await;
    let product = &products[0];
    let query = format!(
        "q={}&product_id={}&category=nowhere",
        urlencode(product.text("name")),
        urlencode(&product.product_id)
    );
    let explanation = penstock.get(&format!("/search/explain?{query}")).await.expect(200).json();
    assert!(explanation["rank"].is_null(), "{explanation:#}");
    assert!(explanation.to_string().contains("filter"), "{explanation:#}");
}
