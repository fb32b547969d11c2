//! Building an index version: keyword index, product vectors and the embedding that made them.
//!
//! The catalogue is streamed, never held: once to learn an embedding (when none is given), once to
//! index and embed. What is held are the vectors and the non-zeros of the word matrix. Nothing is
//! visible before the last step, see [`versions`].

mod content;
mod model;

use crate::catalog::Product;
use crate::model::embedding::{self, EmbedError, Embedder, product_text};
use crate::model::manifest::{FORMAT, Manifest, Part};
use crate::model::texts::Texts;
use crate::model::versions::{self, Building, Version, VersionError};
use crate::retrieve::keyword::KeywordError;
use crate::retrieve::vectors::VectorError;
use crate::store::{Bulk, ChangedProduct, StoreError, StoredProduct};
use crate::train::lsa::Learner;
use penstock_config::clock::SharedClock;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Products between two steps of the progress bar, and texts in memory at a time.
const BATCH: usize = 2_048;
/// Index versions that stay after a new one was published: two to roll back to.
const KEEP: usize = 3;

/// Where embeddings come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Model {
    /// Learnt from the catalogue, kept in the index version.
    Learnt,
    /// A model's folder, which stays where it is and must be there when serving.
    Folder(PathBuf),
}

/// What to build.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// The data folder: index versions go to `indexes` in it.
    pub data_dir: PathBuf,
    /// Where embeddings come from.
    pub model: Model,
    /// Dimensions of a learnt embedding, at least 1; small catalogues get fewer.
    pub dims: usize,
    /// Seed of what is random in learning.
    pub seed: u64,
    /// Threads, at least 1.
    pub threads: usize,
    /// The time.
    pub clock: SharedClock,
}

impl BuildOptions {
    /// A learnt embedding of 256 dimensions, on all cores.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            model: Model::Learnt,
            dims: 256,
            seed: 1,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            clock: penstock_config::clock::system(),
        }
    }

    /// As the manifest has it: what makes an index another index.
    fn recorded(&self) -> BTreeMap<String, String> {
        let mut options = BTreeMap::new();
        let mut set = |name: &str, value: String| options.insert(name.to_owned(), value);
        match &self.model {
            Model::Learnt => {
                set("embedding", "learnt".into());
                set("dims", self.dims.to_string());
                set("seed", self.seed.to_string());
            }
            Model::Folder(folder) => {
                set("embedding", model::absolute(folder).display().to_string());
            }
        }
        options
    }
}

/// The steps of a build, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Reading the words of all products (learnt embeddings only).
    Read,
    /// Learning word vectors from them (learnt embeddings only); in rounds.
    Learn,
    /// Indexing words and embedding products.
    Embed,
    /// Linking vectors into a graph (above a few thousand products).
    Link,
    /// Checksums, to disk, into force.
    Publish,
}

impl Stage {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Learn => "learn",
            Self::Embed => "embed",
            Self::Link => "index",
            Self::Publish => "publish",
        }
    }
}

/// Told `(stage, done, total)` from time to time, from any thread.
pub type Progress<'a> = &'a (dyn Fn(Stage, u64, u64) + Sync);

/// What was built.
#[derive(Debug, Clone)]
pub struct Built {
    /// The version, now in force.
    pub version: Version,
    /// Older versions that were removed.
    pub pruned: Vec<String>,
}

/// Why nothing was built. The previous version is in force.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The version cannot be written.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// The model cannot be used.
    #[error(transparent)]
    Embedding(#[from] EmbedError),
    /// The vectors cannot be indexed.
    #[error(transparent)]
    Vectors(#[from] VectorError),
    /// The keyword index cannot be written.
    #[error(transparent)]
    Keyword(#[from] KeywordError),
    /// A file cannot be written.
    #[error("{}: {why}", .path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// No threads to work with.
    #[error("threads: {0}")]
    Threads(String),
}

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> IndexError + '_ {
    |error| IndexError::Write { path: path.to_path_buf(), why: error.to_string() }
}

/// Products of an index version whose text may be another one by now: up to a share of all of them and up to this
/// many, searches scan what changed and are as good.
const MOST_CHANGED: usize = 5_000;
/// One in so many products.
const CHANGED_SHARE: u64 = 20;
/// Changes of any kind that are looked at one by one to see whether they are of text.
const MOST_READ: usize = 50_000;

/// The version in force, if building again would change little: same store, same options, same model, same program,
/// every file as the manifest has it, and the same products but for a few ([`MOST_CHANGED`], one in
/// [`CHANGED_SHARE`]), which whoever serves with it takes up by itself. Takes about a second per gigabyte.
pub fn up_to_date(store: &dyn Bulk, options: &BuildOptions) -> Result<Option<Version>, IndexError> {
    // What is damaged is not up to date; the build replaces it.
    let Ok(Some(version)) = versions::current(&options.data_dir) else {
        return Ok(None);
    };
    let manifest = &version.manifest;
    let same = manifest.store_id == store.store_id()?
        && few_changed(store, &version)?
        && manifest.code_version == env!("CARGO_PKG_VERSION")
        && manifest.options == options.recorded()
        && model::unchanged(manifest.embedding.as_ref())
        && manifest.parts.keys().all(|part| version.verify(*part).is_ok());
    Ok(same.then_some(version))
}

fn few_changed(store: &dyn Bulk, version: &Version) -> Result<bool, IndexError> {
    let manifest = &version.manifest;
    if manifest.catalog_revision == store.catalog_revision()? {
        return Ok(true);
    }
    let Some(changes) = store.changes_since(manifest.catalog_revision, MOST_READ)? else {
        return Ok(false);
    };
    let Some(texts) = Texts::read(&version.folder.join(Part::Keyword.name())) else {
        return Ok(changes.products.is_empty());
    };
    let other = |changed: &&ChangedProduct| {
        changed.product.as_ref().map(Product::text_hash) != texts.get(changed.ordinal)
    };
    let others = changes.products.iter().filter(other).count();
    Ok(others <= MOST_CHANGED && others as u64 * CHANGED_SHARE <= manifest.products)
}

/// Builds an index version from all products of `store` and puts it in force. On any failure, and
/// when the process dies, the previous version stays in force.
pub fn build(
    store: &dyn Bulk,
    options: &BuildOptions,
    progress: Progress,
) -> Result<Built, IndexError> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads.max(1))
        .build()
        .map_err(|error| IndexError::Threads(error.to_string()))?;
    // The catalogue may change while it is read: the revision is at most as new as what was read,
    // so a change is never missed by `up_to_date`.
    let (store_id, catalog_revision) = (store.store_id()?, store.catalog_revision()?);
    let total = store.counts()?.products;
    let building = Building::begin(&options.data_dir)?;

    let embedder = match &options.model {
        Model::Folder(folder) => Some(embedding::open(folder)?),
        Model::Learnt => learn(store, options, &building, &pool, total, progress)?,
    };
    let content = content::scan(store, embedder.as_deref(), &building, &pool, total, progress)?;
    let vectors = match &embedder {
        Some(embedder) if !content.vectors.ordinals.is_empty() => Some(content::write_vectors(
            content.vectors,
            embedder.dims(),
            options,
            &building,
            progress,
        )?),
        _ => None,
    };
    let manifest = Manifest {
        format: FORMAT,
        created_at: String::new(),
        code_version: env!("CARGO_PKG_VERSION").into(),
        store_id,
        catalog_revision,
        products: content.products,
        options: options.recorded(),
        embedding: match (&embedder, &vectors) {
            (Some(embedder), Some(_)) => Some(model::describe(embedder, &options.model)?),
            _ => None,
        },
        vectors,
        parts: BTreeMap::new(),
    };
    progress(Stage::Publish, 0, 1);
    let now = options.clock.unix_micros();
    let version = pool.install(|| building.publish(manifest, now))?;
    // The version is in force: an old one that cannot be removed is no failure of the build.
    let pruned = versions::prune(&options.data_dir, KEEP).unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot remove old index versions");
        Vec::new()
    });
    progress(Stage::Publish, 1, 1);
    Ok(Built { version, pruned })
}

/// Learns an embedding from all products into the version being built. `None`: nothing to learn
/// from.
fn learn(
    store: &dyn Bulk,
    options: &BuildOptions,
    building: &Building,
    pool: &rayon::ThreadPool,
    total: u64,
    progress: Progress,
) -> Result<Option<Arc<dyn Embedder>>, IndexError> {
    let mut learner = Learner::default();
    let mut done = 0;
    progress(Stage::Read, 0, total);
    in_batches(store, |batch| {
        let texts: Vec<String> = batch
            .iter()
            .map(|stored| product_text(&stored.product, embedding::Kind::Learnt))
            .collect();
        pool.install(|| learner.add(&texts));
        done += batch.len() as u64;
        progress(Stage::Read, done, total.max(done));
        Ok(())
    })?;
    if learner.products() == 0 {
        return Ok(None);
    }
    let folder = building.part(Part::Embedding)?;
    let rounds = |done, total| progress(Stage::Learn, done as u64, total as u64);
    let learnt = pool
        .install(|| learner.learn(&folder, options.dims, options.seed, &rounds))
        .map_err(write_error(&folder))?;
    if learnt {
        Ok(Some(embedding::open(&folder)?))
    } else {
        fs::remove_dir(&folder).map_err(write_error(&folder))?;
        Ok(None)
    }
}

/// Streams all products in batches; the first failure ends it.
fn in_batches(
    store: &dyn Bulk,
    mut each: impl FnMut(&[StoredProduct]) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    let mut batch = Vec::with_capacity(BATCH);
    let mut outcome = Ok(());
    store.scan_products(&mut |stored| {
        if outcome.is_ok() {
            batch.push(stored);
            if batch.len() == BATCH {
                outcome = each(&batch);
                batch.clear();
            }
        }
    })?;
    outcome?;
    if batch.is_empty() { Ok(()) } else { each(&batch) }
}

#[cfg(test)]
mod tests;
