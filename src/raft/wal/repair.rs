//! Opening a log: which files are it, whether they are whole, cutting a torn tail or refusing corruption.
//!
//! The newest run of consecutive files that were begun is the log; older files have to be ones that were purged. Every
//! frame of the run is verified, once. The first bad one in the newest file is where the log ends: if all that any mark
//! says was synced lies before it, it was never acknowledged, and it and all after it are cut. Otherwise, and in any other
//! file, it is corruption, and nothing is changed: the header of the next file says that the file before it was synced.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::codec::invalid;
use super::files::{self, FoundFile, unreadable};
use super::frame::{HEAD_BYTES, Head};
use super::header::{Beginning, FileHeader, HEADER_BYTES};
use super::mark;
use super::places::Places;
use super::queue::Span;
use super::scan::{Scan, Stopped};
use super::state::LogState;
use crate::disk::{self, File, OpenOptions};
use crate::error::Error;
use crate::raft::files::sync_dir;

/// What the log holds.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub(super) places: Places,
    pub(super) state: LogState,
    /// The files, ascending.
    pub(super) files: VecDeque<Span>,
    /// WAL offset after the last frame.
    pub(super) end: u64,
    /// The checksum of the last frame.
    pub(super) chain: u32,
    /// What the newest mark says.
    pub(super) marked: u64,
    /// Files that were prepared and not begun: sequence, bytes, and whether they hold anything but zeros.
    pub(super) spares: Vec<(u64, u64, bool)>,
    /// Files from before the log that were purged and not removed.
    pub(super) left_over: Vec<u64>,
    /// What was cut.
    pub(super) cut: Option<Cut>,
}

/// A torn tail that was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The file in which the bad frame began.
    pub(crate) file: PathBuf,
    /// Where in it.
    pub(crate) offset: u64,
    /// Bytes removed, later files included.
    pub(crate) bytes: u64,
}

/// A file of the run.
#[derive(Clone, Copy)]
struct Begun<'a> {
    /// Among all files.
    index: usize,
    file: &'a FoundFile,
    header: &'a FileHeader,
}

impl Begun<'_> {
    /// Where WAL offset `offset` is in the file.
    fn place(&self, offset: u64) -> u64 {
        HEADER_BYTES as u64 + offset - self.header.start
    }
}

/// What lies behind the end of the log.
#[derive(Debug, Default)]
struct Behind<'a> {
    /// WAL offset below which all was synced, by the marks there.
    synced: u64,
    /// The later file that says so, unless it is the newest one.
    says: Option<&'a FoundFile>,
    /// Bytes in the newest file, from the end of the log on, that a torn group left.
    torn: u64,
}

/// Opens the log in `dir`, whose files name `directory`: cuts a torn tail, and makes sure that what was read is on disk.
///
/// # Errors
/// `corrupt` if acknowledged bytes are damaged, and nothing is changed; `internal` if the directory cannot be used.
pub(super) fn open(dir: &Path, directory: Uuid) -> Result<Recovered, Error> {
    let found = files::list(dir, directory)?;
    let run = newest_run(&found);
    let (Some(first), Some(newest)) = (run.front(), run.back()) else { return without_files(dir, directory, &found) };
    let (older, later) = (&found[..first.index], &found[newest.index + 1..]);
    let (scan, why) = read_run(&run, first)?;
    let at = newest.place(scan.end);
    let behind = look_behind(newest, later, at, directory)?;
    let synced = scan.marked.max(behind.synced);
    if scan.end < synced {
        let (file, at) = behind.says.map_or((newest.file, at), |later| (later, 0));
        return Err(corrupt(&file.path, at, &format!("{why}; the log was synced up to {synced}")));
    }
    if scan.before > scan.state.purged.map(|purged| purged.index) {
        // Entries that were not purged are in a file that is not there, or not readable as one of the log.
        let missing = files::path_of(dir, first.header.sequence.saturating_sub(1));
        return Err(corrupt(&missing, 0, "the file is missing or damaged, and holds entries that were not purged"));
    }
    let cut = cut(dir, newest, later, (at, &behind, &why)).map_err(|error| unreadable(dir, error))?;
    // After a kill the page cache may hold what the disk does not, names included.
    File::open(&newest.file.path)
        .and_then(|file| file.sync_all())
        .and_then(|()| sync_dir(dir))
        .map_err(|error| unreadable(dir, error))?;
    Ok(Recovered {
        files: run.iter().map(|begun| Span { sequence: begun.header.sequence, start: begun.header.start }).collect(),
        end: scan.end,
        chain: scan.chain,
        marked: scan.marked,
        places: scan.places,
        state: scan.state,
        spares: spares(later),
        left_over: older.iter().map(|file| file.sequence).collect(),
        cut,
    })
}

/// The newest files that were begun and follow each other.
fn newest_run(found: &[FoundFile]) -> VecDeque<Begun<'_>> {
    let mut run: VecDeque<Begun<'_>> = VecDeque::new();
    for (index, file) in found.iter().enumerate().rev() {
        match (&file.beginning, run.front()) {
            (Beginning::Begun(_), Some(next)) if next.file.sequence != file.sequence + 1 => break,
            (Beginning::Begun(header), _) => run.push_front(Begun { index, file, header }),
            (_, Some(_)) => break,
            (_, None) => {}
        }
    }
    run
}

/// Reads all files of the run; what they come to, and why they end where they do.
fn read_run(run: &VecDeque<Begun<'_>>, first: &Begun<'_>) -> Result<(Scan, io::Error), Error> {
    let mut scan = Scan::new(first.header);
    let mut ended = invalid("the file ends".to_owned());
    for (begun, next) in run.iter().zip(run.iter().skip(1).map(Some).chain([None])) {
        scan.follows(begun.header).map_err(|why| corrupt(&begun.file.path, 0, &why.to_string()))?;
        match (scan.read(begun.file, begun.header, next.map(|next| next.header.start)), next) {
            (Ok(()), _) => {}
            (Err(Stopped::Unreadable(error)), _) => return Err(unreadable(&begun.file.path, error)),
            (Err(Stopped::Bad(why)), None) => ended = why,
            (Err(Stopped::Bad(why)), Some(_)) => {
                let why = format!("{why}; a file was begun after it");
                return Err(corrupt(&begun.file.path, begun.place(scan.end), &why));
            }
        }
    }
    Ok((scan, ended))
}

/// Searches what is behind the end of the log, at byte `at` of the newest file, for marks, and tells a torn tail from bytes
/// that were there before.
fn look_behind<'a>(newest: &Begun<'_>, later: &'a [FoundFile], at: u64, directory: Uuid) -> Result<Behind<'a>, Error> {
    let begins = newest.header;
    let failed = |error| unreadable(&newest.file.path, error);
    let file = File::open(&newest.file.path).map_err(failed)?;
    let marks = mark::search(&file, at, directory, |start| start == begins.start).map_err(failed)?;
    let mut behind = Behind { synced: marks.synced, ..Behind::default() };
    if !begins.recycled || is_frame(&file, at, begins).map_err(failed)? {
        behind.torn = marks.used.saturating_sub(at);
    }
    for file in later {
        let is_next = file.sequence == begins.sequence + 1;
        if !is_next && !matches!(file.beginning, Beginning::Damaged(_)) {
            continue;
        }
        // It may have lost its header. What an earlier use left in it would have begun at or before the newest file.
        let marks = File::open(&file.path)
            .and_then(|file| mark::search(&file, 0, directory, |start| start > begins.start))
            .map_err(|error| unreadable(&file.path, error))?;
        if marks.synced > behind.synced {
            (behind.synced, behind.says) = (marks.synced, Some(file));
        }
    }
    Ok(behind)
}

/// Whether a frame was begun at byte `at`: an earlier use of the file had none that says to be at this WAL offset.
fn is_frame(file: &File, at: u64, begins: &FileHeader) -> io::Result<bool> {
    let mut bytes = [0; HEAD_BYTES];
    let read = mark::read_up_to(file, &mut bytes, at)?;
    let offset = begins.start + at - HEADER_BYTES as u64;
    Ok(read == HEAD_BYTES && Head::decode(&bytes)?.offset == offset)
}

/// What a directory holds in which no file was begun: a new log, or one whose first group was torn.
fn without_files(dir: &Path, directory: Uuid, found: &[FoundFile]) -> Result<Recovered, Error> {
    let mut cut = None;
    for file in found {
        let failed = |error| unreadable(&file.path, error);
        // Nothing is prepared before the first file's header is on disk.
        if file.sequence != 1 {
            return Err(corrupt(&file.path, 0, "no file of the log has a header, and this one is not the first"));
        }
        let marks = File::open(&file.path).and_then(|file| mark::search(&file, 0, directory, |_| true));
        let marks = marks.map_err(failed)?;
        if marks.synced > 0 {
            return Err(corrupt(
                &file.path,
                0,
                &format!("it has no header; the log was synced up to {}", marks.synced),
            ));
        }
        if let Beginning::Damaged(why) = &file.beginning {
            remove(dir, &[file]).map_err(failed)?;
            cut = Some(told(&file.path, 0, marks.used, why));
        }
    }
    sync_dir(dir).map_err(|error| unreadable(dir, error))?;
    Ok(Recovered { cut, ..Recovered::default() })
}

/// Removes what a torn group left: later files with a torn header first, so that a crash in between leaves the same to cut.
fn cut(
    dir: &Path,
    newest: &Begun<'_>,
    later: &[FoundFile],
    (at, behind, why): (u64, &Behind<'_>, &io::Error),
) -> io::Result<Option<Cut>> {
    let damaged = |file: &&FoundFile| matches!(file.beginning, Beginning::Damaged(_));
    let torn: Vec<&FoundFile> = later.iter().filter(damaged).collect();
    let bytes = torn.iter().map(|file| file.len).sum::<u64>() + behind.torn;
    if bytes == 0 && torn.is_empty() {
        return Ok(None);
    }
    remove(dir, &torn)?;
    if behind.torn > 0 {
        let file = OpenOptions::new().write(true).open(&newest.file.path)?;
        file.set_len(at)?;
        file.sync_all()?;
    }
    crate::failpoint::hit("repair.cut").map_err(io::Error::other)?;
    Ok(Some(match torn.first().map(|file| (file, &file.beginning)) {
        Some((file, Beginning::Damaged(why))) if behind.torn == 0 => told(&file.path, 0, bytes, why),
        _ => told(&newest.file.path, at, bytes, why),
    }))
}

/// Removes files that were torn when they were begun, the last one first.
fn remove(dir: &Path, files: &[&FoundFile]) -> io::Result<()> {
    for file in files.iter().rev() {
        disk::remove_file(&file.path)?;
    }
    sync_dir(dir)?;
    crate::failpoint::hit("repair.later_files").map_err(io::Error::other)
}

fn told(file: &Path, offset: u64, bytes: u64, why: &io::Error) -> Cut {
    tracing::warn!(
        file = %file.display(),
        offset,
        bytes,
        reason = %why,
        "cut a torn tail of the write-ahead log: it was never acknowledged"
    );
    Cut { file: file.to_owned(), offset, bytes }
}

/// The later files that can be taken as they are.
fn spares(later: &[FoundFile]) -> Vec<(u64, u64, bool)> {
    let spare = |file: &FoundFile| match file.beginning {
        Beginning::Blank => Some((file.sequence, file.len, false)),
        Beginning::Recycled => Some((file.sequence, file.len, true)),
        Beginning::Begun(_) | Beginning::Damaged(_) => None,
    };
    later.iter().filter_map(spare).collect()
}

fn corrupt(path: &Path, offset: u64, why: &str) -> Error {
    Error::corrupt(format!(
        "the write-ahead log is damaged where it was acknowledged: {} at byte {offset} ({why}); \
         nothing was changed; replace the node, or see docs/operations.md, a damaged file",
        path.display()
    ))
    .with_text("file", path.display().to_string())
    .with_number("offset", offset)
}
