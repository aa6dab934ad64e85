//! What operators want to know of this node; serialised as it is under `/v1/status`.

use serde::Serialize;

use super::Queue;
use crate::model::{LogIndex, MemberStatus, NodeId, ShardId};
use crate::shard::Shard;
use crate::state::State;

/// Pending topics that are counted.
const MAX_PENDING: usize = 1_000;

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
    /// `good`, `degraded`, `leaderless`, or `unknown` on a node that does not lead it.
    pub health: &'static str,
    /// Its leader.
    pub leader: Option<u64>,
    /// Its term.
    pub term: u64,
    /// Its voters and learners. How far each is and whether it answers only the leader says.
    pub members: Vec<MemberStatus>,
    /// Last applied log index.
    pub applied: u64,
    /// Last log index that is known to be committed.
    pub committed: u64,
    /// Log index below which all is in the bucket.
    pub flushed: u64,
    /// Partitions it holds.
    pub partitions: u64,
    /// Live segments.
    pub segments: u64,
    /// Live archive files.
    pub archive_files: u64,
    /// Changes of topics that not every shard knows yet, at most 1,000; only the first shard has any.
    pub pending_topics: u64,
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

impl Queue {
    /// Of each shard the log index up to which its state was applied, and the hash of that; reads all of the state.
    #[must_use]
    pub fn state_hashes(&self) -> Vec<(ShardId, LogIndex, u128)> {
        self.state_hashes_where(|_, _| true)
    }

    /// As [`Queue::state_hashes`], of those alone of whose shard and applied index `wanted` says so.
    #[must_use]
    pub fn state_hashes_where(&self, wanted: impl Fn(ShardId, LogIndex) -> bool) -> Vec<(ShardId, LogIndex, u128)> {
        let views = self.0.shards.iter().map(|shard| shard.leader().node().view());
        let asked = views.filter(|view| wanted(view.shard(), view.applied()));
        asked.map(|view| (view.shard(), view.applied(), view.hash())).collect()
    }

    /// The life of the cluster on its bucket that this node takes part in.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.0.identity.incarnation.0
    }

    /// What operators want to know, with the hash of each shard's state: reads all of the state, so off the runtime.
    #[must_use]
    pub fn status_with_hash(&self) -> Status {
        self.status_by(|view| Some(format!("{:032x}", view.hash())))
    }

    /// What operators want to know.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status_by(|_| None)
    }

    fn status_by(&self, hash: impl Fn(&State) -> Option<String>) -> Status {
        let inner = &self.0;
        let health = inner.bucket.health();
        let (wal_used, wal_limit) = inner.shards.gate().budget();
        let budget = |name, used_bytes, limit_bytes| BudgetStatus { name, used_bytes, limit_bytes };
        let views: Vec<(&Shard, State)> =
            inner.shards.iter().map(|shard| (shard, shard.leader().node().view())).collect();
        let (fetch_used, fetch_limit) = self.fetch_memory();
        let tail = views.iter().map(|(shard, _)| shard.leader().node().status().tail_bytes).sum();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            cluster_id: inner.identity.cluster.clone(),
            incarnation: inner.identity.incarnation.0,
            node_id: inner.identity.node.0,
            closed: views.iter().any(|(_, view)| view.is_closed()),
            roles: inner.config.cluster.roles.iter().map(|role| role.name()).collect(),
            shards: views.iter().map(|(shard, view)| shard_status(shard, view, hash(view))).collect(),
            bucket: BucketStatus {
                url: inner.bucket.url().to_owned(),
                healthy: health.failing.is_none(),
                last_error: health.failing.map(|(_, error)| error),
            },
            budgets: (inner.config.cluster.keeps_log().then(|| budget("wal.budget", wal_used, wal_limit)).into_iter())
                .chain([
                    budget("tail.memory", tail, inner.config.tail.memory),
                    budget("produce.memory", inner.admission.used(), inner.admission.limit()),
                    budget("fetch.memory", fetch_used, fetch_limit),
                ])
                .collect(),
            jobs: self.job_statuses(),
        }
    }

    /// Each job of all shards as one: an operator pauses it in all of them.
    fn job_statuses(&self) -> Vec<JobStatus> {
        let mut all: Vec<JobStatus> = Vec::new();
        for shard in self.0.shards.iter() {
            let leads = shard.leader().node().leadership().borrow().is_leader;
            for job in jobs_of(shard) {
                match all.iter_mut().find(|known| known.name == job.name) {
                    Some(known) => known.join(job, leads),
                    None => all.push(job),
                }
            }
        }
        all
    }
}

impl JobStatus {
    /// The same job of another shard, which this node may lead: the oldest success of those that it does itself counts.
    fn join(&mut self, other: Self, leads: bool) {
        self.last_success_ms = match (self.last_success_ms, other.last_success_ms) {
            (Some(known), Some(other)) if leads => Some(known.min(other)),
            (known, other) => known.max(other),
        };
        self.last_error = self.last_error.take().or(other.last_error);
    }
}

fn jobs_of(shard: &Shard) -> Vec<JobStatus> {
    let flush = shard.flush();
    let (last_success_ms, last_error) = flush.last();
    let flush = JobStatus { name: "flush", paused: flush.is_paused(), last_success_ms, last_error };
    let others = shard.jobs().map(|job| {
        let last = job.last();
        let (last_success_ms, last_error) = (last.success_ms, last.error);
        JobStatus { name: job.name(), paused: job.is_paused(), last_success_ms, last_error }
    });
    std::iter::once(flush).chain(others).collect()
}

fn shard_status(shard: &Shard, view: &State, state_hash: Option<String>) -> ShardStatus {
    let leader = shard.leader();
    let known = shard.known();
    ShardStatus {
        shard: view.shard().0,
        health: known.health().name(),
        leader: known.leader.map(|NodeId(id)| id),
        term: known.term,
        members: known.members,
        applied: view.applied(),
        committed: known.committed,
        flushed: view.flushed_index(),
        partitions: view.partition_count() as u64,
        segments: view.segment_count() as u64,
        archive_files: view.file_count() as u64,
        pending_topics: view.unsynced(MAX_PENDING).len() as u64,
        tail_bytes: view.tail_bytes(),
        log_time_ms: view.log_time(),
        log_time_lag_ms: leader.log_time_lag_ms(),
        state_hash,
    }
}
