//! The tail cache: payloads of the newest entries, so that a reader at the end of a partition reads no disk.
//!
//! A cache over the Raft log and no more: it is outside the state, within its budget, and whatever is not in it is read
//! from the log. The oldest entries go first; all up to a checkpoint may go, since readers find them in segments.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::wal::{WalLogId, WalPayload};

#[derive(Debug, Default)]
struct Entries {
    /// Consecutive indices, ascending.
    list: VecDeque<(WalLogId, WalPayload)>,
    bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct TailCache {
    /// Shared out anew when the node hosts more shards.
    budget: AtomicU64,
    entries: Mutex<Entries>,
}

impl TailCache {
    /// An empty cache of `budget` bytes.
    pub(crate) fn new(budget: u64) -> Self {
        Self { budget: AtomicU64::new(budget), entries: Mutex::default() }
    }

    /// Sets the budget; what is above it goes with the next entry.
    pub(crate) fn set_budget(&self, budget: u64) {
        self.budget.store(budget, Ordering::Relaxed);
    }

    /// Adds the entry that was just appended; an entry of the same index, and all after it, are replaced.
    pub(crate) fn push(&self, id: WalLogId, payload: WalPayload) {
        let mut entries = self.lock();
        entries.truncate(id.index);
        if entries.end().is_some_and(|end| end != id.index) {
            entries.clear();
        }
        entries.bytes += payload.charge();
        entries.list.push_back((id, payload));
        let budget = self.budget.load(Ordering::Relaxed);
        while entries.bytes > budget && entries.pop_front() {}
    }

    /// The entry at `index`, if it is here.
    pub(crate) fn get(&self, index: u64) -> Option<(WalLogId, WalPayload)> {
        let entries = self.lock();
        let (first, _) = entries.list.front()?;
        let at = usize::try_from(index.checked_sub(first.index)?).ok()?;
        entries.list.get(at).cloned()
    }

    /// Index of the first entry that is here, if there is one.
    pub(crate) fn first(&self) -> Option<u64> {
        self.lock().list.front().map(|(id, _)| id.index)
    }

    /// Forgets the entries from `index` on: the log was truncated.
    pub(crate) fn truncate(&self, index: u64) {
        self.lock().truncate(index);
    }

    /// Forgets the entries up to and with `index`: they are in segments.
    pub(crate) fn evict(&self, index: u64) {
        let mut entries = self.lock();
        while entries.list.front().is_some_and(|(id, _)| id.index <= index) && entries.pop_front() {}
    }

    /// Bytes in use.
    pub(crate) fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Entries> {
        // Nothing in here can panic halfway through a change.
        self.entries.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Entries {
    fn end(&self) -> Option<u64> {
        self.list.back().map(|(id, _)| id.index + 1)
    }

    fn pop_front(&mut self) -> bool {
        let popped = self.list.pop_front();
        if let Some((_, payload)) = &popped {
            self.bytes -= payload.charge();
        }
        popped.is_some()
    }

    fn truncate(&mut self, index: u64) {
        while self.list.back().is_some_and(|(id, _)| id.index >= index) {
            if let Some((_, payload)) = self.list.pop_back() {
                self.bytes -= payload.charge();
            }
        }
    }

    fn clear(&mut self) {
        self.list.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::raft::wal::ENTRY_OVERHEAD_BYTES;

    fn push(cache: &TailCache, term: u64, index: u64) {
        cache.push(WalLogId { term, index }, WalPayload::Command(Bytes::from(vec![0; 100])));
    }

    #[test]
    fn the_oldest_go_when_the_budget_is_used() {
        let each = 100 + ENTRY_OVERHEAD_BYTES;
        let cache = TailCache::new(3 * each);
        for index in 1..=5 {
            push(&cache, 1, index);
        }
        assert_eq!(cache.bytes(), 3 * each);
        assert!(cache.get(2).is_none() && cache.get(3).is_some() && cache.get(5).is_some() && cache.get(6).is_none());
        cache.evict(4);
        assert!(cache.get(4).is_none() && cache.get(5).is_some());
        assert_eq!(cache.bytes(), each);
    }

    #[test]
    fn an_entry_of_another_term_replaces_what_follows_it() {
        let cache = TailCache::new(u64::MAX);
        for index in 1..=5 {
            push(&cache, 1, index);
        }
        push(&cache, 2, 3);
        assert_eq!(cache.get(3).map(|(id, _)| id.term), Some(2));
        assert!(cache.get(4).is_none());
        push(&cache, 3, 9);
        assert!(cache.get(3).is_none() && cache.get(9).is_some(), "a gap empties the cache");
    }
}
