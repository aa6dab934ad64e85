//! openraft's `RaftLogStorage` over the WAL.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock, Weak};
use std::time::Duration;

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::codec::{WalPayload, WalVote};
use super::log::{Then, WalLog};
use super::read::LogReader;
use super::repair::Cut;
use crate::error::Result;
use crate::raft::tail::TailCache;
use crate::raft::types::{LogEntry, LogId, TypeConfig, Vote};

/// How long a mark waits for a group to go with. Waking the sync thread for it each time costs as much as the group; and until
/// it is written, damage to the last group would pass for a torn tail.
const MARK_DELAY: Duration = Duration::from_millis(2);

/// What the writer and the readers of one log share.
pub(crate) struct Shared {
    /// `None` once it was closed: readers may live on, the directory's lock must not.
    log: RwLock<Option<WalLog>>,
    pub(super) tail: TailCache,
    bytes: AtomicU64,
    /// Groups of entries that were appended.
    groups: AtomicU64,
    /// [`write_soon`] is on its way.
    write_is_due: AtomicBool,
}

impl Shared {
    /// Calls `f` with the log, beside other readers.
    pub(super) fn read<T>(&self, f: impl FnOnce(&WalLog) -> io::Result<T>) -> io::Result<T> {
        let log = self.log.read().map_err(|_| unusable("an earlier write to the log panicked"))?;
        f(log.as_ref().ok_or_else(|| unusable("the log is closed"))?)
    }

    /// Calls `f` with the log alone.
    fn write<T>(&self, f: impl FnOnce(&mut WalLog) -> io::Result<T>) -> io::Result<T> {
        let mut log = self.log.write().map_err(|_| unusable("an earlier write to the log panicked"))?;
        let log = log.as_mut().ok_or_else(|| unusable("the log is closed"))?;
        let value = f(log)?;
        self.bytes.store(log.bytes(), Ordering::Relaxed);
        Ok(value)
    }
}

/// Hands the newest mark to the operating system once there are no groups that take it along.
async fn write_soon(weak: Weak<Shared>) {
    let mut seen = None;
    loop {
        let Some(shared) = weak.upgrade() else { return };
        let groups = shared.groups.load(Ordering::Acquire);
        if seen == Some(groups) {
            shared.write_is_due.store(false, Ordering::Release);
            // A log that is closed or broken says so to whoever appends.
            let _ = shared.write(WalLog::write);
            return;
        }
        seen = Some(groups);
        drop(shared);
        tokio::time::sleep(MARK_DELAY).await;
    }
}

fn unusable(why: &'static str) -> io::Error {
    io::Error::other(why)
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
}

/// The log of one shard. openraft has one; our own readers share its insides.
pub(crate) struct LogStore {
    pub(super) shared: Arc<Shared>,
}

impl LogStore {
    /// Opens the log in `dir`, which exists; see [`WalLog::open`].
    pub(crate) fn open(dir: &Path, options: LogOptions) -> Result<(Self, Option<Cut>)> {
        let (log, cut) = WalLog::open(dir, options.directory, options.file_size)?;
        let bytes = AtomicU64::new(log.bytes());
        let shared = Shared {
            log: RwLock::new(Some(log)),
            tail: TailCache::new(options.tail_memory),
            bytes,
            groups: AtomicU64::new(0),
            write_is_due: AtomicBool::new(false),
        };
        Ok((Self { shared: Arc::new(shared) }, cut))
    }

    /// A reader, which may outlive this.
    pub(crate) fn reader(&self) -> LogReader {
        LogReader { shared: Arc::clone(&self.shared) }
    }

    /// Whether the log has no entry and never had one. A vote does not count.
    pub(crate) fn is_empty(&self) -> io::Result<bool> {
        self.shared.read(|log| Ok(log.last().is_none() && log.purged().is_none()))
    }

    /// Whether there is a vote, with or without entries.
    pub(crate) fn has_voted(&self) -> io::Result<bool> {
        self.shared.read(|log| Ok(log.vote().is_some()))
    }

    /// Writes and waits until it is on disk.
    async fn synced<T>(&self, change: impl FnOnce(&mut WalLog) -> io::Result<T>) -> io::Result<T> {
        let (sender, receiver) = oneshot::channel();
        let value = self.shared.write(|log| {
            let value = change(log)?;
            log.sync(Then::Caller(sender))?;
            Ok(value)
        })?;
        receiver.await.map_err(|_| io::Error::other("the log's sync thread has ended"))??;
        Ok(value)
    }
}

impl LogReader {
    /// Bytes of the log's files.
    pub(crate) fn wal_bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// The tail cache over this log.
    pub(crate) fn tail(&self) -> &TailCache {
        &self.shared.tail
    }

    /// The log id of entry `index`, if the log has it.
    pub(crate) fn log_id(&self, index: u64) -> io::Result<Option<LogId>> {
        let place = self.shared.read(|log| Ok(log.place(index)))?;
        Ok(place.map(|place| crate::raft::types::log_id(place.term, index)))
    }

    /// The last index that may be purged so that at least `keep` bytes of the log stay.
    pub(crate) fn purge_limit(&self, keep: u64) -> io::Result<Option<u64>> {
        self.shared.read(|log| Ok(log.purge_limit(keep)))
    }

    /// Writes and syncs what is pending and gives the directory back; all reads and writes fail from then on.
    pub(crate) fn close(&self) {
        let closed = self.shared.log.write().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        drop(closed);
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
        self.shared.read(|log| {
            Ok(LogState { last_purged_log_id: log.purged().map(Into::into), last_log_id: log.last().map(Into::into) })
        })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.synced(|log| log.save_vote(WalVote(*vote))).await
    }

    /// Written without a sync: it saves replay, and is at most the last groups behind. Entries are committed after their
    /// sync, so this is also where a mark can say so. Both go with the next group, or soon if there is none.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let Some(committed) = committed else { return Ok(()) };
        self.shared.write(|log| {
            log.mark()?;
            log.save_committed((&committed).into())
        })?;
        if !self.shared.write_is_due.swap(true, Ordering::AcqRel) {
            tokio::spawn(write_soon(Arc::downgrade(&self.shared)));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        self.shared.read(|log| Ok(log.committed().map(Into::into)))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        crate::failpoint::hit_async("wal.append").await.map_err(io::Error::other)?;
        self.shared.groups.fetch_add(1, Ordering::AcqRel);
        self.shared.write(|log| {
            log.mark()?;
            for entry in entries {
                let id = (&entry.log_id).into();
                let payload = WalPayload::try_from(&entry.payload)?;
                self.shared.tail.push(id, payload.clone());
                log.append(id, payload)?;
            }
            log.sync(Then::Raft(callback))
        })
    }

    /// Returns only after a sync. Otherwise the pointer of a snapshot that is installed right after could be durable
    /// first, and a kill would leave the node with a longer log that conflicts with it.
    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let index = last.map_or(0, |last| last.index + 1);
        self.shared.tail.truncate(index);
        self.synced(|log| log.truncate(index)).await?;
        crate::failpoint::hit_async("truncate.after").await.map_err(io::Error::other)
    }

    /// Not waited for: a purge that a crash undoes is made again. Files are removed after the sync.
    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.shared.tail.evict(upto.index);
        self.shared.write(|log| {
            log.purge((&upto).into())?;
            log.sync(Then::Nothing)
        })
    }
}
