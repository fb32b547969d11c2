//! What a user did with a product.

/// The kinds of event, weakest first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Looked at a product page.
    View,
    /// Put it into the cart.
    AddToCart,
    /// Bought it.
    Purchase,
}

impl EventKind {
    /// The name in files and in the HTTP contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::AddToCart => "add_to_cart",
            Self::Purchase => "purchase",
        }
    }

    /// From the name in files and in the HTTP contract.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "view" => Some(Self::View),
            "add_to_cart" => Some(Self::AddToCart),
            "purchase" => Some(Self::Purchase),
            _ => None,
        }
    }
}

/// One event. The same `event_id` counts once, however often it arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Unique; 1 to 128 bytes.
    pub event_id: String,
    /// Who; 1 to 256 bytes.
    pub user_id: String,
    /// Which product; need not be in the catalogue (yet).
    pub product_id: String,
    /// What happened.
    pub kind: EventKind,
    /// When: microseconds since 1970, UTC.
    pub at_micros: i64,
    /// Where it came from (`web`, `app`, `import`), may be empty.
    pub source: String,
}

/// An event as serving reads it back: whose it is is known from the question.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct UserEvent {
    /// Which product.
    pub product_id: String,
    /// What happened.
    pub kind: EventKind,
    /// When: microseconds since 1970, UTC.
    pub at_micros: i64,
}
