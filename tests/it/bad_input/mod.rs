//! Bad input to the real binary, over every route: each case answers the documented status and code, says what was wrong
//! and that nothing was written, writes nothing, and the server goes on.
//!
//! The cases are in tables ([`routes`], [`records`], [`batches`]); a route of the OpenAPI document without a case fails.
//! [`wire`] has what is no HTTP at all, and [`codes`] that every error code is produced by some test.

mod batches;
mod codes;
mod records;
mod routes;
mod wire;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::Http;
use crate::support::operators;
use crate::support::server::{Server, Settings};

/// Only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request and the error that it has to get.
#[derive(Debug, Clone)]
struct Case {
    name: &'static str,
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    status: u16,
    code: &'static str,
    /// Members of the error's `details`.
    details: Value,
    /// A part of the message.
    says: &'static str,
}

/// A case whose body is JSON.
fn case(name: &'static str, method: &'static str, path: &str, body: &str) -> Case {
    let headers = if body.is_empty() { Vec::new() } else { vec![("content-type", "application/json".to_owned())] };
    let (path, body) = (path.to_owned(), body.as_bytes().to_vec());
    Case { name, method, path, headers, body, status: 0, code: "", details: json!({}), says: "" }
}

impl Case {
    /// Replaces the header, or adds it.
    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.and_header(name, value)
    }

    /// Adds the header, also a second time.
    fn and_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn is(mut self, status: u16, code: &'static str) -> Self {
        (self.status, self.code) = (status, code);
        self
    }

    fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details[name] = value.into();
        self
    }

    fn says(mut self, part: &'static str) -> Self {
        self.says = part;
        self
    }

    /// The request as it goes over the wire: exactly this path and these headers.
    fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nconnection: close\r\n", self.method, self.path);
        if !self.headers.iter().any(|(name, _)| *name == "host") {
            head.push_str("host: localhost\r\n");
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", self.body.len()));
        [head.as_bytes(), &self.body].concat()
    }

    /// Sends it and checks the answer; gives the code.
    fn run(&self, server: &Server) -> String {
        let name = self.name;
        let reply = exchange(server, &self.bytes()).unwrap_or_else(|| panic!("{name}: no answer"));
        assert_eq!(reply.status, self.status, "{name}: {}", reply.text());
        let error = &reply.json()["error"];
        assert_eq!(error["code"], self.code, "{name}: {error}");
        let outcome = if self.method == "GET" { Value::Null } else { json!("not_written") };
        assert_eq!(error["outcome"], outcome, "{name}: {error}");
        let code: tidelog_api::ErrorCode = self.code.parse().unwrap();
        assert_eq!((code.status(), &error["retryable"]), (self.status, &json!(code.retryable())), "{name}");
        let message = error["message"].as_str().unwrap_or_default();
        assert!(!message.is_empty() && message.contains(self.says), "{name}: {error}");
        for (member, value) in self.details.as_object().unwrap() {
            assert_eq!(&error["details"][member], value, "{name}: {error}");
        }
        assert!(error["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{name}: {error}");
        self.code.to_owned()
    }
}

/// An answer as it came over the wire.
#[derive(Debug)]
struct Reply {
    status: u16,
    body: Vec<u8>,
}

impl Reply {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let status = std::str::from_utf8(bytes.get(9..12)?).ok()?.parse().ok()?;
        Some(Self { status, body: bytes[head + 4..].to_vec() })
    }
}

/// Sends bytes and reads what comes until the server closes; `None` if that is no answer.
fn exchange(server: &Server, request: &[u8]) -> Option<Reply> {
    let mut stream = connect(server, request);
    // The server may refuse and close before it has all.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Reply::parse(&answer)
}

/// The same, and says that nothing more will come before it reads.
fn exchange_and_end(server: &Server, request: &[u8]) -> Option<Reply> {
    let mut stream = connect(server, request);
    let _ = stream.write_all(request);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Reply::parse(&answer)
}

/// A connection to the listener that has the request's route.
fn connect(server: &Server, request: &[u8]) -> TcpStream {
    let path = request.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let is_admin = operators::has(&String::from_utf8_lossy(path));
    let url = if is_admin { operators::of(server.url()) } else { server.url().to_owned() };
    let stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A server with some topics, whose background work changes nothing.
async fn fixture() -> (Server, Http) {
    let settings = Settings::default().set("flush.interval", "1h").set("archive.enabled", "false");
    let server = Server::start_with(settings.set("flush.metadata_interval", "1h")).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({"partitions": 2})).await;
    http.create_topic("json", &json!({"value_format": "json"})).await;
    http.create_topic("text", &json!({"value_format": "text"})).await;
    for topic in ["t", "json", "text"] {
        let text =
            if topic == "text" { json!({"text": "x", "partition": 0}) } else { json!({"value": 1, "partition": 0}) };
        http.produce(topic, &json!([text, text, text])).await.expect(200);
    }
    (server, http)
}

/// All that a write would change: topics, settings, offsets, what is in the tail, what is remembered.
async fn state(http: &Http) -> Value {
    let topics = http.get("/v1/topics").await.expect(200);
    let mut described = Vec::new();
    for topic in topics["topics"].as_array().unwrap() {
        described.push(http.get(&format!("/v1/topics/{}", topic["name"].as_str().unwrap())).await.expect(200));
    }
    let status = http.get("/v1/status").await.expect(200);
    let shard = &status["shards"][0];
    let jobs: Vec<&Value> = status["jobs"].as_array().unwrap().iter().map(|job| &job["paused"]).collect();
    json!([described, shard["partitions"], shard["tail_bytes"], shard["segments"], status["closed"], jobs])
}

/// Runs the cases; after each nothing has changed, and after all of them the server works and holds no memory for them.
async fn run_all(server: &Server, http: &Http, cases: &[Case]) -> BTreeSet<String> {
    let before = state(http).await;
    let mut codes = BTreeSet::new();
    // All of them, so that one run names every case that fails.
    let mut failed = Vec::new();
    for case in cases {
        match catch_unwind(AssertUnwindSafe(|| case.run(server))) {
            Ok(code) => drop(codes.insert(code)),
            Err(_) => failed.push(case.name),
        }
        assert_eq!(state(http).await, before, "{} changed something", case.name);
    }
    assert!(failed.is_empty(), "{failed:?}");
    still_works(http).await;
    codes
}

/// The server produces and fetches, and no budget is held by what was refused.
async fn still_works(http: &Http) {
    let answer = http.produce("t", &json!([{"text": "afterwards", "partition": 1}])).await.expect(200);
    let offset = answer["records"][0]["offset"].as_u64().unwrap();
    let page = http.get(&format!("/v1/topics/t/partitions/1/records?offset={offset}")).await.expect(200);
    assert_eq!(page["records"][0]["text"], "afterwards");
    let status = http.get("/v1/status").await.expect(200);
    let produce = status["budgets"].as_array().unwrap().iter().find(|budget| budget["name"] == "produce.memory");
    assert_eq!(produce.unwrap()["used_bytes"], 0);
}

/// Whether a path is of a route: `{…}` stands for one segment, perhaps with a verb.
fn is_of_route(path: &str, route: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    let (path, route): (Vec<&str>, Vec<&str>) = (path.split('/').collect(), route.split('/').collect());
    path.len() == route.len()
        && path.iter().zip(&route).all(|(given, wanted)| match wanted.strip_prefix('{') {
            Some(wanted) => match wanted.split_once(':') {
                Some((_, verb)) => given.rsplit_once(':').is_some_and(|(_, given)| given == verb),
                None => !given.contains(':'),
            },
            None => given == wanted,
        })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_over_every_route_is_refused_and_writes_nothing() {
    let (server, http) = fixture().await;
    let cases = [routes::cases(), records::cases(), batches::cases()].concat();
    assert!(cases.len() >= 60, "{}", cases.len());
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), cases.len(), "every case has a name of its own");

    let document = http.get("/v1/openapi.json").await.expect(200);
    for (route, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let covered = |case: &&Case| case.method.eq_ignore_ascii_case(method) && is_of_route(&case.path, route);
            assert!(cases.iter().any(|case| covered(&case)), "{method} {route} has no case");
        }
    }
    run_all(&server, &http, &cases).await;
}
