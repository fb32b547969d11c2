//! Semantic retrieval: products whose embeddings are nearest to the query's.

use super::exact::Exact;
use super::faiss::Hnsw;
use super::vectors::{Owners, Positions, VectorError, VectorIndex, check, dot};
use super::{Allowed, Ask, Candidate, RetrieveError, Retriever, Source};
use crate::catalog::Ordinal;
use crate::model::embedding::{self, EmbedError, Embedder, Kind};
use crate::model::manifest::{Calibration, EmbeddingInfo, Part, PartError, VectorLayout};
use crate::model::versions::Version;
use std::fs;
use std::path::Path;
use std::sync::Arc;

mod cache;
use cache::QueryCache;

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
#[derive(Debug)]
pub struct SemanticIndex {
    embedder: Arc<dyn Embedder>,
    vectors: Box<dyn VectorIndex>,
    owners: Owners,
    calibration: Calibration,
    cache: Option<QueryCache>,
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
            cache: slow.then(|| QueryCache::new(CACHED_QUERIES)),
            embedder,
            vectors,
            owners,
            calibration,
        })
    }

    /// The model that embeds queries.
    pub fn embedder(&self) -> &Arc<dyn Embedder> {
        &self.embedder
    }

    /// Products with a vector.
    pub fn len(&self) -> usize {
        self.owners.products()
    }

    /// No product has a vector.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The unit vector of a product; `None` where its text has nothing the model knows.
    pub fn vector_of(&self, ordinal: Ordinal) -> Option<Vec<f32>> {
        let position = self.owners.position(ordinal)?;
        let mut vector = vec![0.0; self.vectors.dims()];
        self.vectors.copy(position, &mut vector).ok()?;
        Some(vector)
    }

    /// Products nearest to a vector: best first, ties by ordinal, `raw` the cosine.
    pub fn nearest(
        &self,
        vector: &[f32],
        k: usize,
        allowed: Option<&Allowed>,
    ) -> Result<Vec<Candidate>, VectorError> {
        let among = allowed.map(|allowed| Positions::of(allowed, &self.owners));
        let hits = self.vectors.search(vector, k, among.as_ref())?;
        let passes = |ordinal| allowed.is_none_or(|allowed| allowed.contains(ordinal));
        let mut found: Vec<Candidate> = hits
            .into_iter()
            .flat_map(|hit| {
                let owners = self.owners.at(hit.position);
                owners.map(move |ordinal| self.candidate(ordinal, hit.similarity))
            })
            .filter(|candidate| passes(candidate.ordinal))
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
            let position = self.owners.position(ordinal)?;
            self.vectors.copy(position, &mut vector).ok()?;
            Some(self.candidate(ordinal, dot(&question, &vector)))
        };
        ordinals.iter().map(score).collect()
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
