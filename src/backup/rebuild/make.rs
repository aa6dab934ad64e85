//! Checkpoints of what a survey found. Pure.
//!
//! Each shard gets one that is closed, so that a start takes it for the end of a life. Where a topic's partitions are follows from the
//! objects that hold them; one that was never written to goes with the one before it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::chain::{self, Chain};
use super::survey::{Named, Objects, Survey};
use crate::error::{Error, Result};
use crate::model::catalog::{MAX_SHARDS, PlacedRecord, Visible};
use crate::model::checkpoint::{Extent, PARTITIONS_PER_PART, PartitionRecord, SegmentRecord, TopicRecord};
use crate::model::topic::{MAX_PARTITIONS, check_name};
use crate::model::{
    ArchiveFile, CATALOG_SHARD, Checkpoint, CheckpointRef, Incarnation, IndexPart, IndexPartRef, Limits, LogTime,
    NodeId, ObjectId, Offset, PlacementRun, Revision, ShardId, StoredRange, Topic, TopicId, TopicPartition,
};
use crate::state::{STATE_VERSION, State};

/// The checkpoints of the shards, in order, and what they are made of.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) shards: Vec<MadeShard>,
    pub(super) topics: Vec<MadeTopic>,
    /// Offsets that are stored somewhere and are in no partition now.
    pub(super) left_out: Vec<(TopicPartition, Offset, Offset)>,
}

#[derive(Debug)]
pub(super) struct MadeShard {
    pub(super) checkpoint: Checkpoint,
    pub(super) parts: Vec<IndexPart>,
}

/// A topic, and whether its settings are known.
#[derive(Debug)]
pub(super) struct MadeTopic {
    pub(super) topic: Topic,
    pub(super) settings_known: bool,
    pub(super) records: u64,
}

/// What is not in the survey.
pub(super) struct Given<'a> {
    /// The life of the checkpoints.
    pub(super) incarnation: Incarnation,
    /// When lives began that gave up what came after their checkpoint.
    pub(super) restarts: &'a [LogTime],
    /// Random bits for the ids of the objects, one after the other.
    pub(super) random: &'a mut dyn FnMut() -> u128,
}

/// Makes the checkpoints.
///
/// # Errors
/// `corrupt` if the objects contradict each other.
pub(super) fn make(survey: &Survey, given: &mut Given<'_>) -> Result<Made> {
    let count = survey.shards.keys().map(|shard| shard.0.saturating_add(1)).max().unwrap_or(0).max(1);
    if count > MAX_SHARDS {
        return Err(Error::corrupt(format!("there are objects of shard {}, and no cluster has that many", count - 1)));
    }
    let log_time = log_time(survey);
    let mut chains = BTreeMap::new();
    let mut left_out = Vec::new();
    for (shard, objects) in &survey.shards {
        for (partition, stored) in stored(objects) {
            let Chain { ranges, left_out: missing } = chain::choose(stored, given.restarts);
            left_out.extend(missing.into_iter().map(|(start, end)| (partition, start, end)));
            if chains.insert(partition, (*shard, ranges)).is_some() {
                return Err(Error::corrupt(format!("objects of two shards hold records of {partition}")));
            }
        }
    }
    let topics = topics(survey, &chains, log_time)?;
    let mut shards = Vec::new();
    for shard in (0..count).map(ShardId) {
        let layout = Layout { shard, count, log_time, topics: &topics, chains: &chains };
        let empty = Objects::default();
        shards.push(layout.shard(survey.shards.get(&shard).unwrap_or(&empty), given)?);
    }
    let records = |id: TopicId| {
        let ranges = chains.range(partitions_of(id)).flat_map(|(_, (_, ranges))| ranges);
        ranges.map(|range| range.end - range.start).sum()
    };
    let made = topics.iter().map(|placed| MadeTopic {
        topic: placed.topic.clone(),
        settings_known: survey.topics.get(&placed.topic.id).is_some_and(|named| named.by.is_some()),
        records: records(placed.topic.id),
    });
    Ok(Made { shards, topics: made.collect(), left_out })
}

/// What is stored of each partition, in segments and, row group by row group, in archive files.
fn stored(objects: &Objects) -> BTreeMap<TopicPartition, Vec<StoredRange>> {
    let mut stored: BTreeMap<TopicPartition, Vec<StoredRange>> = BTreeMap::new();
    for (info, ranges) in &objects.segments {
        for range in ranges {
            stored.entry(range.partition).or_default().push(StoredRange::of_segment(info.id, range));
        }
    }
    for range in objects.files.iter().flat_map(|described| &described.ranges) {
        stored.entry(range.partition).or_default().push(StoredRange::of_archive(range));
    }
    stored
}

/// The newest log time that anything tells of.
fn log_time(survey: &Survey) -> LogTime {
    let of = |objects: &Objects| {
        let segments = objects.segments.iter().map(|(info, _)| info.id.time().max(info.max_append_time));
        let files = objects.files.iter().map(|described| described.file.id.time());
        segments.chain(files).max().unwrap_or(0)
    };
    survey.shards.values().map(of).max().unwrap_or(0)
}

const fn partitions_of(topic: TopicId) -> std::ops::RangeInclusive<TopicPartition> {
    TopicPartition::new(topic, 0)..=TopicPartition::new(topic, u32::MAX)
}

type Chains = BTreeMap<TopicPartition, (ShardId, Vec<StoredRange>)>;

/// A topic and the shards of its partitions.
struct PlacedTopic {
    topic: Topic,
    owners: Vec<ShardId>,
}

/// The topics by id. Of several with one name the one that was created last has it; the others count as deleted.
fn topics(survey: &Survey, chains: &Chains, log_time: LogTime) -> Result<Vec<PlacedTopic>> {
    let mut newest: BTreeMap<&str, (LogTime, TopicId)> = BTreeMap::new();
    for (id, named) in &survey.topics {
        let entry = newest.entry(&named.name).or_insert((named.created_at, *id));
        *entry = (*entry).max((named.created_at, *id));
    }
    let mut placed = Vec::with_capacity(survey.topics.len());
    for (id, named) in &survey.topics {
        check_name(&named.name).map_err(|what| Error::corrupt(format!("a topic is named {:?}: {what}", named.name)))?;
        let has_name = newest.get(named.name.as_str()).is_some_and(|(_, holder)| holder == id);
        placed.push(place(*id, named, chains, (!has_name).then_some(log_time))?);
    }
    Ok(placed)
}

fn place(id: TopicId, named: &Named, chains: &Chains, deleted_at: Option<LogTime>) -> Result<PlacedTopic> {
    let held: BTreeMap<u32, ShardId> =
        chains.range(partitions_of(id)).map(|(partition, (shard, _))| (partition.partition, *shard)).collect();
    let highest = held.keys().last().map_or(0, |partition| partition.saturating_add(1));
    let total = named.settings.partitions.max(highest).max(1);
    if total > MAX_PARTITIONS {
        return Err(Error::corrupt(format!("topic {id} has {total} partitions, and no topic may have that many")));
    }
    let mut owner = held.values().next().copied().unwrap_or(CATALOG_SHARD);
    let owners = (0..total).map(|partition| {
        owner = held.get(&partition).copied().unwrap_or(owner);
        owner
    });
    let owners = owners.collect();
    let mut settings = named.settings.clone();
    settings.partitions = total;
    let (name, namespace, created_at) = (named.name.clone(), named.namespace.clone(), named.created_at);
    Ok(PlacedTopic { topic: Topic { id, name, namespace, settings, created_at, deleted_at }, owners })
}

/// What all shards have in common.
struct Layout<'a> {
    shard: ShardId,
    count: u32,
    log_time: LogTime,
    topics: &'a [PlacedTopic],
    chains: &'a Chains,
}

/// What the partitions of a shard give.
#[derive(Default)]
struct Slots {
    topics: Vec<TopicRecord>,
    partitions: Vec<PartitionRecord>,
    /// By slot; those without a range are left out.
    ranges: Vec<(u32, Vec<StoredRange>)>,
}

impl Layout<'_> {
    fn shard(&self, objects: &Objects, given: &mut Given<'_>) -> Result<MadeShard> {
        let slots = self.slots();
        let live: HashSet<ObjectId> =
            slots.ranges.iter().flat_map(|(_, ranges)| ranges).map(|range| range.place.object()).collect();
        let segments = segments(objects, &live);
        let files = files(objects, &live);
        let index = objects.index.max(segments.len() as u64) + 1;
        let mut id = || ObjectId::from_parts(self.log_time, (given.random)());
        let parts = parts(&slots, index);
        let named = parts.iter().map(|part| IndexPartRef { part: part.part, id: id(), written_at: index }).collect();
        let self_ref = CheckpointRef { incarnation: given.incarnation, index, id: id() };
        let is_catalog = self.shard == CATALOG_SHARD;
        let founders = if is_catalog && self.count > 1 { vec![NodeId(0); self.count as usize] } else { Vec::new() };
        let checkpoint = Checkpoint {
            self_ref,
            shard: self.shard,
            term: 1,
            incarnation: given.incarnation,
            version: STATE_VERSION,
            log_time: self.log_time,
            changed_at: index,
            closed: true,
            unsealed: false,
            limits: Limits::default(),
            condemned: ObjectId(0),
            next_slot: slots.partitions.len() as u32,
            founders,
            adopting: is_catalog && self.count > 1,
            forgotten: Revision::default(),
            topics: slots.topics,
            partitions: slots.partitions,
            segments,
            archive_files: files,
            parts: named,
            jobs: Vec::new(),
            next_job: 1,
            next_producer: 0,
            names: Vec::new(),
            producers: Vec::new(),
            keys: Vec::new(),
        };
        // Of the segments none is newer than the parts, so no footer is asked for.
        State::restore(checkpoint.clone(), parts.clone(), Vec::new()).map_err(|error| {
            Error::corrupt(format!("shard {} cannot be put together", self.shard)).with_source(error)
        })?;
        Ok(MadeShard { checkpoint, parts })
    }

    fn slots(&self) -> Slots {
        let mut slots = Slots::default();
        for PlacedTopic { topic, owners } in self.topics {
            let mut extents: Vec<Extent> = Vec::new();
            for (partition, _) in (0..).zip(owners).filter(|(_, owner)| **owner == self.shard) {
                let slot = slots.partitions.len() as u32;
                match extents.last_mut().filter(|last| last.first + last.count == partition) {
                    Some(last) => last.count += 1,
                    None => extents.push(Extent { first: partition, count: 1, slot }),
                }
                let ranges = self.chains.get(&TopicPartition::new(topic.id, partition));
                let ranges = ranges.map_or(&[][..], |(_, ranges)| ranges);
                let log_start = ranges.first().map_or(0, |range| range.start);
                let flushed = ranges.last().map_or(0, |range| range.end);
                slots.partitions.push(PartitionRecord {
                    slot,
                    log_start,
                    archive_start: log_start,
                    flushed,
                    producers_checked: 0,
                });
                if !ranges.is_empty() {
                    slots.ranges.push((slot, ranges.to_vec()));
                }
            }
            if extents.is_empty() && self.shard != CATALOG_SHARD {
                continue;
            }
            let runs = runs(owners);
            let elsewhere = runs.iter().any(|run| run.shard != CATALOG_SHARD);
            let placed = (self.shard == CATALOG_SHARD && elsewhere).then_some(PlacedRecord {
                runs,
                grown: false,
                visible: Visible::Wanted,
            });
            let (topic, revision) = (topic.clone(), Revision::default());
            slots.topics.push(TopicRecord { topic, extents, revision, removed: false, placed });
        }
        slots
    }
}

fn runs(owners: &[ShardId]) -> Vec<PlacementRun> {
    let mut runs: Vec<PlacementRun> = Vec::new();
    for (first, shard) in (0..).zip(owners) {
        if runs.last().is_none_or(|last| last.shard != *shard) {
            runs.push(PlacementRun { first, shard: *shard });
        }
    }
    runs
}

/// The live segments in the order in which they were flushed: by time, those of one flush by what they begin with.
fn segments(objects: &Objects, live: &HashSet<ObjectId>) -> Vec<SegmentRecord> {
    let is_live = |(info, _): &&(crate::model::SegmentInfo, _)| live.contains(&info.id);
    let mut segments: Vec<_> = objects.segments.iter().filter(is_live).collect();
    segments.sort_by_key(|(info, ranges)| {
        let first = ranges.first().map(|range| (range.partition, range.start));
        (info.id.time(), first, info.id)
    });
    let record = |(at, (info, _)): (u64, &&_)| SegmentRecord { info: *info, flushed_at: at, ordinal: 0 };
    (1..).zip(&segments).map(record).collect()
}

fn files(objects: &Objects, live: &HashSet<ObjectId>) -> Vec<ArchiveFile> {
    let files = objects.files.iter().map(|described| &described.file);
    let mut files: Vec<ArchiveFile> = files.filter(|file| live.contains(&file.id)).cloned().collect();
    files.sort_by_key(|file| (file.topic, file.id));
    files
}

/// The index parts of all partitions.
fn parts(slots: &Slots, written_at: u64) -> Vec<IndexPart> {
    let numbers: BTreeSet<u32> = slots.partitions.iter().map(|record| record.slot / PARTITIONS_PER_PART).collect();
    let part = |part| {
        let partitions = slots.ranges.iter().filter(|(slot, _)| slot / PARTITIONS_PER_PART == part).cloned().collect();
        IndexPart { part, written_at, partitions }
    };
    numbers.into_iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use uuid::Uuid;

    use super::*;
    use crate::model::{SegmentInfo, SegmentRange, TopicSettings};

    fn topic(number: u128) -> TopicId {
        TopicId(Uuid::from_u128(number))
    }

    /// A segment that holds 10 records of each of `partitions`, from offset 5 on.
    fn segment(id: u128, partitions: &[(u128, u32)]) -> (SegmentInfo, Vec<SegmentRange>) {
        let info = SegmentInfo {
            id: ObjectId::from_parts(1_000, id),
            bytes: 2_000,
            footer_start: 1_000,
            min_append_time: 900,
            max_append_time: 990,
        };
        let range = |(position, (id, partition)): (u64, &(u128, u32))| SegmentRange {
            partition: TopicPartition::new(topic(*id), *partition),
            start: 5,
            end: 15,
            position: 32 + position * 100,
            len: 100,
            max_timestamp: 0,
            min_append_time: 900,
            max_append_time: 990,
        };
        (info, (0..).zip(partitions).map(range).collect())
    }

    fn survey(shards: &[&[(u128, u32)]]) -> Survey {
        let mut survey = Survey::default();
        for (shard, partitions) in (0..).zip(shards) {
            let mut objects = Objects { index: 7, ..Objects::default() };
            if !partitions.is_empty() {
                objects.segments.push(segment(u128::from(shard), partitions));
            }
            survey.shards.insert(ShardId(shard), objects);
            for (id, _) in *partitions {
                let named = Named {
                    namespace: "default".to_owned(),
                    name: format!("topic-{id}"),
                    settings: TopicSettings { partitions: 4, ..TopicSettings::default() },
                    created_at: 1,
                    by: Some(ObjectId(1)),
                };
                survey.topics.insert(topic(*id), named);
            }
        }
        survey
    }

    fn made(survey: &Survey) -> Result<Made> {
        let mut next = 0;
        let mut random = || {
            next += 1;
            next
        };
        make(survey, &mut Given { incarnation: Incarnation(3), restarts: &[], random: &mut random })
    }

    #[test]
    fn partitions_are_placed_where_their_records_are_and_the_rest_beside_them() {
        let survey = survey(&[&[(1, 1)], &[(1, 0), (1, 3), (2, 2)], &[]]);
        let made = made(&survey).unwrap();
        let [zero, one, two] = made.shards.as_slice() else { unreachable!("{made:?}") };
        let placed = |record: &TopicRecord| record.placed.clone().unwrap().runs;
        let run = |first, shard| PlacementRun { first, shard: ShardId(shard) };
        assert_eq!(placed(&zero.checkpoint.topics[0]), [run(0, 1), run(1, 0), run(3, 1)]);
        assert_eq!(placed(&zero.checkpoint.topics[1]), [run(0, 1)], "nothing of it is in shard 0");
        assert_eq!(zero.checkpoint.partitions.len() + one.checkpoint.partitions.len(), 8);
        assert!(zero.checkpoint.adopting && zero.checkpoint.founders.len() == 3);
        assert_eq!((two.checkpoint.topics.len(), two.checkpoint.self_ref.index), (0, 8));
        let written = |record: &&PartitionRecord| record.flushed > 0;
        let records: Vec<_> = one.checkpoint.partitions.iter().filter(written).collect();
        assert!(records.iter().all(|record| (record.log_start, record.flushed) == (5, 15)));
        assert_eq!(records.len(), 3);
        assert!(made.shards.iter().all(|shard| shard.checkpoint.is_clean()));
    }

    #[test]
    fn one_partition_in_two_shards_is_a_contradiction() {
        let survey = survey(&[&[(1, 0)], &[(1, 0)]]);
        assert_eq!(made(&survey).unwrap_err().code(), "corrupt");
    }
}
