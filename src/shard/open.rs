//! Opening a shard: node, leadership, tasks. Nothing is acknowledged by a sole voter before this is done; a node of several
//! opens without waiting for the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tracing::info;

use super::adopt::BucketOrLeader;
use super::common::Common;
use super::dispatch::Serving;
use super::duty::{Duty, Needs, Office};
use super::members::Members;
use super::reopening::Reopening;
use super::roster::Roster;
use super::tasks::Tasks;
use super::{Inner, Job, Jobs, Shard, tend};
use crate::archive::Requests;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::flush::FlushHandle;
use crate::log_clock::LogClock;
use crate::model::catalog::CATALOG_SHARD;
use crate::model::{Answer, LogIndex, LogTime, ShardId};
use crate::produce::{Batcher, BatcherOptions, ProposeFailure, Proposer};
use crate::raft::{Alone, Handle, Leader, ProposeError, RaftNode, RaftOptions, Start, Transport};

/// A sole voter elects itself at once.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// How long an opening waits for the checkpoint that a reopening needs; later it goes on without, and appends are declined.
const REOPEN_DEADLINE: Duration = Duration::from_secs(5);

/// A node of a shard that nothing uses yet.
pub(super) struct Started {
    node: RaftNode,
    checkpoints: Arc<BucketOrLeader>,
}

impl Shard {
    /// Opens the shard of `started`, puts it among the others and starts its tasks; `joins` if this node was never taken in. A sole
    /// voter leads when this returns; a node of several may not know a leader yet, see [`Shard::is_ready`].
    ///
    /// # Errors
    /// `unavailable` if a sole voter does not lead, or the log's.
    pub(super) async fn open(common: &Arc<Common>, started: Started, joins: bool) -> Result<Self> {
        let node = started.node.clone();
        let opened = Self::open_node(common, started, joins).await;
        if opened.is_err() {
            // It may be tried again, and the log is opened once.
            node.shutdown().await;
        }
        opened
    }

    async fn open_node(common: &Arc<Common>, started: Started, joins: bool) -> Result<Self> {
        let Started { node, checkpoints } = started;
        let alone = node.is_alone();
        if alone {
            let ready = tokio::time::timeout(READY_DEADLINE, node.ready()).await;
            ready.map_err(|late| Error::unavailable("the shard has no leader").with_source(late))?;
        }
        let (found, flushed) = node.with_state(|state| (state.log_time(), state.flushed_index()));
        let log_clock = LogClock::new(common.clock.clone(), found, duration_ms(common.config.raft.clock_jump));
        let leader = Leader::new(node.clone(), Arc::new(log_clock));
        let duty = duty(common, leader, flushed);
        let office = if alone { Some(take_office(&duty, &node).await?) } else { None };
        if !joins && node.shard() == CATALOG_SHARD {
            // Durable before anything is acknowledged. One that joins says so before it hears from a leader.
            common.dispatch.opened().await?;
        }
        checkpoints.set(Some(node.clone()));
        let shard = Self::start(&duty, checkpoints, office);
        let (flush, archive_requests) = (shard.flush().clone(), shard.archive_requests().clone());
        let members = duty.0.members.clone();
        if let Some(zero) = common.shards.get(CATALOG_SHARD) {
            shard.pause_as(zero);
        }
        common.shards.set(node.shard(), shard.clone());
        common.share_out();
        common.dispatch.serve(Serving { node, flush, archive_requests, members });
        tend::start(&duty, joins);
        Ok(shard)
    }

    fn start(duty: &Duty, checkpoints: Arc<BucketOrLeader>, office: Option<Office>) -> Self {
        let Needs { tasks, leader, flush, jobs, common, .. } = &*duty.0;
        let ready = Arc::new(AtomicBool::new(office.is_some()));
        let open = office.as_ref().map(|office| office.open.clone());
        let (gate, for_peers) = (common.gate.clone(), common.gate.clone());
        gate.add(leader.node());
        leader.node().set_append_gate(Box::new(move || for_peers.check()));
        let (node, leadership) = (leader.node().clone(), leader.node().leadership());
        // What is forwarded is the leader's to refuse.
        let check = move || if node.is_alone() || leadership.borrow().is_leader { gate.check() } else { Ok(()) };
        let batcher = start_batcher(tasks, &leader.clone().into(), Arc::new(check), &common.config);
        let (node, reached) = (leader.node().clone(), Arc::clone(&ready));
        if office.is_none() {
            tasks.spawn("ready", async move {
                node.ready().await;
                info!(shard = %node.shard(), "a leader was reached");
                reached.store(true, Ordering::Release);
                None
            });
        }
        let node = leader.node().clone();
        tasks.spawn("raft", async move { Some(node.fatal().await) });
        tasks.spawn("duty", duty.clone().run(office));
        let opening = duty.clone();
        tasks.spawn("reopening", async move {
            opening.0.reopening.fulfilled(opening.0.leader.node()).await;
            None
        });
        Self(Arc::new(Inner {
            leader: leader.clone().into(),
            batcher,
            flush: flush.clone(),
            archive_requests: Requests::default(),
            jobs: jobs.clone(),
            tasks: tasks.clone(),
            members: Roster::Member(duty.0.members.clone()),
            ready,
            open,
            checkpoints: Some(checkpoints),
        }))
    }

    /// Returns once a shard that was closed when it was opened takes appends again, or after some seconds. Usually these are a few
    /// milliseconds; with the bucket away the reads are served meanwhile.
    pub(super) async fn reopened(&self) {
        if let Some(mut open) = self.0.open.clone() {
            let _ = tokio::time::timeout(REOPEN_DEADLINE, open.wait_for(|open| *open)).await;
        }
    }
}

fn duty(common: &Arc<Common>, leader: Leader, flushed: LogIndex) -> Duty {
    let node = leader.node().clone();
    let shard = node.shard();
    let calls = common.calls_about(shard);
    let shards = Arc::downgrade(&common.shards);
    let job = |name| Job::new(name, shard, common.clock.clone());
    Duty(Arc::new(Needs {
        tasks: common.tasks.others(),
        leader,
        members: Members::new(node, common.identity.clone(), common.address.clone(), calls, shards),
        flush: FlushHandle::new(shard, flushed),
        jobs: Jobs { archive: job("archive"), gc: job("gc"), retention: job("retention") },
        reopening: Reopening::default(),
        common: Arc::clone(common),
    }))
}

/// Begins the leadership of a sole voter, before anything is served.
async fn take_office(duty: &Duty, node: &RaftNode) -> Result<Office> {
    let mut leadership = node.leadership();
    let leading = leadership.wait_for(|now| now.is_leader);
    let leading = tokio::time::timeout(READY_DEADLINE, async { leading.await.map(|now| now.term) }).await;
    match leading {
        Ok(Ok(term)) => duty.begin(term).await,
        Ok(Err(_)) => Err(Error::unavailable("the node has stopped")),
        Err(late) => Err(Error::unavailable("the shard has no leader").with_source(late)),
    }
}

/// Starts the node of `shard` with `start`.
pub(super) async fn start_node(common: &Common, shard: ShardId, start: Start) -> Result<Started> {
    let checkpoints = BucketOrLeader::new(shard, common.bucket.clone());
    let transport: Arc<dyn Transport> = match common.calls_about(shard) {
        Some(calls) => Arc::new(calls),
        None => Arc::new(Alone),
    };
    let (config, identity) = (&common.config, &common.identity);
    let starting = RaftNode::start(RaftOptions {
        wal_dir: config.wal_dir(),
        directory: identity.directory,
        shard,
        incarnation: identity.incarnation,
        node: identity.node,
        tail_memory: common.share(config.tail.memory),
        wal_keep: config.wal.keep.unwrap_or(0),
        wal_file_size: config.wal.file_size,
        wal_spare: common.share(config.wal.spare),
        election_timeout: config.raft.election_min,
        heartbeat: config.raft.heartbeat,
        advertise: common.address.clone(),
        transport,
        checkpoints: Arc::<BucketOrLeader>::clone(&checkpoints),
        start,
    });
    Ok(Started { node: starting.await?, checkpoints })
}

/// Starts the batcher of a shard; `check` says whether appends are taken.
pub(super) fn start_batcher(
    tasks: &Tasks,
    leader: &Handle,
    check: Arc<dyn Fn() -> Result<()> + Send + Sync>,
    config: &Config,
) -> Batcher {
    let mut options = BatcherOptions::new(check);
    options.slots = config.produce.in_flight as usize;
    options.entry_bytes = config.produce.entry;
    let (batcher, task) = Batcher::start(Arc::new(LeaderProposer(leader.clone())), options);
    tasks.spawn("batcher", async move { task.await.err().map(|error| format!("the batcher stopped: {error}")) });
    batcher
}

/// Proposes the batcher's entries, here or at the leader.
struct LeaderProposer(Handle);

impl Proposer for LeaderProposer {
    fn log_time(&self) -> LogTime {
        self.0.log_time()
    }

    async fn propose(&self, entry: Bytes) -> Result<(LogIndex, Answer), ProposeFailure> {
        self.0.propose(entry).await.map_err(|error| match error {
            ProposeError::NotWritten { .. } | ProposeError::TooLarge { .. } => ProposeFailure::NotWritten,
            ProposeError::Refused(error) => ProposeFailure::Refused(error),
            ProposeError::Unknown => ProposeFailure::Unknown,
            ProposeError::Fatal(_) => ProposeFailure::Fatal,
        })
    }
}

fn duration_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
