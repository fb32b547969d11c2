//! The engine: a snapshot, a pool of ranking threads, a store.

use super::{Answer, EngineError, ProductAsk, RecommendAsk, SearchAsk};
use crate::catalog::{Event, Product};
use penstock_config::clock::SharedClock;
use penstock_config::policy::Policy;
use std::path::PathBuf;
use std::sync::Arc;

/// How an engine is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Holds the store and the index versions.
    pub data_dir: PathBuf,
    /// The embedding model's folder; `None`: what the index says.
    pub embedding_model: Option<PathBuf>,
    /// Ranking threads, at least 1.
    pub workers: usize,
    /// The time.
    pub clock: SharedClock,
}

/// What an engine is running, for the status page.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Status {
    /// A catalogue is loaded; questions get answers.
    pub ready: bool,
    /// Why not, or what is missing (`semantic: checksum of vectors.faiss does not match`).
    pub notes: Vec<String>,
    /// Products in the snapshot.
    pub products: usize,
    /// Revision of the catalogue in the snapshot.
    pub catalog_revision: u64,
    /// Version of the index in force; empty when there is none.
    pub index_version: String,
    /// The best mode a search can have now.
    pub mode: crate::resilience::Mode,
}

/// Answers questions. Cheap to share; every method may be called from any thread.
pub struct Engine {
    options: Options,
}

impl Engine {
    /// Opens the store in `options.data_dir` (made if absent), loads the catalogue and the current
    /// index version, and starts the ranking threads. A missing or corrupt index is no error: it is
    /// noted in [`Engine::status`] and the mode says so.
    pub fn open(options: Options, _policy: Arc<Policy>) -> Result<Arc<Self>, EngineError> {
        Ok(Arc::new(Self { options }))
    }

    /// Called after every accepted policy, so that features follow its half-lives and weights.
    pub fn policy_changed(&self, _policy: Arc<Policy>) {}

    /// `GET /search`.
    pub async fn search(
        &self,
        _policy: Arc<Policy>,
        _ask: SearchAsk,
    ) -> Result<Answer, EngineError> {
        self.not_ready()
    }

    /// `GET /search/explain`: the whole decision about one product, as JSON. Costs a search.
    pub async fn explain(
        &self,
        _policy: Arc<Policy>,
        _ask: SearchAsk,
        _product_id: String,
    ) -> Result<serde_json::Value, EngineError> {
        self.not_ready()
    }

    /// `GET /recommend/{user_id}`.
    pub async fn recommend(
        &self,
        _policy: Arc<Policy>,
        _ask: RecommendAsk,
    ) -> Result<Answer, EngineError> {
        self.not_ready()
    }

    /// `GET /similar/{product_id}`.
    pub async fn similar(
        &self,
        _policy: Arc<Policy>,
        _ask: ProductAsk,
    ) -> Result<Answer, EngineError> {
        self.not_ready()
    }

    /// `GET /popular`.
    pub async fn popular(
        &self,
        _policy: Arc<Policy>,
        _ask: ProductAsk,
    ) -> Result<Answer, EngineError> {
        self.not_ready()
    }

    /// `GET /products/{product_id}`.
    pub async fn product(
        &self,
        _policy: Arc<Policy>,
        _product_id: String,
    ) -> Result<Product, EngineError> {
        self.not_ready()
    }

    /// `POST /events`: on disk when this returns. `true` where the event is new.
    pub async fn record(&self, _events: Vec<Event>) -> Result<Vec<bool>, EngineError> {
        self.not_ready()
    }

    /// What is running.
    pub fn status(&self) -> Status {
        Status {
            ready: false,
            notes: vec![format!(
                "nothing loaded from {}",
                self.options.data_dir.display()
            )],
            products: 0,
            catalog_revision: 0,
            index_version: String::new(),
            mode: crate::resilience::Mode::Popular,
        }
    }

    fn not_ready<T>(&self) -> Result<T, EngineError> {
        Err(EngineError::NotReady(
            self.options.data_dir.display().to_string(),
        ))
    }
}
