//! Reads the whole WAL before raft-log does, and cuts a torn tail or refuses corruption.
//!
//! raft-log itself would cut at any record that ends early, also when a flipped bit in a length made it so and
//! acknowledged entries follow. So every record is checked here first, against the sync marks: a bad record at or
//! above what the newest mark says was synced was never acknowledged. It and all after it are cut, and the log says
//! so. A bad record below is corruption and refused. When this returns, raft-log finds nothing to repair.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use raft_log::codeq::Decode;
use raft_log::{RaftLogAction, RaftLogRecord, WALRecord};
use uuid::Uuid;

use super::codec::{WalTypes, invalid};
use super::mark::SyncMark;
use super::places::Places;
use crate::error::Error;

/// Buffer of the sequential read.
const READ_BUFFER_BYTES: usize = 256 * 1024;
/// A chunk is closed at 16 MiB and may exceed that by one record.
const MAX_CHUNK_BYTES: u64 = 256 * 1024 * 1024;
/// How the record of a mark begins: raft-log's kind 5 (checkpoint), then version 1 of its state.
const CHECKPOINT_PREFIX: [u8; 5] = [0, 0, 0, 5, 1];

type Record = RaftLogRecord<WalTypes>;

/// What the WAL holds after the repair.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Where the entries are.
    pub(crate) places: Places,
    /// WAL offsets at which chunk files begin, ascending.
    pub(crate) chunks: Vec<u64>,
    /// WAL offset after the last record.
    pub(crate) end: u64,
    /// What was cut.
    pub(crate) cut: Option<Cut>,
}

/// A torn tail that was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The file in which the bad record began.
    pub(crate) file: PathBuf,
    /// Where in it.
    pub(crate) offset: u64,
    /// Bytes removed, later files included.
    pub(crate) bytes: u64,
}

struct Chunk {
    start: u64,
    path: PathBuf,
    size: u64,
}

struct Bad {
    /// Which chunk.
    at: usize,
    /// Where in its file.
    offset: u64,
    why: io::Error,
}

/// Checks the chunk files of `dir`, whose marks name `directory`; cuts a torn tail; syncs the newest file.
pub(crate) fn repair(dir: &Path, directory: Uuid) -> Result<Scan, Error> {
    let failed = |error: io::Error| {
        Error::internal(format!("cannot read the write-ahead log in {}", dir.display())).with_source(error)
    };
    let chunks = list_chunks(dir).map_err(failed)?;
    let mut scan = Scan { end: chunks.first().map_or(0, |chunk| chunk.start), ..Scan::default() };
    let mut synced = 0;
    let mut bad = None;
    for (at, chunk) in chunks.iter().enumerate() {
        // A file is begun before the end of the last one is synced: that end may be gone, and without a torn record.
        if at > 0 && chunk.start > scan.end {
            let why =
                invalid(format!("the next file begins at {} of the log, this one ends at {}", chunk.start, scan.end));
            bad = Some(Bad { at: at - 1, offset: scan.end - chunks[at - 1].start, why });
            break;
        }
        if chunk.start != scan.end {
            return Err(corrupt(
                chunk,
                0,
                &format!("the file before it ends at {} of the log, not at {}", scan.end, chunk.start),
            ));
        }
        bad = read_chunk(chunk, at, &mut scan, &mut synced).map_err(failed)?;
        if bad.is_some() {
            break;
        }
    }
    if let Some(bad) = bad {
        let chunk = &chunks[bad.at];
        let position = chunk.start + bad.offset;
        for later in &chunks[bad.at..] {
            synced = synced.max(synced_after(later, position, directory).map_err(failed)?);
        }
        // A log whose older files were purged had its first record synced before they were.
        let lost_beginning = bad.at == 0 && bad.offset == 0 && chunk.start > 0;
        if position < synced || lost_beginning {
            return Err(corrupt(chunk, bad.offset, &format!("{}; the log was synced up to {synced}", bad.why)));
        }
        scan.cut = Some(cut(dir, &chunks[bad.at..], &bad).map_err(failed)?);
    }
    if let Some(last) = scan.chunks.last() {
        // After a kill the page cache may still hold what the disk does not.
        let path = dir.join(raft_log::chunked_wal::Config::chunk_file_name(raft_log::ChunkId(*last)));
        File::open(path).and_then(|file| file.sync_all()).map_err(failed)?;
    }
    Ok(scan)
}

fn corrupt(chunk: &Chunk, offset: u64, why: &str) -> Error {
    Error::corrupt(format!(
        "the write-ahead log is damaged where it was acknowledged: {} at byte {offset} ({why}); \
         nothing was changed; replace the node, or see docs/operations.md, a damaged file",
        chunk.path.display()
    ))
    .with_text("file", chunk.path.display().to_string())
    .with_number("offset", offset)
}

fn list_chunks(dir: &Path) -> io::Result<Vec<Chunk>> {
    let mut chunks = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Ok(start) = raft_log::chunked_wal::Config::parse_chunk_file_name(&name.to_string_lossy()) else {
            continue;
        };
        let size = entry.metadata()?.len();
        if size > MAX_CHUNK_BYTES {
            return Err(invalid(format!("{} has {size} bytes", entry.path().display())));
        }
        chunks.push(Chunk { start, path: entry.path(), size });
    }
    chunks.sort_by_key(|chunk| chunk.start);
    Ok(chunks)
}

/// Reads records until the end of the file or a bad one.
fn read_chunk(chunk: &Chunk, at: usize, scan: &mut Scan, synced: &mut u64) -> io::Result<Option<Bad>> {
    let file = BufReader::with_capacity(READ_BUFFER_BYTES, File::open(&chunk.path)?);
    let mut reader = Counting { inner: file, read: 0, failed: None };
    loop {
        let offset = reader.read;
        // A file without its first record is one that a crash left behind when it was made.
        if offset == chunk.size && offset > 0 {
            return Ok(None);
        }
        let decoded = Record::decode(&mut reader);
        if let Some(error) = reader.failed.take() {
            return Err(error);
        }
        match decoded {
            Ok(record) => {
                if offset == 0 {
                    // The sync of a file comes before the first record of the next.
                    scan.chunks.push(chunk.start);
                    *synced = (*synced).max(chunk.start);
                }
                scan.end = chunk.start + reader.read;
                apply(scan, synced, &record, chunk.start + offset);
            }
            Err(why) => return Ok(Some(Bad { at, offset, why })),
        }
    }
}

fn apply(scan: &mut Scan, synced: &mut u64, record: &Record, offset: u64) {
    match record {
        WALRecord::Action(RaftLogAction::Append(id, _)) => {
            let len = u32::try_from(scan.end - offset).unwrap_or(u32::MAX);
            scan.places.push(*id, offset, len);
        }
        WALRecord::Action(RaftLogAction::TruncateAfter(id)) => {
            scan.places.truncate(id.map_or(0, |id| id.index + 1));
        }
        WALRecord::Action(RaftLogAction::PurgeUpto(id)) => scan.places.purge(id.index),
        WALRecord::Action(RaftLogAction::SaveVote(_) | RaftLogAction::Commit(_)) => {}
        WALRecord::Checkpoint(state) => {
            if let Some(mark) = &state.user_data {
                *synced = (*synced).max(mark.synced);
            }
        }
    }
}

/// What the records of `chunk` above WAL offset `above` say was synced; 0 if they say nothing.
fn synced_after(chunk: &Chunk, above: u64, directory: Uuid) -> io::Result<u64> {
    let bytes = std::fs::read(&chunk.path)?;
    let from = usize::try_from(above.saturating_sub(chunk.start)).unwrap_or(usize::MAX).min(bytes.len());
    let mut synced = 0;
    for at in from..bytes.len() {
        if !bytes[at..].starts_with(&CHECKPOINT_PREFIX) {
            continue;
        }
        let Ok(WALRecord::Checkpoint(state)) = Record::decode(&bytes[at..]) else { continue };
        if at == 0 {
            synced = synced.max(chunk.start);
        }
        let position = chunk.start + at as u64;
        let said = |mark: &SyncMark| mark.directory == directory && (mark.position == position || at == 0);
        if let Some(mark) = state.user_data.filter(said) {
            synced = synced.max(mark.synced);
        }
    }
    Ok(synced)
}

/// Removes all from the bad record on; the later files first, so that a crash in between leaves the same to cut.
fn cut(dir: &Path, chunks: &[Chunk], bad: &Bad) -> io::Result<Cut> {
    let Some((first, later)) = chunks.split_first() else {
        return Err(invalid("no file to cut".to_owned()));
    };
    let bytes = first.size - bad.offset + later.iter().map(|chunk| chunk.size).sum::<u64>();
    for chunk in later.iter().rev() {
        std::fs::remove_file(&chunk.path)?;
    }
    sync_dir(dir)?;
    crate::failpoint::hit("repair.later_files").map_err(io::Error::other)?;
    if bad.offset == 0 {
        std::fs::remove_file(&first.path)?;
        sync_dir(dir)?;
    } else {
        let file = OpenOptions::new().write(true).open(&first.path)?;
        file.set_len(bad.offset)?;
        file.sync_all()?;
    }
    crate::failpoint::hit("repair.cut").map_err(io::Error::other)?;
    tracing::warn!(
        file = %first.path.display(),
        offset = bad.offset,
        bytes,
        reason = %bad.why,
        "cut a torn tail of the write-ahead log: it was never acknowledged"
    );
    Ok(Cut { file: first.path.clone(), offset: bad.offset, bytes })
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Counts what was read, and tells errors of the disk from errors of the content.
struct Counting<R> {
    inner: R,
    read: u64,
    failed: Option<io::Error>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(count) => {
                self.read += count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.failed = Some(io::Error::new(error.kind(), error.to_string()));
                Err(error)
            }
        }
    }
}
