//! kill -9 and SIGSTOP under load.

use std::time::Duration;

use super::{Busy, busy, lasting};
use crate::support::cluster::MAX_ELECTION_MS;
use crate::support::eventually;

/// How often the leader is killed, or more for a long run.
fn rounds() -> usize {
    std::env::var("TIDELOG_TEST_ROUNDS").map_or(3, |rounds| rounds.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_killed_under_load_loses_nothing() {
    let Busy { mut cluster, mut load, readers } = Busy::start(busy()).await;
    let history = load.history();
    for _ in 0..rounds() {
        load.during(async {
            Busy::more(&history, 500).await;
            let leader = cluster.leader().await;
            cluster.kill(leader);
            // The other two go on without it, and it comes back as a follower.
            Busy::more(&history, 300).await;
            cluster.restart(leader).await;
            Busy::more(&history, 100).await;
        })
        .await;
        load.repeat().await;
    }
    Busy { cluster, load, readers }.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_killed_under_load_stops_nobody() {
    let Busy { mut cluster, mut load, readers } = Busy::start(busy()).await;
    let history = load.history();
    load.during(async {
        Busy::more(&history, 300).await;
        let (leader, follower) = (cluster.leader().await, cluster.follower().await);
        let complaints = |log: String| log.lines().filter(|line| line.contains(" WARN ")).count();
        let before = complaints(cluster.log(leader));
        cluster.kill(follower);
        Busy::more(&history, 500).await;
        lasting(Duration::from_millis(MAX_ELECTION_MS)).await;
        assert_eq!(cluster.leader().await, leader, "there was no reason for an election");
        // Told once, not with every heartbeat.
        let complained = complaints(cluster.log(leader)) - before;
        assert!(complained <= 10, "{complained} warnings");
        cluster.restart(follower).await;
        Busy::more(&history, 100).await;
    })
    .await;
    Busy { cluster, load, readers }.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_killed_at_once_lose_nothing() {
    let Busy { mut cluster, mut load, readers } = Busy::start(busy()).await;
    let history = load.history();
    for _ in 0..2 {
        load.during(async {
            Busy::more(&history, 600).await;
            for node in cluster.running() {
                cluster.kill(node);
            }
            (1..=3).for_each(|node| cluster.spawn(node));
            cluster.all_ready().await;
            Busy::more(&history, 100).await;
        })
        .await;
        load.repeat().await;
    }
    Busy { cluster, load, readers }.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_stopped_and_goes_on_follows() {
    let Busy { mut cluster, mut load, readers } = Busy::start(busy()).await;
    let history = load.history();
    let (old, new) = load
        .during(async {
            Busy::more(&history, 300).await;
            let old = cluster.leader().await;
            cluster.pause(old);
            let new = cluster.leader_but(old).await;
            Busy::more(&history, 300).await;
            lasting(Duration::from_millis(3 * MAX_ELECTION_MS)).await;
            cluster.resume(old);
            Busy::more(&history, 300).await;
            (old, new)
        })
        .await;
    // It believes that it leads until it hears of the newer term; then it follows.
    eventually("the old leader to follow", || async {
        let shard = cluster.shard(old).await?;
        (shard["leader"].as_u64().is_some_and(|leader| leader != old)).then_some(())
    })
    .await;
    assert_ne!(old, new);
    Busy { cluster, load, readers }.check().await;
}
