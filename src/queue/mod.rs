//! The facade that everything above the engine uses: topics, produce, fetch, producers, flush, archive, status.
//!
//! A [`Queue`] is a cheap handle; clones share one engine. Every method may be cancelled by dropping its future: a
//! produce that was dropped may still be written. It knows no HTTP.

mod any;
mod cluster;
mod fetch;
mod flush;
pub mod garbage;
mod jobs;
mod observe;
mod open;
mod probe;
mod produce;
mod route;
mod status;
#[cfg(test)]
mod tests;
mod topics;

use std::sync::Arc;

use self::produce::Secured;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::fetch::Fetcher;
use crate::model::{BackgroundJob, NodeId, Offset};
use crate::produce::{Admission, Sticky};
use crate::raft::{DirLock, Handle, NodeIdentity};
use crate::shard::{Shards, Slots};
use crate::state::{self, State};
use crate::store::Bucket;

pub use self::flush::MAX_FILES_PAGE;
pub use self::jobs::ArchiveJobs;
pub use self::open::{Options, Surroundings};
pub use self::status::{BucketStatus, BudgetStatus, JobStatus, ShardStatus, Status};
pub use self::topics::MAX_TOPICS_PAGE;
pub use crate::archive::{ClaimedJob, CompletedJob, JobRef};
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
    /// `Some(None)` lets archive files go with the log.
    pub archive_retention_ms: Option<Option<u64>>,
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
    shards: Shards,
    /// Each shares caches and budgets with that of the first shard.
    fetchers: Slots<Fetcher>,
    admission: Admission,
    sticky: Arc<Sticky>,
    /// Topics whose creation is known to be in the bucket.
    secured: Secured,
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

    /// What to call this process: by its number if it is a node, else by a name of its own until it ends.
    #[must_use]
    pub fn name(&self) -> String {
        match self.0.identity.node {
            NodeId::GATEWAY => format!("gateway-{}", self.0.identity.directory),
            node => format!("node-{node}"),
        }
    }

    /// The process's clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Whether this process has recovered and has reached a leader of every shard once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.shards.is_ready()
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
        self.0.shards.fatal().await
    }

    /// Pauses or resumes a background job.
    pub fn set_paused(&self, job: BackgroundJob, paused: bool) {
        self.0.shards.set_paused(job, paused);
    }

    /// Whether a background job is paused.
    #[must_use]
    pub fn is_paused(&self, job: BackgroundJob) -> bool {
        self.0.shards.zero().is_paused(job)
    }

    /// Refuses appends from now on, flushes, and writes a clean checkpoint of every shard: a start from the bucket alone then loses
    /// nothing. Of several voters all are closed; one that only ends itself is drained ([`Queue::drain`]).
    ///
    /// # Errors
    /// The log's or the bucket's. If the bucket was away from the beginning, nothing was closed.
    pub async fn close(&self) -> Result<()> {
        self.0.shards.close().await
    }

    /// Stops all tasks and the log without closing the shard: a restart goes on from the log.
    pub async fn shutdown(&self) {
        self.0.shards.shutdown().await;
    }

    /// The first shard's: topics are changed and looked up there.
    fn leader(&self) -> &Handle {
        self.0.shards.zero().leader()
    }

    fn admission(&self) -> &Admission {
        &self.0.admission
    }

    fn sticky(&self) -> Arc<Sticky> {
        Arc::clone(&self.0.sticky)
    }

    /// Of the first shard.
    fn view(&self) -> State {
        self.leader().node().view()
    }

    /// Reads the first shard.
    fn read<R>(&self, read: impl FnOnce(&State) -> R) -> R {
        self.leader().node().with_state(read)
    }

    /// Of the first shard: what topics there are.
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
