//! The elements of one JSON array, cut out one by one: the array is never held whole.

use std::io::{BufReader, Bytes, Read};

use anyhow::{Context, Result, bail};

use super::columns::take_key;
use super::lines::trim;
use super::{MAX_ROW_LEN, Row, RowSource};

const BUFFER_LEN: usize = 1 << 18;

/// Elements of an array. The cut looks at strings and brackets only; each element is then checked whole.
pub(super) struct ArrayRows {
    bytes: Bytes<BufReader<Box<dyn Read + Send>>>,
    key_field: Option<String>,
    state: State,
    /// Elements given so far.
    count: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Before,
    Within,
    After,
}

impl ArrayRows {
    pub(super) fn new(reader: Box<dyn Read + Send>, key_field: Option<String>) -> Self {
        let bytes = BufReader::with_capacity(BUFFER_LEN, reader).bytes();
        Self { bytes, key_field, state: State::Before, count: 0 }
    }

    fn byte(&mut self) -> Result<Option<u8>> {
        self.bytes.next().transpose().context("cannot read the input")
    }

    fn open_array(&mut self) -> Result<()> {
        loop {
            match self.byte()? {
                Some(b' ' | b'\t' | b'\r' | b'\n') => {}
                Some(b'[') => break,
                _ => bail!("the input is not a JSON array"),
            }
        }
        self.state = State::Within;
        Ok(())
    }

    /// Reads up to the comma or bracket that ends the element, and says whether it ended the array too.
    fn cut_element(&mut self, element: &mut Vec<u8>) -> Result<bool> {
        element.clear();
        let (mut depth, mut in_string, mut escaped) = (0_u32, false, false);
        loop {
            let Some(byte) = self.byte()? else { bail!("the JSON array is not closed") };
            if in_string {
                in_string = escaped || byte != b'"';
                escaped = !escaped && byte == b'\\';
            } else {
                match byte {
                    b'"' => in_string = true,
                    b'{' | b'[' => depth += 1,
                    b',' if depth == 0 => return Ok(false),
                    b']' if depth == 0 => return Ok(true),
                    b'}' | b']' => depth = depth.saturating_sub(1),
                    _ => {}
                }
            }
            // A raw line break can only stand between tokens here: the check that follows refuses one in a string.
            let breaks = !in_string && matches!(byte, b'\n' | b'\r');
            element.push(if breaks { b' ' } else { byte });
            if element.len() > MAX_ROW_LEN {
                bail!("element {} has more than {MAX_ROW_LEN} bytes", self.count);
            }
        }
    }

    fn close_array(&mut self) -> Result<bool> {
        self.state = State::After;
        while let Some(byte) = self.byte()? {
            if !byte.is_ascii_whitespace() {
                bail!("there is more after the JSON array");
            }
        }
        Ok(false)
    }
}

impl RowSource for ArrayRows {
    fn next(&mut self, row: &mut Row) -> Result<bool> {
        match self.state {
            State::Before => self.open_array()?,
            State::Within => {}
            State::After => return self.close_array(),
        }
        let last = self.cut_element(&mut row.value)?;
        trim(&mut row.value);
        if last {
            self.state = State::After;
            if self.count == 0 && row.value.is_empty() {
                return self.close_array();
            }
        }
        take_key(row, self.key_field.as_deref()).with_context(|| format!("element {}", self.count))?;
        self.count += 1;
        Ok(true)
    }
}
