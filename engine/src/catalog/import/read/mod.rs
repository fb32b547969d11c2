//! The formats, each giving records.

mod csv;
mod delimited;
mod jsonl;
mod lines;
mod parquet;

pub(super) use self::csv::CsvRows;
pub(super) use self::delimited::DelimitedRows;
pub(super) use self::jsonl::JsonRows;
pub(super) use self::parquet::ParquetRows;

/// The longest row of a text file, bytes. A quote that is never closed would otherwise read the
/// rest of the file into memory.
const ROW_BYTES: u64 = 4 * 1024 * 1024;

/// One row: the text of each field of its entity, empty where the row has none. Its buffers are
/// used again for the next row.
#[derive(Debug)]
pub(super) struct Record {
    /// Line (text) or row (Parquet) in the file, from 1.
    pub(super) number: u64,
    values: Vec<String>,
}

impl Record {
    pub(super) fn new(fields: usize) -> Self {
        Self { number: 0, values: vec![String::new(); fields] }
    }

    /// The field's text, taken out.
    pub(super) fn take(&mut self, field: usize) -> String {
        std::mem::take(&mut self.values[field])
    }

    pub(super) fn is_empty(&self, field: usize) -> bool {
        self.values[field].trim().is_empty()
    }

    /// The field's text.
    pub(super) fn get(&self, field: usize) -> &str {
        &self.values[field]
    }

    pub(super) fn set(&mut self, field: usize, value: &str) {
        self.values[field].clear();
        self.values[field].push_str(value);
    }

    pub(super) fn clear(&mut self) {
        self.values.iter_mut().for_each(String::clear);
    }
}

/// What reading on brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The record holds a row.
    Row,
    /// There was a row which is none of the entity's; what it says is part of later ones.
    Aside,
    /// The row cannot be read, for this reason; the next one can.
    Bad(String),
    /// There is no further row.
    End,
}

/// A file's rows.
pub(super) trait Rows {
    /// Reads the next row. The record's number is set for a bad row too. Error: the rest of the
    /// file cannot be read, for this reason.
    fn next(&mut self, record: &mut Record) -> Result<Step, String>;

    /// True when the header shows that no column serves this field.
    fn lacks(&self, field: usize) -> bool;

    /// After the last row. Error: a column that the mapping names was in none of them.
    fn finish(&self) -> Result<(), String> {
        Ok(())
    }

    /// Columns that no field is read from.
    fn ignored(&self) -> Vec<String>;

    /// What [`Record::number`] counts.
    fn unit(&self) -> &'static str;
}
