//! Arrow batches back to records, without copying keys and values.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{ByteArrayType, Int32Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, GenericByteArray, Int32Array, Int64Array, RecordBatch, StructArray};
use arrow_buffer::ArrowNativeType;
use arrow_schema::DataType;
use bytes::Bytes;

use super::schema::column;
use crate::model::{Header, Offset, ProducerId, Record, StoredRecord, Triple};

type Result<T> = std::result::Result<T, String>;

/// Appends the records of a batch that has all columns.
pub(super) fn records(batch: &RecordBatch, records: &mut Vec<StoredRecord>) -> Result<()> {
    if batch.num_columns() != column::COUNT {
        return Err("lacks columns".to_owned());
    }
    let offsets = int64(batch, column::OFFSET)?;
    let timestamps = time(batch, column::TIMESTAMP)?;
    let append_times = time(batch, column::APPEND_TIME)?;
    let keys = Slices::of(batch.column(column::KEY))?;
    let values = Slices::of(batch.column(column::VALUE))?;
    let headers = Headers::of(batch)?;
    let triples = Triples::of(batch)?;
    records.reserve(batch.num_rows());
    for row in 0..batch.num_rows() {
        records.push(StoredRecord {
            offset: unsigned(offsets.value(row))?,
            append_time: unsigned(append_times.value(row))?,
            triple: triples.get(row)?,
            record: Record {
                timestamp: timestamps.value(row),
                key: keys.get(row),
                value: values.get(row),
                headers: headers.get(row)?,
            },
        });
    }
    Ok(())
}

/// Offsets and timestamps of a batch that has these two columns.
pub(super) fn offsets_and_timestamps(batch: &RecordBatch) -> Result<Vec<(Offset, i64)>> {
    if batch.num_columns() != 2 {
        return Err("lacks columns".to_owned());
    }
    let timestamps = time(batch, 1)?;
    int64(batch, 0)?
        .values()
        .iter()
        .zip(timestamps.values())
        .map(|(offset, at)| Ok((unsigned(*offset)?, *at)))
        .collect()
}

fn unsigned(number: i64) -> Result<u64> {
    u64::try_from(number).map_err(|_| format!("has the number {number}"))
}

fn wrong_type() -> String {
    "has a column of another type".to_owned()
}

fn int64(batch: &RecordBatch, column: usize) -> Result<&Int64Array> {
    batch.column(column).as_primitive_opt::<Int64Type>().ok_or_else(wrong_type)
}

fn int32(batch: &RecordBatch, column: usize) -> Result<&Int32Array> {
    batch.column(column).as_primitive_opt::<Int32Type>().ok_or_else(wrong_type)
}

fn time(batch: &RecordBatch, column: usize) -> Result<&arrow_array::TimestampMillisecondArray> {
    batch.column(column).as_primitive_opt::<TimestampMillisecondType>().ok_or_else(wrong_type)
}

/// A binary or string column whose bytes are handed out as slices of the one buffer.
struct Slices {
    data: Bytes,
    ends: arrow_buffer::OffsetBuffer<i32>,
    nulls: Option<arrow_buffer::NullBuffer>,
}

impl Slices {
    fn of(array: &Arc<dyn Array>) -> Result<Self> {
        match array.data_type() {
            DataType::Binary => Ok(Self::new(array.as_binary::<i32>())),
            DataType::Utf8 => Ok(Self::new(array.as_string::<i32>())),
            _ => Err(wrong_type()),
        }
    }

    fn new<T: ByteArrayType<Offset = i32>>(array: &GenericByteArray<T>) -> Self {
        Self {
            data: Bytes::from_owner(Shared(array.values().clone())),
            ends: array.offsets().clone(),
            nulls: array.nulls().cloned(),
        }
    }

    fn get(&self, row: usize) -> Option<Bytes> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return None;
        }
        // Arrow has checked that the ends ascend within the data.
        Some(self.data.slice(self.ends[row].as_usize()..self.ends[row + 1].as_usize()))
    }
}

/// Arrow's buffer as an owner of [`Bytes`].
struct Shared(arrow_buffer::Buffer);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

struct Headers {
    ends: arrow_buffer::OffsetBuffer<i32>,
    names: arrow_array::StringArray,
    values: Slices,
}

impl Headers {
    fn of(batch: &RecordBatch) -> Result<Self> {
        let list = batch.column(column::HEADERS).as_list_opt::<i32>().ok_or_else(wrong_type)?;
        let element: &StructArray = list.values().as_struct_opt().ok_or_else(wrong_type)?;
        let [names, values] = element.columns() else { return Err(wrong_type()) };
        let names = names.as_string_opt::<i32>().ok_or_else(wrong_type)?.clone();
        Ok(Self { ends: list.offsets().clone(), names, values: Slices::of(values)? })
    }

    fn get(&self, row: usize) -> Result<Vec<Header>> {
        let entries = self.ends[row].as_usize()..self.ends[row + 1].as_usize();
        Ok(entries
            .map(|entry| Header { name: self.names.value(entry).to_owned(), value: self.values.get(entry) })
            .collect())
    }
}

struct Triples<'a> {
    producers: &'a Int64Array,
    epochs: &'a Int32Array,
    sequences: &'a Int32Array,
}

impl<'a> Triples<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self> {
        Ok(Self {
            producers: int64(batch, column::PRODUCER_ID)?,
            epochs: int32(batch, column::PRODUCER_EPOCH)?,
            sequences: int32(batch, column::SEQUENCE)?,
        })
    }

    fn get(&self, row: usize) -> Result<Option<Triple>> {
        if self.producers.is_null(row) {
            return Ok(None);
        }
        let bad = |_| "has a producer that is none".to_owned();
        Ok(Some(Triple {
            id: ProducerId(unsigned(self.producers.value(row))?),
            epoch: u16::try_from(self.epochs.value(row)).map_err(bad)?,
            sequence: u32::try_from(self.sequences.value(row)).map_err(bad)?,
        }))
    }
}
