//! Plain HTTP, as curl would speak it: for everything that our client would not send.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use super::operators;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, String::from_utf8_lossy(&self.body)))
    }

    /// The JSON of an answer that has to have this status.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// The error of an answer that has to have this status and code.
    #[track_caller]
    pub(crate) fn error(&self, status: u16, code: &str) -> Value {
        let body = self.expect(status);
        assert_eq!(body["error"]["code"], code, "{body}");
        assert!(body["error"]["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{body}");
        body["error"].clone()
    }

    /// A header's text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// How long a server is waited for that may be stopped or cut off: another one is asked then, or the same one again.
pub(crate) const ANSWER: Duration = Duration::from_secs(5);
/// How long an answer is waited for that has to come: longer than a server waits for anything on a request's behalf (a leader,
/// a majority, a producer's minute), so that what it says about that is what a test sees.
const PATIENCE: Duration = Duration::from_secs(75);
/// Longer than a flush waits.
const FLUSH_ANSWER: Duration = Duration::from_secs(60);
/// Longer than the leader takes to change the members, with a node that has to catch up or does not answer.
const CHANGE_ANSWER: Duration = Duration::from_secs(180);

/// Requests to one server, or to several of one cluster, of which each clone asks one until it turns to the next.
#[derive(Debug)]
pub(crate) struct Http {
    http: reqwest::Client,
    bases: Arc<[String]>,
    current: AtomicUsize,
}

impl Clone for Http {
    fn clone(&self) -> Self {
        let current = AtomicUsize::new(self.current.load(Ordering::Relaxed));
        Self { http: self.http.clone(), bases: Arc::clone(&self.bases), current }
    }
}

impl Http {
    /// Requests to the server at this URL.
    pub(crate) fn new(base: &str) -> Self {
        Self::with(reqwest::Client::builder(), vec![base.to_owned()])
    }

    /// Requests to one of these servers, that do not wait for ever.
    pub(crate) fn over(bases: Vec<String>) -> Self {
        Self::with(reqwest::Client::builder().connect_timeout(ANSWER).timeout(PATIENCE), bases)
    }

    fn with(client: reqwest::ClientBuilder, bases: Vec<String>) -> Self {
        assert!(!bases.is_empty());
        Self { http: client.no_proxy().build().unwrap(), bases: bases.into(), current: AtomicUsize::new(0) }
    }

    /// The same that begins with the n-th server.
    pub(crate) fn beginning_with(&self, server: usize) -> Self {
        let begun = self.clone();
        begun.current.store(server, Ordering::Relaxed);
        begun
    }

    /// Asks the next server from now on.
    pub(crate) fn turn(&self) {
        self.current.fetch_add(1, Ordering::Relaxed);
    }

    /// A request that is not sent yet.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let base = &self.bases[self.current.load(Ordering::Relaxed) % self.bases.len()];
        self.http.request(method, format!("{}{path}", operators::place(base, path)))
    }

    /// `GET`, if there is an answer.
    pub(crate) async fn try_get(&self, path: &str) -> Option<Answer> {
        try_send(self.request(Method::GET, path)).await
    }

    /// `GET`
    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    /// The sum of a metric's series that have these labels.
    pub(crate) async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let answer = self.get("/metrics").await;
        let text = String::from_utf8(answer.body).unwrap();
        let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let value = |line: &str| {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with([' ', '{']))?;
            let (series, value) = rest.rsplit_once(' ')?;
            labels.iter().all(|label| series.contains(label)).then(|| value.parse::<f64>().ok())?
        };
        text.lines().filter_map(value).sum()
    }

    /// Any method with a JSON body.
    pub(crate) async fn json(&self, method: Method, path: &str, body: &Value) -> Answer {
        send(self.request(method, path).header("content-type", "application/json").body(body.to_string())).await
    }

    /// `POST` that changes the members of the cluster.
    pub(crate) async fn change(&self, path: &str, body: &Value) -> Answer {
        let request = self.request(Method::POST, path).timeout(CHANGE_ANSWER);
        send(request.header("content-type", "application/json").body(body.to_string())).await
    }

    /// `PUT` of a topic with these settings; it has to be new.
    pub(crate) async fn create_topic(&self, name: &str, settings: &Value) -> Value {
        self.json(Method::PUT, &format!("/v1/topics/{name}"), settings).await.expect(201)
    }

    /// `POST` of records to a topic.
    pub(crate) async fn produce(&self, topic: &str, records: &Value) -> Answer {
        let body = serde_json::json!({ "records": records });
        self.json(Method::POST, &format!("/v1/topics/{topic}/records"), &body).await
    }

    /// All records of a partition, page by page.
    pub(crate) async fn fetch_all(&self, topic: &str, partition: u32, query: &str) -> Vec<Value> {
        self.try_fetch_all(topic, partition, query).await.unwrap_or_else(|refused| panic!("{refused}"))
    }

    /// The same, or the answer that was no page.
    pub(crate) async fn try_fetch_all(&self, topic: &str, partition: u32, query: &str) -> Result<Vec<Value>, String> {
        let mut all = Vec::new();
        let mut offset = 0;
        loop {
            let path =
                format!("/v1/topics/{topic}/partitions/{partition}/records?offset={offset}&max_records=10000{query}");
            let answer = self.get(&path).await;
            if answer.status != 200 {
                let body = String::from_utf8_lossy(&answer.body);
                return Err(format!("partition {partition} at {offset}: {} {body}", answer.status));
            }
            let page = answer.json();
            all.extend(page["records"].as_array().unwrap().iter().cloned());
            offset = page["next_offset"].as_u64().unwrap();
            if offset >= page["high_watermark"].as_u64().unwrap() {
                return Ok(all);
            }
        }
    }

    /// Flushes a topic, and archives it if asked; it has to be done.
    pub(crate) async fn flush(&self, topic: &str, archive: bool) {
        let path = format!("/v1/topics/{topic}:flush?archive={archive}&wait_ms=30000");
        super::eventually("the flush", || async {
            let answer = send(self.request(Method::POST, &path).timeout(FLUSH_ANSWER)).await;
            assert!(matches!(answer.status, 200 | 202), "{answer:?}");
            (answer.status == 200).then_some(())
        })
        .await;
    }
}

/// Sends a request and reads its answer whole.
pub(crate) async fn send(request: RequestBuilder) -> Answer {
    read(request.send().await.unwrap()).await.unwrap()
}

/// The same; `None` if the connection could not be made or broke, or the answer took longer than one may that need not come.
pub(crate) async fn try_send(request: RequestBuilder) -> Option<Answer> {
    read(request.timeout(ANSWER).send().await.ok()?).await.ok()
}

async fn read(response: reqwest::Response) -> reqwest::Result<Answer> {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Answer { status, headers, body: response.bytes().await?.to_vec() })
}
