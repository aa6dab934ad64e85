//! References to checkpoints and index parts.

use serde::{Deserialize, Serialize};

use super::id::{Incarnation, LogIndex, ObjectId};

/// Partitions whose ranges share one index part: part = slot / this.
pub const PARTITIONS_PER_PART: u32 = 256;
/// Segments newer than the index parts that a checkpoint may leave to their footers.
pub const MAX_FOOTER_SEGMENTS: usize = 64;

/// Names a checkpoint object: `{incarnation:010}-{index:020}-{ulid}.ckpt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CheckpointRef {
    /// The life of the cluster that wrote it.
    pub incarnation: Incarnation,
    /// The log index F at which it holds the shard's metadata.
    pub index: LogIndex,
    /// Distinguishes checkpoints of the same index.
    pub id: ObjectId,
}

/// An immutable object with the ranges of [`PARTITIONS_PER_PART`] partitions as of log index `written_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexPartRef {
    /// Which partitions: slots `[part * 256, (part + 1) * 256)`.
    pub part: u32,
    /// Its name.
    pub id: ObjectId,
    /// The checkpoint index with which it was written.
    pub written_at: LogIndex,
}
