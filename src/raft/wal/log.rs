//! The WAL of one shard: raft-log, with sync marks and our own index of where entries are.
//!
//! Every method that writes only hands bytes to raft-log's sync thread; [`WalLog::sync`] says what to do once they
//! are on disk. All that is queued when that thread gets to it shares one write and one `fdatasync`, so there is group
//! commit and never a wait for company. A failed write or sync ends the thread and with it the node.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::storage::IOFlushed;
use raft_log::api::raft_log_writer::RaftLogWriter;
use raft_log::{ChunkId, RaftLog};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::codec::{WalLogId, WalPayload, WalTypes, WalVote, invalid};
use super::mark::SyncMark;
use super::places::{Place, Places};
use super::repair::{self, Cut};
use super::sync_point::{EndsIn, SyncPoint};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::raft::types::TypeConfig;

/// For raft-log's replay; its default of 64 MiB is taken for every chunk.
const READ_BUFFER_BYTES: usize = 256 * 1024;
/// 0 would sync once for every append; the default of 1 ms would delay a lone client by that. 2 µs is enough for
/// raft-log to take all that is queued already, and ends before its thread would go to sleep.
const GROUP_WAIT: Duration = Duration::from_micros(2);
/// Bytes queued for the sync thread before appends wait for it.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;

/// What follows once bytes are on disk.
pub(crate) enum Then {
    /// openraft is told.
    Raft(IOFlushed<TypeConfig>),
    /// Whoever waits is told.
    Caller(oneshot::Sender<io::Result<()>>),
    /// Nobody waits.
    Nothing,
}

/// Runs on raft-log's sync thread after the `fdatasync` that covers WAL offset `upto`.
pub(crate) struct Synced {
    upto: u64,
    synced: Arc<AtomicU64>,
    /// Only while a fail point is armed.
    point: Option<(Arc<SyncPoint>, EndsIn)>,
    then: Then,
}

impl raft_log::Callback for Synced {
    fn send(self, result: io::Result<()>) {
        let result = match &self.point {
            Some((point, file)) => result.and_then(|()| point.pass(self.upto, file, || failpoint::hit("wal.sync"))),
            None => result,
        };
        if result.is_ok() {
            self.synced.fetch_max(self.upto, Ordering::AcqRel);
        }
        match self.then {
            Then::Raft(flushed) => flushed.io_completed(result),
            Then::Caller(sender) => drop(sender.send(result)),
            Then::Nothing => {}
        }
    }
}

/// Where the payload of an entry is to be had.
pub(crate) enum Source {
    /// Here.
    Memory(WalLogId, WalPayload),
    /// In a closed chunk, synced: read it without holding the log.
    Disk {
        path: PathBuf,
        /// Within the file.
        offset: u64,
        len: u32,
    },
}

/// Consecutive entries that lie in one closed chunk, synced: read them without holding the log.
pub(crate) struct Run {
    pub(crate) path: PathBuf,
    /// Index of the first entry.
    pub(crate) first: u64,
    /// Where each is within the file, ascending; at least one.
    pub(crate) places: Vec<(u64, u32)>,
}

/// See the module.
pub(crate) struct WalLog {
    inner: RaftLog<WalTypes>,
    directory: Uuid,
    places: Places,
    /// WAL offsets at which chunks begin; the last one is open.
    chunks: VecDeque<u64>,
    end: u64,
    synced: Arc<AtomicU64>,
    /// What the newest mark says.
    marked: u64,
    point: Arc<SyncPoint>,
}

impl WalLog {
    /// Opens the WAL in `dir`, which exists; `directory` is the identity that its marks carry, `file_size` the bytes at
    /// which a file is ended. Repairs a torn tail.
    ///
    /// # Errors
    /// `corrupt` if acknowledged bytes are damaged, `internal` if the directory cannot be read or is in use.
    pub(crate) fn open(dir: &Path, directory: Uuid, file_size: u64) -> Result<(Self, Option<Cut>)> {
        let failed = |error: io::Error| {
            Error::internal(format!("cannot open the write-ahead log in {}", dir.display())).with_source(error)
        };
        let scan = repair::repair(dir, directory)?;
        let mut config = raft_log::Config::new(dir.display());
        config.wal.read_buffer_size = Some(READ_BUFFER_BYTES);
        config.wal.chunk_max_size = Some(usize::try_from(file_size).unwrap_or(usize::MAX));
        config.wal.truncate_incomplete_record = Some(false);
        config.wal.flush_batch_wait = Some(GROUP_WAIT);
        config.wal.flush_queue_max_bytes = Some(QUEUE_BYTES);
        // Entries of the open chunk always stay in raft-log's cache; more than those is the tail cache's business.
        config.log_cache_capacity = Some(0);
        let inner = RaftLog::<WalTypes>::open(Arc::new(config)).map_err(failed)?;
        let open = inner.stat().open_chunk;
        let mut chunks: VecDeque<u64> = scan.chunks.into();
        if chunks.back() != Some(&open.chunk_id.0) {
            chunks.push_back(open.chunk_id.0);
        }
        if scan.end > 0 && scan.end != open.global_end {
            return Err(Error::internal(format!(
                "the write-ahead log in {} was read up to {} and opened up to {}",
                dir.display(),
                scan.end,
                open.global_end
            )));
        }
        let mut log = Self {
            inner,
            directory,
            places: scan.places,
            chunks,
            end: open.global_end,
            // The repair synced the newest file; all older ones were before it was begun.
            synced: Arc::new(AtomicU64::new(scan.end)),
            marked: 0,
            point: Arc::default(),
        };
        log.forget_removed_chunks();
        log.mark().and_then(|()| log.write()).map_err(failed)?;
        Ok((log, scan.cut))
    }

    /// Says what was synced, if there is news.
    pub(crate) fn mark(&mut self) -> io::Result<()> {
        let synced = self.synced.load(Ordering::Acquire);
        if synced > self.marked {
            self.marked = synced;
            let mark = SyncMark { directory: self.directory, position: self.end, synced };
            let segment = self.inner.save_user_data(Some(mark))?;
            self.track(segment);
        }
        Ok(())
    }

    /// Appends an entry.
    pub(crate) fn append(&mut self, id: WalLogId, payload: WalPayload) -> io::Result<()> {
        let segment = self.inner.append([(id, payload)])?;
        let (offset, len) = self.track(segment);
        let len = u32::try_from(len).map_err(|_| invalid(format!("the record of entry {} is too long", id.index)))?;
        self.places.push(id, offset, len);
        Ok(())
    }

    /// Saves a vote.
    pub(crate) fn save_vote(&mut self, vote: WalVote) -> io::Result<()> {
        let segment = self.inner.save_vote(vote)?;
        self.track(segment);
        Ok(())
    }

    /// Saves how far the log is committed, at most up to its last entry.
    pub(crate) fn save_committed(&mut self, id: WalLogId) -> io::Result<()> {
        let state = self.inner.log_state();
        let Some(id) = state.last().map(|last| id.min(*last)) else { return Ok(()) };
        if Some(&id) <= state.committed() {
            return Ok(());
        }
        let segment = self.inner.commit(id)?;
        self.track(segment);
        Ok(())
    }

    /// Removes the entries from `index` on, if there are any.
    pub(crate) fn truncate(&mut self, index: u64) -> io::Result<()> {
        if self.last().is_none_or(|last| last.index < index) {
            return Ok(());
        }
        let segment = self.inner.truncate(index)?;
        self.track(segment);
        self.places.truncate(index);
        Ok(())
    }

    /// Removes the entries up to and with `upto`; files go with the next sync.
    pub(crate) fn purge(&mut self, upto: WalLogId) -> io::Result<()> {
        let segment = self.inner.purge(upto)?;
        self.track(segment);
        self.places.purge(upto.index);
        self.forget_removed_chunks();
        Ok(())
    }

    /// Has all that was written so far synced, and `then` run.
    pub(crate) fn sync(&mut self, then: Then) -> io::Result<()> {
        let skips = matches!(then, Then::Raft(_)) && failpoint::skips("wal.await_sync");
        let upto = if skips { 0 } else { self.end };
        let point = if skips { None } else { self.sync_point() };
        let callback = Synced { upto, synced: Arc::clone(&self.synced), point, then };
        self.inner.flush(!skips, Some(callback))
    }

    fn sync_point(&self) -> Option<(Arc<SyncPoint>, EndsIn)> {
        let start = *self.chunks.back().filter(|_| failpoint::armed())?;
        let path = PathBuf::from(self.inner.config().wal.chunk_path(ChunkId(start)));
        Some((Arc::clone(&self.point), EndsIn { path, start }))
    }

    /// Has all that was written so far handed to the operating system.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        self.inner.flush(false, None)
    }

    /// Where to read entry `index`; `None` if the log does not have it.
    pub(crate) fn source(&self, index: u64) -> io::Result<Option<Source>> {
        if let Some(run) = self.run(index, index + 1, 0)? {
            return Ok(run.places.first().map(|(offset, len)| Source::Disk {
                path: run.path,
                offset: *offset,
                len: *len,
            }));
        }
        match self.inner.read(index, index + 1).next() {
            Some(entry) => entry.map(|(id, payload)| Some(Source::Memory(id, payload))),
            None => Ok(None),
        }
    }

    /// The entries from `index` on and before `end` that one read of `bytes` takes, at least one; `None` if entry `index` is not
    /// to be read from a file.
    pub(crate) fn run(&self, index: u64, end: u64, bytes: u64) -> io::Result<Option<Run>> {
        let Some(place) = self.places.get(index) else { return Ok(None) };
        let chunk = self.chunks.partition_point(|start| *start <= place.offset);
        let Some(&start) = chunk.checked_sub(1).and_then(|at| self.chunks.get(at)) else {
            return Err(invalid(format!("entry {index} is in no file of the log")));
        };
        // An entry is replicated, and applied if others have it on disk, before it is on this one: what was not synced,
        // raft-log keeps in memory, whichever chunk it is in.
        let Some(next) = self.chunks.get(chunk) else { return Ok(None) };
        let readable = (*next).min(self.synced.load(Ordering::Acquire));
        if place.end() > readable {
            return Ok(None);
        }
        let upto = readable.min(place.offset.saturating_add(bytes).max(place.end()));
        let others = (index + 1..end).map_while(|index| self.places.get(index)).take_while(|place| place.end() <= upto);
        let places = std::iter::once(place).chain(others).map(|place| (place.offset - start, place.len)).collect();
        let path = PathBuf::from(self.inner.config().wal.chunk_path(ChunkId(start)));
        Ok(Some(Run { path, first: index, places }))
    }

    /// Where entry `index` is.
    pub(crate) fn place(&self, index: u64) -> Option<Place> {
        self.places.get(index)
    }

    /// Index of the first entry, if there is one.
    pub(crate) fn first_index(&self) -> Option<u64> {
        self.places.first()
    }

    /// The last index that may be purged so that at least `keep` bytes stay.
    pub(crate) fn purge_limit(&self, keep: u64) -> Option<u64> {
        self.places.last_before(self.end.saturating_sub(keep))
    }

    /// The vote, the last entry, and how far the log is committed and purged.
    pub(crate) fn vote(&self) -> Option<WalVote> {
        self.inner.log_state().vote().copied()
    }

    /// The last entry, or what was purged if there is none after it.
    pub(crate) fn last(&self) -> Option<WalLogId> {
        self.inner.log_state().last().copied()
    }

    /// How far the log is known to be committed.
    pub(crate) fn committed(&self) -> Option<WalLogId> {
        self.inner.log_state().committed().copied()
    }

    /// How far the log was purged.
    pub(crate) fn purged(&self) -> Option<WalLogId> {
        self.inner.log_state().purged().copied()
    }

    /// Bytes of the files.
    pub(crate) fn bytes(&self) -> u64 {
        self.inner.on_disk_size()
    }

    /// Where the record that ends in `segment` is: offset and length. A record that filled its chunk is followed by
    /// the first record of the next one, and `segment` is then that one.
    fn track(&mut self, segment: raft_log::Segment) -> (u64, u64) {
        let start = self.end;
        let segment_end = segment.offset + segment.size;
        if segment_end == start {
            return (start, 0);
        }
        self.end = segment_end;
        if segment.offset == start {
            return (start, segment.size);
        }
        self.chunks.push_back(segment.offset);
        self.forget_removed_chunks();
        (start, segment.offset - start)
    }

    fn forget_removed_chunks(&mut self) {
        let first = self.end.saturating_sub(self.inner.on_disk_size());
        while self.chunks.len() > 1 && self.chunks.front().is_some_and(|start| *start < first) {
            self.chunks.pop_front();
        }
    }
}
