//! The ordered list of what is stored of one partition: segment and archive ranges, in offset order.
//!
//! Lists are long (a day of ten-second flushes is 8,640 entries) and every flush appends to all of them, so an entry is
//! packed into 72 bytes, the newest few are inline in the partition, and the others sit in immutable shared chunks.
//! Appending costs one chunk of at most [`CHUNK`] entries every [`RECENT`]th time; replacing a run rebuilds the chunks
//! at its two ends and the directory. Ranges never overlap and have no gaps; a range leaves when it ends at or below
//! the log start.

use std::sync::Arc;

use crate::model::{ObjectId, Offset, Place, StoredRange};

/// Entries of a sealed chunk.
const CHUNK: usize = 32;
/// Entries kept inline in the partition.
const RECENT: usize = 6;

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

/// Ordered, gapless, persistent: a clone is one reference count and the inline entries.
#[derive(Debug, Clone, Default)]
pub struct RangeList {
    /// Never contains an empty chunk.
    chunks: Arc<[Arc<[Packed]>]>,
    /// Entries of the first chunk that were trimmed away.
    skip: usize,
    recent: [Packed; RECENT],
    recent_len: u8,
}

/// A place in a list: leaf and entry in it. Leaves are the chunks, then the inline entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    leaf: usize,
    entry: usize,
}

impl RangeList {
    /// The list of `ranges`, which are in order and without gaps. `stagger` spreads over partitions when they next
    /// seal a chunk, so that not all do it in the same flush.
    pub(super) fn from_ranges(ranges: &[StoredRange], stagger: u32) -> Self {
        let inline = (stagger as usize % RECENT).min(ranges.len());
        let (sealed, recent) = ranges.split_at(ranges.len() - inline);
        let chunks: Vec<Arc<[Packed]>> =
            sealed.chunks(CHUNK).map(|chunk| chunk.iter().map(Packed::from).collect()).collect();
        let mut list = Self { chunks: chunks.into(), ..Self::default() };
        for range in recent {
            list.recent[usize::from(list.recent_len)] = range.into();
            list.recent_len += 1;
        }
        list
    }

    /// Whether nothing is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.recent_len == 0
    }

    /// How many ranges there are; adds up the chunks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.len()).sum::<usize>() - self.skip + usize::from(self.recent_len)
    }

    /// The range with the smallest offsets.
    #[must_use]
    pub fn first(&self) -> Option<StoredRange> {
        self.iter().next()
    }

    /// The range with the largest offsets.
    #[must_use]
    pub fn last(&self) -> Option<StoredRange> {
        let leaf = if self.recent_len > 0 { self.chunks.len() } else { self.chunks.len().checked_sub(1)? };
        self.leaf(leaf).last().map(Packed::unpack)
    }

    /// All ranges, in offset order.
    pub fn iter(&self) -> impl Iterator<Item = StoredRange> + '_ {
        self.iter_at(Position { leaf: 0, entry: 0 })
    }

    /// The ranges that end above `offset`, in offset order: the first one holds `offset` or begins above it. Finding it
    /// is two binary searches.
    pub fn iter_from(&self, offset: Offset) -> impl Iterator<Item = StoredRange> + '_ {
        self.iter_at(self.seek(offset))
    }

    fn iter_at(&self, from: Position) -> impl Iterator<Item = StoredRange> + '_ {
        let first = self.leaf(from.leaf).get(from.entry..).unwrap_or_default();
        let rest = (from.leaf + 1..=self.chunks.len()).flat_map(|leaf| self.leaf(leaf));
        first.iter().chain(rest).map(Packed::unpack)
    }

    fn leaf(&self, leaf: usize) -> &[Packed] {
        match self.chunks.get(leaf) {
            Some(chunk) if leaf == 0 => &chunk[self.skip..],
            Some(chunk) => chunk,
            None => &self.recent[..usize::from(self.recent_len)],
        }
    }

    /// Where the first range is that ends above `offset`.
    pub(super) fn seek(&self, offset: Offset) -> Position {
        let leaf = self.chunks.partition_point(|chunk| chunk.last().is_none_or(|last| last.end <= offset));
        Position { leaf, entry: self.leaf(leaf).partition_point(|range| range.end <= offset) }
    }

    /// Appends a range that begins where the last one ends.
    pub(super) fn push(&mut self, range: &StoredRange, stagger: u32) {
        let full = if self.chunks.is_empty() { 1 + stagger as usize % RECENT } else { RECENT };
        if usize::from(self.recent_len) >= full {
            self.seal();
        }
        self.recent[usize::from(self.recent_len)] = range.into();
        self.recent_len += 1;
    }

    /// Moves the inline entries into the last chunk, or a new one.
    fn seal(&mut self) {
        let recent = &self.recent[..usize::from(self.recent_len)];
        let (kept, last) = match self.chunks.split_last() {
            Some((last, kept)) if last.len() + recent.len() <= CHUNK => (kept, &last[..]),
            _ => (&self.chunks[..], &[][..]),
        };
        let chunk: Arc<[Packed]> = last.iter().chain(recent).copied().collect();
        self.chunks = kept.iter().cloned().chain([chunk]).collect();
        self.recent_len = 0;
    }

    /// Drops the ranges that end at or below `log_start` and tells each one to `dropped`.
    pub(super) fn trim(&mut self, log_start: Offset, mut dropped: impl FnMut(&StoredRange)) {
        let end = self.seek(log_start);
        if end == (Position { leaf: 0, entry: 0 }) {
            return;
        }
        for range in self.iter().take_while(|range| range.end <= log_start) {
            dropped(&range);
        }
        if end.leaf == 0 && !self.chunks.is_empty() {
            self.skip += end.entry;
        } else if end.leaf < self.chunks.len() {
            self.chunks = self.chunks[end.leaf..].into();
            self.skip = end.entry;
        } else {
            self.chunks = Arc::default();
            self.skip = 0;
            self.recent.copy_within(end.entry..usize::from(self.recent_len), 0);
            self.recent_len -= end.entry as u8;
        }
    }

    /// Replaces the ranges of `[from, to)` by `ranges`, which cover the same readable offsets.
    pub(super) fn splice(&mut self, from: Position, to: Position, ranges: &[StoredRange]) {
        let mut middle: Vec<Packed> = self.leaf(from.leaf)[..from.entry].to_vec();
        middle.extend(ranges.iter().map(Packed::from));
        middle.extend_from_slice(self.leaf(to.leaf).get(to.entry..).unwrap_or_default());
        let before = &self.chunks[..from.leaf];
        let after = self.chunks.get(to.leaf + 1..).unwrap_or_default();
        let rebuilt = middle.chunks(CHUNK).map(Arc::from);
        let chunks: Arc<[Arc<[Packed]>]> = before.iter().cloned().chain(rebuilt).chain(after.iter().cloned()).collect();
        if from.leaf == 0 {
            self.skip = 0;
        }
        if to.leaf >= self.chunks.len() {
            self.recent_len = 0;
        }
        self.chunks = chunks;
    }

    /// The place after `position`.
    pub(super) fn next(&self, position: Position) -> Position {
        let next = Position { entry: position.entry + 1, ..position };
        if next.entry < self.leaf(next.leaf).len() || next.leaf >= self.chunks.len() {
            return next;
        }
        Position { leaf: next.leaf + 1, entry: 0 }
    }

    /// The range at `position`, if it is one.
    pub(super) fn get(&self, position: Position) -> Option<StoredRange> {
        self.leaf(position.leaf).get(position.entry).map(Packed::unpack)
    }
}
