//! The compactor inside a serving process: workers over the queue's own jobs.

use tidelog::queue::Queue;
use tidelog_compactor::Worker;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Running workers.
pub(super) struct Compactor {
    workers: JoinSet<()>,
    shutdown: CancellationToken,
}

impl Compactor {
    /// Starts as many workers as the settings say; none if archiving is off, or others do it.
    pub(super) fn start(queue: &Queue) -> Self {
        let settings = &queue.config().archive;
        let shutdown = CancellationToken::new();
        let mut workers = JoinSet::new();
        let converts = settings.enabled && queue.config().cluster.is_compactor();
        let count = if converts { settings.workers } else { 0 };
        for number in 0..count {
            let (jobs, shutdown) = (queue.archive_jobs(), shutdown.clone());
            let name = format!("{}-worker-{number}", queue.name());
            let worker = Worker::new(jobs.clone(), queue.bucket().clone(), name.clone(), settings.interval);
            workers.spawn(async move {
                // What a killed process claimed would otherwise wait for its deadline.
                if let Err(error) = jobs.release(&name).await {
                    tracing::warn!(?error, "claims of an earlier run could not be given back");
                }
                worker.run(shutdown).await;
            });
        }
        Self { workers, shutdown }
    }

    /// Ends the workers; a job that is in progress is given back.
    pub(super) async fn stop(mut self) {
        self.shutdown.cancel();
        while self.workers.join_next().await.is_some() {}
    }
}
