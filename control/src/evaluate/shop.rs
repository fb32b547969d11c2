//! A catalogue in a temporary data folder, imported and indexed as a real one is.

use anyhow::Context;
use penstock_config::clock;
use penstock_config::policy::Policy;
use penstock_engine::catalog::Ordinal;
use penstock_engine::catalog::import::{
    self, Entity, EventRules, Mapping, MaxErrors, Plan, Source,
};
use penstock_engine::model::manifest::Part;
use penstock_engine::model::versions::Version;
use penstock_engine::retrieve::keyword::KeywordIndex;
use penstock_engine::retrieve::semantic::SemanticIndex;
use penstock_engine::serve::{Engine, Options};
use penstock_engine::store::{Bulk, SqliteStore};
use penstock_engine::train::index::{self, BuildOptions, Model, Progress};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A catalogue ready to be indexed; its folder goes when it is dropped.
pub struct Shop {
    folder: tempfile::TempDir,
    store: SqliteStore,
    ids: HashMap<Ordinal, String>,
    ordinals: HashMap<String, Ordinal>,
}

impl Shop {
    /// Imports the files into a new temporary data folder.
    pub fn import(
        products: Vec<PathBuf>,
        events: Vec<PathBuf>,
        progress: &dyn Fn(import::Progress<'_>),
    ) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("penstock-evaluate-").tempdir()?;
        let store = SqliteStore::in_folder(folder.path(), clock::system())?;
        let source = |entity| move |path| Source { path, entity, format: None };
        let products = products.into_iter().map(source(Entity::Products));
        let events = events.into_iter().map(source(Entity::Events));
        let plan = Plan {
            sources: products.chain(events).collect(),
            layout: None,
            mapping: Mapping::default(),
            events: EventRules::default(),
            max_errors: MaxErrors::default(),
            refuse_all_bad: false,
            now_micros: clock::unix_micros(),
            scratch: folder.path().to_owned(),
        };
        import::run(&store, plan, progress)?;
        let mut ids = HashMap::new();
        store.scan_products(&mut |stored| {
            ids.insert(stored.ordinal, stored.product.id);
        })?;
        let ordinals = ids.iter().map(|(ordinal, id)| (id.clone(), *ordinal)).collect();
        Ok(Self { folder, store, ids, ordinals })
    }

    /// How many products there are.
    pub fn products(&self) -> usize {
        self.ids.len()
    }

    /// The shop's id of a product.
    pub fn id(&self, ordinal: Ordinal) -> &str {
        self.ids.get(&ordinal).map_or("", String::as_str)
    }

    /// The store's number of a product, if the catalogue has it.
    pub fn ordinal(&self, id: &str) -> Option<Ordinal> {
        self.ordinals.get(id).copied()
    }

    /// Builds an index version with this model and opens its retrievers. The time is that of the
    /// whole build: words, embeddings, vectors.
    pub fn index(&self, model: Model, progress: Progress<'_>) -> anyhow::Result<Indexed> {
        let mut options = BuildOptions::new(self.folder.path());
        options.model = model.clone();
        let started = clock::now();
        let built = index::build(&self.store, &options, progress)?;
        let took = clock::now().saturating_duration_since(started);
        let keyword = built.version.verify(Part::Keyword)?;
        let folder = match &model {
            Model::Learnt => None,
            Model::Folder(folder) => Some(folder.clone()),
        };
        Ok(Indexed {
            keyword: Arc::new(KeywordIndex::open(&keyword)?),
            semantic: Arc::new(semantic(&built.version, folder.as_deref())?),
            took,
            model: folder,
        })
    }

    /// Opens an engine on the index that was built last, cold.
    pub fn engine(&self, indexed: &Indexed, policy: Arc<Policy>) -> anyhow::Result<Arc<Engine>> {
        let options = Options {
            data_dir: self.folder.path().to_owned(),
            embedding_model: indexed.model.clone(),
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            clock: clock::system(),
            caches: None,
        };
        let engine = Engine::open(options, policy)?;
        let notes = engine.status().notes;
        anyhow::ensure!(notes.is_empty(), "the engine is not whole: {}", notes.join("; "));
        Ok(engine)
    }
}

/// An index version, opened.
pub struct Indexed {
    /// Words.
    pub keyword: Arc<KeywordIndex>,
    /// Meaning.
    pub semantic: Arc<SemanticIndex>,
    /// How long the build took.
    pub took: Duration,
    model: Option<PathBuf>,
}

fn semantic(version: &Version, model: Option<&Path>) -> anyhow::Result<SemanticIndex> {
    SemanticIndex::open(version, model)
        .context("the index that was just built has no semantic part")
}
