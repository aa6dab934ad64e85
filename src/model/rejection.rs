//! What `apply` answers when it declines: a replicated value that every replica reaches alike, not an error.

use serde::{Deserialize, Serialize};

use super::id::{LogIndex, Offset};
use crate::error::{Error, ErrorKind, Outcome};

/// Why a command, or one batch of it, was declined. Nothing was written unless a variant says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    /// The cluster was closed for appends.
    #[error("the shard is closed")]
    Closed,
    /// No live topic of that name or id.
    #[error("topic not found")]
    TopicNotFound,
    /// The topic has no such partition.
    #[error("partition not found")]
    PartitionNotFound,
    /// A live topic of that name exists with other settings.
    #[error("a topic of that name exists with other settings")]
    TopicExists,
    /// The partition count would shrink.
    #[error("the number of partitions can only grow, it is {current}")]
    PartitionsShrink {
        /// Partitions there are.
        current: u32,
    },
    /// No deleted topic of that name that can still be undeleted.
    #[error("no deleted topic of that name can be undeleted")]
    NotDeleted,
    /// The shard would hold too many partitions.
    #[error("the shard holds at most {limit} partitions")]
    TooManyPartitions {
        /// The limit.
        limit: u32,
    },
    /// A newer epoch of the producer exists.
    #[error("the producer's epoch is old, the current one is {current}")]
    ProducerFenced {
        /// The newest epoch seen.
        current: u16,
    },
    /// The sequence was used for other records.
    #[error("the sequence was used for other records")]
    SequenceReused,
    /// The sequence is older than those remembered: it was written.
    #[error("the sequence was written before, its offsets are no longer remembered")]
    DuplicateSequence,
    /// A sequence above 0 of a producer that is not remembered: it may have been written.
    #[error("the producer is not known here, its records may have been written")]
    UnknownProducer,
    /// A sequence was left out.
    #[error("the sequence leaves a gap, {expected} was expected")]
    SequenceGap {
        /// The next sequence.
        expected: u32,
    },
    /// `Expected-Offset` named another offset than the next.
    #[error("the next offset is {actual}")]
    OffsetMismatch {
        /// The next offset.
        actual: Offset,
    },
    /// The idempotency key was used for another payload.
    #[error("the idempotency key was used for another payload")]
    IdempotencyKeyReused,
    /// Offsets of the partition are used up (2^53).
    #[error("the partition has no offsets left")]
    OffsetsExhausted,
    /// A `Flushed` whose previous index is not the current one.
    #[error("another flush was applied, at {current}")]
    StaleFlush {
        /// The flushed log index.
        current: LogIndex,
    },
    /// A `Flushed` or `Archived` that names an object below the condemned floor.
    #[error("an object it names was condemned")]
    Condemned,
    /// The archive job is not claimed, was claimed again, or its segments changed.
    #[error("the archive job is stale")]
    StaleJob,
    /// The records of a request under an idempotency key were assigned among another number of partitions than the topic has.
    #[error("the topic has another number of partitions than the records were assigned among")]
    AssignedAmongOthers,
    /// A command for the catalog in a shard that does not own it, or the reverse.
    #[error("the command is for another shard")]
    OtherShard,
    /// The number of shards would shrink.
    #[error("the number of shards can only grow, it is {current}")]
    ShardsShrink {
        /// Shards there are.
        current: u32,
    },
    /// The cluster would have too many shards.
    #[error("a cluster has at most {limit} shards")]
    TooManyShards {
        /// The limit.
        limit: u32,
    },
    /// A topic that the shard does not have, under a revision older than that of one that it forgot: it may be the same.
    #[error("the topic may be one that the shard has forgotten")]
    StaleSync,
    /// After a start from the bucket the catalog does not know yet what the other shards have.
    #[error("topics cannot change until the catalog has looked at every shard")]
    Adopting,
}

impl Rejection {
    /// Kind, stable code and outcome of this rejection.
    #[must_use]
    pub const fn classify(&self) -> (ErrorKind, &'static str, Outcome) {
        use ErrorKind::{AlreadyExists, Conflict, Internal, Invalid, NotFound, Unavailable};
        use Outcome::{NotWritten, Unknown, Written};
        match self {
            Self::Closed => (Unavailable, "closed", NotWritten),
            Self::TopicNotFound => (NotFound, "topic_not_found", NotWritten),
            Self::PartitionNotFound => (NotFound, "partition_not_found", NotWritten),
            Self::TopicExists => (AlreadyExists, "topic_exists", NotWritten),
            Self::PartitionsShrink { .. } => (Invalid, "invalid_settings", NotWritten),
            Self::NotDeleted => (NotFound, "topic_not_found", NotWritten),
            Self::TooManyPartitions { .. } => (Invalid, "too_many_partitions", NotWritten),
            Self::ProducerFenced { .. } => (Conflict, "producer_fenced", NotWritten),
            Self::SequenceReused => (Conflict, "sequence_reused", NotWritten),
            Self::DuplicateSequence => (Conflict, "duplicate_sequence", Written),
            Self::UnknownProducer => (Conflict, "unknown_producer", Unknown),
            Self::SequenceGap { .. } => (Conflict, "sequence_gap", NotWritten),
            Self::OffsetMismatch { .. } => (Conflict, "offset_mismatch", NotWritten),
            Self::IdempotencyKeyReused => (Invalid, "idempotency_key_reused", NotWritten),
            Self::AssignedAmongOthers => (Conflict, "settings_changed", NotWritten),
            Self::OffsetsExhausted => (Invalid, "offsets_exhausted", NotWritten),
            Self::StaleFlush { .. } | Self::Condemned | Self::StaleJob | Self::StaleSync => {
                (Conflict, "stale_job", NotWritten)
            }
            Self::OtherShard => (Internal, "internal", NotWritten),
            Self::ShardsShrink { .. } | Self::TooManyShards { .. } => (Invalid, "invalid_settings", NotWritten),
            Self::Adopting => (Unavailable, "unavailable", NotWritten),
        }
    }
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        let (kind, code, outcome) = rejection.classify();
        let error = Self::new(kind, code, rejection.to_string()).with_outcome(outcome);
        match rejection {
            Rejection::PartitionsShrink { current } | Rejection::ShardsShrink { current } => {
                error.with_number("current", u64::from(current))
            }
            Rejection::TooManyPartitions { limit } | Rejection::TooManyShards { limit } => {
                error.with_number("limit", u64::from(limit))
            }
            Rejection::ProducerFenced { current } => error.with_number("current_epoch", u64::from(current)),
            Rejection::SequenceGap { expected } => error.with_number("expected_sequence", u64::from(expected)),
            Rejection::OffsetMismatch { actual } => error.with_number("actual_offset", actual),
            _ => error,
        }
    }
}
