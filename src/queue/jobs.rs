//! What the queue does for archive workers: the jobs of all shards as one list.
//!
//! A job is of one shard and says of which; a claim asks the shards in turn, those first that this node leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::Queue;
use crate::archive::{ClaimedJob, CompletedJob, JobRef, JobServer};
use crate::config;
use crate::error::{Error, Result};
use crate::shard::{Shard, Shards};

/// Claims, extends, completes and abandons archive jobs of every shard; none is claimed while archiving is paused. Clones share it.
#[derive(Clone)]
pub struct ArchiveJobs {
    shards: Shards,
    settings: config::Archive,
    /// Where the next claim begins, so that no shard is always last.
    next: Arc<AtomicUsize>,
}

impl Queue {
    /// The archive jobs of all shards.
    #[must_use]
    pub fn archive_jobs(&self) -> ArchiveJobs {
        ArchiveJobs { shards: self.0.shards.clone(), settings: self.config().archive.clone(), next: Arc::default() }
    }
}

impl ArchiveJobs {
    /// Claims the next job for `worker`, whose name is for people; `None` if nothing is due in any shard or archiving is paused.
    ///
    /// # Errors
    /// That a claim could not be proposed, if no other shard has a job.
    pub async fn claim(&self, worker: &str) -> Result<Option<ClaimedJob>> {
        let mut shards: Vec<&Shard> = self.shards.iter().collect();
        let begin = self.next.fetch_add(1, Ordering::Relaxed) % shards.len().max(1);
        shards.rotate_left(begin);
        shards.sort_by_key(|shard| !shard.leader().node().leadership().borrow().is_leader);
        let mut failed = None;
        for shard in shards {
            match self.jobs_of(shard).claim(worker).await {
                Ok(None) => {}
                Ok(claimed) => return Ok(claimed),
                // A shard without a leader keeps nobody from the others.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// Moves the deadline of a job on.
    ///
    /// # Errors
    /// `stale_job` if the claim does not hold any more; `unavailable` if the shard is not open here.
    pub async fn extend(&self, job: JobRef) -> Result<()> {
        self.of(job)?.extend(job).await
    }

    /// Puts the files of a job in the place of its segments, all or nothing.
    ///
    /// # Errors
    /// `stale_job` if the claim does not hold any more or the files do not cover what is live: the files are orphans then.
    pub async fn complete(&self, done: CompletedJob) -> Result<()> {
        self.of(done.job)?.complete(done).await
    }

    /// Gives a job back because of `reason`; one that is complete or gone is none to give back.
    ///
    /// # Errors
    /// That it could not be proposed.
    pub async fn abandon(&self, job: JobRef, reason: &str) -> Result<()> {
        self.of(job)?.abandon(job, reason).await
    }

    /// Gives back every job that `worker` holds; see [`JobServer::release`].
    ///
    /// # Errors
    /// As [`ArchiveJobs::abandon`], the first of them.
    pub async fn release(&self, worker: &str) -> Result<()> {
        let mut released = Ok(());
        for shard in self.shards.iter() {
            released = released.and(self.jobs_of(shard).release(worker).await);
        }
        released
    }

    /// Returns once something was asked to be archived, or after `at_most`.
    pub async fn wait(&self, at_most: Duration) {
        let waits = self.shards.iter().map(|shard| async move { self.jobs_of(shard).wait(at_most).await });
        let mut waits: FuturesUnordered<_> = waits.collect();
        waits.next().await;
    }

    fn of(&self, job: JobRef) -> Result<JobServer> {
        let shard = self.shards.get(job.shard);
        let absent = || Error::unavailable(format!("shard {} is not open here yet", job.shard));
        shard.map(|shard| self.jobs_of(shard)).ok_or_else(absent)
    }

    fn jobs_of(&self, shard: &Shard) -> JobServer {
        let watch = Arc::new(shard.archive_job().clone());
        let requests = shard.archive_requests().clone();
        JobServer::new(shard.leader().clone(), requests, self.settings.clone()).watched_by(watch)
    }
}
