//! Rows to produce, read from standard input or a file in one of five formats.
//!
//! A [`RowSource`] is pulled by one blocking thread and reuses the buffers of one [`Row`], so that memory does not grow
//! with the input. The order and the content of the rows depend on the input alone: resuming a file relies on it.
//! Nothing here knows of topics, partitions or the network.

mod columns;
mod csv;
mod json_array;
mod lines;
mod parquet;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::exit::usage;

/// Bytes that one row of text may have: far above what a record may, so that the server states the real limit.
const MAX_ROW_LEN: usize = 16 << 20;

/// How input is cut into rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Each line is a value, as it is.
    Lines,
    /// Each line is a JSON value.
    Ndjson,
    /// One JSON array, each element of which is a value.
    Json,
    /// A header line, then one JSON object of strings for each row.
    Csv,
    /// One JSON object for each row.
    Parquet,
}

impl Format {
    /// The format that the name of a file tells, by its extension.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        Some(match extension.as_str() {
            "txt" | "log" | "lines" => Self::Lines,
            "ndjson" | "jsonl" => Self::Ndjson,
            "json" => Self::Json,
            "csv" => Self::Csv,
            "parquet" => Self::Parquet,
            _ => return None,
        })
    }

    /// Whether rows have fields, so that one of them can be the key.
    pub(crate) fn has_fields(self) -> bool {
        self != Self::Lines
    }
}

/// What the bytes of a row's value are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ValueKind {
    /// Valid JSON text on one line.
    #[default]
    Json,
    /// UTF-8.
    Text,
    /// Anything else.
    Binary,
}

/// One row; its buffers are reused from row to row.
#[derive(Debug, Default)]
pub(crate) struct Row {
    /// The value of the key field; empty without one.
    pub key: String,
    /// Whether there is a key: an empty one differs from none.
    pub has_key: bool,
    /// What `value` is.
    pub kind: ValueKind,
    /// The value.
    pub value: Vec<u8>,
}

/// Rows in the order of the input.
pub(crate) trait RowSource: Send {
    /// Reads the next row into `row`; `false` at the end.
    fn next(&mut self, row: &mut Row) -> Result<bool>;
}

/// How much of the input there is, in the unit in which [`Input::read`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Bytes.
    Bytes(u64),
    /// Rows.
    Rows(u64),
    /// A pipe.
    Unknown,
}

/// An opened input.
pub(crate) struct Input {
    /// Its rows.
    pub rows: Box<dyn RowSource>,
    /// How much there is.
    pub extent: Extent,
    /// Bytes (or rows) that were read so far.
    pub read: Arc<AtomicU64>,
}

/// Opens `path`, or standard input without one.
pub(crate) fn open(path: Option<&Path>, format: Format, key_field: Option<&str>) -> Result<Input> {
    let Some(path) = path else {
        if format == Format::Parquet {
            return Err(usage("parquet cannot be read from standard input: name a file with --file"));
        }
        let read = Arc::new(AtomicU64::new(0));
        let reader = Counted { inner: io::stdin(), read: Arc::clone(&read) };
        return Ok(Input { rows: text_rows(Box::new(reader), format, key_field)?, extent: Extent::Unknown, read });
    };
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let read = Arc::new(AtomicU64::new(0));
    if format == Format::Parquet {
        let (rows, total) = parquet::ParquetRows::open(file, key_field, Arc::clone(&read))
            .with_context(|| format!("cannot read {} as parquet", path.display()))?;
        return Ok(Input { rows: Box::new(rows), extent: Extent::Rows(total), read });
    }
    let metadata = file.metadata().with_context(|| format!("cannot read {}", path.display()))?;
    let extent = if metadata.is_file() { Extent::Bytes(metadata.len()) } else { Extent::Unknown };
    let reader = Counted { inner: file, read: Arc::clone(&read) };
    Ok(Input { rows: text_rows(Box::new(reader), format, key_field)?, extent, read })
}

/// The rows of an input that can be read front to back.
fn text_rows(reader: Box<dyn Read + Send>, format: Format, key_field: Option<&str>) -> Result<Box<dyn RowSource>> {
    let key_field = key_field.map(str::to_owned);
    Ok(match format {
        Format::Lines => Box::new(lines::LineRows::new(reader)),
        Format::Ndjson => Box::new(lines::NdjsonRows::new(reader, key_field)),
        Format::Json => Box::new(json_array::ArrayRows::new(reader, key_field)),
        Format::Csv => Box::new(csv::CsvRows::open(reader, key_field.as_deref())?),
        Format::Parquet => bail!("parquet is read from a file"),
    })
}

/// A reader that counts what it gave.
struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
