//! Jobs of one shard as commands: what the queue does for its workers.
//!
//! Only the replicated state decides who holds a segment: two claims made at the same moment are two commands, and the
//! second one is declined. A worker that dies loses its claim at the deadline; its files are orphans that nothing names.

use std::sync::Arc;
use std::time::Duration;

use super::job::{ClaimedJob, CompletedJob, JobRef};
use super::requests::Requests;
use super::survey;
use crate::config;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::model::{Answer, Control, JobId, LogTime};
use crate::raft::Handle;

/// The operator's switch and the record of how archiving goes: implemented by the layer above.
pub trait JobWatch: Send + Sync {
    /// While it is, no job is claimed; one under way goes on.
    fn is_paused(&self) -> bool;
    /// A job was completed or given back, or there was nothing to do.
    fn ran(&self, result: Result<()>);
}

/// Serves the jobs of a shard. A cheap handle.
#[derive(Clone)]
pub struct JobServer {
    leader: Handle,
    requests: Requests,
    settings: config::Archive,
    watch: Option<Arc<dyn JobWatch>>,
}

impl JobServer {
    /// Jobs of the shard that `leader` proposes to.
    #[must_use]
    pub fn new(leader: impl Into<Handle>, requests: Requests, settings: config::Archive) -> Self {
        Self { leader: leader.into(), requests, settings, watch: None }
    }

    /// The same, paused by `watch` and reporting to it.
    #[must_use]
    pub fn watched_by(self, watch: Arc<dyn JobWatch>) -> Self {
        Self { watch: Some(watch), ..self }
    }

    /// Claims the next job for `worker`, whose name is for people; `None` if nothing is due or archiving is paused.
    ///
    /// # Errors
    /// That the claim could not be proposed; a claim that was made all the same ends at its deadline.
    pub async fn claim(&self, worker: &str) -> Result<Option<ClaimedJob>> {
        if self.watch.as_ref().is_some_and(|watch| watch.is_paused()) {
            return Ok(None);
        }
        let view = self.leader.node().view();
        let requested = self.requests.open(&view);
        let (settings, log_time) = (self.settings.clone(), self.log_time());
        // The survey reads all ranges that are not archived yet: up to milliseconds.
        let run = crate::blocking::spawn(move || survey::next_run(&view, &settings, log_time, &requested)).await;
        let segments = run.map_err(|error| Error::internal("the archive plan broke off").with_source(error))?;
        if segments.is_empty() {
            self.note(Ok(()));
            return Ok(None);
        }
        let claim = Control::ClaimArchive { worker: worker.to_owned(), hold_ms: millis(self.settings.claim), segments };
        let job = match self.leader.control(claim).await {
            Ok((_, Answer::Job(job))) => job,
            Ok(_) => return Err(Error::internal("a claim was answered with something else")),
            // Another worker was faster, or the segments went meanwhile: there may be others next time.
            Err(error) if error.code() == "stale_job" => return Ok(None),
            Err(error) => return Err(error),
        };
        failpoint::hit_async("archive.after_claim").await?;
        self.describe(job).await
    }

    /// What the worker has to know; `None` if all segments of the job went meanwhile.
    async fn describe(&self, job: JobId) -> Result<Option<ClaimedJob>> {
        let view = self.leader.node().view();
        // Not this node's clock, which may be wrong: the objects of a job are named by it, and it is not older than the claim.
        let (shard, log_time) = (view.shard(), view.log_time());
        let described = crate::blocking::spawn(move || {
            let segments = view.job(job)?.segments.clone();
            survey::claimed(&view, &segments)
        });
        let described = described.await.map_err(|error| Error::internal("the survey broke off").with_source(error))?;
        let job = JobRef { shard, job };
        let Some((segments, topics)) = described else {
            self.leader.control(Control::AbandonArchive { job: job.job }).await.map(drop).or_else(unless_stale)?;
            return Ok(None);
        };
        Ok(Some(ClaimedJob {
            job,
            log_time,
            claim_ms: millis(self.settings.claim),
            deadline_ms: millis(self.settings.deadline),
            file_bytes: self.settings.file_size,
            topics,
            segments,
        }))
    }

    /// Moves the deadline of a job on.
    ///
    /// # Errors
    /// `stale_job` if the claim does not hold any more.
    pub async fn extend(&self, job: JobRef) -> Result<()> {
        self.leader
            .control(Control::ExtendArchive { job: job.job, hold_ms: millis(self.settings.claim) })
            .await
            .map(drop)
    }

    /// Puts the files of a job in the place of its segments, all or nothing.
    ///
    /// # Errors
    /// `stale_job` if the claim does not hold any more or the files do not cover what is live: the files are orphans then.
    pub async fn complete(&self, done: CompletedJob) -> Result<()> {
        failpoint::hit_async("archive.after_files").await?;
        let CompletedJob { job, files, ranges } = done;
        self.leader.control(Control::Archived { job: job.job, files, ranges }).await?;
        self.note(Ok(()));
        failpoint::hit_async("archive.after_archived").await
    }

    /// Gives a job back because of `reason`; one that is complete or gone is none to give back.
    ///
    /// # Errors
    /// That it could not be proposed.
    pub async fn abandon(&self, job: JobRef, reason: &str) -> Result<()> {
        tracing::info!(shard = job.shard.0, job = job.job.0, reason, "an archive job was given back");
        self.note(Err(Error::unavailable(reason)));
        self.leader.control(Control::AbandonArchive { job: job.job }).await.map(drop).or_else(unless_stale)
    }

    /// Gives back every job that `worker` holds: for a worker of that name that starts again, whose earlier claims would
    /// otherwise hold their segments until the deadline. Only for names that no two live workers share.
    ///
    /// # Errors
    /// As [`JobServer::abandon`].
    pub async fn release(&self, worker: &str) -> Result<()> {
        let held = self
            .leader
            .node()
            .with_state(|state| state.jobs().filter(|job| job.worker == worker).map(|job| job.id).collect::<Vec<_>>());
        for job in held {
            self.leader.control(Control::AbandonArchive { job }).await.map(drop).or_else(unless_stale)?;
        }
        Ok(())
    }

    /// Returns once something was asked to be archived, or after `at_most`.
    pub async fn wait(&self, at_most: Duration) {
        let _ = tokio::time::timeout(at_most, self.requests.changed()).await;
    }

    /// Log time, or that of the newest command where another node leads, whose clock may be ahead of this one's. A clock that is
    /// ahead of everybody's finds segments due that are not; nothing but how soon they are converted depends on it.
    fn log_time(&self) -> LogTime {
        self.leader.log_time().max(self.leader.node().with_state(|state| state.log_time()))
    }

    fn note(&self, result: Result<()>) {
        if let Some(watch) = &self.watch {
            watch.ran(result);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A job that is gone needs nothing more.
fn unless_stale(error: Error) -> Result<()> {
    if error.code() == "stale_job" { Ok(()) } else { Err(error) }
}
