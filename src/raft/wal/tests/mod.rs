//! The log store under openraft's suite, and under crashes and damage.
#![allow(clippy::unwrap_used)]

mod damage;
mod failure;
mod layout;
mod recycle;
mod stretch;
mod suite;
mod torn;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::FutureExt;
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};
use openraft::{Entry, EntryPayload};
use uuid::Uuid;

use crate::raft::tests::COPIES;

use super::header::{Beginning, FileHeader, HEADER_BYTES};
use super::places::Place;
use super::*;
use crate::error::Error;
use crate::raft::types::{EncodedCommand, LogEntry, log_id};

const DIRECTORY: Uuid = Uuid::from_u128(0x7469_6465);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// Without a tail cache every read goes to the log.
const OPTIONS: LogOptions = LogOptions { directory: DIRECTORY, tail_memory: 0, file_size: 16 * MIB, spare: 0 };
/// Files that are soon full, and soon recycled.
const SMALL: LogOptions = LogOptions { file_size: 64 * KIB, spare: 256 * KIB, ..OPTIONS };

fn command(index: u64, len: usize) -> LogEntry {
    let byte = u8::try_from(index % 251).unwrap();
    entry(1, index, vec![byte; len])
}

fn entry(term: u64, index: u64, bytes: Vec<u8>) -> LogEntry {
    Entry { log_id: log_id(term, index), payload: EntryPayload::Normal(EncodedCommand(Bytes::from(bytes))) }
}

fn open(dir: &Path) -> LogStore {
    open_with(dir, OPTIONS)
}

fn open_with(dir: &Path, options: LogOptions) -> LogStore {
    LogStore::open(dir, options).unwrap().0
}

fn reopen(dir: &Path) -> Result<LogStore, Error> {
    LogStore::open(dir, OPTIONS).map(|(store, _)| store)
}

/// Appends one entry, waits for its sync and says that it is committed, as openraft does.
async fn append(store: &mut LogStore, entry: LogEntry) {
    let id = entry.log_id;
    store.blocking_append([entry]).await.unwrap();
    store.save_committed(Some(id)).await.unwrap();
}

async fn entries(store: &LogStore) -> Vec<LogEntry> {
    store.reader().try_get_log_entries(..).await.unwrap()
}

/// Indices of the entries, each verified.
async fn indices(store: &LogStore) -> Vec<u64> {
    entries(store).await.iter().map(|entry| entry.log_id.index).collect()
}

fn place(store: &LogStore, index: u64) -> Place {
    store.reader().core().read(|tip| Ok(tip.place(index))).unwrap().unwrap()
}

/// A copy of the files as a crash would find them: one during which no file was renamed or removed.
fn copy(dir: &Path) -> tempfile::TempDir {
    for _ in 0..COPIES {
        let copied = tempfile::tempdir().unwrap();
        let found = files(dir);
        let copying = |path: &PathBuf| std::fs::copy(path, copied.path().join(path.file_name().unwrap()));
        let whole = found.iter().try_for_each(|path| copying(path).map(drop));
        if files(dir) == found {
            whole.unwrap();
            return copied;
        }
    }
    panic!("files of {} are renamed all the time", dir.display());
}

/// The files, in the order of their numbers.
fn files(dir: &Path) -> Vec<PathBuf> {
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
            let _ = store.blocking_append([command(index, 50_000)]).now_or_never();
        }
        end += 60;
        for index in end - 20..end {
            let read = store.reader().entries(index, index + 1).await.unwrap();
            assert_eq!(read, [command(index, 50_000)]);
        }
    }
}

/// The files that were begun, with their headers.
fn begun(dir: &Path) -> Vec<(PathBuf, FileHeader)> {
    let header = |path: PathBuf| {
        let sequence = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let file = crate::disk::File::open(&path).ok()?;
        match header::beginning(&file, sequence, DIRECTORY).unwrap() {
            Beginning::Begun(header) => Some((path, header)),
            _ => None,
        }
    };
    files(dir).into_iter().filter_map(header).collect()
}

/// The newest file that was begun.
fn newest(dir: &Path) -> (PathBuf, FileHeader) {
    begun(dir).pop().unwrap()
}

/// Where WAL offset `offset` is in a file that begins with `header`.
fn byte_of(header: &FileHeader, offset: u64) -> usize {
    usize::try_from(offset - header.start).unwrap() + HEADER_BYTES
}

fn change(path: &Path, at: usize, f: impl Fn(u8) -> u8) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] = f(bytes[at]);
    std::fs::write(path, bytes).unwrap();
}

/// Waits until what the log's threads do is done.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(std::time::Duration::from_secs(60), waiting).await.is_ok(), "{what}");
}
