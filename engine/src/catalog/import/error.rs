//! What goes wrong in an import: bad rows, which are skipped, and errors, which end it.

use crate::store::StoreError;
use std::fmt;
use std::path::PathBuf;

/// Where in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file as it was named.
    pub file: PathBuf,
    /// Line of a text file, row of a Parquet file; from 1. A CSV row is named by the line after
    /// the row before it (blank lines count as the beginning of the next row).
    pub number: u64,
    /// `line` or `row`.
    pub unit: &'static str,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} {}", self.file.display(), self.unit, self.number)
    }
}

/// A row that was skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// Where it begins.
    pub place: Place,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

/// Why an import ended. The store is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be opened.
    #[error("cannot open {}: {error}; nothing was imported", file.display())]
    Open {
        /// Which.
        file: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A folder is not laid out as it was said to be.
    #[error("{}: {why}; nothing was imported", folder.display())]
    Layout {
        /// Which.
        folder: PathBuf,
        /// What is missing.
        why: String,
    },
    /// A file's format is unknown, or not what it was said to be.
    #[error("{}: {why}; nothing was imported", file.display())]
    Format {
        /// Which.
        file: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The columns do not fit.
    #[error("{}: {why}; nothing was imported", file.display())]
    Columns {
        /// Which file.
        file: PathBuf,
        /// What is missing or doubled, and what to do.
        why: String,
    },
    /// A file ends early, is damaged, or cannot be read on.
    #[error("{place}: {why}; nothing was imported")]
    Torn {
        /// The last row that was reached.
        place: Place,
        /// What was seen.
        why: String,
    },
    /// An option of the import makes no sense.
    #[error("{0}")]
    Option(String),
    /// More bad rows than allowed.
    #[error(
        "stopped: {bad} of {rows} rows are bad and {allowed} are allowed; nothing was imported. \
         Correct the files, name other columns with --map FIELD=COLUMN, or allow more with \
         --max-errors. The last: {last}"
    )]
    TooManyBad {
        /// Bad rows so far.
        bad: u64,
        /// Rows so far.
        rows: u64,
        /// The budget, in words.
        allowed: String,
        /// The row that was one too many.
        last: Box<BadRow>,
    },
    /// No row of a file is good, which no budget allows.
    #[error(
        "no row of {} can be read; nothing was imported. The last: {why}", .file.display()
    )]
    NothingGood {
        /// The file.
        file: PathBuf,
        /// What is wrong with its last row.
        why: String,
    },
    /// The store failed.
    #[error("{0}; nothing was imported")]
    Store(#[from] StoreError),
}
