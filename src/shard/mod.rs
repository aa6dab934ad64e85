//! One Raft group wired: node, log time, peers, batcher, flush and the background jobs of its leader.
//!
//! `life` finds out in which life of the cluster a directory is; [`Shard::open`] starts everything. A [`Shard`] is a cheap
//! handle. Nothing here knows topics by name or HTTP.
//!
//! | module | what |
//! |---|---|
//! | `open` | from settings to running tasks |
//! | `life`, `hello` | the directory's place in the cluster, and what nodes ask each other for it |
//! | `network`, `dispatch` | the peers: calls to them, and answers |
//! | `duty`, `reopening`, `upkeep`, `versions`, `adopt` | what a leader does and what the others do |
//! | `members`, `admin` | who is in the cluster, and changing it |
//! | `archive_requests` | what is to be archived before its time, told to all |
//! | `tend` | what every node sees to |
//! | `gate`, `background`, `tasks` | admission, jobs that can be paused, panics |

mod admin;
mod adopt;
mod archive_requests;
pub mod background;
mod dispatch;
mod duty;
mod gate;
mod hello;
pub(crate) mod life;
mod members;
mod network;
mod open;
mod reopening;
mod tasks;
mod tend;
mod upkeep;
mod versions;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use self::admin::Request;
use self::adopt::BucketOrLeader;
use self::members::Members;
use crate::archive::Requests;
use crate::error::{Error, Result};
use crate::flush::FlushHandle;
use crate::model::{BackgroundJob, ClusterStatus, Control, NodeId, Offset, TopicId};
use crate::produce::Batcher;
use crate::raft::Leader;

pub use self::background::Job;
pub use self::gate::AppendGate;
pub use self::network::Network;
pub use self::open::ShardOptions;
use self::tasks::Tasks;

/// One Raft group, wired; clones share it.
#[derive(Clone)]
pub struct Shard(Arc<Inner>);

struct Inner {
    leader: Leader,
    batcher: Batcher,
    gate: AppendGate,
    flush: FlushHandle,
    archive_requests: Requests,
    jobs: Jobs,
    tasks: Tasks,
    members: Members,
    /// A leader was reached once.
    ready: Arc<AtomicBool>,
    /// Until it is shut down.
    network: Mutex<Option<Network>>,
    checkpoints: Arc<BucketOrLeader>,
}

/// The background jobs besides the flush.
#[derive(Debug, Clone)]
struct Jobs {
    archive: Job,
    gc: Job,
    retention: Job,
}

impl Shard {
    /// Proposes and reads.
    #[must_use]
    pub fn leader(&self) -> &Leader {
        &self.0.leader
    }

    /// Takes appends.
    #[must_use]
    pub fn batcher(&self) -> &Batcher {
        &self.0.batcher
    }

    /// Whether appends are taken, and the budget that decides.
    #[must_use]
    pub fn gate(&self) -> &AppendGate {
        &self.0.gate
    }

    /// Asks for flushes.
    #[must_use]
    pub fn flush(&self) -> &FlushHandle {
        &self.0.flush
    }

    /// What was asked to be archived before its time.
    #[must_use]
    pub fn archive_requests(&self) -> &Requests {
        &self.0.archive_requests
    }

    /// Asks that partitions of `topic` be archived up to the offsets given, before their time: here and at every other member,
    /// since any of them may be the one that converts.
    pub fn request_archive(&self, topic: TopicId, targets: Vec<(u32, Offset)>) {
        self.0.archive_requests.request(topic, targets.iter().copied());
        let members = self.0.members.clone();
        tokio::spawn(async move { archive_requests::tell(&members, topic, targets).await });
    }

    /// The archive job's switch and record; whoever converts notes here how it went.
    #[must_use]
    pub fn archive_job(&self) -> &Job {
        &self.0.jobs.archive
    }

    /// The jobs besides the flush.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        let Jobs { archive, gc, retention } = &self.0.jobs;
        [archive, gc, retention].into_iter()
    }

    /// Pauses or resumes a background job.
    pub fn set_paused(&self, job: BackgroundJob, paused: bool) {
        match job {
            BackgroundJob::Flush => self.0.flush.set_paused(paused),
            BackgroundJob::Archive => self.0.jobs.archive.set_paused(paused),
            BackgroundJob::Gc => self.0.jobs.gc.set_paused(paused),
        }
    }

    /// Whether a background job is paused.
    #[must_use]
    pub fn is_paused(&self, job: BackgroundJob) -> bool {
        match job {
            BackgroundJob::Flush => self.0.flush.is_paused(),
            BackgroundJob::Archive => self.0.jobs.archive.is_paused(),
            BackgroundJob::Gc => self.0.jobs.gc.is_paused(),
        }
    }

    /// Whether a leader was reached once since the shard was opened.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Acquire)
    }

    /// Whether this node is the only voter: then nobody else has the log.
    #[must_use]
    pub fn is_sole_voter(&self) -> bool {
        self.leader().node().is_alone()
    }

    /// The members as this node knows them.
    #[must_use]
    pub fn known_members(&self) -> ClusterStatus {
        self.0.members.known()
    }

    /// The members as the leader knows them, or as this node does if the leader does not answer.
    ///
    /// # Errors
    /// None as yet.
    pub async fn cluster(&self) -> Result<ClusterStatus> {
        self.0.members.run(Request::Status).await
    }

    /// See [`crate::queue::Queue::add_node`].
    ///
    /// # Errors
    /// As there.
    pub async fn add_node(&self, node: NodeId, address: String) -> Result<ClusterStatus> {
        self.0.members.run(Request::Add { node, address }).await
    }

    /// See [`crate::queue::Queue::remove_node`].
    ///
    /// # Errors
    /// As there.
    pub async fn remove_node(&self, node: NodeId) -> Result<ClusterStatus> {
        self.0.members.run(Request::Remove { node }).await
    }

    /// See [`crate::queue::Queue::replace_node`].
    ///
    /// # Errors
    /// As there.
    pub async fn replace_node(&self, old: NodeId, new: NodeId, address: String) -> Result<ClusterStatus> {
        self.0.members.run(Request::Replace { old, new, address }).await
    }

    /// See [`crate::queue::Queue::transfer_leader`].
    ///
    /// # Errors
    /// As there.
    pub async fn transfer_leader(&self, to: Option<NodeId>) -> Result<ClusterStatus> {
        self.0.members.run(Request::Transfer { to }).await
    }

    /// Hands the leadership over if this node has it and another voter could take it.
    ///
    /// # Errors
    /// `timeout` if none took it.
    pub async fn drain(&self) -> Result<ClusterStatus> {
        match self.0.members.run_here(Request::Transfer { to: None }).await {
            // Nothing to hand over.
            Err(error) if error.code() == "not_leader" => Ok(self.known_members()),
            drained => drained,
        }
    }

    /// Closes the shard for appends and returns once a checkpoint of the closed state is in the bucket.
    ///
    /// The first flush shows that the bucket answers: only then is the shard closed, because a shard that is closed but not
    /// clean has to wait for the bucket when it is opened again. Waits without end while the bucket is away: put a deadline
    /// around it. Only for a sole voter: the others of several go on.
    ///
    /// # Errors
    /// The log's, or that flushing has ended for ever.
    pub async fn close(&self) -> Result<()> {
        let applied = |shard: &Self| shard.leader().node().with_state(|state| (state.applied(), state.is_closed()));
        let (index, closed) = applied(self);
        self.0.flush.set_paused(false);
        self.0.flush.flushed(index).await?;
        if !closed {
            self.leader().control(Control::Close).await?;
        }
        let (index, closed) = applied(self);
        if !closed {
            return Err(Error::unavailable("the shard was opened again while it was being closed"));
        }
        self.0.flush.flushed(index).await
    }

    /// Returns why once the process has to end.
    pub async fn fatal(&self) -> String {
        tokio::select! {
            reason = self.0.tasks.fatal() => reason,
            reason = self.leader().node().fatal() => reason,
        }
    }

    /// Stops the tasks and the node; the log stays as it is.
    pub async fn shutdown(&self) {
        self.0.tasks.abort();
        let network = self.0.network.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(network) = network {
            network.shutdown().await;
        }
        self.leader().node().shutdown().await;
        self.0.checkpoints.set(None);
    }
}
