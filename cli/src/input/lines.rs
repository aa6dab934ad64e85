//! Lines: each a value as it is, or each a JSON value.

use std::io::{BufRead, BufReader, Read};

use anyhow::{Context, Result, bail};

use super::columns::take_key;
use super::{MAX_ROW_LEN, Row, RowSource, ValueKind};

const BUFFER_LEN: usize = 1 << 18;

/// Lines of any bytes; the line break, also one of CR LF, is no part of the value. An empty line is an empty value.
pub(super) struct LineRows {
    lines: Lines,
}

impl LineRows {
    pub(super) fn new(reader: Box<dyn Read + Send>) -> Self {
        Self { lines: Lines::new(reader) }
    }
}

impl RowSource for LineRows {
    fn next(&mut self, row: &mut Row) -> Result<bool> {
        row.has_key = false;
        if !self.lines.next(&mut row.value)? {
            return Ok(false);
        }
        row.kind = if std::str::from_utf8(&row.value).is_ok() { ValueKind::Text } else { ValueKind::Binary };
        Ok(true)
    }
}

/// One JSON value a line; blank lines are skipped. Each line is checked whole, because it becomes a part of a request.
pub(super) struct NdjsonRows {
    lines: Lines,
    key_field: Option<String>,
}

impl NdjsonRows {
    pub(super) fn new(reader: Box<dyn Read + Send>, key_field: Option<String>) -> Self {
        Self { lines: Lines::new(reader), key_field }
    }
}

impl RowSource for NdjsonRows {
    fn next(&mut self, row: &mut Row) -> Result<bool> {
        loop {
            if !self.lines.next(&mut row.value)? {
                return Ok(false);
            }
            if !row.value.trim_ascii().is_empty() {
                break;
            }
        }
        trim(&mut row.value);
        take_key(row, self.key_field.as_deref()).with_context(|| format!("line {}", self.lines.number))?;
        Ok(true)
    }
}

/// Removes white space at both ends.
pub(super) fn trim(bytes: &mut Vec<u8>) {
    let end = bytes.trim_ascii_end().len();
    bytes.truncate(end);
    let start = bytes.len() - bytes.trim_ascii_start().len();
    bytes.drain(..start);
}

struct Lines {
    reader: BufReader<Box<dyn Read + Send>>,
    /// Of the line read last, from 1.
    number: u64,
}

impl Lines {
    fn new(reader: Box<dyn Read + Send>) -> Self {
        Self { reader: BufReader::with_capacity(BUFFER_LEN, reader), number: 0 }
    }

    fn next(&mut self, line: &mut Vec<u8>) -> Result<bool> {
        line.clear();
        self.number += 1;
        let limit = MAX_ROW_LEN as u64 + 2;
        let count = (&mut self.reader).take(limit).read_until(b'\n', line).context("cannot read the input")?;
        if line.last() == Some(&b'\n') {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
        }
        if line.len() > MAX_ROW_LEN {
            bail!("line {} has more than {MAX_ROW_LEN} bytes", self.number);
        }
        Ok(count > 0)
    }
}
