//! Segments: immutable objects that hold batches of many partitions of one shard.

use serde::{Deserialize, Serialize};

use super::id::{LogTime, ObjectId, Offset, TopicPartition};

/// A segment as a whole: what the table of live segments keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentInfo {
    /// Its name.
    pub id: ObjectId,
    /// Bytes of the object.
    pub bytes: u64,
    /// Where the footer begins; the footer runs to the end of the object.
    pub footer_start: u64,
    /// Append times of its first and last batch in log order.
    pub min_append_time: LogTime,
    /// See `min_append_time`.
    pub max_append_time: LogTime,
}

/// The batches of one partition in one segment: contiguous in offsets and in the segment's logical bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRange {
    /// The partition.
    pub partition: TopicPartition,
    /// First offset.
    pub start: Offset,
    /// First offset after it.
    pub end: Offset,
    /// Where its first frame begins in the segment's logical bytes (block checksums not counted).
    pub position: u64,
    /// Logical bytes, frame headers included.
    pub len: u64,
    /// The largest record timestamp.
    pub max_timestamp: i64,
    /// Append time of its first batch.
    pub min_append_time: LogTime,
    /// Append time of its last batch.
    pub max_append_time: LogTime,
}
