//! Forgetting producers, names and keys by log time, in bounded steps taken with every command.
//!
//! Whether something is expired is decided where it is looked up, by its own times; this only frees the memory, so it may
//! lag behind without changing an answer.

use std::sync::Arc;

use super::State;
use crate::model::LogTime;

/// Keys and names dropped with one command at most. More than one command brings of keys at a time on average.
const STEP: usize = 256;
/// Partitions looked through for expired producers with one command.
const PARTITIONS_STEP: usize = 4;

impl State {
    /// Producers and names last used before this are unknown.
    pub(super) fn producer_cutoff(&self) -> LogTime {
        self.log_time.saturating_sub(self.limits.producer_expiry_ms)
    }

    /// Names last used before this are unknown. A shard hears nothing of what a producer writes in the others, so with several of
    /// them a name is never too old, and only the bound on their number ends it.
    pub(super) fn name_cutoff(&self) -> LogTime {
        if self.shard_count() > 1 { 0 } else { self.producer_cutoff() }
    }

    /// Uses of idempotency keys before this do not count.
    pub(super) fn key_cutoff(&self) -> LogTime {
        self.log_time.saturating_sub(self.limits.idempotency_window_ms)
    }

    /// Takes one step; `keys` is how many keys the command may have added.
    pub(super) fn expire(&mut self, keys: usize) {
        let cutoff = self.producer_cutoff();
        self.producer_names.expire(self.name_cutoff(), STEP);
        self.keys.expire(self.key_cutoff(), self.limits.idempotency_keys as usize, STEP + keys);
        for _ in 0..PARTITIONS_STEP {
            match self.producer_checks.get_min() {
                Some((checked, slot)) if *checked < cutoff => {
                    let (checked, slot) = (*checked, *slot);
                    self.expire_producers(checked, slot, cutoff);
                }
                _ => return,
            }
        }
    }

    fn expire_producers(&mut self, checked: LogTime, slot: u32, cutoff: LogTime) {
        self.producer_checks.remove(&(checked, slot));
        let Some(partition) = self.partitions.get_mut(&slot) else { return };
        let partition = Arc::make_mut(partition);
        partition.producers_checked = 0;
        if let Some(oldest) = partition.producers.expire(cutoff, STEP) {
            partition.producers_checked = oldest;
            self.producer_checks.insert((oldest, slot));
        }
    }
}
