//! Producers that send the same request again until it is answered, of several servers to the next one: some under producer
//! triples, some under idempotency keys. What they got is in a [`History`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::DEADLINE;
use super::history::History;
use super::http::{ANSWER, Http};

/// Records of a request.
const RECORDS: u64 = 10;
/// Answered requests that a producer sends again: within the five last batches of a triple.
const REPEATED: usize = 3;
/// Pause before a request is sent again.
const PAUSE: Duration = Duration::from_millis(20);

/// A request with what makes it repeatable.
#[derive(Debug, Clone)]
struct Request {
    path: String,
    headers: Vec<(&'static str, String)>,
    values: Vec<String>,
}

#[derive(Debug)]
enum Identity {
    /// Of one partition; the sequence of the next request.
    Triple { id: u64, epoch: u64, sequence: u64, partition: u64 },
    /// Over all partitions.
    Key,
}

/// One producer: one request at a time.
#[derive(Debug)]
struct Producer {
    http: Http,
    history: Arc<History>,
    topic: String,
    name: String,
    identity: Identity,
    requests: u64,
    answered: VecDeque<(Request, Vec<(u64, u64)>)>,
}

/// Several producers of one topic.
#[derive(Debug)]
pub(crate) struct Load {
    history: Arc<History>,
    producers: Vec<Producer>,
}

impl Load {
    /// One producer with a triple and one with keys for each partition of a topic that exists.
    pub(crate) async fn new(http: &Http, topic: &str, partitions: u64) -> Self {
        let history = Arc::new(History::default());
        let mut producers = Vec::new();
        for partition in 0..partitions {
            let registered = super::eventually("a producer", || async {
                let request = http.request(Method::POST, "/v1/producers").header("content-type", "application/json");
                let answer = super::http::try_send(request.body("{}")).await.filter(|answer| answer.status == 200);
                if answer.is_none() {
                    http.turn();
                }
                answer.map(|answer| answer.json())
            })
            .await;
            let number = |name: &str| registered[name].as_u64().unwrap();
            let triple = Identity::Triple { id: number("producer_id"), epoch: number("epoch"), sequence: 0, partition };
            for (kind, identity) in [("triple", triple), ("key", Identity::Key)] {
                producers.push(Producer {
                    http: http.beginning_with(producers.len()),
                    history: Arc::clone(&history),
                    topic: topic.to_owned(),
                    name: format!("{topic}-{kind}-{partition}"),
                    identity,
                    requests: 0,
                    answered: VecDeque::new(),
                });
            }
        }
        Self { history, producers }
    }

    /// What was sent and acknowledged.
    pub(crate) fn history(&self) -> Arc<History> {
        Arc::clone(&self.history)
    }

    /// Produces while `work` goes on. Afterwards every request that was sent is answered.
    pub(crate) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks: Vec<_> = self
            .producers
            .drain(..)
            .map(|mut producer| {
                let stop = Arc::clone(&stop);
                tokio::spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        producer.produce().await;
                    }
                    producer
                })
            })
            .collect();
        let done = work.await;
        stop.store(true, Ordering::Relaxed);
        for task in tasks {
            self.producers.push(task.await.unwrap());
        }
        done
    }

    /// One request of each producer.
    pub(crate) async fn once(&mut self) {
        for producer in &mut self.producers {
            producer.produce().await;
        }
    }

    /// Sends the last answered requests of each producer again: the answers are the first ones, and nothing is written.
    pub(crate) async fn repeat(&self) {
        for producer in &self.producers {
            for (request, places) in &producer.answered {
                let body = producer.answer(request).await;
                assert_eq!(body["duplicate"], true, "{}: {body}", producer.name);
                assert_eq!(&written(&body), places, "{}: the retry has other offsets", producer.name);
            }
        }
    }

    /// Reads everything and compares it with what was sent: every record once, nothing else.
    pub(crate) async fn check(&self, http: &Http, topic: &str) {
        self.history.check(http, topic).await;
        assert_eq!(self.history.sent(), self.history.count(), "every request was answered");
    }
}

impl Producer {
    /// A new request, sent until it is answered.
    async fn produce(&mut self) {
        let first = self.requests * RECORDS;
        let values: Vec<String> = (first..first + RECORDS).map(|n| format!("{}-{n}", self.name)).collect();
        for value in &values {
            self.history.sending(value);
        }
        let request = self.request(values);
        let places = written(&self.answer(&request).await);
        for (value, (partition, offset)) in request.values.iter().zip(&places) {
            self.history.acknowledged(*partition, *offset, value);
        }
        self.requests += 1;
        self.answered.push_back((request, places));
        if self.answered.len() > REPEATED {
            self.answered.pop_front();
        }
    }

    fn request(&mut self, values: Vec<String>) -> Request {
        let (topic, number) = (&self.topic, self.requests);
        match &mut self.identity {
            Identity::Triple { id, epoch, sequence, partition } => {
                for value in &values {
                    self.history.next_of(&self.name, value);
                }
                let headers = vec![
                    ("producer-id", id.to_string()),
                    ("producer-epoch", epoch.to_string()),
                    ("producer-sequence", sequence.to_string()),
                ];
                *sequence += values.len() as u64;
                Request { path: format!("/v1/topics/{topic}/partitions/{partition}/records"), headers, values }
            }
            Identity::Key => {
                let headers = vec![("idempotency-key", format!("{}-{number}", self.name))];
                Request { path: format!("/v1/topics/{topic}/records"), headers, values }
            }
        }
    }

    /// The answer 200 to a request, however often it takes.
    async fn answer(&self, request: &Request) -> Value {
        let begun = Instant::now();
        let keyed = request.headers.len() == 1;
        // Keys spread the records of one request over the partitions.
        let record = |value: &String| if keyed { json!({"key": value, "text": value}) } else { json!({"text": value}) };
        let records: Vec<Value> = request.values.iter().map(record).collect();
        let body = json!({ "records": records }).to_string();
        loop {
            let mut sent = self.http.request(Method::POST, &request.path).header("content-type", "application/json");
            for (name, value) in &request.headers {
                sent = sent.header(*name, value);
            }
            match attempt(sent.body(body.clone())).await {
                Some((200, body)) => return body,
                // A server on its way down, or one that has just begun. Never a success, and never a final refusal.
                Some((503 | 504, body)) => {
                    let outcome = body["error"]["outcome"].as_str().unwrap_or_default();
                    assert!(matches!(outcome, "not_written" | "unknown" | "partial"), "{body}");
                }
                Some((status, body)) => panic!("{} got {status}: {body}", self.name),
                None => {}
            }
            assert!(begun.elapsed() < DEADLINE, "{} got no answer", self.name);
            self.http.turn();
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Status and body; `None` if the connection broke.
async fn attempt(request: reqwest::RequestBuilder) -> Option<(u16, Value)> {
    let response = request.timeout(ANSWER).send().await.ok()?;
    let status = response.status().as_u16();
    Some((status, serde_json::from_slice(&response.bytes().await.ok()?).unwrap()))
}

/// Where the records of an answer are.
fn written(body: &Value) -> Vec<(u64, u64)> {
    let place = |record: &Value| (record["partition"].as_u64().unwrap(), record["offset"].as_u64().unwrap());
    body["records"].as_array().unwrap_or_else(|| panic!("no records: {body}")).iter().map(place).collect()
}
