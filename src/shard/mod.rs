//! One Raft group wired: node, log time, batcher, flush and the background jobs of its leader.
//!
//! [`life`] finds out in which life of the cluster a directory is; [`Shard::open`] starts everything. A [`Shard`] is a cheap
//! handle. Nothing here knows topics by name or HTTP.

pub mod background;
mod gate;
pub mod life;
mod open;
mod tasks;
mod upkeep;

use std::sync::Arc;

use crate::archive::Requests;
use crate::error::{Error, Result};
use crate::flush::FlushHandle;
use crate::model::{BackgroundJob, Control};
use crate::produce::Batcher;
use crate::raft::Leader;

pub use self::background::Job;
pub use self::gate::AppendGate;
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

    /// Closes the shard for appends and returns once a checkpoint of the closed state is in the bucket.
    ///
    /// The first flush shows that the bucket answers: only then is the shard closed, because a shard that is closed but not
    /// clean has to wait for the bucket when it is opened again. Waits without end while the bucket is away: put a deadline
    /// around it.
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
        self.leader().node().shutdown().await;
    }
}
