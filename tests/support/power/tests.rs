//! The model and the library by themselves.

use super::*;

fn open(path: &str, fd: i32) -> Op {
    Op::Open { path: path.to_owned(), fd, creates: true, truncates: false }
}

fn open_dir(path: &str, fd: i32) -> Op {
    Op::Open { path: path.to_owned(), fd, creates: false, truncates: false }
}

fn write(fd: i32, offset: u64, bytes: &[u8]) -> Op {
    Op::Write { fd, offset, bytes: bytes.to_vec() }
}

fn begin(fd: i32) -> Op {
    Op::SyncBegin { fd, number: i64::from(fd) }
}

fn end(fd: i32) -> Op {
    Op::SyncEnd { number: i64::from(fd) }
}

fn rename(from: &str, to: &str) -> Op {
    Op::Rename { from: from.to_owned(), to: to.to_owned() }
}

/// What 300 cuts after `ops` leave of a file: its contents, or `None` where it is absent.
fn outcomes(ops: &[Op], path: &str) -> std::collections::BTreeSet<Option<Vec<u8>>> {
    let empty = tempfile::tempdir().unwrap();
    let mut disk = Disk::of(empty.path());
    ops.iter().for_each(|op| disk.apply(op));
    let after = |seed| {
        let dir = tempfile::tempdir().unwrap();
        disk.cut(&mut StdRng::seed_from_u64(seed)).write_to(dir.path());
        std::fs::read(dir.path().join(path)).ok()
    };
    (0..300).map(after).collect()
}

fn found(contents: &[Option<&[u8]>]) -> std::collections::BTreeSet<Option<Vec<u8>>> {
    contents.iter().map(|content| content.map(<[u8]>::to_vec)).collect()
}

#[test]
fn what_was_synced_with_its_name_survives_every_cut() {
    let ops = [open("a", 3), write(3, 0, b"synced"), begin(3), end(3), open_dir("", 4), begin(4), end(4)];
    assert_eq!(outcomes(&ops, "a"), found(&[Some(b"synced")]));
}

#[test]
fn a_synced_file_is_lost_with_its_name() {
    let ops = [open("a", 3), write(3, 0, b"synced"), begin(3), end(3)];
    assert_eq!(outcomes(&ops, "a"), found(&[None, Some(b"synced")]));
}

#[test]
fn unsynced_bytes_are_there_torn_zero_or_absent() {
    let mut ops = vec![open("a", 3), write(3, 0, b"old"), begin(3), end(3), open_dir("", 4), begin(4), end(4)];
    ops.extend([write(3, 3, b"xy"), write(3, 5, b"z")]);
    let found = outcomes(&ops, "a");
    for content in ["old", "oldx", "oldxy", "oldxyz", "old\0\0z", "oldxy\0", "old\0\0\0"] {
        assert!(found.contains(&Some(content.as_bytes().to_vec())), "{content:?}: {found:?}");
    }
    assert!(found.iter().flatten().all(|content| content.starts_with(b"old")), "{found:?}");
}

#[test]
fn a_sync_covers_what_was_written_before_it_began_and_only_once_it_has_ended() {
    let named = [open("a", 3), open_dir("", 4), begin(4), end(4)];
    let ops = [&named[..], &[write(3, 0, b"1"), begin(3), write(3, 1, b"2"), end(3)]].concat();
    assert!(outcomes(&ops, "a").is_superset(&found(&[Some(b"1"), Some(b"12")])));
    assert!(!outcomes(&ops, "a").contains(&Some(Vec::new())));
    let ops = [&named[..], &[write(3, 0, b"1"), begin(3)]].concat();
    assert!(outcomes(&ops, "a").contains(&Some(Vec::new())));
}

#[test]
fn a_rename_leaves_the_old_content_or_the_new() {
    let old = [open("a", 3), write(3, 0, b"old"), begin(3), end(3), open_dir("", 4), begin(4), end(4)];
    let new = [open("b", 5), write(5, 0, b"new"), begin(5), end(5), rename("b", "a")];
    let ops = [&old[..], &new].concat();
    assert_eq!(outcomes(&ops, "a"), found(&[Some(b"old"), Some(b"new")]));
    assert_eq!(outcomes(&[&ops[..], &[begin(4), end(4)]].concat(), "a"), found(&[Some(b"new")]));
    // Renamed before it was synced: the name may come without the bytes.
    let hasty = [open("b", 5), write(5, 0, b"new"), rename("b", "a"), begin(4), end(4)];
    assert!(outcomes(&[&old[..], &hasty].concat(), "a").contains(&Some(Vec::new())));
}

#[test]
fn a_new_directory_is_lost_with_all_that_is_in_it() {
    let made = [Op::MakeDir("d".to_owned()), open("d/a", 3), write(3, 0, b"x"), begin(3), end(3)];
    let inner = [open_dir("d", 4), begin(4), end(4)];
    let outer = [open_dir("", 5), begin(5), end(5)];
    assert_eq!(outcomes(&[&made[..], &inner].concat(), "d/a"), found(&[None, Some(b"x")]));
    assert_eq!(outcomes(&[&made[..], &inner, &outer].concat(), "d/a"), found(&[Some(b"x")]));
}

#[test]
fn what_a_process_did_not_sync_is_at_stake_after_the_next_one_has_begun() {
    let ops = [open("a", 3), write(3, 0, b"x"), Op::Start, open_dir("a", 3), open_dir("", 4), begin(4), end(4)];
    assert!(outcomes(&ops, "a").contains(&Some(Vec::new())));
}

fn run(power: &Power, script: &str) {
    let ran =
        Command::new("sh").arg("-c").arg(script).envs(power.environment()).current_dir(power.dir().path()).output();
    let ran = ran.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn the_journal_tells_what_a_process_did() {
    let mut power = Power::new(1);
    run(&power, "mkdir d && cp /proc/self/limits d/a && ln d/a d/b && mv d/a d/c && sync d/c d && rm d/b");
    power.ended();
    run(&power, "rm d/c && mkdir d/e && rmdir d/e");
    power.ended();
    assert_eq!(std::fs::read_dir(power.dir().path().join("d")).unwrap().count(), 0);
}

#[test]
#[should_panic(expected = "something changed a file unseen")]
fn a_change_that_goes_by_unseen_is_noticed() {
    let mut power = Power::new(1);
    run(&power, "cp /proc/self/limits a");
    let file = OpenOptions::new().write(true).open(power.dir().path().join("a")).unwrap();
    file.write_all_at(b"unseen", 3).unwrap();
    power.ended();
}

#[test]
fn a_process_ends_before_the_operation_it_is_told() {
    for operations in 1..6 {
        let mut power = Power::new(1);
        power.switch().kill_after(operations);
        let mut command = Command::new("mkdir");
        command.args(["a", "b", "c", "d", "e", "f"]).envs(power.environment()).current_dir(power.dir().path());
        assert!(!command.status().unwrap().success());
        assert_eq!(std::fs::read_dir(power.dir().path()).unwrap().count(), operations as usize - 1);
        power.ended();
    }
}
