//! `query.toml`: how a query is read and how wide retrieval looks.

/// BM25 boosts per field of a product; each finite and at least 0, not all 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FieldBoosts {
    /// Product name.
    pub name: f32,
    /// Brand.
    pub brand: f32,
    /// Category path.
    pub category: f32,
    /// Description.
    pub description: f32,
}

/// Keyword retrieval.
#[derive(Debug, Clone, PartialEq)]
pub struct Keyword {
    /// Boosts per field.
    pub boosts: FieldBoosts,
    /// Candidates fetched, 1 to 10,000.
    pub candidates: usize,
}

/// Semantic retrieval.
#[derive(Debug, Clone, PartialEq)]
pub struct Semantic {
    /// Off: every search is `keyword_only` by choice of the operator.
    pub enabled: bool,
    /// Candidates fetched, 1 to 10,000.
    pub candidates: usize,
    /// Cosine similarity under which a product is no candidate, in [-1, 1].
    pub min_similarity: f32,
}

/// The validated content of `query.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Longest query accepted, in characters (Unicode scalar values) after trimming; longer is a 400.
    pub max_chars: usize,
    /// Terms of a query that are looked at; the rest are ignored.
    pub max_terms: usize,
    /// Keyword retrieval.
    pub keyword: Keyword,
    /// Semantic retrieval.
    pub semantic: Semantic,
}
