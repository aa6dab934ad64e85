//! The consumers: one reads partition by partition, one all of them by a cursor, one follows them as server-sent events. Each goes
//! to the next server whenever one fails, and now and then, and writes down every page.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::time::timeout;

use super::PARTITIONS;
use super::journal::record::Found;
use super::journal::{Journal, Page};
use super::support::http::{ANSWER, Http};

/// How long a page is waited for: less than the client waits for an answer.
const WAIT_MS: u64 = 1_000;
/// Before a server is asked again.
const PAUSE: Duration = Duration::from_millis(20);
/// After this many pages another server is asked.
const PAGES: u64 = 20;

/// One of them, and how far it is in each partition.
#[derive(Debug)]
pub(crate) struct Consumer {
    number: usize,
    http: Http,
    topic: String,
    journal: Arc<Journal>,
    next: Vec<u64>,
    pages: u64,
}

/// The three consumers of a topic.
pub(crate) fn three(http: &Http, topic: &str, journal: &Arc<Journal>) -> Vec<Consumer> {
    let consumer = |number| Consumer {
        number,
        http: http.beginning_with(number),
        topic: topic.to_owned(),
        journal: Arc::clone(journal),
        next: vec![0; PARTITIONS as usize],
        pages: 0,
    };
    (0..3).map(consumer).collect()
}

impl Consumer {
    /// Consumes until it is told to stop.
    pub(crate) async fn run(mut self, stop: Arc<AtomicBool>) -> Self {
        let mut cursor = None;
        while !stop.load(Ordering::Relaxed) {
            let well = match self.number {
                0 => self.by_partition().await,
                1 => self.by_cursor(&mut cursor).await,
                _ => self.follow(&mut cursor, &stop).await,
            };
            self.pages += 1;
            if !well || self.pages.is_multiple_of(PAGES) {
                self.http.turn();
                tokio::time::sleep(PAUSE).await;
            }
        }
        self
    }

    /// Where it is in each partition.
    pub(crate) fn positions(&self) -> &[u64] {
        &self.next
    }

    /// A page of the next partition.
    async fn by_partition(&mut self) -> bool {
        let partition = u32::try_from(self.pages % u64::from(PARTITIONS)).unwrap();
        let (offset, topic) = (self.next[partition as usize], &self.topic);
        // Some wait for their first record, some say at once that there is none.
        let wait = if self.pages.is_multiple_of(3) { WAIT_MS } else { 0 };
        let path = format!("/v1/topics/{topic}/partitions/{partition}/records");
        let asked = self.journal.now();
        let Some(page) = self.page(&format!("{path}?offset={offset}&wait_ms={wait}&values=text")).await else {
            return false;
        };
        let found = self.found(partition, &page["records"]);
        let end = page["high_watermark"].as_u64().filter(|end| page["next_offset"].as_u64() == Some(*end));
        self.write_down(Page { consumer: self.number, partition, from: offset, found, end, asked })
    }

    /// A page of all partitions.
    async fn by_cursor(&mut self, cursor: &mut Option<String>) -> bool {
        let after = cursor.as_ref().map_or_else(String::new, |cursor| format!("&cursor={cursor}"));
        let path = format!("/v1/topics/{}/records?wait_ms={WAIT_MS}&values=text{after}", self.topic);
        let asked = self.journal.now();
        let Some(page) = self.page(&path).await else { return false };
        let records = page["records"].as_array().unwrap();
        for partition in 0..PARTITIONS {
            let own: Vec<Value> = records.iter().filter(|record| record["partition"] == partition).cloned().collect();
            if !own.is_empty() {
                let from = self.next[partition as usize];
                let found = self.found(partition, &Value::Array(own));
                self.write_down(Page { consumer: self.number, partition, from, found, end: None, asked });
            }
        }
        *cursor = page["next_cursor"].as_str().map(str::to_owned);
        true
    }

    /// Events until the stream ends, is silent, or it is another server's turn.
    async fn follow(&mut self, last: &mut Option<String>, stop: &AtomicBool) -> bool {
        let path = format!("/v1/topics/{}/records?values=text", self.topic);
        let mut request = self.http.request(Method::GET, &path).header("accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last.as_str());
        }
        let Ok(Ok(mut response)) = timeout(ANSWER, request.send()).await else { return false };
        let status = response.status().as_u16();
        if status != 200 {
            let body = response.bytes().await.unwrap_or_default();
            self.refused(status, &body);
            return false;
        }
        let mut text = Vec::new();
        for _ in 0..50 * PAGES {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let asked = self.journal.now();
            let Ok(Ok(Some(chunk))) = timeout(ANSWER, response.chunk()).await else { return false };
            text.extend_from_slice(&chunk);
            while let Some(end) = text.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = text.drain(..end + 2).collect();
                if !self.event(std::str::from_utf8(&event).unwrap(), last, asked) {
                    return false;
                }
            }
        }
        true
    }

    /// Whether the stream goes on.
    fn event(&mut self, event: &str, last: &mut Option<String>, asked: u64) -> bool {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim_start);
        match field("event:") {
            Some("record") => {
                let record: Value = serde_json::from_str(field("data:").unwrap()).unwrap();
                let partition = u32::try_from(record["partition"].as_u64().unwrap()).unwrap();
                let from = self.next[partition as usize];
                let found = self.found(partition, &Value::Array(vec![record]));
                self.write_down(Page { consumer: self.number, partition, from, found, end: None, asked });
                *last = field("id:").map(str::to_owned);
                true
            }
            Some("failure" | "reconnect") => false,
            _ => true,
        }
    }

    /// Records that go on where the last ones ended; what does not is written down as wrong.
    fn found(&self, partition: u32, records: &Value) -> Vec<Found> {
        let records = records.as_array().unwrap();
        for (offset, record) in (self.next[partition as usize]..).zip(records) {
            if record["offset"] != offset {
                let (number, there) = (self.number, &record["offset"]);
                self.journal.wrong(format!("consumer {number} got {there} of partition {partition}, not {offset}"));
            }
        }
        records.iter().map(Found::read).collect()
    }

    fn write_down(&mut self, page: Page) -> bool {
        self.next[page.partition as usize] += page.found.len() as u64;
        self.journal.read(page);
        true
    }

    async fn page(&self, path: &str) -> Option<Value> {
        let answer = self.http.try_get(path).await?;
        if answer.status == 200 {
            return Some(answer.json());
        }
        self.refused(answer.status, &answer.body);
        None
    }

    /// A server without a leader has no answer. One that is behind has to find that out: anything else would be wrong.
    fn refused(&self, status: u16, body: &[u8]) {
        if !matches!(status, 503 | 504) {
            let text = String::from_utf8_lossy(body);
            self.journal.wrong(format!("consumer {} got {status}: {text}", self.number));
        }
    }
}
