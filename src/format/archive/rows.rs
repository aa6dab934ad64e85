//! Records gathered into columns: the row group in progress.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampMillisecondArray,
};
use arrow_buffer::{Buffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, SchemaRef};
use bytes::Bytes;

use super::schema::{header_element, header_fields};
use crate::model::StoredRecord;

/// Bytes that one row group can hold at all: Arrow's 32-bit offsets.
const MAX_BYTES: usize = i32::MAX as usize;

/// Columns of records of one partition.
#[derive(Default)]
pub(super) struct Rows {
    offsets: Vec<i64>,
    timestamps: Vec<i64>,
    append_times: Vec<i64>,
    keys: Binary,
    values: Binary,
    header_ends: Vec<i32>,
    header_names: Binary,
    header_values: Binary,
    producers: Vec<i64>,
    epochs: Vec<i32>,
    sequences: Vec<i32>,
    triples: Validity,
    bytes: usize,
}

impl Rows {
    /// Records in it.
    pub(super) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Key, value and header bytes in it.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a record; `false`, and nothing added, if it does not fit at all.
    pub(super) fn push(&mut self, record: &StoredRecord) -> bool {
        let content = &record.record;
        let bytes = content.payload_len();
        let headers = self.header_names.len() + content.headers.len();
        let (Ok(offset), Ok(append_time)) = (i64::try_from(record.offset), i64::try_from(record.append_time)) else {
            return false;
        };
        if self.bytes.saturating_add(bytes) > MAX_BYTES || headers > MAX_BYTES {
            return false;
        }
        let (producer, epoch, sequence) = match record.triple {
            // Producer ids stay below 2^53 and sequences below 2^31.
            Some(triple) => match (i64::try_from(triple.id.0), i32::try_from(triple.sequence)) {
                (Ok(producer), Ok(sequence)) => (producer, i32::from(triple.epoch), sequence),
                _ => return false,
            },
            None => (0, 0, 0),
        };
        self.offsets.push(offset);
        self.timestamps.push(content.timestamp);
        self.append_times.push(append_time);
        self.keys.push(content.key.as_ref());
        self.values.push(content.value.as_ref());
        for header in &content.headers {
            self.header_names.push_bytes(header.name.as_bytes());
            self.header_values.push(header.value.as_ref());
        }
        self.header_ends.push(headers as i32);
        self.producers.push(producer);
        self.epochs.push(epoch);
        self.sequences.push(sequence);
        self.triples.push(record.triple.is_some());
        self.bytes += bytes;
        true
    }

    /// Everything gathered, as one batch of `schema`; leaves nothing.
    ///
    /// # Errors
    /// A value of a text topic, or a header name, is not UTF-8.
    pub(super) fn take(&mut self, partition: i32, schema: &SchemaRef, text: bool) -> Result<RecordBatch, ArrowError> {
        let rows = std::mem::take(self);
        let len = rows.len();
        let triples = rows.triples.finish();
        let element = StructArray::try_new(
            header_fields(),
            vec![Arc::new(rows.header_names.into_string()?), Arc::new(rows.header_values.into_binary()?)],
            None,
        )?;
        let ends = std::iter::once(0).chain(rows.header_ends).collect::<Vec<i32>>();
        let headers =
            ListArray::try_new(header_element(), OffsetBuffer::new(ScalarBuffer::from(ends)), Arc::new(element), None)?;
        let values: ArrayRef =
            if text { Arc::new(rows.values.into_string()?) } else { Arc::new(rows.values.into_binary()?) };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(vec![partition; len])),
            Arc::new(Int64Array::from(rows.offsets)),
            Arc::new(TimestampMillisecondArray::from(rows.timestamps).with_timezone("UTC")),
            Arc::new(TimestampMillisecondArray::from(rows.append_times).with_timezone("UTC")),
            Arc::new(rows.keys.into_binary()?),
            values,
            Arc::new(headers),
            Arc::new(Int64Array::try_new(rows.producers.into(), triples.clone())?),
            Arc::new(Int32Array::try_new(rows.epochs.into(), triples.clone())?),
            Arc::new(Int32Array::try_new(rows.sequences.into(), triples)?),
            Arc::new(Int32Array::new_null(len)),
        ];
        RecordBatch::try_new(Arc::clone(schema), columns)
    }
}

/// A column of byte strings in the making.
#[derive(Default)]
struct Binary {
    data: Vec<u8>,
    ends: Vec<i32>,
    validity: Validity,
}

impl Binary {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn push(&mut self, bytes: Option<&Bytes>) {
        self.data.extend_from_slice(bytes.map_or(&[], |bytes| bytes));
        self.ends.push(self.data.len() as i32);
        self.validity.push(bytes.is_some());
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        self.data.extend_from_slice(bytes);
        self.ends.push(self.data.len() as i32);
        self.validity.push(true);
    }

    fn into_parts(self) -> (OffsetBuffer<i32>, Buffer, Option<arrow_buffer::NullBuffer>) {
        let ends = std::iter::once(0).chain(self.ends).collect::<Vec<i32>>();
        (OffsetBuffer::new(ScalarBuffer::from(ends)), Buffer::from_vec(self.data), self.validity.finish())
    }

    fn into_binary(self) -> Result<BinaryArray, ArrowError> {
        let (ends, data, nulls) = self.into_parts();
        BinaryArray::try_new(ends, data, nulls)
    }

    fn into_string(self) -> Result<StringArray, ArrowError> {
        let (ends, data, nulls) = self.into_parts();
        StringArray::try_new(ends, data, nulls)
    }
}

/// Which rows are not null.
struct Validity(NullBufferBuilder);

impl Default for Validity {
    fn default() -> Self {
        Self(NullBufferBuilder::new(0))
    }
}

impl Validity {
    fn push(&mut self, valid: bool) {
        self.0.append(valid);
    }

    fn finish(mut self) -> Option<arrow_buffer::NullBuffer> {
        self.0.finish()
    }
}
