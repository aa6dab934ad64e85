//! Producers that go on across power cuts: what was not answered is sent again under its key, and so is what was answered
//! last, which has to get the same offsets.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::world::{PARTITIONS, TOPIC};
use crate::support::history::History;
use crate::support::http::Http;

/// Between two attempts at a server that declines for now.
const PAUSE: Duration = Duration::from_millis(5);

/// What was acknowledged with `acks=object`: partition, offset, value.
pub(super) type InBucket = Arc<Mutex<Vec<(u64, u64, String)>>>;

/// One request and what became of it.
#[derive(Debug)]
struct Request {
    key: String,
    values: Vec<String>,
    offsets: Option<Vec<u64>>,
}

/// A producer of one partition that waits for each answer.
#[derive(Debug)]
pub(super) struct Producer {
    name: String,
    partition: u64,
    acks: &'static str,
    sent: u64,
    last: Option<Request>,
    history: Arc<History>,
    in_bucket: InBucket,
}

impl Producer {
    /// The `number`th producer of a world; every third waits for the bucket.
    pub(super) fn new(name: String, number: u64, history: Arc<History>, in_bucket: InBucket) -> Self {
        let acks = if number % 3 == 2 { "object" } else { "quorum" };
        Self { name, partition: number % PARTITIONS, acks, sent: 0, last: None, history, in_bucket }
    }

    /// Sends until nobody answers; first of all the last request again, whatever became of it.
    ///
    /// # Errors
    /// An answer that breaks a promise.
    pub(super) async fn run(&mut self, http: &Http) -> Result<(), String> {
        let mut request = self.last.take().unwrap_or_else(|| self.next());
        while self.send(http, &mut request).await? {
            request = self.next();
        }
        self.last = Some(request);
        Ok(())
    }

    fn next(&mut self) -> Request {
        self.sent += 1;
        let (name, sent) = (&self.name, self.sent);
        let count = 1 + sent % 7;
        let pad = "x".repeat(usize::try_from(100 + sent * 97 % 1_500).unwrap());
        let values: Vec<String> = (0..count).map(|nth| format!("{name}-{sent}-{nth}-{pad}")).collect();
        for value in &values {
            self.history.sending(value);
            self.history.next_of(name, value);
        }
        Request { key: format!("{name}-{sent}"), values, offsets: None }
    }

    /// Sends a request until it is answered; `false` if nobody is there to do it.
    async fn send(&self, http: &Http, request: &mut Request) -> Result<bool, String> {
        let path = format!("/v1/topics/{TOPIC}/partitions/{}/records?acks={}", self.partition, self.acks);
        let records: Vec<Value> = request.values.iter().map(|value| json!({"text": value})).collect();
        let body = json!({ "records": records }).to_string();
        loop {
            let sending = http
                .request(Method::POST, &path)
                .header("content-type", "application/json")
                .header("idempotency-key", &request.key)
                .body(body.clone());
            let Ok(response) = sending.send().await else { return Ok(false) };
            let status = response.status().as_u16();
            let Ok(bytes) = response.bytes().await else { return Ok(false) };
            match status {
                200 => return self.answered(request, &serde_json::from_slice(&bytes).unwrap()).map(|()| true),
                503 | 504 => tokio::time::sleep(PAUSE).await,
                _ => return Err(format!("{}: {status} {}", request.key, String::from_utf8_lossy(&bytes))),
            }
        }
    }

    fn answered(&self, request: &mut Request, answer: &Value) -> Result<(), String> {
        let records = answer["records"].as_array().unwrap();
        let offsets: Vec<u64> = records.iter().map(|place| place["offset"].as_u64().unwrap()).collect();
        if let Some(before) = request.offsets.replace(offsets.clone())
            && (before != offsets || answer["duplicate"] != true)
        {
            return Err(format!("{} got {before:?} and when it was sent again {answer}", request.key));
        }
        for (value, offset) in request.values.iter().zip(offsets) {
            self.history.acknowledged(self.partition, offset, value);
            if self.acks == "object" {
                self.in_bucket.lock().unwrap().push((self.partition, offset, value.clone()));
            }
        }
        Ok(())
    }
}
