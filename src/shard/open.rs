//! Opening a shard: node, reopening, limits, then its tasks. Nothing is acknowledged before this is done.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tracing::info;

use super::gate::AppendGate;
use super::tasks::Tasks;
use super::{Inner, Job, Jobs, Shard, upkeep};
use crate::archive::Requests;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::flush::{FlushHandle, FlushTask, Flusher, FlusherOptions, Triggers};
use crate::log_clock::LogClock;
use crate::model::{Answer, Control, Limits, LogIndex, LogTime, ShardId};
use crate::produce::{Batcher, BatcherOptions, ProposeFailure, Proposer};
use crate::raft::{Leader, NodeIdentity, ProposeError, RaftNode, RaftOptions, Start};
use crate::store::Bucket;

/// A sole voter elects itself at once; a larger group needs an election or two.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// How long an opening waits for the checkpoint that a reopening needs; later it goes on without, and appends are declined.
const REOPEN_DEADLINE: Duration = Duration::from_secs(5);

/// With what a shard is opened.
#[derive(Debug)]
pub struct ShardOptions {
    /// All settings.
    pub config: Config,
    /// The process's clock.
    pub clock: Clock,
    /// This directory's place in the cluster.
    pub identity: NodeIdentity,
    /// With what the log begins.
    pub start: Start,
    /// The bucket.
    pub bucket: Bucket,
}

const SHARD: ShardId = ShardId(0);

impl Shard {
    /// Opens the shard and starts its tasks.
    ///
    /// # Errors
    /// `corrupt` for a damaged log, `unavailable` without a leader, or the log's.
    pub async fn open(options: ShardOptions) -> Result<Self> {
        let ShardOptions { config, clock, identity, start, bucket } = options;
        let wal_dir = config.wal_dir();
        let node = RaftNode::start(raft_options(&config, &identity, start)).await?;
        let ready = tokio::time::timeout(READY_DEADLINE, node.ready()).await;
        ready.map_err(|late| Error::unavailable("the shard has no leader").with_source(late))?;
        let found = node.with_state(|state| state.log_time());
        let log_clock = LogClock::new(clock.clone(), found, duration_ms(config.raft.clock_jump));
        let leader = Leader::new(node.clone(), Arc::new(log_clock));
        let unsealed = begin(&leader, &identity).await?;
        set_limits(&leader, &config).await?;

        let tasks = Tasks::new();
        let flush = start_flush(&tasks, &leader, &bucket, &config, &clock);
        let gate = AppendGate::new(node, wal_dir, config.wal.clone());
        let sampler = gate.clone();
        tasks.spawn("disk", async move {
            sampler.sample().await;
            None
        });
        let batcher = start_batcher(&tasks, &leader, &gate, &config);
        let jobs = Jobs {
            archive: Job::new("archive", clock.clone()),
            gc: Job::new("gc", clock.clone()),
            retention: Job::new("retention", clock),
        };
        let archive_requests = Requests::default();
        upkeep::start(&tasks, &jobs, &leader, &bucket, &config);
        let shard = Self(Arc::new(Inner { leader, batcher, gate, flush, archive_requests, jobs, tasks }));
        if let Some(unsealed) = unsealed {
            let reopening = reopen_when_flushed(shard.leader().clone(), shard.flush().clone(), unsealed);
            let (opened, open) = tokio::sync::oneshot::channel();
            shard.0.tasks.spawn("reopen", async move {
                let failed = reopening.await.err().map(|error| format!("the shard cannot be opened again: {error}"));
                let _ = opened.send(());
                failed
            });
            // Usually a few milliseconds; with the bucket away the reads are served meanwhile.
            let _ = tokio::time::timeout(REOPEN_DEADLINE, open).await;
        }
        Ok(shard)
    }
}

fn raft_options(config: &Config, identity: &NodeIdentity, start: Start) -> RaftOptions {
    RaftOptions {
        wal_dir: config.wal_dir(),
        directory: identity.directory,
        shard: SHARD,
        incarnation: identity.incarnation,
        node: identity.node,
        tail_memory: config.tail.memory,
        wal_keep: config.wal.keep,
        wal_file_size: config.wal.file_size,
        wal_spare: config.wal.spare,
        election_timeout: config.raft.election_min,
        heartbeat: config.raft.heartbeat,
        start,
    }
}

/// Begins the incarnation of this directory, or unseals a shard that was closed in it; the log index of the latter.
async fn begin(leader: &Leader, identity: &NodeIdentity) -> Result<Option<LogIndex>> {
    let (incarnation, closed) = leader.node().with_state(|state| (state.incarnation(), state.is_closed()));
    if incarnation == identity.incarnation && !closed {
        return Ok(None);
    }
    if incarnation != identity.incarnation {
        leader.control(Control::Reopen { incarnation: identity.incarnation }).await?;
        info!(incarnation = identity.incarnation.0, "the shard begins another life");
        return Ok(None);
    }
    let (index, _) = leader.control(Control::Unseal).await?;
    Ok(Some(index))
}

/// Opens a shard that was closed cleanly, once a checkpoint that is not clean is the newest in the bucket; until then appends
/// are declined as `closed` (docs/decisions/0004-reopening-after-a-clean-close.md).
async fn reopen_when_flushed(leader: Leader, flush: FlushHandle, unsealed: LogIndex) -> Result<()> {
    flush.flushed(unsealed).await?;
    let incarnation = leader.node().with_state(|state| state.incarnation());
    leader.control(Control::Reopen { incarnation }).await?;
    info!("the shard is open again");
    Ok(())
}

async fn set_limits(leader: &Leader, config: &Config) -> Result<()> {
    let limits = Limits::from(config);
    if leader.node().with_state(|state| *state.limits() == limits) {
        return Ok(());
    }
    leader.control(Control::SetLimits(limits)).await.map(|_| ())
}

fn start_flush(tasks: &Tasks, leader: &Leader, bucket: &Bucket, config: &Config, clock: &Clock) -> FlushHandle {
    let options = FlusherOptions {
        shard: SHARD,
        segment_bytes: config.flush.bytes,
        uploads: config.flush.uploads as usize,
        deadline: config.flush.deadline,
    };
    let triggers = Triggers {
        bytes: config.flush.bytes,
        interval: config.flush.interval,
        metadata_interval: config.flush.metadata_interval,
        checkpoint_gap: config.flush.checkpoint_gap,
    };
    let handle = FlushHandle::new(leader.node().with_state(|state| state.flushed_index()));
    let flusher = Flusher::new(leader.clone(), bucket.clone(), options);
    let task = FlushTask::new(flusher, handle.clone(), triggers, clock.clone());
    tasks.spawn("flush", async move { task.run().await.err().map(|replaced| replaced.to_string()) });
    handle
}

fn start_batcher(tasks: &Tasks, leader: &Leader, gate: &AppendGate, config: &Config) -> Batcher {
    let gate = gate.clone();
    let mut options = BatcherOptions::new(Arc::new(move || gate.check()));
    options.slots = config.produce.in_flight as usize;
    options.entry_bytes = config.produce.entry;
    let (batcher, task) = Batcher::start(Arc::new(LeaderProposer(leader.clone())), options);
    tasks.spawn("batcher", async move { task.await.err().map(|error| format!("the batcher stopped: {error}")) });
    batcher
}

/// Proposes the batcher's entries.
struct LeaderProposer(Leader);

impl Proposer for LeaderProposer {
    fn log_time(&self) -> LogTime {
        self.0.log_time()
    }

    async fn propose(&self, entry: Bytes) -> Result<(LogIndex, Answer), ProposeFailure> {
        self.0.node().propose(entry).await.map_err(|error| match error {
            ProposeError::NotWritten { .. } | ProposeError::TooLarge { .. } => ProposeFailure::NotWritten,
            ProposeError::Unknown => ProposeFailure::Unknown,
            ProposeError::Fatal(_) => ProposeFailure::Fatal,
        })
    }
}

fn duration_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
