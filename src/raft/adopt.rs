//! Making a flushed checkpoint this node's own: local files, pointer, snapshot, purge; in this order.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;

use super::meta::Pointer;
use super::node::RaftNode;
use super::options::CheckpointFiles;
use crate::blocking;
use crate::error::{Error, Result};
use crate::failpoint;

/// How long openraft may take to notice a snapshot: it builds one at a time and drops requests meanwhile.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(30);
/// How often it is asked again.
const SNAPSHOT_RETRY: Duration = Duration::from_millis(50);

impl RaftNode {
    /// Keeps a checkpoint's files on the local disk, durably, before the `Flushed` that names it is proposed: so that
    /// whatever is applied can be adopted, also if the process ends in between.
    ///
    /// # Errors
    /// `missing_files` with the names in its details if a file that the checkpoint names is neither given nor there.
    pub async fn stage_checkpoint(&self, files: &CheckpointFiles) -> Result<()> {
        let one_at_a_time = Arc::clone(&self.inner.adopting).lock_owned().await;
        let (meta, files) = (self.inner.shared.meta.clone(), files.clone());
        let staging = blocking::spawn(move || {
            // Held until it is written, also if the caller goes away: nothing else touches the files meanwhile.
            let _one_at_a_time = one_at_a_time;
            meta.stage(&files)
        });
        staging
            .await
            .map_err(|error| Error::internal("writing the local checkpoint panicked").with_source(error))?
            .map(drop)
    }

    /// Makes an applied `Flushed` this node's own: keeps the checkpoint's files and the pointer to it on the local disk,
    /// durably, has openraft adopt it as its snapshot, and purges the log up to it except the last `wal_keep` bytes.
    ///
    /// Files that were staged, or that the checkpoint before it named too, need not be given again. A checkpoint that is not newer than the
    /// one in use changes nothing. What was begun goes on when the caller goes away: whoever comes next finds it done.
    ///
    /// # Errors
    /// `missing_files` with the names in its details if a file that the checkpoint names is neither given nor there;
    /// `unavailable` if the node has stopped. Nothing was purged then.
    pub async fn adopt_checkpoint(&self, files: CheckpointFiles) -> Result<()> {
        let one_at_a_time = Arc::clone(&self.inner.adopting).lock_owned().await;
        let node = self.clone();
        let adopting = tokio::spawn(async move {
            let _one_at_a_time = one_at_a_time;
            node.adopt_alone(files).await
        });
        adopting.await.map_err(|error| Error::internal("taking over a checkpoint broke off").with_source(error))?
    }

    async fn adopt_alone(&self, files: CheckpointFiles) -> Result<()> {
        let reference = files.reference;
        let shared = &self.inner.shared;
        if shared.pointer().is_none_or(|pointer| pointer.reference.index < reference.index) {
            if *shared.applied().borrow() < reference.index {
                return Err(Error::internal("a checkpoint of entries that are not applied cannot be adopted"));
            }
            let last = shared
                .log
                .log_id(reference.index)
                .map_err(|error| Error::internal("the write-ahead log cannot be used").with_source(error))?
                .ok_or_else(|| {
                    Error::internal(format!("entry {} of the checkpoint to adopt is not in the log", reference.index))
                })?;
            let membership = shared.membership_at(reference.index);
            shared.adopt(Arc::new(files), Pointer { reference, last, membership }).await?;
        }
        self.snapshot().await?;
        self.purge().await
    }

    /// Has openraft look at the pointer until it has.
    async fn snapshot(&self) -> Result<()> {
        let Some(pointer) = self.inner.shared.pointer() else { return Ok(()) };
        let index = pointer.reference.index;
        let mut metrics = self.inner.raft.metrics();
        let waiting = async {
            loop {
                self.inner.raft.trigger().snapshot().await.map_err(|error| stopped(&error))?;
                let built = metrics.wait_until(|metrics| {
                    metrics.running_state.is_err() || metrics.snapshot.is_some_and(|built| built.index >= index)
                });
                match tokio::time::timeout(SNAPSHOT_RETRY, built).await {
                    Ok(Ok(metrics)) => return metrics.running_state.map_err(|error| stopped(&error)),
                    Ok(Err(error)) => return Err(stopped(&error)),
                    Err(_) => {}
                }
            }
        };
        tokio::time::timeout(SNAPSHOT_DEADLINE, waiting).await.unwrap_or_else(|_| {
            Err(Error::unavailable(format!("raft did not take over the checkpoint of entry {index} in time")))
        })
    }

    async fn purge(&self) -> Result<()> {
        let Some(pointer) = self.inner.shared.pointer() else { return Ok(()) };
        let limit = self.inner.shared.log.purge_limit(self.inner.wal_keep.load(Ordering::Relaxed));
        let limit = limit.map_err(|error| Error::internal("the write-ahead log cannot be used").with_source(error))?;
        // Entries at and below the checkpoint are in the bucket; none above may go.
        if let Some(upto) = limit.map(|limit| limit.min(pointer.reference.index)) {
            failpoint::hit_async("purge.before").await?;
            self.inner.raft.trigger().purge_log(upto).await.map_err(|error| stopped(&error))?;
            failpoint::hit_async("purge.after").await?;
        }
        Ok(())
    }
}

fn stopped(error: &dyn std::error::Error) -> Error {
    Error::unavailable(format!("the node has stopped: {error}"))
}
