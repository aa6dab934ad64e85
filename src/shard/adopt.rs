//! Checkpoints that another node wrote: the flushes of a leader on the disks of the others, and what a node that is far
//! behind goes on from. The bucket is asked first, then the leader.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tracing::{debug, info, warn};

use super::life::files_of;
use crate::checkpoints::{self, Missing};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{CheckpointRef, LogIndex, NodeId, ShardId};
use crate::raft::{CheckpointFiles, CheckpointSource, RaftNode};
use crate::store::Bucket;

/// How often a node looks whether a flush was applied.
const LOOK: Duration = Duration::from_millis(100);
/// The pause after a checkpoint that could not be had; doubled up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// How long the bucket is waited for before the leader is asked. A bucket that works answers in milliseconds.
const BUCKET_PATIENCE: Duration = Duration::from_secs(10);

/// Makes every checkpoint of the applied state this node's own, until dropped: keeps it beside the log and purges the log.
pub(super) async fn adopt_all(node: RaftNode, bucket: Bucket) {
    let mut pause = FIRST_PAUSE;
    let mut failing = false;
    loop {
        let Some(reference) = newer(&node) else {
            tokio::time::sleep(LOOK).await;
            continue;
        };
        match adopt(&node, &bucket, reference).await {
            Ok(()) => {
                if std::mem::take(&mut failing) {
                    info!(index = reference.index, "checkpoints of the leader are taken over again");
                }
                pause = FIRST_PAUSE;
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(index = reference.index, ?error, "a checkpoint of the leader cannot be taken over yet");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    }
}

/// The checkpoint of the applied state, if this node would not start from it yet.
fn newer(node: &RaftNode) -> Option<CheckpointRef> {
    let reference = node.with_state(|state| state.checkpoint_ref())?;
    let held: Option<LogIndex> = node.status().checkpoint;
    held.is_none_or(|held| held < reference.index).then_some(reference)
}

async fn adopt(node: &RaftNode, bucket: &Bucket, reference: CheckpointRef) -> Result<()> {
    let from_bucket = tokio::time::timeout(BUCKET_PATIENCE, adopt_from_bucket(node, bucket, reference)).await;
    let error = match from_bucket {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error,
        Err(_) => Error::unavailable("the bucket does not answer"),
    };
    let leader = node.leadership().borrow().leader.filter(|leader| *leader != node.id());
    let Some(leader) = leader else { return Err(error) };
    debug!(?error, %leader, "the leader is asked for a checkpoint");
    match node.fetch_checkpoint(reference, leader).await {
        Ok(files) => node.adopt_checkpoint(files).await,
        Err(not_there_either) => Err(not_there_either.with_source(error)),
    }
}

/// Reads only what is not here yet: a checkpoint shares nearly all of its files with the one before.
async fn adopt_from_bucket(node: &RaftNode, bucket: &Bucket, reference: CheckpointRef) -> Result<()> {
    let (checkpoint, bytes) = checkpoints::load_alone(bucket, node.shard(), reference).await?;
    let mut files = CheckpointFiles { reference, checkpoint: bytes, parts: Vec::new(), ranges: Vec::new() };
    let missing = match node.adopt_checkpoint(files.clone()).await {
        Err(error) if error.code() == "missing_files" => Missing::of(&error)?,
        adopted => return adopted,
    };
    (files.parts, files.ranges) = missing.load(bucket, node.shard(), &checkpoint).await?;
    node.adopt_checkpoint(files).await
}

/// Where a node gets the checkpoint that a leader names because it is too far behind for the log.
pub(super) struct BucketOrLeader {
    shard: ShardId,
    bucket: Bucket,
    /// Set once the node is there; taken out when it stops, since each holds the other.
    node: Mutex<Option<RaftNode>>,
}

impl BucketOrLeader {
    pub(super) fn new(shard: ShardId, bucket: Bucket) -> Arc<Self> {
        Arc::new(Self { shard, bucket, node: Mutex::new(None) })
    }

    /// The node that asks the leader.
    pub(super) fn set(&self, node: Option<RaftNode>) {
        *self.node() = node;
    }

    fn node(&self) -> MutexGuard<'_, Option<RaftNode>> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CheckpointSource for BucketOrLeader {
    fn fetch(&self, reference: CheckpointRef, leader: NodeId) -> BoxFuture<'static, Result<CheckpointFiles>> {
        let (shard, bucket, node) = (self.shard, self.bucket.clone(), self.node().clone());
        async move {
            let loading = checkpoints::load(&bucket, shard, reference);
            let error = match tokio::time::timeout(BUCKET_PATIENCE, loading).await {
                Ok(Ok(loaded)) => return Ok(files_of(loaded)),
                Ok(Err(error)) => error,
                Err(_) => Error::unavailable("the bucket does not answer"),
            };
            let Some(node) = node else { return Err(error) };
            info!(index = reference.index, %leader, %error, "the leader is asked for the checkpoint to go on from");
            node.fetch_checkpoint(reference, leader).await.map_err(|error| match error.kind() {
                ErrorKind::Corrupt => error,
                _ => Error::unavailable(format!("neither the bucket nor node {leader} has the checkpoint: {error}")),
            })
        }
        .boxed()
    }
}
