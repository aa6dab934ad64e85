//! The compactor inside a serving process: workers over the queue's own jobs.

use tidelog::error::{Error, Result};
use tidelog::queue::{ClaimedJob, CompletedJob, JobRef, JobServer, Queue};
use tidelog_compactor::{Jobs, Worker};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Running workers.
pub(super) struct Compactor {
    workers: JoinSet<()>,
    shutdown: CancellationToken,
}

impl Compactor {
    /// Starts as many workers as the settings say; none if archiving is off.
    pub(super) fn start(queue: &Queue) -> Self {
        let settings = &queue.config().archive;
        let shutdown = CancellationToken::new();
        let mut workers = JoinSet::new();
        let count = if settings.enabled { settings.workers } else { 0 };
        for number in 0..count {
            let jobs = LocalJobs { server: queue.archive_jobs(), queue: queue.clone() };
            let worker = Worker::new(jobs, queue.bucket().clone(), format!("serve-{number}"), settings.interval);
            workers.spawn(worker.run(shutdown.clone()));
        }
        Self { workers, shutdown }
    }

    /// Ends the workers; a job that is in progress is given back.
    pub(super) async fn stop(mut self) {
        self.shutdown.cancel();
        while self.workers.join_next().await.is_some() {}
    }
}

/// The queue's jobs, as long as nobody paused archiving; what becomes of them is noted for status and metrics.
#[derive(Clone)]
struct LocalJobs {
    server: JobServer,
    queue: Queue,
}

impl Jobs for LocalJobs {
    async fn claim(&self, worker: &str) -> Result<Option<ClaimedJob>> {
        if self.queue.archive_paused() {
            return Ok(None);
        }
        let claimed = self.server.claim(worker).await;
        match &claimed {
            // Nothing is due: that is as good as a job that was done.
            Ok(None) => self.queue.archive_ran(Ok(())),
            Ok(Some(_)) => {}
            Err(error) => self.queue.archive_ran(Err(Error::unavailable(error.to_string()))),
        }
        claimed
    }

    async fn extend(&self, job: JobRef) -> Result<()> {
        self.server.extend(job).await
    }

    async fn complete(&self, done: CompletedJob) -> Result<()> {
        self.server.complete(done).await?;
        self.queue.archive_ran(Ok(()));
        Ok(())
    }

    async fn abandon(&self, job: JobRef, reason: &str) -> Result<()> {
        self.queue.archive_ran(Err(Error::unavailable(reason)));
        self.server.abandon(job, reason).await
    }

    async fn wait(&self, at_most: std::time::Duration) {
        self.server.wait(at_most).await;
    }
}
