//! Writes an archive file: records in, bytes out, one row group in memory at a time.

use std::io;

use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::errors::ParquetError;

use super::metadata::{self, RowGroup};
use super::rows::Rows;
use super::{MAX_ROW_GROUPS, ROW_GROUP_BYTES, ROW_GROUP_ROWS, append_day, properties, schema};
use crate::error::{Error, Result};
use crate::model::{ArchiveFile, ArchiveRange, LogTime, ObjectId, Offset, StoredRecord, Topic, TopicPartition};

/// More row groups than one record batch and the group in progress can end (16 MiB and 100,000 records).
const ROW_GROUPS_OF_A_BATCH: usize = 8;

/// A file of one topic and one append day in the making. Records come in the order of (partition, offset); bytes can be
/// taken at any time and are those of the file, in order. Holds at most one row group, encoded and not, besides the
/// bytes that nobody took.
pub struct ArchiveWriter {
    id: ObjectId,
    topic: Topic,
    day: u32,
    text: bool,
    schema: arrow_schema::SchemaRef,
    inner: ArrowWriter<Sink>,
    rows: Rows,
    open: Option<Open>,
    groups: Vec<RowGroup>,
    ranges: Vec<ArchiveRange>,
    written: u64,
    min_timestamp: i64,
    max_timestamp: i64,
}

/// A complete file.
#[derive(Debug)]
pub struct FinishedArchive {
    /// The bytes that were not taken before.
    pub bytes: Bytes,
    /// The file.
    pub file: ArchiveFile,
    /// What it holds, by partition and offset; neighbours of one partition have a gap between them.
    pub ranges: Vec<ArchiveRange>,
}

/// The row group in progress.
#[derive(Clone, Copy)]
struct Open {
    partition: u32,
    start: Offset,
    end: Offset,
    max_timestamp: i64,
    min_append_time: LogTime,
    max_append_time: LogTime,
}

impl ArchiveWriter {
    /// An empty file of `topic` and append day `day`.
    ///
    /// # Errors
    /// Only a defect of this program.
    pub fn new(id: ObjectId, topic: &Topic, day: u32) -> Result<Self> {
        let text = schema::is_text(topic.settings.value_format);
        let arrow_schema = schema::arrow_schema(text);
        let options = ArrowWriterOptions::new()
            .with_properties(properties::writer_properties())
            .with_skip_arrow_metadata(true)
            .with_parquet_schema(schema::parquet_schema(text).map_err(defect)?);
        let inner =
            ArrowWriter::try_new_with_options(Sink::default(), arrow_schema.clone(), options).map_err(defect)?;
        Ok(Self {
            id,
            topic: topic.clone(),
            day,
            text,
            schema: arrow_schema,
            inner,
            rows: Rows::default(),
            open: None,
            groups: Vec::new(),
            ranges: Vec::new(),
            written: 0,
            min_timestamp: i64::MAX,
            max_timestamp: i64::MIN,
        })
    }

    /// Adds a record, behind all that were added before; a gap in the offsets begins another row group.
    ///
    /// # Errors
    /// `corrupt` if the record is out of order, of another day, or too large for the format: its source lied.
    pub fn push(&mut self, partition: u32, record: &StoredRecord) -> Result<()> {
        if append_day(record.append_time) != self.day || i32::try_from(partition).is_err() {
            return Err(self.refuse(partition, record, "does not belong into this file"));
        }
        if let Some(open) = self.open
            && (open.partition != partition
                || open.end != record.offset
                || self.rows.len() >= ROW_GROUP_ROWS
                || self.rows.bytes() + record.record.payload_len() > ROW_GROUP_BYTES)
        {
            self.cut()?;
        }
        let last = match (&self.open, self.groups.last()) {
            (Some(open), _) => Some((open.partition, open.end)),
            (None, Some(group)) => Some((group.partition, group.end)),
            (None, None) => None,
        };
        if last.is_some_and(|last| last > (partition, record.offset)) {
            return Err(self.refuse(partition, record, "is out of order"));
        }
        if !self.rows.push(record) {
            return Err(self.refuse(partition, record, "does not fit the archive's format"));
        }
        let timestamp = record.record.timestamp;
        let open = self.open.get_or_insert(Open {
            partition,
            start: record.offset,
            end: record.offset,
            max_timestamp: timestamp,
            min_append_time: record.append_time,
            max_append_time: record.append_time,
        });
        open.end = record.offset + 1;
        open.max_timestamp = open.max_timestamp.max(timestamp);
        open.max_append_time = record.append_time;
        self.min_timestamp = self.min_timestamp.min(timestamp);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        Ok(())
    }

    /// Ends the row group in progress, if any: frees what it holds.
    ///
    /// # Errors
    /// `corrupt` if a value of a text topic is not UTF-8. Such a value cannot be produced; the file must not be completed.
    pub fn cut(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        if self.groups.len() >= MAX_ROW_GROUPS {
            return Err(Error::internal("an archive file was not ended when it was full"));
        }
        let rows = self.rows.len() as u64;
        let batch = self.rows.take(open.partition as i32, &self.schema, self.text).map_err(|error| {
            let place = format!("{}/{} offsets {} to {}", self.topic.id, open.partition, open.start, open.end);
            Error::corrupt(format!("records of {place} do not fit the archive's columns")).with_source(error)
        })?;
        self.inner.write(&batch).and_then(|()| self.inner.flush()).map_err(defect)?;
        self.inner.sync().map_err(|error| defect(error.into()))?;
        let (position, bytes, crc32c) = self.inner.inner_mut().end_span();
        self.written += rows;
        self.groups.push(RowGroup {
            partition: open.partition,
            start: open.start,
            end: open.end,
            position,
            bytes,
            crc32c,
            max_timestamp: open.max_timestamp,
        });
        let continued =
            |range: &&mut ArchiveRange| (range.partition.partition, range.end) == (open.partition, open.start);
        match self.ranges.last_mut().filter(continued) {
            Some(range) => {
                range.end = open.end;
                range.bytes += bytes;
                range.max_timestamp = range.max_timestamp.max(open.max_timestamp);
                range.max_append_time = open.max_append_time;
            }
            None => self.ranges.push(ArchiveRange {
                partition: TopicPartition::new(self.topic.id, open.partition),
                start: open.start,
                end: open.end,
                file: self.id,
                bytes,
                max_timestamp: open.max_timestamp,
                min_append_time: open.min_append_time,
                max_append_time: open.max_append_time,
            }),
        }
        Ok(())
    }

    /// Takes the file's next bytes: those of the row groups that have ended since the last call.
    #[must_use]
    pub fn take_bytes(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.inner.inner_mut().bytes))
    }

    /// Whether the file should end, because it has `limit` bytes or its footer would grow too large: look at it after
    /// each record batch.
    #[must_use]
    pub fn is_full(&self, limit: u64) -> bool {
        self.inner.inner().position >= limit || self.groups.len() + ROW_GROUPS_OF_A_BATCH >= MAX_ROW_GROUPS
    }

    /// Completes the file, which must hold at least one record.
    ///
    /// # Errors
    /// As [`ArchiveWriter::cut`].
    pub fn finish(mut self) -> Result<FinishedArchive> {
        self.cut()?;
        if self.groups.is_empty() {
            return Err(Error::internal("an archive file cannot be empty"));
        }
        for pair in metadata::encode(&self.topic, self.day, &self.groups)? {
            self.inner.append_key_value_metadata(pair);
        }
        self.inner.finish().map_err(defect)?;
        self.inner.sync().map_err(|error| defect(error.into()))?;
        let (footer_start, footer_bytes, footer_crc32c) = self.inner.inner_mut().end_span();
        let file = ArchiveFile {
            id: self.id,
            topic: self.topic.id,
            day: self.day,
            rows: self.written,
            bytes: footer_start + footer_bytes,
            footer_start,
            footer_crc32c,
            min_timestamp: self.min_timestamp,
            max_timestamp: self.max_timestamp,
        };
        Ok(FinishedArchive { bytes: self.take_bytes(), file, ranges: self.ranges })
    }

    fn refuse(&self, partition: u32, record: &StoredRecord, what: &str) -> Error {
        Error::corrupt(format!("record {}/{partition} offset {} {what}", self.topic.id, record.offset))
    }
}

fn defect(error: ParquetError) -> Error {
    Error::internal("an archive file cannot be written").with_source(error)
}

/// Where the Parquet writer's bytes go: kept until taken, summed span by span.
#[derive(Default)]
struct Sink {
    bytes: Vec<u8>,
    position: u64,
    span_start: u64,
    crc32c: u32,
}

impl Sink {
    /// Ends the span in progress: where it begins, its length, its CRC-32C.
    fn end_span(&mut self) -> (u64, u64, u32) {
        let start = std::mem::replace(&mut self.span_start, self.position);
        (start, self.position - start, std::mem::take(&mut self.crc32c))
    }
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        self.position += bytes.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
