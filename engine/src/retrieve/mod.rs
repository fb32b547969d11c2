//! Retrieval: which products might answer. Candidates only; the order is made by [`crate::rank`].

pub mod exact;
pub mod faiss;
pub mod keyword;
mod popular;
pub mod semantic;
pub mod vectors;

pub use popular::Popular;

use crate::catalog::{Catalog, Ordinal, UserEvent};
use crate::features::{Affinity, Taste};
use crate::store::ChangedProduct;
use penstock_config::policy::Policy;
use std::sync::Arc;

/// Where a candidate came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// BM25 over the text fields.
    Keyword,
    /// Nearest embeddings.
    Semantic,
    /// Collaborative filtering.
    Collaborative,
    /// Popular in a category, or everywhere.
    Popular,
}

impl Source {
    /// As it is written in metrics, logs and `explain`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keyword => "keyword",
            Self::Semantic => "semantic",
            Self::Collaborative => "collaborative",
            Self::Popular => "popular",
        }
    }
}

/// A product that might answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Which.
    pub ordinal: Ordinal,
    /// Comparable within its source: in [0, 1], 1 best.
    pub score: f32,
    /// What the source measured before scaling: BM25, cosine similarity, decayed event weight.
    pub raw: f32,
    /// Who found it.
    pub source: Source,
}

/// Why a retriever has nothing to say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetrieveError {
    /// The index is missing, corrupt or not loaded.
    #[error("{source_name}: {why}")]
    Unavailable {
        /// Which retriever.
        source_name: &'static str,
        /// What is wrong, in words for an operator.
        why: String,
    },
    /// The deadline passed.
    #[error("{0}: deadline passed")]
    Late(&'static str),
}

/// What retrievers are asked. Owned by the request, shared by the retrievers that run in parallel.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The policy the request runs under: boosts, how many candidates, thresholds.
    pub policy: Arc<Policy>,
    /// The normalised query; empty for recommendations.
    pub text: String,
    /// The user's latest events, newest first; empty when unknown or anonymous.
    pub history: Vec<UserEvent>,
    /// What the user cared for in the long run; empty when unknown.
    pub long_term: Affinity,
    /// The product to which others shall be similar.
    pub like: Option<Ordinal>,
    /// What may be returned: one bit per ordinal is tested. `None`: everything.
    pub allowed: Option<Arc<Allowed>>,
    /// Results the client wants. A retriever fetches the larger of this and its own figure in the
    /// policy.
    pub k: usize,
}

impl Ask {
    /// What the user cares for: of late, with the long run behind it.
    pub fn taste(&self, catalog: &Catalog) -> Taste {
        Taste::of(&self.history, catalog, &self.policy.ranking).behind(&self.long_term, catalog)
    }
}

/// A set of products: those that pass a filter, those that changed.
#[derive(Debug, Clone, Default)]
pub struct Allowed {
    bits: Vec<u64>,
    count: usize,
}

impl Allowed {
    /// From the ordinals that pass.
    pub fn from_ordinals(ordinals: impl IntoIterator<Item = Ordinal>) -> Self {
        let mut allowed = Self::default();
        ordinals.into_iter().for_each(|ordinal| allowed.insert(ordinal));
        allowed
    }

    /// Takes one more in.
    pub fn insert(&mut self, ordinal: Ordinal) {
        let (word, bit) = (ordinal.index() / 64, ordinal.index() % 64);
        if word >= self.bits.len() {
            self.bits.resize(word + 1, 0);
        }
        self.count += usize::from(self.bits[word] & (1 << bit) == 0);
        self.bits[word] |= 1 << bit;
    }

    /// Whether `ordinal` passes.
    pub fn contains(&self, ordinal: Ordinal) -> bool {
        let (word, bit) = (ordinal.index() / 64, ordinal.index() % 64);
        self.bits.get(word).is_some_and(|w| w & (1 << bit) != 0)
    }

    /// How many pass.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Nothing passes.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The ordinals that pass, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Ordinal> + '_ {
        self.bits.iter().enumerate().flat_map(|(word, &bits)| {
            (0..64)
                .filter(move |bit| bits & (1 << bit) != 0)
                .map(move |bit| Ordinal((word * 64 + bit) as u32))
        })
    }
}

/// One way of finding candidates. Immutable once published; called from many threads at once.
pub trait Retriever: Send + Sync {
    /// Who it is.
    fn source(&self) -> Source;

    /// Whether it has anything to say to this question (keyword needs text, collaborative a history).
    fn applies(&self, ask: &Ask) -> bool;

    /// The best candidates, best first, ties by ordinal; scores in [0, 1]; no more than
    /// asked for, all of them in `ask.allowed`.
    fn retrieve(&self, ask: &Ask) -> Result<Vec<Candidate>, RetrieveError>;

    /// The score it gives to one product, for `explain`, even if the product is no candidate.
    /// `None` where it has no opinion.
    fn score(&self, ask: &Ask, ordinal: Ordinal) -> Option<Candidate>;

    /// The same for many products, in their order: fusion asks it for what other retrievers found.
    /// A retriever whose [`Retriever::score`] does work that does not depend on the product (such as
    /// embedding the query) overrides it.
    fn scores(&self, ask: &Ask, ordinals: &[Ordinal]) -> Vec<Option<Candidate>> {
        ordinals.iter().map(|ordinal| self.score(ask, *ordinal)).collect()
    }

    /// The same retriever after these products changed: each once, as it is now, later than all it knew. Works out
    /// what it needs here and not in a request. `None`: what it says of single products waits until it is built anew.
    fn after(
        &self,
        changed: &[ChangedProduct],
    ) -> Result<Option<Arc<dyn Retriever>>, RetrieveError> {
        let _ = changed;
        Ok(None)
    }

    /// Whether it reads `ask.history`; when no retriever does, the history is not fetched.
    fn personal(&self) -> bool {
        false
    }
}
