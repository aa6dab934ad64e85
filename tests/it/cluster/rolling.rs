//! Upgrades: every node in turn is drained or told to end, and started again, under load.

use super::{Busy, busy};
use crate::support::binary::run;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_load_loses_nothing() {
    let Busy { mut cluster, mut load, readers } = Busy::start(busy()).await;
    let history = load.history();
    load.during(async {
        for node in 1..=3 {
            Busy::more(&history, 200).await;
            let status = cluster.terminate(node).await;
            assert!(status.success(), "node {node}: {status}\n{}", cluster.log(node));
            Busy::more(&history, 100).await;
            cluster.restart(node).await;
        }
        // The leader by an operator's word.
        let leader = cluster.leader().await;
        let url = cluster.url(leader);
        let said = tokio::task::block_in_place(|| run(&url, &["admin", "drain"])).ok();
        assert!(said.contains(&format!("node {leader} ends")), "{said}");
        let status = cluster.ended(leader).await;
        assert!(status.success(), "{status}\n{}", cluster.log(leader));
        Busy::more(&history, 100).await;
        cluster.restart(leader).await;
        Busy::more(&history, 100).await;
    })
    .await;
    for node in 1..=3 {
        assert!(!cluster.log(node).contains("was not given away"), "{}", cluster.log(node));
    }
    Busy { cluster, load, readers }.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_end_when_all_are_told_to_and_start_again() {
    let Busy { mut cluster, mut load, readers } = Busy::start(busy()).await;
    let history = load.history();
    load.during(async {
        Busy::more(&history, 300).await;
        for node in 1..=3 {
            cluster.signal(node, rustix::process::Signal::TERM);
        }
        for node in 1..=3 {
            let status = cluster.ended(node).await;
            assert!(status.success(), "node {node}: {status}\n{}", cluster.log(node));
        }
        (1..=3).for_each(|node| cluster.spawn(node));
        cluster.all_ready().await;
        Busy::more(&history, 100).await;
    })
    .await;
    Busy { cluster, load, readers }.check().await;
}
