//! Nodes of two neighbouring builds in one group. A node of the newer one is one that says that it knows the next version.

use super::group::{Group, batches, eventually, write};
use super::*;
use crate::state::STATE_VERSION;

const NEXT: u32 = STATE_VERSION + 1;

fn version(node: &RaftNode) -> u32 {
    node.with_state(|state| state.version())
}

/// Once the leader has heard what each member knows.
async fn has_heard(group: &Group, leader: u64, newer: &[u64]) {
    eventually("the members say what they know", || {
        let reports = group.node(leader).peer_reports();
        newer
            .iter()
            .filter(|node| **node != leader)
            .all(|node| reports.get(&NodeId(*node)).is_some_and(|report| report.status.newest == NEXT))
            && reports.len() == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_goes_over_to_a_version_once_all_members_know_it() {
    let group = Group::of(3).await;
    let leader = group.leader().await;
    write(group.at(leader), create_topic()).await;
    let follower = group.other(leader);
    let two = [leader, follower];
    for node in two {
        group.node(node).inner.shared.pretend(NEXT);
    }
    has_heard(&group, leader, &two).await;
    assert_eq!(group.at(leader).raise_version().await.unwrap(), None);
    // The last one was started with the newer build too.
    for node in 1..=3 {
        group.node(node).inner.shared.pretend(NEXT);
    }
    has_heard(&group, leader, &[1, 2, 3]).await;
    assert_eq!(group.at(leader).raise_version().await.unwrap(), Some(NEXT));
    assert_eq!(group.at(leader).raise_version().await.unwrap(), None, "once");
    write(group.at(leader), append(10)).await;
    group.converge(&[1, 2, 3]).await;
    assert!((1..=3).all(|node| version(group.node(node)) == NEXT));
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_know_a_version_stops_before_it_and_the_others_go_on() {
    let mut group = Group::of(3).await;
    let leader = group.leader().await;
    write(group.at(leader), create_topic()).await;
    group.converge(&[1, 2, 3]).await;
    let older = group.other(leader);
    let newer: Vec<u64> = (1..=3).filter(|node| *node != older).collect();
    for node in &newer {
        group.node(*node).inner.shared.pretend(NEXT);
    }
    // As if an operator had gone on without it.
    let raised = write(group.at(leader), control(Control::RaiseVersion { version: NEXT })).await;
    write(group.at(leader), append(10)).await;
    let node = group.node(older).clone();
    let why = tokio::time::timeout(Duration::from_secs(60), node.fatal()).await.unwrap();
    assert!(why.contains(&format!("version {NEXT}")) && why.contains("a newer one"), "{why}");
    assert_eq!((version(&node), batches(&node)), (STATE_VERSION, 0));
    assert!(*node.applied().borrow() < raised);
    for node in &newer {
        eventually("the newer nodes go on", || batches(group.node(*node)) == 1).await;
        assert_eq!(version(group.node(*node)), NEXT);
    }
    // Started again it says the same at once, and has applied nothing of it.
    group.stop(older).await;
    let again = RaftNode::start(RaftOptions {
        node: NodeId(older),
        directory: group::directory(older),
        ..options(group.dir(older), Start::Wal)
    })
    .await;
    // What is known to be committed is replayed at the start; the rest only once a leader says so.
    if let Err(refused) = again {
        assert!(format!("{refused:?}").contains(&format!("version {NEXT}")), "{refused:?}");
    }
    group.end().await;
}
