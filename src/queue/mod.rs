//! The facade that everything above the engine uses: topics, produce, fetch, producers, flush, archive, status.
//!
//! A [`Queue`] is a cheap handle; clones share one engine. Every method may be cancelled by dropping its future: a
//! produce that was dropped may still be written. It knows no HTTP.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::model::{
    ArchiveListing, BackgroundJob, FetchPage, FetchRequest, FlushProgress, NamedSettings, Offset, ProduceRequest,
    Produced, ProducerId, TopicDescription, TopicId, TopicSettings,
};

/// A change of a topic's settings: `None` leaves a member as it is, `Some` sets it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettingsPatch {
    /// Grows only, and only with `rekey`.
    pub partitions: Option<u32>,
    /// `Some(None)` keeps records for ever.
    pub retention_ms: Option<Option<u64>>,
    /// `Some(None)` is unbounded.
    pub retention_bytes: Option<Option<u64>>,
    /// A JSON null sets the default.
    pub archive_after_ms: Option<u64>,
    /// A JSON null sets the default.
    pub compression: Option<crate::model::Compression>,
    /// A JSON null sets the default.
    pub timestamp_max_ahead_ms: Option<u64>,
    /// Confirms that growing the partitions moves keys.
    pub rekey: bool,
}

/// What a partition remembers of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerPosition {
    /// The partition.
    pub partition: u32,
    /// The epoch of the last batch.
    pub epoch: u16,
    /// The sequence of the last record written.
    pub last_sequence: u32,
    /// The offset of the last record written.
    pub last_offset: Offset,
}

/// The engine, as everything above it sees it.
#[derive(Clone)]
pub struct Queue {}

#[allow(unused_variables, clippy::unused_async, clippy::todo, clippy::missing_errors_doc, reason = "skeleton")]
impl Queue {
    /// Creates `name`, or finds that it exists and agrees with the members of `settings` that `named` marks; the flag
    /// says whether it was created.
    pub async fn create_topic(
        &self,
        name: &str,
        settings: TopicSettings,
        named: NamedSettings,
    ) -> Result<(TopicDescription, bool)> {
        todo!()
    }
    /// Describes a topic; with `topic_id`, only if it still is that one (409 `topic_replaced`).
    pub async fn describe_topic(&self, name: &str, topic_id: Option<TopicId>) -> Result<TopicDescription> {
        todo!()
    }
    /// Topics whose names start with `prefix`, after `start_after`, by name, at most `limit`; and whether there are more.
    pub async fn list_topics(
        &self,
        prefix: &str,
        start_after: &str,
        limit: usize,
    ) -> Result<(Vec<TopicDescription>, bool)> {
        todo!()
    }
    /// Changes settings.
    pub async fn alter_topic(
        &self,
        name: &str,
        topic_id: Option<TopicId>,
        patch: SettingsPatch,
    ) -> Result<TopicDescription> {
        todo!()
    }
    /// Deletes a topic: its name is free at once, its data stays for the grace period. Answers its id.
    pub async fn delete_topic(&self, name: &str, topic_id: Option<TopicId>) -> Result<TopicId> {
        todo!()
    }
    /// Brings back the newest deleted topic of that name.
    pub async fn undelete_topic(&self, name: &str) -> Result<TopicDescription> {
        todo!()
    }
    /// Flushes (and archives) all that is below the high watermarks now, waiting at most `wait`.
    pub async fn flush_topic(
        &self,
        name: &str,
        topic_id: Option<TopicId>,
        archive: bool,
        wait: Duration,
    ) -> Result<FlushProgress> {
        todo!()
    }
    /// Lists archive files after key `start_after` whose newest record is at least `min_timestamp`.
    pub async fn archive_files(
        &self,
        name: &str,
        topic_id: Option<TopicId>,
        start_after: &str,
        limit: usize,
        min_timestamp: Option<i64>,
    ) -> Result<ArchiveListing> {
        todo!()
    }
    /// Appends records.
    pub async fn produce(&self, request: ProduceRequest) -> Result<Produced> {
        todo!()
    }
    /// Registers a producer; a known name raises its epoch and fences its older holder.
    pub async fn register_producer(&self, name: Option<String>) -> Result<(ProducerId, u16)> {
        todo!()
    }
    /// The id and the current epoch of a named producer, which this does not raise; `producer_not_found` otherwise. A
    /// resumed `tidelog produce` goes on under the epoch that it had, because its sequences count records of that epoch.
    pub async fn find_producer(&self, name: &str) -> Result<(ProducerId, u16)> {
        todo!()
    }
    /// What the partitions of `topic` remember of a producer.
    pub async fn producer_positions(
        &self,
        id: ProducerId,
        topic: &str,
        topic_id: Option<TopicId>,
    ) -> Result<Vec<ProducerPosition>> {
        todo!()
    }
    /// Reads a page of one partition.
    pub async fn fetch(&self, request: FetchRequest) -> Result<FetchPage> {
        todo!()
    }
    /// Returns once one of `positions` (partition, offset) of the topic has a record at or after its offset, the topic has
    /// more than `known_partitions` partitions, is gone, or `wait` is over.
    pub async fn wait_for_data(
        &self,
        topic: TopicId,
        positions: &[(u32, Offset)],
        known_partitions: u32,
        wait: Duration,
    ) {
        todo!()
    }
    /// Pauses or resumes a background job.
    pub fn set_paused(&self, job: BackgroundJob, paused: bool) {
        todo!()
    }
    /// What operators want to know; serialised as it is under `/v1/status`.
    pub async fn status(&self) -> Status {
        todo!()
    }
    /// Whether this process has recovered and has reached a leader of every shard once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        todo!()
    }
    /// Refuses appends from now on, flushes, and writes a clean checkpoint: a start from the bucket alone loses nothing.
    pub async fn close(&self) -> Result<()> {
        todo!()
    }
}

/// What operators want to know of this node.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Status {
    /// Of this program.
    pub version: &'static str,
    /// Cluster id.
    pub cluster_id: String,
    /// Life of the cluster on its bucket.
    pub incarnation: u64,
    /// This node.
    pub node_id: u64,
    /// Closed for appends.
    pub closed: bool,
    /// What this process does.
    pub roles: Vec<&'static str>,
    /// One for each Raft group.
    pub shards: Vec<ShardStatus>,
    /// The bucket's URL and health.
    pub bucket: BucketStatus,
    /// Budgets and what is used of them, bytes.
    pub budgets: Vec<BudgetStatus>,
    /// Background jobs.
    pub jobs: Vec<JobStatus>,
}

/// A Raft group as this node sees it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ShardStatus {
    /// The shard.
    pub shard: u32,
    /// Its leader.
    pub leader: Option<u64>,
    /// Its term.
    pub term: u64,
    /// Last applied log index.
    pub applied: u64,
    /// Log index below which all is in the bucket.
    pub flushed: u64,
    /// Partitions it holds.
    pub partitions: u64,
    /// Live segments.
    pub segments: u64,
    /// Live archive files.
    pub archive_files: u64,
    /// Log time, milliseconds since 1970.
    pub log_time_ms: u64,
    /// Hash of the state at `applied`, hex; only when it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_hash: Option<String>,
}

/// The bucket as this node sees it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct BucketStatus {
    /// Without credentials.
    pub url: String,
    /// Whether the last call succeeded.
    pub healthy: bool,
    /// What the last failed call said, if it failed after the last success.
    pub last_error: Option<String>,
}

/// A budget.
#[derive(Debug, Clone, serde::Serialize)]
pub struct BudgetStatus {
    /// Its setting.
    pub name: &'static str,
    /// Bytes used.
    pub used_bytes: u64,
    /// Bytes there are.
    pub limit_bytes: u64,
}

/// A background job.
#[derive(Debug, Clone, serde::Serialize)]
pub struct JobStatus {
    /// `flush`, `archive`, `gc` or `retention`.
    pub name: &'static str,
    /// Paused by an operator.
    pub paused: bool,
    /// Wall time of the last success, milliseconds since 1970.
    pub last_success_ms: Option<u64>,
    /// What the last failure said, if it came after the last success.
    pub last_error: Option<String>,
}

/// The error for a partition that a topic does not have.
#[must_use]
pub fn partition_not_found(topic: &str, partition: u32, count: u32) -> Error {
    Error::new(
        crate::error::ErrorKind::NotFound,
        "partition_not_found",
        format!("topic {topic} has no partition {partition}, it has {count}"),
    )
}
