//! What appends hand to the log's thread, and what that thread lets readers know.
//!
//! The thread takes all that is queued at once: what is queued while it writes and syncs shares the next sync. So there is
//! group commit, at most one sync is under way, and nobody waits for company. A failed write or sync is the end: whoever
//! waits and whoever comes later gets the error, since after it nobody knows what the disk has.

use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::codec::{WalLogId, WalPayload};
use super::group::{Group, Then, Waiting, copy};
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
    /// As `work`, where the thread is a task.
    #[cfg(feature = "simulation")]
    called: Notify,
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
    /// A file, and the WAL offset below which it can be read.
    In(Span, u64),
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

    /// Has all that was queued so far, up to WAL offset `end`, synced, and `then` told.
    pub(super) fn sync(&self, end: u64, then: Then) -> io::Result<()> {
        let mut inner = match self.usable() {
            Ok(inner) => inner,
            Err(error) => {
                // It failed since the frames were queued: whoever is to be told must not wait for ever.
                Waiting::of(then).answer(&Err(copy(&error)));
                return Err(error);
            }
        };
        let group = inner.group();
        group.end = end;
        group.syncs = true;
        group.waiting.push(then);
        self.wake(inner);
        Ok(())
    }

    /// Has all that was queued so far, up to WAL offset `end`, synced, and what is below WAL offset `free` given up after
    /// that.
    pub(super) fn purge(&self, end: u64, free: u64) -> io::Result<()> {
        let mut inner = self.usable()?;
        let group = inner.group();
        group.end = end;
        group.syncs = true;
        group.free = group.free.max(Some(free));
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
            self.call();
        }
    }

    /// Wakes the log's thread.
    fn call(&self) {
        #[cfg(feature = "simulation")]
        self.called.notify_one();
        self.work.notify_one();
    }

    /// Has all that was queued so far written within [`MARK_DELAY`].
    pub(super) fn soon(&self) {
        if self.lock().thread == Thread::Sleeps {
            self.call();
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
        let ends = inner.files.get(after).map_or(inner.written, |next| next.start.min(inner.written));
        inner.files.get(after.checked_sub(1)?).map(|file| Stored::In(*file, ends))
    }

    /// WAL offset at which the first file begins.
    pub(super) fn start(&self) -> Option<u64> {
        self.lock().files.front().map(|file| file.start)
    }

    /// No more comes; what is queued is written and synced.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.call();
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

    /// [`Queue::next`] for a thread that is a task.
    #[cfg(feature = "simulation")]
    pub(super) async fn next_for_task(&self, mark_is_due: impl Fn() -> bool) -> Work {
        let mut until = None;
        loop {
            let called = self.called.notified();
            let lingers = {
                let mut inner = self.lock();
                inner.thread = Thread::Works;
                if inner.is_wanted || (inner.closing && !inner.groups.is_empty()) {
                    return Work::Groups(inner.take());
                }
                if inner.closing {
                    return Work::Closed;
                }
                let lingers = !inner.groups.is_empty() || mark_is_due();
                if lingers && *until.get_or_insert_with(|| Instant::now() + MARK_DELAY) <= Instant::now() {
                    return Work::Idle;
                }
                inner.thread = if lingers { Thread::Lingers } else { Thread::Sleeps };
                lingers
            };
            match until.filter(|_| lingers) {
                Some(until) => drop(tokio::time::timeout_at(until, called).await),
                None => called.await,
            }
        }
    }

    /// Whether the log's thread waits and there is nothing for it to do.
    #[cfg(feature = "simulation")]
    pub(super) fn is_idle(&self) -> bool {
        let inner = self.lock();
        inner.groups.is_empty() && inner.thread == Thread::Sleeps
    }

    /// The log's thread is a task that has not begun yet: it counts as one that sleeps.
    #[cfg(feature = "simulation")]
    pub(super) fn sleeps(&self) {
        self.lock().thread = Thread::Sleeps;
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

    /// Takes the files that end at or below WAL offset `free` out of the log, where file `newest` is the newest that has its
    /// header on disk. The ones after it are only planned: what is before them is all there is.
    pub(super) fn release(&self, free: u64, newest: u64) -> Vec<Span> {
        let mut inner = self.lock();
        let mut released = Vec::new();
        while inner.files.get(1).is_some_and(|next| next.start <= free && next.sequence <= newest) {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use uuid::Uuid;

    use super::*;

    fn begin(queue: &Queue, sequence: u64, start: u64) {
        let state = super::super::state::LogState::default();
        queue.begin(FileHeader { directory: Uuid::nil(), sequence, start, chain: 0, recycled: false, state }).unwrap();
    }

    #[test]
    fn all_that_is_queued_shares_one_write_and_nobody_waits_for_company() {
        let queue = Queue::new([Span { sequence: 1, start: 0 }].into(), 0);
        queue.push(b"a", None, 1).unwrap();
        queue.purge(1, 0).unwrap();
        let Work::Groups(groups) = queue.next(|| false) else { panic!("a lone group goes at once") };
        assert_eq!((groups.len(), groups[0].end), (1, 1));
        for end in 2..10 {
            queue.push(b"a", None, end).unwrap();
            queue.purge(end, end).unwrap();
        }
        let Work::Groups(groups) = queue.next(|| false) else { panic!() };
        assert_eq!((groups.len(), groups[0].end, groups[0].free, groups[0].syncs), (1, 9, Some(9), true));
        // Frames of two files are two writes.
        queue.push(b"a", None, 10).unwrap();
        begin(&queue, 2, 10);
        queue.push(b"a", None, 11).unwrap();
        queue.purge(11, 0).unwrap();
        let Work::Groups(groups) = queue.next(|| false) else { panic!() };
        assert_eq!(groups.iter().map(|group| (group.end, group.syncs)).collect::<Vec<_>>(), [(10, false), (11, true)]);
    }

    #[test]
    fn what_nobody_waits_for_goes_with_the_next_group_or_after_a_while() {
        let queue = Queue::new([Span { sequence: 1, start: 0 }].into(), 0);
        queue.push(b"a", None, 1).unwrap();
        let begun = Instant::now();
        assert!(matches!(queue.next(|| false), Work::Idle));
        assert!(begun.elapsed() >= MARK_DELAY);
        assert_eq!(queue.take().len(), 1);
        assert!(matches!(queue.next(|| true), Work::Idle), "a mark is due");
        queue.push(b"a", None, 2).unwrap();
        queue.close();
        assert!(matches!(queue.next(|| false), Work::Groups(groups) if groups.len() == 1));
        assert!(matches!(queue.next(|| true), Work::Closed));
    }

    #[test]
    fn a_file_is_given_up_only_for_one_that_is_on_disk() {
        let queue = Queue::new([Span { sequence: 7, start: 0 }].into(), 100);
        // All before 100 was purged, and the next file is planned to begin just there.
        begin(&queue, 8, 100);
        assert_eq!(queue.release(100, 7), []);
        assert_eq!(queue.release(99, 8), []);
        assert_eq!(queue.release(100, 8), [Span { sequence: 7, start: 0 }]);
        assert_eq!(queue.release(u64::MAX, 8), []);
    }

    #[test]
    fn entries_are_here_until_they_are_written() {
        let queue = Queue::new([Span { sequence: 1, start: 0 }].into(), 0);
        let payload = WalPayload::Command(Bytes::from_static(b"abc"));
        queue.push_entry(b"head", 0, WalLogId { term: 1, index: 5 }, payload.clone()).unwrap();
        assert!(matches!(queue.stored(0), Some(Stored::Memory(id, found)) if id.index == 5 && found == payload));
        assert!(queue.stored(1).is_none());
        queue.wrote(7);
        assert!(matches!(queue.stored(0), Some(Stored::In(Span { sequence: 1, start: 0 }, _))));
        assert_eq!(queue.queued_bytes(), 0);
    }

    #[test]
    fn a_failure_is_told_to_all() {
        let queue = Queue::new([Span { sequence: 1, start: 0 }].into(), 0);
        let (sender, mut receiver) = tokio::sync::oneshot::channel();
        queue.sync(0, Then::Caller(sender)).unwrap();
        queue.fail(&io::Error::other("first"));
        queue.fail(&io::Error::other("second"));
        assert_eq!(receiver.try_recv().unwrap().unwrap_err().to_string(), "first");
        assert_eq!(queue.push(b"a", None, 1).unwrap_err().to_string(), "first");
        assert_eq!(queue.purge(1, 1).unwrap_err().to_string(), "first");
        let (sender, mut receiver) = tokio::sync::oneshot::channel();
        assert_eq!(queue.sync(1, Then::Caller(sender)).unwrap_err().to_string(), "first");
        assert_eq!(receiver.try_recv().unwrap().unwrap_err().to_string(), "first", "whoever came too late");
    }
}
