//! Bodies of the topic routes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::raw::present;

/// How values are checked on produce and what the archive's `value` column is; fixed at creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ValueFormat {
    /// Anything; binary in the archive.
    #[default]
    Bytes,
    /// UTF-8; a string in the archive.
    Text,
    /// JSON text; a string in the archive.
    Json,
}

/// How the gateway compresses batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// Zstandard.
    #[default]
    Zstd,
}

/// All settings of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TopicSettings {
    /// 1 to 10,000; only grows.
    pub partitions: u32,
    /// Fixed at creation.
    pub value_format: ValueFormat,
    /// Records whose append time is older are trimmed; null keeps them for ever.
    pub retention_ms: Option<u64>,
    /// Stored bytes that a partition keeps; null is unbounded.
    pub retention_bytes: Option<u64>,
    /// Parquet files keep records that leave the log until their append time is older; null: they go with the log.
    pub archive_retention_ms: Option<u64>,
    /// How long flushed data waits before it is archived.
    pub archive_after_ms: u64,
    /// Of batches that the gateway encodes.
    pub compression: Compression,
    /// How far a record's timestamp may be ahead of the gateway's clock.
    pub timestamp_max_ahead_ms: u64,
}

/// Settings that a request names: an absent member is not named, null names the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingsRequest {
    /// 1 to 10,000; only grows.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 10000)]
    pub partitions: Option<Option<u32>>,
    /// Fixed at creation.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ValueFormat>)]
    pub value_format: Option<Option<ValueFormat>>,
    /// Null keeps records for ever.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub retention_ms: Option<Option<u64>>,
    /// Null is unbounded.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub retention_bytes: Option<Option<u64>>,
    /// Null: Parquet files go with the log.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub archive_retention_ms: Option<Option<u64>>,
    /// Milliseconds.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub archive_after_ms: Option<Option<u64>>,
    /// Of batches that the gateway encodes.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Compression>)]
    pub compression: Option<Option<Compression>>,
    /// Milliseconds.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub timestamp_max_ahead_ms: Option<Option<u64>>,
    /// Only with `PATCH`: agrees that more partitions move keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rekey: Option<bool>,
}

/// One partition of a described topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartitionDescription {
    /// From 0.
    pub partition: u32,
    /// The smallest readable offset.
    pub log_start_offset: u64,
    /// Below it all is in the bucket.
    pub flushed_offset: u64,
    /// Below it all is in Parquet files.
    pub archived_offset: u64,
    /// The first offset that is not readable yet.
    pub high_watermark: u64,
    /// The high watermark until there are transactions.
    pub last_stable_offset: u64,
    /// The node that leads it; null during an election.
    pub leader: Option<u64>,
}

/// A topic with its partitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TopicDescription {
    /// Never reused, also not by a topic of the same name.
    #[schema(value_type = String, format = "uuid")]
    pub topic_id: Uuid,
    /// The name.
    pub name: String,
    /// Current settings.
    pub settings: TopicSettings,
    /// When it was created, milliseconds since 1970.
    #[serde(default)]
    pub created_at: u64,
    /// By partition.
    pub partitions: Vec<PartitionDescription>,
}

/// A topic of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TopicSummary {
    /// Never reused.
    #[schema(value_type = String, format = "uuid")]
    pub topic_id: Uuid,
    /// The name.
    pub name: String,
    /// Current settings.
    pub settings: TopicSettings,
    /// When it was created, milliseconds since 1970.
    #[serde(default)]
    pub created_at: u64,
}

/// `GET /v1/topics`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TopicList {
    /// By name.
    pub topics: Vec<TopicSummary>,
    /// There are more: go on with `start_after` = the last name.
    pub has_more: bool,
}

/// `DELETE /v1/topics/{topic}`: the name is free, the data is kept for the grace period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TopicDeleted {
    /// The id of what was deleted.
    #[schema(value_type = String, format = "uuid")]
    pub topic_id: Uuid,
    /// Its name.
    pub name: String,
}

/// `POST /v1/topics/{topic}:flush`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FlushReport {
    /// The topic.
    #[schema(value_type = String, format = "uuid")]
    pub topic_id: Uuid,
    /// All that was asked for is in the bucket (and archived, if that was asked for).
    pub done: bool,
    /// By partition.
    pub partitions: Vec<FlushedPartition>,
}

/// How far the flush of one partition got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FlushedPartition {
    /// From 0.
    pub partition: u32,
    /// The high watermark when the request arrived.
    pub target: u64,
    /// Below it all is in the bucket.
    pub flushed_offset: u64,
    /// Below it all is in Parquet files.
    pub archived_offset: u64,
}
