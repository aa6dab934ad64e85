//! How a shard is opened.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use crate::model::{CheckpointRef, Incarnation, NodeId, ObjectId, SegmentRange, ShardId};

/// How a shard is opened.
#[derive(Debug, Clone)]
pub struct RaftOptions {
    /// The WAL directory of the node; the shard's own is `shard-{:05}` in it.
    pub wal_dir: PathBuf,
    /// The UUID of the WAL directory, from its [`super::NodeIdentity`].
    pub directory: uuid::Uuid,
    /// The shard.
    pub shard: ShardId,
    /// The life of the cluster.
    pub incarnation: Incarnation,
    /// This node.
    pub node: NodeId,
    /// Bytes of the tail cache (`tail.memory`).
    pub tail_memory: u64,
    /// Bytes of the log that a purge leaves (`wal.keep`).
    pub wal_keep: u64,
    /// Bytes at which a file of the log is ended (`wal.file_size`).
    pub wal_file_size: u64,
    /// Bytes of files that are kept ready to be written to (`wal.spare`).
    pub wal_spare: u64,
    /// The shortest election timeout; the longest is twice that.
    pub election_timeout: Duration,
    /// How often a leader says that it is there.
    pub heartbeat: Duration,
    /// With what to begin.
    pub start: Start,
}

/// With what a shard begins.
#[derive(Debug, Clone)]
pub enum Start {
    /// What the WAL holds: the local pointer's checkpoint and the log after it. The bucket is not asked.
    Wal,
    /// Nothing: the first start of a shard that never was. The group is this node alone.
    New,
    /// A checkpoint of the bucket and an empty WAL. The group is this node alone, whoever it was before.
    Checkpoint(Box<StartCheckpoint>),
}

/// A checkpoint with which an empty WAL begins.
#[derive(Debug, Clone)]
pub struct StartCheckpoint {
    /// The checkpoint's term: at or above that of the entry at its index. The log of this WAL begins above it.
    pub term: u64,
    /// The checkpoint with all that it names.
    pub files: CheckpointFiles,
}

/// A checkpoint as objects: what a node keeps on its own disk so that a restart needs no bucket.
///
/// Files that the node has already need not be given again: objects never change.
#[derive(Debug, Clone)]
pub struct CheckpointFiles {
    /// Its name.
    pub reference: CheckpointRef,
    /// The checkpoint object.
    pub checkpoint: Bytes,
    /// Index part objects that it names.
    pub parts: Vec<(ObjectId, Bytes)>,
    /// The ranges of segments that are newer than the parts.
    pub ranges: Vec<(ObjectId, Vec<SegmentRange>)>,
}

/// What a WAL directory holds of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalPresence {
    /// No checkpoint, no entry: start [`Start::New`] or [`Start::Checkpoint`]. A start that crashed before its first
    /// durable step leaves this too.
    Empty,
    /// Something: start [`Start::Wal`].
    Present,
}
