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

/// The best mode an answer may have, and why no better one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AtMost {
    /// [`Mode::Full`]: all that is loaded may take part.
    pub mode: Mode,
    /// In words, for the trace; empty where the mode is full.
    pub why: String,
}

impl AtMost {
    /// Nothing better than `mode`, because of `why`.
    pub fn new(mode: Mode, why: impl Into<String>) -> Self {
        Self { mode, why: why.into() }
    }

    /// What `mode` leaves out is left out.
    pub fn leaves_out(&self, mode: Mode) -> bool {
        self.mode >= mode
    }
}
