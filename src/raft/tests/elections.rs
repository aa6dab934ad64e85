//! Who is elected, and when: what neither a leader that hears nobody nor a candidate that cannot win may hold up.

use super::group::{Group, batches, eventually, write};
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hears_nobody_falls_silent_and_the_others_elect() {
    let group = Group::of(3).await;
    let first = group.leader().await;
    write(group.at(first), create_topic()).await;
    group.converge(&[1, 2, 3]).await;
    group.net.deafen(first);
    // It has an entry to send as well as heartbeats, and all of them arrive.
    let heard = group.at(first).clone();
    let proposing = tokio::spawn(async move { heard.propose(append(77)).await });
    let others: Vec<u64> = (1..=3).filter(|node| *node != first).collect();
    let second = group.leader_among(&others).await;
    assert_ne!(first, second);
    for _ in 0..5 {
        write(group.at(second), append(100)).await;
    }
    group.net.heal();
    proposing.await.unwrap().ok();
    group.leader().await;
    group.converge(&[1, 2, 3]).await;
    assert!(batches(group.node(first)) >= 5);
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_majority_that_was_away_is_led_again_once_it_is_back() {
    let mut group = Group::of(3).await;
    let leader = group.leader().await;
    write(group.at(leader), create_topic()).await;
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    for node in &others {
        group.stop(*node).await;
    }
    eventually("its lease is over", || group.node(leader).is_forsaken()).await;
    group.start(others[0], Start::Wal).await;
    let next = group.leader().await;
    write(group.at(next), append(100)).await;
    group.start(others[1], Start::Wal).await;
    group.converge(&[1, 2, 3]).await;
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_refuses_a_candidate_for_its_shorter_log_stands_itself() {
    let mut group = Group::of(3).await;
    let leader = group.leader().await;
    write(group.at(leader), create_topic()).await;
    group.converge(&[1, 2, 3]).await;
    let (behind, whole) = (group.other(leader), (1..=3).find(|node| *node != leader && *node != group.other(leader)));
    let whole = whole.unwrap();
    group.net.cut(leader, behind);
    for _ in 0..5 {
        write(group.at(leader), append(100)).await;
    }
    group.converge(&[leader, whole]).await;
    // It never stands for its own timeout's sake.
    group.node(whole).inner.raft.runtime_config().elect(false);
    group.stop(leader).await;
    assert_eq!(group.leader().await, whole);
    group.net.heal();
    group.converge(&[behind, whole]).await;
    assert_eq!(batches(group.node(behind)), 5);
    group.end().await;
}

/// A voter answers once its vote is synced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vote_that_waits_for_a_slow_sync_counts() {
    let mut group = Group::of(3).await;
    let leader = group.leader().await;
    group.net.slow(kind::VOTE, options(Path::new(""), Start::Wal).election_timeout / 3);
    group.stop(leader).await;
    let next = group.leader().await;
    group.net.heal();
    write(group.at(next), create_topic()).await;
    group.end().await;
}
