//! From a checkpoint back to a state.
//!
//! The stored ranges of a partition are those of its index part, then those in the footers of segments newer than the
//! part. Both may name what was trimmed since, or a partition that was removed; that is left out, as the live state did.
//! Nothing of the input is trusted: gaps, overlaps and names of unknown objects are refused.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::flushed::part_of;
use super::ranges::RangeList;
use super::{LiveSegment, PartitionState, STATE_VERSION, State, TopicEntry};
use crate::model::catalog::MAX_SHARDS;
use crate::model::checkpoint::{PartitionRecord, SegmentRecord, TopicRecord};
use crate::model::{
    ArchiveFile, CATALOG_SHARD, Checkpoint, IndexPart, IndexPartRef, Job, LogIndex, NodeId, ObjectId, Place,
    PlacementRun, SegmentRange, StoredRange, Topic, TopicId, TopicPartition,
};
use crate::planted::{self, Bug};

/// Why a checkpoint cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// An index part was not given.
    #[error("index part {0} is missing")]
    PartMissing(ObjectId),
    /// A segment's footer was not given.
    #[error("the footer of segment {0} is missing")]
    FooterMissing(ObjectId),
    /// The pieces contradict each other.
    #[error("the checkpoint contradicts itself: {0}")]
    Contradiction(&'static str),
    /// Written by a newer program.
    #[error("the state has version {0}, which this program does not know")]
    Version(u32),
}

/// The stored ranges by slot while they are gathered.
type Ranges = BTreeMap<u32, Vec<StoredRange>>;

impl State {
    /// The state at the checkpoint's index: equal, hash included, to the live one after the same flush.
    ///
    /// `parts` are the index parts that the checkpoint names, `footers` the ranges of the segments of
    /// [`Checkpoint::footer_segments`]; both in any order.
    ///
    /// # Errors
    /// A part or footer is missing, or the contents contradict each other.
    pub fn restore(
        checkpoint: Checkpoint,
        parts: Vec<IndexPart>,
        footers: Vec<(ObjectId, Vec<SegmentRange>)>,
    ) -> Result<Self, RestoreError> {
        if checkpoint.version > STATE_VERSION {
            return Err(RestoreError::Version(checkpoint.version));
        }
        let mut state = Self::new(checkpoint.shard, checkpoint.incarnation);
        let index = checkpoint.self_ref.index;
        state.version = checkpoint.version;
        state.applied = index;
        state.flushed_index = index;
        state.checkpoint = Some(checkpoint.self_ref);
        state.log_time = checkpoint.log_time;
        state.changed_at = checkpoint.changed_at;
        state.closed = checkpoint.closed;
        state.unsealed = checkpoint.unsealed;
        state.limits = checkpoint.limits;
        state.condemned = checkpoint.condemned;
        state.next_slot = checkpoint.next_slot;
        state.next_job = checkpoint.next_job;
        state.next_producer = checkpoint.next_producer;
        let needed = checkpoint.footer_segments();
        state.catalog.adopting = checkpoint.adopting;
        state.catalog.forgotten = checkpoint.forgotten;
        state.restore_shards(checkpoint.founders)?;
        state.restore_topics(checkpoint.topics, &checkpoint.partitions)?;
        state.restore_parts(&checkpoint.parts)?;
        let mut ranges = state.part_ranges(parts)?;
        let mut footers: HashMap<ObjectId, Vec<SegmentRange>> = footers.into_iter().collect();
        for segment in &checkpoint.segments {
            if needed.iter().any(|info| info.id == segment.info.id) {
                let footer = footers.remove(&segment.info.id);
                let footer = footer.ok_or(RestoreError::FooterMissing(segment.info.id))?;
                state.footer_ranges(segment, &footer, &mut ranges);
            }
        }
        let live = state.restore_ranges(ranges)?;
        state.restore_objects(checkpoint.segments, checkpoint.archive_files, live)?;
        state.restore_jobs(checkpoint.jobs);
        checkpoint.names.into_iter().for_each(|name| state.producer_names.restore(name));
        for record in checkpoint.producers {
            if planted::is(Bug::SkipProducersOnRestore) {
                break;
            }
            let partition = state.partitions.get_mut(&record.slot);
            let partition = partition.ok_or(RestoreError::Contradiction("a producer of an unknown partition"))?;
            if partition.producers.is_empty() {
                state.producer_checks.insert((partition.producers_checked, record.slot));
            }
            Arc::make_mut(partition).producers.restore(record);
        }
        checkpoint.keys.into_iter().for_each(|key| state.keys.record(key));
        Ok(state)
    }

    fn restore_topics(&mut self, topics: Vec<TopicRecord>, partitions: &[PartitionRecord]) -> Result<(), RestoreError> {
        let records: HashMap<u32, &PartitionRecord> = partitions.iter().map(|record| (record.slot, record)).collect();
        let mut restored = 0;
        for record in topics {
            let id = record.topic.id;
            let entry = TopicEntry::restore(record);
            self.check_entry(&entry, records.len())?;
            self.restore_name(&entry)?;
            for (partition, slot) in entry.slots() {
                let record = records.get(&slot).ok_or(RestoreError::Contradiction("a topic's partition is missing"))?;
                let mut state = PartitionState::new(TopicPartition::new(id, partition), slot);
                if record.archive_start > record.log_start {
                    return Err(RestoreError::Contradiction("an archive starts above its log"));
                }
                (state.log_start, state.archive_start) = (record.log_start, record.archive_start);
                state.flushed = record.flushed;
                state.high_watermark = record.flushed;
                state.producers_checked = record.producers_checked;
                self.partitions.insert(slot, Arc::new(state));
                self.parts.entry(part_of(slot)).or_default().partitions += 1;
                restored += 1;
            }
            self.catalog.note(id, &entry);
            self.catalog.load(&entry);
            self.topics.insert(id, Arc::new(entry));
        }
        if restored != partitions.len() || self.partitions.len() != restored {
            return Err(RestoreError::Contradiction("topics and partitions do not match"));
        }
        Ok(())
    }

    fn restore_name(&mut self, entry: &TopicEntry) -> Result<(), RestoreError> {
        if self.shard != CATALOG_SHARD {
            return Ok(());
        }
        let Topic { id, name, deleted_at, .. } = entry.topic.as_ref();
        let fresh = match deleted_at {
            Some(deleted_at) => self.deleted.insert((name.clone(), *deleted_at, *id)).is_none(),
            None => self.names.insert(name.clone(), *id).is_none(),
        };
        if fresh { Ok(()) } else { Err(RestoreError::Contradiction("two topics have the same name")) }
    }

    /// Whether a topic's partitions are where it says. `partitions` is how many there are; nothing is counted up to a number that
    /// is not bounded by it.
    fn check_entry(&self, entry: &TopicEntry, partitions: usize) -> Result<(), RestoreError> {
        let total = entry.topic.settings.partitions;
        let (mut next, mut count) = (0, 0);
        for extent in &entry.extents {
            if extent.first < next || extent.count == 0 || extent.count > total || extent.first > total - extent.count {
                return Err(RestoreError::Contradiction("the partitions of a topic overlap"));
            }
            if extent.slot.checked_add(extent.count).is_none_or(|end| end > self.next_slot) {
                return Err(RestoreError::Contradiction("a topic's partition is missing"));
            }
            next = extent.first + extent.count;
            count += extent.count;
        }
        if count as usize > partitions {
            return Err(RestoreError::Contradiction("a topic has more partitions than there are"));
        }
        let placed = match &entry.placed {
            Some(placed) => self.shard == CATALOG_SHARD && self.is_placement(&placed.runs, total) && entry.is_here(),
            // All of it is here; other shards have what they were told to have.
            None => self.shard != CATALOG_SHARD || count == total,
        };
        let visible = entry.visible().is_none_or(|visible| {
            visible.id == entry.topic.id && visible.name == entry.topic.name && visible.settings.partitions <= total
        });
        if placed && visible {
            return Ok(());
        }
        Err(RestoreError::Contradiction("a topic's partitions are not where it says"))
    }

    fn is_placement(&self, runs: &[PlacementRun], total: u32) -> bool {
        let ascending = runs.windows(2).all(|pair| pair[0].first < pair[1].first && pair[0].shard != pair[1].shard);
        ascending
            && runs.first().is_some_and(|run| run.first == 0)
            && runs.last().is_some_and(|run| run.first < total)
            && runs.iter().all(|run| run.shard.0 < self.shard_count())
    }

    fn restore_shards(&mut self, founders: Vec<NodeId>) -> Result<(), RestoreError> {
        if founders.len() > MAX_SHARDS as usize || (self.shard != CATALOG_SHARD && !founders.is_empty()) {
            return Err(RestoreError::Contradiction("the shards are not those of a cluster"));
        }
        self.catalog.set_founders(founders);
        Ok(())
    }

    fn restore_parts(&mut self, parts: &[IndexPartRef]) -> Result<(), RestoreError> {
        for written in parts {
            let part = self.parts.get_mut(&written.part);
            part.ok_or(RestoreError::Contradiction("an index part without a partition"))?.written = Some(*written);
        }
        Ok(())
    }

    /// The ranges in the index parts that are named.
    fn part_ranges(&self, parts: Vec<IndexPart>) -> Result<Ranges, RestoreError> {
        let mut given: HashMap<(u32, LogIndex), IndexPart> =
            parts.into_iter().map(|part| ((part.part, part.written_at), part)).collect();
        let mut ranges = Ranges::new();
        for written in self.parts.values().filter_map(|part| part.written) {
            let part = given.remove(&(written.part, written.written_at));
            for (slot, list) in part.ok_or(RestoreError::PartMissing(written.id))?.partitions {
                if part_of(slot) != written.part {
                    return Err(RestoreError::Contradiction("a partition in the wrong index part"));
                }
                if let Some(partition) = self.partitions.get(&slot) {
                    let live = list.into_iter().filter(|range| partition.has(range)).collect();
                    ranges.insert(slot, live);
                }
            }
        }
        Ok(ranges)
    }

    /// Adds the ranges of a segment to the partitions whose parts are older.
    fn footer_ranges(&self, segment: &SegmentRecord, footer: &[SegmentRange], ranges: &mut Ranges) {
        for range in footer {
            let Some(slot) = self.slot(range.partition) else { continue };
            let newer = self.parts.get(&part_of(slot)).is_some_and(|part| segment.flushed_at > part.written_at());
            let live = self.partitions.get(&slot).is_some_and(|partition| range.end > partition.log_start);
            if newer && live {
                ranges.entry(slot).or_default().push(StoredRange::of_segment(segment.info.id, range));
            }
        }
    }

    /// Puts the lists into the partitions; gives the number of live ranges by object.
    fn restore_ranges(&mut self, ranges: Ranges) -> Result<HashMap<(Option<TopicId>, ObjectId), u32>, RestoreError> {
        let mut live = HashMap::new();
        for (slot, list) in ranges {
            let Some(partition) = self.partitions.get_mut(&slot) else { continue };
            let partition = Arc::make_mut(partition);
            check_list(&list, partition)?;
            for range in &list {
                let object = match range.place {
                    Place::Segment { id, .. } => (None, id),
                    Place::Archive { file } => (Some(partition.id.topic), file),
                };
                *live.entry(object).or_insert(0) += 1;
                let counted = if range.end > partition.log_start {
                    &mut partition.stored_bytes
                } else {
                    &mut partition.kept_bytes
                };
                *counted = counted.saturating_add(range.bytes);
            }
            partition.ranges = RangeList::from_ranges(&list, slot);
        }
        let missing =
            |partition: &Arc<PartitionState>| partition.ranges.is_empty() && partition.log_start < partition.flushed;
        if self.partitions.values().any(missing) {
            return Err(RestoreError::Contradiction("stored ranges are missing"));
        }
        Ok(live)
    }

    fn restore_objects(
        &mut self,
        segments: Vec<SegmentRecord>,
        files: Vec<ArchiveFile>,
        mut live: HashMap<(Option<TopicId>, ObjectId), u32>,
    ) -> Result<(), RestoreError> {
        let unused = RestoreError::Contradiction("a live object without a live range");
        for SegmentRecord { info, flushed_at, ordinal } in segments {
            let live_ranges = live.remove(&(None, info.id)).ok_or_else(|| unused.clone())?;
            self.objects.add_segment(LiveSegment { info, flushed_at, ordinal, live_ranges, claim: None });
        }
        for file in files {
            let live_ranges = live.remove(&(Some(file.topic), file.id)).ok_or_else(|| unused.clone())?;
            self.objects.add_file(file, live_ranges);
        }
        if live.is_empty() { Ok(()) } else { Err(RestoreError::Contradiction("a range in an unknown object")) }
    }

    fn restore_jobs(&mut self, jobs: Vec<Job>) {
        for job in jobs {
            for segment in &job.segments {
                self.objects.claim(*segment, job.id);
            }
            self.jobs.insert(job.id, Arc::new(job));
        }
    }
}

impl PartitionState {
    /// Whether a range that an index part names was not trimmed since.
    fn has(&self, range: &StoredRange) -> bool {
        match range.place {
            Place::Segment { .. } => range.end > self.log_start,
            Place::Archive { .. } => range.end > self.archive_start,
        }
    }
}

/// Whether a list is gapless, begins at or below the archive start and ends at the flushed offset.
fn check_list(list: &[StoredRange], partition: &PartitionState) -> Result<(), RestoreError> {
    let contiguous = list.windows(2).all(|pair| pair[0].end == pair[1].start);
    let whole = list.iter().all(|range| range.start < range.end);
    let begins = list.first().is_none_or(|first| first.start <= partition.archive_start);
    let ends = list.last().is_none_or(|last| last.end == partition.flushed);
    if contiguous && whole && begins && ends {
        return Ok(());
    }
    Err(RestoreError::Contradiction("the stored ranges of a partition have a gap or overlap"))
}
