//! Parquet: each row becomes a JSON object, null members written as `null`, integers and floats exact, timestamps as
//! RFC 3339 (one without a zone is taken as UTC), binary as hexadecimal.
//!
//! The file is read by record batches in its own order. This is the one place outside the engine's archive format that
//! names arrow and parquet: see docs/decisions/0002-parquet-input.md.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use arrow_array::{Array, RecordBatch, StructArray};
use arrow_json::EncoderOptions;
use arrow_json::writer::{NullableEncoder, make_encoder};
use arrow_schema::{DataType, Field, FieldRef};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use super::columns::take_key;
use super::{MAX_ROW_LEN, Row, RowSource, ValueKind};

/// Bytes of rows, as the file counts them before compression, that are decoded and encoded together: memory is a few times that,
/// as long as rows are about as long as the average of their row group.
const BATCH_BYTES: u64 = 8 << 20;
/// Rows of a batch at most: about a megabyte of JSON of a few numbers each.
const MAX_BATCH_ROWS: u64 = 8_192;

/// Rows of a Parquet file.
pub(super) struct ParquetRows {
    reader: ParquetRecordBatchReader,
    options: EncoderOptions,
    key_field: Option<String>,
    batch: EncodedRows,
    /// Rows of the batches before it.
    before: usize,
    read: Arc<AtomicU64>,
}

/// How many rows are read together: by the row group whose rows are longest.
fn batch_rows(metadata: &ParquetMetaData) -> usize {
    let row_bytes = |group: &RowGroupMetaData| {
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        count(group.total_byte_size()).div_ceil(count(group.num_rows()).max(1))
    };
    let longest = metadata.row_groups().iter().map(row_bytes).max().unwrap_or(0).max(1);
    (BATCH_BYTES / longest).clamp(1, MAX_BATCH_ROWS) as usize
}

/// The rows of one record batch as JSON, one behind the other.
#[derive(Default)]
struct EncodedRows {
    values: Vec<u8>,
    /// Where each value ends.
    ends: Vec<usize>,
    keys: String,
    /// Where each key ends, and whether it is there; empty without a key field.
    key_ends: Vec<(usize, bool)>,
    next: usize,
}

impl ParquetRows {
    /// Opens `file` and says how many rows it has; `read` counts rows.
    pub(super) fn open(file: File, key_field: Option<&str>, read: Arc<AtomicU64>) -> Result<(Self, u64)> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
        let rows = batch_rows(builder.metadata());
        let builder = builder.with_batch_size(rows);
        let total = u64::try_from(builder.metadata().file_metadata().num_rows()).context("negative row count")?;
        if let Some(field) = key_field {
            match builder.schema().field_with_name(field) {
                Err(_) => bail!("there is no column {field:?}"),
                Ok(column) if column.data_type().is_nested() => bail!("the column {field:?} is nested"),
                Ok(_) => {}
            }
        }
        let options = EncoderOptions::default()
            .with_explicit_nulls(true)
            .with_timestamp_format("%Y-%m-%dT%H:%M:%S%.fZ".to_owned());
        let rows = Self {
            reader: builder.build()?,
            options,
            key_field: key_field.map(str::to_owned),
            batch: EncodedRows::default(),
            before: 0,
            read,
        };
        Ok((rows, total))
    }

    fn load(&mut self) -> Result<bool> {
        self.before += self.batch.ends.len();
        let Some(batch) = self.reader.next().transpose().context("cannot read the parquet file")? else {
            return Ok(false);
        };
        self.batch.encode(batch, &self.options, (self.key_field.as_deref(), self.before))?;
        Ok(true)
    }
}

impl RowSource for ParquetRows {
    fn next(&mut self, row: &mut Row) -> Result<bool> {
        while self.batch.next == self.batch.ends.len() {
            if !self.load()? {
                return Ok(false);
            }
        }
        self.batch.take(row);
        self.read.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }
}

impl EncodedRows {
    /// Encodes `batch`, which has `before` rows before it.
    fn encode(
        &mut self,
        batch: RecordBatch,
        options: &EncoderOptions,
        (key_field, before): (Option<&str>, usize),
    ) -> Result<()> {
        *self =
            Self { values: std::mem::take(&mut self.values), ends: std::mem::take(&mut self.ends), ..Self::default() };
        self.values.clear();
        self.ends.clear();
        let rows = batch.num_rows();
        let key = key_field.and_then(|field| batch.schema().column_with_name(field).map(|(column, _)| column));
        if let Some(column) = key {
            self.encode_keys(&batch, column, options)?;
        }
        let whole = StructArray::from(batch);
        let field: FieldRef = Arc::new(Field::new("row", whole.data_type().clone(), false));
        let mut encoder = make_encoder(&field, &whole, options)?;
        for index in 0..rows {
            let start = self.values.len();
            encoder.encode(index, &mut self.values);
            if self.values.len() - start > MAX_ROW_LEN {
                bail!("row {} of the parquet file has more than {MAX_ROW_LEN} bytes", before + index + 1);
            }
            self.ends.push(self.values.len());
        }
        Ok(())
    }

    fn encode_keys(&mut self, batch: &RecordBatch, column: usize, options: &EncoderOptions) -> Result<()> {
        let schema = batch.schema();
        let field = &schema.fields()[column];
        let array = batch.column(column);
        let mut encoder: NullableEncoder<'_> = make_encoder(field, array, options)?;
        let is_text = matches!(field.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let mut row = Row::default();
        for index in 0..batch.num_rows() {
            row.value.clear();
            if encoder.is_null(index) {
                self.key_ends.push((self.keys.len(), false));
                continue;
            }
            // The key is what `take_key` makes of the member, so that a file gives the same keys as its NDJSON.
            row.value.extend_from_slice(b"{\"k\":");
            encoder.encode(index, &mut row.value);
            row.value.push(b'}');
            take_key(&mut row, Some("k"))?;
            debug_assert!(!is_text || row.has_key, "text has a key");
            self.keys.push_str(&row.key);
            self.key_ends.push((self.keys.len(), row.has_key));
        }
        Ok(())
    }

    fn take(&mut self, row: &mut Row) {
        let index = self.next;
        self.next += 1;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        row.kind = ValueKind::Json;
        row.value.clear();
        row.value.extend_from_slice(&self.values[start..self.ends[index]]);
        row.key.clear();
        row.has_key = false;
        if let Some((end, present)) = self.key_ends.get(index).copied() {
            let start = if index == 0 { 0 } else { self.key_ends[index - 1].0 };
            row.key.push_str(&self.keys[start..end]);
            row.has_key = present;
        }
    }
}

#[cfg(test)]
#[path = "parquet_tests.rs"]
mod tests;
