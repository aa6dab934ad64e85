//! Who a node is: a directory that was wiped or swapped does not come back under an id that voted, a bucket of another cluster is
//! refused, and a replacement under a new id takes its place.

use std::time::Duration;

use serde_json::json;

use super::{Busy, busy, lasting};
use crate::support::binary::run;
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::server::copy_tree;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_follower_is_refused_with_the_command_that_replaces_it() {
    let Busy { mut cluster, mut load, readers } = Busy::start(busy()).await;
    let history = load.history();
    let wiped = load
        .during(async {
            Busy::more(&history, 200).await;
            let wiped = cluster.follower().await;
            cluster.kill(wiped);
            cluster.wipe(wiped);
            // The same command line as before: it forgot its vote, so it must not have one.
            cluster.spawn(wiped);
            let status = cluster.ended(wiped).await;
            assert!(!status.success(), "{status}");
            let log = cluster.log(wiped);
            assert!(log.contains("tidelog admin replace-node"), "{log}");
            cluster.place(4).await;
            cluster.spawn(4);
            let (by, address) = (4.to_string(), cluster.address(4));
            let replace = ["admin", "replace-node", &wiped.to_string(), &by, &address];
            let servers = cluster.urls();
            // Twice: the second time there is nothing left to do.
            for _ in 0..2 {
                let said = tokio::task::block_in_place(|| run(&servers, &replace)).ok();
                assert!(said.contains("node 4 votes"), "{said}");
            }
            cluster.ready(4).await;
            Busy::more(&history, 200).await;
            wiped
        })
        .await;
    let members = cluster.members().await;
    let mut nodes: Vec<u64> =
        members["members"].as_array().unwrap().iter().map(|member| member["node"].as_u64().unwrap()).collect();
    nodes.sort_unstable();
    let wanted: Vec<u64> = (1..=4).filter(|node| *node != wiped).collect();
    assert_eq!(nodes, wanted, "{members}");
    let mut cluster = Busy { cluster, load, readers }.check().await;

    // The new one votes: it and one of the others are a majority.
    let old = wanted.into_iter().find(|node| *node != 4 && cluster.running().contains(node)).unwrap();
    cluster.kill(old);
    let leader = cluster.leader_but(old).await;
    eventually("a write by the two that are left", || async {
        let answer = cluster.http_of(leader).produce("t", &json!([{"text": "by two"}])).await;
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_majority_of_wiped_nodes_does_not_make_up_a_past() {
    let mut cluster = Cluster::start_with(3, busy()).await;
    let http = cluster.http_of(1);
    http.create_topic("t", &json!({})).await;
    http.produce("t", &json!([{"text": "acknowledged"}])).await.expect(200);
    cluster.converge().await;
    for node in [2, 3] {
        cluster.kill(node);
        cluster.wipe(node);
    }
    // Each alone and both together: neither may vote, so there is no majority, and what was acknowledged stays.
    for node in [2, 3] {
        cluster.spawn(node);
    }
    for node in [2, 3] {
        let status = cluster.ended(node).await;
        assert!(!status.success(), "{status}");
        let log = cluster.log(node);
        assert!(log.contains("node_identity_mismatch") || log.contains("replace-node"), "{log}");
    }
    // It cannot know whether it is the newest, once it has noticed that nobody hears it.
    eventually("the node that is left to say so", || async {
        let answer = http.try_get("/v1/topics/t").await;
        answer.is_none_or(|answer| matches!(answer.status, 503 | 504)).then_some(())
    })
    .await;
    if let Some(page) = http.try_get("/v1/topics/t/partitions/0/records").await.filter(|page| page.status == 200) {
        assert_eq!(page.json()["records"][0]["text"], "acknowledged");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swapped_directories_and_foreign_buckets_are_refused() {
    let mut cluster = Cluster::start_with(3, busy()).await;
    let follower = cluster.follower().await;
    let other = cluster.others(follower)[0];
    cluster.http_of(other).create_topic("t", &json!({})).await;
    cluster.kill(follower);
    let wal = cluster.wal(follower);
    let kept = wal.with_file_name("kept");
    // The directory of another node under this one's number.
    std::fs::rename(&wal, &kept).unwrap();
    copy_tree(&cluster.wal(other), &wal);
    cluster.spawn(follower);
    let status = cluster.ended(follower).await;
    assert!(!status.success(), "{status}");
    // Its own is taken again.
    std::fs::remove_dir_all(&wal).unwrap();
    std::fs::rename(&kept, &wal).unwrap();
    cluster.restart(follower).await;
    cluster.converge().await;

    // A node of another cluster.
    let foreign = Cluster::start_with(1, busy()).await;
    let bucket = foreign.bucket();
    cluster.kill(follower);
    cluster.spawn_on(follower, &bucket);
    let status = cluster.ended(follower).await;
    assert!(!status.success(), "{status}");
    let log = cluster.log(follower);
    assert!(log.contains("belongs to cluster") || log.contains("cluster_mismatch"), "{log}");
    cluster.restart(follower).await;
    cluster.converge().await;
}

/// It would have votes forgotten, and count for entries that it does not have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_of_a_disk_is_noticed_although_the_leader_changed() {
    let mut cluster = Cluster::start_with(3, busy().set("cluster.shards", "1")).await;
    let leader = cluster.leader().await;
    let http = cluster.http_of(leader);
    http.create_topic("t", &json!({})).await;
    http.produce("t", &json!([{"text": "in the copy"}])).await.expect(200);
    cluster.converge().await;
    let follower = cluster.follower().await;
    let wal = cluster.wal(follower);
    let kept = wal.with_file_name("kept");
    cluster.kill(follower);
    copy_tree(&wal, &kept);
    cluster.restart(follower).await;
    for number in 0..20 {
        http.produce("t", &json!([{"text": number.to_string()}])).await.expect(200);
    }
    cluster.converge().await;
    // A leader tells the others every three seconds what each node holds.
    lasting(Duration::from_secs(5)).await;
    cluster.kill(follower);
    std::fs::remove_dir_all(&wal).unwrap();
    std::fs::rename(&kept, &wal).unwrap();
    let next = cluster.others(leader).into_iter().find(|node| *node != follower).unwrap();
    http.change("/v1/admin/leader:transfer", &json!({ "to": next })).await.expect(200);
    assert_eq!(cluster.leader().await, next);
    // The second time because it was written down.
    for _ in 0..2 {
        cluster.spawn(follower);
        let status = cluster.ended(follower).await;
        assert!(!status.success(), "{status}");
    }
    let log = cluster.log(follower);
    assert!(log.matches("restored from an older copy").count() >= 2, "{log}");
    assert!(log.contains(&format!("tidelog admin replace-node {follower}")), "{log}");
    let new = cluster.http_of(next);
    new.produce("t", &json!([{"text": "by two"}])).await.expect(200);
    assert_eq!(new.fetch_all("t", 0, "").await.len(), 22);
}
