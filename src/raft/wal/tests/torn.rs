//! Torn tails are cut, in files that grow, that were filled with zeros, and that were recycled.

use openraft::storage::RaftLogReader;

use super::*;
use crate::raft::types::Vote;

/// What a file is behind its last frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing.
    Grown,
    /// Zeros.
    Filled,
    /// An earlier part of the log.
    Recycled,
}

pub(super) const KINDS: [Kind; 3] = [Kind::Grown, Kind::Filled, Kind::Recycled];

impl Kind {
    fn options(self) -> LogOptions {
        LogOptions { spare: if self == Self::Grown { 0 } else { SMALL.spare }, ..SMALL }
    }
}

/// A log whose newest file is of a kind, with four entries in it that were acknowledged; the first one's index.
pub(super) async fn log_of(kind: Kind, dir: &Path) -> (LogStore, u64) {
    let mut store = open_with(dir, kind.options());
    store.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    let mut next = 0;
    if kind == Kind::Recycled {
        next = recycle(&mut store, dir).await;
    }
    for index in next..next + 4 {
        append(&mut store, command(index, 100)).await;
    }
    let (path, header) = newest(dir);
    let is_full = std::fs::metadata(path).unwrap().len() > SMALL.file_size / 2;
    assert_eq!((header.recycled, is_full), (kind == Kind::Recycled, kind != Kind::Grown));
    (store, next)
}

/// Fills files and purges them until the newest one is recycled and has room, all is purged and the next file is ready; the next
/// index.
pub(super) async fn recycle(store: &mut LogStore, dir: &Path) -> u64 {
    let mut next = 0;
    loop {
        for _ in 0..8 {
            append(store, command(next, 2_000)).await;
            next += 1;
        }
        store.purge(log_id(1, next - 1)).await.unwrap();
        store.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
        let (_, header) = newest(dir);
        if header.recycled && header.start > SMALL.file_size * 6 && room(store) > SMALL.file_size / 4 {
            let reader = store.reader();
            until("the next file", || reader.spare_bytes() > 0).await;
            return next;
        }
    }
}

/// Bytes that the newest file has room for.
pub(super) fn room(store: &LogStore) -> u64 {
    let used = store.reader().core().read(|tip| Ok(tip.end() - tip.file().unwrap().start)).unwrap();
    SMALL.file_size.saturating_sub(HEADER_BYTES as u64 + used)
}

/// A group of two entries behind those of [`log_of`], which a crash may tear; where it begins and ends in the newest file.
async fn last_group(store: &mut LogStore, dir: &Path, next: u64) -> (PathBuf, usize, usize) {
    let begins = store.reader().core().read(|tip| Ok(tip.end())).unwrap();
    store.blocking_append([command(next, 100), command(next + 1, 100)]).await.unwrap();
    let last = place(store, next + 1);
    let (path, header) = newest(dir);
    (path, byte_of(&header, begins), byte_of(&header, last.offset + u64::from(last.len)))
}

/// Opens a copy of `dir` in which the newest file is `bytes`. It has to have the four entries; more can be appended, and stay.
async fn reopened(dir: &Path, path: &Path, bytes: &[u8], first: u64, what: &str) {
    let copied = copy(dir);
    std::fs::write(copied.path().join(path.file_name().unwrap()), bytes).unwrap();
    let mut store = open_with(copied.path(), SMALL);
    let held: Vec<u64> = (first..first + 4).collect();
    assert_eq!(indices(&store).await, held, "{what}");
    append(&mut store, command(first + 4, 50)).await;
    drop(store);
    let store = open_with(copied.path(), SMALL);
    assert_eq!(entries(&store).await[4..], [command(first + 4, 50)], "{what}");
}

#[tokio::test]
async fn a_last_group_torn_at_any_byte_is_cut() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, first) = log_of(kind, dir.path()).await;
        let before = copy(dir.path());
        let (path, begins, ends) = last_group(&mut store, dir.path(), first + 4).await;
        let old = std::fs::read(before.path().join(path.file_name().unwrap())).unwrap();
        let new = std::fs::read(&path).unwrap();
        // Up to the last byte but one: all of it would be the whole group.
        for at in begins..ends {
            // What was there before, which a disk shows that did not write the rest; or it is longer without the bytes.
            let mut torn = new[..at].to_vec();
            match at % 4 {
                0 => {}
                1 => torn.resize(new.len(), 0),
                2 => torn.resize(new.len(), 0xa5),
                _ => torn.extend(&old[at.min(old.len())..]),
            }
            // In the group's second entry the first one may be whole: then it stays.
            let whole = first_is_whole(&store, &path, at, first + 4);
            if !whole {
                reopened(dir.path(), &path, &torn, first, &format!("{kind:?}, cut at {at}")).await;
            }
        }
    }
}

/// Whether entry `index` ends before byte `at`.
fn first_is_whole(store: &LogStore, path: &Path, at: usize, index: u64) -> bool {
    let entry = place(store, index);
    let (_, header) = begun(path.parent().unwrap()).pop().unwrap();
    byte_of(&header, entry.offset + u64::from(entry.len)) <= at
}

#[tokio::test]
async fn a_first_part_of_the_last_group_stays_if_it_is_whole() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, first) = log_of(kind, dir.path()).await;
        let (path, _, ends) = last_group(&mut store, dir.path(), first + 4).await;
        let copied = copy(dir.path());
        // The mark that follows soon is not there yet.
        let mut torn = std::fs::read(&path).unwrap();
        torn.truncate(ends);
        torn[ends - 1] ^= 0xff;
        std::fs::write(copied.path().join(path.file_name().unwrap()), torn).unwrap();
        let (store, cut) = LogStore::open(copied.path(), SMALL).unwrap();
        assert_eq!(indices(&store).await, (first..first + 5).collect::<Vec<_>>());
        let cut = cut.unwrap();
        assert_eq!(cut.file.file_name(), path.file_name());
        assert!(cut.offset < ends as u64 && cut.offset + cut.bytes >= ends as u64, "{cut:?}");
        // Once it was cut nothing more is.
        drop(store);
        assert_eq!(LogStore::open(copied.path(), SMALL).unwrap().1, None);
    }
}

#[tokio::test]
async fn a_flipped_byte_in_the_last_group_cuts_it_and_no_other() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, first) = log_of(kind, dir.path()).await;
        let (path, begins, ends) = last_group(&mut store, dir.path(), first + 4).await;
        // The mark that follows soon is not there yet.
        let mut whole = std::fs::read(&path).unwrap();
        whole.truncate(ends);
        for at in begins..ends {
            if first_is_whole(&store, &path, at, first + 4) {
                break;
            }
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            reopened(dir.path(), &path, &bytes, first, &format!("{kind:?}, byte {at}")).await;
        }
    }
}

#[tokio::test]
async fn a_log_that_was_not_torn_is_left_as_it_is() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let (store, first) = log_of(kind, dir.path()).await;
        let killed = copy(dir.path());
        drop(store);
        for dir in [dir, killed] {
            let before: Vec<_> = files(dir.path()).into_iter().map(|path| std::fs::read(path).unwrap()).collect();
            for _ in 0..2 {
                let (store, cut) = LogStore::open(dir.path(), kind.options()).unwrap();
                assert_eq!(cut, None);
                assert_eq!(indices(&store).await, (first..first + 4).collect::<Vec<_>>());
            }
            let after: Vec<_> = files(dir.path()).into_iter().map(|path| std::fs::read(path).unwrap()).collect();
            assert!(before == after, "{kind:?}: opening alone changes nothing");
        }
    }
}

/// What a crash cut must not come back when the same is written again. Of the first group after an opening everything is on
/// disk but its first frame; the next opening writes the same group up to its first entry.
#[tokio::test]
async fn what_was_cut_does_not_follow_the_same_bytes_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, first) = log_of(Kind::Recycled, dir.path()).await;
    drop(store);
    let group = [command(first + 4, 100), command(first + 5, 100)];
    let one = copy(dir.path());
    let mut store = open_with(one.path(), SMALL);
    let begins = store.reader().core().read(|tip| Ok(tip.end())).unwrap();
    store.blocking_append(group.clone()).await.unwrap();
    let (path, header) = newest(one.path());
    let (begins, second) = (byte_of(&header, begins), place(&store, first + 5));
    let (second_at, ends) = (byte_of(&header, second.offset), byte_of(&header, second.offset + u64::from(second.len)));
    let written = std::fs::read(&path).unwrap();
    drop(store);

    // 17 bytes of head and a number of 16: the frame of the opening is what was there before.
    let name = path.file_name().unwrap();
    let two = copy(dir.path());
    let mut torn = written.clone();
    torn[begins..begins + 33].copy_from_slice(&std::fs::read(dir.path().join(name)).unwrap()[begins..begins + 33]);
    std::fs::write(two.path().join(name), &torn).unwrap();
    let mut store = open_with(two.path(), SMALL);
    assert_eq!(indices(&store).await, (first..first + 4).collect::<Vec<_>>());
    assert_eq!(std::fs::read(two.path().join(name)).unwrap(), torn, "nothing tells it from what was there before");
    store.blocking_append([group[0].clone()]).await.unwrap();
    assert_eq!(byte_of(&header, place(&store, first + 4).offset + 100 + 34), second_at, "at the very same place");
    let mut again = std::fs::read(two.path().join(name)).unwrap();
    // Killed before the mark that follows: the second entry is still there, whole, just behind the first.
    again[second_at..].copy_from_slice(&written[second_at..]);
    let three = copy(two.path());
    std::fs::write(three.path().join(name), &again).unwrap();
    let frame = Bytes::copy_from_slice(&again[second_at..ends]);
    assert!(frame::read(frame.clone(), second.chain, second.offset).is_ok());
    let store = open_with(three.path(), SMALL);
    assert_eq!(indices(&store).await, (first..first + 5).collect::<Vec<_>>());
    // The bytes before are the same but for the number of the opening.
    let open = begins + 17..begins + 33;
    assert_ne!(again[open.clone()], written[open]);
    assert_eq!(again[begins + 33 + 17..begins + 33 + 61 - 4], written[begins + 33 + 17..begins + 33 + 61 - 4]);
}

#[tokio::test]
async fn a_crash_right_after_a_truncation_finds_it_done() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, first) = log_of(kind, dir.path()).await;
        // Not committed.
        store.blocking_append((first + 4..first + 9).map(|index| command(index, 100))).await.unwrap();
        store.truncate_after(Some(log_id(1, first + 5))).await.unwrap();
        let copied = copy(dir.path());
        assert_eq!(indices(&open_with(copied.path(), SMALL)).await, (first..first + 6).collect::<Vec<_>>());
        // What another leader sends takes their place.
        append(&mut store, entry(2, first + 6, vec![9; 10])).await;
        let copied = copy(dir.path());
        let mut store = open_with(copied.path(), SMALL);
        assert_eq!(entries(&store).await[6..], [entry(2, first + 6, vec![9; 10])]);
        assert!(store.truncate_after(Some(log_id(1, first + 1))).await.is_err(), "those are committed");
    }
}

#[tokio::test]
async fn a_crash_while_the_first_file_is_begun_leaves_an_empty_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open_with(dir.path(), SMALL);
    store.save_vote(&Vote::new(1, 1)).await.unwrap();
    let (path, _) = newest(dir.path());
    let mut whole = std::fs::read(&path).unwrap();
    // Without the mark that follows soon, and says that it was acknowledged.
    whole.truncate(HEADER_BYTES + 33 + 34);
    whole.resize(usize::try_from(SMALL.file_size).unwrap(), 0);
    drop(store);
    let empty = |bytes: &[u8], what: &str| {
        let copied = tempfile::tempdir().unwrap();
        std::fs::write(copied.path().join("0000000001.wal"), bytes).unwrap();
        let store = open_with(copied.path(), SMALL);
        assert!(store.is_empty().unwrap(), "{what}");
        assert_eq!(store.reader().core().read(|tip| Ok(tip.state().vote)).unwrap(), None, "{what}");
    };
    empty(&[], "created");
    empty(&whole[..HEADER_BYTES / 2], "half a header");
    empty(&[0; 9000], "zeros");
    let mut torn = whole.clone();
    torn[..512].fill(0);
    empty(&torn, "no header");
    torn = whole.clone();
    torn[HEADER_BYTES..].fill(0);
    empty(&torn, "no frames");
    torn = whole.clone();
    torn[HEADER_BYTES + 3] ^= 1;
    empty(&torn, "a torn frame");
    let store = {
        std::fs::write(&path, &whole).unwrap();
        open_with(dir.path(), SMALL)
    };
    assert!(store.reader().core().read(|tip| Ok(tip.state().vote)).unwrap().is_some(), "whole it is there");
}

#[tokio::test]
async fn the_last_entry_is_marked_soon_though_no_group_follows() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let (store, first) = log_of(kind, dir.path()).await;
        let last = place(&store, first + 3);
        let (path, header) = newest(dir.path());
        let middle = byte_of(&header, last.offset) + last.len as usize / 2;
        until("a flipped bit in the last entry is taken for a torn tail", || {
            let copied = copy(dir.path());
            change(&copied.path().join(path.file_name().unwrap()), middle, |byte| byte ^ 1);
            reopen(copied.path()).is_err_and(|refused| refused.code() == "corrupt")
        })
        .await;
    }
}

#[tokio::test]
async fn reads_go_on_while_entries_are_on_their_way() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open_with(dir.path(), SMALL);
    let mut reader = store.reader();
    for first in (0..400).step_by(4) {
        let group: Vec<_> = (first..first + 4).map(|index| command(index, 3_000)).collect();
        // Readable when this returns, whatever the thread is doing.
        store.append(group.clone(), openraft::storage::IOFlushed::noop()).await.unwrap();
        assert_eq!(reader.try_get_log_entries(first..first + 4).await.unwrap(), group);
        assert_eq!(reader.try_get_log_entries(first / 2..first / 2 + 1).await.unwrap(), [command(first / 2, 3_000)]);
    }
}
