//! What the queue does for archive workers.

use std::sync::Arc;

use super::Queue;
use crate::archive::JobServer;

impl Queue {
    /// Claims, extends, completes and abandons archive jobs; none is claimed while archiving is paused.
    #[must_use]
    pub fn archive_jobs(&self) -> JobServer {
        let watch = Arc::new(self.0.shard.archive_job().clone());
        JobServer::new(self.leader().clone(), self.archive_requests().clone(), self.config().archive.clone())
            .watched_by(watch)
    }
}
