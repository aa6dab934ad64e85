//! CSV with a header line; each row becomes an object whose members are strings, in the order of the columns.
//!
//! Nothing is guessed: `007` stays `"007"`, an empty cell is the empty string.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::csv::{Reader, ReaderBuilder, StringRecord};
use anyhow::{Context, Result, bail};

use super::{MAX_ROW_LEN, Row, RowSource, ValueKind};

const BUFFER_LEN: usize = 1 << 18;
/// Bytes that may be read for one row: as JSON it has about as many, and more than [`MAX_ROW_LEN`] are refused by themselves.
const MAX_READ: usize = 2 * MAX_ROW_LEN;

/// Rows of a CSV.
pub(super) struct CsvRows {
    reader: Reader<Box<dyn Read + Send>>,
    record: StringRecord,
    /// For each column what precedes its value: `{"name":` or `,"name":`.
    openings: Vec<Vec<u8>>,
    key_column: Option<usize>,
    left: Arc<AtomicUsize>,
}

/// Ends with an error where a row does not: a quote that is not closed would have all of the input in memory.
struct Bounded {
    inner: Box<dyn Read + Send>,
    /// Bytes that may still be read for this row.
    left: Arc<AtomicUsize>,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return Err(io::Error::other(format!("a row has more than {MAX_ROW_LEN} bytes: is a quote not closed?")));
        }
        let room = buffer.len().min(left);
        let count = self.inner.read(&mut buffer[..room])?;
        self.left.store(left - count, Ordering::Relaxed);
        Ok(count)
    }
}

impl CsvRows {
    pub(super) fn open(reader: Box<dyn Read + Send>, key_field: Option<&str>) -> Result<Self> {
        let left = Arc::new(AtomicUsize::new(MAX_READ));
        let bounded: Box<dyn Read + Send> = Box::new(Bounded { inner: reader, left: Arc::clone(&left) });
        let mut reader = ReaderBuilder::new().buffer_capacity(BUFFER_LEN).from_reader(bounded);
        let header = reader.headers().context("cannot read the header line of the CSV")?.clone();
        let mut openings = Vec::with_capacity(header.len());
        for (column, name) in header.iter().enumerate() {
            if header.iter().take(column).any(|other| other == name) {
                bail!("the CSV has two columns {name:?}");
            }
            let mut opening = vec![if column == 0 { b'{' } else { b',' }];
            serde_json::to_writer(&mut opening, name)?;
            opening.push(b':');
            openings.push(opening);
        }
        let key_column = match key_field {
            Some(field) => match header.iter().position(|name| name == field) {
                None => bail!("the CSV has no column {field:?}"),
                found => found,
            },
            None => None,
        };
        Ok(Self { reader, record: StringRecord::new(), openings, key_column, left })
    }
}

impl RowSource for CsvRows {
    fn next(&mut self, row: &mut Row) -> Result<bool> {
        self.left.store(MAX_READ, Ordering::Relaxed);
        if !self.reader.read_record(&mut self.record).context("cannot read the CSV")? {
            return Ok(false);
        }
        row.kind = ValueKind::Json;
        row.has_key = self.key_column.is_some();
        row.key.clear();
        row.value.clear();
        for (column, (opening, cell)) in self.openings.iter().zip(&self.record).enumerate() {
            row.value.extend_from_slice(opening);
            serde_json::to_writer(&mut row.value, cell)?;
            if self.key_column == Some(column) {
                row.key.push_str(cell);
            }
        }
        row.value.push(b'}');
        if row.value.len() > MAX_ROW_LEN {
            bail!("a row of the CSV has more than {MAX_ROW_LEN} bytes");
        }
        Ok(true)
    }
}
