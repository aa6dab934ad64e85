//! A server that is one task of a test: it gives the answers that it was told, one after the other, and no more.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tidelog_client::{Client, ClientOptions, RetryPolicy, Topic};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// The first lines of the requests so far.
pub(crate) type Requests = Arc<Mutex<Vec<String>>>;

/// What is answered.
pub(crate) struct Answer {
    pub(crate) status: &'static str,
    /// Lines, each with its end.
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn ok(body: &Value) -> Self {
        Self { status: "200 OK", headers: String::new(), body: body.to_string() }
    }

    pub(crate) fn error(status: &'static str, code: &str, details: &Value) -> Self {
        let error = json!({"code": code, "message": "no", "retryable": false, "details": details});
        Self { status, ..Self::ok(&json!({ "error": error })) }
    }
}

/// A client of a server with these answers, and what was asked for.
pub(crate) async fn server(answers: impl IntoIterator<Item = Answer>) -> (Client, Requests) {
    let answers: Vec<Answer> = answers.into_iter().collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let requests = Requests::default();
    let asked = Arc::clone(&requests);
    tokio::spawn(async move {
        for Answer { status, headers, body } in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(socket.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            // A body that is not read would break the connection when it is closed.
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let mut sent = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            socket.read_exact(&mut sent).await.unwrap();
            asked.lock().unwrap().push(head.lines().next().unwrap().to_owned());
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n");
            socket.write_all((head + &body).as_bytes()).await.unwrap();
        }
    });
    let options = ClientOptions { retry: RetryPolicy::never(), ..ClientOptions::default() };
    (Client::new(&url, options).unwrap(), requests)
}

/// The topic `t` at such a server.
pub(crate) async fn topic(answers: impl IntoIterator<Item = Answer>) -> (Client, Topic, Requests) {
    let settings = json!({"partitions": 1, "value_format": "bytes", "retention_ms": null, "retention_bytes": null,
        "archive_after_ms": 1, "compression": "zstd", "timestamp_max_ahead_ms": 1});
    let described = json!({"topic_id": ID, "name": "t", "settings": settings, "partitions": []});
    let (client, requests) = server(std::iter::once(Answer::ok(&described)).chain(answers)).await;
    let (topic, _) = client.topic("t").await.unwrap();
    (client, topic, requests)
}

/// The topic's id.
pub(crate) const ID: &str = "00112233-4455-6677-8899-aabbccddeeff";
