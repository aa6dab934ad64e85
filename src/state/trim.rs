//! `Trim`: raising log starts. What ends at or below the log start is let go, in the lists and in the tail.

use std::sync::Arc;

use super::objects::Dropped;
use super::{PartitionState, State};
use crate::model::batch::BATCH_OVERHEAD_BYTES;
use crate::model::{Answer, Offset, TailRef, TopicPartition};

impl State {
    /// Raises the log starts named; those of unknown partitions and those that are not above the current one are ignored.
    ///
    /// All of them are while the shard is closed: a start from its clean checkpoint has to find what readers last saw, and a
    /// trim that came after that checkpoint would be undone by it.
    pub(super) fn trim(&mut self, starts: &[(TopicPartition, Offset)]) -> Answer {
        if self.closed {
            return Answer::Done;
        }
        let mut dropped = Dropped::default();
        for (id, start) in starts {
            if let Some(slot) = self.slot(*id) {
                self.trim_partition(slot, *start, &mut dropped);
            }
        }
        self.objects.drop_ranges(dropped);
        Answer::Done
    }

    /// Raises one log start, at most to the high watermark.
    pub(super) fn trim_partition(&mut self, slot: u32, start: Offset, dropped: &mut Dropped) {
        let Some(partition) = self.partitions.get_mut(&slot) else { return };
        let start = start.min(partition.high_watermark);
        if start <= partition.log_start {
            return;
        }
        let partition = Arc::make_mut(partition);
        let (topic, mut stored) = (partition.id.topic, 0);
        partition.log_start = start;
        partition.ranges.trim(start, |range| {
            stored += range.bytes;
            dropped.add(topic, range);
        });
        partition.stored_bytes -= stored;
        let batches = partition.tail.iter().take_while(|batch| batch.end_offset() <= start).count();
        if batches > 0 {
            self.tail_bytes -= partition.drop_tail(batches);
            partition.flushed = partition.tail.front().map_or(partition.high_watermark, |batch| batch.base_offset);
            if partition.tail.is_empty() {
                self.unflushed.remove(&slot);
            }
        }
        self.changed_at = self.applied;
    }
}

#[cfg(feature = "planted-bugs")]
impl State {
    /// Has the tails of another state besides what is there: a planted bug.
    pub(crate) fn keep_tails(&mut self, of: &Self) {
        for slot in &of.unflushed {
            let (Some(old), Some(new)) = (of.partitions.get(slot), self.partitions.get_mut(slot)) else { continue };
            if old.id != new.id || !new.tail.is_empty() {
                continue;
            }
            let new = Arc::make_mut(new);
            new.tail = old.tail.clone();
            new.tail_bytes = old.tail_bytes;
            self.tail_bytes += old.tail_bytes;
            self.unflushed.insert(*slot);
        }
    }
}

impl PartitionState {
    /// Drops the first `batches` of the tail; gives the bytes that budgets get back.
    pub(super) fn drop_tail(&mut self, batches: usize) -> u64 {
        let charge = |batch: &TailRef| u64::from(batch.len) + BATCH_OVERHEAD_BYTES;
        let freed = if batches == self.tail.len() {
            self.tail = imbl::Vector::new();
            self.tail_bytes
        } else {
            let rest = self.tail.split_off(batches);
            let dropped = std::mem::replace(&mut self.tail, rest);
            dropped.iter().map(charge).sum()
        };
        self.tail_bytes -= freed;
        freed
    }
}
