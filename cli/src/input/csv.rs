//! CSV with a header line; each row becomes an object whose members are strings, in the order of the columns.
//!
//! Nothing is guessed: `007` stays `"007"`, an empty cell is the empty string.

use std::io::Read;

use ::csv::{Reader, ReaderBuilder, StringRecord};
use anyhow::{Context, Result, bail};

use super::{MAX_ROW_LEN, Row, RowSource, ValueKind};

const BUFFER_LEN: usize = 1 << 18;

/// Rows of a CSV.
pub(super) struct CsvRows {
    reader: Reader<Box<dyn Read + Send>>,
    record: StringRecord,
    /// For each column what precedes its value: `{"name":` or `,"name":`.
    openings: Vec<Vec<u8>>,
    key_column: Option<usize>,
}

impl CsvRows {
    pub(super) fn open(reader: Box<dyn Read + Send>, key_field: Option<&str>) -> Result<Self> {
        let mut reader = ReaderBuilder::new().buffer_capacity(BUFFER_LEN).from_reader(reader);
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
        Ok(Self { reader, record: StringRecord::new(), openings, key_column })
    }
}

impl RowSource for CsvRows {
    fn next(&mut self, row: &mut Row) -> Result<bool> {
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
