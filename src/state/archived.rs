//! Archive jobs: claiming segments, and replacing their ranges by archive ranges.
//!
//! A job number is a fencing epoch: once its deadline has passed in log time, its segments may be claimed under another
//! and its `Archived` is declined. `Archived` is all or nothing: its ranges cover exactly what is live in the job's
//! segments, so that no offset is lost and none is twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::chunks::Position;
use super::flushed::part_of;
use super::objects::Dropped;
use super::{PartitionState, State};
use crate::model::{
    Answer, ArchiveFile, ArchiveRange, Job, JobId, LogTime, ObjectId, Offset, Place, Rejection, StoredRange, TopicId,
};

/// What an `Archived` does to one partition: the ranges `[from, to)` of its list become `ranges`.
struct Replacement {
    slot: u32,
    from: Position,
    to: Position,
    ranges: Vec<StoredRange>,
    /// Bytes of those that are replaced.
    bytes: u64,
}

/// An archive range with the slot of its partition.
type Placed<'a> = (u32, &'a ArchiveRange);

impl State {
    /// Claims live segments that no other job holds.
    pub(super) fn claim_archive(
        &mut self,
        worker: &str,
        deadline: LogTime,
        segments: &[ObjectId],
    ) -> Result<Answer, Rejection> {
        let free = |id: &ObjectId| self.segment(*id).is_some_and(|segment| self.claimed_by(segment).is_none());
        let distinct: BTreeSet<ObjectId> = segments.iter().copied().collect();
        if segments.is_empty() || distinct.len() != segments.len() || !segments.iter().all(free) {
            return Err(Rejection::StaleJob);
        }
        let now = self.log_time;
        let late: Vec<JobId> = self.jobs.values().filter(|job| job.deadline < now).map(|job| job.id).collect();
        for job in late {
            self.jobs.remove(&job);
        }
        self.next_job += 1;
        let id = JobId(self.next_job);
        for segment in segments {
            self.objects.claim(*segment, id);
        }
        self.jobs.insert(id, Arc::new(Job { id, worker: worker.to_owned(), deadline, segments: segments.to_vec() }));
        Ok(Answer::Job(id))
    }

    /// Moves a job's deadline.
    pub(super) fn extend_archive(&mut self, id: JobId, deadline: LogTime) -> Result<Answer, Rejection> {
        let now = self.log_time;
        let job = self.jobs.get_mut(&id).filter(|job| job.deadline >= now).ok_or(Rejection::StaleJob)?;
        Arc::make_mut(job).deadline = deadline;
        Ok(Answer::Job(id))
    }

    /// Gives a job back.
    pub(super) fn abandon_archive(&mut self, id: JobId) -> Result<Answer, Rejection> {
        self.jobs.remove(&id).map(|_| Answer::Done).ok_or(Rejection::StaleJob)
    }

    /// Replaces what is live in the job's segments by what is in `files`.
    pub(super) fn archived(
        &mut self,
        id: JobId,
        files: &[ArchiveFile],
        ranges: &[ArchiveRange],
    ) -> Result<Answer, Rejection> {
        let job = self.jobs.get(&id).filter(|job| job.deadline >= self.log_time).ok_or(Rejection::StaleJob)?;
        if files.iter().any(|file| file.id < self.condemned) {
            return Err(Rejection::Condemned);
        }
        let segments: BTreeSet<ObjectId> = job.segments.iter().copied().collect();
        let new: BTreeMap<ObjectId, TopicId> = files.iter().map(|file| (file.id, file.topic)).collect();
        let unknown = files.iter().all(|file| self.file(file.topic, file.id).is_none());
        let mut dropped = Dropped::default();
        let placed = self.place(&new, ranges).filter(|_| unknown && new.len() == files.len());
        let replacements = placed.and_then(|placed| self.match_live(&segments, &placed, &mut dropped));
        let mut live: BTreeMap<ObjectId, u32> = BTreeMap::new();
        for replacement in replacements.ok_or(Rejection::StaleJob)? {
            for range in &replacement.ranges {
                if let Place::Archive { file } = range.place
                    && new.contains_key(&file)
                {
                    *live.entry(file).or_default() += 1;
                }
            }
            self.replace(&replacement);
        }
        self.objects.drop_ranges(dropped);
        for file in files {
            if let Some(count) = live.get(&file.id) {
                self.objects.add_file(file.clone(), *count);
            }
        }
        self.jobs.remove(&id);
        self.changed_at = self.applied;
        Ok(Answer::Done)
    }

    /// The ranges of partitions that still exist, by slot, then offset; `None` if one is empty or names another file.
    fn place<'a>(&self, files: &BTreeMap<ObjectId, TopicId>, ranges: &'a [ArchiveRange]) -> Option<Vec<Placed<'a>>> {
        let mut placed = Vec::with_capacity(ranges.len());
        let mut topic = None;
        for range in ranges {
            let id = range.partition;
            if files.get(&range.file) != Some(&id.topic) || range.start >= range.end {
                return None;
            }
            if topic.is_none_or(|(known, _)| known != id.topic) {
                topic = Some((id.topic, self.topics.get(&id.topic)));
            }
            if let Some(slot) = topic.and_then(|(_, entry)| entry?.slot(id.partition)) {
                placed.push((slot, range));
            }
        }
        placed.sort_by_key(|(slot, range)| (*slot, range.start));
        Some(placed)
    }

    /// What has to be replaced where, if `ranges` are exactly what is live in `segments`; `None` otherwise. Counts what
    /// is replaced in `dropped`.
    fn match_live(
        &self,
        segments: &BTreeSet<ObjectId>,
        ranges: &[Placed<'_>],
        dropped: &mut Dropped,
    ) -> Option<Vec<Replacement>> {
        let mut replaced = 0;
        let mut replacements = Vec::with_capacity(ranges.len());
        for group in ranges.chunk_by(|left, right| left.0 == right.0) {
            let partition = self.partitions.get(&group[0].0)?;
            let readable = group.partition_point(|(_, range)| range.end <= partition.log_start);
            if let Some(group) = group.get(readable..).filter(|group| !group.is_empty()) {
                let before = dropped.total();
                replacements.push(partition.match_ranges(segments, group, dropped)?);
                replaced += dropped.total() - before;
            }
        }
        let expected: u64 =
            segments.iter().filter_map(|id| self.segment(*id)).map(|segment| u64::from(segment.live_ranges)).sum();
        (replaced == expected).then_some(replacements)
    }

    fn replace(&mut self, replacement: &Replacement) {
        let Replacement { slot, from, to, ranges, bytes } = replacement;
        let Some(partition) = self.partitions.get_mut(slot) else { return };
        let partition = Arc::make_mut(partition);
        partition.stored_bytes -= bytes;
        partition.stored_bytes += ranges.iter().map(|range| range.bytes).sum::<u64>();
        partition.ranges.replace(*from, *to, ranges, *slot);
        if let Some(part) = self.parts.get_mut(&part_of(*slot)) {
            part.changed_at = self.applied;
        }
    }
}

impl PartitionState {
    /// The replacement for `group`, which is sorted, if it covers the readable offsets of this partition's ranges in
    /// `segments` between its first and its last offset.
    fn match_ranges(
        &self,
        segments: &BTreeSet<ObjectId>,
        group: &[Placed<'_>],
        dropped: &mut Dropped,
    ) -> Option<Replacement> {
        let (slot, first) = *group.first()?;
        let end = group.last()?.1.end;
        let from = self.ranges.seek(first.start.max(self.log_start));
        let (mut at, mut bytes) = (from, 0);
        let mut covered = Coverage::from(self.log_start);
        let mut ranges: Vec<StoredRange> = Vec::with_capacity(group.len());
        while let Some(range) = self.ranges.get(at).filter(|range| range.start < end) {
            at = self.ranges.next(at);
            bytes += range.bytes;
            if is_in(&range, segments) {
                dropped.add(self.id.topic, &range);
                covered.add(range.start, range.end)?;
            } else {
                ranges.push(range);
            }
        }
        let kept = !ranges.is_empty();
        let mut archived = Coverage::from(self.log_start);
        for (_, range) in group {
            archived.add(range.start, range.end)?;
            ranges.push(stored_range(range));
        }
        if kept {
            ranges.sort_by_key(|range| range.start);
        }
        (covered == archived).then_some(Replacement { slot, from, to: at, ranges, bytes })
    }
}

/// The readable offsets that a sorted run of ranges covers, in runs without a gap.
#[derive(Debug, PartialEq, Eq)]
struct Coverage {
    log_start: Offset,
    /// Runs but the last: none unless a job skips over what another one archived.
    closed: Vec<(Offset, Offset)>,
    last: Option<(Offset, Offset)>,
}

impl Coverage {
    fn from(log_start: Offset) -> Self {
        Self { log_start, closed: Vec::new(), last: None }
    }

    /// Adds a range; `None` if it overlaps the one before.
    fn add(&mut self, start: Offset, end: Offset) -> Option<()> {
        let start = start.max(self.log_start);
        match &mut self.last {
            Some((_, last)) if start < *last => return None,
            Some((_, last)) if start == *last => *last = end,
            last => self.closed.extend(last.replace((start, end))),
        }
        Some(())
    }
}

fn is_in(range: &StoredRange, segments: &BTreeSet<ObjectId>) -> bool {
    matches!(range.place, Place::Segment { id, .. } if segments.contains(&id))
}

fn stored_range(range: &ArchiveRange) -> StoredRange {
    StoredRange {
        start: range.start,
        end: range.end,
        bytes: range.bytes,
        max_timestamp: range.max_timestamp,
        min_append_time: range.min_append_time,
        max_append_time: range.max_append_time,
        place: Place::Archive { file: range.file },
    }
}
