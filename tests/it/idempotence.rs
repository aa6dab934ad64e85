//! What makes a request repeatable: producer triples, idempotency keys, conditional appends; across restarts.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::http::{Answer, Http, send};
use crate::support::server::{Server, Settings};

struct Triple {
    id: u64,
    epoch: u64,
}

impl Triple {
    async fn register(http: &Http, name: Option<&str>) -> Self {
        let body = name.map_or(json!({}), |name| json!({"name": name}));
        let answer = http.json(Method::POST, "/v1/producers", &body).await.json();
        Self { id: answer["producer_id"].as_u64().unwrap(), epoch: answer["epoch"].as_u64().unwrap() }
    }

    async fn send(&self, http: &Http, sequence: u64, texts: &[&str]) -> Answer {
        let records: Vec<Value> = texts.iter().map(|text| json!({"text": text})).collect();
        let request = http
            .request(Method::POST, "/v1/topics/t/partitions/0/records")
            .header("content-type", "application/json")
            .header("producer-id", self.id)
            .header("producer-epoch", self.epoch)
            .header("producer-sequence", sequence)
            .body(json!({ "records": records }).to_string());
        send(request).await
    }
}

#[tokio::test]
async fn a_triple_is_written_once_across_restarts() {
    let server = Server::start_with(Settings::default().set("flush.interval", "200ms")).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({})).await;
    let first = Triple::register(&http, Some("loader")).await;
    assert_eq!(first.send(&http, 0, &["a", "b"]).await.expect(200)["records"][1]["offset"], 1);
    first.send(&http, 2, &["c"]).await.expect(200);

    let again = first.send(&http, 0, &["a", "b"]).await.expect(200);
    assert_eq!((&again["duplicate"], &again["records"][0]["offset"]), (&json!(true), &json!(0)));
    first.send(&http, 0, &["x", "b"]).await.error(409, "sequence_reused");
    let gap = first.send(&http, 5, &["d"]).await.error(409, "sequence_gap");
    assert_eq!((&gap["details"]["expected_sequence"], &gap["outcome"]), (&json!(3), &json!("not_written")));

    // From the log alone, then from a checkpoint.
    let server = server.kill_and_restart().await;
    let http = Http::new(server.url());
    assert_eq!(first.send(&http, 2, &["c"]).await.expect(200)["duplicate"], true);
    http.flush("t", false).await;
    let server = server.terminate_and_restart().await;
    let http = Http::new(server.url());
    assert_eq!(first.send(&http, 2, &["c"]).await.expect(200)["records"][0]["offset"], 2);

    let state = http.get(&format!("/v1/producers/{}?topic=t", first.id)).await.expect(200);
    let position = &state["partitions"][0];
    assert_eq!(
        (&position["epoch"], &position["last_sequence"], &position["last_offset"]),
        (&json!(0), &json!(2), &json!(2))
    );

    // The name again: another epoch, and the older holder is fenced.
    let found = http.get("/v1/producers?name=loader").await.expect(200);
    assert_eq!((&found["producer_id"], &found["epoch"]), (&json!(first.id), &json!(0)), "finding raises nothing");
    let second = Triple::register(&http, Some("loader")).await;
    assert_eq!((second.id, second.epoch), (first.id, 1));
    second.send(&http, 0, &["e"]).await.expect(200);
    first.send(&http, 3, &["f"]).await.error(403, "producer_fenced");
    let unknown = Triple { id: first.id + 1_000, epoch: 0 };
    let error = unknown.send(&http, 7, &["g"]).await.error(409, "unknown_producer");
    assert_eq!(error["outcome"], "unknown");
    http.get("/v1/producers?name=nobody").await.error(404, "producer_not_found");
    let texts: Vec<Value> = http.fetch_all("t", 0, "").await.into_iter().map(|record| record["text"].clone()).collect();
    assert_eq!(texts, ["a", "b", "c", "e"]);
}

#[tokio::test]
async fn triples_need_a_partition_and_all_three_headers() {
    let server = Server::start().await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({})).await;
    let triple = Triple::register(&http, None).await;
    let request = |path: &str| {
        http.request(Method::POST, path)
            .header("content-type", "application/json")
            .header("producer-id", triple.id)
            .body(r#"{"records":[{"value":1}]}"#)
    };
    let whole = |path: &str| request(path).header("producer-epoch", 0).header("producer-sequence", 0);
    send(whole("/v1/topics/t/records")).await.error(400, "partition_required");
    send(request("/v1/topics/t/partitions/0/records")).await.error(400, "invalid_parameter");
    send(whole("/v1/topics/t/partitions/0/records")).await.expect(200);
}

#[tokio::test]
async fn an_idempotency_key_covers_many_partitions_and_restarts() {
    let server = Server::start_with(Settings::default().set("flush.interval", "200ms")).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({"partitions": 3})).await;
    let records: Vec<Value> = (0..30).map(|n| json!({"key": format!("k{n}"), "value": n})).collect();
    let body = json!({ "records": records });
    let post = |http: Http, body: Value| async move {
        let request = http.request(Method::POST, "/v1/topics/t/records").header("content-type", "application/json");
        send(request.header("idempotency-key", "order-4711").body(body.to_string())).await
    };
    let first = post(http.clone(), body.clone()).await.expect(200);
    assert!(first.get("duplicate").is_none_or(|duplicate| duplicate == false));
    for step in 0..3 {
        let again = post(http.clone(), body.clone()).await.expect(200);
        assert_eq!((&again["duplicate"], &again["records"]), (&json!(true), &first["records"]), "{step}");
    }
    let server = server.kill_and_restart().await;
    let http = Http::new(server.url());
    let again = post(http.clone(), body.clone()).await.expect(200);
    assert_eq!((&again["duplicate"], &again["records"]), (&json!(true), &first["records"]));
    http.flush("t", false).await;
    let server = server.kill_and_restart().await;
    let http = Http::new(server.url());
    let again = post(http.clone(), body.clone()).await.expect(200);
    assert_eq!((&again["duplicate"], &again["records"]), (&json!(true), &first["records"]));
    let other = json!({"records": [{"key": "k0", "value": "another"}]});
    post(http.clone(), other).await.error(422, "idempotency_key_reused");
    let total: usize = {
        let mut total = 0;
        for partition in 0..3 {
            total += http.fetch_all("t", partition, "").await.len();
        }
        total
    };
    assert_eq!(total, 30);
}

#[tokio::test]
async fn a_key_is_written_once_while_the_topic_grows_under_its_first_attempt() {
    // The first request is assigned to partitions and then held back, until the topic has grown and its retry has come.
    let settings = Settings::default().env("TIDELOG_FAILPOINTS", "produce.assigned=sleep:1500@1");
    let server = Server::start_with(settings).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({"partitions": 2})).await;
    let records: Vec<Value> = (0..40).map(|n| json!({"key": format!("k{n}"), "value": n})).collect();
    let body = json!({ "records": records }).to_string();
    let post = |url: &str| {
        let request = Http::new(url).request(Method::POST, "/v1/topics/t/records");
        let request = request.header("content-type", "application/json").header("idempotency-key", "order-4711");
        send(request.body(body.clone()))
    };
    let grow = |http: Http, partitions: u32| async move {
        let body = json!({"partitions": partitions, "rekey": true});
        http.json(Method::PATCH, "/v1/topics/t", &body).await.expect(200);
    };
    let first = tokio::spawn(post(server.url()));
    eventually("the first attempt is assigned", || async { server.log().contains("fail point fired").then_some(()) })
        .await;
    grow(http.clone(), 3).await;
    let retry = post(server.url()).await.expect(200);
    let first = first.await.unwrap().expect(200);
    assert_eq!(first["records"], retry["records"]);
    let used: std::collections::BTreeSet<u64> =
        retry["records"].as_array().unwrap().iter().map(|at| at["partition"].as_u64().unwrap()).collect();
    assert!(used.len() > 1, "the request is of several partitions");

    // Also after a crash and further growth: twice, since one number of partitions before is not enough to remember.
    let mut server = server;
    for partitions in [7, 11] {
        server = server.kill_and_restart().await;
        grow(Http::new(server.url()), partitions).await;
        let again = post(server.url()).await.expect(200);
        assert_eq!((&again["duplicate"], &again["records"]), (&json!(true), &retry["records"]));
    }
    let http = Http::new(server.url());
    let mut total = 0;
    for partition in 0..11 {
        total += http.fetch_all("t", partition, "").await.len();
    }
    assert_eq!(total, 40);
}

#[tokio::test]
async fn a_conditional_append_is_made_only_at_its_offset() {
    let server = Server::start().await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({})).await;
    let append = |expected: u64| {
        let request = http.request(Method::POST, "/v1/topics/t/partitions/0/records");
        let request = request.header("content-type", "application/json").header("expected-offset", expected);
        send(request.body(r#"{"records":[{"value":1},{"value":2}]}"#))
    };
    append(0).await.expect(200);
    let error = append(0).await.error(412, "offset_mismatch");
    assert_eq!((&error["details"]["actual_offset"], &error["outcome"]), (&json!(2), &json!("not_written")));
    append(2).await.expect(200);
    assert_eq!(http.fetch_all("t", 0, "").await.len(), 4);
}
