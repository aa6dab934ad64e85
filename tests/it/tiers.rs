//! The same record bytes from the tail, from a segment and from Parquet.

use serde_json::{Value, json};

use crate::support::http::Http;
use crate::support::server::{Server, Settings};

/// Null, empty, the bytes `null` and absent, for key, value and header value; order and repeats; binary; timestamps.
fn records() -> Value {
    json!([
        {"value": null},
        {"value": null, "key": null},
        {"text": "", "key": ""},
        {"text": "null", "key": "null"},
        {"base64": "AP8K", "key_base64": "/wA="},
        {"value": {"b": 1.10, "a": [1e3, -0.0]}, "key": "ü", "timestamp": 1},
        {"text": "x", "headers": [["h", null], ["h", ""], ["h", "null"], ["", "empty name"], ["b", {"base64": "/w=="}], ["h", null]]},
        {"text": "y", "headers": []},
        {"text": "zero", "timestamp": 0},
        {"base64": "AA==", "key": "n".repeat(300), "timestamp": 1_600_000_000_001_i64}
    ])
}

/// What is read, whatever the tier: exact bytes and shapes.
async fn read(http: &Http) -> (Vec<Value>, Vec<Value>) {
    (http.fetch_all("t", 0, "&values=base64").await, http.fetch_all("t", 0, "").await)
}

async fn bounds(http: &Http) -> (u64, u64, u64) {
    let topic = http.get("/v1/topics/t").await.expect(200);
    let offset = |name: &str| topic["partitions"][0][name].as_u64().unwrap();
    (offset("flushed_offset"), offset("archived_offset"), offset("high_watermark"))
}

#[tokio::test]
async fn golden_records_are_the_same_from_every_tier() {
    let settings = Settings::default().set("flush.interval", "1h").set("archive.interval", "200ms");
    let server = Server::start_with(settings).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({"archive_after_ms": 86_400_000})).await;
    http.produce("t", &records()).await.expect(200);
    let count = records().as_array().unwrap().len() as u64;

    assert_eq!(bounds(&http).await, (0, 0, count), "in the tail");
    let tail = read(&http).await;
    check(&tail.0);
    http.flush("t", false).await;
    assert_eq!(bounds(&http).await, (count, 0, count), "in a segment");
    assert_eq!(read(&http).await, tail);
    http.flush("t", true).await;
    assert_eq!(bounds(&http).await, (count, count, count), "in Parquet");
    assert_eq!(read(&http).await, tail);

    // And over all three at once, from a restarted server whose memory is empty.
    http.produce("t", &records()).await.expect(200);
    http.flush("t", false).await;
    http.produce("t", &records()).await.expect(200);
    let server = server.kill_and_restart().await;
    let http = Http::new(server.url());
    let (exact, _) = read(&http).await;
    assert_eq!(exact.len() as u64, 3 * count);
    for (place, record) in exact.iter().enumerate() {
        let mut expected = tail.0[place % tail.0.len()].clone();
        expected["offset"] = json!(place);
        let mut record = record.clone();
        if records()[place % tail.0.len()].get("timestamp").is_none() {
            // The server's clock gave it.
            expected["timestamp"] = json!(0);
            record["timestamp"] = json!(0);
        }
        assert_eq!(record, expected, "{place}");
    }
}

/// The first reading against what was sent, so that three equal readings are not three equal mistakes.
fn check(exact: &[Value]) {
    let null = |record: &Value, name: &str| record.get(name).is_none_or(Value::is_null);
    assert!(exact[0].get("value").is_some_and(Value::is_null) && null(&exact[0], "key"));
    assert!(exact[1].get("value").is_some_and(Value::is_null) && null(&exact[1], "key"));
    assert_eq!((&exact[2]["base64"], &exact[2]["key"]), (&json!(""), &json!("")));
    assert_eq!((&exact[3]["base64"], &exact[3]["key"]), (&json!("bnVsbA=="), &json!("null")));
    assert_eq!((&exact[4]["base64"], &exact[4]["key_base64"]), (&json!("AP8K"), &json!("/wA=")));
    assert_eq!((&exact[5]["timestamp"], &exact[5]["key"]), (&json!(1), &json!("ü")));
    assert_eq!(exact[6]["headers"], records()[6]["headers"]);
    assert_eq!(exact[7]["headers"], json!([]));
    assert_eq!(exact[8]["timestamp"], 0);
    assert_eq!(exact[9]["timestamp"], 1_600_000_000_001_i64);
}

#[tokio::test]
async fn a_fetch_runs_over_archive_segments_and_tail_without_gap() {
    let settings = Settings::default().set("flush.interval", "1h").set("archive.interval", "200ms");
    let server = Server::start_with(settings).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({"partitions": 2, "value_format": "json", "archive_after_ms": 86_400_000})).await;
    let mut next = 0;
    for step in 0..12 {
        let records: Vec<Value> = (0..50).map(|n| json!({"value": next + n, "partition": n % 2})).collect();
        next += 50;
        http.produce("t", &json!(records)).await.expect(200);
        match step {
            3 | 5 => http.flush("t", true).await,
            1 | 8 | 9 => http.flush("t", false).await,
            _ => {}
        }
    }
    for partition in 0..2_u32 {
        for page_size in [1, 7, 100, 10_000] {
            let (mut offset, mut values) = (0, Vec::new());
            while offset < 300 {
                let path =
                    format!("/v1/topics/t/partitions/{partition}/records?offset={offset}&max_records={page_size}");
                let page = http.get(&path).await.expect(200);
                values
                    .extend(page["records"].as_array().unwrap().iter().map(|record| record["value"].as_u64().unwrap()));
                let after = page["next_offset"].as_u64().unwrap();
                assert!(after > offset, "no progress at {offset}");
                offset = after;
            }
            let expected: Vec<u64> = (0..600).filter(|value| value % 2 == u64::from(partition)).collect();
            assert_eq!(values, expected, "pages of {page_size}");
        }
    }
}
