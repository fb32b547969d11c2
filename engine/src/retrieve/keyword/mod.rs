//! Keyword retrieval: BM25F over name, brand, category and description in a Tantivy index.
//!
//! Tantivy stores the dictionaries, the postings and the field lengths. The query is never parsed: it
//! has no syntax, so there is nothing to inject. From its words a plan of concepts is made (with their
//! forms, compounds and guesses at misspelt words), and scoring is our own, because shop queries need
//! what a sum of per-field BM25 scores does not give. Products that changed since the index was built are in
//! small layers over it, see [`layer`].
//!
//! ```text
//! text ─► pieces ─► items ─► terms ──────────► Builder ─► Tantivy
//!          words,    units,   what is indexed                │
//!          numbers   sizes                                   ▼
//!                      └────► plan ─► question ─► score ─► candidates
//!                             concepts  idf, cursors  BM25F
//! ```

mod analysis;
mod build;
mod index;
mod layer;
mod pieces;
mod plan;
mod question;
mod schema;
mod score;
mod units;
mod words;

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
    fn folder(dir: &Path, why: &dyn std::fmt::Display) -> Self {
        Self::Folder { dir: dir.to_owned(), why: why.to_string() }
    }
}

#[cfg(test)]
mod tests;
