//! Body of a topic's archive listing.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /v1/topics/{topic}/archive`: one consistent version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArchiveListing {
    /// In key order.
    pub files: Vec<ArchiveFile>,
    /// There are more: go on with `start_after` = the last key.
    pub has_more: bool,
    /// By partition.
    pub archived: Vec<ArchivedPartition>,
    /// Wall time until which the listed files live at least.
    pub valid_until_ms: u64,
}

/// One Parquet file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArchiveFile {
    /// Key in the bucket.
    pub key: String,
    /// A URL that a reader can open: `file://…`, `s3://…`.
    pub url: String,
    /// Rows of the file; those below the log start are no longer part of the topic.
    pub rows: u64,
    /// Bytes of the object.
    pub bytes: u64,
    /// What of the topic it holds.
    pub partitions: Vec<ArchivedRange>,
    /// Smallest record timestamp.
    pub min_timestamp: i64,
    /// Largest record timestamp.
    pub max_timestamp: i64,
}

/// A half-open range of offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArchivedRange {
    /// The partition.
    pub partition: u32,
    /// First offset.
    pub start: u64,
    /// First offset after it.
    pub end: u64,
}

/// How far a partition is archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArchivedPartition {
    /// The partition.
    pub partition: u32,
    /// The first offset that Parquet files are kept for; below the log start offset if they outlive the log.
    #[serde(default)]
    pub archive_start_offset: u64,
    /// From there on all below this is in Parquet files.
    pub archived_offset: u64,
}
