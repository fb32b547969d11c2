//! One product, as the shop describes it.

/// A product's number in the store: assigned when it is first imported, never used again for
/// another product. Indexes and features are addressed by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ordinal(pub u32);

impl Ordinal {
    /// As a position in a column.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A product. Empty text means that the shop did not say.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Product {
    /// The shop's own id, unique in the catalogue, 1 to 256 bytes.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// What it is.
    pub description: String,
    /// Category path, parts joined with ` > `; several paths joined with `|`.
    pub category: String,
    /// Who makes it.
    pub brand: String,
    /// In the shop's currency; at least 0.
    pub price: Option<f64>,
    /// When it was added to the catalogue: seconds since 1970, UTC.
    pub created_at: Option<i64>,
    /// The shop's own popularity figure, any scale, at least 0. Orders products nobody has
    /// interacted with yet.
    pub popularity: Option<f64>,
}
