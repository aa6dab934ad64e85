//! What appends hand to the log's thread, and what that thread lets readers know.
//!
//! The thread takes all that is queued at once: what is queued while it writes and syncs shares the next sync. So there is
//! group commit, at most one sync is under way, and nobody waits for company. A failed write or sync is the end: whoever
//! waits and whoever comes later gets the error, since after it nobody knows what the disk has.

use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;

use super::codec::{WalLogId, WalPayload};
use super::group::{Group, Then, copy};
use super::header::FileHeader;

/// How long a mark waits for a group to go with. Waking the thread for it each time costs as much as the group; and until
/// it is written, damage to the last group would pass for a torn tail.
const MARK_DELAY: Duration = Duration::from_millis(2);
/// Bytes of entries queued before appends wait.
const QUEUE_BYTES: u64 = 64 * 1024 * 1024;

/// A file of the log that is needed, or planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) sequence: u64,
    /// WAL offset at which its frames begin.
    pub(super) start: u64,
}

/// An entry that is not in its file yet.
struct Unwritten {
    offset: u64,
    id: WalLogId,
    payload: WalPayload,
}

#[derive(Default)]
struct Inner {
    groups: VecDeque<Group>,
    /// Somebody waits for one of them.
    is_wanted: bool,
    /// What entries that are not written yet are charged.
    bytes: u64,
    /// Ascending offsets.
    unwritten: VecDeque<Unwritten>,
    /// All before this WAL offset can be read from files.
    written: u64,
    /// Ascending; the last ones may not be begun yet.
    files: VecDeque<Span>,
    failed: Option<io::Error>,
    closing: bool,
    thread: Thread,
}

/// What the log's thread does now.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Thread {
    #[default]
    Works,
    /// Waits for a while for a group that takes a mark along.
    Lingers,
    /// Waits until it is woken.
    Sleeps,
}

/// See the module.
#[derive(Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    work: Condvar,
    room: Notify,
}

/// What the log's thread is to do.
pub(super) enum Work {
    /// Write these, and sync those that want it.
    Groups(VecDeque<Group>),
    /// Nothing has come for a while: write a mark and what needs no sync.
    Idle,
    /// The log is closed and everything was handed out.
    Closed,
}

/// Where an entry is to be read.
pub(super) enum Stored {
    Memory(WalLogId, WalPayload),
    In(Span),
}

impl Queue {
    /// A log of these files whose frames end at `end`.
    pub(super) fn new(files: VecDeque<Span>, end: u64) -> Self {
        Self { inner: Mutex::new(Inner { files, written: end, ..Inner::default() }), ..Self::default() }
    }

    /// Begins a file: frames that are pushed from now on are in it.
    pub(super) fn begin(&self, header: FileHeader) -> io::Result<()> {
        let mut inner = self.usable()?;
        inner.files.push_back(Span { sequence: header.sequence, start: header.start });
        inner.groups.push_back(Group::of(header));
        Ok(())
    }

    /// Queues a frame that ends at WAL offset `end`.
    pub(super) fn push(&self, frame: &[u8], body: Option<&Bytes>, end: u64) -> io::Result<()> {
        self.usable()?.group().push(frame, body, end);
        Ok(())
    }

    /// Queues the frame of an entry, which can be read from here until it is in its file.
    pub(super) fn push_entry(&self, frame: &[u8], offset: u64, id: WalLogId, payload: WalPayload) -> io::Result<()> {
        let mut inner = self.usable()?;
        let body = payload.body();
        let end = offset + (frame.len() + body.map_or(0, Bytes::len)) as u64;
        inner.group().push(frame, body, end);
        inner.bytes += payload.charge();
        inner.unwritten.push_back(Unwritten { offset, id, payload });
        Ok(())
    }

    /// Has all that was queued so far, up to WAL offset `end`, synced, and `then` told; after that what is below WAL
    /// offset `free` is given up.
    pub(super) fn sync(&self, end: u64, then: Option<Then>, free: Option<u64>) -> io::Result<()> {
        let mut inner = self.usable()?;
        let group = inner.group();
        group.end = end;
        group.syncs = true;
        group.free = group.free.max(free);
        if let Some(then) = then {
            group.waiting.push(then);
        }
        self.wake(inner);
        Ok(())
    }

    /// Has all that was queued so far, up to WAL offset `end`, written, and `then` told without a sync.
    pub(super) fn skip_sync(&self, end: u64, then: Then) -> io::Result<()> {
        let mut inner = self.usable()?;
        let group = inner.group();
        group.end = end;
        group.hasty.push(then);
        self.wake(inner);
        Ok(())
    }

    fn wake(&self, mut inner: MutexGuard<'_, Inner>) {
        inner.is_wanted = true;
        // Waking somebody who is awake costs a system call too.
        let waits = inner.thread != Thread::Works;
        drop(inner);
        if waits {
            self.work.notify_one();
        }
    }

    /// Has all that was queued so far written within [`MARK_DELAY`].
    pub(super) fn soon(&self) {
        if self.lock().thread == Thread::Sleeps {
            self.work.notify_one();
        }
    }

    /// Waits until entries may be queued.
    ///
    /// # Errors
    /// What the log failed with.
    pub(super) async fn room(&self) -> io::Result<()> {
        loop {
            let room = self.room.notified();
            if self.usable()?.bytes < QUEUE_BYTES {
                return Ok(());
            }
            room.await;
        }
    }

    /// Where the frame at WAL offset `offset` is.
    pub(super) fn stored(&self, offset: u64) -> Option<Stored> {
        let inner = self.lock();
        if offset >= inner.written {
            let at = inner.unwritten.binary_search_by_key(&offset, |entry| entry.offset).ok()?;
            let Unwritten { id, payload, .. } = inner.unwritten.get(at)?;
            return Some(Stored::Memory(*id, payload.clone()));
        }
        let after = inner.files.partition_point(|file| file.start <= offset);
        inner.files.get(after.checked_sub(1)?).map(|file| Stored::In(*file))
    }

    /// WAL offset at which the first file begins.
    pub(super) fn start(&self) -> Option<u64> {
        self.lock().files.front().map(|file| file.start)
    }

    /// No more comes; what is queued is written and synced.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.work.notify_one();
    }

    /// Waits for work. `mark_is_due` says whether there is a mark to write.
    pub(super) fn next(&self, mark_is_due: impl Fn() -> bool) -> Work {
        let mut inner = self.lock();
        let mut until = None;
        loop {
            if inner.is_wanted || (inner.closing && !inner.groups.is_empty()) {
                return Work::Groups(inner.take());
            }
            if inner.closing {
                return Work::Closed;
            }
            if inner.groups.is_empty() && !mark_is_due() {
                inner.thread = Thread::Sleeps;
                inner = self.work.wait(inner).unwrap_or_else(PoisonError::into_inner);
                inner.thread = Thread::Works;
                continue;
            }
            let until = *until.get_or_insert_with(|| Instant::now() + MARK_DELAY);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Work::Idle;
            }
            inner.thread = Thread::Lingers;
            inner = self.work.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
            inner.thread = Thread::Works;
        }
    }

    /// Takes all that is queued, wanted or not.
    pub(super) fn take(&self) -> VecDeque<Group> {
        self.lock().take()
    }

    /// All before WAL offset `end` is in its file.
    pub(super) fn wrote(&self, end: u64) {
        let mut inner = self.lock();
        inner.written = inner.written.max(end);
        while let Some(entry) = inner.unwritten.pop_front_if(|entry| entry.offset < end) {
            inner.bytes -= entry.payload.charge();
        }
        drop(inner);
        self.room.notify_waiters();
    }

    /// Takes the files that end at or below WAL offset `free` out of the log.
    pub(super) fn release(&self, free: u64) -> Vec<Span> {
        let mut inner = self.lock();
        let mut released = Vec::new();
        while inner.files.get(1).is_some_and(|next| next.start <= free) {
            released.extend(inner.files.pop_front());
        }
        released
    }

    /// Everybody gets this error from now on, unless an earlier one was told.
    pub(super) fn fail(&self, error: &io::Error) {
        let mut inner = self.lock();
        inner.failed.get_or_insert_with(|| copy(error));
        let groups = inner.take();
        drop(inner);
        self.room.notify_waiters();
        for mut group in groups {
            group.answer(&Err(copy(error)));
        }
    }

    /// What entries that are not written yet are charged.
    #[cfg(test)]
    pub(super) fn queued_bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// The inside, unless the log failed.
    fn usable(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.lock();
        match &inner.failed {
            Some(error) => Err(copy(error)),
            None => Ok(inner),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here can panic halfway through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The group to which frames are added.
    fn group(&mut self) -> &mut Group {
        if self.groups.is_empty() {
            self.groups.push_back(Group::default());
        }
        let last = self.groups.len() - 1;
        &mut self.groups[last]
    }

    fn take(&mut self) -> VecDeque<Group> {
        self.is_wanted = false;
        std::mem::take(&mut self.groups)
    }
}
