//! What answers hold of the memory for pages, and what bodies hold of that for requests.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::BodyDataStream;
use futures::{FutureExt as _, StreamExt as _};
use http::HeaderMap;

use super::*;

const MIB: u64 = 1 << 20;

/// A gateway with 32 MiB for pages, and a topic of records that are small as long as they are packed: two partitions with
/// three each, which are 6 MB as JSON.
async fn packed() -> Gateway {
    let gateway = Gateway::with(|config| config.fetch.memory = 32 * MIB).await;
    gateway.json(Method::PUT, "/v1/topics/t", &json!({"partitions": 2, "value_format": "text"})).await.expect(201);
    for partition in 0..2 {
        for _ in 0..3 {
            let path = format!("/v1/topics/t/partitions/{partition}/records");
            let sent = request(Method::POST, &path).header("content-type", "application/octet-stream");
            gateway.send(sent.body(Body::from(vec![1; 1_000_000])).unwrap()).await.expect(200);
        }
    }
    gateway
}

const ONE: &str = "/v1/topics/t/partitions/0/records";
const ALL: &str = "/v1/topics/t/records";

impl Gateway {
    /// An answer's body.
    async fn body(&self, path: &str, accept: &str) -> BodyDataStream {
        let sent = request(Method::GET, path).header("accept", accept).body(Body::empty()).unwrap();
        let response = self.front.clone().answer(sent).await.map(Body::new);
        assert_eq!(response.status(), 200);
        response.into_body().into_data_stream()
    }

    /// An answer's body once the first of its records is there.
    async fn begun(&self, path: &str, accept: &str) -> BodyDataStream {
        let mut body = self.body(path, accept).await;
        while !String::from_utf8_lossy(&body.next().await.unwrap().unwrap()).contains("offset") {}
        body
    }

    /// Once somebody has waited for memory for pages and was given none.
    async fn has_refused(&self) {
        for waits in [true, false] {
            let seen = async {
                while self.queue.is_page_memory_scarce() != waits {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(30), seen).await.unwrap();
        }
    }

    /// Whether there is as much memory for pages as of now.
    fn is_free(&self, bytes: u64) -> bool {
        self.queue.hold_answer(bytes).now_or_never().is_some_and(|held| held.is_ok())
    }
}

#[tokio::test]
async fn an_answer_of_packed_records_holds_its_length_until_it_is_sent() {
    let gateway = packed().await;
    for path in [ONE, ALL] {
        let body = gateway.begun(path, "application/json").await;
        assert!(!gateway.is_free(18 * MIB), "{path}");
        drop(body);
        assert!(gateway.is_free(31 * MIB), "{path}");
    }
}

#[tokio::test]
async fn lines_of_packed_records_hold_a_piece_at_a_time() {
    let gateway = packed().await;
    for path in [ONE, ALL] {
        let mut body = gateway.begun(path, "application/x-ndjson").await;
        assert!(!gateway.is_free(28 * MIB), "{path}: what was rendered is held");
        assert!(gateway.is_free(25 * MIB), "{path}: no more was rendered");
        while body.next().await.is_some() {}
        assert!(gateway.is_free(31 * MIB), "{path}");
    }
}

#[tokio::test]
async fn followers_of_packed_records_hold_what_is_not_sent() {
    let gateway = packed().await;
    for path in [format!("{ONE}?offset=0"), ALL.to_owned()] {
        let body = gateway.begun(&path, "text/event-stream").await;
        assert!(!gateway.is_free(28 * MIB), "{path}");
        drop(body);
        while !gateway.is_free(31 * MIB) {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn lines_go_on_with_the_memory_of_their_first_piece() {
    let gateway = packed().await;
    let mut body = gateway.begun(ONE, "application/x-ndjson").await;
    let others = gateway.queue.hold_answer(25 * MIB).await.unwrap();
    while let Some(piece) = body.next().await {
        piece.unwrap();
    }
    drop((body, others));
    assert!(gateway.is_free(31 * MIB));
}

#[tokio::test]
async fn lines_break_off_without_the_memory_for_more_than_their_first_piece() {
    let gateway = packed().await;
    gateway.json(Method::PUT, "/v1/topics/u", &json!({"partitions": 1, "value_format": "text"})).await.expect(201);
    // So small that it holds nothing, and yet a piece of its own.
    for bytes in [30_000, 1_000_000] {
        let sent = request(Method::POST, "/v1/topics/u/partitions/0/records");
        let sent = sent.header("content-type", "application/octet-stream").body(Body::from(vec![1; bytes]));
        gateway.send(sent.unwrap()).await.expect(200);
    }
    let mut body = gateway.begun("/v1/topics/u/partitions/0/records", "application/x-ndjson").await;
    let others = gateway.queue.hold_answer(30 * MIB).await.unwrap();
    assert!(body.next().await.unwrap().is_err(), "no reader takes it for whole");
    drop((body, others));
    assert!(gateway.is_free(31 * MIB));
}

#[tokio::test]
async fn answers_without_memory_are_refused() {
    let gateway = packed().await;
    let others = gateway.queue.hold_answer(27 * MIB).await.unwrap();
    let page = "max_bytes=100";
    let (json, lines, events) = tokio::join!(
        async { gateway.get(&format!("{ONE}?{page}")).await },
        async {
            let sent = request(Method::GET, &format!("{ALL}?{page}")).header("accept", "application/x-ndjson");
            gateway.send(sent.body(Body::empty()).unwrap()).await
        },
        async {
            let mut events = gateway.body(&format!("{ONE}?offset=0&{page}"), "text/event-stream").await;
            let _hello = events.next().await;
            events.next().await.unwrap().unwrap()
        },
    );
    json.error(503, "overloaded");
    assert_eq!(json.header("retry-after"), "1");
    lines.error(503, "overloaded");
    let failure = b"event: failure\ndata: {\"error\":{\"code\":\"overloaded\"";
    assert!(events.starts_with(failure), "{:?}", events.slice(..events.len().min(100)));
    drop(others);
    assert!(gateway.is_free(31 * MIB));
}

#[tokio::test]
async fn followers_wait_for_memory_and_miss_nothing() {
    let gateway = packed().await;
    let others = gateway.queue.hold_answer(27 * MIB).await.unwrap();
    let mut events = gateway.body(&format!("{ONE}?offset=0&max_bytes=100"), "text/event-stream").await;
    let _hello = events.next().await;
    let (first, ()) = tokio::join!(events.next(), async {
        gateway.has_refused().await;
        drop(others);
    });
    let mut text = String::from_utf8(first.unwrap().unwrap().to_vec()).unwrap();
    while text.matches("event: record\n").count() < 3 {
        text.push_str(std::str::from_utf8(&events.next().await.unwrap().unwrap()).unwrap());
    }
    let offsets: Vec<&str> = text.split("\"offset\":").skip(1).map(|rest| &rest[..1]).collect();
    assert_eq!(offsets, ["0", "1", "2"]);
}

#[tokio::test]
async fn a_body_that_is_not_admitted_is_read_all_the_same() {
    let gateway = Gateway::with(|config| (config.http.max_body, config.http.body_memory) = (MIB, MIB)).await;
    let whole = Body::from(vec![0; 1 << 20]);
    let others = gateway.front.app().bodies().read(&HeaderMap::new(), whole).await.unwrap().collect().await.unwrap();
    let refused = async |method: Method, path: &str| {
        let taken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&taken);
        let chunks = futures::stream::iter(0..3).map(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(Bytes::from_static(b"{}"))
        });
        let sent = request(method, path).header("content-type", "application/json");
        let answer = gateway.send(sent.body(Body::from_stream(chunks)).unwrap()).await;
        assert_eq!(answer.error(503, "overloaded")["outcome"], "not_written");
        assert_eq!(taken.load(Ordering::Relaxed), 3, "{path}: a connection with unread bytes would be reset");
    };
    // The short way, and the table's.
    tokio::join!(refused(Method::POST, "/v1/topics/t/records"), refused(Method::PUT, "/v1/topics/t"));
    drop(others);
}
