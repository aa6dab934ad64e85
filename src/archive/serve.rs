//! Jobs of one shard as commands: what the queue does for its workers.
//!
//! Only the replicated state decides who holds a segment: two claims made at the same moment are two commands, and the
//! second one is declined. A worker that dies loses its claim at the deadline; its files are orphans that nothing names.

use std::time::Duration;

use super::job::{ClaimedJob, CompletedJob, JobRef};
use super::requests::Requests;
use super::survey;
use crate::config;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::model::{Answer, Control, JobId, LogTime};
use crate::raft::Leader;

/// Serves the jobs of a shard. A cheap handle.
#[derive(Clone)]
pub struct JobServer {
    leader: Leader,
    requests: Requests,
    settings: config::Archive,
}

impl JobServer {
    /// Jobs of the shard that `leader` proposes to.
    #[must_use]
    pub fn new(leader: Leader, requests: Requests, settings: config::Archive) -> Self {
        Self { leader, requests, settings }
    }

    /// Claims the next job for `worker`, whose name is for people; `None` if nothing is due.
    ///
    /// # Errors
    /// That the claim could not be proposed; a claim that was made all the same ends at its deadline.
    pub async fn claim(&self, worker: &str) -> Result<Option<ClaimedJob>> {
        let view = self.leader.node().view();
        let requested = self.requests.open(&view);
        let (settings, log_time) = (self.settings.clone(), self.leader.log_time());
        // The survey reads all ranges that are not archived yet: up to milliseconds.
        let run = tokio::task::spawn_blocking(move || survey::next_run(&view, &settings, log_time, &requested)).await;
        let segments = run.map_err(|error| Error::internal("the archive plan broke off").with_source(error))?;
        if segments.is_empty() {
            return Ok(None);
        }
        let claim = Control::ClaimArchive { worker: worker.to_owned(), deadline: self.deadline(), segments };
        let job = match self.leader.control(claim).await {
            Ok((_, Answer::Job(job))) => job,
            Ok(_) => return Err(Error::internal("a claim was answered with something else")),
            // Another worker was faster, or the segments went meanwhile: there may be others next time.
            Err(error) if error.code() == "stale_job" => return Ok(None),
            Err(error) => return Err(error),
        };
        failpoint::hit_async("archive.after_claim").await?;
        self.describe(job).await.map(Some)
    }

    async fn describe(&self, job: JobId) -> Result<ClaimedJob> {
        let view = self.leader.node().view();
        let shard = view.shard();
        let described = tokio::task::spawn_blocking(move || {
            let segments = view.job(job)?.segments.clone();
            survey::claimed(&view, &segments)
        });
        let described = described.await.map_err(|error| Error::internal("the survey broke off").with_source(error))?;
        let job = JobRef { shard, job };
        let Some((segments, topics)) = described else {
            // Trimmed or removed since: nothing is left to do for some of the segments.
            self.abandon(job, "segments went away").await?;
            return Err(Error::unavailable("segments of the archive job went away"));
        };
        Ok(ClaimedJob {
            job,
            log_time: self.leader.log_time(),
            claim_ms: millis(self.settings.claim),
            deadline_ms: millis(self.settings.deadline),
            file_bytes: self.settings.file_size,
            topics,
            segments,
        })
    }

    /// Moves the deadline of a job on.
    ///
    /// # Errors
    /// `stale_job` if the claim does not hold any more.
    pub async fn extend(&self, job: JobRef) -> Result<()> {
        self.leader.control(Control::ExtendArchive { job: job.job, deadline: self.deadline() }).await.map(drop)
    }

    /// Puts the files of a job in the place of its segments, all or nothing.
    ///
    /// # Errors
    /// `stale_job` if the claim does not hold any more or the files do not cover what is live: the files are orphans then.
    pub async fn complete(&self, done: CompletedJob) -> Result<()> {
        failpoint::hit_async("archive.after_files").await?;
        let CompletedJob { job, files, ranges } = done;
        self.leader.control(Control::Archived { job: job.job, files, ranges }).await?;
        failpoint::hit_async("archive.after_archived").await
    }

    /// Gives a job back because of `reason`; one that is gone is none to give back.
    ///
    /// # Errors
    /// That it could not be proposed.
    pub async fn abandon(&self, job: JobRef, reason: &str) -> Result<()> {
        tracing::info!(shard = job.shard.0, job = job.job.0, reason, "an archive job was given back");
        match self.leader.control(Control::AbandonArchive { job: job.job }).await {
            Err(error) if error.code() != "stale_job" => Err(error),
            _ => Ok(()),
        }
    }

    /// Returns once something was asked to be archived, or after `at_most`.
    pub async fn wait(&self, at_most: Duration) {
        let _ = tokio::time::timeout(at_most, self.requests.changed()).await;
    }

    fn deadline(&self) -> LogTime {
        self.leader.log_time().saturating_add(millis(self.settings.claim))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
