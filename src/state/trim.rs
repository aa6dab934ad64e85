//! `Trim`: raising log starts. What ends at or below the log start is let go, in the lists and in the tail; what is in archive
//! files only when it ends at or below the archive start.

use std::sync::Arc;

use super::objects::Dropped;
use super::{PartitionState, State};
use crate::model::batch::BATCH_OVERHEAD_BYTES;
use crate::model::{Answer, LogStart, TailRef};

impl State {
    /// Raises the log starts named; those of unknown partitions and those that are not above the current one are ignored.
    ///
    /// All of them are while the shard is closed: a start from its clean checkpoint has to find what readers last saw, and a
    /// trim that came after that checkpoint would be undone by it.
    pub(super) fn trim(&mut self, starts: &[LogStart]) -> Answer {
        if self.closed {
            return Answer::Done;
        }
        let mut dropped = Dropped::default();
        for start in starts {
            if let Some(slot) = self.slot(start.partition) {
                self.trim_partition(slot, start, &mut dropped);
            }
        }
        self.objects.drop_ranges(dropped);
        Answer::Done
    }

    /// Raises one log start, at most to the high watermark, and one archive start, at most to the log start.
    ///
    /// Archive files are kept below the log start only as long as all up to it is archived: a log start further up leaves a
    /// gap between what is kept and what is read, and nothing is kept then. That this is told by offsets alone matters: a
    /// state that was restored has in segments what the live one had in its tail.
    pub(super) fn trim_partition(&mut self, slot: u32, start: &LogStart, dropped: &mut Dropped) {
        let Some(partition) = self.partitions.get_mut(&slot) else { return };
        let (before, archived) = (partition.log_start, partition.bounds().archived);
        let start_of_log = start.log_start.min(partition.high_watermark).max(before);
        let start_of_archive = if start_of_log > archived { start_of_log } else { start.archive_start };
        let start_of_archive = start_of_archive.min(start_of_log).max(partition.archive_start);
        if (start_of_log, start_of_archive) == (before, partition.archive_start) {
            return;
        }
        let partition = Arc::make_mut(partition);
        let (topic, start) = (partition.id.topic, start_of_log);
        (partition.log_start, partition.archive_start) = (start_of_log, start_of_archive);
        let passed = partition.ranges.bytes_ending_in(before, start);
        partition.stored_bytes -= passed;
        partition.kept_bytes += passed;
        let mut gone = 0;
        partition.ranges.trim(start, start_of_archive, |range| {
            gone += range.bytes;
            dropped.add(topic, range);
        });
        partition.kept_bytes -= gone;
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
