//! A follower that was away: for a while it catches up from the log, for longer from a checkpoint.

use serde_json::json;

use super::{Busy, busy};
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::http::Http;

/// Writes and flushes `rounds` times.
async fn flushes(http: &Http, rounds: u32) {
    for round in 0..rounds {
        let records: Vec<_> = (0..50).map(|n| json!({"text": format!("{round}-{n}-{}", "x".repeat(500))})).collect();
        http.produce("t", &json!(records)).await.expect(200);
        http.flush("t", false).await;
    }
}

/// Waits until a node has flushed up to where the leader has, and returns what it says of itself.
async fn caught_up(cluster: &Cluster, node: u64) {
    let leader = cluster.leader().await;
    eventually("the follower to catch up", || async {
        let (ahead, behind) = (cluster.shard(leader).await?, cluster.shard(node).await?);
        (ahead["applied"] == behind["applied"] && ahead["flushed"] == behind["flushed"]).then_some(())
    })
    .await;
}

/// How often a node was told to take a checkpoint, of all shards.
async fn checkpoints_sent(cluster: &Cluster) -> f64 {
    let mut sum = 0.0;
    for node in cluster.running() {
        sum += cluster.http_of(node).metric("tidelog_peer_calls_total", &[("kind", "snapshot")]).await;
    }
    sum
}

/// Three nodes and a follower that was away through flushes, came back and has caught up.
async fn away_through_flushes(keep: &str) -> (Cluster, u64) {
    let mut cluster = Cluster::start_with(3, busy().set("wal.keep", keep).set("wal.file_size", "64KiB")).await;
    let http = cluster.http_of(cluster.leader().await);
    http.create_topic("t", &json!({})).await;
    flushes(&http, 2).await;
    let follower = cluster.follower().await;
    caught_up(&cluster, follower).await;
    cluster.kill(follower);
    flushes(&http, 6).await;
    // More that is not flushed, so that it needs the log besides a checkpoint.
    http.produce("t", &json!([{"text": "not flushed"}])).await.expect(200);
    cluster.restart(follower).await;
    caught_up(&cluster, follower).await;
    cluster.converge().await;
    let there = cluster.http_of(follower).fetch_all("t", 0, "").await;
    assert_eq!(there.len(), 8 * 50 + 1);
    assert_eq!(there.last().unwrap()["text"], "not flushed");
    (cluster, follower)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_missed_no_more_than_is_kept_catches_up_from_the_log() {
    // Shared out over three shards, and far more than is written.
    let (cluster, _) = away_through_flushes("96MiB").await;
    assert_eq!(checkpoints_sent(&cluster).await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_away_through_flushes_and_purges_catches_up() {
    // Nothing is kept for followers: what it missed is purged when it comes back.
    let (mut cluster, follower) = away_through_flushes("0B").await;
    assert!(checkpoints_sent(&cluster).await > 0.0);

    // It counts for the majority again: the other follower goes, and then the leader.
    let leader = cluster.leader().await;
    let other = cluster.others(leader).into_iter().find(|node| *node != follower).unwrap();
    cluster.kill(other);
    cluster.http_of(leader).produce("t", &json!([{"text": "by two"}])).await.expect(200);
    cluster.restart(other).await;
    cluster.kill(leader);
    let new = cluster.leader().await;
    assert_eq!(cluster.http_of(new).fetch_all("t", 0, "").await.len(), 8 * 50 + 2);
    cluster.restart(leader).await;
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_stopped_through_flushes_under_load_catches_up() {
    let settings = busy().set("wal.keep", "0B").set("wal.file_size", "64KiB");
    let Busy { mut cluster, mut load, readers } = Busy::start(settings).await;
    let history = load.history();
    for _ in 0..2 {
        load.during(async {
            Busy::more(&history, 100).await;
            let follower = cluster.follower().await;
            let flushed = cluster.shard(cluster.leader().await).await.unwrap()["flushed"].as_u64().unwrap();
            cluster.pause(follower);
            eventually("several flushes", || async {
                let shard = cluster.shard(cluster.leader().await).await?;
                (shard["flushed"].as_u64()? > flushed + 200).then_some(())
            })
            .await;
            cluster.resume(follower);
            Busy::more(&history, 100).await;
        })
        .await;
    }
    Busy { cluster, load, readers }.check().await;
}
