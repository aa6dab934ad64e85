#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

fn crash(disk: &Disk, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    disk.crash(&mut |below| random.random_range(0..below));
}

#[test]
fn files_are_as_on_any_disk_and_only_below_the_mount() {
    let disk = Disk::new();
    let _mounted = mount("/simulated/a", &disk);
    let dir = Path::new("/simulated/a/x");
    assert!(is_dir(Path::new("/simulated")) && !is_dir(dir));
    create_dir(dir).unwrap();
    assert_eq!(create_dir(dir).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    let mut file = OpenOptions::new().read(true).write(true).create(true).open(dir.join("f")).unwrap();
    file.write_all(b"hello world").unwrap();
    file.seek(SeekFrom::Start(6)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "world");
    file.set_len(5).unwrap();
    assert_eq!((read(&dir.join("f")).unwrap(), len(&dir.join("f")).unwrap()), (b"hello".to_vec(), 5));
    rename(&dir.join("f"), &dir.join("g")).unwrap();
    assert_eq!(read_dir(dir).unwrap(), [dir.join("g")]);
    file.try_lock().unwrap();
    assert!(matches!(File::open(dir.join("g")).unwrap().try_lock(), Err(TryLockError::WouldBlock)));
    drop(file);
    File::open(dir.join("g")).unwrap().try_lock().unwrap();
    remove_file(&dir.join("g")).unwrap();
    assert_eq!(File::open(dir.join("g")).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(File::open(env!("CARGO_MANIFEST_DIR")).is_ok(), "elsewhere is the operating system's disk");
}

#[test]
fn what_was_synced_survives_and_the_rest_by_chance() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let disk = Disk::new();
        let _mounted = mount("/simulated", &disk);
        let path = Path::new("/simulated/f");
        let mut file = File::create(path).unwrap();
        file.write_all(b"synced").unwrap();
        file.sync_all().unwrap();
        File::open("/simulated").unwrap().sync_all().unwrap();
        file.write_all(b" unsynced").unwrap();
        crash(&disk, seed);
        assert!(file.write_all(b"x").is_err() && file.sync_all().is_err(), "an open file ends with the power");
        let left = read(path).unwrap();
        assert!(left.starts_with(b"synced"), "seed {seed}");
        seen.insert(left);
    }
    assert!(seen.contains(&b"synced"[..]) && seen.contains(&b"synced unsynced"[..]) && seen.len() > 4, "{seen:?}");
}

#[test]
fn a_name_is_durable_with_its_directory() {
    let mut seen = BTreeSet::new();
    for seed in 0..50 {
        let disk = Disk::new();
        let _mounted = mount("/simulated", &disk);
        let [old, new] = ["/simulated/old", "/simulated/new"].map(Path::new);
        std::mem::drop(File::create(old).unwrap());
        File::open("/simulated").unwrap().sync_all().unwrap();
        rename(old, new).unwrap();
        crash(&disk, seed);
        let there = (is_file(old), is_file(new));
        assert!(there.0 != there.1, "a rename happens or does not");
        seen.insert(there);
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn a_disk_can_be_full_and_broken() {
    let disk = Disk::new();
    let _mounted = mount("/simulated", &disk);
    let mut file = File::create("/simulated/f").unwrap();
    disk.set_limit(Some(10));
    file.write_all(b"0123456789").unwrap();
    assert_eq!(space(Path::new("/simulated")).unwrap(), Space { free: 0, total: 10 });
    assert_eq!(file.write_all(b"x").unwrap_err().kind(), io::ErrorKind::StorageFull);
    file.rewind().unwrap();
    file.write_all(b"x").unwrap();
    disk.fail_syncs(1);
    assert!(file.sync_all().is_err());
    file.sync_all().unwrap();
    assert!(disk.rot(Path::new("f"), 0, 1));
    assert_eq!(read(Path::new("/simulated/f")).unwrap()[0], b'x' ^ 1);
}
