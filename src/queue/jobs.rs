//! What the queue does for archive workers.

use super::Queue;
use crate::archive::JobServer;
use crate::error::Result;
use crate::shard::Job;

impl Queue {
    /// Claims, extends, completes and abandons archive jobs.
    #[must_use]
    pub fn archive_jobs(&self) -> JobServer {
        JobServer::new(self.leader().clone(), self.archive_requests().clone(), self.config().archive.clone())
    }

    /// Whether archive workers should rest.
    #[must_use]
    pub fn archive_paused(&self) -> bool {
        self.0.shard.archive_job().is_paused()
    }

    /// Notes how a run of the archive worker went, for the status and the metrics.
    pub fn archive_ran(&self, result: Result<()>) {
        let job: &Job = self.0.shard.archive_job();
        job.ran(result);
    }
}
