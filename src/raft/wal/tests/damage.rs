//! Whatever was acknowledged is refused when it is damaged, and nothing is changed.

use futures::StreamExt;
use openraft::storage::RaftLogReader;

use super::torn::{KINDS, Kind, log_of};
use super::*;
use crate::raft::types::Vote;

/// The start is refused naming `file`, and leaves all files as they are.
fn refused(dir: &Path, file: &Path, what: &str) {
    let contents = || -> Vec<_> { files(dir).into_iter().map(|path| std::fs::read(path).unwrap()).collect() };
    let before = contents();
    let Err(error) = reopen(dir) else { panic!("{what}: nobody noticed") };
    assert_eq!(error.code(), "corrupt", "{what}: {error}");
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(error.message().contains(name), "{what}, {name}: {error}");
    assert!(contents() == before, "{what}: something was changed");
}

#[tokio::test]
async fn a_flipped_byte_below_the_newest_mark_is_refused() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, first) = log_of(kind, dir.path()).await;
        // The mark before this entry says that all before it was synced.
        store.blocking_append([command(first + 4, 100)]).await.unwrap();
        let acknowledged = place(&store, first + 3);
        let (path, header) = newest(dir.path());
        let begins = byte_of(&header, place(&store, first).offset);
        let end = byte_of(&header, acknowledged.offset + u64::from(acknowledged.len));
        // Of the header, of what is before these entries and of the entries themselves.
        let header_bytes = (0..HEADER_BYTES).step_by(if kind == Kind::Grown { 1 } else { 97 });
        for at in header_bytes.chain((HEADER_BYTES..begins).step_by(13)).chain(begins..end) {
            let copied = copy(dir.path());
            let path = copied.path().join(path.file_name().unwrap());
            change(&path, at, |byte| byte ^ (1 << (at % 8)));
            refused(copied.path(), &path, &format!("{kind:?}, byte {at}"));
        }
    }
}

#[tokio::test]
async fn a_truncation_below_the_newest_mark_is_refused_while_marks_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let (store, first) = log_of(Kind::Grown, dir.path()).await;
    let (path, header) = newest(dir.path());
    let at = byte_of(&header, place(&store, first + 1).offset);
    drop(store);
    // A hole of zeros, as of a block that was never written.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[at..at + 20].fill(0);
    std::fs::write(&path, bytes).unwrap();
    refused(dir.path(), &path, "a hole");
}

#[tokio::test]
async fn the_mark_of_another_directory_says_nothing() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut store = open_with(dir.path(), OPTIONS_OF_SMALL_FILES);
    let mut strange = open_with(other.path(), LogOptions { directory: Uuid::from_u128(5), ..OPTIONS_OF_SMALL_FILES });
    for index in 0..8 {
        append(&mut store, command(index, 100)).await;
        append(&mut strange, command(index, 100)).await;
    }
    assert_eq!(place(&store, 4).offset, place(&strange, 4).offset, "their marks are at the same places");
    let (path, header) = newest(dir.path());
    let at = byte_of(&header, place(&store, 4).offset);
    drop((store, strange));
    // A client may send what looks like a log: a torn entry that carries marks is still a torn entry.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.truncate(at);
    bytes.extend(&std::fs::read(&files(other.path())[0]).unwrap()[at..]);
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(indices(&reopen(dir.path()).unwrap()).await, [0, 1, 2, 3]);
}

#[tokio::test]
async fn many_files_are_read_purged_and_reopened() {
    const MIB: usize = 1 << 20;
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { spare: 64 << 20, ..OPTIONS };
    let mut store = open_with(dir.path(), options);
    for index in 0..72 {
        append(&mut store, command(index, MIB)).await;
    }
    assert!(begun(dir.path()).len() >= 4);
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
    until("the purge", || reader.wal_bytes() < 48 << 20).await;
    assert!(store.reader().entry(keep).await.unwrap().is_none());
    until("the recycling", || reader.spare_bytes() >= 24 << 20).await;
    assert!(reader.spare_bytes() <= 64 << 20);
    reader.close();
    assert!(store.save_vote(&Vote::new_committed(1, 1)).await.is_err());
    assert!(reader.try_get_log_entries(..).await.is_err());
    assert!(begun(dir.path()).len() <= 3, "the files were given up");

    let store = open_with(dir.path(), options);
    assert!(store.reader().wal_bytes() < 48 << 20);
    let held = entries(&store).await;
    assert_eq!(held.first().unwrap(), &command(keep + 1, MIB));
    assert_eq!(held.last().unwrap(), &command(71, MIB));
}

#[tokio::test]
async fn a_damaged_entry_in_an_old_file_is_found_when_it_is_read_and_when_it_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open_with(dir.path(), SMALL);
    for index in 0..40 {
        append(&mut store, command(index, 5_000)).await;
    }
    let damaged = place(&store, 3);
    let path = &files(dir.path())[0];
    change(path, byte_of(&begun(dir.path())[0].1, damaged.offset) + 1_000, |byte| byte ^ 1);
    let read = store.reader().entry(3).await.unwrap_err();
    assert_eq!(read.kind(), std::io::ErrorKind::InvalidData, "{read}");
    assert!(read.to_string().contains(path.to_str().unwrap()), "{read}");
    assert!(store.reader().entry(4).await.unwrap().is_some());
    drop(store);
    refused(dir.path(), path, "an old file");
}

/// The last entries of a file, not marked in it: the next file's header says that they were synced.
#[tokio::test]
async fn the_end_of_a_file_is_acknowledged_by_the_next_ones_header() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open_with(dir.path(), SMALL);
    let mut index = 0;
    while begun(dir.path()).len() < 2 {
        store.blocking_append([command(index, 7_000)]).await.unwrap();
        index += 1;
    }
    let found = begun(dir.path());
    let last = place(&store, index - 2);
    assert!(last.offset < found[1].1.start && last.offset + u64::from(last.len) <= found[1].1.start);
    drop(store);
    for at in [0, 5, 20, last.len as usize - 1] {
        let copied = copy(dir.path());
        let path = copied.path().join(found[0].0.file_name().unwrap());
        change(&path, byte_of(&found[0].1, last.offset) + at, |byte| byte ^ 4);
        refused(copied.path(), &path, &format!("byte {at} of the last entry of a file"));
        // Cut short, too.
        let copied = copy(dir.path());
        let path = copied.path().join(found[0].0.file_name().unwrap());
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_len((byte_of(&found[0].1, last.offset) + at) as u64).unwrap();
        refused(copied.path(), &path, &format!("cut at byte {at} of the last entry of a file"));
    }
}

#[tokio::test]
async fn a_file_that_is_missing_or_lost_its_header_is_refused_unless_it_was_purged() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open_with(dir.path(), OPTIONS_OF_SMALL_FILES);
    let mut index = 0;
    while begun(dir.path()).len() < 5 {
        append(&mut store, command(index, 7_000)).await;
        index += 1;
    }
    // So that a mark in the newest file says that something in it was synced.
    for _ in 0..2 {
        append(&mut store, command(index, 100)).await;
        index += 1;
    }
    let killed = copy(dir.path());
    let found = begun(killed.path());
    for (nth, (path, _)) in found.iter().enumerate() {
        for removed in [true, false] {
            let copied = copy(killed.path());
            let path = copied.path().join(path.file_name().unwrap());
            match removed {
                true => std::fs::remove_file(&path).unwrap(),
                false => change(&path, 40, |byte| byte ^ 1),
            }
            // A newest file that is gone leaves no trace; with a damaged header its marks tell.
            if !(nth == found.len() - 1 && removed) {
                refused(copied.path(), &path, &format!("file {nth}, removed: {removed}"));
            }
        }
    }
    // What was purged may be missing, or be back.
    let purged = store.reader().core().read(|tip| Ok(tip.needed_from())).unwrap();
    assert_eq!(purged, place(&store, 0).offset);
    store.purge(log_id(1, index - 3)).await.unwrap();
    store.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    until("the purge", || begun(dir.path()).len() <= 2).await;
    drop(store);
    let back = copy(dir.path());
    for (path, _) in &found[..2] {
        std::fs::copy(path, back.path().join(path.file_name().unwrap())).unwrap();
    }
    change(&back.path().join(found[1].0.file_name().unwrap()), 40, |byte| byte ^ 1);
    for dir in [dir.path(), back.path()] {
        let mut store = open_with(dir, OPTIONS_OF_SMALL_FILES);
        assert_eq!(indices(&store).await, [index - 2, index - 1]);
        append(&mut store, command(index, 10)).await;
        until("the left-over files", || files(dir).len() <= 2).await;
        drop(store);
        assert_eq!(indices(&open_with(dir, OPTIONS_OF_SMALL_FILES)).await.len(), 3);
    }
}

/// Nothing is recycled, so that what is missing is missing.
const OPTIONS_OF_SMALL_FILES: LogOptions = LogOptions { spare: 0, ..SMALL };

#[tokio::test]
async fn what_is_not_of_this_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    store.save_vote(&Vote::new(1, 1)).await.unwrap();
    drop(store);
    let path = &files(dir.path())[0];
    let whole = std::fs::read(path).unwrap();
    // Of another directory.
    let other = LogStore::open(dir.path(), LogOptions { directory: Uuid::from_u128(9), ..OPTIONS });
    let error = other.err().unwrap();
    assert!(error.code() == "corrupt" && error.message().contains("directory"), "{error}");
    // Of a version to come.
    let mut newer = whole.clone();
    newer[8] = 2;
    let crc = crc32c::crc32c(&newer[..HEADER_BYTES - 4]);
    newer[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(path, newer).unwrap();
    let error = reopen(dir.path()).err().unwrap();
    assert!(error.code() == "corrupt" && error.message().contains("version 2"), "{error}");
    // Of the crate that kept the log before.
    std::fs::write(path, whole).unwrap();
    let first = dir.path().join("r-00_000_000_000_000_000_000.wal");
    std::fs::write(&first, b"x").unwrap();
    let error = reopen(dir.path()).err().unwrap();
    assert!(error.code() == "corrupt" && error.message().contains("first format"), "{error}");
    std::fs::remove_file(first).unwrap();
    reopen(dir.path()).unwrap();
}

#[tokio::test]
async fn a_log_is_opened_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert_eq!(reopen(dir.path()).err().unwrap().code(), "internal");
    // Whoever still reads does not hold it.
    let reader = store.reader();
    reader.close();
    reopen(dir.path()).unwrap();
    drop(store);
}
