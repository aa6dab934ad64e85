//! Server-sent events through the router.

use axum::body::BodyDataStream;
use futures::StreamExt as _;

use super::*;

/// The events of a stream, one by one.
struct Events {
    body: BodyDataStream,
    text: String,
}

impl Events {
    async fn open(gateway: &Gateway, path: &str, last: Option<&str>) -> Self {
        let mut sent = request(Method::GET, path).header("accept", "text/event-stream");
        if let Some(last) = last {
            sent = sent.header("last-event-id", last);
        }
        let response = gateway.front.clone().answer(sent.body(Body::empty()).unwrap()).await.map(Body::new);
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-cache, no-transform");
        Self { body: response.into_body().into_data_stream(), text: String::new() }
    }

    /// Name, id and data of the next event; `None` at the end. Comments are skipped.
    async fn next(&mut self) -> Option<(String, String, Value)> {
        loop {
            while let Some(end) = self.text.find("\n\n") {
                let event: String = self.text.drain(..end + 2).collect();
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
                if !field("event: ").is_empty() {
                    let data = serde_json::from_str(field("data: ")).unwrap();
                    return Some((field("event: ").to_owned(), field("id: ").to_owned(), data));
                }
            }
            let chunk = self.body.next().await?.unwrap();
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

#[tokio::test]
async fn a_follower_gets_what_is_there_what_comes_and_the_end() {
    let gateway = Gateway::start().await;
    gateway.fill(1, 2).await;
    let path = "/v1/topics/t/partitions/0/records?offset=0";
    let mut events = Events::open(&gateway, path, None).await;
    let (_, first, data) = events.next().await.unwrap();
    assert_eq!((&data["offset"], &data["text"]), (&json!(0), &json!("0")));
    assert_eq!(events.next().await.unwrap().2["offset"], 1);
    let body = json!({"records": [{"text": "new"}]});
    gateway.json(Method::POST, "/v1/topics/t/partitions/0/records", &body).await.expect(200);
    assert_eq!(events.next().await.unwrap().2["text"], "new");
    let mut resumed = Events::open(&gateway, path, Some(&first)).await;
    assert_eq!(resumed.next().await.unwrap().2["offset"], 1);
    gateway.lifecycle.end_waits();
    assert_eq!(events.next().await.unwrap().0, "reconnect");
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn all_partitions_are_followed_and_ids_resume_all_of_them() {
    let gateway = Gateway::start().await;
    gateway.fill(3, 2).await;
    let mut events = Events::open(&gateway, "/v1/topics/t/records", None).await;
    let mut seen = Vec::new();
    let mut last = String::new();
    for _ in 0..4 {
        let (_, id, data) = events.next().await.unwrap();
        seen.push((data["partition"].as_u64().unwrap(), data["offset"].as_u64().unwrap()));
        last = id;
    }
    let mut resumed = Events::open(&gateway, "/v1/topics/t/records", Some(&last)).await;
    for _ in 0..2 {
        let (_, _, data) = resumed.next().await.unwrap();
        seen.push((data["partition"].as_u64().unwrap(), data["offset"].as_u64().unwrap()));
    }
    seen.sort_unstable();
    assert_eq!(seen, [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]);
}

#[tokio::test]
async fn what_is_wrong_for_good_is_refused_with_its_status() {
    let gateway = Gateway::with(|config| config.http.max_followers = 1).await;
    gateway.fill(1, 1).await;
    let ask = |path: &str, last: &str| {
        let sent = request(Method::GET, path).header("accept", "text/event-stream").header("last-event-id", last);
        sent.body(Body::empty()).unwrap()
    };
    gateway.send(ask("/v1/topics/none/records", "")).await.error(404, "topic_not_found");
    gateway.send(ask("/v1/topics/t/partitions/7/records", "")).await.error(404, "partition_not_found");
    gateway.send(ask("/v1/topics/t/partitions/0/records?offset=9", "")).await.error(416, "offset_out_of_range");
    gateway.send(ask("/v1/topics/t/records", "garbled")).await.error(400, "invalid_cursor");
    let _one = Events::open(&gateway, "/v1/topics/t/records", None).await;
    let refused = gateway.send(ask("/v1/topics/t/records", "")).await;
    refused.error(503, "overloaded");
    assert_eq!(refused.header("retry-after"), "1");
}

#[tokio::test]
async fn a_topic_that_goes_ends_its_followers_with_a_failure() {
    let gateway = Gateway::start().await;
    gateway.fill(1, 1).await;
    let mut events = Events::open(&gateway, "/v1/topics/t/partitions/0/records", None).await;
    assert_eq!(events.next().await.unwrap().0, "record");
    gateway.queue.delete_topic("t", None).await.unwrap();
    let (name, _, data) = events.next().await.unwrap();
    assert_eq!((name.as_str(), &data["error"]["code"]), ("failure", &json!("topic_not_found")));
    assert!(events.next().await.is_none());
}
