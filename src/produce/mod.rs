//! Produce: from a request to record batches in the Raft log.
//!
//! [`prepare()`] validates a request whole and assigns its records to partitions, [`Admission`] bounds what waits, and the
//! [`Batcher`] of each shard joins what arrives into Raft entries (group commit without a timer) and hands the answers
//! back. Waiting for `acks=object` is the queue's: every answer names the log index that has to be flushed.

pub mod admission;
pub mod assign;
pub mod batcher;
pub mod digest;
pub mod prepare;
pub mod validate;

pub use admission::{Admission, Permit};
pub use assign::Sticky;
pub use batcher::{Batcher, BatcherOptions, Content, Pending, ProposeFailure, Proposer, Submission};
pub use prepare::{Context, Layout, Prepared, prepare};
