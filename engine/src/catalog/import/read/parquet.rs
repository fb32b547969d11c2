//! Parquet. Row groups are read page by page; only the columns that are needed.

use super::{Record, Rows, Step};
use crate::catalog::import::columns::{self, Entity, Mapping};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub(in super::super) struct ParquetRows {
    rows: RowIter<'static>,
    entity: Entity,
    // For each column that is read, the fields it serves.
    fields: Vec<Vec<usize>>,
    columns: columns::Resolved,
    row: u64,
    total: u64,
    bytes: u64,
    progress: Arc<AtomicU64>,
}

impl ParquetRows {
    /// Reads the footer. `progress` is kept at the share of the rows that were read, in bytes of
    /// the file, which has `bytes`. Error: a sentence.
    pub(in super::super) fn open(
        file: File,
        entity: Entity,
        mapping: &Mapping,
        bytes: u64,
        progress: Arc<AtomicU64>,
    ) -> Result<Self, String> {
        let reader = guarded(|| SerializedFileReader::new(file))?;
        let metadata = reader.metadata().file_metadata();
        let total = metadata.num_rows().unsigned_abs();
        let schema = metadata.schema_descr().root_schema_ptr();
        let header: Vec<String> =
            schema.get_fields().iter().map(|field| field.name().to_owned()).collect();
        let resolved = columns::resolve(entity, mapping, &header)?;
        // The projection keeps the file's order of columns.
        let mut wanted = Vec::new();
        let mut fields = Vec::new();
        for (column, field) in schema.get_fields().iter().enumerate() {
            let serves: Vec<usize> = (0..resolved.columns.len())
                .filter(|at| resolved.columns[*at] == Some(column))
                .collect();
            if !serves.is_empty() {
                wanted.push(field.clone());
                fields.push(serves);
            }
        }
        let rows = guarded(|| {
            let projection = Type::group_type_builder(schema.name()).with_fields(wanted).build()?;
            RowIter::from_file_into(Box::new(reader)).project(Some(projection))
        })?;
        Ok(Self { rows, entity, fields, columns: resolved, row: 0, total, bytes, progress })
    }
}

impl Rows for ParquetRows {
    fn next(&mut self, record: &mut Record) -> Result<Step, String> {
        record.number = self.row + 1;
        let Some(row) = guarded(|| self.rows.next().transpose())? else {
            if self.row != self.total {
                return Err(format!("the file ends after {} of its {} rows", self.row, self.total));
            }
            return Ok(Step::End);
        };
        self.row += 1;
        let read = u128::from(self.bytes) * u128::from(self.row) / u128::from(self.total.max(1));
        self.progress.store(read as u64, Ordering::Relaxed);
        record.clear();
        for ((name, value), fields) in row.get_column_iter().zip(&self.fields) {
            for field in fields {
                match text(value, self.entity.fields()[*field].joined_by()) {
                    Ok(value) => record.values[*field] = value,
                    Err(what) => return Ok(Step::Bad(format!("`{name}` is {what}"))),
                }
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
        "row"
    }
}

/// Runs the decoder; on damaged bytes it may give an error or panic, and both are a sentence here.
fn guarded<T>(read: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(format!("not a sound Parquet file ({e})")),
        Err(_) => Err("not a sound Parquet file (its pages are damaged)".into()),
    }
}

/// A value as text; lists as in JSON Lines. Error: what it is.
fn text(value: &Field, join: Option<(&str, &str)>) -> Result<String, &'static str> {
    match value {
        Field::Null => Ok(String::new()),
        Field::Str(text) => Ok(text.clone()),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err("not UTF-8"),
        },
        Field::Float(number) => Ok(number.to_string()),
        Field::Double(number) => Ok(number.to_string()),
        Field::TimestampMillis(at) => rfc3339(i128::from(*at) * 1_000_000),
        Field::TimestampMicros(at) => rfc3339(i128::from(*at) * 1_000),
        Field::Date(days) => rfc3339(i128::from(*days) * 86_400_000_000_000),
        Field::Group(_) => Err("a group of columns, not text or a number"),
        Field::MapInternal(_) => Err("a map, not text or a number"),
        Field::ListInternal(list) => {
            let elements = list.elements();
            let (inner, outer) = join.ok_or("a list, not text or a number")?;
            let nested = elements.iter().any(|e| matches!(e, Field::ListInternal(_)));
            let parts: Result<Vec<String>, _> = elements.iter().map(|e| text(e, join)).collect();
            Ok(parts?.join(if nested { outer } else { inner }))
        }
        // Integers, booleans and decimals print as themselves.
        plain => Ok(plain.to_string()),
    }
}

fn rfc3339(nanos: i128) -> Result<String, &'static str> {
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|at| at.format(&Rfc3339).ok())
        .ok_or("a time beyond the year 9999")
}
