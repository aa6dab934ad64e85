//! `tidelog consume`: starts, ends, limits, output, a reader that goes away, following.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::binary::{command, run};
use crate::support::eventually;
use crate::support::http::Http;
use crate::support::server::Server;

async fn filled(partitions: u32, count: u64) -> (Server, Http) {
    let server = Server::start().await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({"partitions": partitions})).await;
    let records: Vec<Value> =
        (0..count).map(|n| json!({"text": format!("v{n}"), "timestamp": 1_700_000_000_000_u64 + n * 1_000})).collect();
    for chunk in records.chunks(10_000) {
        http.produce("t", &json!(chunk)).await.expect(200);
    }
    (server, http)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_ends_limits_and_output() {
    let (server, _http) = filled(1, 20).await;
    let values = |args: &[&str]| -> Vec<String> {
        let args = [&["consume", "t", "--output", "value"], args].concat();
        run(server.url(), &args).ok().lines().map(str::to_owned).collect()
    };
    assert_eq!(values(&[]).len(), 20);
    assert_eq!(values(&["--limit", "3"]), ["v0", "v1", "v2"]);
    assert_eq!(values(&["--partition", "0", "--from", "18"]), ["v18", "v19"]);
    assert_eq!(values(&["--from", "2023-11-14T22:13:38Z"]), ["v18", "v19"]);
    assert_eq!(values(&["--from", "2023-11-14T22:13:37.5Z", "--limit", "1"]), ["v18"]);
    assert_eq!(values(&["--from", "latest"]), [""; 0]);
    assert_eq!(values(&["--from", "-1h"]), [""; 0], "the records say that they are older");
    let lines = run(server.url(), &["consume", "t", "--limit", "2"]).ok();
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((&first["offset"], &first["text"]), (&json!(0), &json!("v0")));
    run(server.url(), &["consume", "t", "--partition", "1"]).failed(1);
    run(server.url(), &["consume", "t", "--partition", "0", "--from", "21"]).failed(1);
    run(server.url(), &["consume", "nosuch"]).failed(1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_partition_is_read_to_its_watermark() {
    let (server, http) = filled(5, 50_000).await;
    let lines = run(server.url(), &["consume", "t"]).ok();
    let mut seen = std::collections::HashMap::new();
    for line in lines.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let next: &mut u64 = seen.entry(record["partition"].as_u64().unwrap()).or_default();
        assert_eq!(record["offset"].as_u64().unwrap(), *next);
        *next += 1;
    }
    let topic = http.get("/v1/topics/t").await.expect(200);
    for partition in topic["partitions"].as_array().unwrap() {
        let read = seen.get(&partition["partition"].as_u64().unwrap()).copied().unwrap_or(0);
        assert_eq!(read, partition["high_watermark"].as_u64().unwrap());
    }
    assert_eq!(seen.values().sum::<u64>(), 50_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_goes_away_is_no_failure() {
    let (server, _http) = filled(2, 50_000).await;
    let mut child = command(&["consume", "t"])
        .env("TIDELOG_SERVER", server.url())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn following_waits_for_an_offset_that_is_still_to_come() {
    let (server, http) = filled(1, 2).await;
    let mut child = command(&["consume", "t", "--partition", "0", "--from", "4", "--follow", "--limit", "1"])
        .args(["--output", "value"])
        .env("TIDELOG_SERVER", server.url())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("it waits", || async { waiting(&http).await.then_some(()) }).await;
    for value in ["two", "three", "four", "five"] {
        http.produce("t", &json!([{"text": value}])).await.expect(200);
    }
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "four");
    assert!(child.wait().unwrap().success());
}

/// Whether somebody waits for records.
async fn waiting(http: &Http) -> bool {
    let metrics = String::from_utf8(http.get("/metrics").await.body).unwrap();
    metrics.lines().any(|line| line.starts_with("tidelog_fetch_waiting ") && !line.ends_with(" 0"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn following_a_topic_notices_partitions_that_are_added() {
    let (server, http) = filled(1, 1).await;
    let mut child = command(&["consume", "t", "--follow", "--output", "value", "--limit", "3"])
        .env("TIDELOG_SERVER", server.url())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "v0");
    http.json(Method::PATCH, "/v1/topics/t", &json!({"partitions": 3, "rekey": true})).await.expect(200);
    for partition in [2, 1] {
        http.produce("t", &json!([{"text": format!("in {partition}"), "partition": partition}])).await.expect(200);
    }
    let mut new = [lines.next().unwrap(), lines.next().unwrap()];
    new.sort();
    assert_eq!(new, ["in 1", "in 2"], "from the beginning of each");
    assert!(child.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn following_shows_what_comes() {
    let (server, http) = filled(1, 1).await;
    let mut child = command(&["consume", "t", "--follow", "--output", "value", "--limit", "3"])
        .env("TIDELOG_SERVER", server.url())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "v0");
    http.produce("t", &json!([{"text": "new"}])).await.expect(200);
    assert_eq!(lines.next().unwrap(), "new");
    http.produce("t", &json!([{"text": "last"}, {"text": "beyond the limit"}])).await.expect(200);
    assert_eq!(lines.next().unwrap(), "last");
    assert!(child.wait().unwrap().success());
    assert!(lines.next().is_none());
}
