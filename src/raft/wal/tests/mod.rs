//! The log store under openraft's suite, and under crashes and damage.
#![allow(clippy::unwrap_used)]

mod damage;
mod layout;
mod suite;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::FutureExt;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::{Entry, EntryPayload};
use uuid::Uuid;

use super::*;
use crate::raft::types::{EncodedCommand, LogEntry, log_id};

const DIRECTORY: Uuid = Uuid::from_u128(0x7469_6465);
/// Without a tail cache every read goes to the log.
const OPTIONS: LogOptions = LogOptions { directory: DIRECTORY, tail_memory: 0, file_size: 16 << 20 };

pub(super) fn command(index: u64, len: usize) -> LogEntry {
    let byte = u8::try_from(index % 251).unwrap();
    Entry { log_id: log_id(1, index), payload: EntryPayload::Normal(EncodedCommand(Bytes::from(vec![byte; len]))) }
}

pub(super) fn open(dir: &Path) -> LogStore {
    LogStore::open(dir, OPTIONS).unwrap().0
}

/// Appends one entry, waits for its sync and says that it is committed, as openraft does.
pub(super) async fn append(store: &mut LogStore, entry: LogEntry) {
    let id = entry.log_id;
    store.blocking_append([entry]).await.unwrap();
    store.save_committed(Some(id)).await.unwrap();
}

/// A copy of the files as a crash would find them.
pub(super) fn copy(dir: &Path) -> tempfile::TempDir {
    let copied = tempfile::tempdir().unwrap();
    for path in chunks(dir) {
        std::fs::copy(&path, copied.path().join(path.file_name().unwrap())).unwrap();
    }
    copied
}

/// The chunk files, oldest first.
pub(super) fn chunks(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
    paths.sort();
    paths
}

/// openraft replicates entries, and applies what others have on disk, before this node's own sync.
#[tokio::test]
async fn entries_are_read_before_they_are_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = LogStore::open(dir.path(), LogOptions { file_size: 256 << 10, ..OPTIONS }).unwrap();
    let mut end = 0;
    for _ in 0..8 {
        // Megabytes in many files, handed over and not waited for.
        for index in end..end + 60 {
            let _ = store.blocking_append([command(index, 200_000)]).now_or_never();
        }
        end += 60;
        for index in end - 20..end {
            let read = store.reader().entries(index, index + 1).await.unwrap();
            assert_eq!(read, [command(index, 200_000)]);
        }
    }
}
