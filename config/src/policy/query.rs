//! `query.toml`: how a query is read and how wide retrieval looks.

use crate::read::Section;
use std::ops::RangeInclusive;

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

const BOOST: RangeInclusive<f64> = 0.0..=1_000.0;
const CANDIDATES: RangeInclusive<usize> = 1..=10_000;

pub(super) fn read(file: &Section<'_>) -> Query {
    Query {
        max_chars: file.count("max_chars", 1..=10_000),
        max_terms: file.count("max_terms", 1..=1_000),
        keyword: file.table("keyword", |section| Keyword {
            boosts: section.table("boosts", read_boosts),
            candidates: section.count("candidates", CANDIDATES),
        }),
        semantic: file.table("semantic", |section| Semantic {
            enabled: section.flag("enabled"),
            candidates: section.count("candidates", CANDIDATES),
            min_similarity: section.number("min_similarity", -1.0..=1.0) as f32,
        }),
    }
}

fn read_boosts(section: &Section<'_>) -> FieldBoosts {
    let boosts = FieldBoosts {
        name: section.number("name", BOOST) as f32,
        brand: section.number("brand", BOOST) as f32,
        category: section.number("category", BOOST) as f32,
        description: section.number("description", BOOST) as f32,
    };
    if boosts.name + boosts.brand + boosts.category + boosts.description <= 0.0 {
        section.problem("", "all boosts are 0, so no word would match", None);
    }
    boosts
}
