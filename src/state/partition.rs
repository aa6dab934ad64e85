//! One partition: its bounds, its tail and what is stored of it.
//!
//! Invariants: `archive_start ≤ log_start ≤ high_watermark`; the stored ranges are gapless and end at `flushed`; the tail is
//! gapless from `flushed` to `high_watermark`; every range and tail reference ends above `log_start`, though the first may
//! begin below it. But where archive files outlive the log, ranges in such files may end below it: they end above
//! `archive_start`, and all up to the log start is archived then, so that there is no gap between the two. The state keeps partitions behind `Arc` and copies one (under 1 KiB, lists are shared) when it changes
//! while a view still holds it.

use imbl::Vector;

use super::producer::Producers;
use super::ranges::RangeList;
use crate::model::{Bounds, LogTime, Offset, TailRef, TopicPartition};

/// The replicated state of one partition.
#[derive(Debug, Clone)]
pub struct PartitionState {
    pub(super) id: TopicPartition,
    pub(super) slot: u32,
    pub(super) log_start: Offset,
    pub(super) archive_start: Offset,
    pub(super) flushed: Offset,
    pub(super) high_watermark: Offset,
    pub(super) stored_bytes: u64,
    pub(super) kept_bytes: u64,
    pub(super) tail_bytes: u64,
    pub(super) producers_checked: LogTime,
    pub(super) producers: Producers,
    pub(super) tail: Vector<TailRef>,
    pub(super) ranges: RangeList,
}

impl PartitionState {
    /// An empty partition.
    pub(super) fn new(id: TopicPartition, slot: u32) -> Self {
        Self {
            id,
            slot,
            log_start: 0,
            archive_start: 0,
            flushed: 0,
            high_watermark: 0,
            stored_bytes: 0,
            kept_bytes: 0,
            tail_bytes: 0,
            producers_checked: 0,
            producers: Producers::default(),
            tail: Vector::new(),
            ranges: RangeList::default(),
        }
    }

    /// Which partition it is.
    #[must_use]
    pub fn id(&self) -> TopicPartition {
        self.id
    }

    /// Its dense number within the shard; never reused. Its index part is `slot / 256`.
    #[must_use]
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// The offsets that bound it. `flushed` and `archived` are never below the log start.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds {
            log_start: self.log_start,
            flushed: self.flushed.max(self.log_start),
            archived: self.ranges.first_in_segment().unwrap_or(self.flushed).max(self.log_start),
            high_watermark: self.high_watermark,
        }
    }

    /// The smallest offset that archive files are kept for. Below the log start it is for readers of the files alone.
    #[must_use]
    pub fn archive_start(&self) -> Offset {
        self.archive_start
    }

    /// Batches above the flushed offset, in offset order; their bytes are in the Raft log.
    #[must_use]
    pub fn tail(&self) -> &Vector<TailRef> {
        &self.tail
    }

    /// The batches of the tail that end above `offset`. Finding the first is a binary search.
    pub fn tail_from(&self, offset: Offset) -> impl Iterator<Item = &TailRef> + '_ {
        let first = match self.tail.binary_search_by_key(&offset, TailRef::end_offset) {
            Ok(at) => at + 1,
            Err(at) => at,
        };
        self.tail.focus().narrow(first..).into_iter()
    }

    /// What is in segments and archive files: one list in offset order, from [`Self::archive_start`] on.
    #[must_use]
    pub fn ranges(&self) -> &RangeList {
        &self.ranges
    }

    /// Logical bytes in segments and archive files from the log start on; what retention by bytes counts together with
    /// [`Self::tail_bytes`].
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// The same of what is below the log start, in archive files that are kept.
    #[must_use]
    pub fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }

    /// Bytes of the tail, as budgets count them: 128 more for each batch.
    #[must_use]
    pub fn tail_bytes(&self) -> u64 {
        self.tail_bytes
    }

    /// The producers that this partition remembers.
    #[must_use]
    pub fn producers(&self) -> &Producers {
        &self.producers
    }
}
