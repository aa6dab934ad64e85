//! The client against a server that is one task of the test: pages without an end, and an answer that takes its time. What is
//! sent again, and what never is, is tested in the workspace's `tests/it/client.rs`.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use serde_json::json;
use tidelog_api::Outcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::{task, time};

use crate::admin::STOP_TIMEOUT;
use crate::client::SILENCE;
use crate::fetch::{MAX_LINE_LEN, MAX_PAGE_LEN};
use crate::{Client, ClientOptions, Error, FetchStart, Page, Records, RetryPolicy};

const PAGE: &str = "HTTP/1.1 200 OK\r\ntidelog-next-offset: 99999\r\ntidelog-high-watermark: 99999\r\n";

async fn listen() -> (TcpListener, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let options = ClientOptions { retry: RetryPolicy::never(), ..ClientOptions::default() };
    (listener, Client::new(&url, options).unwrap())
}

/// The next request, which has no body, and where its answer goes.
async fn next_request(listener: &TcpListener) -> (TcpStream, String) {
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    (socket, String::from_utf8(head).unwrap())
}

async fn answer(socket: &mut TcpStream, body: &str) {
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    socket.write_all((head + body).as_bytes()).await.unwrap();
}

/// The records from offset 5 on of a topic at a server that answers with a page of `piece` of 0, 1, …, without end, and after
/// the client hung up with a short one; and what was asked for then.
async fn endless(piece: fn(u64) -> String) -> (Records, task::JoinHandle<String>) {
    let (listener, client) = listen().await;
    let server = task::spawn(async move {
        let settings = json!({"partitions": 1, "value_format": "bytes", "retention_ms": null, "retention_bytes": null,
            "archive_after_ms": 1, "compression": "zstd", "timestamp_max_ahead_ms": 1});
        let id = "00112233-4455-6677-8899-aabbccddeeff";
        let topic = json!({"topic_id": id, "name": "t", "settings": settings, "partitions": []});
        answer(&mut next_request(&listener).await.0, &topic.to_string()).await;
        let (mut socket, _) = next_request(&listener).await;
        let head = format!("{PAGE}content-length: {}\r\n\r\n", 1_u64 << 40);
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut count = 0;
        while socket.write_all(piece(count).as_bytes()).await.is_ok() {
            count += 1;
        }
        let (mut socket, head) = next_request(&listener).await;
        let page = format!("{PAGE}connection: close\r\ncontent-length: 0\r\n\r\n");
        socket.write_all(page.as_bytes()).await.unwrap();
        head
    });
    (client.topic("t").await.unwrap().0.records(0, FetchStart::Offset(5)), server)
}

/// A line as long as any, with the offset `5 + number`.
fn long_line(number: u64) -> String {
    let start = format!("{{\"partition\":0,\"offset\":{},\"text\":\"", number + 5);
    let filling = "x".repeat(MAX_LINE_LEN - start.len() - 3);
    start + &filling + "\"}\n"
}

#[tokio::test]
async fn a_page_that_is_too_long_is_cut_after_a_whole_line_and_read_on_there() {
    let (mut records, server) = endless(long_line).await;
    let Page { lines, next_offset, high_watermark } = records.next_page().await.unwrap();
    let whole = MAX_PAGE_LEN / MAX_LINE_LEN;
    assert_eq!(lines.len(), whole * MAX_LINE_LEN);
    assert!(lines.ends_with(b"\"}\n"), "the last line is not whole");
    assert_eq!((next_offset, high_watermark), (5 + whole as u64, Some(99_999)));
    assert_eq!(records.next_page().await.unwrap().next_offset, 99_999);
    let head = server.await.unwrap();
    assert!(head.contains(&format!("offset={next_offset}&")), "{head}");
}

#[tokio::test]
async fn a_line_that_is_longer_than_any_record_is_an_error() {
    let (mut records, _) = endless(|_| "x".repeat(1 << 20)).await;
    let error = records.next_page().await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
    assert_eq!(records.position(), Some(5));
}

/// What `stop` gives when the server answers after `pause`, of a clock that jumps while everybody waits.
async fn stop_answered_after(pause: Duration) -> crate::Result<bool> {
    let (listener, client) = listen().await;
    let server = task::spawn(async move {
        let (mut socket, head) = next_request(&listener).await;
        assert!(head.starts_with("POST /v1/admin/stop"), "{head}");
        // Not before the request is here: no connection is to time out.
        time::pause();
        time::sleep(pause).await;
        time::resume();
        answer(&mut socket, "{\"clean\":true}").await;
    });
    let stopped = client.stop().await;
    server.await.unwrap();
    stopped.map(|stopped| stopped.clean)
}

#[tokio::test]
async fn stopping_is_waited_for_while_the_server_flushes_without_a_word() {
    assert!(stop_answered_after(SILENCE * 10).await.unwrap());
    let error = stop_answered_after(STOP_TIMEOUT * 2).await.unwrap_err();
    assert_eq!(error.outcome(), Some(Outcome::Unknown), "{error}");
}
