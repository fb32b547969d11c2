//! CSV (RFC 4180) with a header.

use super::{ROW_BYTES, Record, Rows, Step};
use crate::catalog::import::columns::{self, Entity, Mapping};
use csv::ByteRecord;
use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// Put after the last line: the reader takes the end of the file for the end of a quote that was left
/// open, and a file that was torn there must not pass for a whole one.
const LAST: &[u8] = b"\n\x01end\n";

pub(in super::super) struct CsvRows {
    reader: csv::Reader<Leash>,
    leash: Rc<Cell<u64>>,
    row: ByteRecord,
    width: usize,
    columns: columns::Resolved,
    /// With `\r\n` a row ends for the reader before its line does: it is a line behind.
    behind: u64,
}

impl CsvRows {
    /// Reads the header. Error: a sentence.
    pub(in super::super) fn open(
        from: Box<dyn Read>,
        entity: Entity,
        mapping: &Mapping,
    ) -> Result<Self, String> {
        Self::open_with(from, |header| columns::resolve(entity, mapping, header))
    }

    /// Reads the header of a file whose records are these columns. Error: a sentence.
    pub(in super::super) fn open_columns(
        from: Box<dyn Read>,
        wanted: &[&str],
    ) -> Result<Self, String> {
        Self::open_with(from, |header| columns::exactly(wanted, header))
    }

    fn open_with(
        from: Box<dyn Read>,
        resolve: impl FnOnce(&[String]) -> Result<columns::Resolved, String>,
    ) -> Result<Self, String> {
        let from: Box<dyn Read> = Box::new(from.chain(LAST));
        let leash = Rc::new(Cell::new(ROW_BYTES));
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(64 * 1024)
            .from_reader(Leash { from, left: leash.clone() });
        let mut row = ByteRecord::new();
        if !reader.read_byte_record(&mut row).map_err(|e| why(&e))? || is_last(&row) {
            return Err("the file is empty; its first line must name the columns".into());
        }
        let header: Vec<String> =
            row.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
        let columns = resolve(&header)?;
        let behind = u64::from(reader.position().line() == 1);
        Ok(Self { reader, leash, row, width: header.len(), columns, behind })
    }
}

impl Rows for CsvRows {
    fn next(&mut self, record: &mut Record) -> Result<Step, String> {
        self.leash.set(ROW_BYTES);
        let before = record.number;
        record.number = self.reader.position().line() + self.behind;
        if !self.reader.read_byte_record(&mut self.row).map_err(|e| why(&e))? {
            return Err(format!("a quote is left open in the row that begins at line {before}"));
        }
        if is_last(&self.row) {
            return Ok(Step::End);
        }
        if let Some(position) = self.row.position() {
            record.number = position.line() + self.behind;
        }
        if self.row.len() != self.width {
            return Ok(Step::Bad(format!(
                "{} fields where the header has {} (a quote or a comma too many?)",
                self.row.len(),
                self.width
            )));
        }
        record.clear();
        for (value, column) in record.values.iter_mut().zip(&self.columns.columns) {
            let Some(column) = column else { continue };
            match std::str::from_utf8(&self.row[*column]) {
                Ok(text) => value.push_str(text),
                Err(_) => return Ok(Step::Bad(format!("field {} is not UTF-8", column + 1))),
            }
        }
        Ok(Step::Row)
    }

    fn lacks(&self, field: usize) -> bool {
        self.columns.columns[field].is_none()
    }

    fn ignored(&self) -> Vec<String> {
        self.columns.ignored.clone()
    }

    fn unit(&self) -> &'static str {
        "line"
    }
}

fn is_last(row: &ByteRecord) -> bool {
    row.len() == 1 && row[0] == *LAST.trim_ascii()
}

/// Stops a row that does not end.
struct Leash {
    from: Box<dyn Read>,
    left: Rc<Cell<u64>>,
}

impl Read for Leash {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left.get() == 0 {
            return Err(io::Error::other(format!(
                "the row that begins here is longer than {ROW_BYTES} bytes: is a quote left open?"
            )));
        }
        let read = self.from.read(buffer)?;
        self.left.set(self.left.get().saturating_sub(read as u64));
        Ok(read)
    }
}

fn why(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Io(error) => error.to_string(),
        _ => error.to_string(),
    }
}
