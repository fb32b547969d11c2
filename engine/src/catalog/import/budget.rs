//! How many bad rows an import bears.

use super::error::{BadRow, ImportError};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// A share means nothing for the first rows of a file.
const SHARE_FROM_ROWS: u64 = 1000;

/// The budget for bad rows, for all files of an import together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxErrors {
    /// The import stops at the first bad row beyond this many.
    Rows(u64),
    /// The import stops when more than this share of the rows read so far is bad (0 to 1), judged
    /// at each bad row from the thousandth row on, and once more at the end.
    Share(f64),
}

impl Default for MaxErrors {
    fn default() -> Self {
        Self::Rows(100)
    }
}

impl fmt::Display for MaxErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(rows) => write!(f, "{rows}"),
            Self::Share(share) => write!(f, "{} %", share * 100.0),
        }
    }
}

impl FromStr for MaxErrors {
    type Err = String;

    /// `100` is a number of rows, `1%` a share of them.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is neither a number of rows (100) nor a share (1%)");
        match text.trim().strip_suffix('%') {
            None => text.trim().parse().map(Self::Rows).map_err(|_| wrong()),
            Some(percent) => match percent.trim().parse::<f64>() {
                Ok(p) if (0.0..=100.0).contains(&p) => Ok(Self::Share(p / 100.0)),
                _ => Err(wrong()),
            },
        }
    }
}

/// Counts rows against the budget.
#[derive(Debug)]
pub(super) struct Budget {
    max: MaxErrors,
    rows: u64,
    bad: u64,
    last: Option<BadRow>,
}

impl Budget {
    pub(super) fn new(max: MaxErrors) -> Self {
        Self { max, rows: 0, bad: 0, last: None }
    }

    pub(super) fn good(&mut self) {
        self.rows += 1;
    }

    pub(super) fn bad(&mut self, row: BadRow) -> Result<(), ImportError> {
        self.rows += 1;
        self.bad += 1;
        self.last = Some(row);
        match self.max {
            MaxErrors::Share(_) if self.rows < SHARE_FROM_ROWS => Ok(()),
            _ => self.check(),
        }
    }

    /// The error for a file of which no row is good.
    pub(super) fn nothing_good(&self, file: &Path) -> ImportError {
        let why = self.last.as_ref().map_or_else(String::new, |row| row.reason.clone());
        ImportError::NothingGood { file: file.to_owned(), why }
    }

    /// After the last row.
    pub(super) fn finish(&self) -> Result<(), ImportError> {
        self.check()
    }

    fn check(&self) -> Result<(), ImportError> {
        let over = match self.max {
            MaxErrors::Rows(rows) => self.bad > rows,
            MaxErrors::Share(share) => self.bad as f64 > share * self.rows as f64,
        };
        match &self.last {
            Some(last) if over => Err(ImportError::TooManyBad {
                bad: self.bad,
                rows: self.rows,
                allowed: self.max.to_string(),
                last: Box::new(last.clone()),
            }),
            _ => Ok(()),
        }
    }
}
