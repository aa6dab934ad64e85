//! `Flushed`: the tail up to F is in segments now.
//!
//! Everything is checked before anything changes. What has to hold: the flush builds on the current flushed index, its
//! objects are not condemned, and for every partition its ranges are exactly the tail at or below F. Between the cut and
//! this command partitions may have been trimmed or removed, so ranges are clipped to the log start and to live partitions;
//! what is left of nothing is not registered. On the checkpoint of its own F the command changes nothing.

use std::sync::Arc;

use super::{LiveSegment, PartitionState, State};
use crate::model::checkpoint::PARTITIONS_PER_PART;
use crate::model::{
    CheckpointRef, Control, IndexPartRef, LogIndex, ObjectId, Rejection, SegmentInfo, SegmentRange, StoredRange,
};
use crate::planted::{self, Bug};

/// The members of [`Control::Flushed`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Flush<'a> {
    pub(super) previous: LogIndex,
    pub(super) index: LogIndex,
    pub(super) segments: &'a [SegmentInfo],
    pub(super) ranges: &'a [Vec<SegmentRange>],
    pub(super) checkpoint: CheckpointRef,
    pub(super) parts: &'a [IndexPartRef],
}

impl<'a> Flush<'a> {
    pub(super) fn from_control(control: &'a Control) -> Option<Self> {
        let Control::Flushed { previous, index, segments, ranges, checkpoint, parts } = control else { return None };
        Some(Self { previous: *previous, index: *index, segments, ranges, checkpoint: *checkpoint, parts })
    }
}

/// A range of the flush with the slot of its partition and the number of its segment.
type Placed<'a> = (u32, usize, &'a SegmentRange);

impl State {
    /// Registers a flush.
    pub(super) fn flush(&mut self, flush: Flush<'_>) -> Result<(), Rejection> {
        if flush.index == self.flushed_index && self.checkpoint == Some(flush.checkpoint) {
            return Ok(());
        }
        let stale = Rejection::StaleFlush { current: self.flushed_index };
        self.check_flush(&flush, &stale)?;
        let ranges = self.ranges_by_slot(&flush);
        let mut live = vec![0u32; flush.segments.len()];
        // Whether all of it fits is known only at the end; a clone to go back to is cheaper than looking twice.
        let before = self.clone();
        if self.move_tails(&flush, &ranges, &mut live).is_none() {
            *self = before;
            return Err(stale);
        }
        for (ordinal, (info, live_ranges)) in flush.segments.iter().zip(live).enumerate() {
            if live_ranges > 0 {
                let ordinal = ordinal as u32;
                let flushed_at = flush.index;
                self.objects.add_segment(LiveSegment { info: *info, flushed_at, ordinal, live_ranges, claim: None });
            }
        }
        for written in flush.parts {
            if let Some(part) = self.parts.get_mut(&written.part) {
                part.written = Some(*written);
            }
        }
        self.flushed_index = flush.index;
        self.checkpoint = Some(flush.checkpoint);
        Ok(())
    }

    /// What can be checked without looking at a partition.
    fn check_flush(&self, flush: &Flush<'_>, stale: &Rejection) -> Result<(), Rejection> {
        let builds_on_current = (flush.previous == self.flushed_index || planted::is(Bug::StaleFlushAccepted))
            && flush.index > flush.previous
            && flush.index <= self.applied
            && flush.checkpoint.index == flush.index
            && flush.segments.len() == flush.ranges.len()
            && flush.parts.iter().all(|part| part.written_at == flush.index);
        if !builds_on_current {
            return Err(stale.clone());
        }
        let condemned = |id: ObjectId| id < self.condemned && !planted::is(Bug::LateFlushAfterCollection);
        if condemned(flush.checkpoint.id)
            || flush.segments.iter().any(|segment| condemned(segment.id))
            || flush.parts.iter().any(|part| condemned(part.id))
        {
            return Err(Rejection::Condemned);
        }
        let mut ids: Vec<ObjectId> = flush.segments.iter().map(|segment| segment.id).collect();
        ids.sort_unstable();
        let known = ids.iter().any(|id| self.objects.segment(*id).is_some());
        if known || ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(stale.clone());
        }
        Ok(())
    }

    /// All ranges of live partitions, by slot, then in the order given.
    fn ranges_by_slot<'a>(&self, flush: &Flush<'a>) -> Vec<Placed<'a>> {
        let mut topic = None;
        let mut flat = Vec::with_capacity(flush.ranges.iter().map(Vec::len).sum());
        for (segment, ranges) in flush.ranges.iter().enumerate() {
            for range in ranges {
                let id = range.partition;
                if topic.is_none_or(|(known, _)| known != id.topic) {
                    topic = Some((id.topic, self.topics.get(&id.topic)));
                }
                if let Some(slot) = topic.and_then(|(_, entry)| entry?.slot(id.partition)) {
                    flat.push((slot, segment, range));
                }
            }
        }
        flat.sort_by_key(|(slot, segment, _)| (*slot, *segment));
        flat
    }

    /// Moves the ranges into the partitions and the batches out of the tails, and counts live ranges by segment; `None`, with
    /// some of it done, if the ranges are not exactly the tails at or below the flush's index.
    fn move_tails(&mut self, flush: &Flush<'_>, ranges: &[Placed<'_>], live: &mut [u32]) -> Option<()> {
        let unflushed = self.unflushed.clone();
        let mut emptied = Vec::with_capacity(unflushed.len());
        let mut rest = ranges;
        let mut tails = unflushed.iter().peekable();
        loop {
            let next_range = rest.first().map_or(u32::MAX, |(slot, ..)| *slot);
            let next_tail = tails.peek().map_or(u32::MAX, |slot| **slot);
            let slot = next_range.min(next_tail);
            if slot == u32::MAX {
                break;
            }
            if next_tail == slot {
                tails.next();
            }
            let (ranges, others) = rest.split_at(rest.iter().take_while(|(of, ..)| *of == slot).count());
            rest = others;
            let partition = self.partitions.get_mut(&slot)?;
            let batches = partition.batches_until(flush.index);
            if batches == 0 && ranges.is_empty() {
                continue;
            }
            if !partition.fits(batches, ranges) && !planted::is(Bug::StaleFlushAccepted) {
                return None;
            }
            let partition = Arc::make_mut(partition);
            if let Some((.., first)) = ranges.first().filter(|_| planted::is(Bug::TrimDuringFlushForgotten)) {
                partition.log_start = partition.log_start.min(first.start);
            }
            for (_, segment, range) in ranges.iter().filter(|(.., range)| range.end > partition.log_start) {
                live[*segment] += 1;
                partition.ranges.push(&StoredRange::of_segment(flush.segments[*segment].id, range), partition.slot);
                partition.stored_bytes += range.len;
            }
            if batches > 0 {
                self.tail_bytes -= partition.drop_tail(batches);
                partition.flushed = partition.tail.front().map_or(partition.high_watermark, |batch| batch.base_offset);
                if partition.tail.is_empty() {
                    emptied.push(slot);
                }
            }
        }
        if emptied.len() == unflushed.len() {
            self.unflushed.clear();
        } else {
            for slot in &emptied {
                self.unflushed.remove(slot);
            }
        }
        Some(())
    }
}

impl PartitionState {
    /// Batches of the tail that were appended at or below log index `index`.
    fn batches_until(&self, index: LogIndex) -> usize {
        match self.tail.back() {
            Some(last) if last.log_index <= index => self.tail.len(),
            Some(_) => self.tail.iter().take_while(|batch| batch.log_index <= index).count(),
            None => 0,
        }
    }

    /// Whether `ranges` are the first `batches` of the tail, apart from what was trimmed since the cut.
    fn fits(&self, batches: usize, ranges: &[Placed<'_>]) -> bool {
        let end = match batches.checked_sub(1).and_then(|last| self.tail.get(last)) {
            Some(last) => last.end_offset(),
            // All of it was trimmed since: the log start is above.
            None => return ranges.iter().all(|(.., range)| range.end <= self.log_start),
        };
        let (Some((.., first)), Some((.., last))) = (ranges.first(), ranges.last()) else { return false };
        let contiguous = ranges.windows(2).all(|pair| pair[0].2.end == pair[1].2.start);
        let whole = ranges.iter().all(|(.., range)| range.start < range.end);
        // A trim into the tail empties the list and raises the flushed offset to the first batch left.
        let begins = first.start == self.flushed || (first.start < self.flushed && self.ranges.is_empty());
        contiguous && whole && begins && last.end == end
    }
}

/// The index part of a slot.
pub(super) const fn part_of(slot: u32) -> u32 {
    slot / PARTITIONS_PER_PART
}
