//! What a client that is broken, slow or hostile puts on the wire below HTTP: after each, nothing has changed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::json;

use super::{Reply, exchange, exchange_and_end, fixture, state, still_works};
use crate::support::http::Http;
use crate::support::server::{Server, Settings};

/// What has to come back.
#[derive(Debug, Clone, Copy)]
enum Expect {
    /// Our error.
    Error(u16, &'static str),
    /// A bare answer of the protocol library, or the connection closed: it never reached us.
    Refused,
    /// Either: the transfer broke off, and whether an answer still comes is a race.
    Either(u16, &'static str),
}

use Expect::{Either, Error, Refused};

const GOOD: &str = "{\"records\":[{\"value\":1}]}";

/// A `POST` of records with these header lines and this body.
fn post(headers: &str, body: &str) -> String {
    format!(
        "POST /v1/topics/t/records HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n{headers}\r\n{body}"
    )
}

fn get(line: &str, headers: &str) -> String {
    format!("{line}\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n")
}

fn cases() -> Vec<(&'static str, Vec<u8>, Expect)> {
    let whole = GOOD.len();
    let chunked = "transfer-encoding: chunked\r\n";
    // What a proxy that goes by the length takes for the body, and one that goes by the chunks for the next request:
    // it is read by its chunks, and the connection ends as it said.
    let inner = post(&format!("content-length: {whole}\r\n"), GOOD);
    let smuggled = format!("0\r\n\r\n{inner}");
    let text: Vec<(&'static str, String, Expect)> = vec![
        ("a request line alone", "GET\r\n\r\n".to_owned(), Refused),
        ("a version of the future", get("GET /healthz HTTP/9.9", ""), Refused),
        ("no version", "GET /healthz\r\n\r\n".to_owned(), Refused),
        ("a line break in the path", get("GET /v1/\n/topics HTTP/1.1", ""), Refused),
        ("a null byte in the path", get("GET /v1/\0topics HTTP/1.1", ""), Refused),
        ("a space in the path", get("GET /v1/to pics HTTP/1.1", ""), Refused),
        ("a header without a colon", get("GET /healthz HTTP/1.1", "nonsense\r\n"), Refused),
        ("a space before the colon", get("GET /healthz HTTP/1.1", "content-length : 5\r\n"), Refused),
        ("a null byte in a header", get("GET /healthz HTTP/1.1", "x: a\0b\r\n"), Refused),
        ("a folded header", get("GET /healthz HTTP/1.1", "x: a\r\n b\r\n"), Refused),
        ("a header name that is empty", get("GET /healthz HTTP/1.1", ": a\r\n"), Refused),
        ("a head of 200 KiB", get("GET /healthz HTTP/1.1", &format!("x: {}\r\n", "x".repeat(200_000))), Refused),
        (
            "no host at all",
            "GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n".to_owned(),
            Error(421, "misdirected_request"),
        ),
        (
            "a foreign absolute form",
            get("GET http://evil.example/healthz HTTP/1.1", ""),
            Error(421, "misdirected_request"),
        ),
        ("a proxy's method", get("CONNECT evil.example:80 HTTP/1.1", ""), Error(421, "misdirected_request")),
        ("two lengths", post(&format!("content-length: {whole}\r\ncontent-length: 1\r\n"), GOOD), Refused),
        ("a length with a sign", post(&format!("content-length: +{whole}\r\n"), GOOD), Refused),
        ("a negative length", post("content-length: -1\r\n", GOOD), Refused),
        ("a length beyond 64 bits", post("content-length: 99999999999999999999\r\n", GOOD), Refused),
        ("a huge length", post("content-length: 9999999999999\r\n", GOOD), Either(413, "body_too_large")),
        (
            "a length longer than the body",
            post(&format!("content-length: {}\r\n", whole + 5), GOOD),
            Either(400, "invalid_body"),
        ),
        ("a transfer encoding of nobody", post("transfer-encoding: gzip\r\n", GOOD), Refused),
        ("a body without chunks", post(chunked, GOOD), Error(400, "invalid_body")),
        ("a chunk size in words", post(chunked, "ten\r\n0123456789\r\n0\r\n\r\n"), Error(400, "invalid_body")),
        ("a negative chunk size", post(chunked, "-1\r\nx\r\n0\r\n\r\n"), Error(400, "invalid_body")),
        ("a chunk size beyond 64 bits", post(chunked, "fffffffffffffffff\r\nx"), Error(400, "invalid_body")),
        (
            "a chunk longer than its size",
            post(chunked, &format!("5\r\n{GOOD}\r\n0\r\n\r\n")),
            Error(400, "invalid_body"),
        ),
        ("chunks that end early", post(chunked, &format!("{whole:x}\r\n{GOOD}\r\n")), Either(400, "invalid_body")),
        (
            "a chunk extension without an end",
            post(chunked, &format!("1;{}", "x".repeat(100_000))),
            Either(400, "invalid_body"),
        ),
        (
            "a length before chunks",
            post(&format!("content-length: {}\r\n{chunked}", smuggled.len()), &smuggled),
            Error(400, "invalid_json"),
        ),
        ("broken HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense and more nonsense".to_owned(), Refused),
    ];
    let mut cases: Vec<_> =
        text.into_iter().map(|(name, request, expect)| (name, request.into_bytes(), expect)).collect();
    cases.push(("a TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), Refused));
    cases.push(("noise", vec![0xff; 4_096], Refused));
    cases.push(("nothing", Vec::new(), Refused));
    cases
}

fn check(name: &str, reply: Option<&Reply>, expect: Expect) {
    let code = |reply: &Reply| (reply.status, reply.json()["error"]["code"].as_str().unwrap_or_default().to_owned());
    match (expect, reply) {
        (Error(status, wanted), Some(reply)) => {
            assert_eq!(code(reply), (status, wanted.to_owned()), "{name}: {}", reply.text())
        }
        (Error(..), None) => panic!("{name}: no answer"),
        (Refused | Either(..), None) => {}
        (Refused, Some(reply)) => {
            assert!(
                (400..500).contains(&reply.status) && reply.body.is_empty(),
                "{name}: {} {}",
                reply.status,
                reply.text()
            );
        }
        (Either(status, wanted), Some(reply)) => {
            assert!(reply.body.is_empty() || code(reply) == (status, wanted.to_owned()), "{name}: {}", reply.text());
            assert!((400..500).contains(&reply.status), "{name}: {}", reply.status);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_http_is_refused_and_writes_nothing() {
    let (server, http) = fixture().await;
    let before = state(&http).await;
    let mut failed = Vec::new();
    for (name, request, expect) in cases() {
        // An error that is certain has to come while the client still listens for more.
        let reply = match expect {
            Error(..) => exchange(&server, &request),
            Refused | Either(..) => exchange_and_end(&server, &request),
        };
        if catch_unwind(AssertUnwindSafe(|| check(name, reply.as_ref(), expect))).is_err() {
            failed.push(name);
        }
        assert_eq!(state(&http).await, before, "{name} changed something");
    }
    assert!(failed.is_empty(), "{failed:?}");
    still_works(&http).await;
}

/// Also of a head that does not end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_and_absent_bodies_time_out_and_hold_nothing() {
    let server = Server::start_with(Settings::default().set("http.read_timeout", "300ms")).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({"partitions": 2})).await;
    for (name, request) in [
        ("no body", post("content-length: 25\r\n", "")),
        ("half a body", post("content-length: 25\r\n", "{\"records\":")),
        ("no chunk", post("transfer-encoding: chunked\r\n", "")),
        ("half a chunk", post("transfer-encoding: chunked\r\n", "19\r\n{\"records\":")),
    ] {
        check(name, exchange(&server, request.as_bytes()).as_ref(), Error(408, "request_timeout"));
    }
    // A head that never ends.
    let half = "POST /v1/topics/t/records HTTP/1.1\r\nhost: localhost\r\n";
    check("half a head", exchange(&server, half.as_bytes()).as_ref(), Refused);
    assert_eq!(http.fetch_all("t", 0, "").await.len() + http.fetch_all("t", 1, "").await.len(), 0);
    still_works(&http).await;
}
