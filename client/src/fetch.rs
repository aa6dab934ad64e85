//! Consuming: NDJSON pages of one partition.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::Method;
use serde::Deserialize;
use tidelog_api::ErrorCode;
use tidelog_api::fetch::{FetchResponse, FetchedRecord};
use tidelog_api::headers;
use tidelog_api::limits::{MAX_FETCH_BYTES, MAX_FETCH_RECORDS, MAX_RECORD_BYTES, MAX_RECORD_HEADERS};

use crate::call::{Safety, Sent};
use crate::error::Result;
use crate::topic::Topic;

/// A page is cut when its answer passes this, enough for records as base64 with their JSON around them: what is stored
/// compressed may be many times that.
pub(crate) const MAX_PAGE_LEN: usize = 4 * MAX_FETCH_BYTES + 256 * MAX_FETCH_RECORDS;
/// Bytes of one line at most: each byte of a record may be escaped as six, and JSON stands around it and its headers.
pub(crate) const MAX_LINE_LEN: usize = 6 * MAX_RECORD_BYTES + 32 * MAX_RECORD_HEADERS + 256;
// The first line of a page has to be whole where it is cut, or no call would get past that record.
const _: () = assert!(MAX_LINE_LEN < MAX_PAGE_LEN);

/// Where a fetch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchStart {
    /// The log start offset.
    Earliest,
    /// The high watermark.
    Latest,
    /// This offset.
    Offset(u64),
    /// The lowest offset whose timestamp is at least this, milliseconds since 1970.
    Timestamp(i64),
    /// The last n records.
    Tail(u64),
}

impl FetchStart {
    fn parameter(self) -> (&'static str, String) {
        match self {
            Self::Earliest => ("offset", "earliest".to_owned()),
            Self::Latest => ("offset", "latest".to_owned()),
            Self::Offset(offset) => ("offset", offset.to_string()),
            Self::Timestamp(time) => ("timestamp", time.to_string()),
            Self::Tail(count) => ("tail", count.to_string()),
        }
    }
}

/// Whole lines of a page.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// NDJSON: one record a line, each with its line break.
    pub lines: Bytes,
    /// Where to go on.
    pub next_offset: u64,
    /// The first offset that was not readable yet; `None` for a page whose stream broke.
    pub high_watermark: Option<u64>,
}

/// What one page may hold, and how long an empty one is waited for.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    max_records: usize,
    max_bytes: usize,
    wait: Duration,
}

/// Reads one partition page by page, from a start on and without gap. After an error the same call may be made again.
#[derive(Debug)]
pub struct Records {
    topic: Topic,
    partition: u32,
    start: FetchStart,
    bounds: Bounds,
}

impl Topic {
    /// The records of a partition from `start` on.
    #[must_use]
    pub fn records(&self, partition: u32, start: FetchStart) -> Records {
        let bounds = Bounds { max_records: MAX_FETCH_RECORDS, max_bytes: 4 << 20, wait: Duration::ZERO };
        Records { topic: self.clone(), partition, start, bounds }
    }

    /// One page as JSON, for callers that look at records.
    ///
    /// # Errors
    /// `offset_out_of_range`, `offset_expired` and those of any read.
    pub async fn fetch(
        &self,
        partition: u32,
        start: FetchStart,
        max_records: usize,
        wait: Duration,
    ) -> Result<FetchResponse> {
        let partition = partition.to_string();
        let (name, value) = start.parameter();
        let call = self
            .call(Method::GET, &["partitions", &partition, "records"], Safety::Repeatable)?
            .query(name, value)
            .query("max_records", max_records)
            .query("max_bytes", MAX_FETCH_BYTES)
            .query("wait_ms", wait.as_millis())
            .header("accept", headers::JSON);
        call.send_for(self.client()).await
    }
}

impl Topic {
    /// One record with the exact bytes of its value, as base64; `None` if it was trimmed.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn record_at(&self, partition: u32, offset: u64) -> Result<Option<FetchedRecord>> {
        let partition = partition.to_string();
        let call = self
            .call(Method::GET, &["partitions", &partition, "records"], Safety::Repeatable)?
            .query("offset", offset)
            .query("max_records", 1)
            .query("values", "base64")
            .header("accept", headers::JSON);
        match call.send_for::<FetchResponse>(self.client()).await {
            Ok(page) => Ok(page.records.into_iter().find(|record| record.offset == offset)),
            Err(error) if error.is(ErrorCode::OffsetExpired) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Records {
    /// Waits this long for the first record of a page before it is answered empty; at most 30 s count.
    #[must_use]
    pub fn waiting(mut self, wait: Duration) -> Self {
        self.bounds.wait = wait;
        self
    }

    /// The next page holds this many records at most.
    pub fn set_max_records(&mut self, max_records: usize) {
        self.bounds.max_records = max_records.clamp(1, MAX_FETCH_RECORDS);
    }

    /// The offset at which the next page begins, once a page was read or if an offset was the start.
    #[must_use]
    pub fn position(&self) -> Option<u64> {
        match self.start {
            FetchStart::Offset(offset) => Some(offset),
            _ => None,
        }
    }

    /// Reads the next page: whole lines only. A stream that broke, or that has more than is kept in memory, gives what came
    /// before, and the next call goes on there.
    ///
    /// # Errors
    /// `offset_expired` if the records were trimmed meanwhile, and those of any read.
    pub async fn next_page(&mut self) -> Result<Page> {
        let partition = self.partition.to_string();
        let (name, value) = self.start.parameter();
        let call = self
            .topic
            .call(Method::GET, &["partitions", &partition, "records"], Safety::Repeatable)?
            .query(name, value)
            .query("max_records", self.bounds.max_records)
            .query("max_bytes", self.bounds.max_bytes)
            .query("wait_ms", self.bounds.wait.as_millis())
            .header("accept", headers::NDJSON)
            .timeout(None);
        let sent = call.send(self.topic.client()).await?;
        let page = self.read_page(sent).await?;
        self.start = FetchStart::Offset(page.next_offset);
        Ok(page)
    }

    async fn read_page(&self, Sent { mut response, server }: Sent) -> Result<Page> {
        let client = self.topic.client();
        let number = |name: &str| -> Option<u64> { response.headers().get(name)?.to_str().ok()?.parse().ok() };
        let (next, high_watermark) = (number(headers::NEXT_OFFSET), number(headers::HIGH_WATERMARK));
        let Some(next_offset) = next else {
            return Err(client.protocol(server, format!("a page without the header {}", headers::NEXT_OFFSET)));
        };
        let mut lines = BytesMut::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => lines.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(source) => return self.broken_page(lines, server, source),
            }
            if lines.len() > MAX_PAGE_LEN {
                // Asked for again the page would be as long: the rest of it is the next one.
                let what = format!("a page without a whole record in its first {MAX_PAGE_LEN} bytes");
                return whole_lines(lines, high_watermark).ok_or_else(|| client.protocol(server, what));
            }
        }
        if lines.last().is_some_and(|last| *last != b'\n') {
            return Err(client.protocol(server, "a page whose last line is not whole".to_owned()));
        }
        Ok(Page { lines: lines.freeze(), next_offset, high_watermark })
    }

    /// What came whole of a page that broke off; the error if that is nothing.
    fn broken_page(&self, lines: BytesMut, server: usize, source: reqwest::Error) -> Result<Page> {
        let error = self.topic.client().broken(server, source);
        let Some(page) = whole_lines(lines, None) else { return Err(error) };
        tracing::debug!(%error, next_offset = page.next_offset, "a page broke off, going on after its last whole line");
        Ok(page)
    }
}

/// The whole lines of what came of a page, and where to go on after them; `None` if there are none, or no records.
fn whole_lines(mut lines: BytesMut, high_watermark: Option<u64>) -> Option<Page> {
    let end = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |place| place + 1);
    lines.truncate(end);
    let whole = lines.strip_suffix(b"\n").unwrap_or(&lines);
    let start = whole.iter().rposition(|byte| *byte == b'\n').map_or(0, |place| place + 1);
    let LineOffset { offset } = serde_json::from_slice(&whole[start..]).ok()?;
    Some(Page { lines: lines.freeze(), next_offset: offset + 1, high_watermark })
}

/// The offset of a line.
#[derive(Deserialize)]
struct LineOffset {
    offset: u64,
}

impl Page {
    /// The lines, without their line breaks.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
    }
}
