//! Idempotency keys: for each the digest and the offsets of its first use in a partition.
//!
//! A key is remembered for a window of log time, and a shard remembers a bounded number of them, oldest first out. One
//! queue in the order of use holds the facts, two maps find them; nothing is ever searched for.
//!
//! A key is a hash within its topic, and all of its uses within a window are parts of one request: the check sees to it
//! that they have one digest, and `append` that they were assigned among one number of partitions. So the newest use
//! speaks for all.

use imbl::{OrdMap, Vector};

use crate::model::checkpoint::KeyRecord;
use crate::model::{Appended, IdempotencyKey, Keyed, LogTime, Rejection};

/// The keys of a shard.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys {
    /// Oldest first. A key used again after its window is in it twice until the older use leaves.
    queue: Vector<KeyRecord>,
    /// Number of the first of `queue`.
    first: u64,
    /// Slot and key to the number of the newest use there.
    newest: OrdMap<(u32, IdempotencyKey), u64>,
    /// Key to the number of the newest use in any partition.
    anywhere: OrdMap<IdempotencyKey, u64>,
}

/// What is known of a key when a part of its request comes to a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Nothing.
    New,
    /// Another part of the request was written, assigned among so many partitions.
    Begun(u32),
    /// This part was written.
    Written(Appended),
}

impl Keys {
    /// What became of the part for `slot` of the request that is `keyed`. Uses before `cutoff` do not count.
    pub(super) fn check(&self, slot: u32, keyed: Keyed, digest: u128, cutoff: LogTime) -> Result<Use, Rejection> {
        let Some(begun) = self.newest_use(keyed.key, cutoff) else { return Ok(Use::New) };
        if begun.digest != digest {
            return Err(Rejection::IdempotencyKeyReused);
        }
        let here = self.newest.get(&(slot, keyed.key)).and_then(|number| self.record_at(*number, cutoff));
        // Assigned among others, the part of the same partition holds other records.
        let here = here.filter(|used| used.among == keyed.among);
        Ok(here.map_or(Use::Begun(begun.among), |used| {
            let (base_offset, count, log_index) = (used.base_offset, used.count, used.log_index);
            Use::Written(Appended { base_offset, count, duplicate: true, log_index })
        }))
    }

    /// The newest use of `key` since `cutoff`, in whichever partition.
    pub(super) fn newest_use(&self, key: IdempotencyKey, cutoff: LogTime) -> Option<&KeyRecord> {
        self.anywhere.get(&key).and_then(|number| self.record_at(*number, cutoff))
    }

    fn record_at(&self, number: u64, cutoff: LogTime) -> Option<&KeyRecord> {
        self.queue.get((number - self.first) as usize).filter(|used| used.time >= cutoff)
    }

    /// Remembers a use.
    pub(super) fn record(&mut self, used: KeyRecord) {
        let number = self.first + self.queue.len() as u64;
        self.newest.insert((used.slot, used.key), number);
        self.anywhere.insert(used.key, number);
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
            if self.anywhere.get(&used.key) == Some(&self.first) {
                self.anywhere.remove(&used.key);
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
