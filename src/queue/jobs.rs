//! What the queue does for archive workers.

use std::sync::Arc;

use super::Queue;
use crate::archive::JobServer;
use crate::error::Result;

impl Queue {
    /// Claims, extends, completes and abandons archive jobs; none is claimed while archiving is paused.
    #[must_use]
    pub fn archive_jobs(&self) -> JobServer {
        let watch = Arc::new(self.0.shard.archive_job().clone());
        JobServer::new(self.leader().clone(), self.archive_requests().clone(), self.config().archive.clone())
            .watched_by(watch)
    }

    /// Whether archive workers should rest.
    #[must_use]
    pub fn archive_paused(&self) -> bool {
        self.0.shard.archive_job().is_paused()
    }

    /// Notes how a run of the archive worker went, for the status and the metrics.
    pub fn archive_ran(&self, result: Result<()>) {
        self.0.shard.archive_job().ran(result);
    }
}
