//! The files of a log: their names, which there are, and filling them with zeros.

use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::codec::invalid;
use super::header::{Beginning, beginning};
use crate::disk::{self, File};
use crate::error::Error;

const ENDING: &str = ".wal";
/// A file is ended at `wal.file_size`, at most 128 MiB, or holds one record.
const MAX_FILE_BYTES: u64 = 256 * 1024 * 1024;
/// Zeros written between two syncs: a sync of the log that meets one of these waits for no more.
const FILL_BYTES: usize = 1024 * 1024;

/// The path of file `sequence`.
pub(super) fn path_of(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:010}{ENDING}"))
}

/// A file that was found.
#[derive(Debug)]
pub(super) struct FoundFile {
    pub(super) sequence: u64,
    pub(super) path: PathBuf,
    pub(super) len: u64,
    pub(super) beginning: Beginning,
}

/// The files in `dir`, ascending.
///
/// # Errors
/// `corrupt` for a file that is whole and not one that this build may touch, `internal` if one cannot be read.
pub(super) fn list(dir: &Path, directory: Uuid) -> Result<Vec<FoundFile>, Error> {
    let mut files = Vec::new();
    for path in disk::read_dir(dir).map_err(|error| unreadable(dir, error))? {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // The crate that kept the log before named its files by their offset.
        if name.starts_with("r-") && name.ends_with(ENDING) {
            return Err(Error::corrupt(format!(
                "{} is of the log's first format, which this build does not read; move the write-ahead log's directory away \
                 and start from the bucket with --restore",
                path.display()
            )));
        }
        let Some(sequence) = sequence_of(&name) else { continue };
        files.push(examine(path, sequence, directory)?);
    }
    files.sort_by_key(|file| file.sequence);
    Ok(files)
}

fn sequence_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(ENDING)?;
    let sequence = digits.parse().ok()?;
    (format!("{sequence:010}") == digits && sequence > 0).then_some(sequence)
}

fn examine(path: PathBuf, sequence: u64, directory: Uuid) -> Result<FoundFile, Error> {
    let opened = File::open(&path).and_then(|file| file.len().map(|len| (file, len)));
    let (file, len) = opened.map_err(|error| unreadable(&path, error))?;
    let refused = |why: String| {
        Error::corrupt(format!("{} is not of this write-ahead log: {why}", path.display()))
            .with_text("file", path.display().to_string())
    };
    if len > MAX_FILE_BYTES {
        return Err(refused(format!("it has {len} bytes")));
    }
    match beginning(&file, sequence, directory) {
        Ok(beginning) => Ok(FoundFile { sequence, path, len, beginning }),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(refused(error.to_string())),
        Err(error) => Err(unreadable(&path, error)),
    }
}

/// What `path` cannot be read for.
pub(super) fn unreadable(path: &Path, error: io::Error) -> Error {
    Error::internal(format!("cannot read the write-ahead log in {}", path.display())).with_source(error)
}

/// Writes zeros behind the end of `file`, of `from` bytes, until it has `upto`, and syncs them; ends early once `stop` says so.
/// How long the file is then.
pub(super) fn fill(file: &mut File, from: u64, upto: u64, stop: impl Fn() -> bool) -> io::Result<u64> {
    let zeros = vec![0; FILL_BYTES.min(usize::try_from(upto.saturating_sub(from)).map_err(invalid_len)?)];
    let mut at = file.seek(SeekFrom::Start(from))?;
    while at < upto && !stop() {
        let step = zeros.len().min(usize::try_from(upto - at).map_err(invalid_len)?);
        file.write_all(&zeros[..step])?;
        file.sync_data()?;
        at += step as u64;
    }
    Ok(at)
}

fn invalid_len(_: std::num::TryFromIntError) -> io::Error {
    invalid("a file of the log is too long for this machine".to_owned())
}

/// Whether `dir`'s disk has room to spare: what is prepared there must not be what the next append lacks.
pub(super) fn has_room(dir: &Path, bytes: u64) -> bool {
    disk::space(dir).is_ok_and(|space| space.free >= bytes)
}
