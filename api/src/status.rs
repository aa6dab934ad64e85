//! Bodies of health, status and admin routes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /healthz`, `GET /readyz`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`, `starting` or `draining`.
    pub status: String,
}

/// `GET /v1/status`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Of the binary.
    pub version: String,
    /// Identity of the cluster.
    pub cluster_id: String,
    /// Number of the cluster's life on its bucket.
    pub incarnation: u64,
    /// This node.
    pub node_id: u64,
    /// No appends are taken.
    pub closed: bool,
    /// What this process does.
    pub roles: Vec<String>,
    /// By number.
    pub shards: Vec<ShardStatus>,
    /// The bucket.
    pub bucket: BucketStatus,
    /// Budgets and how much of each is used.
    pub budgets: Vec<Budget>,
    /// Background jobs.
    pub jobs: Vec<JobStatus>,
}

/// One Raft group as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShardStatus {
    /// Its number.
    pub shard: u32,
    /// `good`, `degraded` or `leaderless` as its leader knows; `unknown` on a node that does not lead it.
    #[serde(default)]
    pub health: String,
    /// The node that leads it; null during an election.
    pub leader: Option<u64>,
    /// Its Raft term.
    pub term: u64,
    /// Index of the last entry applied.
    pub applied: u64,
    /// Index of the last entry that is known to be committed.
    #[serde(default)]
    pub committed: u64,
    /// At and below it all is in the bucket.
    pub flushed: u64,
    /// Partitions it owns.
    pub partitions: u64,
    /// Live segments.
    pub segments: u64,
    /// Live archive files.
    pub archive_files: u64,
    /// Changes of topics that not every shard knows yet, at most 1,000; only shard 0 has any.
    #[serde(default)]
    pub pending_topics: u64,
    /// Milliseconds since 1970 as the shard counts them.
    pub log_time_ms: u64,
    /// Hash of the state at `applied`, in hexadecimal, if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_hash: Option<String>,
}

/// The bucket as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BucketStatus {
    /// Where it is, without credentials.
    pub url: String,
    /// The last call succeeded.
    pub healthy: bool,
    /// What the last failed call said, if it failed after the last success.
    #[serde(default)]
    pub last_error: Option<String>,
}

/// A bounded resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Budget {
    /// The setting, such as `wal.budget`.
    pub name: String,
    /// Bytes in use.
    pub used_bytes: u64,
    /// Bytes there may be.
    pub limit_bytes: u64,
}

/// A background job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobStatus {
    /// `flush`, `archive`, `gc`, `retention`.
    pub name: String,
    /// Stopped by an operator.
    pub paused: bool,
    /// Wall time of the last success; null if there was none since the start.
    pub last_success_ms: Option<u64>,
    /// What the last failure said, if it came after the last success.
    #[serde(default)]
    pub last_error: Option<String>,
}

/// `POST /v1/admin/jobs/{job}:pause` and `:resume`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobPaused {
    /// `flush`, `archive`, `gc`.
    pub job: String,
    /// Whether it is paused now.
    pub paused: bool,
}

/// `PUT /v1/admin/log-level`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogLevel {
    /// As in `RUST_LOG`: `info`, `tidelog::flush=debug,info`.
    pub filter: String,
}

/// `POST /v1/admin/stop`: closed for appends and flushed; the process ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stopped {
    /// A checkpoint of the closed state is in the bucket.
    pub clean: bool,
}
