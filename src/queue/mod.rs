//! The facade that everything above the engine uses: topics, produce, fetch, producers, flush, archive, status.
//!
//! A [`Queue`] is a cheap handle; clones share one engine. Every method may be cancelled by dropping its future: a
//! produce that was dropped may still be written. It knows no HTTP.

mod any;
mod cluster;
mod fetch;
mod flush;
mod jobs;
mod observe;
mod open;
mod produce;
mod status;
#[cfg(test)]
mod tests;
mod topics;

use std::sync::Arc;

use crate::archive::Requests;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::fetch::Fetcher;
use crate::flush::FlushHandle;
use crate::model::{BackgroundJob, NodeId, Offset};
use crate::produce::{Admission, Batcher, Sticky};
use crate::raft::{DirLock, Leader, NodeIdentity};
use crate::shard::Shard;
use crate::state::{self, State};
use crate::store::Bucket;

pub use self::flush::MAX_FILES_PAGE;
pub use self::open::Options;
pub use self::status::{BucketStatus, BudgetStatus, JobStatus, ShardStatus, Status};
pub use self::topics::MAX_TOPICS_PAGE;
pub use crate::archive::{ClaimedJob, CompletedJob, JobRef, JobServer};
pub use crate::fetch::{placed_batches, records};

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
pub struct Queue(Arc<Inner>);

struct Inner {
    config: Config,
    identity: NodeIdentity,
    clock: Clock,
    bucket: Bucket,
    shard: Shard,
    fetcher: Fetcher,
    admission: Admission,
    sticky: Arc<Sticky>,
    lock: DirLock,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("bucket", &self.0.bucket.url()).finish_non_exhaustive()
    }
}

impl Queue {
    /// The settings it was opened with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The bucket.
    #[must_use]
    pub fn bucket(&self) -> &Bucket {
        &self.0.bucket
    }

    /// This node's id, unique in the cluster.
    #[must_use]
    pub fn node_id(&self) -> u64 {
        self.0.identity.node.0
    }

    /// The process's clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Whether this process has recovered and has reached a leader of every shard once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.shard.is_ready()
    }

    /// Writes into the data directory's lock where this process listens, for whoever is refused by it.
    ///
    /// # Errors
    /// If the lock file cannot be written.
    pub fn announce(&self, address: &str) -> Result<()> {
        self.0.lock.set_address(address)
    }

    /// Returns why once this process must end: a panic in a task, a damaged log, a failed write, or another life of the
    /// cluster on the bucket. Restarting is the recovery.
    pub async fn fatal(&self) -> String {
        self.0.shard.fatal().await
    }

    /// Pauses or resumes a background job.
    pub fn set_paused(&self, job: BackgroundJob, paused: bool) {
        self.0.shard.set_paused(job, paused);
    }

    /// Whether a background job is paused.
    #[must_use]
    pub fn is_paused(&self, job: BackgroundJob) -> bool {
        self.0.shard.is_paused(job)
    }

    /// Refuses appends from now on, flushes, and writes a clean checkpoint: a start from the bucket alone then loses nothing. Of
    /// several voters all are closed; one that only ends itself is drained ([`Queue::drain`]).
    ///
    /// # Errors
    /// The log's or the bucket's. If the bucket was away from the beginning, nothing was closed.
    pub async fn close(&self) -> Result<()> {
        self.0.shard.close().await
    }

    /// Stops all tasks and the log without closing the shard: a restart goes on from the log.
    pub async fn shutdown(&self) {
        self.0.shard.shutdown().await;
    }

    /// Hash of the state and the log index up to which it was applied; reads all of the state.
    #[must_use]
    pub fn state_hash(&self) -> (u64, u128) {
        let view = self.view();
        (view.applied(), view.hash())
    }

    /// What operators want to know, with the hash of each shard's state: reads all of the state, so off the runtime.
    #[must_use]
    pub fn status_with_hash(&self) -> Status {
        let view = self.view();
        let mut status = self.status_of(&view);
        for shard in &mut status.shards {
            shard.state_hash = Some(format!("{:032x}", view.hash()));
        }
        status
    }

    /// What operators want to know.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status_of(&self.view())
    }

    fn status_of(&self, view: &State) -> Status {
        let inner = &self.0;
        let health = inner.bucket.health();
        let (wal_used, wal_limit) = inner.shard.gate().budget();
        let budget = |name, used_bytes, limit_bytes| BudgetStatus { name, used_bytes, limit_bytes };
        Status {
            version: env!("CARGO_PKG_VERSION"),
            cluster_id: inner.identity.cluster.clone(),
            incarnation: inner.identity.incarnation.0,
            node_id: inner.identity.node.0,
            closed: view.is_closed(),
            roles: inner.config.cluster.roles.iter().map(|role| role.name()).collect(),
            shards: vec![self.shard_status(view)],
            bucket: BucketStatus {
                url: inner.bucket.url().to_owned(),
                healthy: health.failing.is_none(),
                last_error: health.failing.map(|(_, error)| error),
            },
            budgets: vec![
                budget("wal.budget", wal_used, wal_limit),
                budget("tail.memory", self.leader().node().status().tail_bytes, inner.config.tail.memory),
                budget("produce.memory", inner.admission.used(), inner.admission.limit()),
            ],
            jobs: self.job_statuses(),
        }
    }

    fn job_statuses(&self) -> Vec<JobStatus> {
        let flush = self.flusher();
        let (last_success_ms, last_error) = flush.last();
        let flush = JobStatus { name: "flush", paused: flush.is_paused(), last_success_ms, last_error };
        let others = self.0.shard.jobs().map(|job| {
            let last = job.last();
            let (last_success_ms, last_error) = (last.success_ms, last.error);
            JobStatus { name: job.name(), paused: job.is_paused(), last_success_ms, last_error }
        });
        std::iter::once(flush).chain(others).collect()
    }

    fn shard_status(&self, view: &State) -> ShardStatus {
        let raft = self.leader().node().status();
        ShardStatus {
            shard: view.shard().0,
            leader: raft.leader.map(|NodeId(id)| id),
            term: raft.term,
            members: self.0.shard.known_members().members,
            applied: view.applied(),
            flushed: view.flushed_index(),
            partitions: view.partition_count() as u64,
            segments: view.segment_count() as u64,
            archive_files: view.file_count() as u64,
            tail_bytes: view.tail_bytes(),
            log_time_ms: view.log_time(),
            log_time_lag_ms: self.leader().log_time_lag_ms(),
            state_hash: None,
        }
    }

    fn leader(&self) -> &Leader {
        self.0.shard.leader()
    }

    fn batcher(&self) -> &Batcher {
        self.0.shard.batcher()
    }

    fn flusher(&self) -> &FlushHandle {
        self.0.shard.flush()
    }

    fn archive_requests(&self) -> &Requests {
        self.0.shard.archive_requests()
    }

    fn admission(&self) -> &Admission {
        &self.0.admission
    }

    fn sticky(&self) -> Arc<Sticky> {
        Arc::clone(&self.0.sticky)
    }

    fn view(&self) -> State {
        self.leader().node().view()
    }

    fn read<R>(&self, read: impl FnOnce(&State) -> R) -> R {
        self.leader().node().with_state(read)
    }

    async fn linearize(&self) -> Result<()> {
        self.leader().node().linearize().await
    }
}

/// The error for a partition that a topic does not have.
#[must_use]
pub fn partition_not_found(topic: &str, partition: u32, count: u32) -> Error {
    let message = format!("topic {topic} has no partition {partition}, it has {count}");
    Error::new(ErrorKind::NotFound, "partition_not_found", message)
}

impl ProducerPosition {
    fn new(partition: u32, position: state::ProducerPosition) -> Option<Self> {
        Some(Self {
            partition,
            epoch: position.epoch,
            last_sequence: position.last_sequence?,
            last_offset: position.last_offset?,
        })
    }
}
