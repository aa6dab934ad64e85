//! One record a line, parsed as it arrives.
//!
//! Lines end with LF or CRLF; the last one need not end; empty ones are skipped. Only the unfinished line is kept besides
//! the records, so a body is read once and never held twice.

use bytes::{Bytes, BytesMut};
use tidelog_api::ErrorCode;
use tidelog_api::limits::MAX_RECORDS;
use tidelog_api::produce::RecordBody;

use super::object::Object;
use super::record::to_record;
use super::{Records, too_many_records};
use crate::error::{ApiError, Result};

/// Takes chunks of a body and gives records.
pub(crate) struct NdjsonParser {
    now: i64,
    records: Records,
    /// Lines seen, for messages.
    lines: usize,
    /// The beginning of a line whose end has not arrived.
    open: BytesMut,
}

impl NdjsonParser {
    /// `now` is the timestamp of records that have none.
    pub(crate) fn new(now: i64) -> Self {
        Self { now, records: Records::new(), lines: 0, open: BytesMut::new() }
    }

    /// Takes the next chunk.
    pub(crate) fn push(&mut self, chunk: Bytes) -> Result<()> {
        let Some(end) = chunk.iter().rposition(|byte| *byte == b'\n') else {
            self.open.extend_from_slice(&chunk);
            return Ok(());
        };
        let (mut whole, rest) = (chunk.slice(..=end), chunk.slice(end + 1..));
        if !self.open.is_empty() {
            self.open.extend_from_slice(&whole);
            whole = self.open.split().freeze();
        }
        self.open.extend_from_slice(&rest);
        self.parse_lines(&whole)
    }

    /// The body is over.
    pub(crate) fn finish(mut self) -> Result<Records> {
        let last = self.open.split().freeze();
        self.parse_lines(&last)?;
        Ok(self.records)
    }

    fn parse_lines(&mut self, text: &Bytes) -> Result<()> {
        for line in text.split(|byte| *byte == b'\n') {
            self.lines += 1;
            if !line.iter().all(u8::is_ascii_whitespace) {
                self.parse_line(line, text)?;
            }
        }
        // What follows the last line feed is no line of its own.
        self.lines -= 1;
        Ok(())
    }

    fn parse_line(&mut self, line: &[u8], source: &Bytes) -> Result<()> {
        let index = self.records.len();
        if index == MAX_RECORDS {
            return Err(too_many_records());
        }
        let body: Object<RecordBody<'_>> = serde_json::from_slice(line).map_err(|error| {
            if error.is_data() {
                return ApiError::record(index, error.to_string());
            }
            let message = format!("line {} is not JSON: {error}", self.lines);
            ApiError::new(ErrorCode::InvalidJson, message).with("line", self.lines).with("index", index)
        })?;
        let record = to_record(&body.0, source, self.now).map_err(|message| ApiError::record(index, message))?;
        self.records.push(record);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(chunks: &[&[u8]]) -> Result<Records> {
        let mut parser = NdjsonParser::new(7);
        for chunk in chunks {
            parser.push(Bytes::copy_from_slice(chunk))?;
        }
        parser.finish()
    }

    #[test]
    fn any_cut_gives_the_same_records() {
        let body = b"{\"value\":1}\r\n\n{\"text\":\"a\\nb\",\"key\":\"k\"}\n  \n{\"value\":{\"x\":[1,2]},\"headers\":{\"h\":\"v\"}}";
        let whole = read(&[body]).unwrap();
        assert_eq!(whole.len(), 3);
        assert_eq!(whole[2].1.value.as_deref(), Some(&b"{\"x\":[1,2]}"[..]));
        for cut in 0..body.len() {
            assert_eq!(read(&[&body[..cut], &body[cut..]]).unwrap(), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = body.chunks(1).collect();
        assert_eq!(read(&bytes).unwrap(), whole);
    }

    #[test]
    fn faults_name_line_and_record() {
        let error = read(&[b"{\"value\":1}\n\n{\"val", b"ue\":2}x\n"]).unwrap_err();
        assert_eq!((error.code(), &error.details()["line"]), (ErrorCode::InvalidJson, &3.into()));
        let error = read(&[b"{\"value\":1}\n{}\n"]).unwrap_err();
        assert_eq!((error.code(), &error.details()["index"]), (ErrorCode::InvalidRecord, &1.into()));
        assert_eq!(read(&[b"[1]\n"]).unwrap_err().code(), ErrorCode::InvalidRecord);
        assert_eq!(read(&[b"{\"value\":1"]).unwrap_err().code(), ErrorCode::InvalidJson);
    }

    #[test]
    fn the_count_is_bounded_while_parsing() {
        let lines = b"{\"value\":1}\n".repeat(MAX_RECORDS + 1);
        assert_eq!(read(&[&lines]).unwrap_err().code(), ErrorCode::TooManyRecords);
    }
}
