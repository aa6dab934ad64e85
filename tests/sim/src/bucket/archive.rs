//! Parquet files of the archive, read as any reader does.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int32Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef, RecordBatch, StructArray};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{Found, rest_of};
use crate::history::{Record, Stamped};

/// All records of a file with their partitions, in the order in which they lie there.
pub(super) fn records(object: &Bytes) -> Result<Vec<(u32, Found)>, String> {
    let text = |error: parquet::errors::ParquetError| error.to_string();
    let reader = ParquetRecordBatchReaderBuilder::try_new(object.clone()).map_err(text)?.build().map_err(text)?;
    let mut all = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|error| error.to_string())?;
        for row in 0..batch.num_rows() {
            all.push(record(&batch, row)?);
        }
    }
    Ok(all)
}

fn record(batch: &RecordBatch, row: usize) -> Result<(u32, Found), String> {
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| format!("there is no column {name}"));
    let int = |name: &str| Ok::<_, String>(column(name)?.as_primitive::<Int32Type>().value(row));
    let timestamp = column("timestamp")?.as_primitive::<TimestampMillisecondType>().value(row);
    let offset = column("offset")?.as_primitive::<Int64Type>().value(row).cast_unsigned();
    let key = bytes(column("key")?, row);
    let value = bytes(column("value")?, row).unwrap_or_default();
    let headers = headers(column("headers")?.as_list::<i32>().value(row).as_struct());
    let producer = column("producer_id")?.as_primitive::<Int64Type>();
    let stamp = if producer.is_null(row) {
        None
    } else {
        let (epoch, sequence) = (int("producer_epoch")?, int("sequence")?);
        let epoch = u16::try_from(epoch).map_err(|_| format!("{epoch} is no epoch"))?;
        Some(Stamped { producer: producer.value(row).cast_unsigned(), epoch, sequence: sequence.cast_unsigned() })
    };
    let value = String::from_utf8_lossy(&value).into_owned();
    let record = Record { value, rest: rest_of(key.as_deref(), &headers, timestamp) };
    Ok((int("partition")?.cast_unsigned(), Found { offset, record, stamp }))
}

/// A value of a column of bytes or of text.
fn bytes(column: &ArrayRef, row: usize) -> Option<Vec<u8>> {
    if column.is_null(row) {
        return None;
    }
    match column.as_binary_opt::<i32>() {
        Some(values) => Some(values.value(row).to_vec()),
        None => column.as_string_opt::<i32>().map(|values| values.value(row).as_bytes().to_vec()),
    }
}

fn headers(list: &StructArray) -> Vec<(String, Option<Vec<u8>>)> {
    let (names, values) = (list.column(0), list.column(1));
    let name = |row| String::from_utf8_lossy(&bytes(names, row).unwrap_or_default()).into_owned();
    (0..list.len()).map(|row| (name(row), bytes(values, row))).collect()
}
