//! The batcher of a shard: joins waiting submissions into Raft entries.
//!
//! Group commit without a timer: with nothing in flight whatever waits leaves at once, so a lone request never waits. Beside
//! entries in flight another leaves, up to the number of proposal slots, once it is as large as the newest of them, so a
//! crowd shares entries of up to 4 MiB instead of splitting into many small ones. Records without producer triple,
//! idempotency key or expected offset that wait for the same partition become one record batch.
//!
//! Invariants:
//! - Entries are proposed in the order in which their submissions arrived, as far as they share a partition. Where they are
//!   forwarded to another node two in flight may change places; a producer's cannot, see below.
//! - A producer has at most one entry in flight for a partition, so a retry cannot overtake its successor.
//! - What is proposed without a known outcome is proposed again only under a triple or a key; everything else is answered
//!   with an unknown outcome. What was certainly not written is proposed again until its deadline.
//! - A caller that goes away changes nothing for others. Memory is bounded by the permits that submissions carry.
//!
//! It checks nothing: submissions were validated, and `apply` decides.

mod flight;
mod queue;
mod task;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use ::metrics::counter;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::admission::Permit;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::metrics::PRODUCE_REFUSED;
use crate::model::{
    Answer, Appended, BatchInfo, Compression, Keyed, LogIndex, LogTime, Offset, Record, TopicPartition, Triple,
};

/// What the batcher needs of Raft.
pub trait Proposer: Send + Sync + 'static {
    /// The log time to stamp on an entry that is proposed now.
    fn log_time(&self) -> LogTime;

    /// Proposes an encoded command; answers once it was applied.
    ///
    /// # Errors
    /// What is known of an entry that was not answered.
    fn propose(&self, entry: Bytes) -> impl Future<Output = Result<(LogIndex, Answer), ProposeFailure>> + Send;
}

/// What is known of a proposal that was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ProposeFailure {
    /// It is not in the log and never will be.
    #[error("the entry was not written")]
    NotWritten,
    /// The leader, another node, takes no appends now: nothing was written, and its callers are answered this.
    #[error("{0}")]
    Refused(Error),
    /// It may be in the log.
    #[error("the entry may have been written")]
    Unknown,
    /// It may be in the log, and this node takes no more.
    #[error("the node stopped")]
    Fatal,
}

/// Whether appends are taken now: the WAL budget and the low-space mark. Control commands do not pass here.
pub type Gate = Arc<dyn Fn() -> Result<()> + Send + Sync>;

/// How a batcher works.
#[derive(Clone)]
pub struct BatcherOptions {
    /// Entries proposed at a time; 2 to 4 keep encoding, sync and apply busy.
    pub slots: usize,
    /// Bytes of an entry, before compression.
    pub entry_bytes: u64,
    /// Bytes up to which records of several requests are merged into one batch: a reader decodes whole batches.
    pub merge_bytes: u64,
    /// Asked at every submission.
    pub gate: Gate,
}

impl BatcherOptions {
    /// The defaults, with `gate`.
    #[must_use]
    pub fn new(gate: Gate) -> Self {
        Self { slots: 4, entry_bytes: 4 << 20, merge_bytes: 1 << 20, gate }
    }
}

impl fmt::Debug for BatcherOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { slots, entry_bytes, merge_bytes, gate: _ } = self;
        f.debug_struct("BatcherOptions")
            .field("slots", slots)
            .field("entry_bytes", entry_bytes)
            .field("merge_bytes", merge_bytes)
            .finish_non_exhaustive()
    }
}

/// What a submission writes.
#[derive(Debug)]
pub enum Content {
    /// Records to encode, at least one.
    Records(Vec<Record>),
    /// A batch that a client encoded and that was checked.
    Encoded(Bytes, BatchInfo),
}

impl Content {
    /// Records in it.
    #[must_use]
    pub fn count(&self) -> u32 {
        match self {
            Self::Records(records) => u32::try_from(records.len()).unwrap_or(u32::MAX),
            Self::Encoded(_, info) => info.count,
        }
    }
}

/// What one request writes to one partition: all of it or nothing.
#[derive(Debug)]
pub struct Submission {
    /// Where to.
    pub partition: TopicPartition,
    /// What.
    pub content: Content,
    /// At most what it takes in an entry.
    pub bytes: u64,
    /// For records that are encoded here.
    pub compression: Compression,
    /// Of an idempotent producer.
    pub triple: Option<Triple>,
    /// Of a request under an `Idempotency-Key`.
    pub idempotency: Option<Keyed>,
    /// Of the whole request.
    pub digest: u128,
    /// `Expected-Offset`.
    pub expected_offset: Option<Offset>,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// Shared by the submissions of a request.
    pub permit: Arc<Permit>,
}

impl Submission {
    /// Whether it may be proposed again after an unknown outcome: `apply` recognises it.
    fn repeatable(&self) -> bool {
        self.triple.is_some() || self.idempotency.is_some()
    }

    /// Whether it may share a batch with others.
    fn mergeable(&self) -> bool {
        matches!(self.content, Content::Records(_)) && !self.repeatable() && self.expected_offset.is_none()
    }
}

/// A cheap handle to a shard's batcher. The task ends once every handle is dropped and all was answered.
#[derive(Clone, Debug)]
pub struct Batcher {
    inbox: mpsc::UnboundedSender<Waiting>,
    options: BatcherOptions,
}

impl Batcher {
    /// Starts the batcher of a shard. A panic of the task is for the caller to notice.
    #[must_use]
    pub fn start<P: Proposer>(proposer: Arc<P>, options: BatcherOptions) -> (Self, JoinHandle<()>) {
        // Not bounded by count: what is sent here carries a permit of the byte budget.
        let (inbox, receiver) = mpsc::unbounded_channel();
        let task = tokio::spawn(task::Task::new(proposer, options.clone(), receiver).run());
        (Self { inbox, options }, task)
    }

    /// Queues `submission`; the answer comes through what is returned, which may be dropped (`acks=none`).
    ///
    /// # Errors
    /// What the gate says, or `unavailable` once the batcher stopped. Nothing was written.
    pub fn submit(&self, submission: Submission) -> Result<Pending> {
        (self.options.gate)().inspect_err(|_| counter!(PRODUCE_REFUSED, "reason" => "gate").increment(1))?;
        let (answer, receiver) = oneshot::channel();
        let ticket = Arc::new(Ticket::default());
        let pending = Pending { answer: receiver, ticket: Arc::clone(&ticket), deadline: submission.deadline };
        let waiting = Waiting { submission, ticket, answer, maybe_written: false };
        self.inbox.send(waiting).map_err(|_| stopped(Outcome::NotWritten))?;
        Ok(pending)
    }
}

/// The answer to a submission, to come.
#[derive(Debug)]
#[must_use = "dropping it writes the records without telling anybody"]
pub struct Pending {
    answer: oneshot::Receiver<Result<Appended>>,
    ticket: Arc<Ticket>,
    deadline: Instant,
}

impl Pending {
    /// Waits for the answer, until the submission's deadline. Dropping the future leaves the submission where it is.
    ///
    /// # Errors
    /// What `apply` declined; `timeout`, not written if it was never proposed and unknown otherwise; `unavailable` with
    /// either outcome if the node stopped.
    pub async fn wait(mut self) -> Result<Appended> {
        match timeout_at(self.deadline, &mut self.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(stopped(self.ticket.abandon())),
            Err(_) => match self.ticket.abandon() {
                Outcome::NotWritten => Err(timeout(Outcome::NotWritten)),
                // The answer may have come between the alarm and here.
                outcome => self.answer.try_recv().unwrap_or_else(|_| Err(timeout(outcome))),
            },
        }
    }
}

fn timeout(outcome: Outcome) -> Error {
    let message = match outcome {
        Outcome::NotWritten => "the records were not written within the timeout",
        _ => "the records were proposed and not confirmed within the timeout",
    };
    Error::new(ErrorKind::Unavailable, "timeout", message).with_outcome(outcome)
}

fn stopped(outcome: Outcome) -> Error {
    Error::unavailable("the shard stopped").with_outcome(outcome)
}

/// A submission in the batcher's hands.
#[derive(Debug)]
struct Waiting {
    submission: Submission,
    ticket: Arc<Ticket>,
    answer: oneshot::Sender<Result<Appended>>,
    /// An earlier proposal of it has an unknown outcome.
    maybe_written: bool,
}

impl Waiting {
    /// Answers; the caller may be gone.
    fn answer(self, answer: Result<Appended>) {
        let answer = answer.map_err(|error| match error.outcome() {
            // This proposal did not write it, an earlier one may have.
            Outcome::NotWritten if self.maybe_written => error.with_outcome(Outcome::Unknown),
            _ => error,
        });
        let _ = self.answer.send(answer);
    }
}

/// Who has a submission: its caller, who may still take it back, or Raft. Decides between them without a lock.
#[derive(Debug, Default)]
struct Ticket(AtomicU8);

const QUEUED: u8 = 0;
const PROPOSED: u8 = 1;
const ABANDONED: u8 = 2;

impl Ticket {
    /// Takes it for a proposal; `false` if the caller took it back.
    fn propose(&self) -> bool {
        let taken = self.0.compare_exchange(QUEUED, PROPOSED, Ordering::AcqRel, Ordering::Acquire);
        taken != Err(ABANDONED)
    }

    /// The proposal was certainly not written: the caller may take it back again.
    fn requeue(&self) {
        self.0.store(QUEUED, Ordering::Release);
    }

    /// The caller takes it back; the answer is what may have been written.
    fn abandon(&self) -> Outcome {
        match self.0.compare_exchange(QUEUED, ABANDONED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Outcome::NotWritten,
            Err(_) => Outcome::Unknown,
        }
    }
}
