//! What a worker needs of the queue.

use std::future::Future;
use std::time::Duration;

use tidelog::archive::{ClaimedJob, CompletedJob, JobRef};
use tidelog::error::Result;
use tidelog::queue::ArchiveJobs;

/// The queue's archive jobs: implemented by the engine in this process, and by clients of its HTTP API. Clones share one
/// connection. Every method may be cancelled by dropping its future; what it asked for may be done all the same.
pub trait Jobs: Clone + Send + Sync + 'static {
    /// Claims the next job; `None` if nothing is due or archiving is paused. `worker` is a name for people.
    fn claim(&self, worker: &str) -> impl Future<Output = Result<Option<ClaimedJob>>> + Send;

    /// Moves the deadline of a claim on by its length. The code `stale_job` says that it does not hold any more.
    fn extend(&self, job: JobRef) -> impl Future<Output = Result<()>> + Send;

    /// Puts the files of a job in the place of its segments, all or nothing. After `stale_job` nothing was replaced.
    fn complete(&self, done: CompletedJob) -> impl Future<Output = Result<()>> + Send;

    /// Gives a job back and says why. One that is complete or gone stays so.
    fn abandon(&self, job: JobRef, reason: &str) -> impl Future<Output = Result<()>> + Send;

    /// Returns when there may be a job, at the latest after `at_most`.
    fn wait(&self, at_most: Duration) -> impl Future<Output = ()> + Send {
        tokio::time::sleep(at_most)
    }
}

impl Jobs for ArchiveJobs {
    async fn claim(&self, worker: &str) -> Result<Option<ClaimedJob>> {
        self.claim(worker).await
    }

    async fn extend(&self, job: JobRef) -> Result<()> {
        self.extend(job).await
    }

    async fn complete(&self, done: CompletedJob) -> Result<()> {
        self.complete(done).await
    }

    async fn abandon(&self, job: JobRef, reason: &str) -> Result<()> {
        self.abandon(job, reason).await
    }

    async fn wait(&self, at_most: Duration) {
        self.wait(at_most).await;
    }
}
