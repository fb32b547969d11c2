//! The files of a layout: found in a folder, opened, their rows turned into records of ours.

use super::Layout;
use crate::catalog::import::columns::Entity;
use crate::catalog::import::error::ImportError;
use crate::catalog::import::read::{CsvRows, DelimitedRows, Record, Rows, Step};
use crate::catalog::import::source::{Opened, Source};
use std::io::Read;
use std::path::{Path, PathBuf};

/// A folder that is said to have a layout.
pub(super) struct Folder<'a> {
    layout: Layout,
    path: &'a Path,
}

impl<'a> Folder<'a> {
    pub(super) fn new(layout: Layout, path: &'a Path) -> Self {
        Self { layout, path }
    }

    /// The file of this name, plain or gzipped.
    fn find(&self, name: &str) -> Option<PathBuf> {
        let names = [name.to_owned(), format!("{name}.gz")];
        names.into_iter().map(|name| self.path.join(name)).find(|path| path.is_file())
    }

    pub(super) fn has(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.find(name).is_some())
    }

    /// Error: all that are missing at once.
    pub(super) fn need(&self, names: &[&str]) -> Result<(), ImportError> {
        let missing: Vec<&str> =
            names.iter().copied().filter(|name| self.find(name).is_none()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(self.lacks(&format!("{} (each may end in .gz)", missing.join(", "))))
    }

    pub(super) fn lacks(&self, what: &str) -> ImportError {
        ImportError::Layout {
            folder: self.path.to_owned(),
            why: format!("for the layout {} there is no {what}", self.layout),
        }
    }

    /// A CSV file with a header; the records that are converted have these columns, in this order.
    pub(super) fn csv(
        &self,
        name: &str,
        entity: Entity,
        columns: &[&str],
        convert: impl Convert + 'static,
    ) -> Result<(Source, Opened), ImportError> {
        self.open(name, entity, columns.len(), convert, |text| {
            Ok(Box::new(CsvRows::open_columns(text, columns)?))
        })
    }

    /// A file of so many fields a line between separators.
    pub(super) fn delimited(
        &self,
        name: &str,
        entity: Entity,
        (separator, fields): (&'static str, usize),
        convert: impl Convert + 'static,
    ) -> Result<(Source, Opened), ImportError> {
        self.open(name, entity, fields, convert, |text| {
            Ok(Box::new(DelimitedRows::open(text, separator, fields)))
        })
    }

    fn open(
        &self,
        name: &str,
        entity: Entity,
        fields: usize,
        convert: impl Convert + 'static,
        rows: impl FnOnce(Box<dyn Read>) -> Result<Box<dyn Rows>, String>,
    ) -> Result<(Source, Opened), ImportError> {
        let path = self.find(name).ok_or_else(|| self.lacks(name))?;
        let source = Source { path, entity, format: None };
        let opened = source.open_text(|text| {
            let raw = Record::new(fields);
            Ok(Box::new(Converted { rows: rows(text)?, raw, convert, ended: false }))
        })?;
        Ok((source, opened))
    }
}

/// From a layout's rows to records of ours.
pub(super) trait Convert {
    /// Fills the record ([`Step::Row`]), or keeps what the row says for others ([`Step::Aside`]).
    /// Error: what is wrong with the row, in words.
    fn row(&mut self, raw: &mut Record, record: &mut Record) -> Result<Step, String>;

    /// After the last row: fills the record with what was put together from all of them.
    fn rest(&mut self, record: &mut Record) -> Step {
        let _ = record;
        Step::End
    }
}

impl<F: FnMut(&mut Record, &mut Record) -> Result<Step, String>> Convert for F {
    fn row(&mut self, raw: &mut Record, record: &mut Record) -> Result<Step, String> {
        self(raw, record)
    }
}

struct Converted<C> {
    rows: Box<dyn Rows>,
    raw: Record,
    convert: C,
    ended: bool,
}

impl<C: Convert> Rows for Converted<C> {
    fn next(&mut self, record: &mut Record) -> Result<Step, String> {
        record.clear();
        if !self.ended {
            let step = self.rows.next(&mut self.raw);
            record.number = self.raw.number;
            match step? {
                Step::End => self.ended = true,
                Step::Row => {
                    return Ok(self.convert.row(&mut self.raw, record).unwrap_or_else(Step::Bad));
                }
                step => return Ok(step),
            }
        }
        Ok(self.convert.rest(record))
    }

    fn lacks(&self, _field: usize) -> bool {
        false
    }

    /// A layout's columns are known, also those that are of no use here.
    fn ignored(&self) -> Vec<String> {
        Vec::new()
    }

    fn unit(&self) -> &'static str {
        self.rows.unit()
    }
}

/// A number in a row. Error: what is there instead.
pub(super) fn number<T: std::str::FromStr>(
    row: &Record,
    at: usize,
    name: &str,
) -> Result<T, String> {
    let text = row.get(at).trim();
    text.parse().map_err(|_| format!("`{name}` {text:?} is not a number"))
}
