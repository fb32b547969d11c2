//! How much of the whole job an answer got, best first.

/// The mode an answer was made in; shown as `X-Penstock-Mode`. Ordered: a greater mode did less.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Everything that applies to the question took part.
    #[default]
    Full,
    /// Semantic retrieval was missing.
    KeywordOnly,
    /// Keyword retrieval was missing.
    SemanticOnly,
    /// The user's history could not be read.
    Unpersonalised,
    /// An older result was served.
    Stale,
    /// Only what is popular.
    Popular,
}

impl Mode {
    /// As in the header and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::KeywordOnly => "keyword_only",
            Self::SemanticOnly => "semantic_only",
            Self::Unpersonalised => "unpersonalised",
            Self::Stale => "stale",
            Self::Popular => "popular",
        }
    }
}
