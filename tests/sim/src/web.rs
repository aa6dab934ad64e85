//! How clients reach nodes: the HTTP API in process. A request runs on its node's runtime; the way there and back takes time,
//! and an answer may get lost on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use serde_json::Value;
use tidelog_gateway::InProcess;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::random::Rng;
use crate::trace::Trace;

/// What came of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Nobody listens: the server has not seen it.
    Refused,
    /// No answer: the server may have seen it.
    Lost,
    /// An answer, read whole.
    Answer(u16, Value),
}

/// A request to be sent, perhaps several times.
#[derive(Debug, Clone)]
pub struct Ask {
    /// How.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Beside `Host` and `Content-Type`.
    pub headers: Vec<(&'static str, String)>,
    /// JSON, if there is one.
    pub body: Option<Value>,
    /// How long its client waits, milliseconds.
    pub patience: u64,
}

impl Ask {
    /// A GET.
    #[must_use]
    pub fn get(path: String, patience: u64) -> Self {
        Self { method: Method::GET, path, headers: Vec::new(), body: None, patience }
    }

    /// A request with a body.
    #[must_use]
    pub fn with(method: Method, path: String, body: Value, patience: u64) -> Self {
        Self { method, path, headers: Vec::new(), body: Some(body), patience }
    }
}

/// See the module; clones share it.
#[derive(Clone)]
pub struct Web(Arc<Mutex<Inner>>);

struct Inner {
    doors: BTreeMap<u64, (InProcess, Handle)>,
    /// Of a thousand answers, how many get lost.
    loss: u64,
    rng: Rng,
    trace: Trace,
    requests: u64,
}

impl Web {
    /// Without any node.
    #[must_use]
    pub fn new(rng: Rng, trace: Trace) -> Self {
        Self(Arc::new(Mutex::new(Inner { doors: BTreeMap::new(), loss: 0, rng, trace, requests: 0 })))
    }

    /// A node serves, or does not any more.
    pub fn set(&self, node: u64, door: Option<(InProcess, Handle)>) {
        let mut inner = self.lock();
        match door {
            Some(door) => drop(inner.doors.insert(node, door)),
            None => drop(inner.doors.remove(&node)),
        }
    }

    /// Of a thousand answers so many get lost from now on.
    pub fn set_loss(&self, per_mille: u64) {
        self.lock().loss = per_mille;
    }

    /// The nodes that serve.
    #[must_use]
    pub fn nodes(&self) -> Vec<u64> {
        self.lock().doors.keys().copied().collect()
    }

    /// Requests so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.lock().requests
    }

    /// Sends a request to `node`.
    pub async fn send(&self, node: u64, ask: &Ask) -> Reply {
        let (door, delays, is_lost, number) = {
            let mut inner = self.lock();
            inner.requests += 1;
            let number = inner.requests;
            let loss = inner.loss;
            let delays = [inner.rng.below(3), inner.rng.below(3)].map(Duration::from_millis);
            let is_lost = inner.rng.chance(loss);
            inner.trace.note("ask", format_args!("{number} {node} {} {}", ask.method, ask.path));
            (inner.doors.get(&node).cloned(), delays, is_lost, number)
        };
        sleep(delays[0]).await;
        let Some((gateway, runtime)) = door else { return Reply::Refused };
        let Some(request) = request(ask) else { return Reply::Refused };
        let handling = runtime.spawn(async move { gateway.answer(request).await });
        let answer = timeout(Duration::from_millis(ask.patience), AbortOnDropHandle::new(handling)).await;
        sleep(delays[1]).await;
        let reply = match answer {
            Ok(Ok(Ok(response))) if !is_lost => {
                let body = serde_json::from_slice(response.body()).unwrap_or(Value::Null);
                Reply::Answer(response.status().as_u16(), body)
            }
            _ => Reply::Lost,
        };
        let trace = self.lock().trace.clone();
        match &reply {
            Reply::Answer(status, body) => {
                let code = body["error"]["code"].as_str().unwrap_or("");
                trace.note("reply", format_args!("{number} {status} {code}"));
            }
            other => trace.note("reply", format_args!("{number} {other:?}")),
        }
        reply
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn request(ask: &Ask) -> Option<Request<Bytes>> {
    let mut request = Request::builder().method(ask.method.clone()).uri(&ask.path).header("host", "localhost:7070");
    for (name, value) in &ask.headers {
        request = request.header(*name, value);
    }
    let body = match &ask.body {
        Some(body) => {
            request = request.header("content-type", "application/json");
            Bytes::from(body.to_string())
        }
        None => Bytes::new(),
    };
    request.body(body).ok()
}
