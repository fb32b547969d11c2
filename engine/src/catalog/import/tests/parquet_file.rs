//! Writes small Parquet files.

use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::sync::Arc;

/// One flat column; `None` is null (the column must be optional then).
pub(super) enum Column<'a> {
    Text(&'a [Option<&'a str>]),
    Bytes(&'a [&'a [u8]]),
    Double(&'a [Option<f64>]),
    Long(&'a [i64]),
    Int(&'a [i32]),
    /// A list of texts in the standard three levels.
    Lists(&'a [&'a [&'a str]]),
}

/// A file of one row group.
pub(super) fn parquet(schema: &str, columns: &[Column<'_>]) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().build());
    let mut bytes = Vec::new();
    let mut file = SerializedFileWriter::new(&mut bytes, schema, properties).unwrap();
    let mut group = file.next_row_group().unwrap();
    for column in columns {
        let mut writer = group.next_column().unwrap().expect("the schema has this column");
        let levels = |there: Vec<bool>| -> Vec<i16> { there.into_iter().map(i16::from).collect() };
        match column {
            Column::Text(values) => {
                let there = levels(values.iter().map(Option::is_some).collect());
                let values: Vec<ByteArray> = values.iter().flatten().map(|v| (*v).into()).collect();
                writer.typed::<ByteArrayType>().write_batch(&values, Some(&there), None)
            }
            Column::Bytes(values) => {
                let values: Vec<ByteArray> = values.iter().map(|v| v.to_vec().into()).collect();
                writer.typed::<ByteArrayType>().write_batch(&values, None, None)
            }
            Column::Double(values) => {
                let there = levels(values.iter().map(Option::is_some).collect());
                let values: Vec<f64> = values.iter().flatten().copied().collect();
                writer.typed::<DoubleType>().write_batch(&values, Some(&there), None)
            }
            Column::Long(values) => writer.typed::<Int64Type>().write_batch(values, None, None),
            Column::Int(values) => writer.typed::<Int32Type>().write_batch(values, None, None),
            Column::Lists(lists) => {
                let values: Vec<ByteArray> =
                    lists.iter().flat_map(|l| l.iter()).map(|v| (*v).into()).collect();
                let definition = vec![1; values.len()];
                let repetition: Vec<i16> =
                    lists.iter().flat_map(|l| (0..l.len()).map(|at| i16::from(at > 0))).collect();
                let writer = writer.typed::<ByteArrayType>();
                writer.write_batch(&values, Some(&definition), Some(&repetition))
            }
        }
        .unwrap();
        writer.close().unwrap();
    }
    group.close().unwrap();
    file.close().unwrap();
    bytes
}
