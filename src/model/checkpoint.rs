//! Checkpoints and index parts: plain values. Their byte frames are in `format`, their meaning in `state`.

use serde::{Deserialize, Serialize};

use super::archive::{ArchiveFile, ArchiveRange, Job};
use super::catalog::{PlacedRecord, Revision};
use super::id::{Incarnation, LogIndex, LogTime, NodeId, ObjectId, Offset, ProducerId, ShardId, TopicPartition};
use super::limits::Limits;
use super::producer::IdempotencyKey;
use super::segment::{SegmentInfo, SegmentRange};
use super::topic::Topic;

/// Partitions whose ranges share one index part: part = slot / this.
pub const PARTITIONS_PER_PART: u32 = 256;
/// Segments newer than the index parts that a checkpoint may leave to their footers.
pub const MAX_FOOTER_SEGMENTS: usize = 64;

/// Names a checkpoint object: `{incarnation:010}-{index:020}-{ulid}.ckpt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CheckpointRef {
    /// The life of the cluster that wrote it.
    pub incarnation: Incarnation,
    /// The log index F at which it holds the shard's metadata.
    pub index: LogIndex,
    /// Distinguishes checkpoints of the same index.
    pub id: ObjectId,
}

/// An immutable object with the ranges of [`PARTITIONS_PER_PART`] partitions as of log index `written_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexPartRef {
    /// Which partitions: slots `[part * 256, (part + 1) * 256)`.
    pub part: u32,
    /// Its name.
    pub id: ObjectId,
    /// The checkpoint index with which it was written.
    pub written_at: LogIndex,
}

/// A shard's metadata as of log index `self_ref.index`: what the state is once the flush of that index was applied to it.
///
/// Scalars are in full; the stored ranges are in index parts and, for segments newer than a part, in those segments'
/// footers. The tail is empty by construction: all of it is in segments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Its own name; carries incarnation and index.
    pub self_ref: CheckpointRef,
    /// The shard.
    pub shard: ShardId,
    /// A Raft term at or above that of the entry at the index, set by the flusher (the state knows no terms): a start from the
    /// bucket begins above it.
    pub term: u64,
    /// The incarnation of the state (that of the name, unless a reopening is still in the log).
    pub incarnation: Incarnation,
    /// Which behaviour `apply` follows.
    pub version: u32,
    /// The largest log time applied.
    pub log_time: LogTime,
    /// Index of the last command that changed more than log time, tail and flush bookkeeping.
    pub changed_at: LogIndex,
    /// No appends.
    pub closed: bool,
    /// Closed, but about to be reopened: not a clean checkpoint.
    pub unsealed: bool,
    /// What `apply` enforces.
    pub limits: Limits,
    /// Nothing below it may become live.
    pub condemned: ObjectId,
    /// The next slot that a new partition gets.
    pub next_slot: u32,
    /// In shard 0, by shard: the node that founds or founded it. Empty until there was more than one.
    pub founders: Vec<NodeId>,
    /// In shard 0: what the other shards have is not known yet, so topics cannot change.
    pub adopting: bool,
    /// In the other shards: the newest revision that let a topic be forgotten.
    pub forgotten: Revision,
    /// Live and deleted topics with the slots of their partitions, by topic id.
    pub topics: Vec<TopicRecord>,
    /// Every partition, by slot.
    pub partitions: Vec<PartitionRecord>,
    /// Live segments in flush order.
    pub segments: Vec<SegmentRecord>,
    /// Live archive files by id.
    pub archive_files: Vec<ArchiveFile>,
    /// Index parts by part number.
    pub parts: Vec<IndexPartRef>,
    /// Claimed archive jobs by id.
    pub jobs: Vec<Job>,
    /// Number of the next job.
    pub next_job: u64,
    /// Counter of the next producer id within `incarnation`.
    pub next_producer: u64,
    /// Named producers by name.
    pub names: Vec<NameRecord>,
    /// Producers of partitions by slot, then producer id.
    pub producers: Vec<ProducerRecord>,
    /// Idempotency keys, oldest first.
    pub keys: Vec<KeyRecord>,
}

impl Checkpoint {
    /// Whether the shard had ended with it: nothing can have been acknowledged after it in its incarnation.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.closed && !self.unsealed
    }

    /// Segments whose footers are needed beside the parts to restore the state: those newer than the oldest part that
    /// is needed, in flush order. At most [`MAX_FOOTER_SEGMENTS`] if this program wrote the checkpoint.
    #[must_use]
    pub fn footer_segments(&self) -> Vec<SegmentInfo> {
        let mut oldest = LogIndex::MAX;
        let mut parts = self.parts.iter().peekable();
        let mut last = None;
        for record in &self.partitions {
            let part = record.slot / PARTITIONS_PER_PART;
            if last == Some(part) {
                continue;
            }
            last = Some(part);
            while parts.peek().is_some_and(|known| known.part < part) {
                parts.next();
            }
            let written_at = parts.peek().filter(|known| known.part == part).map_or(0, |known| known.written_at);
            oldest = oldest.min(written_at);
        }
        self.segments.iter().filter(|segment| segment.flushed_at > oldest).map(|segment| segment.info).collect()
    }
}

/// A topic and where its partitions are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRecord {
    /// The topic as the shard goes by it.
    pub topic: Topic,
    /// The partitions that are in the shard, ascending.
    pub extents: Vec<Extent>,
    /// The newest change that concerns other shards than shard 0.
    pub revision: Revision,
    /// It is being forgotten.
    pub removed: bool,
    /// In shard 0, if other shards have partitions of the topic.
    pub placed: Option<PlacedRecord>,
}

/// Consecutive partitions of a topic whose slots are consecutive too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// The first partition.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// The slot of the first.
    pub slot: u32,
}

/// The scalars of a partition. At a checkpoint its high watermark is its flushed offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionRecord {
    /// Its slot.
    pub slot: u32,
    /// The smallest readable offset.
    pub log_start: Offset,
    /// The smallest offset that archive files are kept for; at most the log start.
    pub archive_start: Offset,
    /// First offset that is in no segment.
    pub flushed: Offset,
    /// No producer of it expires before this plus the expiry.
    pub producers_checked: LogTime,
}

/// A live segment and the flush that brought it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRecord {
    /// The segment.
    pub info: SegmentInfo,
    /// The flushed index of its flush.
    pub flushed_at: LogIndex,
    /// Its place among the segments of that flush.
    pub ordinal: u32,
}

/// A producer name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRecord {
    /// The name.
    pub name: String,
    /// Its producer id.
    pub id: ProducerId,
    /// The newest epoch handed out.
    pub epoch: u16,
    /// When it was last seen.
    pub last_used: LogTime,
}

/// An idempotent producer as a partition remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerRecord {
    /// The partition's slot.
    pub slot: u32,
    /// The producer.
    pub id: ProducerId,
    /// The newest epoch seen.
    pub epoch: u16,
    /// Records written in this epoch; the next sequence is this modulo 2^31.
    pub written: u64,
    /// Log time of its last batch.
    pub last_used: LogTime,
    /// Its last batches, oldest first, at most [`REMEMBERED_BATCHES`].
    pub batches: Vec<RememberedBatch>,
}

/// Batches that a partition remembers of a producer, as Kafka does.
pub const REMEMBERED_BATCHES: usize = 5;

/// A batch that was written and may come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedBatch {
    /// Sequence of its first record.
    pub sequence: u32,
    /// Records in it.
    pub count: u32,
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Hash of its records as sent.
    pub digest: u128,
    /// The entry that wrote it.
    pub log_index: LogIndex,
}

/// An idempotency key that a partition remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// The partition's slot.
    pub slot: u32,
    /// The key's hash.
    pub key: IdempotencyKey,
    /// Hash of the records as sent.
    pub digest: u128,
    /// Partitions among which the whole request was assigned; 0 if it named its partition.
    pub among: u32,
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Records written.
    pub count: u32,
    /// The entry that wrote them.
    pub log_index: LogIndex,
    /// Log time of that entry.
    pub time: LogTime,
}

/// What is stored of one partition in one object: a stretch of offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRange {
    /// First offset.
    pub start: Offset,
    /// First offset after it.
    pub end: Offset,
    /// In a segment: logical bytes. In an archive file: its share of the file.
    pub bytes: u64,
    /// The largest record timestamp.
    pub max_timestamp: i64,
    /// Append time of its first batch.
    pub min_append_time: LogTime,
    /// Append time of its last batch.
    pub max_append_time: LogTime,
    /// The object.
    pub place: Place,
}

impl StoredRange {
    /// A segment's range as the list of its partition holds it.
    #[must_use]
    pub fn of_segment(segment: ObjectId, range: &SegmentRange) -> Self {
        Self {
            start: range.start,
            end: range.end,
            bytes: range.len,
            max_timestamp: range.max_timestamp,
            min_append_time: range.min_append_time,
            max_append_time: range.max_append_time,
            place: Place::Segment { id: segment, position: range.position },
        }
    }

    /// The same for a range of an archive file.
    #[must_use]
    pub const fn of_archive(range: &ArchiveRange) -> Self {
        Self {
            start: range.start,
            end: range.end,
            bytes: range.bytes,
            max_timestamp: range.max_timestamp,
            min_append_time: range.min_append_time,
            max_append_time: range.max_append_time,
            place: Place::Archive { file: range.file },
        }
    }

    /// What [`StoredRange::of_segment`] was made of, of a range of `partition`; `None` for one in an archive file.
    #[must_use]
    pub fn in_segment(&self, partition: TopicPartition) -> Option<(ObjectId, SegmentRange)> {
        let Place::Segment { id, position } = self.place else { return None };
        let range = SegmentRange {
            partition,
            start: self.start,
            end: self.end,
            position,
            len: self.bytes,
            max_timestamp: self.max_timestamp,
            min_append_time: self.min_append_time,
            max_append_time: self.max_append_time,
        };
        Some((id, range))
    }
}

/// The object that holds a stored range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// A segment.
    Segment {
        /// Which.
        id: ObjectId,
        /// Where the range's first frame begins in the segment's logical bytes.
        position: u64,
    },
    /// An archive file.
    Archive {
        /// Which.
        file: ObjectId,
    },
}

impl Place {
    /// Which object, whatever its kind.
    #[must_use]
    pub const fn object(self) -> ObjectId {
        match self {
            Self::Segment { id, .. } | Self::Archive { file: id } => id,
        }
    }
}

/// The content of an index part: the stored ranges of its partitions as of `written_at`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexPart {
    /// Which partitions: slots `[part * 256, (part + 1) * 256)`.
    pub part: u32,
    /// The checkpoint index with which it was written.
    pub written_at: LogIndex,
    /// By slot; partitions without a stored range are left out.
    pub partitions: Vec<(u32, Vec<StoredRange>)>,
}

/// A live object of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamedObject {
    /// A segment.
    Segment(ObjectId),
    /// An archive file.
    Archive(ObjectId),
    /// An index part.
    IndexPart(ObjectId),
    /// A checkpoint.
    Checkpoint(ObjectId),
}

impl NamedObject {
    /// Its id, whatever its kind.
    #[must_use]
    pub const fn id(self) -> ObjectId {
        match self {
            Self::Segment(id) | Self::Archive(id) | Self::IndexPart(id) | Self::Checkpoint(id) => id,
        }
    }
}
