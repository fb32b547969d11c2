//! Text to vectors.
//!
//! Three kinds of model, each a folder, told apart by what is in it ([`open`]):
//! - **static**: a table with one vector per token; a text is the mean of its tokens. 5 µs a query.
//! - **learnt**: the same lookup over a table that was learnt from the catalogue itself, for shops
//!   that bring no model.
//! - **transformer**: a BERT-class sentence encoder; 3,000 times the price of static. Needs the
//!   cargo feature `transformer`.

pub(crate) mod learnt;
mod near;
mod static_table;
mod table;
mod text;
#[cfg(feature = "transformer")]
mod transformer;
mod unit;
pub(crate) mod words;

pub use learnt::Learnt;
pub use static_table::StaticTable;
pub use text::product_text;
#[cfg(feature = "transformer")]
pub use transformer::Transformer;
pub use unit::to_unit;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The kinds of embedding model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One vector per token of a given vocabulary.
    Static,
    /// One vector per word, learnt from the catalogue.
    Learnt,
    /// A BERT-class encoder.
    Transformer,
}

impl Kind {
    /// For people, and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Learnt => "learnt",
            Self::Transformer => "transformer",
        }
    }
}

/// Why there is no embedding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmbedError {
    /// The folder holds no model this program can use.
    #[error("embedding model {}: {why}", .folder.display())]
    Model {
        /// Which folder.
        folder: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The model did not take the text.
    #[error("embedding: {0}")]
    Text(String),
}

impl EmbedError {
    pub(crate) fn model(folder: &Path, why: impl Into<String>) -> Self {
        Self::Model { folder: folder.to_path_buf(), why: why.into() }
    }
}

/// Turns texts into unit vectors. Immutable; called from many threads at once.
pub trait Embedder: Send + Sync + std::fmt::Debug {
    /// Numbers in a vector.
    fn dims(&self) -> usize;

    /// One vector per text, in the order given: finite, of length 1. `None` where the text has
    /// nothing the model knows (empty, or no known word): such a text is similar to nothing, and a
    /// zero vector would be similar to everything alike.
    fn embed(&self, texts: &[&str]) -> Result<Vec<Option<Vec<f32>>>, EmbedError>;

    /// Identity of everything that decides about vectors: 16 hexadecimal digits. Vectors of models
    /// with different fingerprints must not be compared.
    fn fingerprint(&self) -> &str;

    /// Which kind.
    fn kind(&self) -> Kind;
}

/// Opens the model in `folder`, whichever kind it is.
pub fn open(folder: &Path) -> Result<Arc<dyn Embedder>, EmbedError> {
    match recognise(folder)? {
        Kind::Learnt => Ok(Arc::new(Learnt::open(folder)?)),
        Kind::Static => Ok(Arc::new(StaticTable::open(folder)?)),
        #[cfg(feature = "transformer")]
        Kind::Transformer => Ok(Arc::new(Transformer::open(folder)?)),
        #[cfg(not(feature = "transformer"))]
        Kind::Transformer => Err(EmbedError::model(
            folder,
            "it is a sentence transformer, and this program was built without them; build it \
             with `cargo build --release --features transformer`",
        )),
    }
}

/// Which kind of model is in `folder`.
pub fn recognise(folder: &Path) -> Result<Kind, EmbedError> {
    if !folder.is_dir() {
        return Err(EmbedError::model(folder, "there is no such folder"));
    }
    let has = |name: &str| folder.join(name).is_file();
    if has(learnt::SETTINGS) {
        return Ok(Kind::Learnt);
    }
    // A static table may come with a config.json too; a BERT says so in it.
    if has("config.json") && has("model.safetensors") && has("tokenizer.json") {
        let config = fs::read_to_string(folder.join("config.json")).unwrap_or_default();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap_or_default();
        if config.get("num_hidden_layers").is_some() {
            return Ok(Kind::Transformer);
        }
    }
    if static_table::files(folder).is_ok() {
        return Ok(Kind::Static);
    }
    Err(EmbedError::model(
        folder,
        "no model in it: expected a .safetensors file and a tokenizer .json beside it",
    ))
}

/// The files of the model in `folder` that decide about vectors, sorted.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, EmbedError> {
    let names: Vec<PathBuf> = match recognise(folder)? {
        Kind::Learnt => learnt::FILES.iter().map(|name| folder.join(name)).collect(),
        Kind::Static => static_table::files(folder)?.to_vec(),
        Kind::Transformer => ["config.json", "model.safetensors", "tokenizer.json"]
            .iter()
            .map(|name| folder.join(name))
            .collect(),
    };
    Ok(names)
}

/// Hash of the contents, in order. A change of how they are used is a new `scheme`.
fn fingerprint<'a>(scheme: &str, contents: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    hash.update(scheme.as_bytes());
    for content in contents {
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(content);
    }
    let mut digits = hex::encode(hash.finalize());
    digits.truncate(16);
    digits
}

#[cfg(test)]
pub(crate) mod tests;
