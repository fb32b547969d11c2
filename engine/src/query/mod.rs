//! What is asked: the normalised query and the filters.

mod normalise;

pub use normalise::{fold, normalise};

/// Limits on what may be recommended or found. Text is compared without case.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize)]
pub struct Filter {
    /// A category path or one part of it; products below it count.
    pub category: Option<String>,
    /// Exact brand, without case.
    pub brand: Option<String>,
    /// At least this price; products without a price do not match.
    pub min_price: Option<f64>,
    /// At most this price; products without a price do not match.
    pub max_price: Option<f64>,
}

impl Filter {
    /// Nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Prices decide what passes.
    pub fn limits_price(&self) -> bool {
        self.min_price.is_some() || self.max_price.is_some()
    }

    /// The same text for filters that limit the same, for keys of caches.
    pub fn canonical(&self) -> String {
        let text = |text: &Option<String>| text.as_deref().map(|text| text.trim().to_lowercase());
        let Self { category, brand, min_price, max_price } = self;
        format!("{:?} {:?} {min_price:?} {max_price:?}", text(category), text(brand))
    }
}
