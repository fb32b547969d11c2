//! Building an index version: keyword index, product vectors and the embedding that made them.
//!
//! The catalogue is streamed, never held: once to learn an embedding (when none is given), once to
//! index and embed. What is held are the vectors and the non-zeros of the word matrix. Nothing is
//! visible before the last step, see [`versions`].

use crate::catalog::Ordinal;
use crate::model::embedding::{self, EmbedError, Embedder, product_text};
use crate::model::manifest::{
    Calibration, EmbeddingInfo, FORMAT, Manifest, ModelFile, Part, VectorLayout, VectorsInfo,
};
use crate::model::versions::{self, Building, Version, VersionError};
use crate::retrieve::exact::{self, Exact};
use crate::retrieve::faiss::Hnsw;
use crate::retrieve::keyword::{Builder, KeywordError};
use crate::retrieve::semantic;
use crate::retrieve::vectors::{VectorError, dot};
use crate::store::{Bulk, StoreError, StoredProduct};
use crate::train::lsa::Learner;
use penstock_config::clock::SharedClock;
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// Products between two steps of the progress bar, and texts in memory at a time.
const BATCH: usize = 2_048;
/// Texts that a model is given at once.
const TEXTS: usize = 32;
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
                set("embedding", absolute(folder).display().to_string());
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
    |error| IndexError::Write {
        path: path.to_path_buf(),
        why: error.to_string(),
    }
}

/// The version in force, if building again would change nothing: same store, same revision, same
/// options, same model, same program. Compares names, lengths and times only: milliseconds.
pub fn up_to_date(store: &dyn Bulk, options: &BuildOptions) -> Result<Option<Version>, IndexError> {
    // What is damaged is not up to date; the build replaces it.
    let Ok(Some(version)) = versions::current(&options.data_dir) else {
        return Ok(None);
    };
    let manifest = &version.manifest;
    let same = manifest.store_id == store.store_id()?
        && manifest.catalog_revision == store.catalog_revision()?
        && manifest.code_version == env!("CARGO_PKG_VERSION")
        && manifest.options == options.recorded()
        && same_model(manifest.embedding.as_ref())
        && manifest.parts.values().flatten().all(|file| {
            let metadata = fs::metadata(version.folder.join(&file.path));
            metadata.is_ok_and(|metadata| metadata.len() == file.bytes)
        });
    Ok(same.then_some(version))
}

fn same_model(info: Option<&EmbeddingInfo>) -> bool {
    match info {
        Some(EmbeddingInfo {
            path: Some(path),
            files,
            ..
        }) => model_files(path).is_ok_and(|found| found == *files),
        _ => true,
    }
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
    let content = scan(
        store,
        embedder.as_deref(),
        &building,
        &pool,
        total,
        progress,
    )?;
    let vectors = match &embedder {
        Some(embedder) if !content.vectors.ordinals.is_empty() => Some(write_vectors(
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
            (Some(embedder), Some(_)) => Some(describe(embedder, &options.model)?),
            _ => None,
        },
        vectors,
        parts: BTreeMap::new(),
    };
    progress(Stage::Publish, 0, 1);
    let now = options.clock.unix_micros();
    let version = pool.install(|| building.publish(manifest, now))?;
    let pruned = versions::prune(&options.data_dir, KEEP)?;
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

/// What the second pass found.
#[derive(Default)]
struct Content {
    products: u64,
    vectors: Distinct,
}

/// Vectors, each once, and whose they are.
#[derive(Default)]
struct Distinct {
    ordinals: Vec<u32>,
    positions: Vec<u32>,
    values: Vec<f32>,
    /// Position by hash.
    known: HashMap<u64, u32>,
}

impl Distinct {
    fn add(&mut self, ordinal: Ordinal, vector: &[f32]) {
        let mut hash = DefaultHasher::new();
        vector.iter().for_each(|x| hash.write_u32(x.to_bits()));
        let next = (self.values.len() / vector.len()) as u32;
        let mut position = *self.known.entry(hash.finish()).or_insert(next);
        let start = position as usize * vector.len();
        // Also when another vector has the same hash.
        if self.values.get(start..start + vector.len()) != Some(vector) {
            self.values.extend_from_slice(vector);
            position = next;
        }
        self.ordinals.push(ordinal.0);
        self.positions.push(position);
    }
}

fn scan(
    store: &dyn Bulk,
    embedder: Option<&dyn Embedder>,
    building: &Building,
    pool: &rayon::ThreadPool,
    total: u64,
    progress: Progress,
) -> Result<Content, IndexError> {
    let mut keyword = Builder::create(&building.part(Part::Keyword)?)?;
    let mut content = Content::default();
    progress(Stage::Embed, 0, total);
    in_batches(store, |batch| {
        for stored in batch {
            keyword.add(stored)?;
        }
        if let Some(embedder) = embedder {
            for (ordinal, vector) in pool.install(|| embed(batch, embedder))? {
                content.vectors.add(ordinal, &vector);
            }
        }
        content.products += batch.len() as u64;
        progress(Stage::Embed, content.products, total.max(content.products));
        Ok(())
    })?;
    keyword.finish()?;
    Ok(content)
}

/// Those products of the batch that have a vector, in order, with it.
fn embed(
    batch: &[StoredProduct],
    embedder: &dyn Embedder,
) -> Result<Vec<(Ordinal, Vec<f32>)>, EmbedError> {
    let embedded: Vec<_> = batch
        .par_chunks(TEXTS)
        .map(|some| {
            let texts: Vec<String> = some
                .iter()
                .map(|stored| product_text(&stored.product, embedder.kind()))
                .collect();
            embedder.embed(&texts.iter().map(String::as_str).collect::<Vec<_>>())
        })
        .collect::<Result<_, _>>()?;
    let ordinals = batch.iter().map(|stored| stored.ordinal);
    Ok(ordinals
        .zip(embedded.into_iter().flatten())
        .filter_map(|(ordinal, vector)| Some((ordinal, vector?)))
        .collect())
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
    if batch.is_empty() {
        Ok(())
    } else {
        each(&batch)
    }
}

fn write_vectors(
    vectors: Distinct,
    dims: usize,
    options: &BuildOptions,
    building: &Building,
    progress: Progress,
) -> Result<VectorsInfo, IndexError> {
    let folder = building.part(Part::Vectors)?;
    let Distinct {
        ordinals,
        positions,
        values,
        ..
    } = vectors;
    let distinct = values.len() / dims;
    for (name, numbers) in [
        (semantic::ORDINALS, &ordinals),
        (semantic::POSITIONS, &positions),
    ] {
        let path = folder.join(name);
        let bytes: Vec<u8> = numbers
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        fs::write(&path, bytes).map_err(write_error(&path))?;
    }
    let calibration = calibrate(&values, dims);
    let layout = if distinct <= exact::MAX_VECTORS {
        let path = folder.join(semantic::EXACT);
        Exact::new(dims, values)?
            .write(&path)
            .map_err(write_error(&path))?;
        VectorLayout::Exact
    } else {
        let linked = |done| progress(Stage::Link, done as u64, distinct as u64);
        linked(0);
        let index = Hnsw::build(dims, &values, options.threads.max(1), &linked)?;
        index.write(&folder.join(semantic::HNSW))?;
        VectorLayout::Hnsw
    };
    Ok(VectorsInfo {
        layout,
        products: ordinals.len(),
        distinct,
        calibration,
    })
}

/// The cosine that nineteen of twenty pairs of products stay below is what unrelated things have in
/// common in this catalogue; identity is the other end.
fn calibrate(vectors: &[f32], dims: usize) -> Calibration {
    let rows: Vec<&[f32]> = vectors.chunks(dims).collect();
    let step = rows.len().div_ceil(400).max(1);
    let some: Vec<&[f32]> = rows.into_iter().step_by(step).collect();
    let mut cosines: Vec<f32> = some
        .iter()
        .enumerate()
        .flat_map(|(at, a)| some[at + 1..].iter().map(|b| dot(a, b)))
        .collect();
    if cosines.len() < 100 {
        return Calibration::IDENTITY;
    }
    let at = cosines.len() * 19 / 20;
    let (_, floor, _) = cosines.select_nth_unstable_by(at, f32::total_cmp);
    Calibration {
        floor: floor.clamp(0.0, 0.9),
        ceiling: 1.0,
    }
}

fn describe(embedder: &Arc<dyn Embedder>, model: &Model) -> Result<EmbeddingInfo, IndexError> {
    let (name, path, files) = match model {
        Model::Learnt => ("learnt from the catalogue".to_owned(), None, Vec::new()),
        Model::Folder(folder) => {
            let folder = absolute(folder);
            let name = folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let files = model_files(&folder)?;
            (name, Some(folder), files)
        }
    };
    Ok(EmbeddingInfo {
        kind: embedder.kind(),
        name,
        dims: embedder.dims(),
        fingerprint: embedder.fingerprint().to_owned(),
        path,
        files,
    })
}

fn model_files(folder: &Path) -> Result<Vec<ModelFile>, IndexError> {
    embedding::files(folder)?
        .into_iter()
        .map(|path| {
            let metadata = fs::metadata(&path).map_err(write_error(&path))?;
            let modified = metadata
                .modified()
                .ok()
                .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            Ok(ModelFile {
                name: path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
                bytes: metadata.len(),
                modified_nanos: modified.map_or(0, |since| since.as_nanos() as u64),
            })
        })
        .collect()
}

/// The proxy may be started in another folder than the control plane.
fn absolute(folder: &Path) -> PathBuf {
    fs::canonicalize(folder).unwrap_or_else(|_| folder.to_path_buf())
}

#[cfg(test)]
mod tests;
