//! What makes a produce request repeatable.

use serde::{Deserialize, Serialize};

use super::id::ProducerId;

/// The idempotent producer's triple; `sequence` is of the first record, modulo 2^31, as in Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Triple {
    /// Handed out by `POST /v1/producers`.
    pub id: ProducerId,
    /// Raised by each registration of the same name; a lower one is fenced.
    pub epoch: u16,
    /// Sequence of the first record of the batch.
    pub sequence: u32,
}

/// Sequences are modulo this, as in Kafka.
pub const SEQUENCE_MODULUS: u32 = 1 << 31;

/// The sequence `count` records after `sequence`.
#[must_use]
pub const fn advance_sequence(sequence: u32, count: u32) -> u32 {
    ((sequence as u64 + count as u64) % SEQUENCE_MODULUS as u64) as u32
}

/// The hash of a request's `Idempotency-Key` within its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IdempotencyKey(pub u128);

/// The `Idempotency-Key` of a request with what makes its assignment to partitions repeatable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyed {
    /// The key.
    pub key: IdempotencyKey,
    /// The number of partitions among which the request's records were assigned: `apply` declines a first attempt if the topic
    /// has another number by then. 0 if nothing was assigned, because the request names its partition.
    pub among: u32,
    /// A part of the request was seen written, assigned among as many: a shard that has no part of it yet follows, however
    /// many partitions the topic has by now. Nobody can have assigned the request among others: see docs/decisions/0017.
    pub begun: bool,
}
