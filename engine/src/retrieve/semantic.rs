//! Semantic retrieval: products whose embeddings are nearest to the query's.

use super::exact::Exact;
use super::faiss::Hnsw;
use super::vectors::{Owners, VectorError, VectorIndex, check, dot};
use super::{Allowed, Ask, Candidate, RetrieveError, Retriever, Source};
use crate::catalog::Ordinal;
use crate::model::embedding::{self, EmbedError, Embedder, Kind};
use crate::model::manifest::{Calibration, EmbeddingInfo, Part, PartError, VectorLayout};
use crate::model::versions::Version;
use crate::store::ChangedProduct;
use std::fs;
use std::path::Path;
use std::sync::Arc;

mod cache;
mod delta;
use cache::QueryCache;
use delta::Delta;

/// File of the vectors part: the products with a vector, ascending, little-endian.
pub(crate) const ORDINALS: &str = "ordinals.u32";
/// File of the vectors part: where the vector of each of them is, little-endian.
pub(crate) const POSITIONS: &str = "positions.u32";
/// File of the vectors part when it is scanned.
pub(crate) const EXACT: &str = "vectors.f32";
/// File of the vectors part when it is an HNSW graph.
pub(crate) const HNSW: &str = "vectors.faiss";

/// Query embeddings kept, for models that are slow.
const CACHED_QUERIES: usize = 10_000;
/// Products that changed at once and are embedded by models that are slow: some fifteen seconds.
const SLOWLY_EMBEDDED: usize = 1_000;

/// Why there is no semantic retrieval. Each is a sentence for an operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SemanticError {
    /// A file is missing or damaged.
    #[error(transparent)]
    Part(#[from] PartError),
    /// The model cannot be opened.
    #[error(transparent)]
    Embedding(#[from] EmbedError),
    /// The vectors cannot be opened.
    #[error(transparent)]
    Vectors(#[from] VectorError),
    /// The index has no vectors: no product has text.
    #[error("the index has no vectors")]
    Empty,
    /// The model at hand is not the one that made the vectors.
    #[error(
        "the vectors were made by embedding model {made_by}, but {folder} holds {found}; build \
         the index again"
    )]
    OtherModel {
        /// Fingerprint in the manifest.
        made_by: String,
        /// The model's folder.
        folder: String,
        /// Its fingerprint.
        found: String,
    },
}

/// Embeddings of products and the model that made them.
#[derive(Debug, Clone)]
pub struct SemanticIndex {
    embedder: Arc<dyn Embedder>,
    vectors: Arc<dyn VectorIndex>,
    owners: Arc<Owners>,
    calibration: Calibration,
    cache: Option<Arc<QueryCache>>,
    /// What changed since the vectors were made.
    delta: Delta,
}

impl SemanticIndex {
    /// Verifies and opens the vectors of `version` and the model that made them: the version's own
    /// when it was learnt from the catalogue, else the folder `embedding_model`, or the one in the
    /// manifest. Takes about a second per gigabyte.
    pub fn open(version: &Version, embedding_model: Option<&Path>) -> Result<Self, SemanticError> {
        let manifest = &version.manifest;
        let (Some(info), Some(vectors)) = (&manifest.embedding, &manifest.vectors) else {
            return Err(SemanticError::Empty);
        };
        let folder = version.verify(Part::Vectors)?;
        let embedder = open_model(version, info, embedding_model)?;
        let owners = read_owners(&folder, vectors.distinct)?;
        let index: Box<dyn VectorIndex> = match vectors.layout {
            VectorLayout::Exact => Box::new(Exact::read(&folder.join(EXACT), info.dims)?),
            VectorLayout::Hnsw => {
                Box::new(Hnsw::read(&folder.join(HNSW), info.dims, vectors.distinct)?)
            }
        };
        Self::new(embedder, index, owners, vectors.calibration).map_err(Into::into)
    }

    /// From its parts, which must fit: an owner for every vector, vectors as long as the model's.
    pub fn new(
        embedder: Arc<dyn Embedder>,
        vectors: Box<dyn VectorIndex>,
        owners: Owners,
        calibration: Calibration,
    ) -> Result<Self, VectorError> {
        if vectors.len() != owners.vectors() {
            return Err(VectorError::Index(format!(
                "{} vectors, but owners for {}",
                vectors.len(),
                owners.vectors()
            )));
        }
        if vectors.dims() != embedder.dims() {
            return Err(VectorError::Length { found: vectors.dims(), expected: embedder.dims() });
        }
        // A lookup takes microseconds, less than the cache would.
        let slow = embedder.kind() == Kind::Transformer;
        Ok(Self {
            cache: slow.then(|| Arc::new(QueryCache::new(CACHED_QUERIES))),
            embedder,
            vectors: vectors.into(),
            owners: Arc::new(owners),
            calibration,
            delta: Delta::default(),
        })
    }

    /// The model that embeds queries.
    pub fn embedder(&self) -> &Arc<dyn Embedder> {
        &self.embedder
    }

    /// The index after these products changed: each of them once, as it is now. Embeds their text.
    pub fn after(&self, changed: &[ChangedProduct]) -> Result<Self, EmbedError> {
        let there = changed.iter().filter(|changed| changed.product.is_some()).count();
        if self.cache.is_some() && there > SLOWLY_EMBEDDED {
            return Err(EmbedError::Text(format!(
                "{there} products that changed are too many for this model while serving; run \
                 penstock-control index"
            )));
        }
        let delta = self.delta.after(changed, &*self.embedder, &self.owners)?;
        Ok(Self { delta, ..self.clone() })
    }

    /// Products with a vector.
    pub fn len(&self) -> usize {
        self.owners.products() - self.delta.masked() + self.delta.vectors()
    }

    /// No product has a vector.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The unit vector of a product; `None` where its text has nothing the model knows.
    pub fn vector_of(&self, ordinal: Ordinal) -> Option<Vec<f32>> {
        let mut vector = vec![0.0; self.vectors.dims()];
        self.copy(ordinal, &mut vector).then_some(vector)
    }

    /// Whether a product has a vector; copied to `out` then.
    fn copy(&self, ordinal: Ordinal, out: &mut [f32]) -> bool {
        if let Some(changed) = self.delta.get(ordinal) {
            if let Some(vector) = changed {
                out.copy_from_slice(vector);
            }
            return changed.is_some();
        }
        let position = self.owners.position(ordinal);
        position.is_some_and(|position| self.vectors.copy(position, out).is_ok())
    }

    /// Products nearest to a vector: best first, ties by ordinal, `raw` the cosine.
    pub fn nearest(
        &self,
        vector: &[f32],
        k: usize,
        allowed: Option<&Allowed>,
    ) -> Result<Vec<Candidate>, VectorError> {
        let filtered = allowed.map(|allowed| self.delta.positions_of(allowed, &self.owners));
        // Without those that changed in the way, the best k are among k.
        let among = filtered.as_ref().or(self.delta.unmasked());
        let hits = self.vectors.search(vector, k, among)?;
        let passes = |ordinal| allowed.is_none_or(|allowed| allowed.contains(ordinal));
        let changed = self.delta.iter().map(|(ordinal, other)| (ordinal, dot(vector, other)));
        let mut found: Vec<Candidate> = hits
            .into_iter()
            .flat_map(|hit| {
                let owners = self.owners.at(hit.position);
                owners.map(move |ordinal| (ordinal, hit.similarity))
            })
            .filter(|(ordinal, _)| self.delta.get(*ordinal).is_none())
            .chain(changed)
            .filter(|(ordinal, _)| passes(*ordinal))
            .map(|(ordinal, similarity)| self.candidate(ordinal, similarity))
            .collect();
        found.sort_unstable_by(|a, b| b.raw.total_cmp(&a.raw).then(a.ordinal.cmp(&b.ordinal)));
        found.truncate(k);
        Ok(found)
    }

    fn candidate(&self, ordinal: Ordinal, similarity: f32) -> Candidate {
        Candidate {
            ordinal,
            score: self.calibration.score(similarity),
            raw: similarity,
            source: Source::Semantic,
        }
    }

    /// The vector the question is about. `None`: nothing the model knows.
    fn question(&self, ask: &Ask) -> Result<Option<Arc<[f32]>>, EmbedError> {
        if let Some(like) = ask.like {
            return Ok(self.vector_of(like).map(Into::into));
        }
        let embed = || {
            let mut vectors = self.embedder.embed(&[&ask.text])?;
            Ok(vectors.pop().flatten().map(Into::into))
        };
        match &self.cache {
            Some(cache) => cache.get_or_make(&ask.text, embed),
            None => embed(),
        }
    }
}

fn unavailable(why: impl std::fmt::Display) -> RetrieveError {
    RetrieveError::Unavailable { source_name: Source::Semantic.name(), why: why.to_string() }
}

impl Retriever for SemanticIndex {
    fn source(&self) -> Source {
        Source::Semantic
    }

    fn applies(&self, ask: &Ask) -> bool {
        ask.policy.query.semantic.enabled && (ask.like.is_some() || !ask.text.trim().is_empty())
    }

    /// Not among its answers: products under `min_similarity`, and the product of `ask.like` itself.
    fn retrieve(&self, ask: &Ask) -> Result<Vec<Candidate>, RetrieveError> {
        let Some(question) = self.question(ask).map_err(unavailable)? else {
            return Ok(Vec::new());
        };
        let policy = &ask.policy.query.semantic;
        let wanted = ask.k.max(policy.candidates);
        let found = self
            .nearest(&question, wanted + usize::from(ask.like.is_some()), ask.allowed.as_deref())
            .map_err(unavailable)?;
        Ok(found
            .into_iter()
            .filter(|candidate| Some(candidate.ordinal) != ask.like)
            .take_while(|candidate| candidate.raw >= policy.min_similarity)
            .take(wanted)
            .collect())
    }

    fn score(&self, ask: &Ask, ordinal: Ordinal) -> Option<Candidate> {
        self.scores(ask, &[ordinal]).pop().flatten()
    }

    fn scores(&self, ask: &Ask, ordinals: &[Ordinal]) -> Vec<Option<Candidate>> {
        let dims = self.vectors.dims();
        let question = self.question(ask).ok().flatten();
        let Some(question) = question.filter(|question| check(question, dims).is_ok()) else {
            return vec![None; ordinals.len()];
        };
        let mut vector = vec![0.0; dims];
        let score = |&ordinal: &Ordinal| {
            let has = self.copy(ordinal, &mut vector);
            has.then(|| self.candidate(ordinal, dot(&question, &vector)))
        };
        ordinals.iter().map(score).collect()
    }

    fn after(
        &self,
        changed: &[ChangedProduct],
    ) -> Result<Option<Arc<dyn Retriever>>, RetrieveError> {
        Ok(Some(Arc::new(self.after(changed).map_err(unavailable)?)))
    }
}

fn open_model(
    version: &Version,
    info: &EmbeddingInfo,
    given: Option<&Path>,
) -> Result<Arc<dyn Embedder>, SemanticError> {
    let folder = match &info.path {
        None => version.verify(Part::Embedding)?,
        Some(built_with) => given.unwrap_or(built_with).to_path_buf(),
    };
    let embedder = embedding::open(&folder)?;
    if embedder.fingerprint() != info.fingerprint {
        return Err(SemanticError::OtherModel {
            made_by: format!("{} ({})", info.name, info.fingerprint),
            folder: folder.display().to_string(),
            found: embedder.fingerprint().to_owned(),
        });
    }
    Ok(embedder)
}

fn read_owners(folder: &Path, vectors: usize) -> Result<Owners, VectorError> {
    let ordinals = read_numbers(&folder.join(ORDINALS))?;
    let positions = read_numbers(&folder.join(POSITIONS))?;
    Owners::new(ordinals, positions, vectors).ok_or_else(|| {
        VectorError::Index(format!("{ORDINALS} and {POSITIONS} do not fit {vectors} vectors"))
    })
}

fn read_numbers(path: &Path) -> Result<Vec<u32>, VectorError> {
    let refuse = |why: &str| VectorError::Index(format!("{}: {why}", path.display()));
    let bytes = fs::read(path).map_err(|error| refuse(&error.to_string()))?;
    let (numbers, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(refuse("it ends in the middle of a number"));
    }
    Ok(numbers.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect())
}

#[cfg(test)]
mod tests;
