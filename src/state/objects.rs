//! The tables of live objects: segments in flush order, archive files by topic, each with a count of its live ranges.
//!
//! An object is live while some partition has a range in it; when the last one is trimmed, archived or removed, the
//! object leaves its table in the same command. Counts are changed in bulk, once for each object and command.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;

use crate::model::{ArchiveFile, JobId, LogIndex, ObjectId, Place, SegmentInfo, StoredRange, TopicId};

/// A live segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveSegment {
    /// The segment.
    pub info: SegmentInfo,
    /// The flushed index of the flush that wrote it.
    pub flushed_at: LogIndex,
    /// Its place among the segments of that flush.
    pub ordinal: u32,
    /// How many partitions have a live range in it.
    pub live_ranges: u32,
    /// The last job that claimed it; the job may be gone or past its deadline.
    pub(super) claim: Option<JobId>,
}

/// A live archive file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveFile {
    /// The file.
    pub file: ArchiveFile,
    /// How many live ranges are in it.
    pub live_ranges: u32,
}

/// Both tables.
#[derive(Debug, Clone, Default)]
pub(super) struct Objects {
    segments: OrdMap<(LogIndex, u32), LiveSegment>,
    order: OrdMap<ObjectId, (LogIndex, u32)>,
    files: OrdMap<(TopicId, ObjectId), Arc<LiveFile>>,
}

/// Ranges that left, counted by object until all of a command are known.
///
/// Partitions that share segments name them in the same order, so the object after the last one counted is nearly always
/// the next one: counting is one comparison, not a search.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    counts: Vec<(DroppedObject, u32)>,
    places: BTreeMap<DroppedObject, usize>,
    next: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum DroppedObject {
    Segment(ObjectId),
    File(TopicId, ObjectId),
}

impl Dropped {
    /// Counts a range of `topic` that is no longer live.
    pub(super) fn add(&mut self, topic: TopicId, range: &StoredRange) {
        let object = match range.place {
            Place::Segment { id, .. } => DroppedObject::Segment(id),
            Place::Archive { file } => DroppedObject::File(topic, file),
        };
        let mut at = self.next;
        if self.counts.get(at).is_none_or(|(known, _)| *known != object) {
            at = *self.places.entry(object).or_insert(self.counts.len());
            if at == self.counts.len() {
                self.counts.push((object, 0));
            }
        }
        self.counts[at].1 += 1;
        self.next = if at + 1 == self.counts.len() { 0 } else { at + 1 };
    }
}

impl Objects {
    /// All live segments in flush order.
    pub(super) fn segments(&self) -> impl DoubleEndedIterator<Item = &LiveSegment> + '_ {
        self.segments.values()
    }

    pub(super) fn segment_count(&self) -> usize {
        self.segments.len()
    }

    pub(super) fn file_count(&self) -> usize {
        self.files.len()
    }

    pub(super) fn segment(&self, id: ObjectId) -> Option<&LiveSegment> {
        self.segments.get(self.order.get(&id)?)
    }

    /// All live archive files by topic, then id.
    pub(super) fn files(&self) -> impl Iterator<Item = &Arc<LiveFile>> + '_ {
        self.files.values()
    }

    /// The live archive files of `topic` above `after`, by id.
    pub(super) fn files_of(
        &self,
        topic: TopicId,
        after: Option<ObjectId>,
    ) -> impl Iterator<Item = &Arc<LiveFile>> + '_ {
        let from = after.map_or(ObjectId(0), |id| ObjectId(id.0.saturating_add(1)));
        self.files.range((topic, from)..=(topic, ObjectId(u128::MAX))).map(|(_, file)| file)
    }

    pub(super) fn file(&self, topic: TopicId, id: ObjectId) -> Option<&Arc<LiveFile>> {
        self.files.get(&(topic, id))
    }

    /// Adds a segment with at least one live range.
    pub(super) fn add_segment(&mut self, segment: LiveSegment) {
        let key = (segment.flushed_at, segment.ordinal);
        self.order.insert(segment.info.id, key);
        self.segments.insert(key, segment);
    }

    /// Adds an archive file with at least one live range.
    pub(super) fn add_file(&mut self, file: ArchiveFile, live_ranges: u32) {
        self.files.insert((file.topic, file.id), Arc::new(LiveFile { file, live_ranges }));
    }

    /// Notes that `job` claimed `segment`.
    pub(super) fn claim(&mut self, segment: ObjectId, job: JobId) {
        if let Some(segment) = self.order.get(&segment).and_then(|key| self.segments.get_mut(key)) {
            segment.claim = Some(job);
        }
    }

    /// Takes the counts of `dropped` off; objects without a live range leave.
    pub(super) fn drop_ranges(&mut self, dropped: Dropped) {
        for (object, count) in dropped.counts {
            match object {
                DroppedObject::Segment(id) => self.drop_segment(id, count),
                DroppedObject::File(topic, id) => self.drop_file((topic, id), count),
            }
        }
    }

    /// Takes `count` ranges off a segment; it leaves with the last one.
    pub(super) fn drop_segment(&mut self, id: ObjectId, count: u32) {
        let Some(key) = self.order.get(&id).copied() else { return };
        let Some(segment) = self.segments.get_mut(&key) else { return };
        segment.live_ranges = segment.live_ranges.saturating_sub(count);
        if segment.live_ranges == 0 {
            self.segments.remove(&key);
            self.order.remove(&id);
        }
    }

    fn drop_file(&mut self, key: (TopicId, ObjectId), count: u32) {
        let Some(file) = self.files.get_mut(&key) else { return };
        let file = Arc::make_mut(file);
        file.live_ranges = file.live_ranges.saturating_sub(count);
        if file.live_ranges == 0 {
            self.files.remove(&key);
        }
    }
}
