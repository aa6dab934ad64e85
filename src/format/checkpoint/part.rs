//! How an index part lies in its frame: object ids once in a dictionary, offsets and times as differences.
//!
//! The ranges of a partition follow each other without gaps, so that most differences are zero or small; the frame keeps
//! any list all the same (differences wrap), what it means is not its concern.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::model::{IndexPart, LogIndex, ObjectId, Place, StoredRange};

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WirePart {
    part: u32,
    written_at: LogIndex,
    /// Segments, then archive files.
    segments: Vec<ObjectId>,
    files: Vec<ObjectId>,
    partitions: Vec<(u32, Vec<WireRange>)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WireRange {
    /// Index into segments followed by files.
    object: u32,
    /// Position in a segment; 0 in a file.
    position: u64,
    /// Start less the end of the range before.
    gap: u64,
    /// End less start.
    count: u64,
    bytes: u64,
    /// Less that of the range before.
    max_timestamp: i64,
    /// Less the largest append time of the range before.
    min_append_time: i64,
    /// Less the smallest of the same range.
    max_append_time: i64,
}

/// What the differences are taken from: the range before, or zeroes.
#[derive(Debug, Clone, Copy, Default)]
struct Before {
    end: u64,
    max_timestamp: i64,
    max_append_time: u64,
}

impl Before {
    fn of(range: &StoredRange) -> Self {
        Self { end: range.end, max_timestamp: range.max_timestamp, max_append_time: range.max_append_time }
    }
}

/// The objects of one kind in the order in which they were first seen.
#[derive(Default)]
struct Dictionary {
    numbers: HashMap<ObjectId, u32>,
    ids: Vec<ObjectId>,
}

impl Dictionary {
    fn number(&mut self, id: ObjectId) -> u32 {
        let next = self.ids.len() as u32;
        *self.numbers.entry(id).or_insert_with(|| {
            self.ids.push(id);
            next
        })
    }
}

impl From<&IndexPart> for WirePart {
    fn from(part: &IndexPart) -> Self {
        let (mut segments, mut files) = (Dictionary::default(), Dictionary::default());
        let all = part.partitions.iter().flat_map(|(_, ranges)| ranges);
        for range in all.clone() {
            match range.place {
                Place::Segment { id, .. } => segments.number(id),
                Place::Archive { file } => files.number(file),
            };
        }
        let first_file = segments.ids.len() as u32;
        let mut number = |place: &Place| match place {
            Place::Segment { id, position } => (segments.number(*id), *position),
            Place::Archive { file } => (first_file + files.number(*file), 0),
        };
        let partitions = part
            .partitions
            .iter()
            .map(|(slot, ranges)| {
                let mut before = Before::default();
                let wire = ranges.iter().map(|range| {
                    let (object, position) = number(&range.place);
                    let wire = WireRange::new(range, before, object, position);
                    before = Before::of(range);
                    wire
                });
                (*slot, wire.collect())
            })
            .collect();
        Self { part: part.part, written_at: part.written_at, segments: segments.ids, files: files.ids, partitions }
    }
}

impl WirePart {
    /// The part; `None` if a range names no object of the dictionary.
    pub(super) fn into_part(self) -> Option<IndexPart> {
        let Self { part, written_at, segments, files, partitions } = self;
        let place = |object: u32, position: u64| match segments.get(object as usize) {
            Some(id) => Some(Place::Segment { id: *id, position }),
            None => files.get(object as usize - segments.len()).map(|file| Place::Archive { file: *file }),
        };
        let partitions = partitions.into_iter().map(|(slot, wire)| {
            let mut before = Before::default();
            let ranges: Option<Vec<StoredRange>> = wire
                .into_iter()
                .map(|wire| {
                    let range = wire.range(before, place(wire.object, wire.position)?);
                    before = Before::of(&range);
                    Some(range)
                })
                .collect();
            Some((slot, ranges?))
        });
        Some(IndexPart { part, written_at, partitions: partitions.collect::<Option<_>>()? })
    }
}

impl WireRange {
    fn new(range: &StoredRange, before: Before, object: u32, position: u64) -> Self {
        Self {
            object,
            position,
            gap: range.start.wrapping_sub(before.end),
            count: range.end.wrapping_sub(range.start),
            bytes: range.bytes,
            max_timestamp: range.max_timestamp.wrapping_sub(before.max_timestamp),
            min_append_time: range.min_append_time.wrapping_sub(before.max_append_time).cast_signed(),
            max_append_time: range.max_append_time.wrapping_sub(range.min_append_time).cast_signed(),
        }
    }

    fn range(&self, before: Before, place: Place) -> StoredRange {
        let start = before.end.wrapping_add(self.gap);
        let min_append_time = before.max_append_time.wrapping_add(self.min_append_time.cast_unsigned());
        StoredRange {
            start,
            end: start.wrapping_add(self.count),
            bytes: self.bytes,
            max_timestamp: before.max_timestamp.wrapping_add(self.max_timestamp),
            min_append_time,
            max_append_time: min_append_time.wrapping_add(self.max_append_time.cast_unsigned()),
            place,
        }
    }
}
