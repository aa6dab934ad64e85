//! Topics over HTTP: create, describe, list, alter, delete, undelete, ids.

use reqwest::Method;
use serde_json::json;

use crate::support::eventually;
use crate::support::http::{Http, send};
use crate::support::server::{Server, Settings};

#[tokio::test]
async fn a_topic_is_ensured_described_altered_deleted_and_brought_back() {
    let server = Server::start().await;
    let http = Http::new(server.url());
    let created = http.create_topic("orders", &json!({"partitions": 3, "value_format": "json"})).await;
    assert_eq!(created["settings"]["partitions"], 3);
    assert_eq!(created["partitions"].as_array().unwrap().len(), 3);

    // Ensuring agrees with the members that are named, and with nothing else.
    http.json(Method::PUT, "/v1/topics/orders", &json!({})).await.expect(200);
    http.json(Method::PUT, "/v1/topics/orders", &json!({"partitions": 3})).await.expect(200);
    http.json(Method::PUT, "/v1/topics/orders", &json!({"partitions": 4})).await.error(409, "topic_exists");
    http.json(Method::PUT, "/v1/topics/orders", &json!({"colour": 4})).await.expect(422);

    let altered = http.json(Method::PATCH, "/v1/topics/orders", &json!({"retention_ms": 60_000})).await.expect(200);
    assert_eq!(altered["settings"]["retention_ms"], 60_000);
    let reset = http.json(Method::PATCH, "/v1/topics/orders", &json!({"retention_ms": null})).await.expect(200);
    assert!(reset["settings"]["retention_ms"].is_null());
    http.json(Method::PATCH, "/v1/topics/orders", &json!({"partitions": 5})).await.error(422, "rekey_required");
    let grown =
        http.json(Method::PATCH, "/v1/topics/orders", &json!({"partitions": 5, "rekey": true})).await.expect(200);
    assert_eq!(grown["partitions"].as_array().unwrap().len(), 5);
    http.json(Method::PATCH, "/v1/topics/orders", &json!({"partitions": 2, "rekey": true}))
        .await
        .error(422, "invalid_settings");

    http.produce("orders", &json!([{"value": 1, "partition": 4}])).await.expect(200);
    send(http.request(Method::DELETE, "/v1/topics/orders")).await.expect(202);
    let missing = http.get("/v1/topics/orders").await.error(404, "topic_not_found");
    assert!(missing["message"].as_str().unwrap().contains("create"), "{missing}");
    send(http.request(Method::POST, "/v1/topics/orders:undelete")).await.expect(200);
    let back = http.get("/v1/topics/orders").await.expect(200);
    assert_eq!((&back["topic_id"], &back["partitions"][4]["high_watermark"]), (&created["topic_id"], &json!(1)));
}

#[tokio::test]
async fn a_replaced_topic_is_another_topic() {
    let server = Server::start().await;
    let http = Http::new(server.url());
    let first = http.create_topic("t", &json!({})).await;
    http.produce("t", &json!([{"text": "of the first"}])).await.expect(200);
    send(http.request(Method::DELETE, "/v1/topics/t")).await.expect(202);
    let second = http.create_topic("t", &json!({})).await;
    assert_ne!(first["topic_id"], second["topic_id"]);
    assert_eq!(second["partitions"][0]["high_watermark"], 0);
    let old = first["topic_id"].as_str().unwrap();
    let body = json!({"records": [{"text": "x"}]});
    let path = format!("/v1/topics/t/records?topic_id={old}");
    http.json(Method::POST, &path, &body).await.error(409, "topic_replaced");
    let path = format!("/v1/topics/t/partitions/0/records?offset=0&topic_id={old}");
    http.get(&path).await.error(409, "topic_replaced");
    http.get(&format!("/v1/topics/t?topic_id={old}")).await.error(409, "topic_replaced");
}

#[tokio::test]
async fn listings_go_on_after_the_last_name() {
    let server = Server::start().await;
    let http = Http::new(server.url());
    for name in ["a.1", "a.2", "a.3", "b"] {
        http.create_topic(name, &json!({})).await;
    }
    let names = |page: &serde_json::Value| -> Vec<String> {
        page["topics"].as_array().unwrap().iter().map(|topic| topic["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = http.get("/v1/topics?prefix=a.&limit=2").await.expect(200);
    assert_eq!((names(&first), &first["has_more"]), (vec!["a.1".to_owned(), "a.2".to_owned()], &json!(true)));
    let rest = http.get("/v1/topics?prefix=a.&limit=2&start_after=a.2").await.expect(200);
    assert_eq!((names(&rest), &rest["has_more"]), (vec!["a.3".to_owned()], &json!(false)));
}

#[tokio::test]
async fn names_and_routes_that_are_none_are_refused() {
    let server = Server::start().await;
    let http = Http::new(server.url());
    for name in ["__ours", "a%2Fb", "%C3%A4", "a%20b", &"x".repeat(250)] {
        http.json(Method::PUT, &format!("/v1/topics/{name}"), &json!({})).await.error(400, "invalid_topic_name");
    }
    http.get("/v2/topics").await.error(404, "route_not_found");
    send(http.request(Method::PUT, "/v1/status")).await.error(405, "method_not_allowed");
    send(http.request(Method::GET, "/v1/topics").header("accept", "image/png")).await.error(406, "not_acceptable");
    let partitions = json!({"partitions": 0});
    http.json(Method::PUT, "/v1/topics/t", &partitions).await.error(422, "invalid_settings");
    http.create_topic("t", &json!({"partitions": 2})).await;
    http.get("/v1/topics/t/partitions/2/records").await.error(404, "partition_not_found");
}

#[tokio::test]
async fn topics_settings_and_their_deletion_survive_a_kill() {
    let server = Server::start_with(Settings::default().set("flush.interval", "200ms")).await;
    let http = Http::new(server.url());
    let kept = http.create_topic("kept", &json!({"partitions": 2, "retention_bytes": 1_000_000})).await;
    http.create_topic("gone", &json!({})).await;
    http.produce("gone", &json!([{"text": "x"}])).await.expect(200);
    http.flush("gone", false).await;
    send(http.request(Method::DELETE, "/v1/topics/gone")).await.expect(202);
    let server = server.kill_and_restart().await;
    let http = Http::new(server.url());
    let again = http.get("/v1/topics/kept").await.expect(200);
    assert_eq!((&again["topic_id"], &again["settings"]), (&kept["topic_id"], &kept["settings"]));
    http.get("/v1/topics/gone").await.error(404, "topic_not_found");
    send(http.request(Method::POST, "/v1/topics/gone:undelete")).await.expect(200);
    assert_eq!(http.fetch_all("gone", 0, "").await.len(), 1);
}

#[tokio::test]
async fn parquet_files_outlive_the_log_for_as_long_as_the_topic_says() {
    let settings = Settings::default().set("retention.interval", "30ms").set("archive.interval", "30ms");
    let server = Server::start_with(settings).await;
    let http = Http::new(server.url());
    let too_short = json!({"retention_ms": 10, "archive_retention_ms": 9});
    http.json(Method::PUT, "/v1/topics/t", &too_short).await.error(422, "invalid_settings");
    let settings = json!({"retention_ms": 1, "archive_retention_ms": 86_400_000, "archive_after_ms": 0});
    let created = http.create_topic("t", &settings).await;
    assert_eq!(created["settings"]["archive_retention_ms"], 86_400_000);
    http.produce("t", &json!([{"text": "a"}, {"text": "b"}])).await.expect(200);
    http.flush("t", true).await;
    eventually("the log to be trimmed", || async {
        let topic = http.get("/v1/topics/t").await.expect(200);
        (topic["partitions"][0]["log_start_offset"] == 2).then_some(())
    })
    .await;
    http.get("/v1/topics/t/partitions/0/records?offset=0").await.error(410, "offset_expired");

    // For readers of files nothing is gone, also after a start from the log.
    let server = server.kill_and_restart().await;
    let http = Http::new(server.url());
    let listing = http.get("/v1/topics/t/archive").await.expect(200);
    let start = json!({"partition": 0, "archive_start_offset": 0, "archived_offset": 2});
    assert_eq!(listing["archived"], json!([start]));
    let files = listing["files"].as_array().unwrap();
    assert_eq!((files.len(), &files[0]["partitions"]), (1, &json!([{"partition": 0, "start": 0, "end": 2}])));
    let path = files[0]["url"].as_str().unwrap().strip_prefix("file://").unwrap().to_owned();
    assert!(std::path::Path::new(&path).exists(), "{path}");

    // Until the topic says otherwise; the file itself stays for the grace period.
    http.json(Method::PATCH, "/v1/topics/t", &json!({"archive_retention_ms": null})).await.expect(200);
    eventually("the files to leave the topic", || async {
        let listing = http.get("/v1/topics/t/archive").await.expect(200);
        let is_empty = listing["files"].as_array().unwrap().is_empty();
        (is_empty && listing["archived"][0]["archive_start_offset"] == 2).then_some(())
    })
    .await;
    assert!(std::path::Path::new(&path).exists(), "{path}");
}

/// What a handler does after the change itself may fail, and the change stays: the answer has to say so.
#[tokio::test]
async fn an_answer_that_fails_after_the_change_does_not_say_that_nothing_was_written() {
    let server = Server::start_with(Settings::default().env("TIDELOG_FAILPOINTS", "topic.changed=error@1")).await;
    let http = Http::new(server.url());
    let failed = http.json(Method::PUT, "/v1/topics/t", &json!({})).await;
    failed.error(500, "internal");
    assert_eq!(failed.json()["error"]["outcome"], "written");
    http.get("/v1/topics/t").await.expect(200);
}
