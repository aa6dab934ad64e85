//! Idempotency keys: for each the digest and the offsets of its first use in a partition.
//!
//! A key is remembered for a window of log time, and a shard remembers a bounded number of them, oldest first out. One
//! queue in the order of use holds the facts, a map finds them; nothing is ever searched for.

use imbl::{OrdMap, Vector};

use crate::model::checkpoint::KeyRecord;
use crate::model::{Appended, IdempotencyKey, LogTime, Rejection};

/// The keys of a shard.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys {
    /// Oldest first. A key used again after its window is in it twice until the older use leaves.
    queue: Vector<KeyRecord>,
    /// Number of the first of `queue`.
    first: u64,
    /// Slot and key to the number of the newest use.
    newest: OrdMap<(u32, IdempotencyKey), u64>,
}

impl Keys {
    /// Whether a batch under `key` may be written: `None` if so, the first answer if it was. Uses before `cutoff` do not count.
    pub(super) fn check(
        &self,
        slot: u32,
        key: IdempotencyKey,
        digest: u128,
        cutoff: LogTime,
    ) -> Result<Option<Appended>, Rejection> {
        let Some(number) = self.newest.get(&(slot, key)) else { return Ok(None) };
        let Some(used) = self.queue.get((number - self.first) as usize).filter(|used| used.time >= cutoff) else {
            return Ok(None);
        };
        if used.digest != digest {
            return Err(Rejection::IdempotencyKeyReused);
        }
        Ok(Some(Appended {
            base_offset: used.base_offset,
            count: used.count,
            duplicate: true,
            log_index: used.log_index,
        }))
    }

    /// Whether `key` was used since `cutoff`.
    pub(super) fn remembers(&self, slot: u32, key: IdempotencyKey, cutoff: LogTime) -> bool {
        let number = self.newest.get(&(slot, key));
        let used = number.and_then(|number| self.queue.get((number - self.first) as usize));
        used.is_some_and(|used| used.time >= cutoff)
    }

    /// Remembers a use.
    pub(super) fn record(&mut self, used: KeyRecord) {
        self.newest.insert((used.slot, used.key), self.first + self.queue.len() as u64);
        self.queue.push_back(used);
    }

    /// Drops uses before `cutoff` and those above `capacity`, at most `bound` of them.
    pub(super) fn expire(&mut self, cutoff: LogTime, capacity: usize, bound: usize) {
        for _ in 0..bound {
            let due = self.queue.len() > capacity || self.oldest().is_some_and(|time| time < cutoff);
            if !due {
                return;
            }
            let Some(used) = self.queue.pop_front() else { return };
            if self.newest.get(&(used.slot, used.key)) == Some(&self.first) {
                self.newest.remove(&(used.slot, used.key));
            }
            self.first += 1;
        }
    }

    /// When the oldest remembered use was.
    pub(super) fn oldest(&self) -> Option<LogTime> {
        self.queue.front().map(|used| used.time)
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// As a checkpoint holds them.
    pub(super) fn records(&self) -> impl Iterator<Item = KeyRecord> + '_ {
        self.queue.iter().copied()
    }
}
