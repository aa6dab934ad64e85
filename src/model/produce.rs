//! A produce request as gateways hand it down, and its answer.

use std::time::Duration;

use bytes::Bytes;

use super::id::{Offset, TopicId};
use super::producer::Triple;
use super::record::Record;
use crate::error::Error;

/// When a produce request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Acks {
    /// Once it is queued: no promise, no offsets.
    None,
    /// Once it is synced on a majority of voters and applied.
    #[default]
    Quorum,
    /// Once a `Flushed` whose checkpoint covers it was applied.
    Object,
}

/// What to write.
#[derive(Debug, Clone)]
pub enum Payload {
    /// Records in request order, each with the partition that it names itself, if any.
    Records(Vec<(Option<u32>, Record)>),
    /// One record batch of format v2 as a client encoded it; not yet checked. Needs `partition`.
    Batch(Bytes),
}

/// A produce request.
#[derive(Debug, Clone)]
pub struct ProduceRequest {
    /// The topic's name.
    pub topic: String,
    /// If set, the topic must still have this id.
    pub topic_id: Option<TopicId>,
    /// The partition of the partition route.
    pub partition: Option<u32>,
    /// What to write; at least one record.
    pub payload: Payload,
    /// When to answer.
    pub acks: Acks,
    /// How long the caller waits.
    pub timeout: Duration,
    /// Needs `partition`.
    pub triple: Option<Triple>,
    /// The text of `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// Needs `partition`.
    pub expected_offset: Option<Offset>,
    /// Wall time at which it came, milliseconds: what its records without a timestamp have, and what all are held against. One
    /// reading for both, or a clock that is set back in between refuses what it has just stamped.
    pub now: u64,
}

/// The answer to a produce request: what became of each record.
#[derive(Debug)]
pub struct Produced {
    /// The topic written to.
    pub topic_id: TopicId,
    /// One for each record, in request order (for a batch: one for each record of it). Empty for [`Acks::None`].
    pub records: Vec<RecordOutcome>,
    /// One for each partition touched that failed; `RecordOutcome::Failed` indexes it.
    pub failures: Vec<Error>,
    /// All of it had been written by an earlier attempt.
    pub duplicate: bool,
    /// For [`Acks::Object`]: why what was written is not known to be in the bucket yet (`flush_timeout`, or the shard
    /// stopped). What `records` says was written is written: wait for the flushed offset, do not resend.
    pub flush_failure: Option<Error>,
}

/// What became of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordOutcome {
    /// It is at this offset.
    Written {
        /// Its partition.
        partition: u32,
        /// Its offset.
        offset: Offset,
    },
    /// Its partition failed.
    Failed {
        /// Its partition.
        partition: u32,
        /// Index into [`Produced::failures`].
        failure: u32,
    },
}
