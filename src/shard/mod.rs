//! One Raft group wired: node, log time, batcher, flush and the background jobs of its leader; and all groups of a node together.
//!
//! `life` finds out in which life of the cluster a directory is; `host` opens the shards. A [`Shard`] is a cheap handle.
//! Nothing here knows HTTP.
//!
//! | module | what |
//! |---|---|
//! | `host`, `founding`, `common`, `slots` | the shards of a node, who begins them, and what they share |
//! | `open` | from settings to running tasks |
//! | `life`, `hello` | the directory's place in the cluster, and what nodes ask each other for it |
//! | `network`, `dispatch`, `message`, `profile` | the peers: calls to them, and answers |
//! | `duty`, `reopening`, `upkeep`, `versions`, `adopt` | what a leader does and what the others do |
//! | `catalog`, `topics` | how many shards there are, and what they have to know of topics |
//! | `members`, `roster`, `change`, `admin`, `asking`, `operate` | who is in the cluster, and changing it |
//! | `gateway` | a process that keeps no log |
//! | `balance` | leaderships go where they belong |
//! | `archive_requests` | what is to be archived before its time, told to all |
//! | `tend` | what every node sees to |
//! | `gate`, `background`, `tasks` | admission, jobs that can be paused, panics |

mod admin;
mod adopt;
mod archive_requests;
mod asking;
pub mod background;
mod balance;
mod catalog;
mod change;
mod common;
mod dispatch;
mod duty;
mod founding;
mod gate;
mod gateway;
mod hello;
mod host;
pub(crate) mod life;
mod members;
mod message;
mod network;
mod open;
mod operate;
mod profile;
mod reopening;
mod roster;
mod slots;
mod tasks;
mod tend;
mod topics;
mod upkeep;
mod versions;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use self::adopt::BucketOrLeader;
use self::roster::Roster;
use crate::archive::Requests;
use crate::error::{Error, Result};
use crate::flush::FlushHandle;
use crate::model::{BackgroundJob, Control, GroupStatus, Offset, ShardId, TopicId};
use crate::produce::Batcher;
use crate::raft::Handle;

pub use self::background::Job;
pub use self::gate::AppendGate;
pub(crate) use self::gateway::GatewayOptions;
pub(crate) use self::host::{Shards, ShardsOptions};
pub use self::network::Network;
pub(crate) use self::slots::Slots;
use self::tasks::Tasks;

/// One Raft group, wired; clones share it.
#[derive(Clone)]
pub struct Shard(Arc<Inner>);

struct Inner {
    leader: Handle,
    batcher: Batcher,
    flush: FlushHandle,
    archive_requests: Requests,
    jobs: Jobs,
    tasks: Tasks,
    members: Roster,
    /// A leader was reached once.
    ready: Arc<AtomicBool>,
    /// Of a sole voter: resolves once a shard that had been closed is open again.
    open: Option<watch::Receiver<bool>>,
    /// Of a node that keeps the log.
    checkpoints: Option<Arc<BucketOrLeader>>,
}

/// The background jobs besides the flush.
#[derive(Debug, Clone)]
struct Jobs {
    archive: Job,
    gc: Job,
    retention: Job,
}

impl Shard {
    /// Its number.
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.leader().shard()
    }

    /// Proposes and reads.
    #[must_use]
    pub fn leader(&self) -> &Handle {
        &self.0.leader
    }

    /// Takes appends.
    #[must_use]
    pub fn batcher(&self) -> &Batcher {
        &self.0.batcher
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

    /// The shard's members as this node knows them.
    #[must_use]
    pub fn known(&self) -> GroupStatus {
        self.0.members.known()
    }

    fn members(&self) -> &Roster {
        &self.0.members
    }

    /// Pauses what is paused in `other`.
    fn pause_as(&self, other: &Self) {
        for job in [BackgroundJob::Flush, BackgroundJob::Archive, BackgroundJob::Gc] {
            self.set_paused(job, other.is_paused(job));
        }
    }

    /// Flushes all that is applied now, which shows that the bucket answers: only then may the shard be closed, because one that
    /// is closed but not clean has to wait for the bucket when it is opened again.
    async fn flush_for_close(&self) -> Result<()> {
        self.0.flush.set_paused(false);
        let index = self.leader().node().with_state(|state| state.applied());
        self.0.flush.flushed(index).await
    }

    /// Closes the shard for appends and returns once a checkpoint of the closed state is in the bucket.
    ///
    /// Flush it first. Waits without end while the bucket is away: put a deadline around it.
    ///
    /// # Errors
    /// The log's, or that flushing has ended for ever.
    async fn close(&self) -> Result<()> {
        let applied = |shard: &Self| shard.leader().node().with_state(|state| (state.applied(), state.is_closed()));
        if !applied(self).1 {
            self.leader().control(Control::Close).await?;
        }
        let (index, closed) = applied(self);
        if !closed {
            return Err(Error::unavailable("the shard was opened again while it was being closed"));
        }
        // It takes nothing any more, whatever becomes of the checkpoint.
        self.0.flush.flushed(index).await.map_err(Error::in_part)
    }

    /// Ends the tasks.
    fn stop(&self) {
        self.0.tasks.abort();
    }

    /// Stops the node, whose tasks were ended; the log stays as it is.
    async fn shutdown(&self) {
        self.leader().node().shutdown().await;
        if let Some(checkpoints) = &self.0.checkpoints {
            checkpoints.set(None);
        }
    }
}
