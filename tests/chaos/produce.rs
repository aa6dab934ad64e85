//! The producers: two under triples, one under idempotency keys, one without either. Each has one request at a time and goes to
//! the next server whenever one fails.
//!
//! What is sent under a triple or a key is sent again until it is acknowledged. Without them only what was certainly not written
//! is, and some of that is given up, so that the checker can see that it is nowhere.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::Method;
use serde_json::{Value, json};

use super::PARTITIONS;
use super::journal::record::{self, KEYED};
use super::journal::{Fate, Journal, Place, Repeated};
use super::support::eventually;
use super::support::http::{ANSWER, Http, try_send};

/// Records of a request, at most.
const RECORDS: usize = 10;
/// Bytes that make a value longer, at most.
const PADDING: usize = 300;
/// How long a server may look for a leader; less than a client waits for its answer.
const TIMEOUT_MS: u64 = 4_000;
/// Between a request and the next: enough load to be in the middle of something always, on a machine with other work.
const PAUSE: Duration = Duration::from_millis(10);
/// Before a request is sent again.
const AGAIN: Duration = Duration::from_millis(20);
/// A request that is not acknowledged for so long, however often it is sent, is a failure: no fault lasts a quarter of it.
const PATIENCE: Duration = Duration::from_secs(120);
/// Answered requests that may be repeated: within the five last batches of a triple in each partition.
const REPEATABLE: usize = 3;
/// One request in so many waits until it is in the bucket, is repeated, is given up when it was refused.
const OBJECT: u32 = 20;
const REPEAT: u32 = 10;
const GIVE_UP: u32 = 2;

/// How a producer makes a request repeatable.
#[derive(Debug)]
enum Kind {
    Triple { id: u64, epoch: u64, sequences: Vec<u64> },
    Key,
    Plain,
}

#[derive(Debug, Clone)]
struct Request {
    path: String,
    headers: Vec<(&'static str, String)>,
    values: Vec<String>,
}

impl Request {
    /// Its records as a body has them.
    fn records(&self) -> Vec<Value> {
        self.values.iter().map(|value| record::body(value)).collect()
    }
}

/// What an answer, or none, says of a request.
enum Said {
    /// Where, and whether it was there before, if that is told.
    Written(Vec<Place>, Option<bool>),
    NotWritten,
    Unknown,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Producer {
    number: usize,
    kind: Kind,
    http: Http,
    topic: String,
    journal: Arc<Journal>,
    random: StdRng,
    /// Values and requests so far.
    values: u64,
    requests: u64,
    answered: VecDeque<(Request, Vec<Place>)>,
}

/// The four producers of a topic.
pub(crate) async fn four(http: &Http, topic: &str, journal: &Arc<Journal>, seed: u64) -> Vec<Producer> {
    let mut producers = Vec::new();
    for number in 0..4 {
        let kind = match number {
            0 | 1 => triple(http).await,
            KEYED => Kind::Key,
            _ => Kind::Plain,
        };
        producers.push(Producer {
            number,
            kind,
            http: http.beginning_with(number),
            topic: topic.to_owned(),
            journal: Arc::clone(journal),
            random: StdRng::seed_from_u64(seed.wrapping_add(number as u64 + 1)),
            values: 0,
            requests: 0,
            answered: VecDeque::new(),
        });
    }
    producers
}

async fn triple(http: &Http) -> Kind {
    let registered = eventually("a producer", || async {
        let request = http.request(Method::POST, "/v1/producers").header("content-type", "application/json");
        let answer = try_send(request.body("{}")).await.filter(|answer| answer.status == 200);
        if answer.is_none() {
            http.turn();
        }
        answer.map(|answer| answer.json())
    })
    .await;
    let number = |name: &str| registered[name].as_u64().unwrap();
    Kind::Triple { id: number("producer_id"), epoch: number("epoch"), sequences: vec![0; PARTITIONS as usize] }
}

impl Producer {
    /// Produces until it is told to stop; what was sent is answered or given up then.
    pub(crate) async fn run(mut self, stop: Arc<AtomicBool>) -> Self {
        while !stop.load(Ordering::Relaxed) {
            self.request().await;
            if self.random.random_ratio(1, REPEAT) {
                self.repeat().await;
            }
            tokio::time::sleep(PAUSE).await;
        }
        self
    }

    /// A new request.
    async fn request(&mut self) {
        let request = self.next();
        match self.answer(&request).await {
            Said::Written(places, duplicate) => {
                self.journal.acked(&request.values, &places);
                // A plain request is sent once after each refusal, so no server has seen it before.
                if duplicate == Some(true) && matches!(self.kind, Kind::Plain) {
                    self.journal.wrong(format!("a duplicate without a key: {request:?}"));
                }
                if !matches!(self.kind, Kind::Plain) {
                    self.answered.push_back((request, places));
                }
                if self.answered.len() > REPEATABLE {
                    self.answered.pop_front();
                }
            }
            Said::NotWritten => self.journal.given_up(&request.values, Fate::Refused),
            Said::Unknown => self.journal.given_up(&request.values, Fate::Unknown),
        }
    }

    /// Sends the request that was answered first of the last few again.
    pub(crate) async fn repeat(&mut self) {
        let Some((request, first)) = self.answered.pop_front() else { return };
        if let Said::Written(again, duplicate) = self.answer(&request).await {
            self.journal.records().repeated.push(Repeated { first, again, duplicate: duplicate != Some(false) });
        }
    }

    /// Sends a request of which no server may write anything, since its last record is none. One producer does so: the others
    /// would have to count on from it.
    pub(crate) async fn refused(&mut self) {
        if !matches!(self.kind, Kind::Plain) {
            return;
        }
        let request = self.next();
        let mut records = request.records();
        records.push(json!({"text": "a", "base64": "YQ=="}));
        let body = json!({"records": records}).to_string();
        let (status, answer) = eventually("a refusal", || async {
            let sent = self.http.request(Method::POST, &request.path).header("content-type", "application/json");
            let answer = attempt(sent.body(body.clone())).await.ok().filter(|(status, _)| !matches!(status, 503 | 504));
            if answer.is_none() {
                self.http.turn();
            }
            answer
        })
        .await;
        let said: Value = serde_json::from_slice(&answer).unwrap_or_default();
        if status != 422 || said["error"]["outcome"] != "not_written" {
            self.journal.wrong(format!("{status} for a record that is none: {}", String::from_utf8_lossy(&answer)));
        }
        self.journal.given_up(&request.values, Fate::Refused);
    }

    fn next(&mut self) -> Request {
        let count = self.random.random_range(1..=RECORDS);
        let values: Vec<String> = (self.values..).take(count).map(|number| self.value(number)).collect();
        self.journal.sending(self.number, self.values, &values);
        self.values += count as u64;
        self.requests += 1;
        let partition = self.random.random_range(0..PARTITIONS);
        let acks = if self.random.random_ratio(1, OBJECT) { "object" } else { "quorum" };
        let topic = &self.topic;
        let one = format!("/v1/topics/{topic}/partitions/{partition}/records?acks={acks}&timeout_ms={TIMEOUT_MS}");
        match &mut self.kind {
            Kind::Triple { id, epoch, sequences } => {
                let sequence = &mut sequences[partition as usize];
                let headers = vec![
                    ("producer-id", id.to_string()),
                    ("producer-epoch", epoch.to_string()),
                    ("producer-sequence", sequence.to_string()),
                ];
                *sequence += count as u64;
                Request { path: one, headers, values }
            }
            // Over all partitions by the records' keys.
            Kind::Key => {
                let path = format!("/v1/topics/{topic}/records?acks={acks}&timeout_ms={TIMEOUT_MS}");
                let key = format!("{}-{}", self.number, self.requests);
                Request { path, headers: vec![("idempotency-key", key)], values }
            }
            Kind::Plain => Request { path: one, headers: Vec::new(), values },
        }
    }

    fn value(&mut self, number: u64) -> String {
        let padding = self.random.random_range(0..PADDING);
        let padding: String = (0..padding).map(|_| char::from(self.random.random_range(b'a'..=b'z'))).collect();
        format!("{}-{number}-{padding}", self.number)
    }

    /// What becomes of a request, sent as often as it may be.
    async fn answer(&mut self, request: &Request) -> Said {
        let begun = Instant::now();
        let body = json!({"records": request.records()}).to_string();
        loop {
            let mut sent = self.http.request(Method::POST, &request.path).header("content-type", "application/json");
            for (name, value) in &request.headers {
                sent = sent.header(*name, value);
            }
            let answer = attempt(sent.body(body.clone())).await;
            let said = match &answer {
                Ok((status, answer)) => self.read(*status, answer),
                // Nobody was there to write it.
                Err(error) if error.is_connect() => Said::NotWritten,
                Err(_) => Said::Unknown,
            };
            let again = match (&said, &self.kind) {
                (Said::Written(..), _) => false,
                (Said::NotWritten, Kind::Plain) => !self.random.random_ratio(1, GIVE_UP),
                (Said::Unknown, Kind::Plain) => false,
                (Said::NotWritten | Said::Unknown, _) => true,
            };
            if !again {
                return said;
            }
            if begun.elapsed() >= PATIENCE {
                let last = answer.map(|(status, answer)| format!("{status} {}", String::from_utf8_lossy(&answer)));
                panic!("producer {} is not acknowledged, at last {last:?}: {request:?}", self.number);
            }
            self.http.turn();
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn read(&self, status: u16, body: &[u8]) -> Said {
        let wrong = || {
            self.journal.wrong(format!("producer {} got {status}: {}", self.number, String::from_utf8_lossy(body)));
            Said::Unknown
        };
        let Ok(body) = serde_json::from_slice::<Value>(body) else { return wrong() };
        if status == 200 {
            return places(&body["records"])
                .map_or_else(wrong, |places| Said::Written(places, Some(body["duplicate"] == true)));
        }
        let (error, outcome) = (&body["error"], body["error"]["outcome"].as_str().unwrap_or_default());
        match (status, outcome) {
            // Not in the bucket yet, but where it will stay.
            (503 | 504, "written") => {
                places(&error["details"]["records"]).map_or_else(wrong, |places| Said::Written(places, None))
            }
            (503 | 504, "not_written") => Said::NotWritten,
            (503 | 504, "unknown") => Said::Unknown,
            // Under a key only: the rest is written when it is sent again.
            (503 | 504, "partial") if matches!(self.kind, Kind::Key) => Said::Unknown,
            _ => wrong(),
        }
    }
}

async fn attempt(request: reqwest::RequestBuilder) -> reqwest::Result<(u16, Vec<u8>)> {
    let response = request.timeout(ANSWER).send().await?;
    Ok((response.status().as_u16(), response.bytes().await?.to_vec()))
}

/// Where the records of an answer are.
fn places(records: &Value) -> Option<Vec<Place>> {
    let place = |record: &Value| Some((u32::try_from(record["partition"].as_u64()?).ok()?, record["offset"].as_u64()?));
    records.as_array()?.iter().map(place).collect()
}
