//! Kills, restarts, flushes and purges: the state is the same afterwards.

use super::*;
use crate::error::ErrorKind;

async fn restart(dir: &Path) -> RaftNode {
    run(options(dir, Start::Wal)).await
}

#[tokio::test]
async fn a_copy_of_the_directory_is_the_same_state() {
    let dir = tempfile::tempdir().unwrap();
    let node = run(options(dir.path(), new())).await;
    node.propose(create_topic()).await.unwrap();
    for len in 1..20 {
        node.propose(append(len * 100)).await.unwrap();
        if len % 5 != 0 {
            continue;
        }
        let copied = copy(dir.path());
        let other = restart(copied.path()).await;
        // The other one has a blank entry of its own term above.
        assert_eq!(tail(&other), tail(&node));
        assert!(other.with_state(|state| state.applied()) > node.with_state(|state| state.applied()));
        other.shutdown().await;
    }
    node.shutdown().await;
}

fn tail(node: &RaftNode) -> Vec<crate::model::TailRef> {
    node.with_state(|state| state.tail(PARTITION).unwrap().iter().copied().collect())
}

#[tokio::test]
async fn flushes_purges_and_restarts_keep_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = run(options(dir.path(), new())).await;
    node.propose(create_topic()).await.unwrap();
    let mut flushed = 0;
    for round in 0..6 {
        for len in 0..12 {
            node.propose(append((1 << 20) + len)).await.unwrap();
        }
        flushed = flush_and_adopt(&node).await;
        node.propose(append(10)).await.unwrap();
        let before = node.view();
        // A kill, and a shutdown.
        let killed = copy(dir.path());
        let other = restart(killed.path()).await;
        check_same(&before, &other);
        other.shutdown().await;
        if round % 2 == 0 {
            node.shutdown().await;
            node = restart(dir.path()).await;
            check_same(&before, &node);
        }
    }
    let status = node.status();
    assert_eq!(status.checkpoint, Some(flushed));
    assert!(status.purged <= Some(flushed));
    assert!(status.wal_bytes < 64 << 20, "72 MiB were written, {} stay", status.wal_bytes);
    let kept = std::fs::read_dir(dir.path().join("shard-00000/meta")).unwrap().count();
    assert!(kept < 12, "{kept} files stay: one checkpoint, its parts and ranges, the pointer");
    node.shutdown().await;
}

/// The restarted state is what the old one was, but for the blank entry of the new term.
fn check_same(before: &crate::state::State, node: &RaftNode) {
    let mut expected = before.clone();
    let now = node.view();
    expected.skip(now.applied());
    assert_eq!(expected.hash(), now.hash());
}

#[tokio::test]
async fn a_sole_voter_does_not_wait_for_an_election_timeout() {
    let dir = tempfile::tempdir().unwrap();
    let patient = |start| RaftOptions { election_timeout: Duration::from_secs(86_400), ..options(dir.path(), start) };
    run(patient(new())).await.shutdown().await;
    run(patient(Start::Wal)).await.shutdown().await;
}

#[tokio::test]
async fn a_log_larger_than_any_buffer_is_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let node = run(options(dir.path(), new())).await;
    node.propose(create_topic()).await.unwrap();
    for _ in 0..24 {
        node.propose(append(3 << 20)).await.unwrap();
    }
    let before = node.view();
    assert!(node.wal_bytes() > 64 << 20);
    node.shutdown().await;
    let node = restart(dir.path()).await;
    check_same(&before, &node);
    assert!(node.status().tail_bytes <= 1 << 20);
    node.shutdown().await;
}

#[tokio::test]
async fn a_purge_leaves_what_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let node = run(RaftOptions { wal_keep: 40 << 20, ..options(dir.path(), new()) }).await;
    node.propose(create_topic()).await.unwrap();
    let mut last = 0;
    for _ in 0..70 {
        last = node.propose(append(1 << 20)).await.unwrap().0;
    }
    flush_and_adopt(&node).await;
    // openraft purges in its own time.
    while node.status().purged.is_none() {
        tokio::task::yield_now().await;
    }
    assert!(node.wal_bytes() >= 40 << 20);
    assert!(node.read_entry(last - 35).await.unwrap().is_some());
    assert!(node.read_entry(10).await.unwrap().is_none());
    node.shutdown().await;
}

#[tokio::test]
async fn a_flush_that_was_applied_but_not_adopted_is_made_good_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let node = run(options(dir.path(), new())).await;
    node.propose(create_topic()).await.unwrap();
    node.propose(append(100)).await.unwrap();
    flush_and_adopt(&node).await;
    node.propose(append(100)).await.unwrap();
    let (flushed, files) = flush(&node, node.status().term);
    node.stage_checkpoint(&files).await.unwrap();
    node.propose(control(flushed)).await.unwrap();
    // The process ends here.
    let killed = copy(dir.path());
    node.shutdown().await;
    let node = restart(killed.path()).await;
    node.propose(append(100)).await.unwrap();
    let index = flush_and_adopt(&node).await;
    assert_eq!(node.status().checkpoint, Some(index));
    let before = node.view();
    node.shutdown().await;
    check_same(&before, &restart(killed.path()).await);
}

#[tokio::test]
async fn a_checkpoint_with_a_missing_file_is_not_adopted() {
    let dir = tempfile::tempdir().unwrap();
    let node = run(options(dir.path(), new())).await;
    node.propose(create_topic()).await.unwrap();
    node.propose(append(100)).await.unwrap();
    let (flushed, files) = flush(&node, 1);
    node.propose(control(flushed)).await.unwrap();
    let refused = node.adopt_checkpoint(CheckpointFiles { ranges: Vec::new(), ..files.clone() }).await.unwrap_err();
    assert_eq!((refused.kind(), refused.code()), (ErrorKind::Conflict, "missing_files"));
    assert_eq!(node.status().checkpoint, None);
    node.adopt_checkpoint(files.clone()).await.unwrap();
    // Again changes nothing.
    node.adopt_checkpoint(files.clone()).await.unwrap();
    assert_eq!(node.status().checkpoint, Some(files.reference.index));
    node.shutdown().await;
}

#[tokio::test]
async fn without_its_pointer_a_purged_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = run(options(dir.path(), new())).await;
    node.propose(create_topic()).await.unwrap();
    node.propose(append(100)).await.unwrap();
    flush_and_adopt(&node).await;
    while node.status().purged.is_none() {
        tokio::task::yield_now().await;
    }
    node.shutdown().await;
    let pointer = dir.path().join("shard-00000/meta/pointer");
    let whole = std::fs::read(&pointer).unwrap();
    std::fs::remove_file(&pointer).unwrap();
    let refused = RaftNode::start(options(dir.path(), Start::Wal)).await.err().unwrap();
    assert_eq!(refused.code(), "corrupt");
    assert!(refused.message().contains("pointer"), "{refused}");
    // It is refused as often as it is tried, and a whole pointer is enough again.
    std::fs::write(&pointer, &whole).unwrap();
    restart(dir.path()).await.shutdown().await;
}
