//! Recommendations: tastes, cold users, and events that count at once.

use crate::{FIELDS, popular};
use penstock_tests::items::{assert_ranked, ids};
use penstock_tests::{Item, Penstock, Shop, urlencode};
use serde_json::json;
use std::collections::BTreeMap;

/// Products by department, the department with most of them first.
fn by_department(products: &[Item]) -> Vec<(&str, Vec<&Item>)> {
    let mut departments: BTreeMap<&str, Vec<&Item>> = BTreeMap::new();
    for product in products {
        departments.entry(product.department()).or_default().push(product);
    }
    let mut departments: Vec<_> = departments.into_iter().collect();
    departments.sort_by_key(|(_, products)| std::cmp::Reverse(products.len()));
    departments
}

/// Sends one event of `user` for each product.
async fn acts(penstock: &Penstock, user: &str, kind: &str, products: &[&Item]) {
    let events: Vec<_> = products
        .iter()
        .map(|product| {
            json!({"user_id": user, "product_id": product.product_id, "event_type": kind})
        })
        .collect();
    penstock.post("/events", &json!(events)).await.expect(202);
}

#[tokio::test]
async fn an_unknown_user_gets_what_is_popular() {
    let penstock = Penstock::demo().await;
    let popular = penstock.items("/popular?k=100").await;
    let cold = penstock.items("/recommend/never-seen").await;
    let other = penstock.items("/recommend/never-seen-either").await;
    assert_eq!(ids(&cold), ids(&other));
    // The order is the ranking formula's: with nothing but popularity in it, that of /popular.
    let penstock = Penstock::over(Shop::demo())
        .policy("ranking.toml", "[weights]\nsearch = 0\ncf = 0\nfreshness = 0\n")
        .start()
        .await;
    let cold = penstock.items("/recommend/never-seen").await;
    assert_eq!(ids(&cold), ids(&popular)[..10]);
}

#[tokio::test]
async fn an_unknown_category_is_an_empty_answer() {
    let penstock = Penstock::demo().await;
    for path in ["/recommend/u?", "/popular?", "/search?q=a&"] {
        let items = penstock.items(&format!("{path}category=no%20such%20place")).await;
        assert!(items.is_empty(), "{path}: {items:?}");
    }
}

#[tokio::test]
async fn what_a_new_user_does_counts_on_the_next_request() {
    let penstock = Penstock::demo().await;
    let products = popular(&penstock).await;
    for (department, liked) in by_department(&products).iter().take(3) {
        let user = urlencode(&format!("new to {department}"));
        let share = |items: &[Item]| {
            let inside = items.iter().filter(|item| item.department() == *department);
            inside.count()
        };
        let url = format!("/recommend/{user}?{FIELDS}");
        let before = share(&penstock.items(&url).await);
        let user = format!("new to {department}");
        acts(&penstock, &user, "purchase", &liked[..liked.len().min(6)]).await;
        let items = penstock.items(&url).await;
        assert_ranked(&items);
        let after = share(&items);
        assert!(after >= 5 && after > before, "{department}: {before} → {after}");
    }
}

#[tokio::test]
async fn two_tastes_get_two_answers() {
    let penstock = Penstock::demo().await;
    let products = popular(&penstock).await;
    let departments = by_department(&products);
    let mut answers = Vec::new();
    for (user, (_, liked)) in ["ann", "bob"].iter().zip(&departments) {
        acts(&penstock, user, "add_to_cart", &liked[..liked.len().min(5)]).await;
        answers.push(penstock.items(&format!("/recommend/{user}?{FIELDS}")).await);
    }
    assert_ne!(ids(&answers[0]), ids(&answers[1]));
    for (items, (department, _)) in answers.iter().zip(&departments) {
        let own = items.iter().filter(|item| item.department() == *department);
        assert!(own.count() >= 5, "{department}: {items:#?}");
    }
}

#[tokio::test]
async fn recommendations_obey_a_category() {
    let penstock = Penstock::demo().await;
    let products = popular(&penstock).await;
    let departments = by_department(&products);
    let (liked, (asked, _)) = (&departments[0].1, &departments[1]);
    acts(&penstock, "carol", "view", &liked[..3]).await;
    let url = format!("/recommend/carol?category={}&{FIELDS}", urlencode(asked));
    let items = penstock.items(&url).await;
    assert_eq!(items.len(), 10);
    assert!(items.iter().all(|item| item.department() == *asked), "{items:#?}");
}
