//! Record batches as the state knows them: facts and references, never bytes.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::id::{LogIndex, LogTime, Offset};

/// Bytes charged to budgets for a batch besides its own: references, map nodes, allocator.
pub const BATCH_OVERHEAD_BYTES: u64 = 128;

/// What a checked record batch (format v2) says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchInfo {
    /// Records in the batch, at least 1.
    pub count: u32,
    /// Encoded bytes, header included.
    pub len: u32,
    /// The largest timestamp of its records.
    pub max_timestamp: i64,
}

/// A batch of the tail: where its bytes are in the Raft log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailRef {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Records in the batch.
    pub count: u32,
    /// The Raft entry that carries it.
    pub log_index: LogIndex,
    /// Where the batch begins within that entry's encoded command.
    pub position: u32,
    /// Encoded bytes.
    pub len: u32,
    /// The largest timestamp of its records.
    pub max_timestamp: i64,
    /// Log time of the command that appended it.
    pub append_time: LogTime,
}

impl TailRef {
    /// First offset after the batch.
    #[must_use]
    pub const fn end_offset(&self) -> Offset {
        self.base_offset + self.count as u64
    }
}

/// A batch with its place: how bytes travel from tail and segment to a reader. The bytes carry base offset 0 and are
/// never patched; a copy of the header is, on the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBatch {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Records in the batch.
    pub count: u32,
    /// The largest timestamp of its records.
    pub max_timestamp: i64,
    /// Log time of the command that appended it.
    pub append_time: LogTime,
    /// The encoded batch.
    pub bytes: Bytes,
}

impl StoredBatch {
    /// First offset after the batch.
    #[must_use]
    pub const fn end_offset(&self) -> Offset {
        self.base_offset + self.count as u64
    }
}
