//! From a view to its checkpoint.
//!
//! The order of a flush at the view's applied index F: [`State::parts_to_write`] says which index parts are due, the
//! flusher names them and builds the `Flushed` command, [`State::checkpoint`] gives the contents of the checkpoint and of
//! those parts, all objects are written, and only then the command is proposed. The contents come from applying the flush
//! to a clone of the view by the same code that `apply` runs, so the two cannot drift apart.

use super::flushed::Flush;
use super::{PartState, State};
use crate::model::checkpoint::{MAX_FOOTER_SEGMENTS, PARTITIONS_PER_PART, PartitionRecord, SegmentRecord};
use crate::model::{ArchiveFile, Checkpoint, CheckpointRef, Control, IndexPart, Job, LogIndex, Rejection};

/// Parts wait for new segments up to [`MAX_FOOTER_SEGMENTS`], some only up to this many fewer: so that not all of them are
/// rewritten by the same checkpoint.
const STAGGERED_SEGMENTS: usize = 32;

/// A `Flushed` that does not fit the view it was made from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlushMismatch {
    /// The command is another one, or F is not what the view has applied.
    #[error("the command is no flush of this view")]
    OtherView,
    /// Applying it to the view would be declined.
    #[error("the flush does not fit the view it was cut from: {0}")]
    Declined(Rejection),
    /// A part that has to be written anew is not named, or one is named that does not exist.
    #[error("index part {0} has to be written and is not, or the reverse")]
    Part(u32),
}

impl State {
    /// The numbers of the index parts that a checkpoint of this view with `new_segments` new segments has to write: those
    /// that an archive job or a removal changed, and those that too many segments are newer than. Ascending.
    #[must_use]
    pub fn parts_to_write(&self, new_segments: usize) -> Vec<u32> {
        let flushed: Vec<LogIndex> = self.objects.segments().map(|segment| segment.flushed_at).collect();
        let due = |(number, part): &(&u32, &PartState)| {
            let written_at = part.written_at();
            let newer = flushed.len() - flushed.partition_point(|at| *at <= written_at) + new_segments;
            part.is_dirty() || newer > footer_limit(**number)
        };
        self.parts.iter().filter(due).map(|(number, _)| *number).collect()
    }

    /// What the state would be had `flushed` been applied at F, F being what this view has applied; and the contents of
    /// the index parts that `flushed` names. Reads all partitions, and all ranges of the parts due.
    ///
    /// # Errors
    /// The command is not a flush of this view, or names other parts than [`Self::parts_to_write`].
    pub fn checkpoint(&self, flushed: &Control) -> Result<(Checkpoint, Vec<IndexPart>), FlushMismatch> {
        let flush = Flush::from_control(flushed).filter(|flush| flush.index == self.applied);
        let flush = flush.ok_or(FlushMismatch::OtherView)?;
        let due = self.parts_to_write(flush.segments.len());
        for part in &due {
            if !flush.parts.iter().any(|written| written.part == *part) {
                return Err(FlushMismatch::Part(*part));
            }
        }
        if let Some(unknown) = flush.parts.iter().find(|written| !self.parts.contains_key(&written.part)) {
            return Err(FlushMismatch::Part(unknown.part));
        }
        let mut after = self.clone();
        after.flush(flush).map_err(FlushMismatch::Declined)?;
        let parts = flush.parts.iter().map(|written| after.index_part(written.part, written.written_at)).collect();
        Ok((after.scalars(flush.checkpoint), parts))
    }

    /// The stored ranges of one part.
    fn index_part(&self, part: u32, written_at: LogIndex) -> IndexPart {
        let first = part * PARTITIONS_PER_PART;
        let slots = first..=first.saturating_add(PARTITIONS_PER_PART - 1);
        let partitions = self
            .partitions
            .range(slots)
            .filter(|(_, partition)| !partition.ranges.is_empty())
            .map(|(slot, partition)| (*slot, partition.ranges.iter().collect()))
            .collect();
        IndexPart { part, written_at, partitions }
    }

    /// Everything but tails and stored ranges, under the name `self_ref`.
    pub(super) fn scalars(&self, self_ref: CheckpointRef) -> Checkpoint {
        let partitions = self.partitions.values().map(|partition| PartitionRecord {
            slot: partition.slot,
            log_start: partition.log_start,
            archive_start: partition.archive_start,
            flushed: partition.flushed,
            producers_checked: partition.producers_checked,
        });
        let segments = self.objects.segments().map(|segment| SegmentRecord {
            info: segment.info,
            flushed_at: segment.flushed_at,
            ordinal: segment.ordinal,
        });
        let producers = self.partitions.values().flat_map(|partition| partition.producers.records(partition.slot));
        Checkpoint {
            self_ref,
            shard: self.shard,
            // The flusher knows it.
            term: 0,
            incarnation: self.incarnation,
            version: self.version,
            log_time: self.log_time,
            changed_at: self.changed_at,
            closed: self.closed,
            unsealed: self.unsealed,
            limits: self.limits,
            condemned: self.condemned,
            next_slot: self.next_slot,
            founders: self.catalog.founders.clone(),
            adopting: self.catalog.adopting,
            forgotten: self.catalog.forgotten,
            topics: self.topics.values().map(|entry| entry.record()).collect(),
            partitions: partitions.collect(),
            segments: segments.collect(),
            archive_files: self.objects.files().map(|file| ArchiveFile::clone(&file.file)).collect(),
            parts: self.index_parts().collect(),
            jobs: self.jobs.values().map(|job| Job::clone(job)).collect(),
            next_job: self.next_job,
            next_producer: self.next_producer,
            names: self.producer_names.records().collect(),
            producers: producers.collect(),
            keys: self.keys.records().collect(),
        }
    }
}

impl PartState {
    /// The flush with which it was last written; 0 if it never was.
    pub(super) fn written_at(&self) -> LogIndex {
        self.written.map_or(0, |written| written.written_at)
    }

    /// Whether its ranges changed since other than by flush or trim.
    pub(super) fn is_dirty(&self) -> bool {
        self.changed_at > self.written_at()
    }
}

/// How many segments may be newer than part `number`.
fn footer_limit(number: u32) -> usize {
    MAX_FOOTER_SEGMENTS - (number as usize * 7) % STAGGERED_SEGMENTS
}
