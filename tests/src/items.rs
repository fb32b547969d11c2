//! Ranked products as a client reads them, and what holds for every list of them.

use serde_json::{Map, Value};

/// One element of an answer.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
pub struct Item {
    /// The shop's id.
    pub product_id: String,
    /// Final score.
    pub score: f64,
    /// Why it is here.
    pub reason: String,
    /// Fields asked for with `fields=`.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

impl Item {
    /// A text field that was asked for.
    pub fn text(&self, field: &str) -> &str {
        self.fields
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("{field} of {self:?}"))
    }

    /// The price, which was asked for.
    pub fn price(&self) -> f64 {
        self.fields
            .get("price")
            .and_then(Value::as_f64)
            .unwrap_or_else(|| panic!("price of {self:?}"))
    }

    /// The first level of the category path, which was asked for.
    pub fn department(&self) -> &str {
        let category = self.text("category");
        category.split(" > ").next().unwrap_or(category)
    }
}

/// The ids, in order.
pub fn ids(items: &[Item]) -> Vec<&str> {
    items.iter().map(|item| item.product_id.as_str()).collect()
}

/// Fails the test unless `items` is what every list must be: best first, finite scores, no
/// product twice, a reason for each.
pub fn assert_ranked(items: &[Item]) {
    for pair in items.windows(2) {
        assert!(pair[0].score >= pair[1].score, "not sorted: {pair:?}");
    }
    let mut seen = std::collections::BTreeSet::new();
    for item in items {
        assert!(item.score.is_finite(), "{item:?}");
        assert!(!item.reason.trim().is_empty(), "no reason: {item:?}");
        assert!(seen.insert(&item.product_id), "twice: {item:?}");
    }
}

/// Percent-encodes a query value.
pub fn urlencode(value: &str) -> String {
    percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC).to_string()
}
