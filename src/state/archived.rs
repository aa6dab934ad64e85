//! Archive jobs: claiming segments, and replacing their ranges by archive ranges.
//!
//! A job number is a fencing epoch: once its deadline has passed in log time, its segments may be claimed under another
//! and its `Archived` is declined. `Archived` is all or nothing: its ranges cover exactly what is live in the job's
//! segments, so that no offset is lost and none is twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::flushed::part_of;
use super::{PartitionState, State};
use crate::model::{Answer, ArchiveFile, ArchiveRange, Job, JobId, ObjectId, Offset, Place, Rejection, StoredRange};
use crate::planted::{self, Bug};

/// An archive range with the slot of its partition.
type Placed<'a> = (u32, &'a ArchiveRange);

impl State {
    /// Claims live segments that no other job holds.
    pub(super) fn claim_archive(
        &mut self,
        worker: &str,
        hold_ms: u64,
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
        let deadline = now.saturating_add(hold_ms);
        self.jobs.insert(id, Arc::new(Job { id, worker: worker.to_owned(), deadline, segments: segments.to_vec() }));
        Ok(Answer::Job(id))
    }

    /// Moves a job's deadline.
    pub(super) fn extend_archive(&mut self, id: JobId, hold_ms: u64) -> Result<Answer, Rejection> {
        let now = self.log_time;
        let job = self.jobs.get_mut(&id).filter(|job| job.deadline >= now).ok_or(Rejection::StaleJob)?;
        Arc::make_mut(job).deadline = now.saturating_add(hold_ms);
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
        let mut segments = Tally::new(job.segments.iter().copied());
        let mut live = Tally::new(files.iter().map(|file| file.id));
        if !live.is_distinct() || files.iter().any(|file| self.file(file.topic, file.id).is_some()) {
            return Err(Rejection::StaleJob);
        }
        // Whether all of it fits is known only at the end; a clone to go back to is cheaper than looking twice.
        let before = self.clone();
        if self.replace_live(files, ranges, &mut segments, &mut live).is_none() {
            *self = before;
            return Err(Rejection::StaleJob);
        }
        for (segment, count) in segments.counts {
            self.objects.drop_segment(segment, count);
        }
        for (file, (_, count)) in files.iter().zip(live.counts) {
            if count > 0 {
                self.objects.add_file(file.clone(), count);
            }
        }
        self.jobs.remove(&id);
        self.changed_at = self.applied;
        Ok(Answer::Done)
    }

    /// Replaces what is live in `segments` by `ranges` and counts both; `None`, with some of it done, if they are not the
    /// same offsets.
    fn replace_live(
        &mut self,
        files: &[ArchiveFile],
        ranges: &[ArchiveRange],
        segments: &mut Tally,
        live: &mut Tally,
    ) -> Option<()> {
        let expected = segments.counts.iter().filter_map(|(id, _)| self.segment(*id));
        let expected: u64 = expected.map(|segment| u64::from(segment.live_ranges)).sum();
        let mut changed_part = None;
        for group in self.place(files, ranges, live)?.chunk_by(|left, right| left.0 == right.0) {
            let slot = group[0].0;
            let partition = self.partitions.get_mut(&slot)?;
            let readable = group.partition_point(|(_, range)| range.end <= partition.log_start);
            let Some(group) = group.get(readable..).filter(|group| !group.is_empty()) else { continue };
            Arc::make_mut(partition).archive(group, segments)?;
            for (_, range) in group {
                live.count(range.file);
            }
            if changed_part != Some(part_of(slot)) {
                changed_part = Some(part_of(slot));
                self.parts.get_mut(&part_of(slot))?.changed_at = self.applied;
            }
        }
        (segments.total == expected).then_some(())
    }

    /// The ranges of partitions that still exist, by slot, then offset; `None` if one is empty or names another file.
    fn place<'a>(
        &self,
        files: &[ArchiveFile],
        ranges: &'a [ArchiveRange],
        live: &mut Tally,
    ) -> Option<Vec<Placed<'a>>> {
        let mut placed = Vec::with_capacity(ranges.len());
        let mut topic = None;
        for range in ranges {
            let id = range.partition;
            if files[live.find(range.file)?].topic != id.topic || range.start >= range.end {
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
}

impl PartitionState {
    /// Replaces this partition's ranges in `segments` between the first and the last offset of `group`, which is sorted,
    /// by `group`; `None` if the two do not cover the same readable offsets.
    fn archive(&mut self, group: &[Placed<'_>], segments: &mut Tally) -> Option<()> {
        let (from, end) = (group.first()?.1.start, group.last()?.1.end);
        let from = self.ranges.seek(from.max(self.log_start));
        let mut passed = 0;
        let mut covered = Coverage::from(self.log_start);
        // What other jobs archived in between stays.
        let mut kept: Vec<StoredRange> = Vec::new();
        for range in self.ranges.iter_at(from).take_while(|range| range.start < end) {
            passed += 1;
            match range.place {
                Place::Segment { id, .. } if segments.count(id) => {
                    covered.add(range.start, range.end)?;
                    self.stored_bytes -= range.bytes;
                }
                _ => kept.push(range),
            }
        }
        let mut archived = Coverage::from(self.log_start);
        for (_, range) in group {
            archived.add(range.start, range.end)?;
            self.stored_bytes += range.bytes;
        }
        if covered != archived {
            return None;
        }
        let at = self.ranges.advance(from, passed);
        let group = if planted::is(Bug::ArchiveDropsRange) { &group[..group.len() - 1] } else { group };
        let new = group.iter().map(|(_, range)| StoredRange::of_archive(range));
        if let [(_, only)] = group
            && kept.is_empty()
        {
            self.ranges.replace(from, at, &[StoredRange::of_archive(only)], self.slot);
        } else {
            kept.extend(new);
            kept.sort_by_key(|range| range.start);
            self.ranges.replace(from, at, &kept, self.slot);
        }
        Some(())
    }
}

/// Counts of objects that are known beforehand. Partitions name them in the same order, so the one after the last one
/// counted is nearly always the next: finding it is one comparison, not a search.
struct Tally {
    counts: Vec<(ObjectId, u32)>,
    places: BTreeMap<ObjectId, usize>,
    next: usize,
    total: u64,
}

impl Tally {
    fn new(ids: impl Iterator<Item = ObjectId>) -> Self {
        let counts: Vec<(ObjectId, u32)> = ids.map(|id| (id, 0)).collect();
        let places = counts.iter().enumerate().map(|(place, (id, _))| (*id, place)).collect();
        Self { counts, places, next: 0, total: 0 }
    }

    fn is_distinct(&self) -> bool {
        self.places.len() == self.counts.len()
    }

    fn find(&mut self, id: ObjectId) -> Option<usize> {
        let at = match self.counts.get(self.next) {
            Some((next, _)) if *next == id => self.next,
            _ => *self.places.get(&id)?,
        };
        self.next = if at + 1 == self.counts.len() { 0 } else { at + 1 };
        Some(at)
    }

    /// Counts `id`, if it is one of those known.
    fn count(&mut self, id: ObjectId) -> bool {
        let Some(at) = self.find(id) else { return false };
        self.counts[at].1 += 1;
        self.total += 1;
        true
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
