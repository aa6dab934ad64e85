//! Which pieces of which tiers hold a range of offsets: pure.
//!
//! A plan covers `[start, end)` from its first offset on without gap or overlap, each offset from exactly one tier: what
//! the state lists as stored comes from its object, the rest from the tail. It is cut where enough has been planned for
//! certain, so its cost depends on the page and not on the partition: finding the first piece is a binary search in the
//! state's lists.

#[cfg(test)]
mod tests;

use crate::model::{ObjectId, Offset, Place, StoredRange, TailRef};
use crate::state::PartitionState;

/// What a page asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// First offset; at or above the log start.
    pub start: Offset,
    /// First offset that is not wanted; at most the high watermark.
    pub end: Offset,
    /// Records at most; at least 1.
    pub max_records: u64,
    /// Stored bytes, about.
    pub max_bytes: u64,
}

/// A piece of a plan: `[from, to)` out of one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// First offset.
    pub from: Offset,
    /// First offset after it.
    pub to: Offset,
    /// Stored bytes after which the page is full for certain, counted from the beginning of this piece.
    pub budget: u64,
    /// Where it is.
    pub source: Source,
}

/// Where a piece is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In the Raft log. The first and the last batch may reach beyond the piece.
    Tail(Vec<TailRef>),
    /// In a segment.
    Segment(ObjectId),
    /// In an archive file.
    Archive(ObjectId),
}

/// Plans `wanted` over the tiers of `partition`.
#[must_use]
pub fn plan(partition: &PartitionState, wanted: Wanted) -> Vec<Piece> {
    plan_over(partition.ranges().iter_from(wanted.start), partition.tail_from(wanted.start), wanted)
}

/// Plans `wanted` over stored ranges and tail batches that end above its start, in offset order.
///
/// The plan ends early at a gap, which the state never has.
pub fn plan_over<'a>(
    stored: impl Iterator<Item = StoredRange>,
    tail: impl Iterator<Item = &'a TailRef>,
    wanted: Wanted,
) -> Vec<Piece> {
    let mut planner = Planner {
        next: wanted.start,
        end: wanted.end.min(wanted.start.saturating_add(wanted.max_records.max(1))),
        budget: wanted.max_bytes.max(1),
        pieces: Vec::new(),
    };
    for range in stored {
        if !planner.wants(range.start, range.end) {
            break;
        }
        let source = match range.place {
            Place::Segment { id, .. } => Source::Segment(id),
            Place::Archive { file } => Source::Archive(file),
        };
        planner.add(range.start, range.end, range.bytes, source);
    }
    planner.tail(tail);
    planner.pieces
}

struct Planner {
    next: Offset,
    end: Offset,
    /// Stored bytes that may still be missing.
    budget: u64,
    pieces: Vec<Piece>,
}

impl Planner {
    fn is_full(&self) -> bool {
        self.next >= self.end || self.budget == 0
    }

    /// Whether `[start, end)` goes on where the plan ends.
    fn wants(&self, start: Offset, end: Offset) -> bool {
        !self.is_full() && start <= self.next && self.next < end
    }

    fn add(&mut self, start: Offset, end: Offset, bytes: u64, source: Source) {
        let to = end.min(self.end);
        self.pieces.push(Piece { from: self.next, to, budget: self.budget, source });
        // Of a range that is wanted in part nobody knows how many bytes that part has.
        if self.next == start && to == end {
            self.budget = self.budget.saturating_sub(bytes);
        }
        self.next = to;
    }

    fn tail<'a>(&mut self, tail: impl Iterator<Item = &'a TailRef>) {
        let (from, budget) = (self.next, self.budget);
        let mut refs = Vec::new();
        for batch in tail {
            if batch.end_offset() <= self.next {
                continue;
            }
            if !self.wants(batch.base_offset, batch.end_offset()) {
                break;
            }
            self.next = batch.end_offset().min(self.end);
            self.budget = self.budget.saturating_sub(u64::from(batch.len));
            refs.push(*batch);
        }
        if !refs.is_empty() {
            self.pieces.push(Piece { from, to: self.next, budget, source: Source::Tail(refs) });
        }
    }
}
