//! A write or a sync that fails is the end of the log: everybody is told, and nothing that was acknowledged is lost.

use openraft::storage::IOFlushed;
use openraft::type_config::TypeConfigExt;

use super::*;
use crate::raft::types::{TypeConfig, Vote};

const FILES: LogOptions = LogOptions { spare: 0, ..SMALL };

/// Appends without waiting; what the callback will say.
async fn begin_append(
    store: &mut LogStore,
    entry: LogEntry,
) -> openraft::alias::OneshotReceiverOf<TypeConfig, std::io::Result<()>> {
    let (sender, receiver) = TypeConfig::oneshot();
    let _ = store.append([entry], IOFlushed::signal(sender)).await;
    receiver
}

/// A log whose second file is `device`.
async fn failing(device: &str) -> (tempfile::TempDir, LogStore, u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open_with(dir.path(), FILES);
    let mut next = 0;
    // As many as the first file takes, or one less.
    while store.reader().wal_bytes() + 11_000 < FILES.file_size - HEADER_BYTES as u64 {
        append(&mut store, command(next, 10_000)).await;
        next += 1;
    }
    std::os::unix::fs::symlink(device, dir.path().join("0000000002.wal")).unwrap();
    (dir, store, next)
}

async fn ends(device: &str, expected: &str) {
    let (dir, mut store, mut next) = failing(device).await;
    let mut waiting = Vec::new();
    for index in next..next + 8 {
        waiting.push(begin_append(&mut store, command(index, 10_000)).await);
    }
    let told = futures::future::join_all(waiting).await;
    for (nth, told) in told.into_iter().map(Result::unwrap).enumerate() {
        match told {
            Ok(()) => {
                assert_eq!(nth, 0, "it cannot have been written");
                next += 1;
            }
            Err(error) => assert!(error.to_string().contains(expected), "{nth}: {error}"),
        }
    }
    // Whoever comes later gets the same.
    let later = begin_append(&mut store, command(next + 8, 10)).await.await.unwrap().unwrap_err();
    assert!(later.to_string().contains(expected), "{later}");
    let later = store.save_vote(&Vote::new(9, 9)).await.unwrap_err();
    assert!(later.to_string().contains(expected), "{later}");
    assert!(store.reader().core().queue.room().await.is_err());
    // What was acknowledged can be read, here and after a restart with a disk that works.
    let held: Vec<u64> = (0..next).collect();
    assert_eq!(store.reader().entries(0, next).await.unwrap().len() as u64, next);
    std::fs::remove_file(dir.path().join("0000000002.wal")).unwrap();
    drop(store);
    let mut store = open_with(dir.path(), FILES);
    assert_eq!(indices(&store).await, held);
    append(&mut store, command(next, 10_000)).await;
    drop(store);
    assert_eq!(indices(&open_with(dir.path(), FILES)).await.len() as u64, next + 1);
}

#[tokio::test]
async fn a_write_that_fails_ends_the_log_and_loses_nothing() {
    ends("/dev/full", "No space left").await;
}

#[tokio::test]
async fn a_sync_that_fails_ends_the_log_and_loses_nothing() {
    ends("/dev/null", "Invalid argument").await;
}

#[tokio::test]
async fn a_file_that_cannot_be_made_ends_the_log_and_loses_nothing() {
    ends("/nonexistent/directory/file", "No such file").await;
}

#[tokio::test]
async fn a_spare_that_cannot_be_made_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open_with(dir.path(), SMALL);
    let third = dir.path().join("0000000003.wal");
    let mut next = 0;
    while newest_or_none(dir.path()) < 2 {
        std::os::unix::fs::symlink("/dev/full", &third)
            .or_else(|error| third.is_symlink().then_some(()).ok_or(error))
            .unwrap();
        append(&mut store, command(next, 5_000)).await;
        next += 1;
    }
    until("the failure", || !third.is_symlink()).await;
    assert_eq!(store.reader().spare_bytes(), 0);
    while newest_or_none(dir.path()) < 4 {
        append(&mut store, command(next, 5_000)).await;
        next += 1;
    }
    drop(store);
    assert_eq!(indices(&open_with(dir.path(), SMALL)).await.len() as u64, next);
}

fn newest_or_none(dir: &Path) -> u64 {
    begun(dir).last().map_or(0, |(_, header)| header.sequence)
}

/// Appends wait rather than to queue without bound.
#[tokio::test]
async fn what_is_queued_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut waiting = Vec::new();
    let mut most = 0;
    for index in 0..64 {
        waiting.push(begin_append(&mut store, command(index, 4 << 20)).await);
        most = most.max(store.reader().core().queue.queued_bytes());
    }
    assert!(most <= (64 << 20) + (5 << 20), "{most} bytes were queued");
    for told in futures::future::join_all(waiting).await {
        told.unwrap().unwrap();
    }
    until("the write", || store.reader().core().queue.queued_bytes() == 0).await;
}

#[tokio::test]
async fn closing_writes_what_is_pending() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open_with(dir.path(), SMALL);
    let told = begin_append(&mut store, command(0, 5_000)).await;
    store.save_committed(Some(log_id(1, 0))).await.unwrap();
    store.reader().close();
    told.await.unwrap().unwrap();
    let mut store = open_with(dir.path(), SMALL);
    assert_eq!(indices(&store).await, [0]);
    assert_eq!(store.read_committed().await.unwrap(), Some(log_id(1, 0)));
}
