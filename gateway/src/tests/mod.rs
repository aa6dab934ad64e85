//! The router with all its layers over a real engine on a directory, in process.
#![allow(clippy::unwrap_used)]

mod access;
mod faults;
mod follow;
mod framework;
mod memory;
mod serving;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{Method, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tidelog::clock::Clock;
use tidelog::config::Config;
use tidelog::queue::{Options, Queue};

use crate::AdminHooks;
use crate::app::{App, Lifecycle, Listener};
use crate::auth::Auth;
use crate::front;

pub(crate) struct NoHooks;

impl AdminHooks for NoHooks {
    fn set_log_filter(&self, filter: &str) -> Result<(), String> {
        if filter == "info" { Ok(()) } else { Err("no such filter".to_owned()) }
    }

    fn render_metrics(&self) -> String {
        "tidelog_up 1\n".to_owned()
    }

    fn stop(&self) {}
}

/// An engine on a directory of its own, and the gateway's routers over it.
struct Gateway {
    front: front::Gateway,
    admin: front::Gateway,
    queue: Queue,
    lifecycle: Lifecycle,
    _dir: tempfile::TempDir,
}

pub(crate) fn config(dir: &std::path::Path) -> Config {
    let mut config = Config { data_dir: dir.to_owned(), ..Config::default() };
    // Else all of this fails on a machine whose disk is nearly full.
    (config.wal.min_free, config.wal.min_free_percent) = (64 << 20, 0);
    config.cache.disk = 0;
    config.cache.memory = 16 << 20;
    config.flush.interval = Duration::from_secs(3600);
    config.flush.checkpoint_gap = Duration::ZERO;
    config.http.listen = ([127, 0, 0, 1], 0).into();
    config.admin.listen = Some(([127, 0, 0, 1], 0).into());
    config.http.read_timeout = Duration::from_secs(20);
    config
}

impl Gateway {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(set: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        set(&mut config);
        let options = Options { config: config.clone(), clock: Clock::system(), restore: false };
        let queue = Queue::open(options).await.unwrap();
        let lifecycle = Lifecycle::default();
        let auth = Auth::open(&config.auth).unwrap();
        let app = App::new(queue.clone(), config, Arc::new(NoHooks), queue.status().incarnation, lifecycle.clone());
        let app = app.with_auth(auth);
        let admin = front::gateway(app.on(Listener::Admin));
        Self { front: front::gateway(app), admin, queue, lifecycle, _dir: dir }
    }

    /// By the listener that has the route.
    async fn send(&self, request: Request) -> Answer {
        let path = request.uri().path();
        let is_admin = path.starts_with("/v1/admin/") || path == "/metrics";
        self.send_by(if is_admin { Listener::Admin } else { Listener::Client }, request).await
    }

    async fn send_by(&self, listener: Listener, request: Request) -> Answer {
        let front = match listener {
            Listener::Client => &self.front,
            Listener::Admin => &self.admin,
        };
        Answer::of(front.clone().answer(request).await.map(Body::new)).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path).body(Body::empty()).unwrap()).await
    }

    async fn json(&self, method: Method, path: &str, body: &Value) -> Answer {
        let request = request(method, path).header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// A topic `t` with `count` records of text in each partition.
    async fn fill(&self, partitions: u32, count: u32) {
        self.json(Method::PUT, "/v1/topics/t", &json!({ "partitions": partitions })).await.expect(201);
        for partition in 0..partitions {
            let records: Vec<Value> = (0..count).map(|n| json!({"text": n.to_string()})).collect();
            let path = format!("/v1/topics/t/partitions/{partition}/records");
            self.json(Method::POST, &path, &json!({ "records": records })).await.expect(200);
        }
    }
}

fn request(method: Method, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header(header::HOST, "localhost:7070")
}

/// An answer, read whole.
#[derive(Debug)]
struct Answer {
    head: http::response::Parts,
    body: Bytes,
}

impl Answer {
    async fn of(response: Response) -> Self {
        let (head, body) = response.into_parts();
        Self { head, body: body.collect().await.unwrap().to_bytes() }
    }

    fn header(&self, name: &str) -> &str {
        self.head.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    fn expect(&self, status: u16) -> Value {
        assert_eq!(self.head.status.as_u16(), status, "{self:?}");
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The error, whose body has to be complete.
    fn error(&self, status: u16, code: &str) -> Value {
        let body = self.expect(status);
        let error = body["error"].clone();
        assert_eq!(error["code"], code, "{self:?}");
        assert_eq!(self.header("content-type"), "application/json");
        assert_eq!(error["request_id"], self.header("x-request-id"));
        assert!(error["message"].is_string() && error["retryable"].is_boolean() && error["details"].is_object());
        error
    }
}
