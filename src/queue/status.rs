//! What operators want to know of this node; serialised as it is under `/v1/status`.

use serde::Serialize;

use crate::model::MemberStatus;

/// This node.
#[derive(Debug, Clone, Serialize)]
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
#[derive(Debug, Clone, Serialize)]
pub struct ShardStatus {
    /// The shard.
    pub shard: u32,
    /// Its leader.
    pub leader: Option<u64>,
    /// Its term.
    pub term: u64,
    /// Its voters and learners. How far each is and whether it answers only the leader says.
    pub members: Vec<MemberStatus>,
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
    /// Bytes of tail, as budgets count them.
    pub tail_bytes: u64,
    /// Log time, milliseconds since 1970.
    pub log_time_ms: u64,
    /// Log time is this far behind wall time (negative: ahead).
    pub log_time_lag_ms: i64,
    /// Hash of the state at `applied`, in hexadecimal, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_hash: Option<String>,
}

/// The bucket as this node sees it.
#[derive(Debug, Clone, Serialize)]
pub struct BucketStatus {
    /// Without credentials.
    pub url: String,
    /// Whether the last call succeeded.
    pub healthy: bool,
    /// What the last failed call said, if it failed after the last success.
    pub last_error: Option<String>,
}

/// A budget.
#[derive(Debug, Clone, Serialize)]
pub struct BudgetStatus {
    /// Its setting.
    pub name: &'static str,
    /// Bytes used.
    pub used_bytes: u64,
    /// Bytes there are.
    pub limit_bytes: u64,
}

/// A background job.
#[derive(Debug, Clone, Serialize)]
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
