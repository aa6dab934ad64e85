//! Frames on their way to the disk, in groups of which each goes into one file with one write and one sync.

use std::io;
use std::io::IoSlice;

use bytes::Bytes;
use openraft::storage::IOFlushed;
use tokio::sync::oneshot;

use super::header::FileHeader;
use crate::raft::types::TypeConfig;

/// Bodies up to this are copied next to their heads: one more part of a write costs about as much.
const COPIED_BYTES: usize = 512;

/// What follows once bytes are on disk.
pub(super) enum Then {
    /// openraft is told.
    Raft(IOFlushed<TypeConfig>),
    /// Whoever waits is told.
    Caller(oneshot::Sender<io::Result<()>>),
}

/// Those who wait for a sync. They are answered whatever happens: dropped, with an error.
#[derive(Default)]
pub(super) struct Waiting(Vec<Then>);

impl Waiting {
    pub(super) fn of(then: Then) -> Self {
        Self(vec![then])
    }

    pub(super) fn push(&mut self, then: Then) {
        self.0.push(then);
    }

    /// Answers all.
    pub(super) fn answer(&mut self, result: &io::Result<()>) {
        for then in self.0.drain(..) {
            let result = match result {
                Ok(()) => Ok(()),
                Err(error) => Err(copy(error)),
            };
            match then {
                Then::Raft(flushed) => flushed.io_completed(result),
                Then::Caller(sender) => drop(sender.send(result)),
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.answer(&Err(io::Error::other("the log's thread has ended")));
    }
}

/// An error for one more who is told.
pub(super) fn copy(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}

/// Where a part of a write is.
enum Part {
    /// So many bytes of [`Group::bytes`].
    Copied(usize),
    Body(Bytes),
}

/// See the module.
#[derive(Default)]
pub(super) struct Group {
    /// A file is begun with this group.
    pub(super) begins: Option<FileHeader>,
    bytes: Vec<u8>,
    parts: Vec<Part>,
    /// WAL offset after the last frame.
    pub(super) end: u64,
    /// Somebody waits for its sync.
    pub(super) syncs: bool,
    /// Told after the sync.
    pub(super) waiting: Waiting,
    /// Told after the write: the planted bug `wal.await_sync`.
    pub(super) hasty: Waiting,
    /// Once it is synced, what is below this WAL offset is not needed any more.
    pub(super) free: Option<u64>,
}

impl Group {
    /// The first group of a file.
    pub(super) fn of(header: FileHeader) -> Self {
        Self { begins: Some(header), end: header.start, ..Self::default() }
    }

    /// Adds a frame that ends at WAL offset `end`.
    pub(super) fn push(&mut self, frame: &[u8], body: Option<&Bytes>, end: u64) {
        self.end = end;
        self.copy(frame);
        match body {
            Some(body) if body.len() <= COPIED_BYTES => self.copy(body),
            Some(body) => self.parts.push(Part::Body(body.clone())),
            None => {}
        }
    }

    fn copy(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        match self.parts.last_mut() {
            Some(Part::Copied(len)) => *len += bytes.len(),
            _ => self.parts.push(Part::Copied(bytes.len())),
        }
    }

    /// The parts to write after `header`. No body is copied.
    pub(super) fn slices<'a>(&'a self, header: &'a [u8]) -> Vec<IoSlice<'a>> {
        let mut slices = Vec::with_capacity(self.parts.len() + 1);
        if !header.is_empty() {
            slices.push(IoSlice::new(header));
        }
        let mut copied = self.bytes.as_slice();
        for part in &self.parts {
            match part {
                Part::Copied(len) => {
                    let (part, rest) = copied.split_at(*len);
                    slices.push(IoSlice::new(part));
                    copied = rest;
                }
                Part::Body(body) => slices.push(IoSlice::new(body)),
            }
        }
        slices
    }

    /// Tells all who wait.
    pub(super) fn answer(&mut self, result: &io::Result<()>) {
        self.waiting.answer(result);
        self.hasty.answer(result);
    }

    /// Gives the memory of the frames back.
    pub(super) fn written(&mut self) {
        self.bytes = Vec::new();
        self.parts = Vec::new();
    }
}
