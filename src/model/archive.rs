//! Archive files (Parquet) and the jobs that make them.

use serde::{Deserialize, Serialize};

use super::id::{LogTime, ObjectId, Offset, TopicId, TopicPartition};

/// Number of an archive job; also its fencing epoch: a job that was claimed again has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct JobId(pub u64);

/// One Parquet file: one topic, one append day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveFile {
    /// Its name; the key also has namespace, topic name, topic id and date.
    pub id: ObjectId,
    /// The topic.
    pub topic: TopicId,
    /// Append day, days since 1970-01-01.
    pub day: u32,
    /// Rows.
    pub rows: u64,
    /// Bytes of the object.
    pub bytes: u64,
    /// Where the Parquet metadata begins; it runs to the end of the object.
    pub footer_start: u64,
    /// CRC-32C of the bytes from `footer_start` to the end.
    pub footer_crc32c: u32,
    /// Smallest record timestamp.
    pub min_timestamp: i64,
    /// Largest record timestamp.
    pub max_timestamp: i64,
}

/// The offsets of one partition that one archive file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveRange {
    /// The partition.
    pub partition: TopicPartition,
    /// First offset.
    pub start: Offset,
    /// First offset after it.
    pub end: Offset,
    /// The file that holds it.
    pub file: ObjectId,
    /// Share of the file's bytes, for retention by size.
    pub bytes: u64,
    /// The largest record timestamp.
    pub max_timestamp: i64,
    /// Append time of its first batch.
    pub min_append_time: LogTime,
    /// Append time of its last batch.
    pub max_append_time: LogTime,
}

/// A claimed archive job: a run of consecutive live segments of one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Assigned by `apply`.
    pub id: JobId,
    /// Who claimed it; for people.
    pub worker: String,
    /// Log time after which the segments may be claimed again.
    pub deadline: LogTime,
    /// The segments, oldest first.
    pub segments: Vec<ObjectId>,
}
