//! Torn tails are cut, whatever was acknowledged is refused when it is damaged.

use std::io::Write;
use std::time::Duration;

use futures::StreamExt;
use openraft::storage::RaftLogReader;

use super::*;
use crate::error::Error;
use crate::raft::types::Vote;

fn reopen(dir: &Path) -> Result<LogStore, Error> {
    LogStore::open(dir, OPTIONS).map(|(store, _)| store)
}

async fn entries(store: &LogStore) -> Vec<LogEntry> {
    store.reader().try_get_log_entries(..).await.unwrap()
}

/// A log of three small entries, each acknowledged, and a fourth that was written last; and where the fourth begins.
async fn four_entries(dir: &Path) -> u64 {
    let mut store = open(dir);
    store.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    for index in 0..3 {
        append(&mut store, command(index, 100)).await;
    }
    store.blocking_append([command(3, 100)]).await.unwrap();
    store.shared.read(|log| Ok(log.place(3))).unwrap().unwrap().offset
}

#[tokio::test]
async fn a_tail_torn_at_any_byte_of_the_last_entry_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let begins = four_entries(dir.path()).await;
    let [file] = &chunks(dir.path())[..] else { panic!("one file") };
    let size = std::fs::metadata(file).unwrap().len();
    for len in begins..size {
        for fill in [None, Some(0), Some(0xa5)] {
            let copied = copy(dir.path());
            let path = &chunks(copied.path())[0];
            let torn = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            torn.set_len(len).unwrap();
            if let Some(byte) = fill {
                let mut torn = std::fs::OpenOptions::new().append(true).open(path).unwrap();
                torn.write_all(&vec![byte; usize::try_from(size - len).unwrap()]).unwrap();
            }
            let mut store = reopen(copied.path()).unwrap();
            let held = entries(&store).await;
            assert_eq!(held, [command(0, 100), command(1, 100), command(2, 100)], "cut at {len}, then {fill:?}");
            // What follows is written where the cut was, and survives.
            append(&mut store, command(3, 50)).await;
            drop(store);
            assert_eq!(entries(&reopen(copied.path()).unwrap()).await[3], command(3, 50));
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_in_the_last_entry_cuts_it_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let begins = usize::try_from(four_entries(dir.path()).await).unwrap();
    let whole = std::fs::read(&chunks(dir.path())[0]).unwrap();
    for at in begins..whole.len() {
        let copied = copy(dir.path());
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&chunks(copied.path())[0], bytes).unwrap();
        let store = reopen(copied.path()).unwrap();
        assert_eq!(entries(&store).await, [command(0, 100), command(1, 100), command(2, 100)], "byte {at}");
    }
}

#[tokio::test]
async fn a_crash_right_after_a_truncation_finds_it_done() {
    let dir = tempfile::tempdir().unwrap();
    four_entries(dir.path()).await;
    let mut store = reopen(dir.path()).unwrap();
    store.truncate_after(Some(command(2, 0).log_id)).await.unwrap();
    let copied = copy(dir.path());
    assert_eq!(entries(&reopen(copied.path()).unwrap()).await, [command(0, 100), command(1, 100), command(2, 100)]);
}

#[tokio::test]
async fn a_flipped_bit_below_the_newest_mark_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let begins = four_entries(dir.path()).await;
    // The mark before the fourth entry says that all before it was synced.
    let store = reopen(dir.path()).unwrap();
    let acknowledged = store.shared.read(|log| Ok(log.place(2))).unwrap().unwrap();
    drop(store);
    let end = acknowledged.offset + u64::from(acknowledged.len);
    assert!(end < begins);
    for at in 0..end {
        let copied = copy(dir.path());
        let path = &chunks(copied.path())[0];
        let mut bytes = std::fs::read(path).unwrap();
        bytes[usize::try_from(at).unwrap()] ^= 0x10;
        std::fs::write(path, &bytes).unwrap();
        let Err(refused) = reopen(copied.path()) else { panic!("byte {at} was flipped and nobody noticed") };
        assert_eq!(refused.code(), "corrupt", "byte {at}: {refused}");
        assert!(refused.message().contains(&path.display().to_string()), "{refused}");
        assert_eq!(std::fs::read(path).unwrap(), bytes, "nothing was changed");
    }
}

#[tokio::test]
async fn the_last_entry_is_marked_soon_though_no_group_follows() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    append(&mut store, command(0, 100)).await;
    let last = store.shared.read(|log| Ok(log.place(0))).unwrap().unwrap();
    let middle = usize::try_from(last.offset).unwrap() + last.len as usize / 2;
    let is_refused = || {
        let copied = copy(dir.path());
        let path = &chunks(copied.path())[0];
        let mut bytes = std::fs::read(path).unwrap();
        bytes[middle] ^= 1;
        std::fs::write(path, &bytes).unwrap();
        reopen(copied.path()).is_err_and(|refused| refused.code() == "corrupt")
    };
    let marked = async {
        while !is_refused() {
            tokio::task::yield_now().await;
        }
    };
    let marked = tokio::time::timeout(Duration::from_secs(30), marked).await;
    assert!(marked.is_ok(), "a flipped bit in the last entry is taken for a torn tail");
}

#[tokio::test]
async fn the_mark_of_another_directory_says_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    four_entries(other.path()).await;
    let begins = four_entries(dir.path()).await;
    let path = &chunks(dir.path())[0];
    // A client may send what looks like a log: a torn entry that carries marks is still a torn entry.
    let mut bytes = std::fs::read(path).unwrap();
    bytes.truncate(usize::try_from(begins).unwrap() + 7);
    bytes.extend(std::fs::read(&chunks(other.path())[0]).unwrap());
    std::fs::write(path, &bytes).unwrap();
    assert_eq!(entries(&reopen(dir.path()).unwrap()).await.len(), 3);
}

#[tokio::test]
async fn many_files_are_read_purged_and_reopened() {
    const MIB: usize = 1 << 20;
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    for index in 0..72 {
        append(&mut store, command(index, MIB)).await;
    }
    assert!(chunks(dir.path()).len() >= 4);
    let mut reader = store.reader();
    assert!(reader.wal_bytes() > 72 << 20);
    // Reads are limited in bytes, a stream of all of it is made of such reads.
    assert_eq!(reader.limited_get_log_entries(0, 72).await.unwrap().len(), 3);
    let mut count = 0;
    let mut streaming = reader.clone();
    let mut stream = std::pin::pin!(streaming.entries_stream(0..72).await);
    while let Some(entry) = stream.next().await {
        assert_eq!(entry.unwrap(), command(count, MIB));
        count += 1;
    }
    assert_eq!(count, 72);

    let keep = store.reader().purge_limit(30 << 20).unwrap().unwrap();
    assert_eq!(keep, 41, "30 entries of a little over 1 MiB stay");
    store.purge(log_id(1, keep)).await.unwrap();
    store.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    assert!(store.reader().wal_bytes() < 48 << 20);
    assert!(store.reader().entry(keep).await.unwrap().is_none());
    reader.close();
    assert!(store.save_vote(&Vote::new_committed(1, 1)).await.is_err());
    assert!(chunks(dir.path()).len() <= 3, "the files went with the sync");

    let store = reopen(dir.path()).unwrap();
    assert!(store.reader().wal_bytes() < 48 << 20);
    let held = entries(&store).await;
    assert_eq!(held.first().unwrap(), &command(keep + 1, MIB));
    assert_eq!(held.last().unwrap(), &command(71, MIB));
}

#[tokio::test]
async fn a_damaged_entry_in_an_old_file_is_found_when_it_is_read_and_when_it_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    for index in 0..24 {
        append(&mut store, command(index, 1 << 20)).await;
    }
    let place = store.shared.read(|log| Ok(log.place(3))).unwrap().unwrap();
    let path = &chunks(dir.path())[0];
    let mut bytes = std::fs::read(path).unwrap();
    bytes[usize::try_from(place.offset).unwrap() + 1000] ^= 1;
    std::fs::write(path, bytes).unwrap();
    let read = store.reader().entry(3).await.unwrap_err();
    assert_eq!(read.kind(), std::io::ErrorKind::InvalidData, "{read}");
    assert!(store.reader().entry(4).await.unwrap().is_some());
    drop(store);
    assert_eq!(reopen(dir.path()).err().unwrap().code(), "corrupt");
}

#[tokio::test]
async fn a_file_that_was_begun_before_the_end_of_the_last_one_was_synced_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let begins = four_entries(dir.path()).await;
    let end = std::fs::metadata(&chunks(dir.path())[0]).unwrap().len();
    let next = raft_log::chunked_wal::Config::chunk_file_name(raft_log::ChunkId(end));
    for content in [&b""[..], &[0; 50], &[0, 0, 0, 5, 1, 7]] {
        let copied = copy(dir.path());
        std::fs::OpenOptions::new().write(true).open(&chunks(copied.path())[0]).unwrap().set_len(begins).unwrap();
        std::fs::write(copied.path().join(&next), content).unwrap();
        let store = reopen(copied.path()).unwrap();
        assert_eq!(entries(&store).await.len(), 3);
        drop(store);
        assert_eq!(chunks(copied.path()).len(), 1);
    }
}

#[tokio::test]
async fn a_crash_while_a_file_is_begun_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let begins = four_entries(dir.path()).await;
    let end = std::fs::metadata(&chunks(dir.path())[0]).unwrap().len();
    assert!(end > begins);
    for content in [&b""[..], &[0; 50], &[0, 0, 0, 5, 1, 7]] {
        let copied = copy(dir.path());
        let next = raft_log::chunked_wal::Config::chunk_file_name(raft_log::ChunkId(end));
        std::fs::write(copied.path().join(next), content).unwrap();
        let store = reopen(copied.path()).unwrap();
        assert_eq!(entries(&store).await.len(), 4);
        drop(store);
        assert_eq!(chunks(copied.path()).len(), 1);
    }
}
