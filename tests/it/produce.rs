//! Produce: content types, both routes, acks, compression, limits, errors that name the record.

use std::io::Write;

use reqwest::Method;
use serde_json::{Value, json};
use tidelog_client::partition_of;

use crate::support::http::{Answer, Http, send};
use crate::support::server::{Server, Settings};

async fn server() -> (Server, Http) {
    let server = Server::start().await;
    let http = Http::new(server.url());
    (server, http)
}

async fn post(http: &Http, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> Answer {
    send(http.request(Method::POST, path).header("content-type", content_type).body(body)).await
}

#[tokio::test]
async fn records_as_json_keep_their_exact_bytes() {
    let (_server, http) = server().await;
    http.create_topic("t", &json!({})).await;
    // Numbers and spaces as no float or parser would give them back.
    let body = r#"{"records":[
        {"value": {"n": 1.10, "big": 123456789012345678901234567890 }, "key": "k", "headers": [["h","1"],["h",null],["b",{"base64":"AP8="}]], "timestamp": 1700000000123},
        {"text": "null", "key": ""},
        {"value": null, "headers": {"x": "y"}},
        {"base64": "", "key_base64": "/w=="}]}"#;
    let answer = post(&http, "/v1/topics/t/records", "application/json", body).await.expect(200);
    assert_eq!(answer["durability"], "quorum");
    let offsets: Vec<&Value> = answer["records"].as_array().unwrap().iter().map(|record| &record["offset"]).collect();
    assert_eq!(offsets, [0, 1, 2, 3]);
    let page = http.get("/v1/topics/t/partitions/0/records").await;
    let text = String::from_utf8(page.body.clone()).unwrap();
    assert!(text.contains(r#"{"n": 1.10, "big": 123456789012345678901234567890 }"#), "{text}");
    let records = page.expect(200)["records"].clone();
    assert_eq!(records[0]["headers"], json!([["h", "1"], ["h", null], ["b", {"base64": "AP8="}]]));
    assert_eq!((&records[0]["key"], &records[0]["timestamp"]), (&json!("k"), &json!(1_700_000_000_123_u64)));
    assert_eq!((&records[1]["text"], &records[1]["key"]), (&json!("null"), &json!("")));
    assert!(records[2].get("value").is_some_and(Value::is_null) && records[2]["key"].is_null());
    assert_eq!(records[2]["headers"], json!([["x", "y"]]));
    assert_eq!((&records[3]["text"], &records[3]["key_base64"]), (&json!(""), &json!("/w==")));
}

#[tokio::test]
async fn ndjson_is_all_or_nothing_and_octets_are_one_value() {
    let (_server, http) = server().await;
    http.create_topic("t", &json!({})).await;
    let lines = "{\"text\":\"a\"}\n{\"text\":\"b\",\"key\":\"k\"}\n";
    let answer = post(&http, "/v1/topics/t/records", "application/x-ndjson", lines).await.expect(200);
    assert_eq!(answer["records"].as_array().unwrap().len(), 2);
    for broken in ["{\"text\":\"a\"}\n{\"text\":", "{\"text\":\"a\"}\n{}\n", "{\"text\":\"a\"}\nnonsense\n"] {
        let answer = post(&http, "/v1/topics/t/records", "application/x-ndjson", broken).await;
        assert!(matches!(answer.status, 400 | 422), "{answer:?}");
        assert_eq!(answer.json()["error"]["outcome"], "not_written");
    }
    let octets = http
        .request(Method::POST, "/v1/topics/t/records?key=%C3%A4&timestamp=17")
        .header("content-type", "application/octet-stream")
        .header("tidelog-headers", "a=1,b=%2C,a=")
        .body(vec![0xff, 0, b'\n']);
    send(octets).await.expect(200);
    let null = "/v1/topics/t/records?null=true&key_base64=AA==";
    post(&http, null, "application/octet-stream", "").await.expect(200);
    let records = http.fetch_all("t", 0, "").await;
    assert_eq!(records.len(), 4, "what was broken wrote nothing");
    assert_eq!(records[2]["base64"], "/wAK");
    assert_eq!((&records[2]["key"], &records[2]["timestamp"]), (&json!("ä"), &json!(17)));
    assert_eq!(records[2]["headers"], json!([["a", "1"], ["b", ","], ["a", ""]]));
    assert!(records[3]["value"].is_null());
    assert_eq!(records[3]["key"], "\u{0}");
}

#[tokio::test]
async fn bad_records_are_named_by_their_index() {
    let (_server, http) = server().await;
    http.create_topic("t", &json!({"partitions": 2})).await;
    http.create_topic("j", &json!({"value_format": "json"})).await;
    for bad in [
        json!({}),
        json!({"value": 1, "text": "1"}),
        json!({"text": 1}),
        json!({"value": 1, "colour": "red"}),
        json!({"value": 1, "timestamp": -1}),
        json!({"value": 1, "timestamp": 9_000_000_000_000_i64}),
        json!({"base64": "%"}),
        json!({"value": 1, "key": "a", "key_base64": "YQ=="}),
    ] {
        let error = http.produce("t", &json!([{"value": 0}, bad])).await.error(422, "invalid_record");
        assert_eq!((&error["details"]["index"], &error["outcome"]), (&json!(1), &json!("not_written")), "{error}");
    }
    http.produce("t", &json!([{"value": 0, "partition": 2}])).await.error(404, "partition_not_found");
    let error = http.produce("j", &json!([{"value": 0}, {"text": "not json"}])).await.error(422, "invalid_record");
    assert_eq!(error["details"]["index"], 1);
    http.produce("j", &json!([{"text": "{\"json\": [\"all the same\"]}"}])).await.expect(200);
    http.produce("t", &json!([])).await.error(422, "invalid_request");
    http.produce("nosuch", &json!([{"value": 0}])).await.error(404, "topic_not_found");
    let path = "/v1/topics/t/records";
    post(&http, path, "application/json", "{\"records\":").await.error(400, "invalid_json");
    post(&http, path, "text/plain", "x").await.error(415, "unsupported_media_type");
    let large = json!([{"text": "x".repeat((1 << 20) + 1)}]);
    http.produce("t", &large).await.error(413, "record_too_large");
    let many: Vec<Value> = (0..10_001).map(|_| json!({"value": 1})).collect();
    http.produce("t", &json!(many)).await.error(413, "too_many_records");
    post(&http, path, "application/octet-stream", vec![b'x'; (16 << 20) + 1]).await.error(413, "body_too_large");
    for partition in 0..2 {
        assert!(http.fetch_all("t", partition, "").await.is_empty(), "nothing of it was written");
    }
}

#[tokio::test]
async fn keys_go_where_kafkas_clients_would_send_them() {
    let (_server, http) = server().await;
    http.create_topic("t", &json!({"partitions": 7})).await;
    let keys: Vec<String> = (0..200).map(|n| format!("key-{n}")).collect();
    let records: Vec<Value> = keys.iter().map(|key| json!({"key": key, "value": 1})).collect();
    let answer = http.produce("t", &json!(records)).await.expect(200);
    for (key, place) in keys.iter().zip(answer["records"].as_array().unwrap()) {
        assert_eq!(place["partition"], partition_of(key.as_bytes(), 7), "{key}");
    }
}

#[tokio::test]
async fn compressed_bodies_are_read_and_bombs_are_not() {
    let (_server, http) = server().await;
    http.create_topic("t", &json!({})).await;
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let send_gzip = |body: Vec<u8>| {
        let request = http.request(Method::POST, "/v1/topics/t/records").header("content-type", "application/json");
        send(request.header("content-encoding", "gzip").body(body))
    };
    send_gzip(gzip(br#"{"records":[{"value":1}]}"#)).await.expect(200);
    let bomb = format!(r#"{{"records":[{{"text":"{}"}}]}}"#, " ".repeat(64 << 20));
    send_gzip(gzip(bomb.as_bytes())).await.error(413, "body_too_large");
    let broken = send_gzip(vec![1, 2, 3]).await;
    assert_eq!(broken.status, 400, "{broken:?}");
    let request = http.request(Method::POST, "/v1/topics/t/records").header("content-type", "application/json");
    send(request.header("content-encoding", "br").body("x")).await.error(415, "unsupported_encoding");
    assert_eq!(http.fetch_all("t", 0, "").await.len(), 1);
}

#[tokio::test]
async fn acks_say_what_they_promise() {
    let (_server, http) = server().await;
    http.create_topic("t", &json!({})).await;
    let body = json!({"records": [{"text": "x"}]});
    let none = http.json(Method::POST, "/v1/topics/t/records?acks=none", &body).await.expect(202);
    assert_eq!(none["durability"], "none");
    assert!(none.get("records").is_none(), "{none}");
    let metrics = String::from_utf8(http.get("/metrics").await.body).unwrap();
    let produced = "tidelog_topic_produced_records_total{namespace=\"default\",topic=\"t\"} 1";
    assert!(metrics.lines().any(|line| line == produced), "it counts as traffic");
    let object = http.json(Method::POST, "/v1/topics/t/records?acks=object&timeout_ms=60000", &body).await.expect(200);
    assert_eq!(object["durability"], "object");
    let offset = object["records"][0]["offset"].as_u64().unwrap();
    let flushed = http.get("/v1/topics/t").await.expect(200)["partitions"][0]["flushed_offset"].as_u64().unwrap();
    assert!(flushed > offset, "answered before it was flushed: {flushed} <= {offset}");
    http.json(Method::POST, "/v1/topics/t/records?acks=all", &body).await.error(400, "invalid_parameter");
}

#[tokio::test]
async fn object_acks_wait_for_a_covering_flush() {
    let server = Server::start_with(Settings::default().set("flush.interval", "100ms")).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({})).await;
    send(http.request(Method::POST, "/v1/admin/jobs/flush:pause")).await.expect(200);
    let body = json!({"records": [{"text": "x"}]});
    let path = "/v1/topics/t/records?acks=object&timeout_ms=1500";
    let error = http.json(Method::POST, path, &body).await.error(504, "flush_timeout");
    assert_eq!(error["outcome"], "written");
    let records = error["details"]["records"].as_array().unwrap_or_else(|| panic!("{error}"));
    assert_eq!(records[0]["offset"], 0);
    assert_eq!(http.get("/v1/topics/t").await.expect(200)["partitions"][0]["flushed_offset"], 0);
    // A request that waits is answered by the flush that comes when flushing goes on.
    let waiting = tokio::spawn({
        let (http, body) = (http.clone(), body.clone());
        async move { http.json(Method::POST, "/v1/topics/t/records?acks=object&timeout_ms=60000", &body).await }
    });
    crate::support::eventually("the second record", || async {
        let topic = http.get("/v1/topics/t").await.expect(200);
        (topic["partitions"][0]["high_watermark"] == 2).then_some(())
    })
    .await;
    assert!(!waiting.is_finished(), "flushing is paused");
    send(http.request(Method::POST, "/v1/admin/jobs/flush:resume")).await.expect(200);
    let answer = waiting.await.unwrap().expect(200);
    assert_eq!(answer["records"][0]["offset"], 1);
    let flushed = http.get("/v1/topics/t").await.expect(200)["partitions"][0]["flushed_offset"].as_u64().unwrap();
    assert_eq!(flushed, 2);
}
