//! Where new partitions go: each to the shard that has the fewest, the first of those that have equally few.
//!
//! The partitions that one command adds lie in the shards as one stretch each, by shard number, so that a topic's placement
//! is a few runs however many partitions it has.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::super::flushed::part_of;
use super::super::{MAX_SHARD_PARTITIONS, PartitionState, State};
use super::entry::{Placed, Shown, TopicEntry};
use crate::model::checkpoint::{Extent, PARTITIONS_PER_PART};
use crate::model::topic::MAX_PARTITIONS;
use crate::model::{CATALOG_SHARD, PartitionRun, PlacementRun, Rejection, ShardId, TopicPartition};

/// How many of `count` new partitions each shard gets, given how many it has. Nothing if all shards are full.
pub(super) fn water_fill(loads: &[u32], count: u32) -> Option<Vec<u32>> {
    let mut counts = vec![0; loads.len()];
    let room = |load: u32| load < MAX_SHARD_PARTITIONS;
    let mut shards: BinaryHeap<Reverse<(u32, usize)>> =
        loads.iter().zip(0..).filter(|(load, _)| room(**load)).map(|(load, shard)| Reverse((*load, shard))).collect();
    for _ in 0..count {
        let Reverse((load, shard)) = shards.pop()?;
        counts[shard] += 1;
        if room(load + 1) {
            shards.push(Reverse((load + 1, shard)));
        }
    }
    Some(counts)
}

impl State {
    /// How many partitions each shard has or will have.
    pub(super) fn loads(&self) -> Vec<u32> {
        let mut loads = self.catalog.loads.clone();
        if let Some(here) = loads.first_mut() {
            *here = self.partitions.len() as u32;
        }
        loads
    }

    /// Gives the topic of `entry` the partitions that its settings have above `current`.
    pub(super) fn place_partitions(&mut self, entry: &mut TopicEntry, current: u32) -> Result<(), Rejection> {
        let wanted = entry.topic.settings.partitions;
        if wanted == 0 || wanted > MAX_PARTITIONS {
            return Err(Rejection::TooManyPartitions { limit: MAX_PARTITIONS });
        }
        let added = wanted - current;
        if added == 0 {
            return Ok(());
        }
        if self.shard_count() == 1 {
            self.check_room(added)?;
            self.add_partitions(entry, PartitionRun { first: current, count: added });
            return Ok(());
        }
        let full = Rejection::TooManyPartitions { limit: MAX_SHARD_PARTITIONS };
        let counts = water_fill(&self.loads(), added).ok_or(full)?;
        let owners = (0..).zip(counts).flat_map(|(shard, count)| (0..count).map(move |_| ShardId(shard)));
        self.place_at(entry, current, &owners.collect::<Vec<_>>())
    }

    /// Gives the topic of `entry` one more partition, from `first` on, in each of `owners`.
    pub(super) fn place_at(&mut self, entry: &mut TopicEntry, first: u32, owners: &[ShardId]) -> Result<(), Rejection> {
        self.check_room(owners.iter().filter(|shard| **shard == CATALOG_SHARD).count() as u32)?;
        let mut next = first;
        for run in owners.chunk_by(|left, right| left == right) {
            let (shard, count) = (run[0], run.len() as u32);
            if shard == CATALOG_SHARD {
                self.add_partitions(entry, PartitionRun { first: next, count });
            } else if let Some(load) = self.catalog.loads.get_mut(shard.0 as usize) {
                *load = load.saturating_add(count);
            }
            entry.note_placed(next, shard);
            next += count;
        }
        Ok(())
    }

    /// Whether this shard can take `count` more partitions.
    pub(super) fn check_room(&self, count: u32) -> Result<(), Rejection> {
        let fits = self.next_slot.checked_add(count).is_some()
            && self.partitions.len() + count as usize <= MAX_SHARD_PARTITIONS as usize;
        if fits { Ok(()) } else { Err(Rejection::TooManyPartitions { limit: MAX_SHARD_PARTITIONS }) }
    }

    /// Creates partitions of the topic of `entry` in this shard; the caller has seen that there is room and that they are new.
    pub(super) fn add_partitions(&mut self, entry: &mut TopicEntry, run: PartitionRun) {
        let PartitionRun { first, count } = run;
        if count == 0 {
            return;
        }
        let at = entry.extents.partition_point(|extent| extent.first < first);
        entry.extents.insert(at, Extent { first, count, slot: self.next_slot });
        for (partition, slot) in (first..).zip(self.next_slot..).take(count as usize) {
            let id = TopicPartition::new(entry.topic.id, partition);
            self.partitions.insert(slot, Arc::new(PartitionState::new(id, slot)));
        }
        let next_slot = self.next_slot + count;
        for part in part_of(self.next_slot)..=part_of(next_slot - 1) {
            let first = self.next_slot.max(part * PARTITIONS_PER_PART);
            let end = next_slot.min(part.saturating_add(1).saturating_mul(PARTITIONS_PER_PART));
            self.parts.entry(part).or_default().partitions += end - first;
        }
        self.next_slot = next_slot;
    }
}

impl TopicEntry {
    /// Notes that the partitions from `first` on, up to now not placed at all, are in `shard`.
    fn note_placed(&mut self, first: u32, shard: ShardId) {
        if self.placed.is_none() {
            if shard == CATALOG_SHARD {
                return;
            }
            let here = PlacementRun { first: 0, shard: CATALOG_SHARD };
            let runs = if first > 0 { vec![here] } else { Vec::new() };
            // What users see is set with the revision, by the command that placed it.
            self.placed = Some(Placed { runs, grown: false, shown: Shown::Wanted });
        }
        if let Some(placed) = &mut self.placed
            && placed.runs.last().is_none_or(|last| last.shard != shard)
        {
            placed.runs.push(PlacementRun { first, shard });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_go_where_the_fewest_are() {
        let full = MAX_SHARD_PARTITIONS;
        for (loads, count, expected) in [
            (&[0, 0, 0][..], 7, Some(vec![3, 2, 2])),
            (&[5, 0, 2], 4, Some(vec![0, 3, 1])),
            (&[1, 1, 0], 1, Some(vec![0, 0, 1])),
            (&[1, 1, 1], 0, Some(vec![0, 0, 0])),
            (&[full, full - 1, 9], 1, Some(vec![0, 0, 1])),
            (&[full, full - 1, full], 1, Some(vec![0, 1, 0])),
            (&[full, full - 1, full], 2, None),
        ] {
            assert_eq!(water_fill(loads, count), expected, "{count} over {loads:?}");
        }
    }
}
