//! Every error code is produced through a server by some test: here by the real binary, as far as a fault that leads to it
//! can be made, and the rest at the gateway.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use tidelog_api::ErrorCode;

use super::{batches, fixture, records, routes};
use crate::support::eventually;
use crate::support::http::{Answer, Http, send};
use crate::support::server::{Server, Settings};

/// Codes whose fault one node does not have, or not within a lifetime, or not without tokens; the gateway's own tests answer with them.
const AT_THE_GATEWAY: [&str; 9] = [
    "cluster_mismatch",
    "forbidden",
    "node_exists",
    "node_identity_mismatch",
    "node_not_found",
    "not_leader",
    "offsets_exhausted",
    "peer_version",
    "unauthorized",
];

/// The codes that the tests of this module produce, each where its test asserts it.
const WITH_FAULTS: &[&str] = &[
    "closed",
    "corrupt",
    "duplicate_sequence",
    "flush_timeout",
    "idempotency_key_reused",
    "internal",
    "offset_expired",
    "overloaded",
    "producer_fenced",
    "request_timeout",
    "sequence_gap",
    "sequence_reused",
    "settings_changed",
    "timeout",
    "too_many_partitions",
    "unavailable",
    "unknown_producer",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_error_code_has_a_test() {
    let cases = [routes::cases(), records::cases(), batches::cases()].concat();
    let mut tested: BTreeSet<&str> = cases.iter().map(|case| case.code).collect();
    let gateway = include_str!("../../../gateway/src/tests/faults.rs");
    let gateway = format!("{gateway}{}", include_str!("../../../gateway/src/tests/access.rs"));
    for code in AT_THE_GATEWAY {
        assert!(gateway.contains(&format!("\"{code}\"")), "the gateway's tests do not have {code}");
        tested.insert(code);
    }
    // So that the list cannot say more than the tests do: each is asserted in this directory besides.
    let here = concat!(include_str!("codes.rs"), include_str!("wire.rs"));
    for code in WITH_FAULTS {
        assert!(here.matches(&format!("\"{code}\"")).count() > usize::from(*code != "request_timeout"), "{code}");
        tested.insert(code);
    }
    let all: BTreeSet<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(tested, all);
}

/// A good batch is taken by the path on which all the bad ones are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codes_of_producers_and_keys() {
    let (server, http) = fixture().await;
    let reply = super::exchange(&server, &batches::good().bytes()).unwrap();
    assert_eq!((reply.status, &reply.json()["records"][1]), (200, &json!({"partition": 0, "offset": 4})));

    let produce = |headers: Vec<(&'static str, String)>, values: Value| {
        let records: Vec<Value> = values.as_array().unwrap().iter().map(|value| json!({ "value": value })).collect();
        let request = http.request(Method::POST, "/v1/topics/json/partitions/0/records");
        let request =
            request.header("content-type", "application/json").body(json!({ "records": records }).to_string());
        send(headers.into_iter().fold(request, |request, (name, value)| request.header(name, value)))
    };
    let named = json!({"name": "p"});
    let producer = http.json(Method::POST, "/v1/producers", &named).await.expect(200)["producer_id"].to_string();
    let triple = |id: &str, epoch: u32, sequence: u32| {
        let values = [("producer-id", id.to_owned()), ("producer-epoch", epoch.to_string())];
        [&values[..], &[("producer-sequence", sequence.to_string())]].concat()
    };
    for sequence in 0..8 {
        produce(triple(&producer, 0, sequence), json!([sequence])).await.expect(200);
    }
    produce(triple(&producer, 0, 7), json!(["other"])).await.error(409, "sequence_reused");
    let old = produce(triple(&producer, 0, 0), json!([0])).await.error(409, "duplicate_sequence");
    assert_eq!(old["outcome"], "written");
    let gap = produce(triple(&producer, 0, 9), json!([9])).await.error(409, "sequence_gap");
    assert_eq!((&gap["details"]["expected_sequence"], &gap["outcome"]), (&json!(8), &json!("not_written")));
    let unknown = produce(triple("77", 0, 3), json!([1])).await.error(409, "unknown_producer");
    assert_eq!(unknown["outcome"], "unknown");
    http.json(Method::POST, "/v1/producers", &named).await.expect(200);
    produce(triple(&producer, 0, 8), json!([8])).await.error(403, "producer_fenced");

    let key = || vec![("idempotency-key", "k".to_owned())];
    produce(key(), json!(["once"])).await.expect(200);
    produce(key(), json!(["another"])).await.error(422, "idempotency_key_reused");
    assert_eq!(http.fetch_all("json", 0, "").await.len(), 3 + 8 + 1);

    http.create_topic("wide", &json!({"partitions": 257})).await;
    http.get("/v1/topics/wide/records").await.error(400, "too_many_partitions");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codes_of_time_and_collision() {
    // The first request under the fail point fails as a defect would.
    let settings = Settings::default().set("flush.interval", "1h").set("retention.interval", "100ms");
    let server = Server::start_with(settings.env("TIDELOG_FAILPOINTS", "produce.assigned=error@1")).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({})).await;
    let value = json!({"records": [{"value": 1}]});
    let produce = |query: &str| {
        let (http, path, value) = (http.clone(), format!("/v1/topics/t/records{query}"), value.clone());
        async move { http.json(Method::POST, &path, &value).await }
    };
    let defect = produce("").await.error(500, "internal");
    assert_eq!(defect["outcome"], "not_written");
    let late = produce("?timeout_ms=0").await.error(504, "timeout");
    assert_eq!((&late["outcome"], &late["retryable"]), (&json!("not_written"), &json!(true)));
    http.json(Method::POST, "/v1/admin/jobs/flush:pause", &json!({})).await.expect(200);
    let unflushed = produce("?acks=object&timeout_ms=200").await.error(504, "flush_timeout");
    assert_eq!((&unflushed["outcome"], &unflushed["details"]["records"][0]["offset"]), (&json!("written"), &json!(0)));
    http.json(Method::POST, "/v1/admin/jobs/flush:resume", &json!({})).await.expect(200);

    // Each of a crowd alters what it read; only one of them can have read the newest.
    let altered = eventually("too many collisions", || async {
        let alter = |n: u64| {
            let http = http.clone();
            tokio::spawn(async move { http.json(Method::PATCH, "/v1/topics/t", &json!({"archive_after_ms": n})).await })
        };
        let crowd: Vec<_> = (0..100).map(alter).collect();
        let mut answers: Vec<Answer> = Vec::new();
        for answer in crowd {
            answers.push(answer.await.unwrap());
        }
        answers.into_iter().find(|answer| answer.status == 409)
    })
    .await;
    assert_eq!(altered.error(409, "settings_changed")["retryable"], true);

    http.flush("t", false).await;
    http.json(Method::PATCH, "/v1/topics/t", &json!({"retention_ms": 1})).await.expect(200);
    let expired = eventually("the record is trimmed", || async {
        let answer = http.get("/v1/topics/t/partitions/0/records?offset=0").await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    assert_eq!(expired.error(410, "offset_expired")["details"]["log_start_offset"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codes_of_a_damaged_object_a_full_log_and_an_end() {
    let server = Server::start_with(Settings::default().set("cache.disk", "0B").set("wal.keep", "0B")).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({})).await;
    http.produce("t", &json!([{"text": "x".repeat(1_000)}])).await.expect(200);
    http.flush("t", false).await;
    let bucket = server.bucket();
    let dir = server.kill();
    for segment in std::fs::read_dir(bucket.join("shards/00000/segments")).unwrap() {
        let path = segment.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[60] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    // A log that is full whatever the disk is: the smallest that may be, and nothing drains it.
    let settings = Settings::default().set("wal.reserve", "8MiB").set("wal.budget", "72MiB");
    let settings = settings.set("cache.disk", "0B").set("shutdown.drain_delay", "3s");
    let server = Server::start_in(dir, settings).await;
    let http = Http::new(server.url());
    let damaged = http.get("/v1/topics/t/partitions/0/records?offset=0").await.error(500, "corrupt");
    assert_eq!(damaged["retryable"], false);

    http.create_topic("bulk", &json!({"compression": "none"})).await;
    http.json(Method::POST, "/v1/admin/jobs/flush:pause", &json!({})).await.expect(200);
    let three = json!(vec![json!({"text": "x".repeat(1_000_000)}); 3]);
    let mut requests = 0;
    while http.produce("bulk", &three).await.status == 200 {
        requests += 1;
        assert!(requests < 30, "the log takes more than its budget");
    }
    let full = http.produce("t", &json!([{"text": "x"}])).await;
    assert!(full.header("retry-after").is_some_and(|seconds| seconds.parse::<u64>().is_ok()));
    let full = full.error(503, "overloaded");
    assert!(full["details"]["retry_after_ms"].is_u64() && full["outcome"] == "not_written", "{full}");

    // Closed, and on its way down as long as the drain lasts.
    let stopped = http.json(Method::POST, "/v1/admin/stop", &json!({})).await;
    assert_eq!(stopped.status, 200, "{}", String::from_utf8_lossy(&stopped.body));
    let ending = eventually("not ready", || async {
        let answer = http.get("/readyz").await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    ending.error(503, "unavailable");
    let closed = json!({"partitions": 1});
    http.json(Method::PUT, "/v1/topics/new", &closed).await.error(503, "closed");
}
