//! Looking into the files of the write-ahead log, as far as tests have to: where it ends. The layout is in `docs/formats.md`.

use std::path::{Path, PathBuf};

use super::server::files_under;

const HEADER: usize = 4096;
const HEAD: usize = 17;
const ENTRY: u8 = 1;
const MARK: u8 = 6;

/// The newest file of a log and where its frames end.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) path: PathBuf,
    /// In the file.
    pub(crate) at: usize,
    /// WAL offset.
    pub(crate) offset: u64,
    /// A mark says that the last entry was synced.
    pub(crate) is_marked: bool,
}

/// The directory of the log.
pub(crate) fn log_dir(data: &Path) -> PathBuf {
    data.join("wal/shard-00000/log")
}

/// The logs of all shards.
pub(crate) fn log_dirs(data: &Path) -> Vec<PathBuf> {
    let shards = std::fs::read_dir(data.join("wal")).unwrap().map(|entry| entry.unwrap().path().join("log"));
    let mut shards: Vec<PathBuf> = shards.filter(|log| log.is_dir()).collect();
    shards.sort();
    shards
}

/// The files of the log of a server's data directory, those that are only kept ready included.
pub(crate) fn files(data: &Path) -> Vec<PathBuf> {
    files_of(&log_dir(data))
}

/// The same of a log by its directory.
pub(crate) fn files_of(log: &Path) -> Vec<PathBuf> {
    let files = files_under(log);
    files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "wal")).collect()
}

/// The file after the newest one, whether it is there or not.
pub(crate) fn next_file(end: &End) -> PathBuf {
    let sequence: u64 = end.path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    end.path.with_file_name(format!("{:010}.wal", sequence + 1))
}

/// Where the log ends; checksums are not looked at.
pub(crate) fn end(data: &Path) -> End {
    end_of(&log_dir(data))
}

/// The same of a log by its directory.
pub(crate) fn end_of(log: &Path) -> End {
    let begun = |path: &PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        let name: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        (bytes.len() >= HEADER && bytes.starts_with(b"TLGWALOG") && u64_at(&bytes, 32) == name).then_some(bytes)
    };
    let (path, bytes) = files_of(log)
        .into_iter()
        .rev()
        .find_map(|path| begun(&path).map(|bytes| (path, bytes)))
        .expect("a file of the log");
    let (mut at, mut offset, mut is_marked, mut entry) = (HEADER, u64_at(&bytes, 40), true, 0);
    while bytes.len() >= at + HEAD + 40 && (1..=7).contains(&bytes[at + 4]) && u64_at(&bytes, at + 5) == offset {
        let frame = HEAD + u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        match bytes[at + 4] {
            ENTRY => (entry, is_marked) = (offset + frame as u64, false),
            MARK => is_marked |= u64_at(&bytes, at + HEAD + 32) >= entry,
            _ => {}
        }
        (at, offset) = (at + frame, offset + frame as u64);
    }
    End { path, at, offset, is_marked }
}

/// A frame for WAL offset `offset` that was begun and never was whole.
pub(crate) fn torn_frame(offset: u64) -> Vec<u8> {
    let mut bytes = 60_u32.to_le_bytes().to_vec();
    bytes.push(1);
    bytes.extend(offset.to_le_bytes());
    bytes.extend([0xa5; 64]);
    bytes
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}
