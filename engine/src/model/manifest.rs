//! What an index version consists of, and the proof that it is whole.
//!
//! A corrupt FAISS or Tantivy file can load silently wrong or take the process down, so no file is
//! handed to either before its length and SHA-256 are those of the manifest. Files are grouped into
//! parts: what is wrong with one part leaves the others usable. The manifest itself is covered by
//! the version's name, which ends in the first digits of the manifest's SHA-256.

use super::embedding::Kind;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

/// Layout of an index version. Grows when a program that knows the old one could not read the new.
pub const FORMAT: u32 = 1;

/// The manifest's name in a version's folder.
pub const FILE_NAME: &str = "manifest.json";

/// Digits of the manifest's hash in a version's name.
pub(super) const HASH_DIGITS: usize = 8;

/// A part of an index version: a folder of its own, usable without the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The Tantivy index.
    Keyword,
    /// Product vectors, and which product each belongs to.
    Vectors,
    /// The embedding learnt from the catalogue; absent when an external model made the vectors.
    Embedding,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Keyword, Self::Vectors, Self::Embedding];

    /// Its folder inside a version, and its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keyword => "keyword",
            Self::Vectors => "vectors",
            Self::Embedding => "embedding",
        }
    }
}

/// One file of a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Relative to the version's folder, parts joined with `/`; begins with the part's folder.
    pub path: String,
    /// Length.
    pub bytes: u64,
    /// SHA-256 of the content, 64 hexadecimal digits.
    pub sha256: String,
}

/// A file of an external model when the index was built, to notice a change without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// Name in the model's folder.
    pub name: String,
    /// Length.
    pub bytes: u64,
    /// Modification time, nanoseconds since 1970; 0 where the file system has none.
    pub modified_nanos: u64,
}

/// How a product's or a query's text becomes a vector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingInfo {
    /// Which kind of model.
    pub kind: Kind,
    /// The model's name, for people.
    pub name: String,
    /// Numbers in a vector.
    pub dims: usize,
    /// Identity of everything that decides about vectors. A model with another fingerprint would
    /// give vectors that mean nothing to this index.
    pub fingerprint: String,
    /// The folder of an external model; `None`: the version's own `embedding` part.
    pub path: Option<PathBuf>,
    /// The files of an external model.
    pub files: Vec<ModelFile>,
}

/// The file that holds the vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VectorLayout {
    /// `vectors.f32`: rows of little-endian f32, scanned.
    Exact,
    /// `vectors.faiss`: HNSW.
    Hnsw,
}

/// How the product vectors are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorsInfo {
    /// Which file.
    pub layout: VectorLayout,
    /// Products with a vector; a product without a known word has none.
    pub products: usize,
    /// Different vectors: products with the same text share one.
    pub distinct: usize,
    /// Turns cosine similarity into a score.
    pub calibration: Calibration,
}

/// What cosine similarities mean for this catalogue and this model: a score that grows from 0 at the
/// floor to 0.9 at the ceiling and from there to 1 at a cosine of 1, both in a straight line.
///
/// Models differ in what they call similar: with one, unrelated products have cosine 0.6, with
/// another related ones have 0.4. Measured when the index is built.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// The cosine of a query and a product that have nothing to do with each other.
    pub floor: f32,
    /// The cosine of a query and a product that is what was meant; greater than `floor`.
    pub ceiling: f32,
}

/// Score of a cosine at the ceiling.
const AT_CEILING: f32 = 0.9;

impl Calibration {
    /// Cosine is the score.
    pub const IDENTITY: Self = Self { floor: 0.0, ceiling: 1.0 };

    /// Cosine similarity as a score in [0, 1]; grows with `cosine`.
    pub fn score(&self, cosine: f32) -> f32 {
        let share =
            |from: f32, to: f32| ((cosine - from) / (to - from).max(f32::EPSILON)).clamp(0.0, 1.0);
        // Not cut at the ceiling: the best of several good matches is still the best.
        let at_ceiling = if self.ceiling < 1.0 { AT_CEILING } else { 1.0 };
        at_ceiling * share(self.floor, self.ceiling) + (1.0 - at_ceiling) * share(self.ceiling, 1.0)
    }
}

/// What an index version is, as written in its `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`] of the program that wrote it.
    pub format: u32,
    /// When it was built, RFC 3339, UTC.
    pub created_at: String,
    /// Version of the program that built it.
    pub code_version: String,
    /// The store it was built from.
    pub store_id: String,
    /// The catalogue's revision it was built from.
    pub catalog_revision: u64,
    /// Products in it.
    pub products: u64,
    /// What decided about its content besides the catalogue; an index built with other options is
    /// not up to date.
    pub options: BTreeMap<String, String>,
    /// `None`: no product has text that an embedding could be made from.
    pub embedding: Option<EmbeddingInfo>,
    /// `None`: there are no vectors.
    pub vectors: Option<VectorsInfo>,
    /// Files by part.
    pub parts: BTreeMap<Part, Vec<FileEntry>>,
}

/// Why a part of an index version cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", .part.name())]
pub struct PartError {
    /// Which part.
    pub part: Part,
    /// What is wrong, in words for an operator.
    pub why: String,
}

impl Manifest {
    /// From the bytes of a `manifest.json`. The error is a sentence.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Header {
            format: u32,
        }
        let header: Header = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if header.format != FORMAT {
            return Err(format!(
                "its format is {}, this program reads {FORMAT}; build the index again",
                header.format
            ));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        for (part, files) in &manifest.parts {
            for file in files {
                part_path(*part, &file.path)?;
            }
        }
        Ok(manifest)
    }

    /// Reads every byte of `part` below `folder` and compares length and SHA-256 with the manifest.
    /// Returns the part's folder, now safe to open.
    pub fn verify(&self, folder: &Path, part: Part) -> Result<PathBuf, PartError> {
        let refuse = |why| PartError { part, why };
        let Some(files) = self.parts.get(&part) else {
            return Err(refuse("the index version has no such part".into()));
        };
        for file in files {
            let relative = part_path(part, &file.path).map_err(refuse)?;
            verify_file(folder, &relative, file).map_err(refuse)?;
        }
        Ok(folder.join(part.name()))
    }
}

/// `path` as a relative path that cannot leave the part's folder.
fn part_path(part: Part, path: &str) -> Result<PathBuf, String> {
    let relative = PathBuf::from(path);
    let normal = |component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    };
    let plain: Option<PathBuf> = relative.components().map(normal).collect();
    let as_written = plain.is_some_and(|plain| plain.as_os_str() == relative.as_os_str());
    let in_part = relative.starts_with(part.name()) && relative.components().count() > 1;
    if as_written && in_part && !path.contains('\0') {
        Ok(relative)
    } else {
        Err(format!("{path:?} is not a path inside {}", part.name()))
    }
}

fn verify_file(folder: &Path, relative: &Path, expected: &FileEntry) -> Result<(), String> {
    let name = relative.display();
    // A link could point anywhere, and to something else tomorrow.
    let mut at = folder.to_path_buf();
    for component in relative.components() {
        at.push(component);
        let kind = fs::symlink_metadata(&at)
            .map_err(|error| format!("{name} cannot be read: {error}"))?
            .file_type();
        if kind.is_symlink() {
            return Err(format!("{name} is a symbolic link"));
        }
    }
    let metadata = fs::metadata(&at).map_err(|error| format!("{name} cannot be read: {error}"))?;
    if !metadata.is_file() {
        return Err(format!("{name} is not a file"));
    }
    if metadata.len() != expected.bytes {
        return Err(format!("{name} has {} bytes, not {}", metadata.len(), expected.bytes));
    }
    let (bytes, sha256) = hash_file(&at).map_err(|error| format!("{name}: {error}"))?;
    if bytes != expected.bytes || sha256 != expected.sha256 {
        return Err(format!("checksum of {name} does not match"));
    }
    Ok(())
}

/// Length and SHA-256 (hexadecimal) of a file.
pub(super) fn hash_file(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((bytes, hex::encode(hash.finalize()))),
            Ok(read) => {
                hash.update(&buffer[..read]);
                bytes += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
