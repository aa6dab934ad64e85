//! Whole entries of the tail, which a gateway does not have: asked for together, and kept as long as the budget lets.
//!
//! Those who want entries at the same time share a call; two calls are under way at most. The oldest entries leave memory
//! first, and all that is in segments, since readers find it there. What this process proposed is in memory without a call.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Inner;
use crate::error::{Error, Result};
use crate::model::LogIndex;
use crate::raft::transport::PeerAddress;
use crate::raft::wire::{self, MAX_ASKED, kind};

/// How long a call may take: a node that hangs is passed over then.
const CALL_DEADLINE: Duration = Duration::from_secs(3);
/// How long entries that are applied here are looked for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// What an entry is charged besides its bytes.
const OVERHEAD_BYTES: u64 = 128;
/// Calls under way.
const CALLS: usize = 2;

type Answer = Result<Option<Bytes>>;

/// See the module.
pub(super) struct Entries {
    budget: AtomicU64,
    kept: Mutex<Kept>,
    wanted: Mutex<Wanted>,
}

#[derive(Default)]
struct Kept {
    by_index: BTreeMap<LogIndex, Bytes>,
    bytes: u64,
    /// What is at or below is in segments.
    flushed: LogIndex,
}

#[derive(Default)]
struct Wanted {
    by_index: BTreeMap<LogIndex, Vec<oneshot::Sender<Answer>>>,
    calls: usize,
}

impl Entries {
    pub(super) fn new(budget: u64) -> Self {
        Self { budget: AtomicU64::new(budget), kept: Mutex::default(), wanted: Mutex::default() }
    }

    /// Sets the budget; what is above it goes with the next entry.
    pub(super) fn set_budget(&self, budget: u64) {
        self.budget.store(budget, Ordering::Relaxed);
    }

    /// Bytes in memory.
    pub(super) fn bytes(&self) -> u64 {
        self.kept().bytes
    }

    /// Keeps an entry that is known to be committed at `index`.
    pub(super) fn keep(&self, index: LogIndex, entry: &Bytes) {
        let mut kept = self.kept();
        if index <= kept.flushed || kept.by_index.contains_key(&index) {
            return;
        }
        kept.bytes += charge(entry);
        kept.by_index.insert(index, entry.clone());
        let budget = self.budget.load(Ordering::Relaxed);
        while kept.bytes > budget && kept.pop_first() {}
    }

    /// Forgets the entries up to and with `index`: they are in segments.
    pub(super) fn evict(&self, index: LogIndex) {
        let mut kept = self.kept();
        kept.flushed = kept.flushed.max(index);
        while kept.by_index.first_key_value().is_some_and(|(first, _)| *first <= index) && kept.pop_first() {}
    }

    fn get(&self, index: LogIndex) -> Option<Bytes> {
        self.kept().by_index.get(&index).cloned()
    }

    /// Joins those who wait for `index`; whether a call has to be begun.
    fn want(&self, index: LogIndex) -> (oneshot::Receiver<Answer>, bool) {
        let (sender, receiver) = oneshot::channel();
        let mut wanted = self.wanted();
        wanted.by_index.entry(index).or_default().push(sender);
        let begins = wanted.calls < CALLS;
        wanted.calls += usize::from(begins);
        (receiver, begins)
    }

    /// The oldest entries that are waited for, with those who wait; none ends the call.
    fn take(&self) -> BTreeMap<LogIndex, Vec<oneshot::Sender<Answer>>> {
        let mut wanted = self.wanted();
        // Nobody may be left who waits.
        wanted.by_index.retain(|_, waiting| {
            waiting.retain(|sender| !sender.is_closed());
            !waiting.is_empty()
        });
        let mut taken = std::mem::take(&mut wanted.by_index);
        if let Some(index) = taken.keys().nth(MAX_ASKED).copied() {
            wanted.by_index = taken.split_off(&index);
        }
        wanted.calls -= usize::from(taken.is_empty());
        taken
    }

    /// What did not fit into an answer is waited for again.
    fn put_back(&self, rest: BTreeMap<LogIndex, Vec<oneshot::Sender<Answer>>>) {
        let mut wanted = self.wanted();
        for (index, waiting) in rest {
            wanted.by_index.entry(index).or_default().extend(waiting);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn pop_first(&mut self) -> bool {
        let popped = self.by_index.pop_first();
        if let Some((_, entry)) = &popped {
            self.bytes -= charge(entry);
        }
        popped.is_some()
    }
}

fn charge(entry: &Bytes) -> u64 {
    OVERHEAD_BYTES + entry.len() as u64
}

/// See [`super::Remote::read_entry`].
pub(super) async fn read(inner: &Arc<Inner>, index: LogIndex) -> Answer {
    if let Some(entry) = inner.entries.get(index) {
        return Ok(Some(entry));
    }
    let (answer, begins) = inner.entries.want(index);
    if begins {
        // A task of its own: who waits for it may give up, and others go on waiting.
        tokio::spawn(fetch(Arc::clone(inner)));
    }
    answer.await.unwrap_or_else(|_| Err(Error::unavailable("the process is ending")))
}

/// Asks for what is waited for until nothing is.
async fn fetch(inner: Arc<Inner>) {
    loop {
        let mut waiting = inner.entries.take();
        if waiting.is_empty() {
            return;
        }
        let indices: Vec<LogIndex> = waiting.keys().copied().collect();
        match ask_patiently(&inner, &indices).await {
            Ok(entries) => {
                for (index, entry) in indices.into_iter().zip(entries) {
                    if let Some(entry) = &entry {
                        inner.entries.keep(index, entry);
                    }
                    for sender in waiting.remove(&index).into_iter().flatten() {
                        let _ = sender.send(Ok(entry.clone()));
                    }
                }
                inner.entries.put_back(waiting);
            }
            Err(error) => {
                for sender in waiting.into_values().flatten() {
                    let _ = sender.send(Err(error.again()));
                }
            }
        }
    }
}

/// As [`ask`]. What is applied here but nowhere where somebody answers is applied there in moments: the followers hear of it after
/// the leader, from which it came.
async fn ask_patiently(inner: &Inner, indices: &[LogIndex]) -> Result<Vec<Option<Bytes>>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let asked = ask(inner, indices).await;
        let is_applied = indices.first().is_some_and(|first| *first <= *inner.view.applied().borrow());
        if asked.is_ok() || !is_applied || Instant::now() >= deadline {
            return asked;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// At least the first of the entries, from the leader or else whoever has them.
async fn ask(inner: &Inner, indices: &[LogIndex]) -> Result<Vec<Option<Bytes>>> {
    let leader = inner.leadership.borrow().leader;
    let mut last = Error::unavailable("no node of the shard is known");
    for node in inner.voters.in_order(leader) {
        match ask_one(inner, &node, indices).await {
            Ok(entries) if !entries.is_empty() => return Ok(entries),
            Ok(_) => {
                last = Error::unavailable(format!("node {} has not applied entry {:?}", node.node, indices.first()))
            }
            Err(error) => {
                tracing::debug!(node = %node.node, ?error, "a node does not give entries of the tail");
                inner.voters.failed(node.node);
                last = error;
            }
        }
    }
    Err(last)
}

async fn ask_one(inner: &Inner, node: &PeerAddress, indices: &[LogIndex]) -> Result<Vec<Option<Bytes>>> {
    let body = wire::encode_entries_asked(indices)?;
    let answer = inner.transport.call(node, kind::READ_ENTRIES, vec![body], CALL_DEADLINE).await;
    let entries = wire::decode_entries(&answer.map_err(crate::raft::TransportError::into_error)?)?;
    if entries.len() > indices.len() {
        return Err(Error::invalid("peer_message", "a node sent more entries than were asked for"));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entries_go_first_and_what_is_flushed_goes_at_once() {
        let entry = Bytes::from_static(&[7; 100]);
        let each = charge(&entry);
        let entries = Entries::new(3 * each);
        for index in [5, 3, 4, 6, 6] {
            entries.keep(index, &entry);
        }
        assert!(entries.get(3).is_none() && entries.get(4).is_some() && entries.bytes() == 3 * each);
        entries.evict(5);
        assert!(entries.get(5).is_none() && entries.get(6).is_some() && entries.bytes() == each);
        entries.keep(5, &entry);
        assert!(entries.get(5).is_none(), "it is in a segment");
    }

    #[test]
    fn who_gave_up_is_not_asked_for_and_the_rest_is_taken_in_bounded_steps() {
        let entries = Entries::new(1 << 20);
        let gone = entries.want(1);
        assert!(gone.1);
        drop(gone);
        let waiting: Vec<_> = (2..2 + 2 * MAX_ASKED as u64).map(|index| entries.want(index)).collect();
        assert!(waiting[0].1 && !waiting[1].1, "two calls at most");
        let first = entries.take();
        assert!(first.len() == MAX_ASKED && first.keys().next() == Some(&2));
        entries.put_back(first);
        assert_eq!(entries.take().len(), MAX_ASKED);
        assert_eq!(entries.take().len(), MAX_ASKED);
        assert!(entries.take().is_empty() && entries.want(9).1, "a call has ended");
    }
}
