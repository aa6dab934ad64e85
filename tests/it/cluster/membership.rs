//! A cluster that grows from one node to three and shrinks again, under load.

use std::time::Duration;

use serde_json::{Value, json};

use super::{PARTITIONS, busy};
use crate::support::binary::run;
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::load::Load;

fn admin(cluster: &Cluster, args: &[&str]) -> String {
    let servers = cluster.urls();
    tokio::task::block_in_place(|| run(&servers, &[&["admin"], args].concat())).ok()
}

fn voters(members: &Value) -> Vec<u64> {
    let members = members["members"].as_array().unwrap().iter();
    let mut voters: Vec<u64> =
        members.filter(|member| member["voter"] == true).map(|member| member["node"].as_u64().unwrap()).collect();
    voters.sort_unstable();
    voters
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_grows_to_three_and_shrinks_under_load() {
    let mut cluster = Cluster::start_with(1, busy()).await;
    cluster.http_of(1).create_topic("t", &json!({"partitions": PARTITIONS, "archive_after_ms": 0})).await;
    for node in [2, 3] {
        cluster.place(node).await;
    }
    // Producers know where all of them will be.
    let mut load = Load::new(&cluster.http(), "t", PARTITIONS).await;
    let history = load.history();
    let more = |records: usize| super::Busy::more(&history, records);
    load.during(async {
        more(200).await;
        for node in [2, 3] {
            cluster.spawn(node);
            let address = cluster.address(node);
            for _ in 0..2 {
                assert!(admin(&cluster, &["add-node", &node.to_string(), &address]).contains("votes"));
            }
            cluster.ready(node).await;
            more(100).await;
        }
    })
    .await;
    assert_eq!(voters(&cluster.members().await), [1, 2, 3]);
    cluster.converge().await;
    for node in 1..=3 {
        load.check(&cluster.http_of(node), "t").await;
    }

    // Its first node is not needed any more.
    load.during(async {
        admin(&cluster, &["transfer-leader", "1"]);
        more(100).await;
        for _ in 0..2 {
            assert!(admin(&cluster, &["remove-node", "1"]).contains("no member any more"));
        }
        let leader = cluster.leader_but(1).await;
        eventually("the two that are left", || async {
            let seen = cluster.http_of(leader).try_get("/v1/admin/cluster").await?;
            (seen.status == 200 && voters(&seen.json()) == [2, 3]).then_some(())
        })
        .await;
        cluster.kill(1);
        more(100).await;
    })
    .await;
    cluster.converge().await;
    for node in [2, 3] {
        load.check(&cluster.http_of(node), "t").await;
    }
}

/// Its log goes on where it ended: neither an operator who changed his mind, nor one whose request broke off with a leader that was
/// deposed, has to begin with an empty directory and another number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_left_is_taken_in_again_with_its_log() {
    let mut cluster = Cluster::start_with(3, busy()).await;
    let http = cluster.http();
    http.create_topic("t", &json!({"partitions": PARTITIONS, "archive_after_ms": 0})).await;
    let mut load = Load::new(&http, "t", PARTITIONS).await;
    let history = load.history();
    let more = |records: usize| super::Busy::more(&history, records);
    load.during(async {
        more(100).await;
        for restarts in [false, true] {
            let node = cluster.follower().await;
            let (number, address) = (node.to_string(), cluster.address(node));
            admin(&cluster, &["remove-node", &number]);
            more(100).await;
            if restarts {
                cluster.kill(node);
                cluster.spawn(node);
            }
            for _ in 0..2 {
                assert!(admin(&cluster, &["add-node", &number, &address]).contains("votes"));
            }
            cluster.ready(node).await;
            assert_eq!(voters(&cluster.members().await), [1, 2, 3]);
            more(100).await;
        }
    })
    .await;
    cluster.converge().await;
    for node in 1..=3 {
        load.check(&cluster.http_of(node), "t").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_where_it_is_asked_to_and_no_request_fails() {
    let cluster = Cluster::start_with(3, busy()).await;
    let http = cluster.http_of(cluster.leader().await);
    http.create_topic("t", &json!({})).await;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    // One request after the other through each node, sent once.
    let writers: Vec<_> = (1..=3)
        .map(|node| {
            let (http, stop) = (cluster.http_of(node), std::sync::Arc::clone(&stop));
            tokio::spawn(async move {
                let (mut count, mut longest) = (0, Duration::ZERO);
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let begun = std::time::Instant::now();
                    http.produce("t", &json!([{"text": format!("{node}-{count}")}])).await.expect(200);
                    longest = longest.max(begun.elapsed());
                    count += 1;
                }
                (count, longest)
            })
        })
        .collect();
    for node in [1, 2, 3, 1] {
        let said = admin(&cluster, &["transfer-leader", &node.to_string()]);
        assert!(said.contains(&format!("node {node} leads")), "{said}");
        assert_eq!(cluster.leader().await, node);
    }
    let leader = cluster.leader().await;
    admin(&cluster, &["transfer-leader"]);
    assert_ne!(cluster.leader_but(leader).await, leader);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut written = 0;
    for writer in writers {
        let (count, longest) = writer.await.unwrap();
        println!("{count} requests, the longest took {longest:?}");
        written += count;
    }
    assert_eq!(http.fetch_all("t", 0, "").await.len(), written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_operator_may_do_is_refused_by_its_name() {
    let cluster = Cluster::start_with(3, busy()).await;
    let post = |path: &str, body: Value| {
        let (http, path) = (cluster.http_of(2), path.to_owned());
        async move { http.change(&path, &body).await }
    };
    // Nobody listens at the discard port.
    post("/v1/admin/nodes:add", json!({"node": 9, "address": "127.0.0.1:9"})).await.error(503, "unavailable");
    // Another node is at that address.
    let wrong = json!({"node": 9, "address": cluster.address(1)});
    post("/v1/admin/nodes:add", wrong).await.error(409, "node_identity_mismatch");
    let unknown = json!({"node": 7, "by": 8, "address": "127.0.0.1:9"});
    post("/v1/admin/nodes:replace", unknown).await.error(404, "node_not_found");
    post("/v1/admin/leader:transfer", json!({"to": 7})).await.error(409, "invalid_membership");
    // What is done already is done.
    post("/v1/admin/nodes:remove", json!({"node": 7})).await.expect(200);
    post("/v1/admin/nodes:add", json!({"node": 1, "address": cluster.address(1)})).await.expect(200);
    assert_eq!(voters(&cluster.members().await), [1, 2, 3]);
}
