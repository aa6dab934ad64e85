//! Files that are used again, and every step of that at which a crash may come.

use proptest::prelude::*;

use super::torn::{recycle, room};
use super::*;
use crate::raft::types::Vote;
use crate::raft::wal::mark::search;

/// A number of the file with which the log would go on.
fn next_path(dir: &Path) -> PathBuf {
    files::path_of(dir, newest(dir).1.sequence + 1)
}

#[tokio::test]
async fn purged_files_are_used_again_and_no_more_are_kept_than_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open_with(dir.path(), SMALL);
    let next = recycle(&mut store, dir.path()).await;
    are_used_again(dir.path(), store, next).await;
}

/// What a log leaves that outran its keeper, as on a slow machine: no file of it was ready before it was begun, so all are a
/// little short.
#[tokio::test]
async fn purged_files_that_were_begun_empty_are_used_again_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open_with(dir.path(), LogOptions { spare: 0, ..SMALL });
    for index in 0..300 {
        append(&mut store, command(index, 2_000)).await;
    }
    drop(store);
    let is_short = |path: &PathBuf| std::fs::metadata(path).unwrap().len() < SMALL.file_size;
    assert!(files(dir.path()).iter().all(is_short));
    are_used_again(dir.path(), open_with(dir.path(), SMALL), 300).await;
}

/// Fills and purges some more files of a log whose next index is `next`.
async fn are_used_again(dir: &Path, mut store: LogStore, next: u64) {
    let mut last = next;
    // A file that is begun once the others are ready would take one of them.
    while last < next + 300 || room(&store) < SMALL.file_size / 2 {
        append(&mut store, command(last, 2_000)).await;
        last += 1;
    }
    last -= 1;
    let reader = store.reader();
    store.purge(log_id(1, last - 9)).await.unwrap();
    store.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    // What is purged and neither recycled nor removed yet has the header of a file of the log.
    let in_use = || {
        let start = reader.core().queue.start().unwrap();
        begun(dir).iter().filter(|(_, header)| header.start >= start).count()
    };
    // As many as there are, if no file of the full size may come to `bytes` any more.
    let is_full = |bytes: u64, bound: u64| bytes <= bound && bytes + SMALL.file_size > bound;
    let spares = usize::try_from(SMALL.spare / SMALL.file_size).unwrap();
    let is_done = || is_full(reader.spare_bytes(), SMALL.spare) && files(dir).len() == in_use() + spares;
    until("the recycling", is_done).await;
    assert!(in_use() <= 2 && reader.wal_bytes() < 2 * SMALL.file_size);
    // They are there after a restart, whose bound counts.
    let (names, bytes) = (files(dir), reader.spare_bytes());
    drop((store, reader));
    let store = open_with(dir, SMALL);
    assert_eq!((store.reader().spare_bytes(), files(dir)), (bytes, names));
    drop(store);
    let mut store = open_with(dir, LogOptions { spare: 2 * SMALL.file_size, ..SMALL });
    assert!(is_full(store.reader().spare_bytes(), 2 * SMALL.file_size));
    append(&mut store, command(last + 1, 10)).await;
    until("the files too many", || files(dir).len() == begun(dir).len() + 2).await;
    assert_eq!(indices(&store).await, (last - 8..=last + 1).collect::<Vec<_>>());
    // The disk is low.
    store.reader().release_spares();
    // The last file is gone a moment before it is no longer counted.
    let reader = store.reader();
    until("the release", || reader.spare_bytes() == 0 && files(dir).len() == begun(dir).len()).await;
    drop(reader);
    for index in last + 2..=last + 100 {
        append(&mut store, command(index, 2_000)).await;
    }
    drop(store);
    assert_eq!(indices(&open_with(dir, SMALL)).await.len(), 109);
}

#[tokio::test]
async fn without_spares_nothing_is_recycled_or_filled() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open_with(dir.path(), LogOptions { spare: 0, ..SMALL });
    for round in 0..6 {
        for index in round * 40..round * 40 + 40 {
            append(&mut store, command(index, 2_000)).await;
        }
        store.purge(log_id(1, round * 40 + 39)).await.unwrap();
        store.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
        until("the removal", || files(dir.path()).len() <= 2).await;
    }
    let (path, header) = newest(dir.path());
    assert!(!header.recycled && std::fs::metadata(path).unwrap().len() < SMALL.file_size);
}

#[tokio::test]
async fn a_slow_log_has_its_next_file_filled_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open_with(dir.path(), SMALL);
    append(&mut store, command(0, 100)).await;
    assert_eq!(std::fs::metadata(&files(dir.path())[0]).unwrap().len(), SMALL.file_size, "the first file is filled");
    let reader = store.reader();
    until("the second", || reader.spare_bytes() == SMALL.file_size).await;
    let next = next_path(dir.path());
    assert_eq!(std::fs::read(&next).unwrap(), vec![0; usize::try_from(SMALL.file_size).unwrap()]);
    for index in 1..20 {
        append(&mut store, command(index, 5_000)).await;
    }
    let (path, header) = newest(dir.path());
    assert_eq!((&path, header.recycled, header.sequence), (&next, false, 2));
    assert_eq!(std::fs::metadata(path).unwrap().len(), SMALL.file_size);
    drop((store, reader));
    assert_eq!(indices(&open_with(dir.path(), SMALL)).await.len(), 20);
}

/// What an earlier use left in a file are whole frames, and marks: none of them counts.
#[tokio::test]
async fn stale_frames_and_marks_say_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open_with(dir.path(), SMALL);
    let next = recycle(&mut store, dir.path()).await;
    append(&mut store, command(next, 100)).await;
    let end = store.reader().core().read(|tip| Ok(tip.end())).unwrap();
    let (path, header) = newest(dir.path());
    drop(store);
    let file = crate::disk::File::open(&path).unwrap();
    let stale = search(&file, byte_of(&header, end) as u64, DIRECTORY, |start| start < header.start).unwrap();
    assert!(stale.synced > 0 && stale.synced < header.start, "there are stale marks: {stale:?}");
    assert_eq!(
        search(&file, byte_of(&header, end) as u64, DIRECTORY, |start| start == header.start).unwrap().synced,
        0
    );
    let (store, cut) = LogStore::open(dir.path(), SMALL).unwrap();
    assert_eq!((indices(&store).await, cut), (vec![next], None));
    drop(store);
    // The next file too, under its new name with its old header.
    let next_file = next_path(dir.path());
    let stale =
        search(&crate::disk::File::open(&next_file).unwrap(), 0, DIRECTORY, |start| start < header.start).unwrap();
    assert!(stale.synced > 0, "{stale:?}");
    // A header that was torn over the old one: the file was never acknowledged.
    let mut bytes = std::fs::read(&next_file).unwrap();
    bytes[20..40].fill(0x77);
    std::fs::write(&next_file, bytes).unwrap();
    let (store, cut) = LogStore::open(dir.path(), SMALL).unwrap();
    assert_eq!(indices(&store).await, [next]);
    assert_eq!(cut.unwrap().file, next_file);
}

/// Every state between a purge and the use of the purged file, each opened, written to, and opened again.
#[tokio::test]
async fn a_crash_at_any_step_of_recycling_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open_with(dir.path(), LogOptions { spare: 0, ..SMALL });
    for index in 0..100 {
        append(&mut store, command(index, 2_000)).await;
    }
    let whole = copy(dir.path());
    store.purge(log_id(1, 90)).await.unwrap();
    // Synced; the files that the purge frees go after that, so that all may still be there.
    store.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    until("the purge", || begun(dir.path()).len() == 1).await;
    let (newest_path, header) = newest(dir.path());
    drop(store);
    let name = |sequence: u64| files::path_of(Path::new(""), sequence);
    let last = header.sequence;
    assert!(last >= 4);
    let step = |renamed: &[(u64, u64)], removed: &[u64]| {
        let state = copy(whole.path());
        std::fs::copy(&newest_path, state.path().join(newest_path.file_name().unwrap())).unwrap();
        for (from, to) in renamed {
            std::fs::rename(state.path().join(name(*from)), state.path().join(name(*to))).unwrap();
        }
        for sequence in removed {
            std::fs::remove_file(state.path().join(name(*sequence))).unwrap();
        }
        state
    };
    let all: Vec<u64> = (1..last).collect();
    let states = [
        ("nothing was given up yet", step(&[], &[])),
        ("one is recycled", step(&[(1, last + 1)], &[])),
        ("two are", step(&[(1, last + 1), (2, last + 2)], &[])),
        ("one is recycled, one removed", step(&[(1, last + 1)], &[2])),
        ("all are removed", step(&[], &all)),
        ("a later one is removed before an earlier one", step(&[], &[2])),
    ];
    for (what, state) in states {
        let mut store = open_with(state.path(), SMALL);
        assert_eq!(indices(&store).await, (91..100).collect::<Vec<_>>(), "{what}");
        for index in 100..180 {
            append(&mut store, command(index, 2_000)).await;
        }
        let killed = copy(state.path());
        drop(store);
        for dir in [state.path(), killed.path()] {
            assert_eq!(indices(&open_with(dir, SMALL)).await, (91..180).collect::<Vec<_>>(), "{what}");
        }
    }
}

/// The first group of a recycled file reaches the disk in any part, or not at all.
#[tokio::test]
async fn a_recycled_file_begun_and_torn_anywhere_was_never_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open_with(dir.path(), SMALL);
    let mut next = recycle(&mut store, dir.path()).await;
    let first = next;
    let sequence = newest(dir.path()).1.sequence;
    let mut before = copy(dir.path());
    while newest(dir.path()).1.sequence == sequence {
        before = copy(dir.path());
        store.blocking_append([command(next, 700)]).await.unwrap();
        next += 1;
    }
    let (path, header) = newest(dir.path());
    assert!(header.recycled);
    let name = path.file_name().unwrap();
    let (old, new) = (std::fs::read(before.path().join(name)).unwrap(), std::fs::read(&path).unwrap());
    let entry = place(&store, next - 1);
    let ends = byte_of(&header, entry.offset + u64::from(entry.len));
    // The file before it was synced whole; that the group's last mark is not there yet is part of it.
    let held: Vec<u64> = (first..next - 1).collect();
    let check = |bytes: Vec<u8>, what: String| {
        let held = held.clone();
        let (dir, options) = (dir.path(), SMALL);
        async move {
            let copied = copy(dir);
            std::fs::write(copied.path().join(name), bytes).unwrap();
            let mut store = open_with(copied.path(), options);
            assert_eq!(indices(&store).await, held, "{what}");
            append(&mut store, command(next - 1, 1_500)).await;
            drop(store);
            assert_eq!(indices(&open_with(copied.path(), options)).await.len(), held.len() + 1, "{what}");
        }
    };
    for at in (0..ends).step_by(41) {
        check([&new[..at], &old[at..]].concat(), format!("new up to {at}")).await;
        // The old bytes up to there, sectors written out of order.
        if at > 0 {
            let torn = [&old[..at], &new[at..ends], &old[ends..]].concat();
            check(torn, format!("new from {at}")).await;
        }
    }
}

#[tokio::test]
async fn records_larger_than_what_is_left_and_than_a_file_are_whole() {
    for spare in [0, SMALL.spare] {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open_with(dir.path(), LogOptions { spare, ..SMALL });
        // 100 KiB in files of 64; 1 MiB; up to the very last byte of a file and one more.
        let exact = usize::try_from(SMALL.file_size).unwrap() - HEADER_BYTES - 34;
        let lens = [10, 100 << 10, 10, 40 << 10, 40 << 10, 1 << 20, 10, exact - 200, exact, exact + 1, 10];
        for (index, len) in lens.into_iter().enumerate() {
            append(&mut store, command(index as u64, len)).await;
            let killed = copy(dir.path());
            let expected: Vec<_> =
                lens[..=index].iter().enumerate().map(|(at, len)| command(at as u64, *len)).collect();
            assert!(entries(&store).await == expected, "{len} bytes");
            assert!(entries(&open_with(killed.path(), SMALL)).await == expected, "{len} bytes, killed");
        }
        assert!(begun(dir.path()).len() > 6);
        // Purged, those of another size are not kept.
        store.purge(log_id(1, 9)).await.unwrap();
        store.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
        until("the purge", || begun(dir.path()).len() <= 2).await;
        until("the large ones", || {
            let later = files(dir.path()).into_iter().rev().take_while(|path| *path != newest(dir.path()).0);
            later.map(|path| std::fs::metadata(path).map_or(0, |file| file.len())).all(|len| len <= SMALL.file_size)
        })
        .await;
        drop(store);
        assert_eq!(indices(&open_with(dir.path(), SMALL)).await, [10]);
    }
}

/// More parts than the system takes in one call, some of them empty.
#[tokio::test]
async fn a_group_of_thousands_of_parts_is_written_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open_with(dir.path(), LogOptions { spare: 64 * MIB, ..OPTIONS });
    let group: Vec<_> = (0..3_000).map(|index| command(index, [0, 1, 512, 513, 900][index as usize % 5])).collect();
    store.blocking_append(group.clone()).await.unwrap();
    assert!(entries(&store).await == group);
    drop(store);
    assert!(entries(&open(dir.path())).await == group);
}

/// What a log is asked to do.
#[derive(Debug, Clone)]
enum Step {
    Append(usize, usize),
    Truncate(u64),
    Purge(u64),
    Vote,
    Reopen,
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (1..6_usize, 0..9_000_usize).prop_map(|(count, len)| Step::Append(count, len)),
        1 => (0..20_u64).prop_map(Step::Truncate),
        2 => (0..20_u64).prop_map(Step::Purge),
        1 => Just(Step::Vote),
        1 => Just(Step::Reopen),
        2 => Just(Step::Kill),
    ];
    proptest::collection::vec(step, 1..60)
}

/// What the log has to hold.
#[derive(Debug, Default)]
struct Model {
    entries: Vec<LogEntry>,
    purged: Option<u64>,
    next: u64,
    term: u64,
    vote: Option<Vote>,
}

impl Model {
    async fn check(&self, store: &mut LogStore) {
        assert!(entries(store).await == self.entries, "{:?} instead of {self:?}", indices(store).await);
        let state = store.get_log_state().await.unwrap();
        assert_eq!(state.last_purged_log_id.map(|id| id.index), self.purged);
        assert_eq!(state.last_log_id.map(|id| id.index), self.next.checked_sub(1));
        assert_eq!(store.read_vote().await.unwrap(), self.vote);
    }
}

async fn run(steps: Vec<Step>) {
    let mut dir = tempfile::tempdir().unwrap();
    let mut store = open_with(dir.path(), SMALL);
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Append(count, len) => {
                let group: Vec<_> =
                    (model.next..).take(count).map(|index| entry(model.term, index, vec![1; len])).collect();
                model.next += count as u64;
                model.entries.extend(group.clone());
                store.blocking_append(group).await.unwrap();
            }
            Step::Truncate(count) => {
                let least = model.purged.map_or(0, |purged| purged + 1);
                model.next = model.next.saturating_sub(count).max(least);
                model.entries.retain(|entry| entry.log_id.index < model.next);
                let last = model.entries.last().map(|entry| entry.log_id);
                let last = last.or_else(|| model.purged.map(|_| store_purged(&store)));
                store.truncate_after(last).await.unwrap();
                model.term += 1;
            }
            Step::Purge(count) => {
                let Some(at) = model.entries.get(usize::try_from(count).unwrap()).map(|entry| entry.log_id) else {
                    continue;
                };
                store.purge(at).await.unwrap();
                model.purged = Some(at.index);
                model.entries.retain(|entry| entry.log_id.index > at.index);
            }
            Step::Vote => {
                model.vote = Some(Vote::new(model.term + 1, 7));
                model.term += 1;
                store.save_vote(&model.vote.unwrap()).await.unwrap();
            }
            Step::Reopen => {
                drop(store);
                store = open_with(dir.path(), SMALL);
            }
            Step::Kill => {
                // A purge is not waited for; what comes after it is.
                let vote = model.vote.unwrap_or_else(|| Vote::new(0, 0));
                model.vote = Some(vote);
                store.save_vote(&vote).await.unwrap();
                let killed = copy(dir.path());
                drop(store);
                dir = killed;
                store = open_with(dir.path(), SMALL);
            }
        }
        model.check(&mut store).await;
    }
}

fn store_purged(store: &LogStore) -> crate::raft::types::LogId {
    store.reader().core().read(|tip| Ok(tip.state().purged)).unwrap().unwrap().into()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_log_holds_what_a_list_would(steps in steps()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(steps));
    }
}
