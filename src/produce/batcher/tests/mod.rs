//! The batcher against a Raft that does what a test tells it to.

#![allow(clippy::unwrap_used)]

mod faults;
mod joining;
mod random;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

use super::*;
use crate::format::batch;
use crate::format::command;
use crate::model::{Append, Command, IdempotencyKey, ProducerId, StoredBatch, TopicId};
use crate::produce::Admission;

/// An entry that was proposed, waiting for the test to decide.
struct Proposal {
    appends: Vec<Append>,
    decide: oneshot::Sender<Result<(LogIndex, Answer), ProposeFailure>>,
}

impl Proposal {
    /// The values of the records of batch `batch`.
    fn values(&self, batch: usize) -> Vec<String> {
        values(&self.appends[batch])
    }

    /// Applies it: every batch of it at `base`.
    fn apply(self, base: Offset) {
        let outcome = |append: &Append| {
            Ok(Appended { base_offset: base, count: append.info.count, duplicate: false, log_index: 7 })
        };
        let outcomes = self.appends.iter().map(outcome).collect();
        self.decide.send(Ok((7, Answer::Appended(outcomes)))).unwrap();
    }

    fn answer(self, answer: Answer) {
        self.decide.send(Ok((7, answer))).unwrap();
    }

    fn fail(self, failure: ProposeFailure) {
        self.decide.send(Err(failure)).unwrap();
    }
}

fn values(append: &Append) -> Vec<String> {
    let stored = StoredBatch {
        base_offset: 0,
        count: append.info.count,
        max_timestamp: append.info.max_timestamp,
        append_time: 0,
        bytes: append.batch.clone(),
    };
    let text = |record: crate::model::StoredRecord| String::from_utf8(record.record.value.unwrap().to_vec()).unwrap();
    batch::decode(&stored).unwrap().into_iter().map(text).collect()
}

struct Scripted {
    proposals: mpsc::UnboundedSender<Proposal>,
    log_time: AtomicU64,
}

impl Proposer for Scripted {
    fn log_time(&self) -> LogTime {
        self.log_time.fetch_add(1, Ordering::Relaxed)
    }

    async fn propose(&self, entry: Bytes) -> Result<(LogIndex, Answer), ProposeFailure> {
        let Command::Append(appends) = command::decode(&entry).unwrap().command else { unreachable!() };
        let (decide, decision) = oneshot::channel();
        self.proposals.send(Proposal { appends, decide }).map_err(|_| ProposeFailure::Fatal)?;
        decision.await.unwrap_or(Err(ProposeFailure::Fatal))
    }
}

/// A batcher and the proposals that it makes.
/// A request under a key on the route of a partition.
fn keyed(key: u128) -> Keyed {
    Keyed { key: IdempotencyKey(key), among: 0, begun: false }
}

struct Bench {
    batcher: Batcher,
    admission: Admission,
    proposals: mpsc::UnboundedReceiver<Proposal>,
}

impl Bench {
    fn new(slots: usize) -> Self {
        Self::with(|options| options.slots = slots)
    }

    fn with(change: impl FnOnce(&mut BatcherOptions)) -> Self {
        let (sender, proposals) = mpsc::unbounded_channel();
        let mut options = BatcherOptions::new(Arc::new(|| Ok(())));
        change(&mut options);
        let scripted = Scripted { proposals: sender, log_time: AtomicU64::new(1) };
        let (batcher, _task) = Batcher::start(Arc::new(scripted), options);
        Self { batcher, admission: Admission::new(1 << 30), proposals }
    }

    /// One record with `value` for `partition`, patient.
    fn one(&self, partition: u32, value: &str) -> Submission {
        self.many(partition, &[value])
    }

    fn many(&self, partition: u32, values: &[&str]) -> Submission {
        let record = |value: &&str| Record { value: Some(Bytes::from((*value).to_owned())), ..Record::default() };
        let records: Vec<Record> = values.iter().map(record).collect();
        let bytes = records.iter().map(|record| batch::max_encoded_len(record) as u64).sum();
        Submission {
            partition: partition_of(partition),
            content: Content::Records(records),
            bytes,
            compression: Compression::None,
            triple: None,
            idempotency: None,
            digest: 0,
            expected_offset: None,
            deadline: Instant::now() + Duration::from_secs(60),
            permit: Arc::new(self.admission.admit(bytes).unwrap()),
        }
    }

    fn submit(&self, submission: Submission) -> Pending {
        self.batcher.submit(submission).unwrap()
    }

    /// The next proposal.
    async fn proposal(&mut self) -> Proposal {
        self.proposals.recv().await.unwrap()
    }

    /// Fills the only slot of a bench with one: what is submitted now waits until the proposal is decided.
    async fn plug(&mut self) -> (Pending, Proposal) {
        let plug = self.submit(self.one(99, "plug"));
        (plug, self.proposal().await)
    }
}

fn partition_of(partition: u32) -> TopicPartition {
    TopicPartition::new(TopicId(Uuid::from_u128(1)), partition)
}

fn triple(id: u64, sequence: u32) -> Option<Triple> {
    Some(Triple { id: ProducerId(id), epoch: 0, sequence })
}

/// Offsets and counts are what tests compare.
fn place(answer: Result<Appended>) -> (Offset, u32) {
    let appended = answer.unwrap();
    (appended.base_offset, appended.count)
}

fn failure(answer: Result<Appended>) -> (&'static str, Outcome) {
    let error = answer.unwrap_err();
    (error.code(), error.outcome())
}
