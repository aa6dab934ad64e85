//! A leader has the shard go over to a newer behaviour once every member knows it: nobody has to say that an upgrade is done.

use std::time::Duration;

use tracing::{info, warn};

use super::tasks::Tasks;
use crate::raft::Leader;

/// Between two looks; the members are asked what they know every three seconds.
const INTERVAL: Duration = Duration::from_secs(10);

/// Starts the task, which ends with `tasks`.
pub(super) fn start(tasks: &Tasks, leader: Leader) {
    tasks.spawn("versions", async move {
        loop {
            match leader.raise_version().await {
                Ok(Some(version)) => info!(version, "the shard behaves as of a newer version from now on"),
                Ok(None) => {}
                Err(error) => warn!(?error, "the shard did not go over to a newer version and this is tried again"),
            }
            tokio::time::sleep(INTERVAL).await;
        }
    });
}
