//! The questions, already checked for form by whoever took them in.

use crate::query::Filter;
use crate::resilience::AtMost;

/// A product field that an answer may carry beside id, score and reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// `name`
    Name,
    /// `description`
    Description,
    /// `category`
    Category,
    /// `brand`
    Brand,
    /// `price`
    Price,
    /// `created_at`
    CreatedAt,
}

impl Field {
    /// All of them, in the order they are written.
    pub const ALL: [Self; 6] =
        [Self::Name, Self::Description, Self::Category, Self::Brand, Self::Price, Self::CreatedAt];

    /// As in `fields=` and in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Description => "description",
            Self::Category => "category",
            Self::Brand => "brand",
            Self::Price => "price",
            Self::CreatedAt => "created_at",
        }
    }

    /// From `fields=`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.name() == name)
    }
}

/// `GET /search`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SearchAsk {
    /// As the client wrote it, percent-decoded.
    pub q: String,
    /// Who asks, if known.
    pub user_id: Option<String>,
    /// Results wanted, 1 to 100.
    pub k: usize,
    /// Limits on results.
    pub filter: Filter,
    /// Fields to add to each item.
    pub fields: Vec<Field>,
    /// The best mode wanted.
    pub most: AtMost,
    /// Nothing that is remembered is to be used.
    pub anew: bool,
}

/// `GET /recommend/{user_id}`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RecommendAsk {
    /// For whom; need not be known. Empty: for nobody in particular, and nobody's history is read.
    pub user_id: String,
    /// Results wanted, 1 to 100.
    pub k: usize,
    /// Limits on results.
    pub filter: Filter,
    /// Fields to add to each item.
    pub fields: Vec<Field>,
    /// The best mode wanted.
    pub most: AtMost,
    /// Nothing that is remembered is to be used.
    pub anew: bool,
}

/// `GET /similar/{product_id}` and, without a product, `GET /popular`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ProductAsk {
    /// Similar to what; `None`: popular products.
    pub product_id: Option<String>,
    /// Results wanted, 1 to 100.
    pub k: usize,
    /// Limits on results.
    pub filter: Filter,
    /// Fields to add to each item.
    pub fields: Vec<Field>,
    /// The best mode wanted.
    pub most: AtMost,
    /// Nothing that is remembered is to be used.
    pub anew: bool,
}
