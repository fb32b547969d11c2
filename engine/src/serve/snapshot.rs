//! What a request sees: one immutable set of catalogue, features and retrievers.

use super::overlay::Overlay;
use crate::catalog::{Catalog, Ordinal};
use crate::features::Popularity;
use crate::model::texts::Texts;
use crate::resilience::Mode;
use crate::retrieve::{Popular, Retriever, Source};
use std::sync::Arc;

/// The retrievers of one index version, and what is wrong with it.
#[derive(Clone, Default)]
pub struct Index {
    /// The version's name; empty when there is none.
    pub version: String,
    /// Keyword and semantic, as far as they could be loaded.
    pub retrievers: Vec<Arc<dyn Retriever>>,
    /// What could not be loaded and why, for operators.
    pub notes: Vec<String>,
    /// The catalogue's revision it was built from.
    pub revision: u64,
    /// The texts it was built from; `None`: it is of an older program.
    pub texts: Option<Arc<Texts>>,
    /// What changed since and is known all the same.
    pub overlay: Overlay,
}

impl Index {
    /// Whether it can answer from this source.
    pub fn has(&self, source: Source) -> bool {
        self.retrievers.iter().any(|retriever| retriever.source() == source)
    }
}

/// A request loads it once and carries it to its end.
pub struct Snapshot {
    /// Products.
    pub catalog: Arc<Catalog>,
    /// Popularity of each.
    pub popularity: Arc<Popularity>,
    /// The index version in force.
    pub index: Index,
    /// What is popular, in order.
    pub popular: Arc<Popular>,
    popular_retriever: Arc<dyn Retriever>,
}

impl Snapshot {
    /// Joins the parts; sorts the catalogue by popularity.
    pub fn new(catalog: Arc<Catalog>, popularity: Arc<Popularity>, index: Index) -> Self {
        let popular = Popular::new(catalog.clone(), popularity.clone());
        Self::of(catalog, popularity, Arc::new(popular), index)
    }

    /// As [`Snapshot::new`], where these products are all that is different from the catalogue and the popularity
    /// of `self`, which are in order.
    pub fn after(
        &self,
        catalog: Arc<Catalog>,
        popularity: Arc<Popularity>,
        changed: &[Ordinal],
        index: Index,
    ) -> Self {
        let popular = if changed.is_empty() {
            self.popular.clone()
        } else {
            Arc::new(self.popular.after(catalog.clone(), popularity.clone(), changed))
        };
        Self::of(catalog, popularity, popular, index)
    }

    fn of(
        catalog: Arc<Catalog>,
        popularity: Arc<Popularity>,
        popular: Arc<Popular>,
        index: Index,
    ) -> Self {
        let popular_retriever = popular.clone();
        Self { catalog, popularity, index, popular, popular_retriever }
    }

    /// Every retriever.
    pub fn retrievers(&self) -> impl Iterator<Item = &Arc<dyn Retriever>> {
        self.index.retrievers.iter().chain([&self.popular_retriever])
    }

    /// The retriever of this kind, if it is loaded.
    pub fn retriever(&self, source: Source) -> Option<&Arc<dyn Retriever>> {
        self.retrievers().find(|retriever| retriever.source() == source)
    }

    /// The best mode a search can have, by what is loaded.
    pub fn mode(&self, semantic_enabled: bool) -> Mode {
        let keyword = self.retriever(Source::Keyword).is_some();
        let semantic = semantic_enabled && self.retriever(Source::Semantic).is_some();
        match (keyword, semantic) {
            (true, true) => Mode::Full,
            (true, false) => Mode::KeywordOnly,
            (false, true) => Mode::SemanticOnly,
            (false, false) => Mode::Popular,
        }
    }
}
