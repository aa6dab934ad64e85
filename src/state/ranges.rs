//! The ordered list of what is stored of one partition: segment and archive ranges, in offset order.
//!
//! Lists are long (a day of ten-second flushes is 8,640 entries), and every flush and every archive job touches all of
//! them, so what counts is how much memory a change touches: an entry is packed into 72 bytes, and the list is two queues:
//! first what is archived without a gap from the front on, then the rest. A flush appends to the rest; an archive job
//! usually takes the oldest of the rest and appends to the archived; a trim takes from the front. Only a job that
//! finishes out of order changes the middle of the rest and rebuilds a directory.
//!
//! Ranges never overlap and have no gaps; a range leaves when it ends at or below the log start, and one of an archive file
//! that outlives the log when it ends at or below the archive start.

use super::chunks::{Chunks, Position};
use crate::model::{ObjectId, Offset, Place, StoredRange};

/// A [`StoredRange`] without the padding that a 16-byte aligned id costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Packed {
    start: Offset,
    end: Offset,
    bytes: u64,
    max_timestamp: i64,
    min_append_time: u64,
    max_append_time: u64,
    object: [u64; 2],
    /// [`ARCHIVE`] for an archive range.
    position: u64,
}

/// No segment has this position: segments are megabytes.
const ARCHIVE: u64 = u64::MAX;

impl From<&StoredRange> for Packed {
    fn from(range: &StoredRange) -> Self {
        let (id, position) = match range.place {
            Place::Segment { id, position } => (id, position),
            Place::Archive { file } => (file, ARCHIVE),
        };
        Self {
            start: range.start,
            end: range.end,
            bytes: range.bytes,
            max_timestamp: range.max_timestamp,
            min_append_time: range.min_append_time,
            max_append_time: range.max_append_time,
            object: [(id.0 >> 64) as u64, id.0 as u64],
            position,
        }
    }
}

impl Packed {
    fn id(&self) -> ObjectId {
        ObjectId((u128::from(self.object[0]) << 64) | u128::from(self.object[1]))
    }

    fn is_archived(&self) -> bool {
        self.position == ARCHIVE
    }

    fn unpack(&self) -> StoredRange {
        let place = match self.position {
            ARCHIVE => Place::Archive { file: self.id() },
            position => Place::Segment { id: self.id(), position },
        };
        StoredRange {
            start: self.start,
            end: self.end,
            bytes: self.bytes,
            max_timestamp: self.max_timestamp,
            min_append_time: self.min_append_time,
            max_append_time: self.max_append_time,
            place,
        }
    }
}

/// Ordered, gapless, persistent: a clone is four reference counts.
#[derive(Debug, Clone, Default)]
pub struct RangeList {
    archived: Chunks<Packed>,
    /// Begins with a segment range, if it has any.
    rest: Chunks<Packed>,
    /// Where that range starts, so that the bounds of a partition are known without following references.
    first_in_segment: Option<Offset>,
}

impl RangeList {
    /// The list of `ranges`, which are in order and without gaps. `stagger` spreads over partitions when they next
    /// seal a chunk, so that not all do it in the same flush.
    pub(super) fn from_ranges(ranges: &[StoredRange], stagger: u32) -> Self {
        let packed: Vec<Packed> = ranges.iter().map(Packed::from).collect();
        let (archived, rest) = packed.split_at(packed.iter().take_while(|range| range.is_archived()).count());
        Self {
            archived: Chunks::from_slice(archived, stagger),
            rest: Chunks::from_slice(rest, stagger),
            first_in_segment: rest.first().map(|range| range.start),
        }
    }

    /// Whether nothing is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.archived.is_empty() && self.rest.is_empty()
    }

    /// How many ranges there are; adds up the chunks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.archived.len() + self.rest.len()
    }

    /// The range with the smallest offsets.
    #[must_use]
    pub fn first(&self) -> Option<StoredRange> {
        self.archived.first().or_else(|| self.rest.first()).map(Packed::unpack)
    }

    /// The range with the largest offsets.
    #[must_use]
    pub fn last(&self) -> Option<StoredRange> {
        self.rest.last().or_else(|| self.archived.last()).map(Packed::unpack)
    }

    /// All ranges, in offset order.
    pub fn iter(&self) -> impl Iterator<Item = StoredRange> + '_ {
        self.iter_from(0)
    }

    /// The ranges that end above `offset`, in offset order: the first one holds `offset` or begins above it. Finding it
    /// is a few binary searches.
    pub fn iter_from(&self, offset: Offset) -> impl Iterator<Item = StoredRange> + '_ {
        let archived = self.archived.iter_at(self.archived.seek(|range| range.end <= offset));
        archived.chain(self.rest.iter_at(self.seek(offset))).map(Packed::unpack)
    }

    /// The first offset that is in a segment; `None` if everything stored is archived.
    pub(super) fn first_in_segment(&self) -> Option<Offset> {
        self.first_in_segment
    }

    /// Where the first range above the archived ones is that ends above `offset`.
    pub(super) fn seek(&self, offset: Offset) -> Position {
        self.rest.seek(|range| range.end <= offset)
    }

    /// The position `count` ranges after `position`.
    pub(super) fn advance(&self, position: Position, count: usize) -> Position {
        self.rest.advance(position, count)
    }

    /// The ranges above the archived ones from `position` on.
    pub(super) fn iter_at(&self, position: Position) -> impl Iterator<Item = StoredRange> + '_ {
        self.rest.iter_at(position).map(Packed::unpack)
    }

    /// Appends a range that begins where the last one ends.
    pub(super) fn push(&mut self, range: &StoredRange, stagger: u32) {
        if self.rest.is_empty() {
            self.first_in_segment = Some(range.start);
        }
        self.rest.push(range.into(), stagger);
    }

    /// Bytes of the ranges that end above `from` and at or below `to`. Costs as much as they are.
    pub(super) fn bytes_ending_in(&self, from: Offset, to: Offset) -> u64 {
        self.iter_from(from).take_while(|range| range.end <= to).map(|range| range.bytes).sum()
    }

    /// Drops the ranges that end at or below `log_start`, those at the front that are archived only if they end at or below
    /// `archive_start`, and tells each one to `dropped`.
    pub(super) fn trim(&mut self, log_start: Offset, archive_start: Offset, mut dropped: impl FnMut(&StoredRange)) {
        let gone = |range: &Packed| range.end <= archive_start;
        if self.archived.first().is_some_and(gone) {
            let to = self.archived.seek(gone);
            let leaving = self.archived.iter_at(self.archived.start()).take_while(|range| gone(range));
            leaving.for_each(|range| dropped(&range.unpack()));
            self.archived.drop_before(to);
        }
        let gone = |range: &Packed| range.end <= log_start;
        if self.rest.first().is_some_and(gone) {
            let to = self.rest.seek(gone);
            let leaving = self.rest.iter_at(self.rest.start()).take_while(|range| gone(range));
            leaving.for_each(|range| dropped(&range.unpack()));
            self.rest.drop_before(to);
            self.settle(0);
        }
    }

    /// Replaces the ranges of `[from, to)` by `ranges`, which cover the same readable offsets.
    pub(super) fn replace(&mut self, from: Position, to: Position, ranges: &[StoredRange], stagger: u32) {
        if from == self.rest.start() && ranges.iter().all(|range| matches!(range.place, Place::Archive { .. })) {
            self.rest.drop_before(to);
            ranges.iter().for_each(|range| self.archived.push(range.into(), stagger));
        } else {
            let packed: Vec<Packed> = ranges.iter().map(Packed::from).collect();
            self.rest.splice(from, to, &packed);
        }
        self.settle(stagger);
    }

    /// Moves archive ranges from the front of the rest to the archived.
    fn settle(&mut self, stagger: u32) {
        let start = self.rest.start();
        let mut moved = 0;
        for range in self.rest.iter_at(start).take_while(|range| range.is_archived()) {
            self.archived.push(*range, stagger);
            moved += 1;
        }
        if moved > 0 {
            self.rest.drop_before(self.rest.advance(start, moved));
        }
        self.first_in_segment = self.rest.first().map(|range| range.start);
    }
}
