//! The handle of one shard's Raft node.

use std::path::Path;

use bytes::Bytes;
use tokio::sync::watch;

use super::error::ProposeError;
use super::options::{CheckpointFiles, RaftOptions, WalPresence};
use crate::error::Result;
use crate::model::{Answer, LogIndex, NodeId, ShardId, TopicPartition};

/// A Raft node of one shard; clones share it.
///
/// All methods may be cancelled by dropping their futures; a proposal that was dropped may still be written.
#[derive(Clone)]
pub struct RaftNode {}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RaftStatus {
    /// The term it is in.
    pub term: u64,
    /// Who leads, if that is known.
    pub leader: Option<NodeId>,
    /// Whether this node leads.
    pub is_leader: bool,
    /// The last entry of the log.
    pub last_log: LogIndex,
    /// The last entry that was applied, of any kind.
    pub applied: LogIndex,
    /// The index of the checkpoint that the local pointer names.
    pub checkpoint: Option<LogIndex>,
    /// Entries up to this one are gone from the log.
    pub purged: Option<LogIndex>,
    /// Bytes of the log's files.
    pub wal_bytes: u64,
    /// Bytes in the tail cache.
    pub tail_bytes: u64,
}

/// A subscription to the growth of partitions: see [`RaftNode::watch_growth`].
pub struct Growth {}

impl Growth {
    /// Returns once one of the partitions has grown since the last call, or since the subscription.
    pub async fn changed(&mut self) {
        todo!()
    }
}

#[allow(unused_variables, clippy::unused_async, clippy::todo, reason = "skeleton")]
impl RaftNode {
    /// What `wal_dir` holds of `shard`. Changes nothing, but cuts a torn tail of the log.
    ///
    /// # Errors
    /// `corrupt` if what was acknowledged is damaged.
    pub fn presence(wal_dir: &Path, directory: uuid::Uuid, shard: ShardId) -> Result<WalPresence> {
        todo!()
    }

    /// Opens the shard and starts its node. What the log holds is applied when this returns, except what only a new
    /// leader can commit: see [`RaftNode::ready`].
    ///
    /// # Errors
    /// `corrupt` if what was acknowledged is damaged; `internal` if the directory cannot be used or holds something
    /// else than `options.start` says.
    pub async fn start(options: RaftOptions) -> Result<Self> {
        todo!()
    }

    /// Returns once the shard has a leader that this node knows, and this node has applied all that its log held when it
    /// started. Waits without end: put a deadline around it.
    pub async fn ready(&self) {
        todo!()
    }

    /// Proposes an encoded command and returns what `apply` answered.
    ///
    /// # Errors
    /// See [`ProposeError`]: what was written differs.
    pub async fn propose(&self, command: Bytes) -> Result<(LogIndex, Answer), ProposeError> {
        todo!()
    }

    /// Returns once this node has applied all that was committed when it was called.
    ///
    /// # Errors
    /// `not_leader`, or `unavailable` if the node has stopped.
    pub async fn linearize(&self) -> Result<()> {
        todo!()
    }

    /// The last applied log index; each value is visible in the state when it is seen here.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<LogIndex> {
        todo!()
    }

    /// Subscribes to the growth of the high watermarks of `partitions`. Look at the state after subscribing, then wait:
    /// nothing is missed. Dropping the subscription forgets it.
    ///
    /// # Errors
    /// `overloaded` if too many wait.
    pub fn watch_growth(&self, partitions: &[TopicPartition]) -> Result<Growth> {
        todo!()
    }

    /// The encoded command of entry `index`, from the tail cache or else the log on disk; `None` if the log does not
    /// have it (any more): make the plan again.
    ///
    /// # Errors
    /// `corrupt` if the entry's checksum is wrong, `internal` if it cannot be read.
    pub async fn read_entry(&self, index: LogIndex) -> Result<Option<Bytes>> {
        todo!()
    }

    /// Makes an applied `Flushed` this node's own: keeps the checkpoint's files and the pointer to it on the local disk,
    /// durably, has openraft adopt it as its snapshot, and purges the log up to it except the last `wal_keep` bytes.
    ///
    /// Files of the directory that the checkpoint names too need not be given again.
    ///
    /// # Errors
    /// `missing_files` with the names in its details if a file that the checkpoint names is neither given nor there;
    /// `unavailable` if the node has stopped. Nothing was purged then.
    pub async fn adopt_checkpoint(&self, files: CheckpointFiles) -> Result<()> {
        todo!()
    }

    /// Bytes of the log's files.
    #[must_use]
    pub fn wal_bytes(&self) -> u64 {
        todo!()
    }

    /// What the node says of itself.
    #[must_use]
    pub fn status(&self) -> RaftStatus {
        todo!()
    }

    /// Returns what went wrong once the node can do no more: a panic in `apply`, a damaged entry, a failed write.
    /// The process has to end then; a restart is the recovery.
    pub async fn fatal(&self) -> String {
        todo!()
    }

    /// Stops the node and closes its log.
    pub async fn shutdown(&self) {
        todo!()
    }
}
