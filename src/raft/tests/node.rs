//! A running node.

use futures::FutureExt;

use super::*;

#[tokio::test]
async fn a_proposal_is_applied_answered_and_readable() {
    let dir = tempfile::tempdir().unwrap();
    let node = run(options(dir.path(), new())).await;
    let (_, answer) = node.propose(create_topic()).await.unwrap();
    assert_eq!(answer, Answer::Topic { id: TOPIC, created: true });

    let mut growth = node.watch_growth(&[PARTITION]).unwrap();
    assert!(growth.changed().now_or_never().is_none());
    let command = append(100);
    let (index, answer) = node.propose(command.clone()).await.unwrap();
    let Answer::Appended(outcomes) = answer else { panic!("an append is answered as one") };
    assert_eq!(outcomes[0].as_ref().unwrap().log_index, index);
    growth.changed().await;

    assert_eq!(node.read_entry(index).await.unwrap(), Some(command.clone()));
    assert_eq!(node.read_entry(index + 1).await.unwrap(), None);
    let tail = node.with_state(|state| state.tail(PARTITION).unwrap()[0]);
    let at = usize::try_from(tail.position).unwrap();
    assert_eq!(&command[at..at + 100], &[7; 100]);
    node.linearize().await.unwrap();
    assert_eq!(*node.applied().borrow(), index);
    let status = node.status();
    assert!(status.is_leader && status.applied == index && status.tail_bytes > 100 && status.wal_bytes > 100);
    node.shutdown().await;
    let refused = node.propose(append(1)).await.unwrap_err();
    assert!(matches!(refused, ProposeError::Fatal(_)), "{refused}");
    assert_eq!(refused.outcome(), crate::error::Outcome::Unknown);
    assert!(node.fatal().now_or_never().is_none(), "a shutdown is no failure");
}

#[tokio::test]
async fn entries_that_left_the_tail_cache_are_read_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let node = run(RaftOptions { tail_memory: 3 << 20, ..options(dir.path(), new()) }).await;
    node.propose(create_topic()).await.unwrap();
    let mut written = Vec::new();
    for len in 0..24 {
        let command = append((1 << 20) + len);
        let (index, _) = node.propose(command.clone()).await.unwrap();
        written.push((index, command));
    }
    assert!(node.status().tail_bytes <= 3 << 20);
    for (index, command) in written {
        assert_eq!(node.read_entry(index).await.unwrap(), Some(command));
    }
    node.shutdown().await;
}

#[tokio::test]
async fn an_entry_that_cannot_be_decoded_stops_the_node_for_good() {
    for bytes in [&b"nonsense"[..], &[9, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
        let dir = tempfile::tempdir().unwrap();
        let node = run(options(dir.path(), new())).await;
        let refused = node.propose(Bytes::from_static(bytes)).await.unwrap_err();
        assert!(matches!(refused, ProposeError::Fatal(_)), "{refused}");
        let why = node.fatal().await;
        assert!(why.contains("cannot be applied"), "{why}");
        node.shutdown().await;
        // It was committed, and may be known to be: then not even the start succeeds.
        if let Ok(node) = RaftNode::start(options(dir.path(), Start::Wal)).await {
            node.fatal().await;
        }
    }
}

#[tokio::test]
async fn a_command_that_is_too_large_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let node = run(options(dir.path(), new())).await;
    let last = node.status().last_log;
    let refused = node.propose(Bytes::from(vec![1; command::MAX_COMMAND_BYTES + 1])).await.unwrap_err();
    assert_eq!(refused.outcome(), crate::error::Outcome::NotWritten);
    assert_eq!(crate::error::Error::from(refused).code(), "command_too_large");
    assert_eq!(node.status().last_log, last);
    node.shutdown().await;
}
