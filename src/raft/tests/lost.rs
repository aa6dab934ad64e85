//! Followers whose disk was restored from an older copy.

use super::group::{Group, batches, directory, eventually, write};
use super::*;
use crate::error::ErrorKind;

/// A group that wrote `more` entries after a follower's directory was copied; leader, follower, copy.
async fn one_has_an_older_copy(more: usize) -> (Group, u64, u64, TempDir) {
    let mut group = Group::of(3).await;
    let leader = group.leader().await;
    let follower = group.other(leader);
    write(group.at(leader), create_topic()).await;
    write(group.at(leader), append(100)).await;
    group.converge(&[1, 2, 3]).await;
    group.stop(follower).await;
    let older = copy(group.dir(follower));
    group.start(follower, Start::Wal).await;
    for _ in 0..more {
        write(group.at(leader), append(100)).await;
    }
    group.converge(&[1, 2, 3]).await;
    group.stop(follower).await;
    (group, leader, follower, older)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_lost_what_it_acknowledged_ends_and_does_not_start_again() {
    let (mut group, leader, follower, older) = one_has_an_older_copy(20).await;
    let term = group.node(leader).status().term;
    group.put(follower, older);
    group.start(follower, Start::Wal).await;
    let node = group.node(follower).clone();
    let why = tokio::time::timeout(Duration::from_secs(60), node.fatal()).await.unwrap();
    assert!(why.contains("restored from an older copy") && why.contains("replace-node"), "{why}");
    // The others go on as they were.
    for _ in 0..20 {
        write(group.at(leader), append(100)).await;
    }
    let status = group.node(leader).status();
    assert!(status.is_leader && status.term == term, "{status:?}");
    let others: Vec<u64> = group.running().into_iter().filter(|node| *node != follower).collect();
    group.converge(&others).await;
    assert_eq!(batches(group.node(leader)), 41);
    group.stop(follower).await;
    let refused = RaftNode::start(RaftOptions {
        node: NodeId(follower),
        directory: directory(follower),
        ..options(group.dir(follower), Start::Wal)
    })
    .await
    .map(drop)
    .unwrap_err();
    assert_eq!((refused.kind(), refused.code()), (ErrorKind::Conflict, "node_identity_mismatch"));
    assert!(refused.message().contains("restored from an older copy"), "{refused}");
    group.end().await;
}

/// Waits until `node` was told by the leader that `follower` holds all that there is.
async fn is_known(group: &Group, node: u64, follower: u64) {
    let last = group.node(node).status().last_log;
    let before_the_last = last.checked_sub(1);
    let known = || group.node(node).inner.shared.acknowledged.lost(follower, directory(follower), before_the_last);
    eventually("what the follower holds is known", || known().is_some_and(|held| held.index == last)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_that_comes_back_after_the_leader_changed_is_noticed() {
    let (mut group, leader, follower, older) = one_has_an_older_copy(20).await;
    let next = group.other(leader);
    is_known(&group, next, follower).await;
    group.node(leader).transfer_leader(NodeId(next)).await.unwrap();
    assert_eq!(group.leader().await, next);
    group.put(follower, older);
    group.start(follower, Start::Wal).await;
    let node = group.node(follower).clone();
    let why = tokio::time::timeout(Duration::from_secs(60), node.fatal()).await.unwrap();
    assert!(why.contains("restored from an older copy"), "{why}");
    write(group.at(next), append(100)).await;
    group.converge(&[leader, next]).await;
    group.end().await;
}

/// It grants its vote to whoever has as much as it has, and these two are a majority.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_vote_of_an_older_copy_makes_no_leader() {
    let (mut group, leader, follower, older) = one_has_an_older_copy(20).await;
    let other = group.other(leader);
    is_known(&group, other, follower).await;
    group.stop(leader).await;
    group.put(follower, older);
    group.start(follower, Start::Wal).await;
    let asked = group.net.calls(kind::PRE_VOTE);
    eventually("both have stood several times", || {
        assert!(!group.node(other).status().is_leader, "it was elected by a vote that does not count");
        group.net.calls(kind::PRE_VOTE) > asked + 12
    })
    .await;
    group.start(leader, Start::Wal).await;
    let next = group.leader_among(&[leader, other]).await;
    write(group.at(next), append(100)).await;
    group.converge(&[leader, other]).await;
    assert_eq!(batches(group.node(other)), 22);
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nodes_hold_is_believed_of_the_leader_only() {
    let group = Group::of(3).await;
    let leader = group.leader().await;
    write(group.at(leader), create_topic()).await;
    group.converge(&[1, 2, 3]).await;
    let (told, other) = (group.other(leader), 6 - leader - group.other(leader));
    let all = [1, 2, 3].map(|node| wire::Held {
        node: NodeId(node),
        directory: directory(node),
        last: types::log_id(1, 1 << 30),
    });
    let known = || group.node(told).inner.shared.acknowledged.lost(leader, directory(leader), Some((1 << 30) - 1));
    let tell = async |by: u64, held: &[wire::Held]| {
        let body = wire::encode_held(held).unwrap();
        group.node(told).handle(NodeId(by), directory(by), kind::STATUS, body).await.unwrap();
    };
    tell(other, &all).await;
    assert!(known().is_none());
    // Of nodes that are members with these directories; what the node itself holds it knows better.
    let foreign: Vec<_> = all.iter().map(|held| wire::Held { directory: Uuid::from_u128(9), ..*held }).collect();
    tell(leader, &foreign).await;
    assert!(known().is_none());
    let others: Vec<_> = all.iter().filter(|held| held.node != NodeId(told)).copied().collect();
    tell(leader, &others).await;
    assert!(known().is_some());
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_has_all_that_was_acknowledged_goes_on() {
    let (mut group, leader, follower, _older) = one_has_an_older_copy(20).await;
    let newest = copy(group.dir(follower));
    group.put(follower, newest);
    group.start(follower, Start::Wal).await;
    write(group.at(leader), append(100)).await;
    group.converge(&[1, 2, 3]).await;
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_has_lost_nothing_is_not_ended_by_being_told_so() {
    let group = Group::of(3).await;
    let leader = group.leader().await;
    let follower = group.other(leader);
    write(group.at(leader), create_topic()).await;
    group.converge(&[1, 2, 3]).await;
    let term = group.node(leader).status().term;
    let last = group.node(follower).status().last_log;
    let tell = async |by: u64, term: u64, acknowledged: u64| {
        let told = wire::Lost { vote: types::Vote::new_committed(term, leader), acknowledged };
        let body = wire::encode_lost(&told).unwrap();
        let told = group.node(follower).handle(NodeId(by), directory(by), kind::LOST, body).await;
        told.unwrap_err().code()
    };
    assert_eq!(tell(leader, term, last).await, "peer_message");
    // An earlier leader, and one that speaks for another.
    assert_eq!(tell(leader, term - 1, last + 100).await, "peer_message");
    assert_eq!(tell(group.other(leader), term, last + 100).await, "peer_message");
    write(group.at(leader), append(100)).await;
    eventually("the entry", || batches(group.node(follower)) == 1).await;
    group.end().await;
}
