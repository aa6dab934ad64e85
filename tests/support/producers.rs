//! Producers that go on whatever happens: each sends a request again under the same `Idempotency-Key` until it is
//! acknowledged, and tells what it was answered meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::history::History;
use super::http::Http;

/// Before a request is sent again.
const AGAIN: Duration = Duration::from_millis(50);
/// Records of one request.
const RECORDS: usize = 10;

/// Running producers of one test.
#[derive(Debug)]
pub(crate) struct Producers {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    http: Http,
    history: History,
    stop: AtomicBool,
    counter: AtomicU64,
    bulk: AtomicU64,
    errors: Mutex<Vec<String>>,
}

impl Producers {
    /// None yet, of the server at `url`, which may be restarted.
    pub(crate) fn new(url: &str) -> Self {
        let shared = Shared {
            http: Http::new(url),
            history: History::default(),
            stop: AtomicBool::new(false),
            counter: AtomicU64::new(0),
            bulk: AtomicU64::new(0),
            errors: Mutex::default(),
        };
        Self { shared: Arc::new(shared), tasks: Vec::new() }
    }

    /// One more for a partition of `topic`: requests of some records, `pause` after each answer.
    #[must_use]
    pub(crate) fn records(mut self, topic: &'static str, partition: u32, pause: Duration) -> Self {
        let shared = Arc::clone(&self.shared);
        self.tasks.push(tokio::spawn(async move { shared.records(topic, partition, pause).await }));
        self
    }

    /// One more for partition 0 of `topic`: records of `bytes` that cannot be compressed, `pause` after each answer.
    #[must_use]
    pub(crate) fn bulk(mut self, topic: &'static str, bytes: usize, pause: Duration) -> Self {
        let shared = Arc::clone(&self.shared);
        self.tasks.push(tokio::spawn(async move { shared.bulk(topic, bytes, pause).await }));
        self
    }

    /// What was acknowledged of [`Producers::records`].
    pub(crate) fn history(&self) -> &History {
        &self.shared.history
    }

    /// How many records of [`Producers::bulk`] were acknowledged.
    pub(crate) fn bulk_count(&self) -> u64 {
        self.shared.bulk.load(Ordering::Relaxed)
    }

    /// What was not acknowledged at once, since the last call.
    pub(crate) fn take_errors(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.errors.lock().unwrap())
    }

    /// Ends them, each after its next acknowledgement.
    pub(crate) async fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for task in self.tasks.drain(..) {
            task.await.unwrap();
        }
    }

    /// Ends them where they are: what is under way then is neither acknowledged nor sent again.
    pub(crate) async fn abandon(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        for task in self.tasks.drain(..) {
            let _ = task.await;
        }
    }
}

impl Shared {
    async fn records(&self, topic: &str, partition: u32, pause: Duration) {
        let name = format!("{topic}-{partition}-{}", self.next());
        while !self.stop.load(Ordering::Relaxed) {
            let values: Vec<String> = (0..RECORDS).map(|_| format!("{name}-{}", self.next())).collect();
            for value in &values {
                self.history.sending(value);
                self.history.next_of(&name, value);
            }
            let records: Vec<Value> = values.iter().map(|value| json!({"text": value})).collect();
            let path = format!("/v1/topics/{topic}/partitions/{partition}/records");
            let answer = self.acknowledged(&path, "application/json", json!({"records": records}).to_string()).await;
            for (value, place) in values.iter().zip(answer["records"].as_array().unwrap()) {
                self.history.acknowledged(u64::from(partition), place["offset"].as_u64().unwrap(), value);
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn bulk(&self, topic: &str, bytes: usize, pause: Duration) {
        let path = format!("/v1/topics/{topic}/partitions/0/records");
        while !self.stop.load(Ordering::Relaxed) {
            let mut value = vec![0; bytes];
            rand::Rng::fill(&mut rand::rng(), value.as_mut_slice());
            self.acknowledged(&path, "application/octet-stream", value).await;
            self.bulk.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends until it is acknowledged.
    async fn acknowledged(&self, path: &str, content_type: &str, body: impl Into<bytes::Bytes>) -> Value {
        let (body, key) = (body.into(), format!("key-{}", self.next()));
        loop {
            let request = self.http.request(Method::POST, path).header("content-type", content_type);
            match request.header("idempotency-key", &key).body(body.clone()).send().await {
                Ok(response) => {
                    let status = response.status().as_u16();
                    match response.bytes().await {
                        Ok(body) if status == 200 => return serde_json::from_slice(&body).unwrap(),
                        Ok(body) => self.failed(format!("{status}: {}", String::from_utf8_lossy(&body))),
                        Err(error) => self.failed(format!("{status}: {error}")),
                    }
                }
                Err(error) => self.failed(format!("{error:?}")),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn failed(&self, what: String) {
        self.errors.lock().unwrap().push(what);
    }

    fn next(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }
}
