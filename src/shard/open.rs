//! Opening a shard: node, leadership, tasks. Nothing is acknowledged by a sole voter before this is done; a node of several
//! opens without waiting for the others.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tracing::info;

use super::adopt::BucketOrLeader;
use super::dispatch::Serving;
use super::duty::{Duty, Needs, Office};
use super::gate::AppendGate;
use super::members::Members;
use super::network::{Calls, Network};
use super::reopening::Reopening;
use super::tasks::Tasks;
use super::{Inner, Job, Jobs, Shard, tend};
use crate::archive::Requests;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::flush::FlushHandle;
use crate::log_clock::LogClock;
use crate::model::{Answer, LogIndex, LogTime, ShardId};
use crate::produce::{Batcher, BatcherOptions, ProposeFailure, Proposer};
use crate::raft::{Alone, Handle, Leader, NodeIdentity, ProposeError, RaftNode, RaftOptions, Start, Transport};
use crate::store::Bucket;

/// A sole voter elects itself at once.
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
    /// The peers; those that greet are answered already.
    pub network: Network,
}

const SHARD: ShardId = ShardId(0);

impl Shard {
    /// Opens the shard and starts its tasks. A sole voter leads when this returns; a node of several may not know a leader
    /// yet, see [`Shard::is_ready`].
    ///
    /// # Errors
    /// `corrupt` for a damaged log, `unavailable` if a sole voter does not lead, or the log's.
    pub async fn open(options: ShardOptions) -> Result<Self> {
        let ShardOptions { config, clock, identity, start, bucket, network } = options;
        let joins = matches!(start, Start::Join);
        let calls = network.calls(&identity)?;
        let checkpoints = BucketOrLeader::new(bucket.clone());
        let node = start_node(&config, &identity, start, (&network, calls.clone(), Arc::clone(&checkpoints))).await?;
        let alone = node.is_alone();
        if alone {
            let ready = tokio::time::timeout(READY_DEADLINE, node.ready()).await;
            ready.map_err(|late| Error::unavailable("the shard has no leader").with_source(late))?;
        }
        let (found, flushed) = node.with_state(|state| (state.log_time(), state.flushed_index()));
        let log_clock = LogClock::new(clock.clone(), found, duration_ms(config.raft.clock_jump));
        let leader = Leader::new(node.clone(), Arc::new(log_clock));
        let address = network.address_of(identity.node);
        let members = Members::new(node.clone(), identity.clone(), address, calls);
        let dispatch = network.dispatch().clone();
        let duty = Duty(Arc::new(Needs {
            tasks: Tasks::new(),
            leader,
            members: members.clone(),
            identity,
            bucket,
            flush: FlushHandle::new(flushed),
            jobs: Jobs {
                archive: Job::new("archive", clock.clone()),
                gc: Job::new("gc", clock.clone()),
                retention: Job::new("retention", clock.clone()),
            },
            reopening: Reopening::default(),
            config,
            clock,
        }));
        let office = if alone { Some(take_office(&duty, &node).await?) } else { None };
        let open = office.as_ref().map(|office| office.open.clone());
        if !joins {
            // Durable before anything is acknowledged. One that joins says so before it hears from a leader.
            dispatch.opened().await?;
        }
        checkpoints.set(Some(node.clone()));
        let shard = Self::start(&duty, network, checkpoints, office);
        let (flush, archive_requests) = (shard.flush().clone(), shard.archive_requests().clone());
        dispatch.serve(Serving { node, flush, archive_requests, members });
        tend::start(&duty, joins);
        if let Some(mut open) = open {
            // Usually a few milliseconds; with the bucket away the reads are served meanwhile.
            let _ = tokio::time::timeout(REOPEN_DEADLINE, open.wait_for(|open| *open)).await;
        }
        Ok(shard)
    }

    fn start(duty: &Duty, network: Network, checkpoints: Arc<BucketOrLeader>, office: Option<Office>) -> Self {
        let Needs { tasks, leader, flush, jobs, config, .. } = &*duty.0;
        let ready = Arc::new(AtomicBool::new(office.is_some()));
        let gate = AppendGate::new(leader.node().clone(), config.wal_dir(), config.wal.clone());
        let (sampler, for_peers) = (gate.clone(), gate.clone());
        tasks.spawn("disk", async move {
            sampler.sample().await;
            None
        });
        leader.node().set_append_gate(Box::new(move || for_peers.check()));
        let batcher = start_batcher(tasks, leader, &gate, config);
        let (node, reached) = (leader.node().clone(), Arc::clone(&ready));
        if office.is_none() {
            tasks.spawn("ready", async move {
                node.ready().await;
                info!("a leader was reached");
                reached.store(true, Ordering::Release);
                None
            });
        }
        tasks.spawn("duty", duty.clone().run(office));
        let opening = duty.clone();
        tasks.spawn("reopening", async move {
            opening.0.reopening.fulfilled(opening.0.leader.node()).await;
            None
        });
        Self(Arc::new(Inner {
            leader: leader.clone().into(),
            batcher,
            gate,
            flush: flush.clone(),
            archive_requests: Requests::default(),
            jobs: jobs.clone(),
            tasks: tasks.clone(),
            members: duty.0.members.clone(),
            ready,
            network: Mutex::new(Some(network)),
            checkpoints,
        }))
    }
}

/// Begins the leadership of a sole voter, before anything is served.
async fn take_office(duty: &Duty, node: &RaftNode) -> Result<Office> {
    let mut leadership = node.leadership();
    let leading = tokio::time::timeout(READY_DEADLINE, leadership.wait_for(|now| now.is_leader)).await;
    let term = match leading {
        Ok(Ok(now)) => now.term,
        Ok(Err(_)) => return Err(Error::unavailable("the node has stopped")),
        Err(late) => return Err(Error::unavailable("the shard has no leader").with_source(late)),
    };
    duty.begin(term).await
}

async fn start_node(
    config: &Config,
    identity: &NodeIdentity,
    start: Start,
    (network, calls, checkpoints): (&Network, Option<Calls>, Arc<BucketOrLeader>),
) -> Result<RaftNode> {
    let transport: Arc<dyn Transport> = match calls {
        Some(calls) => Arc::new(calls),
        None => Arc::new(Alone),
    };
    RaftNode::start(RaftOptions {
        wal_dir: config.wal_dir(),
        directory: identity.directory,
        shard: SHARD,
        incarnation: identity.incarnation,
        node: identity.node,
        tail_memory: config.tail.memory,
        wal_keep: config.wal.keep.unwrap_or(0),
        wal_file_size: config.wal.file_size,
        wal_spare: config.wal.spare,
        election_timeout: config.raft.election_min,
        heartbeat: config.raft.heartbeat,
        advertise: network.address_of(identity.node),
        transport,
        checkpoints,
        start,
    })
    .await
}

fn start_batcher(tasks: &Tasks, leader: &Leader, gate: &AppendGate, config: &Config) -> Batcher {
    let (gate, leadership) = (gate.clone(), leader.node().leadership());
    // What is forwarded is the leader's to refuse.
    let node = leader.node().clone();
    let check = move || if node.is_alone() || leadership.borrow().is_leader { gate.check() } else { Ok(()) };
    let mut options = BatcherOptions::new(Arc::new(check));
    options.slots = config.produce.in_flight as usize;
    options.entry_bytes = config.produce.entry;
    let (batcher, task) = Batcher::start(Arc::new(LeaderProposer(leader.clone().into())), options);
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
