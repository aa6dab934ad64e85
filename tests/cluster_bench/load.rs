//! Load of its own for what the generator of the binary does not measure: how long nobody is acknowledged, and whether a request
//! that is sent once fails.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use tokio::task::JoinHandle;

use super::support::eventually;
use super::support::http::Http;

/// Writers, each with one request at a time.
const WRITERS: usize = 8;
/// Bytes of a record.
const RECORD: usize = 256;
/// Before a request is sent again.
const AGAIN: Duration = Duration::from_millis(5);
/// How long a writer waits for an answer before it asks another node; a node that was killed breaks the connection at once.
const ANSWER: Duration = Duration::from_secs(10);

/// Running writers of one topic.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    topic: String,
    /// Whether a request is sent again, under a key, until it is acknowledged.
    again: bool,
    begun: Instant,
    stop: AtomicBool,
    count: AtomicU64,
    /// Microseconds since the begin.
    last: AtomicU64,
    pause: AtomicU64,
    slowest: AtomicU64,
    failures: Mutex<Vec<String>>,
}

/// What writers met since they were asked last.
#[derive(Debug)]
pub(crate) struct Met {
    /// The longest time without an acknowledgement.
    pub(crate) pause: Duration,
    /// The slowest request.
    pub(crate) slowest: Duration,
    /// What was not acknowledged at once.
    pub(crate) failures: Vec<String>,
}

impl Load {
    /// Writers that begin with each of the nodes in turn. Those that send again turn to the next node whenever one fails.
    pub(crate) fn start(http: &Http, topic: &str, again: bool) -> Self {
        let shared = Arc::new(Shared {
            topic: topic.to_owned(),
            again,
            begun: Instant::now(),
            stop: AtomicBool::new(false),
            count: AtomicU64::new(0),
            last: AtomicU64::new(0),
            pause: AtomicU64::new(0),
            slowest: AtomicU64::new(0),
            failures: Mutex::default(),
        });
        let writer = |number: usize| {
            let (shared, http) = (Arc::clone(&shared), http.beginning_with(number));
            tokio::spawn(async move { shared.write(&http, number).await })
        };
        let tasks = (0..WRITERS).map(writer).collect();
        Self { shared, tasks }
    }

    /// Once so many more requests were acknowledged.
    pub(crate) async fn more(&self, requests: u64) {
        let enough = self.shared.count.load(Ordering::Relaxed) + requests;
        eventually("the load", || async { (self.shared.count.load(Ordering::Relaxed) >= enough).then_some(()) }).await;
    }

    /// What they met since the last call.
    pub(crate) fn take(&self) -> Met {
        let shared = &self.shared;
        Met {
            pause: Duration::from_micros(shared.pause.swap(0, Ordering::Relaxed)),
            slowest: Duration::from_micros(shared.slowest.swap(0, Ordering::Relaxed)),
            failures: std::mem::take(&mut shared.failures.lock().unwrap()),
        }
    }

    /// Ends them, each after its answer.
    pub(crate) async fn stop(self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

impl Shared {
    async fn write(&self, http: &Http, writer: usize) {
        let body = json!({"records": [{"text": "x".repeat(RECORD)}]}).to_string();
        let path = format!("/v1/topics/{}/records", self.topic);
        for number in 0_u64.. {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let begun = Instant::now();
            let key = format!("{writer}-{number}-{}", self.begun.elapsed().as_nanos());
            loop {
                let request = http.request(Method::POST, &path).header("content-type", "application/json");
                let request = if self.again { request.header("idempotency-key", &key) } else { request };
                let failure = match request.timeout(ANSWER).body(body.clone()).send().await {
                    Ok(answer) if answer.status() == 200 => break self.acknowledged(begun),
                    Ok(answer) => format!("{}: {}", answer.status(), answer.text().await.unwrap_or_default()),
                    Err(error) => format!("{error:?}"),
                };
                self.failures.lock().unwrap().push(failure);
                if !self.again {
                    break;
                }
                http.turn();
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    fn acknowledged(&self, begun: Instant) {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap();
        let now = micros(self.begun.elapsed());
        let last = self.last.fetch_max(now, Ordering::Relaxed);
        self.pause.fetch_max(now.saturating_sub(last), Ordering::Relaxed);
        self.slowest.fetch_max(micros(begun.elapsed()), Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}
