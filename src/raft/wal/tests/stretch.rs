//! Neighbouring entries are read at once.

use super::*;
use crate::raft::wal::read::READ_BYTES;

/// Lengths between nothing and more than a file of [`SMALL`] has, with votes and commits between the entries.
async fn varied(dir: &Path, options: LogOptions, count: u64) -> (LogStore, Vec<LogEntry>) {
    let mut store = open_with(dir, options);
    let mut all = Vec::new();
    for index in 0..count {
        let len = [0, 1, 5_000, 60, 70_000, 300][usize::try_from(index % 6).unwrap()];
        all.push(command(index, len));
        append(&mut store, command(index, len)).await;
    }
    (store, all)
}

#[tokio::test]
async fn entries_of_any_stretch_are_those_that_were_appended() {
    // What the cache has, if there is one, is joined to what the files have.
    for tail_memory in [0, 200 * KIB] {
        let dir = tempfile::tempdir().unwrap();
        let (store, all) = varied(dir.path(), LogOptions { tail_memory, ..SMALL }, 90).await;
        let reader = store.reader();
        for start in 0..all.len() {
            for end in [start, start + 1, start + 7, all.len(), all.len() + 5] {
                let read = reader.entries(start as u64, end as u64).await.unwrap();
                assert_eq!(read, all[start..end.min(all.len())], "{start}..{end}");
            }
        }
    }
}

#[tokio::test]
async fn a_stretch_ends_where_its_bytes_do() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    for index in 0..12 {
        append(&mut store, command(index, MIB as usize)).await;
    }
    let read = store.reader().entries(2, 12).await.unwrap();
    let bytes: u64 = (0..read.len() as u64).map(|_| MIB).sum();
    assert!(bytes <= READ_BYTES && bytes > READ_BYTES - 2 * MIB, "{} entries", read.len());
    assert_eq!(read, (2..2 + read.len() as u64).map(|index| command(index, MIB as usize)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_damaged_entry_keeps_its_neighbours_from_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (store, all) = varied(dir.path(), OPTIONS, 40).await;
    let (path, header) = newest(dir.path());
    let bad = place(&store, 20);
    change(&path, byte_of(&header, bad.offset) + 40, |byte| byte ^ 1);
    let reader = store.reader();
    assert_eq!(reader.entries(10, 40).await.unwrap(), all[10..20]);
    let read = reader.entries(20, 40).await.unwrap_err();
    assert_eq!(read.kind(), std::io::ErrorKind::InvalidData);
    assert!(read.to_string().contains("entry 20"), "{read}");
    assert_eq!(reader.entries(21, 40).await.unwrap(), all[21..]);
}

#[tokio::test]
async fn what_was_cut_between_two_entries_is_read_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut all: Vec<LogEntry> = (0..30).map(|index| command(index, 70_000)).collect();
    store.blocking_append(all.clone()).await.unwrap();
    store.truncate_after(Some(log_id(1, 19))).await.unwrap();
    all.truncate(20);
    for index in 20..40 {
        let newer = entry(2, index, vec![9; 3_000]);
        append(&mut store, newer.clone()).await;
        all.push(newer);
    }
    assert_eq!(store.reader().entries(5, 40).await.unwrap(), all[5..]);
}
