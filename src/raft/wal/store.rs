//! openraft's `RaftLogStorage` over the WAL.

use std::io;
use std::path::Path;
use std::sync::Arc;

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::codec::{WalPayload, WalVote};
use super::group::{Then, copy};
use super::log::{Core, WalLog};
use super::queue::Queue;
use super::read::LogReader;
use super::repair::Cut;
use super::tip::Tip;
use crate::error::Result;
use crate::planted::{self, Bug};
use crate::raft::tail::TailCache;
use crate::raft::types::{LogEntry, LogId, TypeConfig, Vote};

/// What the writer and the readers of one log share.
pub(crate) struct Shared {
    log: WalLog,
    pub(super) tail: TailCache,
}

/// How a log is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogOptions {
    /// The identity of the WAL directory, which sync marks carry.
    pub(crate) directory: Uuid,
    /// Bytes of the tail cache over the log.
    pub(crate) tail_memory: u64,
    /// Bytes at which a file of the log is ended.
    pub(crate) file_size: u64,
    /// Bytes of files that may be kept ready; 0: none is.
    pub(crate) spare: u64,
}

/// The log of one shard. openraft has one; our own readers share its insides.
pub(crate) struct LogStore {
    pub(super) shared: Arc<Shared>,
}

impl LogStore {
    /// Opens the log in `dir`, which exists; see [`WalLog::open`].
    pub(crate) fn open(dir: &Path, options: LogOptions) -> Result<(Self, Option<Cut>)> {
        let (log, cut) = WalLog::open(dir, options.directory, options.file_size, options.spare)?;
        Ok((Self { shared: Arc::new(Shared { log, tail: TailCache::new(options.tail_memory) }) }, cut))
    }

    /// A reader, which may outlive this.
    pub(crate) fn reader(&self) -> LogReader {
        LogReader { shared: Arc::clone(&self.shared) }
    }

    /// Whether the log has no entry and never had one. A vote does not count.
    pub(crate) fn is_empty(&self) -> io::Result<bool> {
        self.core().read(|tip| Ok(tip.state().last.is_none()))
    }

    /// Whether there is a vote, with or without entries.
    pub(crate) fn has_voted(&self) -> io::Result<bool> {
        self.core().read(|tip| Ok(tip.state().vote.is_some()))
    }

    fn core(&self) -> &Core {
        &self.shared.log.core
    }

    /// Writes and waits until it is on disk.
    async fn synced(&self, change: impl FnOnce(&mut Tip, &Queue) -> io::Result<()>) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        self.core().write(|tip, queue| {
            change(tip, queue)?;
            tip.sync(queue, Then::Caller(sender))
        })?;
        receiver.await.map_err(|_| io::Error::other("the log's thread has ended"))?
    }
}

impl LogReader {
    pub(super) fn core(&self) -> &Core {
        &self.shared.log.core
    }

    /// Bytes of the log, from the beginning of its first file to its end.
    pub(crate) fn wal_bytes(&self) -> u64 {
        self.core().bytes()
    }

    /// Bytes of files that are kept ready, which are not in [`LogReader::wal_bytes`].
    pub(crate) fn spare_bytes(&self) -> u64 {
        self.core().keeper.bytes()
    }

    /// Sets how many bytes of files may be kept ready.
    pub(crate) fn set_spare(&self, bytes: u64) {
        self.core().keeper.set_bound(bytes);
    }

    /// Removes the files that are kept ready, and keeps none for some seconds: the disk is low.
    pub(crate) fn release_spares(&self) {
        self.core().keeper.release();
    }

    /// The tail cache over this log.
    pub(crate) fn tail(&self) -> &TailCache {
        &self.shared.tail
    }

    /// Bytes from entry `index` to the end of the log, and the WAL offset of that end; `None` if the log does not have the entry.
    pub(crate) fn distance(&self, index: u64) -> io::Result<Option<(u64, u64)>> {
        self.core().read(|tip| Ok(tip.place(index).map(|place| (tip.end() - place.offset, tip.end()))))
    }

    /// The index of the last entry, purged or not; 0 without one.
    pub(crate) fn last_index(&self) -> io::Result<u64> {
        let (last, purged) = self.core().read(|tip| Ok((tip.state().last, tip.state().purged)))?;
        Ok(last.max(purged).map_or(0, |id| id.index))
    }

    /// The log id of entry `index`, if the log has it.
    pub(crate) fn log_id(&self, index: u64) -> io::Result<Option<LogId>> {
        let place = self.core().read(|tip| Ok(tip.place(index)))?;
        Ok(place.map(|place| crate::raft::types::log_id(place.term, index)))
    }

    /// The last index that may be purged so that at least `keep` bytes of the log stay.
    pub(crate) fn purge_limit(&self, keep: u64) -> io::Result<Option<u64>> {
        self.core().read(|tip| Ok(tip.purge_limit(keep)))
    }

    /// Returns once a log that was closed has written all of it: with [`LogReader::close`] unless its thread is a task.
    #[cfg(feature = "simulation")]
    pub(crate) async fn ended(&self) {
        if crate::blocking::is_inline() {
            self.core().ended().await;
        }
    }

    /// Writes and syncs what is pending and gives the directory back; all reads and writes fail from then on.
    pub(crate) fn close(&self) {
        self.shared.log.close();
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R>(&mut self, range: R) -> Result<Vec<LogEntry>, io::Error>
    where
        R: std::ops::RangeBounds<u64> + Clone + std::fmt::Debug + OptionalSend,
    {
        self.reader().try_get_log_entries(range).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.reader().read_vote().await
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        self.core().read(|tip| {
            let (purged, last) = (tip.state().purged, tip.state().last);
            Ok(LogState { last_purged_log_id: purged.map(Into::into), last_log_id: last.map(Into::into) })
        })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.synced(|tip, queue| tip.save_vote(queue, WalVote(*vote))).await
    }

    /// Written without a sync: it saves replay, and is at most the last groups behind. Entries are committed after their
    /// sync, so this is also where a mark can say so. Both go with the next group, or soon if there is none.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let Some(committed) = committed else { return Ok(()) };
        let synced = self.core().synced();
        let is_news = self.core().write(|tip, queue| {
            tip.mark(queue, synced)?;
            tip.save_committed(queue, (&committed).into())
        })?;
        if is_news {
            self.core().queue.soon();
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        self.core().read(|tip| Ok(tip.state().committed.map(Into::into)))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        crate::failpoint::hit_async("wal.append").await.map_err(io::Error::other)?;
        let room = self.core().queue.room().await;
        let synced = self.core().synced();
        let mut callback = Some(callback);
        let appended = room.and_then(|()| {
            self.core().write(|tip, queue| {
                tip.mark(queue, synced)?;
                for entry in entries {
                    let id = (&entry.log_id).into();
                    let payload = WalPayload::try_from(&entry.payload)?;
                    self.shared.tail.push(id, payload.clone());
                    tip.append(queue, id, payload)?;
                }
                callback.take().map_or(Ok(()), |callback| tip.sync(queue, Then::Raft(callback)))
            })
        });
        if let (Err(error), Some(callback)) = (&appended, callback) {
            callback.io_completed(Err(copy(error)));
        }
        appended
    }

    /// Returns only after a sync. Otherwise the pointer of a snapshot that is installed right after could be durable
    /// first, and a kill would leave the node with a longer log that conflicts with it.
    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let index = last.map_or(0, |last| last.index + 1);
        self.shared.tail.truncate(index);
        self.synced(|tip, queue| tip.truncate(queue, index)).await?;
        crate::failpoint::hit_async("truncate.after").await.map_err(io::Error::other)
    }

    /// Not waited for: a purge that a crash undoes is made again. Files go after the sync.
    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let committed = self.core().read(|tip| Ok(tip.state().committed))?.map(LogId::from);
        let too_far = committed.filter(|_| planted::is(Bug::PurgePastCheckpoint));
        let upto = too_far.map_or(upto, |committed| committed.max(upto));
        self.shared.tail.evict(upto.index);
        let given_up = self.core().write(|tip, queue| {
            tip.purge(queue, (&upto).into())?;
            Ok(tip.file().map(|file| (tip.needed_from(), file.sequence)))
        })?;
        if let Some((free, newest)) = given_up.filter(|_| crate::failpoint::skips("purge.await_sync")) {
            self.core().release(free, newest);
        }
        Ok(())
    }
}
