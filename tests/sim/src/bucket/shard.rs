//! What one checkpoint says is in the bucket, read object by object.

use std::collections::{BTreeMap, HashMap};

use tidelog::model::checkpoint::{Extent, PartitionRecord};
use tidelog::model::{Checkpoint, ObjectId, TopicPartition};

use super::frame::{self, Object, Place};
use super::segment::Segment;
use super::{Found, Objects, archive};
use crate::history::{Part, PartScan, Scan};

const PARTITIONS_OF_A_PART: u32 = 256;

/// A partition that the checkpoint lists.
struct Listed {
    name: Part,
    id: TopicPartition,
    log_start: u64,
    archive_start: u64,
    flushed: u64,
    slot: u32,
}

/// The keys of all objects that the checkpoint names.
pub(super) fn named(checkpoint: &Checkpoint) -> Vec<String> {
    let shard = checkpoint.shard.0;
    let segments = checkpoint.segments.iter().map(|segment| segment_key(shard, segment.info.id));
    let parts = checkpoint.parts.iter().map(|part| part_key(shard, part.id));
    let files = checkpoint.archive_files.iter().filter_map(|file| archive_key(checkpoint, file.id));
    segments.chain(parts).chain(files).collect()
}

fn segment_key(shard: u32, id: ObjectId) -> String {
    format!("shards/{shard:05}/segments/{id}.seg")
}

fn part_key(shard: u32, id: ObjectId) -> String {
    format!("shards/{shard:05}/index/{id}.idx")
}

fn archive_key(checkpoint: &Checkpoint, id: ObjectId) -> Option<String> {
    let file = checkpoint.archive_files.iter().find(|file| file.id == id)?;
    let topic = &checkpoint.topics.iter().find(|record| record.topic.id == file.topic)?.topic;
    let (year, month, day) = date(i64::from(file.day));
    let (shard, namespace, name, topic) = (checkpoint.shard.0, &topic.namespace, &topic.name, topic.id);
    Some(format!("archive/{namespace}/{name}/{topic}/dt={year:04}-{month:02}-{day:02}/{shard:05}-{id}.parquet"))
}

/// The date that is `days` after 1970-01-01; after Howard Hinnant's `civil_from_days`.
pub(super) fn date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The offsets below which partitions are in the bucket.
pub(super) fn flushed(checkpoint: &Checkpoint) -> Vec<(Part, u64)> {
    listed(checkpoint).into_iter().map(|listed| (listed.name, listed.flushed)).collect()
}

/// The partitions of topics that are not deleted.
fn listed(checkpoint: &Checkpoint) -> Vec<Listed> {
    let mut slots = HashMap::new();
    for record in &checkpoint.topics {
        if record.topic.deleted_at.is_some() {
            continue;
        }
        for (partition, slot) in slots_of(record) {
            slots.insert(
                slot,
                (TopicPartition::new(record.topic.id, partition), (record.topic.name.clone(), partition)),
            );
        }
    }
    let partitions = checkpoint.partitions.iter();
    partitions
        .filter_map(|record| {
            let (id, name) = slots.remove(&record.slot)?;
            let PartitionRecord { slot, log_start, archive_start, flushed, .. } = *record;
            Some(Listed { name, id, log_start, archive_start, flushed, slot })
        })
        .collect()
}

/// The partitions of a topic that the shard has, and their slots: runs in which both count up.
fn slots_of(record: &tidelog::model::checkpoint::TopicRecord) -> Vec<(u32, u32)> {
    let run = |extent: &Extent| (extent.first..).zip(extent.slot..).take(extent.count as usize);
    record.extents.iter().flat_map(run).collect()
}

/// Reads every record that the checkpoint says is there.
pub(super) fn read(objects: &Objects, checkpoint: &Checkpoint, scan: &mut Scan) {
    let shard = checkpoint.shard.0;
    let mut segments = HashMap::new();
    for record in &checkpoint.segments {
        let id = record.info.id;
        match objects.get(&segment_key(shard, id)).ok_or("is missing".to_owned()) {
            Ok(object) => match Segment::open(id, object) {
                Ok(segment) => drop(segments.insert(id, segment)),
                Err(problem) => scan.problems.push(problem),
            },
            Err(problem) => scan.problems.push(format!("segment {id} {problem}")),
        }
    }
    let mut files = HashMap::new();
    for file in &checkpoint.archive_files {
        let object = archive_key(checkpoint, file.id).and_then(|key| objects.get(&key));
        let read = object.ok_or("it is missing".to_owned()).and_then(archive::records);
        match read.and_then(|records| of_one_day(records, file.rows)) {
            Ok(records) => drop(files.insert(file.id, records)),
            Err(problem) => scan.problems.push(format!("archive file {}: {problem}", file.id)),
        }
    }
    let places = places(objects, checkpoint, &segments, &mut scan.problems);
    for listed in listed(checkpoint) {
        let ranges = places.get(&listed.slot).cloned().unwrap_or_default();
        match partition(&listed, &ranges, &segments, &files) {
            Ok(found) => add(scan, &listed, found),
            Err(problem) => scan.problems.push(format!("{}/{}: {problem}", listed.name.0, listed.name.1)),
        }
    }
}

type Files = HashMap<ObjectId, Vec<(u32, Found)>>;

fn of_one_day(records: Vec<(u32, Found)>, rows: u64) -> Result<Vec<(u32, Found)>, String> {
    let count = records.len();
    if count as u64 == rows { Ok(records) } else { Err(format!("it has {count} rows, not {rows}")) }
}

/// The ranges of every slot in the order of offsets: those of its part, then those of newer segments' footers.
fn places(
    objects: &Objects,
    checkpoint: &Checkpoint,
    segments: &HashMap<ObjectId, Segment>,
    problems: &mut Vec<String>,
) -> HashMap<u32, Vec<Place>> {
    let mut places: HashMap<u32, Vec<Place>> = HashMap::new();
    let mut written = BTreeMap::new();
    for part in &checkpoint.parts {
        written.insert(part.part, part.written_at);
        let object = objects.get(&part_key(checkpoint.shard.0, part.id)).ok_or("is missing".to_owned());
        let read = object.and_then(|object| frame::part(object)).and_then(|found| {
            let same = (found.part, found.written_at) == (part.part, part.written_at);
            if same { found.places() } else { Err("is another part".to_owned()) }
        });
        match read {
            Ok(found) => places.extend(found),
            Err(problem) => problems.push(format!("index part {}: {problem}", part.id)),
        }
    }
    let slots: HashMap<TopicPartition, u32> =
        listed(checkpoint).into_iter().map(|listed| (listed.id, listed.slot)).collect();
    for record in &checkpoint.segments {
        let Some(segment) = segments.get(&record.info.id) else { continue };
        for range in segment.ranges() {
            let Some(slot) = slots.get(&range.partition) else { continue };
            let part = written.get(&(slot / PARTITIONS_OF_A_PART)).copied().unwrap_or(0);
            if record.flushed_at > part {
                let object = Object::Segment(record.info.id, range.position);
                places.entry(*slot).or_default().push(Place { start: range.start, end: range.end, object });
            }
        }
    }
    places
}

impl Listed {
    /// Whether what an index part or a footer says of this place was not trimmed since.
    fn has(&self, place: &Place) -> bool {
        match place.object {
            Object::Segment(..) => place.end > self.log_start,
            Object::Archive(_) => place.end > self.archive_start,
        }
    }
}

/// The records of one partition from its archive start to its flushed offset.
fn partition(
    listed: &Listed,
    ranges: &[Place],
    segments: &HashMap<ObjectId, Segment>,
    files: &Files,
) -> Result<Vec<Found>, String> {
    let (mut next, mut all) = (listed.archive_start, Vec::new());
    for range in ranges.iter().filter(|range| listed.has(range)) {
        if range.start > next || range.start < next && next != listed.archive_start {
            return Err(format!("a range begins at {} after {next}", range.start));
        }
        let mut records = match range.object {
            Object::Segment(id, position) => {
                let segment = segments.get(&id).ok_or_else(|| format!("segment {id} is not live"))?;
                if segment.range(listed.id).is_none() {
                    return Err(format!("segment {id} has nothing of it"));
                }
                segment.records(position, range.start, range.end)?
            }
            Object::Archive(id) => {
                let rows = files.get(&id).ok_or_else(|| format!("archive file {id} is not live"))?;
                let mine = rows.iter().filter(|(partition, _)| *partition == listed.id.partition);
                let within = mine.filter(|(_, found)| (range.start..range.end).contains(&found.offset));
                within.map(|(_, found)| found.clone()).collect()
            }
        };
        let count = records.len() as u64;
        if count != range.end - range.start {
            return Err(format!("[{}, {}) has {count} records", range.start, range.end));
        }
        records.retain(|found| found.offset >= listed.archive_start);
        next = range.end;
        all.extend(records);
    }
    if next == listed.flushed.max(listed.log_start) {
        Ok(all)
    } else {
        Err(format!("it ends at {next}, not {}", listed.flushed))
    }
}

fn add(scan: &mut Scan, listed: &Listed, mut found: Vec<Found>) {
    let name = &listed.name;
    let readable = found.split_off(found.partition_point(|found| found.offset < listed.log_start));
    let kept = std::mem::replace(&mut found, readable);
    scan.kept.insert(name.clone(), kept.into_iter().map(|found| (found.offset, found.record)).collect());
    scan.stamps.extend(found.iter().filter_map(|found| Some((name.clone(), found.offset, found.stamp?))));
    let records = found.into_iter().map(|found| (found.offset, found.record)).collect();
    let part = PartScan { start: listed.log_start, end: listed.flushed.max(listed.log_start), records };
    if scan.parts.insert(name.clone(), part).is_some() {
        scan.problems.push(format!("{}/{} is in two shards", name.0, name.1));
    }
}
