//! Keyword retrieval: BM25F over name, brand, category and description in a Tantivy index.
//!
//! Tantivy stores the dictionary, the postings and the field lengths; the query is never parsed (no
//! syntax, so nothing to inject) and scoring is our own, because shop queries need what a sum of
//! per-field BM25 scores does not give: see [`score`].

mod analysis;
mod build;
mod index;
mod pieces;
mod plan;
mod schema;
mod score;
mod units;

pub use build::Builder;
pub use index::KeywordIndex;

use std::path::{Path, PathBuf};

/// Why a keyword index cannot be built or opened.
#[derive(Debug, thiserror::Error)]
pub enum KeywordError {
    /// The folder cannot be read or made, or what is in it is no index of ours.
    #[error("keyword index {}: {why}", dir.display())]
    Folder {
        /// Which.
        dir: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Writing failed, for instance because the disk is full.
    #[error("writing the keyword index: {0}")]
    Write(String),
}

impl KeywordError {
    fn io(dir: &Path, error: &std::io::Error) -> Self {
        Self::Folder {
            dir: dir.to_owned(),
            why: error.to_string(),
        }
    }

    fn tantivy(dir: &Path, error: &tantivy::TantivyError) -> Self {
        Self::Folder {
            dir: dir.to_owned(),
            why: error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
