//! The records of a batch, borrowed from its uncompressed bytes.

use super::error::{BatchError, RecordProblem};
use super::header::BatchHeader;
use super::varint;

/// One record, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// Its number in the batch: added to the base offset it gives the offset, added to the base sequence the sequence.
    pub index: u32,
    /// The producer's timestamp.
    pub timestamp: i64,
    /// `None` is null.
    pub key: Option<&'a [u8]>,
    /// `None` is null.
    pub value: Option<&'a [u8]>,
    /// In order, with repeats.
    pub headers: Headers<'a>,
}

impl RecordView<'_> {
    /// Bytes of key, value and headers: what the limit of a record counts.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        let headers: usize = self.headers.map(|header| header.name.len() + header.value.map_or(0, <[u8]>::len)).sum();
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + headers
    }
}

/// One header, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderView<'a> {
    /// Its name.
    pub name: &'a str,
    /// `None` is null.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record: an iterator that is cheap to copy. They were validated when the record was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Headers<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Headers<'a> {
    type Item = HeaderView<'a>;

    fn next(&mut self) -> Option<HeaderView<'a>> {
        self.left = self.left.checked_sub(1)?;
        take_header(&mut self.rest).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Headers<'_> {}

/// Iterates over the records of a batch; fused after an error.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    rest: &'a [u8],
    base_timestamp: i64,
    next: u32,
    count: u32,
}

impl<'a> Records<'a> {
    /// `bytes` are the uncompressed records of the batch with this header.
    pub(super) fn new(header: &BatchHeader, bytes: &'a [u8]) -> Self {
        Self { rest: bytes, base_timestamp: header.base_timestamp, next: 0, count: header.count }
    }

    fn take_record(&mut self, index: u32) -> Result<RecordView<'a>, RecordProblem> {
        let mut fields = take_slice(&mut self.rest)?.ok_or(RecordProblem::Length)?;
        // The attributes of a record are unused in Kafka's format, which ignores them, and so do we.
        fields.split_off_first().ok_or(RecordProblem::Length)?;
        let delta = varint::take_i64(&mut fields).ok_or(RecordProblem::Varint)?;
        let offset_delta = varint::take_i32(&mut fields).ok_or(RecordProblem::Varint)?;
        if i64::from(offset_delta) != i64::from(index) {
            return Err(RecordProblem::OffsetDelta(offset_delta));
        }
        let timestamp = self.base_timestamp.checked_add(delta).ok_or(RecordProblem::Varint)?;
        let key = take_slice(&mut fields)?;
        let value = take_slice(&mut fields)?;
        let headers = take_headers(fields)?;
        Ok(RecordView { index, timestamp, key, value, headers })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.count {
            return None;
        }
        let index = self.next;
        self.next += 1;
        let result = self.take_record(index).map_err(|problem| BatchError::Record { index, problem });
        let result = match result {
            Ok(_) if self.next == self.count && !self.rest.is_empty() => Err(BatchError::Trailing(self.rest.len())),
            other => other,
        };
        if result.is_err() {
            self.next = self.count;
        }
        Some(result)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some((self.count - self.next) as usize))
    }
}

/// Takes a length and that many bytes; -1 is null.
fn take_slice<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, RecordProblem> {
    match varint::take_i32(bytes).ok_or(RecordProblem::Varint)? {
        -1 => Ok(None),
        len => {
            let len = usize::try_from(len).map_err(|_| RecordProblem::Length)?;
            bytes.split_off(..len).map(Some).ok_or(RecordProblem::Length)
        }
    }
}

fn take_header<'a>(bytes: &mut &'a [u8]) -> Result<HeaderView<'a>, RecordProblem> {
    let name = take_slice(bytes)?.ok_or(RecordProblem::HeaderName)?;
    let name = std::str::from_utf8(name).map_err(|_| RecordProblem::HeaderName)?;
    Ok(HeaderView { name, value: take_slice(bytes)? })
}

/// Reads all headers once, to be sure of them; they end where the record ends.
fn take_headers(mut fields: &[u8]) -> Result<Headers<'_>, RecordProblem> {
    let count = varint::take_i32(&mut fields).ok_or(RecordProblem::Varint)?;
    let left = usize::try_from(count).map_err(|_| RecordProblem::Length)?;
    let headers = Headers { rest: fields, left };
    for _ in 0..left {
        take_header(&mut fields)?;
    }
    if fields.is_empty() { Ok(headers) } else { Err(RecordProblem::Length) }
}
