//! Fetch: starts, bounds, long poll, shapes, NDJSON, cacheable ranges, all partitions by cursor, server-sent events.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::http::{Http, send};
use crate::support::server::{Server, Settings};

async fn filled(count: u64) -> (Server, Http) {
    let server = Server::start_with(Settings::default().set("flush.interval", "200ms")).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({})).await;
    let records: Vec<Value> = (0..count).map(|n| json!({"text": n.to_string(), "timestamp": 1_000 + 10 * n})).collect();
    http.produce("t", &json!(records)).await.expect(200);
    (server, http)
}

fn offsets(page: &Value) -> Vec<u64> {
    page["records"].as_array().unwrap().iter().map(|record| record["offset"].as_u64().unwrap()).collect()
}

const RECORDS: &str = "/v1/topics/t/partitions/0/records";

#[tokio::test]
async fn every_start_and_every_bound() {
    let (_server, http) = filled(10).await;
    for (query, expected, next) in [
        ("offset=earliest", (0..10).collect::<Vec<u64>>(), 10),
        ("offset=7", vec![7, 8, 9], 10),
        ("offset=latest", vec![], 10),
        ("offset=10", vec![], 10),
        ("tail=3", vec![7, 8, 9], 10),
        ("tail=100", (0..10).collect(), 10),
        ("timestamp=1041", vec![5, 6, 7, 8, 9], 10),
        ("timestamp=0", (0..10).collect(), 10),
        ("timestamp=99999999", vec![], 10),
        ("offset=2&max_records=3", vec![2, 3, 4], 5),
    ] {
        let page = http.get(&format!("{RECORDS}?{query}")).await.expect(200);
        assert_eq!((offsets(&page), page["next_offset"].as_u64().unwrap()), (expected, next), "{query}");
        assert_eq!((&page["high_watermark"], &page["log_start_offset"]), (&json!(10), &json!(0)));
    }
    // Bytes are those of stored batches; at least one record comes whatever they are.
    let little = http.get(&format!("{RECORDS}?offset=4&max_bytes=1")).await.expect(200);
    assert_eq!(offsets(&little)[0], 4);
    let error = http.get(&format!("{RECORDS}?offset=11")).await.error(416, "offset_out_of_range");
    assert_eq!(error["details"]["high_watermark"], 10);
    for wrong in ["offset=x", "offset=-1", "timestamp=now", "tail=0&offset=1", "max_records=many", "colour=red"] {
        http.get(&format!("{RECORDS}?{wrong}")).await.error(400, "invalid_parameter");
    }
}

#[tokio::test]
async fn a_timestamp_is_found_although_timestamps_run_backwards() {
    let server = Server::start().await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({})).await;
    for timestamp in [50, 10, 40, 30, 60, 20] {
        http.produce("t", &json!([{"text": "x", "timestamp": timestamp}])).await.expect(200);
    }
    for (timestamp, expected) in [(0, 0), (45, 0), (51, 4), (61, 6)] {
        let page = http.get(&format!("{RECORDS}?timestamp={timestamp}&max_records=1")).await.expect(200);
        let first = offsets(&page).first().copied().unwrap_or(6);
        assert_eq!(first, expected, "{timestamp}");
    }
}

#[tokio::test]
async fn a_long_poll_ends_with_the_first_record_or_with_its_time() {
    let (_server, http) = filled(1).await;
    let empty = http.get(&format!("{RECORDS}?offset=1&wait_ms=200")).await.expect(200);
    assert!(offsets(&empty).is_empty());
    let poll = |path: &str| {
        let (http, path) = (http.clone(), format!("{path}&wait_ms=30000"));
        tokio::spawn(async move { http.get(&path).await.expect(200) })
    };
    http.create_topic("silent", &json!({})).await;
    // This one waits for its time, and began first.
    let in_vain = poll("/v1/topics/silent/partitions/0/records?offset=0");
    let waiting = poll(&format!("{RECORDS}?offset=1"));
    http.produce("t", &json!([{"text": "late"}])).await.expect(200);
    assert_eq!(offsets(&waiting.await.unwrap()), [1]);
    assert!(!in_vain.is_finished(), "it waited for its time");
}

#[tokio::test]
async fn values_take_the_shape_that_is_asked_for() {
    let server = Server::start().await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({})).await;
    let body = "{\"records\":[{\"text\":\"{\\\"a\\\":\\n1}\"},{\"text\":\"plain\"},{\"base64\":\"/w==\"},{\"value\":null},{\"value\":[1]}]}";
    let request = http.request(Method::POST, "/v1/topics/t/records").header("content-type", "application/json");
    send(request.body(body)).await.expect(200);
    let shapes = |query: &str| {
        let path = format!("{RECORDS}?{query}");
        let http = http.clone();
        async move {
            let page = http.get(&path).await.expect(200);
            let names = ["value", "text", "base64"];
            let shape = |record: &Value| names.iter().find(|name| record.get(**name).is_some()).unwrap().to_string();
            page["records"].as_array().unwrap().iter().map(shape).collect::<Vec<_>>()
        }
    };
    assert_eq!(shapes("").await, ["value", "text", "base64", "value", "value"]);
    assert_eq!(shapes("values=text").await, ["text", "text", "base64", "value", "text"]);
    assert_eq!(shapes("values=json").await, ["value", "base64", "base64", "value", "value"]);
    assert_eq!(shapes("values=base64").await, ["base64", "base64", "base64", "value", "base64"]);
    let lines = send(http.request(Method::GET, RECORDS).header("accept", "application/x-ndjson")).await;
    assert_eq!((lines.status, lines.header("tidelog-next-offset")), (200, Some("5")));
    let text = String::from_utf8(lines.body).unwrap();
    assert_eq!(text.lines().count(), 5, "a line break within a value must not break a line");
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(first["value"], json!({"a": 1}));
}

#[tokio::test]
async fn a_flushed_range_can_be_cached() {
    let (_server, http) = filled(10).await;
    http.flush("t", false).await;
    let id = http.get("/v1/topics/t").await.expect(200)["topic_id"].as_str().unwrap().to_owned();
    let path = format!("{RECORDS}?topic_id={id}&offset=2&end=5");
    let range = http.get(&path).await;
    assert!(range.header("cache-control").unwrap().contains("max-age=3600"), "{range:?}");
    let etag = range.header("etag").unwrap().to_owned();
    let body = range.expect(200);
    assert_eq!((offsets(&body), &body["next_offset"]), (vec![2, 3, 4], &json!(5)));
    assert!(body.get("high_watermark").is_none(), "bounds change, the range does not");
    let again = send(http.request(Method::GET, &path).header("if-none-match", etag)).await;
    assert_eq!(again.status, 304, "{again:?}");
    let plain = http.get(RECORDS).await;
    assert_eq!(plain.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn all_partitions_are_read_by_cursor() {
    let server = Server::start().await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({"partitions": 4, "value_format": "json"})).await;
    let records: Vec<Value> = (0..100).map(|n| json!({"key": format!("k{n}"), "value": n})).collect();
    http.produce("t", &json!(records)).await.expect(200);
    let mut seen = Vec::new();
    let mut query = "from=earliest&max_records=17".to_owned();
    while seen.len() < 100 {
        let page = http.get(&format!("/v1/topics/t/records?{query}")).await.expect(200);
        let values = page["records"].as_array().unwrap().iter().map(|record| record["value"].as_u64().unwrap());
        let before = seen.len();
        seen.extend(values);
        assert!(seen.len() > before, "no progress at {before}: {page}");
        query = format!("max_records=17&cursor={}", page["next_cursor"].as_str().unwrap());
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..100).collect::<Vec<u64>>());
    http.get("/v1/topics/t/records?cursor=garbled").await.error(400, "invalid_cursor");
    let other = http.create_topic("other", &json!({})).await;
    assert!(other["topic_id"].is_string());
    http.get(&format!("/v1/topics/other/records?{query}")).await.error(400, "invalid_cursor");
}

#[tokio::test]
async fn events_follow_and_resume_after_the_last_one() {
    let (_server, http) = filled(3).await;
    let follow = |last: Option<String>| {
        let request = http.request(Method::GET, &format!("{RECORDS}?offset=0")).header("accept", "text/event-stream");
        match last {
            Some(last) => request.header("last-event-id", last),
            None => request,
        }
    };
    let (ids, data) = read_events(follow(None).send().await.unwrap(), 3).await;
    assert_eq!(data.iter().map(|record| record["offset"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
    http.produce("t", &json!([{"text": "new"}])).await.expect(200);
    let (_, data) = read_events(follow(Some(ids[1].clone())).send().await.unwrap(), 2).await;
    assert_eq!(data.iter().map(|record| record["offset"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 3]);
}

/// Ids and data of the first `count` record events.
async fn read_events(mut response: reqwest::Response, count: usize) -> (Vec<String>, Vec<Value>) {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let (mut ids, mut data) = (Vec::new(), Vec::new());
    let mut text = String::new();
    while data.len() < count {
        let chunk = response.chunk().await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
        while let Some(end) = text.find("\n\n") {
            let event: String = text.drain(..end + 2).collect();
            let field = |name: &str| {
                event.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim_start().to_owned())
            };
            if field("event:").as_deref() == Some("record") {
                ids.push(field("id:").unwrap());
                data.push(serde_json::from_str(&field("data:").unwrap()).unwrap());
            }
        }
    }
    (ids, data)
}
