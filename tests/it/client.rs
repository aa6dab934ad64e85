//! The client against a server that follows a script: what is sent again, what never is, where a broken page resumes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tidelog_api::Outcome;
use tidelog_client::{Acks, Batch, Client, ClientOptions, Error, FetchStart, RetryPolicy, Topic};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ID: &str = "00112233-4455-6677-8899-aabbccddeeff";

/// What the server does with a request.
enum Step {
    /// Answers with this status and JSON.
    Answer(u16, serde_json::Value),
    /// Reads the request and hangs up.
    HangUp,
    /// Answers with these bytes and hangs up.
    Raw(String),
}

/// The heads of the requests that a server saw.
type Seen = Arc<Mutex<Vec<String>>>;

/// A client of a server that answers the n-th request with the n-th step; the requests it saw.
async fn scripted(steps: Vec<Step>) -> (Client, Seen) {
    let (url, seen) = server(steps).await;
    (client_of(&url), seen)
}

/// A client that does not wait long between attempts.
fn client_of(servers: &str) -> Client {
    let retry = RetryPolicy {
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(5),
        deadline: Duration::from_secs(20),
    };
    Client::new(servers, ClientOptions { retry, ..ClientOptions::default() }).unwrap()
}

/// A server that answers the n-th request with the n-th step, and what it saw.
async fn server(steps: Vec<Step>) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    tokio::spawn({
        let seen = Arc::clone(&seen);
        async move {
            for step in steps {
                let (mut socket, _) = listener.accept().await.unwrap();
                let head = read_request(&mut socket).await;
                seen.lock().unwrap().push(head);
                let bytes = match step {
                    Step::HangUp => continue,
                    Step::Raw(text) => text,
                    Step::Answer(status, body) => {
                        let body = body.to_string();
                        let len = body.len();
                        format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {len}\r\n\r\n{body}")
                    }
                };
                socket.write_all(bytes.as_bytes()).await.unwrap();
            }
        }
    });
    (url, seen)
}

/// Reads a request whole and gives its head.
async fn read_request(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4_096];
        let count = socket.read(&mut buffer).await.unwrap();
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_lowercase();
            let len = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= len.map_or(0, |len| len.parse().unwrap()) {
                return head;
            }
        }
        assert!(count > 0, "a request that is not whole");
    }
}

fn topic_answer() -> Step {
    let settings = json!({"partitions": 1, "value_format": "bytes", "retention_ms": null, "retention_bytes": null,
        "archive_after_ms": 1, "compression": "zstd", "timestamp_max_ahead_ms": 1});
    Step::Answer(200, json!({"topic_id": ID, "name": "t", "settings": settings, "partitions": []}))
}

fn produced() -> Step {
    let records = json!([{"partition": 0, "offset": 7}]);
    Step::Answer(200, json!({"topic_id": ID, "durability": "quorum", "records": records}))
}

fn failed(status: u16, code: &str, retryable: bool, outcome: &str) -> Step {
    let error = json!({"code": code, "message": "m", "retryable": retryable, "outcome": outcome, "request_id": "r"});
    Step::Answer(status, json!({ "error": error }))
}

/// A produce request, under a key or not, against these steps; the answer, and how many requests were made for it.
async fn produce(key: Option<&str>, steps: Vec<Step>) -> (Result<u64, Error>, usize) {
    let (client, seen) = scripted(std::iter::once(topic_answer()).chain(steps).collect()).await;
    let topic: Topic = client.topic("t").await.unwrap().0;
    let batch = Batch { lines: "{\"value\":1}\n".into(), count: 1 };
    let answer = topic.produce(None, &batch, Acks::Quorum, Duration::from_secs(5), key).await;
    let seen = seen.lock().unwrap();
    for head in &seen[1..] {
        assert!(head.contains(&format!("topic_id={ID}")), "every request sends the id: {head}");
    }
    (answer.map(|answer| answer.records.unwrap()[0].offset), seen.len() - 1)
}

#[tokio::test]
async fn what_was_not_written_is_sent_again() {
    let steps = vec![
        failed(503, "overloaded", true, "not_written"),
        failed(503, "unavailable", true, "not_written"),
        produced(),
    ];
    let (answer, count) = produce(None, steps).await;
    assert_eq!((answer.unwrap(), count), (7, 3));
}

#[tokio::test]
async fn what_may_have_been_written_is_sent_again_only_under_a_key() {
    let (answer, count) = produce(None, vec![failed(504, "timeout", true, "unknown"), produced()]).await;
    assert_eq!(answer.unwrap_err().code(), Some("timeout"));
    assert_eq!(count, 1);
    let (answer, count) = produce(None, vec![Step::HangUp, produced()]).await;
    assert!(matches!(answer.unwrap_err(), Error::Broken { .. }));
    assert_eq!(count, 1);

    let broken_answer = Step::Raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"topic".to_owned());
    let steps = vec![failed(504, "timeout", true, "unknown"), Step::HangUp, broken_answer, produced()];
    let (answer, count) = produce(Some("key"), steps).await;
    assert_eq!((answer.unwrap(), count), (7, 4));
}

#[tokio::test]
async fn what_the_server_declines_for_good_is_not_sent_again() {
    let (answer, count) =
        produce(Some("key"), vec![failed(422, "invalid_record", false, "not_written"), produced()]).await;
    assert_eq!((answer.unwrap_err().code(), count), (Some("invalid_record"), 1));
    let written = vec![failed(504, "flush_timeout", false, "written"), produced()];
    let (answer, count) = produce(None, written).await;
    assert_eq!((answer.unwrap_err().code(), count), (Some("flush_timeout"), 1));
}

#[tokio::test]
async fn an_attempt_that_may_have_written_is_not_forgotten_when_the_last_one_wrote_nothing() {
    let fenced = || failed(409, "producer_fenced", false, "not_written");
    let outcome = |answer: Result<u64, Error>| {
        let error = answer.unwrap_err();
        (error.code().map(str::to_owned), error.outcome().unwrap())
    };
    for first in [Step::HangUp, failed(504, "timeout", true, "unknown")] {
        let (answer, count) = produce(Some("key"), vec![first, fenced()]).await;
        assert_eq!(outcome(answer), (Some("producer_fenced".to_owned()), Outcome::Unknown));
        assert_eq!(count, 2);
    }
    let first = failed(503, "unavailable", true, "not_written");
    let (answer, _) = produce(Some("key"), vec![first, fenced()]).await;
    assert_eq!(outcome(answer), (Some("producer_fenced".to_owned()), Outcome::NotWritten));
}

#[tokio::test]
async fn an_answer_that_is_not_ours_is_said_to_be_so() {
    let html = Step::Raw("HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 6\r\n\r\n<html>".to_owned());
    let (client, _) = scripted(vec![html]).await;
    let error = client.describe_topic("t").await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }) && error.to_string().contains("404"), "{error}");
    assert!(client.describe_topic("..").await.is_err(), "a path must not be climbed");
}

#[tokio::test]
async fn a_broken_page_resumes_after_its_last_whole_line() {
    let head = "HTTP/1.1 200 OK\r\ntidelog-next-offset: 9\r\ntidelog-high-watermark: 9\r\n";
    let line = |offset: u64| format!("{{\"partition\":0,\"offset\":{offset}}}\n");
    let broken = format!("{head}content-length: 5000\r\n\r\n{}{}{{\"partition\":0,\"off", line(5), line(6));
    let rest = format!("{}{}", line(7), line(8));
    let whole = format!("{head}content-length: {}\r\n\r\n{rest}", rest.len());
    let (client, seen) = scripted(vec![topic_answer(), Step::Raw(broken), Step::Raw(whole)]).await;
    let mut records = client.topic("t").await.unwrap().0.records(0, FetchStart::Offset(5));
    let first = records.next_page().await.unwrap();
    assert_eq!((first.lines, records.position()), ((line(5) + &line(6)).into(), Some(7)));
    let second = records.next_page().await.unwrap();
    assert_eq!((second.lines, second.next_offset, second.high_watermark), (rest.into(), 9, Some(9)));
    assert!(seen.lock().unwrap()[2].contains("offset=7"));
}

/// Two servers that follow scripts, behind one at which nobody listens; the answer to one record, and what each saw.
async fn produce_over(key: Option<&str>, first: Vec<Step>, second: Vec<Step>) -> (Result<u64, Error>, usize, usize) {
    let (first, seen_first) = server(std::iter::once(topic_answer()).chain(first).collect()).await;
    let (second, seen_second) = server(second).await;
    // Port 1 is of no one here.
    let client = client_of(&format!("http://127.0.0.1:1,{first},{second}"));
    let topic: Topic = client.topic("t").await.unwrap().0;
    let batch = Batch { lines: "{\"value\":1}\n".into(), count: 1 };
    let answer = topic.produce(None, &batch, Acks::Quorum, Duration::from_secs(5), key).await;
    let counts = (seen_first.lock().unwrap().len() - 1, seen_second.lock().unwrap().len());
    (answer.map(|answer| answer.records.unwrap()[0].offset), counts.0, counts.1)
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_is_away_or_without_a_leader() {
    let away = || vec![failed(503, "unavailable", true, "not_written")];
    let (answer, first, second) = produce_over(None, away(), vec![produced()]).await;
    assert_eq!((answer.unwrap(), first, second), (7, 1, 1));
    let elsewhere = vec![failed(503, "not_leader", true, "not_written")];
    let (answer, first, second) = produce_over(None, elsewhere, vec![produced()]).await;
    assert_eq!((answer.unwrap(), first, second), (7, 1, 1));
    // A budget that is used up is so everywhere: the same server is asked again.
    let full = vec![failed(503, "overloaded", true, "not_written"), produced()];
    let (answer, first, second) = produce_over(None, full, vec![]).await;
    assert_eq!((answer.unwrap(), first, second), (7, 2, 0));
}

#[tokio::test]
async fn another_server_gets_what_may_have_been_written_only_under_a_key() {
    for broken in [|| Step::HangUp, || failed(504, "timeout", true, "unknown")] {
        let (answer, first, second) = produce_over(None, vec![broken()], vec![produced()]).await;
        assert!(answer.is_err());
        assert_eq!((first, second), (1, 0));
        let (answer, first, second) = produce_over(Some("key"), vec![broken()], vec![produced()]).await;
        assert_eq!((answer.unwrap(), first, second), (7, 1, 1));
    }
}

#[tokio::test]
async fn a_page_that_breaks_goes_on_at_the_next_server() {
    let head = "HTTP/1.1 200 OK\r\ntidelog-next-offset: 9\r\ntidelog-high-watermark: 9\r\n";
    let line = |offset: u64| format!("{{\"partition\":0,\"offset\":{offset}}}\n");
    let broken = format!("{head}content-length: 5000\r\n\r\n{}{{\"partition", line(5));
    let rest = line(6) + &line(7) + &line(8);
    let whole = format!("{head}content-length: {}\r\n\r\n{rest}", rest.len());
    let (first, _) = server(vec![topic_answer(), Step::Raw(broken)]).await;
    let (second, seen) = server(vec![Step::Raw(whole)]).await;
    let client = client_of(&format!("{first},{second}"));
    let mut records = client.topic("t").await.unwrap().0.records(0, FetchStart::Offset(5));
    assert_eq!(records.next_page().await.unwrap().lines, line(5));
    assert_eq!(records.next_page().await.unwrap().lines, rest);
    assert!(seen.lock().unwrap()[0].contains("offset=6"));
}

#[tokio::test]
async fn what_one_server_is_to_do_no_other_one_does() {
    let (second, seen) = server(vec![Step::HangUp]).await;
    let (first, seen_first) = server(vec![Step::HangUp]).await;
    let client = client_of(&format!("{first},{second}"));
    assert!(matches!(client.drain().await.unwrap_err(), Error::Broken { .. }));
    assert_eq!((seen_first.lock().unwrap().len(), seen.lock().unwrap().len()), (1, 0));
}
