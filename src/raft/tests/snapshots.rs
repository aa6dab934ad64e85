//! Followers that are behind the purged log go on from a checkpoint that they are told by name.

use std::sync::atomic::Ordering;

use super::group::{Group, batches, eventually, write};
use super::*;

/// Writes and flushes at `leader` until its log is purged above what `behind` has.
async fn purge_beyond(group: &Group, leader: u64, behind: u64) -> LogIndex {
    let has = group.node(behind).status().last_log;
    let mut flushed = 0;
    while group.node(leader).status().purged.is_none_or(|purged| purged <= has) {
        for _ in 0..10 {
            write(group.at(leader), append(10_000)).await;
        }
        let files = group.flush(leader).await;
        flushed = files.reference.index;
        for node in group.running().into_iter().filter(|node| ![leader, behind].contains(node)) {
            let node = group.node(node);
            eventually("the other follower has applied it", || *node.applied().borrow() >= flushed).await;
            node.adopt_checkpoint(files.clone()).await.unwrap();
        }
    }
    flushed
}

/// A group in which one follower was away until the log before its place was purged; leader, follower, checkpoint.
async fn one_is_behind() -> (Group, u64, u64, LogIndex) {
    let group = Group::of(3).await;
    let leader = group.leader().await;
    let behind = group.other(leader);
    write(group.at(leader), create_topic()).await;
    write(group.at(leader), append(100)).await;
    group.converge(&[1, 2, 3]).await;
    group.net.isolate(behind);
    let flushed = purge_beyond(&group, leader, behind).await;
    for _ in 0..5 {
        write(group.at(leader), append(500)).await;
    }
    (group, leader, behind, flushed)
}

async fn catches_up(group: &Group, leader: u64, behind: u64, flushed: LogIndex) {
    let node = group.node(behind);
    let mut growth = node.watch_growth(&[PARTITION]).unwrap();
    group.net.heal();
    tokio::time::timeout(Duration::from_secs(60), growth.changed()).await.unwrap();
    eventually("the checkpoint is taken over", || node.status().checkpoint.is_some_and(|index| index >= flushed)).await;
    // It may have stood for election while it was alone; pre-votes keep that from mattering, but who leads is not fixed.
    let leader = if group.node(leader).leadership().borrow().is_leader { leader } else { group.leader().await };
    write(group.at(leader), append(500)).await;
    group.converge(&[1, 2, 3]).await;
    assert_eq!(batches(node), batches(group.node(leader)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_behind_the_log_gets_a_checkpoint_from_the_bucket() {
    let (mut group, leader, behind, flushed) = one_is_behind().await;
    catches_up(&group, leader, behind, flushed).await;
    assert!(group.checkpoints.fetched.load(Ordering::Relaxed) >= 1);
    assert_eq!(group.net.calls(kind::CHECKPOINT_FILES), 0);
    // And starts again from it.
    group.stop(behind).await;
    group.start(behind, Start::Wal).await;
    let leader = group.leader().await;
    write(group.at(leader), append(500)).await;
    group.converge(&[1, 2, 3]).await;
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_bucket_it_gets_the_files_from_the_leader() {
    let (group, leader, behind, flushed) = one_is_behind().await;
    group.checkpoints.away.store(true, Ordering::Relaxed);
    catches_up(&group, leader, behind, flushed).await;
    assert!(group.net.calls(kind::CHECKPOINT_FILES) >= 2, "a checkpoint and a part or ranges");
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_cannot_be_fetched_harms_nobody() {
    let (group, leader, behind, flushed) = one_is_behind().await;
    let held = std::mem::take(&mut *group.checkpoints.held.lock().unwrap());
    group.net.heal();
    let node = group.node(behind);
    let tried = group.checkpoints.fetched.load(Ordering::Relaxed);
    eventually("it tried a few times", || group.checkpoints.fetched.load(Ordering::Relaxed) > tried + 2).await;
    assert!(futures::FutureExt::now_or_never(node.fatal()).is_none(), "the node goes on");
    assert_eq!(node.status().checkpoint, None);
    *group.checkpoints.held.lock().unwrap() = held;
    catches_up(&group, leader, behind, flushed).await;
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_files_are_refused_before_they_are_installed() {
    let (group, leader, behind, flushed) = one_is_behind().await;
    let whole = group.checkpoints.held.lock().unwrap().clone();
    for files in group.checkpoints.held.lock().unwrap().values_mut() {
        for (_, part) in &mut files.parts {
            let mut bytes = part.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            *part = bytes.into();
        }
        files.ranges.clear();
    }
    group.net.heal();
    let tried = group.checkpoints.fetched.load(Ordering::Relaxed);
    eventually("it tried a few times", || group.checkpoints.fetched.load(Ordering::Relaxed) > tried + 2).await;
    let node = group.node(behind);
    assert!(futures::FutureExt::now_or_never(node.fatal()).is_none(), "the node goes on");
    assert_eq!(node.status().checkpoint, None);
    *group.checkpoints.held.lock().unwrap() = whole;
    catches_up(&group, leader, behind, flushed).await;
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_adopts_what_the_leader_flushed_and_starts_from_it() {
    let mut group = Group::of(3).await;
    let leader = group.leader().await;
    write(group.at(leader), create_topic()).await;
    for _ in 0..10 {
        write(group.at(leader), append(1_000)).await;
    }
    let files = group.flush(leader).await;
    let follower = group.other(leader);
    let node = group.node(follower);
    eventually("the follower has applied it", || *node.applied().borrow() > files.reference.index).await;
    node.adopt_checkpoint(files.clone()).await.unwrap();
    assert_eq!(node.status().checkpoint, Some(files.reference.index));
    assert_eq!(node.peer_status(NodeId(follower)).await.unwrap().checkpoint, Some(files.reference));
    eventually("the leader is told", || {
        let reports = group.node(leader).peer_reports();
        reports.get(&NodeId(follower)).is_some_and(|report| report.status.checkpoint == Some(files.reference))
    })
    .await;
    write(group.at(leader), append(1_000)).await;
    group.stop(follower).await;
    group.start(follower, Start::Wal).await;
    group.leader().await;
    group.converge(&[1, 2, 3]).await;
    group.end().await;
}

/// The pointer to an installed checkpoint is durable before the log is: a kill in between leaves a log that ends below it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_between_pointer_and_purge_leaves_a_node_that_starts() {
    let (mut group, leader, behind, flushed) = one_is_behind().await;
    let killed = copy(group.dir(behind));
    catches_up(&group, leader, behind, flushed).await;
    group.stop(behind).await;
    let (from, to) = (group.dir(behind).join("shard-00000/meta"), killed.path().join("shard-00000/meta"));
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    group.put(behind, killed);
    // A leader that was told of the entries which came after, and are gone with this directory, would rightly take it for a disk
    // that lost what was synced.
    let leader = group.leader().await;
    group.stop(leader).await;
    group.start(leader, Start::Wal).await;
    group.leader().await;
    group.start(behind, Start::Wal).await;
    assert!(*group.node(behind).applied().borrow() >= flushed);
    let leader = group.leader().await;
    write(group.at(leader), append(500)).await;
    group.converge(&[1, 2, 3]).await;
    group.end().await;
}

/// A node that was away fetches it for as long as whoever has it takes, and its leader may be gone by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_of_a_leader_that_is_gone_does_not_hold_up_that_of_the_next() {
    let mut group = Group::of(3).await;
    let first = group.leader().await;
    write(group.at(first), create_topic()).await;
    group.converge(&[1, 2, 3]).await;
    let behind = group.other(first);
    group.stop(behind).await;
    let other = group.other(first);
    for _ in 0..5 {
        write(group.at(first), append(1_000)).await;
    }
    let files = group.flush(first).await;
    group.converge(&[first, other]).await;
    group.node(other).adopt_checkpoint(files).await.unwrap();
    group.checkpoints.away.store(true, Ordering::Relaxed);
    group.net.slow(kind::CHECKPOINT_FILES, Duration::from_secs(600));
    group.start(behind, Start::Wal).await;
    eventually("it fetches the checkpoint", || group.node(behind).inner.adopting.try_lock().is_err()).await;
    group.stop(first).await;
    // Of what is called from now on; the call that is under way takes as long as before.
    group.net.heal();
    assert_eq!(group.leader_among(&[other, behind]).await, other);
    write(group.at(other), append(1_000)).await;
    group.converge(&[other, behind]).await;
    assert_eq!(batches(group.node(behind)), 6);
    group.end().await;
}
