//! What queue and worker tell each other about a job. Serialisable, so that a worker may be another process.

use serde::{Deserialize, Serialize};

use crate::model::{ArchiveFile, ArchiveRange, JobId, LogTime, SegmentInfo, SegmentRange, ShardId, Topic};

/// Names a job: its number is unique within its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JobRef {
    /// The shard.
    pub shard: ShardId,
    /// The job; also its fencing epoch.
    pub job: JobId,
}

/// A job as its worker gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimedJob {
    /// Which.
    pub job: JobRef,
    /// Log time of the claim: the ids of the files take their time from it.
    pub log_time: LogTime,
    /// The claim holds this long, milliseconds; extend it in good time.
    pub claim_ms: u64,
    /// A job that is not complete after this is given up, milliseconds: garbage collection counts on it.
    pub deadline_ms: u64,
    /// Bytes at which a file is ended.
    pub file_bytes: u64,
    /// The topics that have a range in the job.
    pub topics: Vec<Topic>,
    /// The segments, oldest first.
    pub segments: Vec<ClaimedSegment>,
}

/// A segment of a job, with what is live in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimedSegment {
    /// The segment.
    pub info: SegmentInfo,
    /// Its live ranges, by partition. Whole ones: a log start in the middle of one does not shorten it.
    pub ranges: Vec<SegmentRange>,
}

/// What a worker made of a job: together the files hold exactly the job's ranges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletedJob {
    /// Which.
    pub job: JobRef,
    /// The files, all of them in the bucket.
    pub files: Vec<ArchiveFile>,
    /// What is where, by partition and offset.
    pub ranges: Vec<ArchiveRange>,
}
