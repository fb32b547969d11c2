//! One Parquet file of flat, nullable columns, as every reader knows them. Written row group by row group into a
//! temporary file that is renamed when it is whole.

use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows held in memory until they are written.
const GROUP: usize = 50_000;

/// Type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Double,
    Whole,
    /// Microseconds since 1970, UTC.
    Moment,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub name: &'static str,
    pub kind: Kind,
}

/// A value of the column's kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Text(String),
    Double(f64),
    Whole(i64),
    Moment(i64),
}

/// A file that is whole.
pub(super) struct Done {
    pub rows: u64,
    pub bytes: u64,
    pub sha256: String,
    /// Per column.
    pub nulls: Vec<(&'static str, u64)>,
}

/// A file being written.
pub(super) struct Table {
    path: PathBuf,
    columns: &'static [Column],
    writer: SerializedFileWriter<File>,
    /// Per column.
    group: Vec<Vec<Option<Cell>>>,
    nulls: Vec<u64>,
    rows: u64,
}

impl Table {
    pub fn new(path: &Path, columns: &'static [Column]) -> Result<Self> {
        let fields: Vec<String> = columns
            .iter()
            .map(|Column { name, kind }| match kind {
                Kind::Text => format!("OPTIONAL BYTE_ARRAY {name} (UTF8);"),
                Kind::Double => format!("OPTIONAL DOUBLE {name};"),
                Kind::Whole => format!("OPTIONAL INT64 {name};"),
                Kind::Moment => format!("OPTIONAL INT64 {name} (TIMESTAMP(MICROS,true));"),
            })
            .collect();
        let schema = parse_message_type(&format!("message features {{ {} }}", fields.join(" ")))?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let file = File::create(path.with_extension("new"))?;
        let writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties))?;
        let group = vec![Vec::new(); columns.len()];
        let nulls = vec![0; columns.len()];
        Ok(Self { path: path.to_owned(), columns, writer, group, nulls, rows: 0 })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// One row, a cell for each column.
    pub fn push(&mut self, cells: Vec<Option<Cell>>) -> Result<()> {
        for (at, cell) in cells.into_iter().enumerate() {
            self.nulls[at] += u64::from(cell.is_none());
            self.group[at].push(cell);
        }
        self.rows += 1;
        if self.group[0].len() == GROUP { self.write_group() } else { Ok(()) }
    }

    fn write_group(&mut self) -> Result<()> {
        let mut group = self.writer.next_row_group()?;
        for cells in &mut self.group {
            let cells = std::mem::take(cells);
            let levels: Vec<i16> = cells.iter().map(|cell| i16::from(cell.is_some())).collect();
            let values = cells.into_iter().flatten();
            let Some(mut column) = group.next_column()? else {
                return Err(ParquetError::General("a column is missing".into()));
            };
            match column.untyped() {
                ColumnWriter::ByteArrayColumnWriter(writer) => {
                    let values: Vec<ByteArray> = values.filter_map(text).collect();
                    writer.write_batch(&values, Some(&levels), None)?;
                }
                ColumnWriter::DoubleColumnWriter(writer) => {
                    let values: Vec<f64> = values.filter_map(double).collect();
                    writer.write_batch(&values, Some(&levels), None)?;
                }
                ColumnWriter::Int64ColumnWriter(writer) => {
                    let values: Vec<i64> = values.filter_map(whole).collect();
                    writer.write_batch(&values, Some(&levels), None)?;
                }
                _ => return Err(ParquetError::General("no column has this type".into())),
            }
            column.close()?;
        }
        group.close()?;
        Ok(())
    }

    /// Puts the file where it belongs.
    pub fn finish(mut self) -> Result<Done> {
        if !self.group[0].is_empty() {
            self.write_group()?;
        }
        self.writer.into_inner()?.sync_all()?;
        let new = self.path.with_extension("new");
        let (bytes, sha256) = digest(&new)?;
        fs::rename(&new, &self.path)?;
        let names = self.columns.iter().map(|column| column.name);
        Ok(Done { rows: self.rows, bytes, sha256, nulls: names.zip(self.nulls).collect() })
    }
}

fn digest(path: &Path) -> std::io::Result<(u64, String)> {
    let (mut file, mut hash) = (File::open(path)?, Sha256::new());
    let (mut buffer, mut bytes) = (vec![0; 1 << 16], 0);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((bytes, hex::encode(hash.finalize())));
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
}

fn text(cell: Cell) -> Option<ByteArray> {
    match cell {
        Cell::Text(text) => Some(ByteArray::from(text.into_bytes())),
        Cell::Double(_) | Cell::Whole(_) | Cell::Moment(_) => None,
    }
}

fn double(cell: Cell) -> Option<f64> {
    match cell {
        Cell::Double(number) => Some(number),
        Cell::Text(_) | Cell::Whole(_) | Cell::Moment(_) => None,
    }
}

fn whole(cell: Cell) -> Option<i64> {
    match cell {
        Cell::Whole(number) | Cell::Moment(number) => Some(number),
        Cell::Text(_) | Cell::Double(_) => None,
    }
}
