//! The stored ranges of every partition as a checkpoint tells them, and whether they are whole. Pure.

use std::collections::{BTreeMap, HashMap};

use super::ByObject;
use crate::checkpoints::LoadedCheckpoint;
use crate::model::checkpoint::{PARTITIONS_PER_PART, PartitionRecord};
use crate::model::{LogIndex, Offset, Place, StoredRange, TopicPartition};

/// A range with its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) partition: TopicPartition,
    pub(super) range: StoredRange,
}

/// What is stored of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct PartitionRanges {
    pub(super) log_start: Offset,
    /// At most the log start: archive files are kept from here on.
    pub(super) archive_start: Offset,
    pub(super) flushed: Offset,
    /// In the order in which they are told: that of the offsets, if all is well.
    pub(super) ranges: Vec<StoredRange>,
}

impl PartitionRanges {
    /// Whether a range that an index part or a footer names was not trimmed since.
    fn has(&self, range: &StoredRange) -> bool {
        match range.place {
            Place::Segment { .. } => range.end > self.log_start,
            Place::Archive { .. } => range.end > self.archive_start,
        }
    }

    /// What is wrong: from archive start to flushed offset there are neither gaps nor overlaps.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let missing = |from: Offset, to: Offset| format!("offsets {from} to {to} are in no object");
        let mut next = None;
        for range in &self.ranges {
            let (start, end) = (range.start, range.end);
            let expected = next.unwrap_or_else(|| start.min(self.archive_start));
            if start > expected {
                problems.push(missing(expected, start));
            } else if next.is_some() && start < expected {
                problems.push(format!("offsets {start} to {} are in two objects", expected.min(end)));
            } else if next.is_none() && start > self.archive_start {
                problems.push(missing(self.archive_start, start));
            }
            if start >= end {
                problems.push(format!("a range runs from offset {start} to {end}"));
            }
            next = Some(end.max(expected));
        }
        let end = next.unwrap_or(self.log_start);
        if end < self.flushed {
            problems.push(missing(end, self.flushed));
        } else if next.is_some() && end > self.flushed {
            problems.push(format!("offsets up to {end} are stored, but flushed are those up to {}", self.flushed));
        }
        problems
    }
}

/// The ranges of every partition of a checkpoint: of its index part, then of the footers newer than the part.
pub(super) fn by_partition(loaded: &LoadedCheckpoint) -> BTreeMap<TopicPartition, PartitionRanges> {
    let slots = slots(loaded);
    let names: HashMap<u32, TopicPartition> = slots.iter().map(|(partition, slot)| (*slot, *partition)).collect();
    let mut partitions = BTreeMap::new();
    for record in &loaded.checkpoint.partitions {
        if let Some(name) = names.get(&record.slot) {
            let PartitionRecord { log_start, archive_start, flushed, .. } = *record;
            partitions.insert(*name, PartitionRanges { log_start, archive_start, flushed, ranges: Vec::new() });
        }
    }
    let mut written: HashMap<u32, LogIndex> = HashMap::new();
    for (_, _, part) in &loaded.parts {
        written.insert(part.part, part.written_at);
        for (slot, ranges) in &part.partitions {
            let Some(stored) = names.get(slot).and_then(|name| partitions.get_mut(name)) else { continue };
            let live: Vec<StoredRange> = ranges.iter().filter(|range| stored.has(range)).copied().collect();
            stored.ranges.extend(live);
        }
    }
    let flushed_at: HashMap<_, _> =
        loaded.checkpoint.segments.iter().map(|segment| (segment.info.id, segment.flushed_at)).collect();
    for (segment, ranges) in &loaded.ranges {
        for range in ranges {
            let Some(slot) = slots.get(&range.partition) else { continue };
            let part = written.get(&(slot / PARTITIONS_PER_PART)).copied().unwrap_or(0);
            let Some(stored) = partitions.get_mut(&range.partition) else { continue };
            let is_newer = flushed_at.get(segment).is_some_and(|flushed_at| *flushed_at > part);
            if is_newer && range.end > stored.log_start {
                stored.ranges.push(StoredRange::of_segment(*segment, range));
            }
        }
    }
    partitions
}

/// The slots of all partitions, from the topics' extents.
fn slots(loaded: &LoadedCheckpoint) -> HashMap<TopicPartition, u32> {
    let mut slots = HashMap::new();
    for record in &loaded.checkpoint.topics {
        for extent in &record.extents {
            // No checkpoint has more partitions than records of them, whatever its topics say.
            let count = extent.count.min(loaded.checkpoint.partitions.len() as u32);
            let nth = |n| Some((extent.first.checked_add(n)?, extent.slot.checked_add(n)?));
            for (partition, slot) in (0..count).filter_map(nth) {
                slots.insert(TopicPartition::new(record.topic.id, partition), slot);
            }
        }
    }
    slots
}

/// The same ranges by the object that holds them.
pub(super) fn by_object(partitions: &BTreeMap<TopicPartition, PartitionRanges>) -> ByObject {
    let mut objects = ByObject::new();
    for (partition, stored) in partitions {
        for range in &stored.ranges {
            objects.entry(range.place.object()).or_default().push(Placed { partition: *partition, range: *range });
        }
    }
    objects
}
