//! The task of a batcher: owns the queue and the slots.
//!
//! Small entries are encoded here (less than half a millisecond), larger ones on threads that may block, several at a
//! time; they enter Raft in order as far as they share a partition.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ::metrics::{counter, histogram};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::flight::Flight;
use super::queue::Queue;
use super::{BatcherOptions, ProposeFailure, Proposer, Waiting, stopped};
use crate::error::{Error, Outcome, Result};
use crate::metrics::{PRODUCE_PROPOSAL_SECONDS, PRODUCE_PROPOSALS, PRODUCE_REFUSED};
use crate::model::{Answer, LogIndex};

/// Entries up to this are encoded on the task itself.
const INLINE_BYTES: u64 = 32 << 10;
/// Pause after a proposal that was certainly not written; doubled up to the second, by which the answers after a change of
/// leaders are late at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(50));
/// Bytes that are worth an entry of their own whatever is in flight: from here on it is bytes that cost, not entries.
const WORTH_AN_ENTRY: u64 = 64 << 10;
/// Submissions taken from the inbox between two looks at the slots.
const INBOX_RUN: usize = 1_024;

type Proposed = Result<(LogIndex, Answer), ProposeFailure>;
type Flying = Pin<Box<dyn Future<Output = (Flight, Proposed)> + Send>>;

/// A flight that is not in Raft yet; its entry, once that is encoded.
struct Boarding {
    flight: Arc<Flight>,
    entry: Option<Bytes>,
}

pub(super) struct Task<P> {
    proposer: Arc<P>,
    options: BatcherOptions,
    inbox: mpsc::UnboundedReceiver<Waiting>,
    /// Whether a handle is left.
    open: bool,
    queue: Queue,
    next_flight: u64,
    /// Members of the newest flight.
    newest: usize,
    encoding: FuturesUnordered<JoinHandle<(u64, Result<Bytes>)>>,
    /// By number: flights that are being encoded or wait for an earlier one.
    boarding: BTreeMap<u64, Boarding>,
    flying: FuturesUnordered<Flying>,
    backoff: Duration,
    paused_until: Option<Instant>,
    /// Raft stopped: nothing is proposed any more.
    dead: bool,
}

impl<P: Proposer> Task<P> {
    pub(super) fn new(proposer: Arc<P>, options: BatcherOptions, inbox: mpsc::UnboundedReceiver<Waiting>) -> Self {
        Self {
            proposer,
            options,
            inbox,
            open: true,
            queue: Queue::default(),
            next_flight: 0,
            newest: 0,
            encoding: FuturesUnordered::new(),
            boarding: BTreeMap::new(),
            flying: FuturesUnordered::new(),
            backoff: BACKOFF.0,
            paused_until: None,
            dead: false,
        }
    }

    /// Runs until every handle is gone and all was answered.
    pub(super) async fn run(mut self) {
        loop {
            self.fill_slots();
            let idle = self.in_flight() == 0;
            // With all slots taken what arrives stays in the inbox: there is nothing to do about it until one lands.
            let takes = self.open && (self.dead || self.in_flight() < self.options.slots);
            let wake = self.paused_until.filter(|_| self.queue.is_ready());
            if !self.open && idle && !self.queue.is_ready() {
                return;
            }
            tokio::select! {
                biased;
                waiting = self.inbox.recv(), if takes => self.receive(waiting),
                Some(encoded) = self.encoding.next(), if !self.encoding.is_empty() => self.encoded(encoded),
                Some((flight, proposed)) = self.flying.next(), if !self.flying.is_empty() => self.landed(flight, proposed),
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => self.paused_until = None,
            }
        }
    }

    fn receive(&mut self, waiting: Option<Waiting>) {
        let Some(waiting) = waiting else {
            self.open = false;
            return;
        };
        self.queue.push(waiting);
        for _ in 0..INBOX_RUN {
            let Ok(waiting) = self.inbox.try_recv() else { break };
            self.queue.push(waiting);
        }
    }

    fn in_flight(&self) -> usize {
        self.boarding.len() + self.flying.len()
    }

    /// Whether what waits is enough for an entry: anything if nothing is in flight, else as much as the newest flight has.
    /// An entry of a few small records costs as much as one of many (a sync, and its way through Raft), and a crowd that is
    /// split over more entries than it needs waits for the processor instead of the disk.
    fn is_enough(&self) -> bool {
        self.in_flight() == 0 || self.queue.len() >= self.newest || self.queue.bytes() >= WORTH_AN_ENTRY
    }

    /// Group commit: a free slot takes all that waits, up to the size of an entry.
    fn fill_slots(&mut self) {
        if self.dead {
            self.queue.drain().into_iter().for_each(|waiting| waiting.answer(Err(stopped(Outcome::NotWritten))));
            return;
        }
        while self.paused_until.is_none()
            && self.queue.is_ready()
            && self.in_flight() < self.options.slots
            && self.is_enough()
        {
            let members = self.queue.take(self.next_flight, self.options.entry_bytes, Instant::now());
            if !members.is_empty() {
                self.newest = members.len();
                self.board(Flight::plan(self.next_flight, members, self.options.merge_bytes));
                self.next_flight += 1;
            }
        }
        self.depart();
    }

    fn board(&mut self, flight: Flight) {
        let number = flight.number;
        let log_time = self.proposer.log_time();
        if flight.bytes() <= INLINE_BYTES {
            let entry = flight.encode(log_time);
            self.boarding.insert(number, Boarding { flight: Arc::new(flight), entry: None });
            self.encoded(Ok((number, entry)));
            return;
        }
        let flight = Arc::new(flight);
        let away = Arc::clone(&flight);
        self.boarding.insert(number, Boarding { flight, entry: None });
        self.encoding.push(crate::blocking::spawn(move || {
            let entry = away.encode(log_time);
            // Before the answer is seen: the task takes the flight apart.
            drop(away);
            (number, entry)
        }));
    }

    fn encoded(&mut self, encoded: Result<(u64, Result<Bytes>), tokio::task::JoinError>) {
        let (number, entry) = match encoded {
            Ok(encoded) => encoded,
            // A defect in the encoder: the process ends as for any other panic of a task.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime shuts down; the answers' channels close with this task.
            Err(_) => return,
        };
        match entry {
            Ok(entry) if !self.dead => {
                if let Some(boarding) = self.boarding.get_mut(&number) {
                    boarding.entry = Some(entry);
                }
            }
            Ok(_) => self.refuse(number, || stopped(Outcome::NotWritten)),
            Err(error) => {
                tracing::error!(%error, "an entry could not be encoded");
                self.refuse(number, || Error::internal("the records could not be encoded"));
            }
        }
    }

    /// Proposes what is encoded and has no earlier flight to a partition of its own before it.
    fn depart(&mut self) {
        let mut staying: Vec<Arc<Flight>> = Vec::new();
        let mut leaving = Vec::new();
        for (number, boarding) in &self.boarding {
            if boarding.entry.is_some() && !staying.iter().any(|earlier| earlier.meets(&boarding.flight)) {
                leaving.push(*number);
            } else {
                staying.push(Arc::clone(&boarding.flight));
            }
        }
        drop(staying);
        for number in leaving {
            let Some(Boarding { flight, entry: Some(entry) }) = self.boarding.remove(&number) else { continue };
            let flight = unshare(flight);
            let proposer = Arc::clone(&self.proposer);
            // Nobody waits for longer; a proposal that hangs must not keep its slot.
            let deadline = flight.members.iter().map(|member| member.submission.deadline).max();
            self.flying.push(Box::pin(async move {
                flight.count(entry.len());
                let begun = Instant::now();
                let proposal = timeout_at(deadline.unwrap_or(begun), proposer.propose(entry));
                let proposed = proposal.await.unwrap_or(Err(ProposeFailure::Unknown));
                histogram!(PRODUCE_PROPOSAL_SECONDS).record(begun.elapsed());
                (flight, proposed)
            }));
        }
    }

    fn landed(&mut self, flight: Flight, proposed: Proposed) {
        self.queue.land(&flight.members);
        counter!(PRODUCE_PROPOSALS, "outcome" => outcome(&proposed)).increment(1);
        match proposed {
            Ok((_, answer)) => {
                self.backoff = BACKOFF.0;
                flight.answer(answer);
            }
            Err(ProposeFailure::NotWritten) => {
                let members = flight.into_members();
                members.iter().filter(|member| !member.maybe_written).for_each(|member| member.ticket.requeue());
                self.queue.requeue(members);
                self.pause();
            }
            Err(ProposeFailure::Refused(error)) => {
                counter!(PRODUCE_REFUSED, "reason" => "gate").increment(flight.members.len() as u64);
                flight.into_members().into_iter().for_each(|member| member.answer(Err(error.again())));
            }
            Err(ProposeFailure::Unknown) => {
                let (mut again, lost): (Vec<Waiting>, Vec<Waiting>) =
                    flight.into_members().into_iter().partition(|member| member.submission.repeatable());
                lost.into_iter().for_each(|member| member.answer(Err(unconfirmed())));
                again.iter_mut().for_each(|member| member.maybe_written = true);
                self.queue.requeue(again);
                self.pause();
            }
            Err(ProposeFailure::Fatal) => {
                flight.into_members().into_iter().for_each(|member| member.answer(Err(stopped(Outcome::Unknown))));
                self.die();
            }
        }
    }

    /// Waits before the next proposal, longer each time, with jitter so that nodes do not retry in step.
    fn pause(&mut self) {
        let jitter = 0.5 + rand::random::<f64>() / 2.0;
        self.paused_until = Some(Instant::now() + self.backoff.mul_f64(jitter));
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
    }

    fn die(&mut self) {
        self.dead = true;
        let encoded: Vec<u64> =
            self.boarding.iter().filter(|(_, boarding)| boarding.entry.is_some()).map(|(number, _)| *number).collect();
        encoded.into_iter().for_each(|number| self.refuse(number, || stopped(Outcome::NotWritten)));
    }

    /// Answers a flight that never was proposed.
    fn refuse(&mut self, number: u64, error: impl Fn() -> Error) {
        let Some(Boarding { flight, .. }) = self.boarding.remove(&number) else { return };
        let flight = unshare(flight);
        self.queue.land(&flight.members);
        flight.into_members().into_iter().for_each(|member| member.answer(Err(error())));
    }
}

/// The flight itself, once its encoder gave back its share.
fn unshare(flight: Arc<Flight>) -> Flight {
    let Some(flight) = Arc::into_inner(flight) else { unreachable!("the encoder is done and gave back its share") };
    flight
}

/// As metrics name it.
fn outcome(proposed: &Proposed) -> &'static str {
    match proposed {
        Ok(_) => "applied",
        Err(ProposeFailure::NotWritten) => "not_written",
        Err(ProposeFailure::Refused(_)) => "refused",
        Err(ProposeFailure::Unknown) => "unknown",
        Err(ProposeFailure::Fatal) => "fatal",
    }
}

fn unconfirmed() -> Error {
    Error::unavailable("the records were proposed and not confirmed").with_outcome(Outcome::Unknown)
}
