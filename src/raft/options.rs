//! How a shard is opened.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::transport::{CheckpointSource, Transport};
use super::types::Member;
use crate::model::{CheckpointRef, Incarnation, NodeId, ObjectId, SegmentRange, ShardId};

/// How a shard is opened.
#[derive(Clone)]
pub struct RaftOptions {
    /// The WAL directory of the node; the shard's own is `shard-{:05}` in it.
    pub wal_dir: PathBuf,
    /// The UUID of the WAL directory, from its [`super::NodeIdentity`].
    pub directory: Uuid,
    /// The shard.
    pub shard: ShardId,
    /// The life of the cluster.
    pub incarnation: Incarnation,
    /// This node.
    pub node: NodeId,
    /// Bytes of the tail cache (`tail.memory`).
    pub tail_memory: u64,
    /// Bytes of the log that a purge leaves (`wal.keep`); [`super::RaftNode::set_wal_keep`] changes it.
    pub wal_keep: u64,
    /// Bytes at which a file of the log is ended (`wal.file_size`).
    pub wal_file_size: u64,
    /// Bytes of files that are kept ready to be written to (`wal.spare`).
    pub wal_spare: u64,
    /// Half the longest election timeout: how long a leader is believed in, and the most that a candidate waits then.
    pub election_timeout: Duration,
    /// How often a leader says that it is there.
    pub heartbeat: Duration,
    /// `host:port` under which peers reach this node; empty without a peer listener.
    pub advertise: String,
    /// The way to the peers; [`super::Alone`] for a node without any.
    pub transport: Arc<dyn Transport>,
    /// Where checkpoints come from when a leader names one; [`super::Alone`] for a node without peers.
    pub checkpoints: Arc<dyn CheckpointSource>,
    /// With what to begin.
    pub start: Start,
}

impl fmt::Debug for RaftOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaftOptions")
            .field("wal_dir", &self.wal_dir)
            .field("shard", &self.shard)
            .field("incarnation", &self.incarnation)
            .field("node", &self.node)
            .field("advertise", &self.advertise)
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}

/// With what a shard begins.
#[derive(Debug, Clone)]
pub enum Start {
    /// What the WAL holds: the local pointer's checkpoint and the log after it. The bucket is not asked.
    Wal,
    /// Nothing: the first start of a shard that never was. The group is exactly these voters, this node among them; only one
    /// of them may start so.
    New(BTreeMap<NodeId, Member>),
    /// Nothing: this node waits until the leader of a group adds it or sends it what it missed.
    Join,
    /// A checkpoint of the bucket and an empty WAL. The group is this node alone, whoever it was before.
    Checkpoint(Box<StartCheckpoint>),
}

impl Start {
    /// [`Start::New`] with a group of one that has no peer listener.
    #[must_use]
    pub fn alone(node: NodeId, directory: Uuid) -> Self {
        Self::New(BTreeMap::from([(node, Member { address: String::new(), directory })]))
    }
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
    /// No checkpoint, no entry: start [`Start::New`], [`Start::Join`] or [`Start::Checkpoint`]. A start that crashed before its first
    /// durable step leaves this too.
    Empty,
    /// As [`WalPresence::Empty`], but for a vote: a node that was asked for one and has heard of no entry yet, which goes on
    /// with [`Start::Join`]; or a start from a checkpoint that broke off after its first step.
    Voted,
    /// Something: start [`Start::Wal`].
    Present,
}
