//! The engine: a snapshot, a pool of ranking threads, a store.

use super::keeper::{Keeper, Source as KeeperSource};
use super::pool::Pool;
use super::run::Run;
use super::snapshot::Snapshot;
use super::{Answer, Caches, EngineError, Overlay, ProductAsk, RecommendAsk, SearchAsk};
use crate::cache::{Change, Versions};
use crate::catalog::Event;
use crate::resilience::{AtMost, Breaker, Mode};
use crate::retrieve::Source;
use crate::store::{DataStore, DatabaseStatus, StoreError};
use arc_swap::ArcSwapOption;
use penstock_config::clock::SharedClock;
use penstock_config::policy::Policy;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a client waits for its events to be on disk before it is told to come back.
const APPEND: Duration = Duration::from_secs(5);

/// How an engine is opened.
#[derive(Clone)]
pub struct Options {
    /// Holds the store and the index versions.
    pub data_dir: PathBuf,
    /// The embedding model's folder; `None`: what the index says.
    pub embedding_model: Option<PathBuf>,
    /// Ranking threads, at least 1.
    pub workers: usize,
    /// The time.
    pub clock: SharedClock,
    /// What is remembered; `None`: everything is computed.
    pub caches: Option<Arc<Caches>>,
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
    /// What changed since it was built and is known all the same.
    pub overlay: Overlay,
    /// The best mode a search can have now.
    pub mode: Mode,
    /// Ranking work that waits for a thread.
    pub waiting: usize,
}

/// What answers are made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// As keys of caches begin.
    pub versions: Versions,
    /// The catalogue's revision.
    pub revision: u64,
    /// The best mode a search can have.
    pub best: Mode,
    /// The index version; empty: none.
    pub index: String,
}

/// Answers questions. Cheap to share; every method may be called from any thread.
pub struct Engine {
    clock: SharedClock,
    store: Arc<dyn DataStore>,
    pool: Pool,
    snapshot: Arc<ArcSwapOption<Snapshot>>,
    keeper: Keeper,
    caches: Option<Arc<Caches>>,
    /// The store, as keys of caches name it.
    store_tag: String,
    store_breaker: Arc<Breaker>,
}

/// Letters of the store's identity in keys.
const STORE_TAG: usize = 8;

impl Engine {
    /// Opens the store in `options.data_dir` (made if absent), loads the catalogue and the current
    /// index version, and starts the ranking threads. A missing or corrupt index is no error: it is
    /// noted in [`Engine::status`] and the mode says so. From then on new index versions, changed
    /// products and events are picked up while serving.
    pub fn open(options: Options, policy: Arc<Policy>) -> Result<Arc<Self>, EngineError> {
        let store =
            crate::store::sqlite::SqliteStore::in_folder(&options.data_dir, options.clock.clone())?;
        Self::with_store(options, Arc::new(store), policy)
    }

    /// As [`Engine::open`], over a store that is open already.
    pub fn with_store(
        options: Options,
        store: Arc<dyn DataStore>,
        policy: Arc<Policy>,
    ) -> Result<Arc<Self>, EngineError> {
        let failed = |what: &str, error: std::io::Error| {
            EngineError::Store(StoreError::Unavailable(format!("{what}: {error}")))
        };
        let pool = Pool::new(options.workers).map_err(|error| failed("ranking threads", error))?;
        let snapshot = Arc::new(ArcSwapOption::empty());
        let source = KeeperSource {
            store: store.clone(),
            data_dir: options.data_dir,
            embedding_model: options.embedding_model,
            clock: options.clock.clone(),
            caches: options.caches.clone(),
        };
        let mut store_tag = store.store_id()?;
        store_tag.truncate(STORE_TAG);
        let caches = options.caches;
        store.policy_changed(&policy);
        if let Some(caches) = caches.clone() {
            store.on_users(Arc::new(move |changed| caches.users_changed(changed)));
        }
        let keeper = Keeper::start(source, snapshot.clone(), policy)
            .map_err(|error| failed("the keeper's thread", error))?;
        let store_breaker = Arc::new(Breaker::new("store", options.clock.now()));
        let (breaker, clock) = (store_breaker.clone(), options.clock.clone());
        store.on_recovered(Arc::new(move || breaker.try_soon(clock.now())));
        Ok(Arc::new(Self {
            clock: options.clock,
            store,
            pool,
            snapshot,
            keeper,
            caches,
            store_tag,
            store_breaker,
        }))
    }

    /// Called after every accepted policy, so that features follow its half-lives and weights.
    pub fn policy_changed(&self, policy: Arc<Policy>) {
        if let Some(caches) = &self.caches {
            caches.remember_weights(&policy);
        }
        self.store.policy_changed(&policy);
        self.keeper.policy_changed(policy);
    }

    /// `GET /search`.
    pub async fn search(&self, policy: Arc<Policy>, ask: SearchAsk) -> Result<Answer, EngineError> {
        super::search::search(Run::start(self, policy, &ask.most)?.anew_if(ask.anew), ask).await
    }

    /// `GET /search/explain`: the whole decision about one product, as JSON. Costs a search.
    pub async fn explain(
        &self,
        policy: Arc<Policy>,
        ask: SearchAsk,
        product_id: String,
    ) -> Result<serde_json::Value, EngineError> {
        super::explain::explain(Run::start(self, policy, &ask.most)?, ask, product_id).await
    }

    /// `GET /recommend/{user_id}`.
    pub async fn recommend(
        &self,
        policy: Arc<Policy>,
        ask: RecommendAsk,
    ) -> Result<Answer, EngineError> {
        super::recommend::recommend(Run::start(self, policy, &ask.most)?.anew_if(ask.anew), ask)
            .await
    }

    /// `GET /similar/{product_id}`.
    pub async fn similar(
        &self,
        policy: Arc<Policy>,
        ask: ProductAsk,
    ) -> Result<Answer, EngineError> {
        super::recommend::similar(Run::start(self, policy, &ask.most)?.anew_if(ask.anew), ask).await
    }

    /// `GET /popular`.
    pub async fn popular(
        &self,
        policy: Arc<Policy>,
        ask: ProductAsk,
    ) -> Result<Answer, EngineError> {
        super::recommend::popular(Run::start(self, policy, &ask.most)?.anew_if(ask.anew), ask).await
    }

    /// `GET /products/{product_id}`: `product_id` and every field, `null` where the shop did not say.
    pub async fn product(
        &self,
        policy: Arc<Policy>,
        product_id: String,
    ) -> Result<serde_json::Value, EngineError> {
        super::items::product(Run::start(self, policy, &AtMost::default())?, product_id).await
    }

    /// `POST /events`: on disk when this returns. `true` where the event is new.
    pub async fn record(&self, events: Vec<Event>) -> Result<Vec<bool>, EngineError> {
        let mut users: Vec<String> = events.iter().map(|event| event.user_id.clone()).collect();
        users.sort_unstable();
        users.dedup();
        let stored = self.append(events).await;
        // After they are stored, or a request could remember the history without them; also where storing failed or
        // took too long, because it may have happened all the same.
        let change = Change::users(users);
        // Where others do not see them before they are shipped, they are told once more then (`Bulk::on_users`).
        if let Some(caches) = &self.caches {
            caches.tell(change);
        }
        stored
    }

    async fn append(&self, events: Vec<Event>) -> Result<Vec<bool>, EngineError> {
        match tokio::time::timeout(APPEND, self.store.append_events(events)).await {
            Ok(stored) => Ok(stored?),
            Err(_) => Err(StoreError::Unavailable(format!("no answer within {APPEND:?}")).into()),
        }
    }

    /// What answers are made with, for keys of caches: the store, the index, the best mode there can be. `None`:
    /// nothing is loaded.
    pub fn versions(&self, policy: &Policy) -> Option<Made> {
        let snapshot = self.snapshot.load();
        let snapshot = snapshot.as_ref()?;
        let best = snapshot.mode(policy.query.semantic.enabled);
        let versions = Versions::of([
            ('s', self.store_tag.as_str()),
            ('i', snapshot.index.version.as_str()),
            ('m', best.name()),
            ('p', policy.version.as_str()),
        ]);
        let revision = snapshot.catalog.revision();
        Some(Made { versions, revision, best, index: snapshot.index.version.clone() })
    }

    /// What a search is asked, as far as it matters: the normalised query, or, where the text is a product's id,
    /// the text.
    pub fn canonical(&self, q: &str) -> String {
        let snapshot = self.snapshot.load();
        let is_id = snapshot.as_ref().is_some_and(|s| s.catalog.ordinal(q.trim()).is_some());
        if is_id { q.trim().to_owned() } else { crate::query::normalise(q) }
    }

    /// Whether who asks makes a difference to a search.
    pub fn search_is_personal(&self) -> bool {
        let snapshot = self.snapshot.load();
        let reads_text = |source| matches!(source, Source::Keyword | Source::Semantic);
        snapshot.as_ref().is_some_and(|snapshot| {
            let mut retrievers = snapshot.retrievers();
            retrievers.any(|r| {
                r.personal() && (reads_text(r.source()) || r.source() == Source::Collaborative)
            })
        })
    }

    /// Whether a user did anything: recommendations to all who did not are the same. Where that cannot be told in
    /// time it is assumed.
    pub async fn knows_user(&self, policy: Arc<Policy>, user_id: &str) -> bool {
        let Ok(run) = Run::start(self, policy, &AtMost::default()) else {
            return true;
        };
        let read = run.read_history(user_id, super::run::HISTORY).await;
        !read.is_ok_and(|events| events.is_empty())
    }

    /// As [`Engine::knows_user`], without asking anybody: whether it is remembered here.
    pub fn remembers_user(&self, policy: Arc<Policy>, user_id: &str) -> bool {
        Run::start(self, policy, &AtMost::default()).is_ok_and(|run| {
            run.remembered_history(user_id).is_some_and(|events| !events.is_empty())
        })
    }

    /// Whether all instances of a fleet work on the same events: what was made from a history here is good there.
    pub fn shares_histories(&self) -> bool {
        self.store.is_shared()
    }

    /// Categories with products, those with most first, by their paths.
    pub fn largest_categories(&self, most: usize) -> Vec<String> {
        let snapshot = self.snapshot.load();
        snapshot.as_ref().map_or_else(Vec::new, |s| s.catalog.categories().largest(most))
    }

    /// In front of what requests read from the store; to be forced or looked at.
    pub fn store_breaker(&self) -> &Breaker {
        &self.store_breaker
    }

    /// The servers of the database; `None`: the store is a file.
    pub fn database(&self) -> Option<DatabaseStatus> {
        self.store.database()
    }

    /// The breakers in front of the database's servers; none: the store is a file.
    pub fn database_breakers(&self) -> Vec<&Breaker> {
        self.store.breakers()
    }

    /// What is running.
    pub fn status(&self) -> Status {
        let snapshot = self.snapshot.load_full();
        let semantic = self.keeper.policy().query.semantic.enabled;
        let mut notes = self.keeper.notes();
        notes.extend(snapshot.iter().flat_map(|snapshot| snapshot.index.notes.clone()));
        Status {
            ready: snapshot.is_some(),
            notes,
            products: snapshot.as_ref().map_or(0, |s| s.catalog.len()),
            catalog_revision: snapshot.as_ref().map_or(0, |s| s.catalog.revision()),
            index_version: snapshot.as_ref().map_or_else(String::new, |s| s.index.version.clone()),
            overlay: snapshot.as_ref().map_or_else(Overlay::default, |s| s.index.overlay),
            mode: snapshot.as_ref().map_or(Mode::Popular, |s| s.mode(semantic)),
            waiting: self.pool.waiting(),
        }
    }

    /// Ranking work that waits for a thread.
    pub fn waiting(&self) -> usize {
        self.pool.waiting()
    }

    /// Whether a product of the catalogue is in this category (a path or one part of it): policy
    /// files may name categories that no product has, which is worth a warning.
    pub fn knows_category(&self, category: &str) -> bool {
        let snapshot = self.snapshot.load();
        snapshot.as_ref().is_some_and(|s| !s.catalog.categories().find(category).is_empty())
    }

    pub(super) fn snapshot(&self) -> Result<Arc<Snapshot>, EngineError> {
        self.snapshot
            .load_full()
            .ok_or_else(|| EngineError::NotReady(self.keeper.notes().join("; ")))
    }

    /// Serves with these retrievers until the keeper finds something newer.
    #[cfg(test)]
    pub(super) fn publish_index(&self, index: super::snapshot::Index) {
        let old = self.snapshot.load_full().expect("a snapshot");
        let new = Snapshot::new(old.catalog.clone(), old.popularity.clone(), index);
        self.snapshot.store(Some(Arc::new(new)));
    }

    pub(super) fn caches(&self) -> Option<&Caches> {
        self.caches.as_deref()
    }

    pub(super) fn store_tag(&self) -> &str {
        &self.store_tag
    }

    pub(super) fn clock(&self) -> &SharedClock {
        &self.clock
    }

    pub(super) fn store(&self) -> &dyn DataStore {
        &*self.store
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }
}
