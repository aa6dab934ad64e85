//! With what a WAL begins, and what a crash on the way leaves.

use openraft::storage::RaftLogStorage;

use super::*;
use crate::raft::types::Vote;
use crate::raft::wal::{LogOptions, LogStore};

/// A checkpoint of term 7, made by another group.
async fn checkpoint_of_term_7() -> (StartCheckpoint, crate::state::State) {
    let dir = tempfile::tempdir().unwrap();
    let node = run(options(dir.path(), Start::New)).await;
    node.propose(create_topic()).await.unwrap();
    for _ in 0..10 {
        node.propose(append(100)).await.unwrap();
    }
    let (flushed, files) = flush(&node, 7);
    node.propose(control(flushed)).await.unwrap();
    let state = node.view();
    node.shutdown().await;
    (StartCheckpoint { term: 7, files }, state)
}

fn as_node_4(dir: &Path, start: Start) -> RaftOptions {
    RaftOptions { node: NodeId(4), incarnation: Incarnation(2), directory: Uuid::from_u128(4), ..options(dir, start) }
}

fn presence(dir: &Path) -> WalPresence {
    RaftNode::presence(dir, Uuid::from_u128(4), SHARD).unwrap()
}

#[tokio::test]
async fn a_checkpoint_of_an_old_group_starts_a_new_one() {
    let (checkpoint, flushed) = checkpoint_of_term_7().await;
    let index = checkpoint.files.reference.index;
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(presence(dir.path()), WalPresence::Empty);
    let node = run(as_node_4(dir.path(), Start::Checkpoint(Box::new(checkpoint)))).await;
    let status = node.status();
    assert!(status.is_leader && status.leader == Some(NodeId(4)) && status.term > 7);
    assert_eq!(status.checkpoint, Some(index));
    let partition = |state: &crate::state::State| state.partition(PARTITION).unwrap().bounds();
    assert_eq!(node.with_state(partition), partition(&flushed));
    let (at, answer) = node.propose(append(100)).await.unwrap();
    assert!(at > index && matches!(answer, Answer::Appended(_)));
    flush_and_adopt(&node).await;
    node.propose(append(100)).await.unwrap();
    let before = node.view();
    node.shutdown().await;

    assert_eq!(presence(dir.path()), WalPresence::Present);
    let node = run(as_node_4(dir.path(), Start::Wal)).await;
    let mut expected = before;
    expected.skip(node.with_state(|state| state.applied()));
    assert_eq!(node.with_state(|state| state.hash()), expected.hash());
    node.shutdown().await;
}

#[tokio::test]
async fn a_start_that_crashed_after_its_vote_is_made_again() {
    let (checkpoint, _) = checkpoint_of_term_7().await;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("shard-00000/log");
    std::fs::create_dir_all(&log).unwrap();
    let (mut store, _) = LogStore::open(
        &log,
        LogOptions { directory: Uuid::from_u128(4), tail_memory: 0, file_size: 16 << 20, spare: 0 },
    )
    .unwrap();
    store.save_vote(&Vote::new(8, 4)).await.unwrap();
    drop(store);
    assert_eq!(presence(dir.path()), WalPresence::Empty);
    // With this checkpoint, and with one of a lower term.
    let older = StartCheckpoint { term: 3, ..checkpoint.clone() };
    for checkpoint in [checkpoint, older] {
        let copied = copy(dir.path());
        let node = run(as_node_4(copied.path(), Start::Checkpoint(Box::new(checkpoint)))).await;
        assert!(node.status().term >= 8);
        node.propose(append(100)).await.unwrap();
        node.shutdown().await;
    }
}

#[tokio::test]
async fn a_start_that_crashed_before_its_pointer_is_made_again() {
    let (checkpoint, _) = checkpoint_of_term_7().await;
    let dir = tempfile::tempdir().unwrap();
    let start = Start::Checkpoint(Box::new(checkpoint));
    let node = run(as_node_4(dir.path(), start.clone())).await;
    node.shutdown().await;
    // All files but the pointer, and no log.
    std::fs::remove_file(dir.path().join("shard-00000/meta/pointer")).unwrap();
    std::fs::remove_dir_all(dir.path().join("shard-00000/log")).unwrap();
    assert_eq!(presence(dir.path()), WalPresence::Empty);
    let node = run(as_node_4(dir.path(), start)).await;
    node.propose(append(100)).await.unwrap();
    node.shutdown().await;
}

#[tokio::test]
async fn a_start_that_crashed_after_its_pointer_goes_on_from_the_wal() {
    let (checkpoint, _) = checkpoint_of_term_7().await;
    let dir = tempfile::tempdir().unwrap();
    let node = run(as_node_4(dir.path(), Start::Checkpoint(Box::new(checkpoint.clone())))).await;
    node.shutdown().await;
    // The pointer is there, nothing of the log is: not even the vote, which is more than a crash can take.
    std::fs::remove_dir_all(dir.path().join("shard-00000/log")).unwrap();
    assert_eq!(presence(dir.path()), WalPresence::Present);
    let refused = RaftNode::start(as_node_4(dir.path(), Start::Checkpoint(Box::new(checkpoint)))).await;
    assert_eq!(refused.err().unwrap().code(), "internal");
    let node = run(as_node_4(dir.path(), Start::Wal)).await;
    assert!(node.status().term > 7);
    node.propose(append(100)).await.unwrap();
    node.shutdown().await;
}

#[tokio::test]
async fn a_directory_is_started_as_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    assert!(RaftNode::start(as_node_4(dir.path(), Start::Wal)).await.is_err());
    let node = run(as_node_4(dir.path(), Start::New)).await;
    node.shutdown().await;
    assert!(RaftNode::start(as_node_4(dir.path(), Start::New)).await.is_err());
    run(as_node_4(dir.path(), Start::Wal)).await.shutdown().await;
}
