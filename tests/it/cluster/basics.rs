//! Any node takes any request, and all of them agree at once.

use reqwest::Method;
use serde_json::{Value, json};

use super::busy;
use crate::support::binary::{run, run_with};
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::http::Http;
use crate::support::server::Settings;

fn texts(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["text"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_takes_any_request() {
    let cluster = Cluster::start_with(3, busy()).await;
    let leaders = cluster.led(|_| true).await;
    let nodes: Vec<Http> = (1..=3).map(|node| cluster.http_of(node)).collect();
    // What one node has done, the next one knows at once.
    for (number, http) in nodes.iter().enumerate() {
        let topic = format!("of-{number}");
        http.create_topic(&topic, &json!({})).await;
        for other in &nodes {
            let described = other.get(&format!("/v1/topics/{topic}")).await.expect(200);
            assert_eq!(described["partitions"][0]["leader"], leaders[number], "one topic in each shard");
        }
    }
    nodes[0].create_topic("t", &json!({"archive_after_ms": 0})).await;
    for round in 0..5 {
        for (number, http) in nodes.iter().enumerate() {
            let text = format!("{round}-{number}");
            let answer = http.produce("t", &json!([{"text": text}])).await.expect(200);
            assert_eq!(answer["records"][0]["offset"], round * 3 + number as u64);
        }
    }
    let wanted: Vec<String> = (0..5).flat_map(|round| (0..3).map(move |node| format!("{round}-{node}"))).collect();
    for http in &nodes {
        // A long poll waits for what the node has not applied yet.
        let page = http.get("/v1/topics/t/partitions/0/records?offset=14&wait_ms=4000").await.expect(200);
        assert_eq!(page["next_offset"], 15);
        assert_eq!(texts(&http.fetch_all("t", 0, "").await), wanted);
    }
    // The levels of acknowledgement and everything about the bucket, by way of a node that does not lead.
    let follower = &nodes[usize::try_from(cluster.follower().await).unwrap() - 1];
    let path = "/v1/topics/t/records?acks=object&timeout_ms=4000";
    let answer = follower.json(Method::POST, path, &json!({"records": [{"text": "in the bucket"}]})).await.expect(200);
    assert_eq!(answer["durability"], "object");
    let described = follower.get("/v1/topics/t").await.expect(200);
    assert_eq!(described["partitions"][0]["flushed_offset"], 16);
    follower.flush("t", true).await;
    for http in &nodes {
        eventually("the archive", || async {
            let files = http.get("/v1/topics/t/archive").await.expect(200);
            (files["archived"][0]["archived_offset"] == 16).then_some(())
        })
        .await;
        assert_eq!(http.fetch_all("t", 0, "").await.len(), 16);
    }
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_may_change_its_node_and_a_topic_its_settings_anywhere() {
    let cluster = Cluster::start().await;
    let nodes: Vec<Http> = (1..=3).map(|node| cluster.http_of(node)).collect();
    nodes[1].create_topic("t", &json!({})).await;
    let registered = nodes[2].json(Method::POST, "/v1/producers", &json!({"name": "p"})).await.expect(200);
    let send = |http: &Http, sequence: u64| {
        let request = http.request(Method::POST, "/v1/topics/t/partitions/0/records");
        let request = request.header("content-type", "application/json").header("producer-sequence", sequence);
        let request = request.header("producer-id", registered["producer_id"].to_string());
        let request = request.header("producer-epoch", registered["epoch"].to_string());
        crate::support::http::send(request.body(json!({"records": [{"text": sequence.to_string()}]}).to_string()))
    };
    for sequence in 0..6 {
        let http = &nodes[usize::try_from(sequence % 3).unwrap()];
        let first = send(http, sequence).await.expect(200);
        // The retry goes to another node.
        let again = send(&nodes[usize::try_from((sequence + 1) % 3).unwrap()], sequence).await.expect(200);
        assert_eq!((&again["duplicate"], &again["records"]), (&json!(true), &first["records"]));
    }
    send(&nodes[0], 9).await.error(409, "sequence_gap");
    nodes[0].json(Method::PATCH, "/v1/topics/t", &json!({"partitions": 2, "rekey": true})).await.expect(200);
    let described = nodes[2].get("/v1/topics/t").await.expect(200);
    assert_eq!(described["partitions"].as_array().unwrap().len(), 2);
    let key = |http: &Http| {
        let request = http.request(Method::POST, "/v1/topics/t/records").header("content-type", "application/json");
        let body = json!({"records": [{"text": "once", "partition": 1}]});
        crate::support::http::send(request.header("idempotency-key", "k").body(body.to_string()))
    };
    assert_eq!(key(&nodes[0]).await.expect(200).get("duplicate"), None);
    assert_eq!(key(&nodes[1]).await.expect(200)["duplicate"], true);
    crate::support::http::send(nodes[1].request(Method::DELETE, "/v1/topics/t")).await.expect(202);
    nodes[2].get("/v1/topics/t").await.error(404, "topic_not_found");
    nodes[2].json(Method::POST, "/v1/topics/t:undelete", &json!({})).await.expect(200);
    assert_eq!(nodes[0].fetch_all("t", 0, "").await.len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_the_members_through_every_node() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    for node in 1..=3 {
        // A member that was still starting when the leader asked first is asked again a few seconds later.
        let seen = eventually("members that have caught up and answered", || async {
            let seen = cluster.http_of(node).get("/v1/admin/cluster").await.expect(200);
            let members = seen["members"].as_array().unwrap();
            let well = |member: &Value| member["lag"] == 0 && member["reachable"] == true;
            members.iter().all(well).then(|| seen.clone())
        })
        .await;
        assert_eq!(seen["leader"], leader, "{seen}");
        let members = seen["members"].as_array().unwrap();
        assert_eq!(members.len(), 3, "{seen}");
        for member in members {
            let id = member["node"].as_u64().unwrap();
            assert_eq!((&member["voter"], &member["is_leader"]), (&json!(true), &json!(id == leader)), "{seen}");
            assert_eq!(member["address"], cluster.address(id), "{seen}");
        }
    }
    let table = run(&cluster.urls(), &["admin", "status"]).ok();
    assert_eq!(table.matches("reachable").count(), 4, "three members and the bucket: {table}");
    assert!(table.contains("good") && table.contains("voter"), "{table}");
    let status: Value = serde_json::from_str(&run(&cluster.urls(), &["admin", "status", "--json"]).ok()).unwrap();
    assert_eq!(status["cluster"]["leader"], leader, "{status}");
    // Nothing that is for one server is done by a list of them.
    for command in [&["admin", "drain"][..], &["admin", "stop"]] {
        let refused = run(&cluster.urls(), command).failed(2);
        assert!(refused.contains("one of them"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_go_on_with_the_next_server() {
    let mut cluster = Cluster::start_with(3, Settings::default()).await;
    let follower = cluster.follower().await;
    cluster.kill(follower);
    // The one that is away comes first.
    let servers = format!("{},{}", cluster.url(follower), cluster.urls());
    let said = run_with(&servers, &["produce", "t", "--create", "--partitions", "2"], b"one\ntwo\nthree\n").ok();
    assert!(said.contains("3 records"), "{said}");
    let read = run(&servers, &["consume", "t", "--output", "value"]).ok();
    assert_eq!(read.lines().count(), 3, "{read}");
    run(&servers, &["topic", "describe", "t"]).ok();
}
