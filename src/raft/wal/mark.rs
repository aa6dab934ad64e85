//! Sync marks: what the log says of itself about what had reached the disk.
//!
//! A checksum does not tell a torn write that was never acknowledged from bytes that rotted after they were. A mark does:
//! written at the start of a write group, and again without a sync shortly after the last one, it says that everything
//! below a WAL offset was synced. A bad frame at or above the newest mark is a torn tail and is cut; one below it is
//! corruption. So that marks are found behind a bad frame too, where the chain of checksums is broken, they have a magic
//! and a checksum of their own.
//!
//! What a mark says stays true: nothing below what was synced ever changes, and what is cut lies above. So marks in what
//! was cut do no harm. Those that an earlier use of a recycled file left behind name offsets below the file's beginning.

use std::io;

use uuid::Uuid;

use super::codec::{Fields, invalid};
use super::frame::HEAD_BYTES;
use super::header::HEADER_BYTES;
use crate::disk::File;

const MAGIC: &[u8; 8] = b"TLGSYNCD";
/// Bytes of a mark.
pub(super) const MARK_BYTES: usize = 44;
/// How much of a file is searched at once.
const STEP_BYTES: usize = 256 * 1024;
const ZEROS: [u8; 4096] = [0; 4096];

/// A statement of the log of `directory`, made at WAL offset `position`: all below `synced` was on disk.
///
/// Directory and position are there so that no bytes which a client sent can pass for a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SyncMark {
    pub(super) directory: Uuid,
    pub(super) position: u64,
    pub(super) synced: u64,
}

impl SyncMark {
    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        let begin = into.len();
        into.extend(MAGIC);
        into.extend(self.directory.as_bytes());
        into.extend(self.position.to_le_bytes());
        into.extend(self.synced.to_le_bytes());
        let crc = crc32c::crc32c(&into[begin..]);
        into.extend(crc.to_le_bytes());
    }

    pub(super) fn decode(fields: &mut Fields<'_>) -> io::Result<Self> {
        let bytes = fields.array::<MARK_BYTES>()?;
        let mut fields = Fields(bytes);
        if fields.array()? != MAGIC {
            return Err(invalid("a sync mark without its magic".to_owned()));
        }
        let mark = Self { directory: fields.uuid()?, position: fields.u64()?, synced: fields.u64()? };
        if fields.u32()? != crc32c::crc32c(&bytes[..MARK_BYTES - 4]) {
            return Err(invalid("the checksum of a sync mark does not match".to_owned()));
        }
        Ok(mark)
    }
}

/// What a search found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Found {
    /// The largest `synced` of the marks.
    pub(super) synced: u64,
    /// The end of the last byte in the file that is not zero; 0 if there is none.
    pub(super) used: u64,
}

/// Searches `file` from byte `from` to its end for marks of `directory`. A mark counts if `begins` takes the WAL offset
/// at which the file would begin for the mark to be where it says that it is.
pub(super) fn search(file: &File, from: u64, directory: Uuid, begins: impl Fn(u64) -> bool) -> io::Result<Found> {
    let mut found = Found::default();
    let mut window = Vec::new();
    // Where in the file the window begins.
    let mut at = from;
    loop {
        let kept = window.len();
        window.resize(kept + STEP_BYTES, 0);
        let read = read_up_to(file, &mut window[kept..], at + kept as u64)?;
        window.truncate(kept + read);
        if let Some(last) = last_used(&window) {
            found.used = at + last as u64 + 1;
            search_window(&window, |offset, mark| {
                let place = at + offset as u64;
                let start = (mark.position + (HEAD_BYTES + HEADER_BYTES) as u64).checked_sub(place);
                if mark.directory == directory && start.is_some_and(&begins) {
                    found.synced = found.synced.max(mark.synced);
                }
            });
        }
        if read == 0 {
            return Ok(found);
        }
        // A mark may begin in this step and end in the next.
        let drop = window.len().saturating_sub(MARK_BYTES - 1);
        window.drain(..drop);
        at += drop as u64;
    }
}

/// Calls `see` with every mark and where it begins.
fn search_window(window: &[u8], mut see: impl FnMut(usize, SyncMark)) {
    let mut from = 0;
    while let Some(next) = window[from..].iter().position(|byte| *byte == MAGIC[0]) {
        let at = from + next;
        if window[at..].starts_with(MAGIC)
            && let Ok(mark) = SyncMark::decode(&mut Fields(&window[at..]))
        {
            see(at, mark);
        }
        from = at + 1;
    }
}

/// The last byte that is not zero. Compares blocks: most of what is searched is zeros.
fn last_used(bytes: &[u8]) -> Option<usize> {
    let block = bytes.chunks(ZEROS.len()).rposition(|block| block != &ZEROS[..block.len()])?;
    let begin = block * ZEROS.len();
    let end = bytes.len().min(begin + ZEROS.len());
    bytes[begin..end].iter().rposition(|byte| *byte != 0).map(|last| begin + last)
}

/// Reads until the buffer is full or the file ends.
pub(super) fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
