//! The end of the log as appends see it: what has been queued counts, whether it is written or not.
//!
//! Here offsets are given out, checksums chained and files begun; the log's thread only writes what comes of it.

use std::io;

use uuid::Uuid;

use super::codec::{WalLogId, WalPayload, WalVote, invalid};
use super::frame::{self, Head, Record};
use super::group::Then;
use super::header::{FileHeader, HEADER_BYTES};
use super::mark::SyncMark;
use super::places::{Place, Places};
use super::queue::{Queue, Span};
use super::repair::Recovered;
use super::state::LogState;
use crate::failpoint;
use crate::planted::{self, Bug};

/// See the module.
pub(super) struct Tip {
    directory: Uuid,
    /// Bytes at which a file is ended.
    file_size: u64,
    places: Places,
    state: LogState,
    /// WAL offset after the last frame.
    end: u64,
    /// The checksum of the last frame.
    chain: u32,
    /// The newest file.
    file: Option<Span>,
    /// The frame of this opening was queued.
    is_open: bool,
    /// What the newest mark says.
    marked: u64,
    /// The frame that is being built.
    frame: Vec<u8>,
}

impl Tip {
    /// The end of a log that was opened.
    pub(super) fn new(recovered: Recovered, directory: Uuid, file_size: u64) -> Self {
        Self {
            directory,
            file_size,
            places: recovered.places,
            state: recovered.state,
            end: recovered.end,
            chain: recovered.chain,
            file: recovered.files.back().copied(),
            is_open: false,
            marked: recovered.marked,
            frame: Vec::new(),
        }
    }

    /// Says what was synced, if there is news.
    pub(super) fn mark(&mut self, queue: &Queue, synced: u64) -> io::Result<()> {
        if synced <= self.marked {
            return Ok(());
        }
        self.open(queue)?;
        // Its frame may be the first of a file, which changes no offset.
        let mark = SyncMark { directory: self.directory, position: self.end, synced };
        self.push(queue, &Record::Mark(mark))?;
        self.marked = synced;
        Ok(())
    }

    /// What the newest mark says; everything in a log to which nothing was appended since it was opened: such a log is not
    /// written to.
    pub(super) fn marked(&self) -> u64 {
        if self.is_open { self.marked } else { u64::MAX }
    }

    /// Appends an entry.
    pub(super) fn append(&mut self, queue: &Queue, id: WalLogId, payload: WalPayload) -> io::Result<()> {
        let record = Record::Entry(id, payload);
        self.state.check(&record)?;
        let place = self.push(queue, &record)?;
        self.places.push(id.index, Place { term: id.term, ..place });
        Ok(())
    }

    /// Saves a vote.
    pub(super) fn save_vote(&mut self, queue: &Queue, vote: WalVote) -> io::Result<()> {
        self.change(queue, &Record::Vote(vote))
    }

    /// Saves how far the log is committed, at most up to its last entry; whether that was news.
    pub(super) fn save_committed(&mut self, queue: &Queue, id: WalLogId) -> io::Result<bool> {
        let Some(id) = self.state.last.map(|last| id.min(last)) else { return Ok(false) };
        if Some(id) <= self.state.committed {
            return Ok(false);
        }
        self.change(queue, &Record::Commit(id)).map(|()| true)
    }

    /// Removes the entries from `index` on, if there are any.
    pub(super) fn truncate(&mut self, queue: &Queue, index: u64) -> io::Result<()> {
        if self.state.last.is_none_or(|last| last.index < index) {
            return Ok(());
        }
        let keep = match index.checked_sub(1) {
            None => None,
            Some(keep) => Some(self.log_id(keep).ok_or_else(|| invalid(format!("entry {keep} is not in the log")))?),
        };
        self.change(queue, &Record::Truncate(keep))?;
        self.places.truncate(index);
        Ok(())
    }

    /// Removes the entries up to and with `upto`; files go after the next sync.
    pub(super) fn purge(&mut self, queue: &Queue, upto: WalLogId) -> io::Result<()> {
        self.change(queue, &Record::Purge(upto))?;
        self.places.purge(upto.index);
        queue.purge(self.end, self.needed_from())
    }

    /// WAL offset below which nothing is needed.
    pub(super) fn needed_from(&self) -> u64 {
        self.places.first_offset().unwrap_or(self.end)
    }

    /// Has all that was appended so far synced, and `then` told.
    pub(super) fn sync(&self, queue: &Queue, then: Then) -> io::Result<()> {
        let hasty = failpoint::skips("wal.await_sync") || planted::is(Bug::AckBeforeSync);
        if hasty && matches!(then, Then::Raft(_)) {
            return queue.skip_sync(self.end, then);
        }
        queue.sync(self.end, then)
    }

    /// Where entry `index` is.
    pub(super) fn place(&self, index: u64) -> Option<Place> {
        self.places.get(index)
    }

    /// Where the entries from `index` on are; see [`Places::neighbours`].
    pub(super) fn neighbours(&self, index: u64, end: u64, bytes: u64) -> Vec<Place> {
        self.places.neighbours(index, end, bytes)
    }

    /// Index of the first entry, if there is one.
    pub(super) fn first_index(&self) -> Option<u64> {
        self.places.first()
    }

    /// The last index that may be purged so that at least `keep` bytes stay.
    pub(super) fn purge_limit(&self, keep: u64) -> Option<u64> {
        self.places.last_before(self.end.saturating_sub(keep))
    }

    /// Vote, last, committed, purged.
    pub(super) fn state(&self) -> &LogState {
        &self.state
    }

    /// The newest file.
    pub(super) fn file(&self) -> Option<Span> {
        self.file
    }

    /// WAL offset after the last frame.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    fn log_id(&self, index: u64) -> Option<WalLogId> {
        let purged = self.state.purged.filter(|purged| purged.index == index);
        purged.or_else(|| self.places.get(index).map(|place| WalLogId { term: place.term, index }))
    }

    fn change(&mut self, queue: &Queue, record: &Record) -> io::Result<()> {
        self.state.check(record)?;
        self.push(queue, record).map(drop)
    }

    /// Queues the frame of this opening before any other. Its number makes every checksum after it another one than
    /// what an earlier opening wrote here and a crash cut: none of that can ever follow.
    fn open(&mut self, queue: &Queue) -> io::Result<()> {
        if !self.is_open {
            self.put(queue, &Record::Open(*Uuid::new_v4().as_bytes()))?;
            self.is_open = true;
        }
        Ok(())
    }

    fn push(&mut self, queue: &Queue, record: &Record) -> io::Result<Place> {
        self.open(queue)?;
        self.put(queue, record)
    }

    /// Queues the frame of `record` and takes it in; where it is, in no term.
    fn put(&mut self, queue: &Queue, record: &Record) -> io::Result<Place> {
        let mut frame = std::mem::take(&mut self.frame);
        let queued = self.put_frame(queue, record, &mut frame);
        self.frame = frame;
        let (head, len) = queued?;
        let place = Place { term: 0, offset: self.end, len, chain: self.chain };
        self.end += u64::from(len);
        self.chain = head.crc;
        self.state.apply(record);
        Ok(place)
    }

    fn put_frame(&mut self, queue: &Queue, record: &Record, frame: &mut Vec<u8>) -> io::Result<(Head, u32)> {
        let head = frame::build(record, self.chain, self.end, frame)?;
        let body = record.body();
        let len = frame.len() + body.map_or(0, bytes::Bytes::len);
        self.begin_if_full(queue, len as u64)?;
        match record {
            Record::Entry(id, payload) => queue.push_entry(frame, self.end, *id, payload.clone())?,
            _ => queue.push(frame, None, self.end + len as u64)?,
        }
        Ok((head, u32::try_from(len).map_err(io::Error::other)?))
    }

    /// Begins another file if a frame of `len` bytes has no room in this one. A frame that is larger than a file gets one
    /// of its own size.
    fn begin_if_full(&mut self, queue: &Queue, len: u64) -> io::Result<()> {
        let has_room = |file: Span| {
            let used = self.end - file.start;
            used == 0 || HEADER_BYTES as u64 + used + len <= self.file_size
        };
        if self.file.is_some_and(has_room) {
            return Ok(());
        }
        let header = FileHeader {
            directory: self.directory,
            sequence: self.file.map_or(1, |file| file.sequence + 1),
            start: self.end,
            chain: self.chain,
            // The thread knows once it has the file.
            recycled: false,
            state: self.state,
        };
        queue.begin(header)?;
        self.file = Some(Span { sequence: header.sequence, start: header.start });
        Ok(())
    }
}
