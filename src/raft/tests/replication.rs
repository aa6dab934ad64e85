//! Three nodes: what one acknowledged all have, whoever is away.

use super::group::{Group, batches, eventually, write};
use super::*;
use crate::error::Outcome;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_apply_the_same() {
    let group = Group::of(3).await;
    let leader = group.leader().await;
    write(group.at(leader), create_topic()).await;
    for len in 1..=40 {
        write(group.at(leader), append(len * 1_000)).await;
    }
    group.converge(&[1, 2, 3]).await;
    for node in 1..=3 {
        assert_eq!(batches(group.node(node)), 40);
        assert_eq!(group.node(node).members().iter().filter(|member| member.voter).count(), 3);
        let index = *group.node(node).applied().borrow();
        assert_eq!(group.node(node).read_entry(index).await.unwrap().unwrap().len(), append(40_000).len());
    }
    let matched = group.node(leader).members();
    eventually("the leader knows how far the others are", || {
        group.node(leader).members().iter().all(|member| member.matched.is_some_and(|matched| matched >= 41))
    })
    .await;
    assert!(matched.iter().all(|member| member.directory == super::group::directory(member.node.0)));
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_dies_and_nothing_is_lost() {
    let mut group = Group::of(3).await;
    let first = group.leader().await;
    write(group.at(first), create_topic()).await;
    for _ in 0..20 {
        write(group.at(first), append(100)).await;
    }
    let term = group.node(first).leadership().borrow().term;
    group.stop(first).await;
    let second = group.leader().await;
    assert_ne!(first, second);
    assert!(group.node(second).leadership().borrow().term > term);
    assert_eq!(batches(group.node(second)), 20, "who leads has applied what was acknowledged");
    for _ in 0..20 {
        write(group.at(second), append(100)).await;
    }
    group.start(first, Start::Wal).await;
    group.leader().await;
    write(group.at(second), append(100)).await;
    group.converge(&[1, 2, 3]).await;
    assert_eq!(batches(group.node(first)), 41);
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_are_ended_at_once_and_come_back() {
    let mut group = Group::of(3).await;
    let leader = group.leader().await;
    write(group.at(leader), create_topic()).await;
    for _ in 0..10 {
        write(group.at(leader), append(100)).await;
    }
    for node in 1..=3 {
        group.stop(node).await;
    }
    for node in 1..=3 {
        group.start(node, Start::Wal).await;
    }
    let leader = group.leader().await;
    assert_eq!(batches(group.node(leader)), 10);
    write(group.at(leader), append(100)).await;
    group.converge(&[1, 2, 3]).await;
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_leader_that_was_cut_off_took_has_no_known_outcome() {
    let group = Group::of(3).await;
    let first = group.leader().await;
    write(group.at(first), create_topic()).await;
    group.converge(&[1, 2, 3]).await;
    group.net.isolate(first);
    // Its lease holds a while longer: it takes the entry and cannot commit it.
    let cut_off = group.at(first).clone();
    let proposing = tokio::spawn(async move { cut_off.propose(append(77)).await });
    let others: Vec<u64> = (1..=3).filter(|node| *node != first).collect();
    let second = group.leader_among(&others).await;
    for _ in 0..5 {
        write(group.at(second), append(100)).await;
    }
    assert_eq!(batches(group.node(first)), 0);
    group.net.heal();
    let refused = proposing.await.unwrap().unwrap_err();
    assert!(matches!(refused, ProposeError::Unknown), "{refused}");
    assert_eq!(refused.outcome(), Outcome::Unknown);
    group.leader().await;
    group.converge(&[1, 2, 3]).await;
    assert_eq!(batches(group.node(first)), 5, "its entry was discarded");
    // And a leader without its lease takes nothing.
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_a_majority_takes_nothing_and_reads_nothing() {
    let mut group = Group::of(3).await;
    let leader = group.leader().await;
    write(group.at(leader), create_topic()).await;
    for node in (1..=3).filter(|node| *node != leader) {
        group.stop(node).await;
    }
    // Until its lease is over it takes entries whose outcome nobody learns.
    eventually("its lease is over", || group.node(leader).is_forsaken()).await;
    let refused = group.at(leader).propose(append(1)).await.unwrap_err();
    assert!(matches!(refused, ProposeError::NotWritten { leader: None }), "{refused:?}");
    let refused = group.node(leader).linearize().await.unwrap_err();
    assert_eq!((refused.code(), refused.outcome()), ("unavailable", Outcome::NotWritten));
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_on_every_node_show_what_was_acknowledged_before() {
    let group = Group::of(3).await;
    let leader = group.leader().await;
    write(group.at(leader), create_topic()).await;
    group.net.delay(Duration::from_millis(2));
    for written in 1..=30 {
        write(group.at(leader), append(10)).await;
        let reader = group.node(1 + written % 3);
        reader.linearize().await.unwrap();
        assert!(batches(reader) >= written, "a read on node {:?} missed record {written}", reader.id());
    }
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_at_the_same_time_share_a_question() {
    let group = Group::of(3).await;
    let leader = group.leader().await;
    let follower = group.node(group.other(leader));
    follower.linearize().await.unwrap();
    group.net.delay(Duration::from_millis(10));
    let before = group.net.calls(kind::READ_INDEX);
    let reads = (0..200).map(|_| follower.linearize());
    for read in futures::future::join_all(reads).await {
        read.unwrap();
    }
    let asked = group.net.calls(kind::READ_INDEX) - before;
    assert!(asked <= 6, "200 reads asked {asked} times");
    group.end().await;
}

/// On a slow machine it only takes longer: 64 MiB at 32 MiB a second, less 16 MiB that may be sent at once and what is sent before
/// it is seen that others write. Without the pace it takes a tenth of a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_was_away_is_not_sent_all_at_once_while_others_write() {
    const ENTRY: usize = 3 << 20;
    let mut group = Group::of(3).await;
    let leader = group.leader().await;
    write(group.at(leader), create_topic()).await;
    group.converge(&[1, 2, 3]).await;
    let away = group.other(leader);
    group.stop(away).await;
    for _ in 0..32 {
        write(group.at(leader), append(ENTRY)).await;
    }
    // Where 32 MiB are left it is near.
    let near = group.node(leader).status().last_log - (32 << 20) / ENTRY as u64 - 1;
    let (writer, running) = (group.at(leader).clone(), tokio_util::sync::CancellationToken::new());
    let writing = tokio::spawn({
        let running = running.clone();
        async move {
            while !running.is_cancelled() {
                writer.propose(append(256 << 10)).await.ok();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    let begun = std::time::Instant::now();
    group.start(away, Start::Wal).await;
    eventually("it is near", || group.node(away).status().last_log >= near).await;
    let took = begun.elapsed();
    running.cancel();
    writing.await.unwrap();
    assert!(took >= Duration::from_millis(500), "it was sent all of it within {took:?}");
    group.converge(&[1, 2, 3]).await;
    group.end().await;
}
