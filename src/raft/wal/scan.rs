//! Reading the frames of a file, one after the other, each once.

use std::io::{self, BufRead, BufReader, Read};

use bytes::Bytes;

use super::codec::{Fields, WalLogId, WalPayload, invalid};
use super::files::FoundFile;
use super::frame::{ENTRY_PREFIX_BYTES, HEAD_BYTES, Head, KIND_ENTRY, MAX_SMALL_BYTES, Record};
use super::header::{FileHeader, HEADER_BYTES};
use super::places::{Place, Places};
use super::state::LogState;
use crate::disk::File;
use crate::planted::{self, Bug};

/// Buffer of the sequential read.
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// What the frames so far come to.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) places: Places,
    pub(super) state: LogState,
    /// WAL offset after the last frame.
    pub(super) end: u64,
    /// The checksum of the last frame.
    pub(super) chain: u32,
    /// What the newest mark says, or the header of the newest file.
    pub(super) marked: u64,
    /// Entries up to this index were in files before the first one, and were not purged or truncated yet.
    pub(super) before: Option<u64>,
}

/// Why a file could not be read to its end.
pub(super) enum Stopped {
    /// The frame at the end of the scan is bad.
    Bad(io::Error),
    /// The disk does not answer.
    Unreadable(io::Error),
}

impl Scan {
    /// Begins where the first file does.
    pub(super) fn new(header: &FileHeader) -> Self {
        let before = header.state.last.filter(|last| Some(*last) > header.state.purged);
        Self {
            places: Places::default(),
            state: header.state,
            end: header.start,
            chain: header.chain,
            marked: header.start,
            before: before.map(|last| last.index),
        }
    }

    /// Whether the file of `header` begins just here.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn follows(&self, header: &FileHeader) -> io::Result<()> {
        if header.start != self.end || header.chain != self.chain {
            return Err(invalid(format!(
                "the file begins at {} of the log with checksum {:08x}, the one before it ends at {} with {:08x}",
                header.start, header.chain, self.end, self.chain
            )));
        }
        if header.state != self.state {
            return Err(invalid(format!(
                "the file begins with {:?}, the one before it ends with {:?}",
                header.state, self.state
            )));
        }
        Ok(())
    }

    /// Takes in the frames of the file of `header` up to WAL offset `upto`, or up to one that is bad.
    pub(super) fn read(&mut self, file: &FoundFile, header: &FileHeader, upto: Option<u64>) -> Result<(), Stopped> {
        let opened = File::open(&file.path).map_err(Stopped::Unreadable)?;
        let mut reader = BufReader::with_capacity(READ_BUFFER_BYTES, opened);
        skip(&mut reader, HEADER_BYTES)?;
        self.marked = self.marked.max(header.start);
        // Where the frames of this file end at the latest.
        let last = header.start + file.len.saturating_sub(HEADER_BYTES as u64);
        let limit = upto.unwrap_or(last);
        while upto.is_none() || self.end < limit {
            self.frame(&mut reader, limit.min(last))?;
        }
        Ok(())
    }

    /// Takes in one frame, which has to end at or below `limit`.
    fn frame(&mut self, reader: &mut BufReader<File>, limit: u64) -> Result<(), Stopped> {
        let room = limit.saturating_sub(self.end);
        if room < HEAD_BYTES as u64 {
            return Err(Stopped::Bad(invalid("the file ends".to_owned())));
        }
        let mut bytes = [0; HEAD_BYTES];
        fill(reader, &mut bytes)?;
        let head = Head::decode(&bytes).map_err(Stopped::Bad)?;
        head.check(self.end, room - HEAD_BYTES as u64).map_err(Stopped::Bad)?;
        let record = self.payload(reader, &head)?;
        self.state.check(&record).map_err(Stopped::Bad)?;
        self.take(&head, &record);
        Ok(())
    }

    /// Reads and verifies a payload. An entry comes without its body, which nobody needs now.
    fn payload(&self, reader: &mut BufReader<File>, head: &Head) -> Result<Record, Stopped> {
        let mut small = [0; MAX_SMALL_BYTES];
        let len = head.len as usize;
        let read = if head.kind == KIND_ENTRY { ENTRY_PREFIX_BYTES.min(len) } else { len };
        fill(reader, &mut small[..read])?;
        let small = &small[..read];
        let mut crc = crc32c::crc32c_append(head.seed(self.chain), small);
        let mut left = len - read;
        while left > 0 {
            let part = reader.fill_buf().map_err(Stopped::Unreadable)?;
            let part = &part[..part.len().min(left)];
            if part.is_empty() {
                return Err(Stopped::Bad(invalid("the file ends".to_owned())));
            }
            crc = crc32c::crc32c_append(crc, part);
            left -= part.len();
            let part = part.len();
            reader.consume(part);
        }
        if !planted::is(Bug::TornTailAccepted) {
            head.verify(crc).map_err(Stopped::Bad)?;
        }
        if head.kind != KIND_ENTRY {
            return Record::decode(head.kind, &Bytes::copy_from_slice(small)).map_err(Stopped::Bad);
        }
        let mut fields = Fields(small);
        let entry = WalLogId::decode(&mut fields).and_then(|id| fields.u8().map(|kind| (id, kind)));
        let entry = entry.and_then(|(id, kind)| WalPayload::check(kind, len - read).map(|()| id));
        entry.map(|id| Record::Entry(id, WalPayload::Blank)).map_err(Stopped::Bad)
    }

    fn take(&mut self, head: &Head, record: &Record) {
        let len = head.len + HEAD_BYTES as u32;
        match record {
            Record::Entry(id, _) => {
                let place = Place { term: id.term, offset: self.end, len, chain: self.chain };
                self.places.push(id.index, place);
            }
            Record::Truncate(keep) => {
                self.places.truncate(keep.map_or(0, |keep| keep.index + 1));
                self.before = self.before.min(keep.map(|keep| keep.index));
            }
            Record::Purge(id) => self.places.purge(id.index),
            Record::Mark(mark) => self.marked = self.marked.max(mark.synced),
            Record::Vote(_) | Record::Commit(_) | Record::Open(_) => {}
        }
        self.state.apply(record);
        self.end += u64::from(len);
        self.chain = head.crc;
    }
}

fn skip(reader: &mut BufReader<File>, count: usize) -> Result<(), Stopped> {
    fill(reader, &mut vec![0; count])
}

/// Reads exactly as much as there is room.
fn fill(reader: &mut BufReader<File>, buffer: &mut [u8]) -> Result<(), Stopped> {
    reader.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Stopped::Bad(invalid("the file ends".to_owned())),
        _ => Stopped::Unreadable(error),
    })
}
