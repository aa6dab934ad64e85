//! What waits for a proposal slot, in order of arrival; pure.
//!
//! A producer's batches for one partition form a lane. While an entry with batches of a lane is in flight, later ones of
//! that lane wait aside; when it lands they go back to the front, before anything of the lane that arrived later.

use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

use super::{Waiting, timeout};
use crate::error::Outcome;
use crate::model::{ProducerId, TopicPartition};

type Lane = (ProducerId, TopicPartition);

/// Submissions in one entry; bounds the entry's header whatever the records' size.
const MAX_MEMBERS: usize = 8_192;

#[derive(Debug, Default)]
pub(super) struct Queue {
    ready: VecDeque<Waiting>,
    /// Of `ready`.
    bytes: u64,
    /// Lanes in flight, each with the flight's number and what waits for it to land.
    lanes: HashMap<Lane, (u64, VecDeque<Waiting>)>,
}

impl Queue {
    pub(super) fn push(&mut self, waiting: Waiting) {
        self.bytes += waiting.submission.bytes;
        self.ready.push_back(waiting);
    }

    fn push_front(&mut self, waiting: Waiting) {
        self.bytes += waiting.submission.bytes;
        self.ready.push_front(waiting);
    }

    fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.ready.pop_front()?;
        self.bytes -= waiting.submission.bytes;
        Some(waiting)
    }

    /// Submissions that are ready.
    pub(super) fn len(&self) -> usize {
        self.ready.len()
    }

    /// Bytes of those.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether [`Queue::take`] may find something.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes what leaves with `flight`: the oldest, up to `limit` bytes, at least one. Answers what is past its deadline.
    pub(super) fn take(&mut self, flight: u64, limit: u64, now: Instant) -> Vec<Waiting> {
        let mut members = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.ready.front() {
            if members.len() == MAX_MEMBERS || (!members.is_empty() && bytes + next.submission.bytes > limit) {
                break;
            }
            let Some(next) = self.pop() else { break };
            let lane = lane(&next);
            if let Some((_, aside)) =
                lane.and_then(|lane| self.lanes.get_mut(&lane)).filter(|(in_flight, _)| *in_flight != flight)
            {
                aside.push_back(next);
                continue;
            }
            if next.submission.deadline <= now {
                next.answer(Err(timeout(Outcome::NotWritten)));
                continue;
            }
            if !next.ticket.propose() {
                continue;
            }
            if let Some(lane) = lane {
                self.lanes.entry(lane).or_insert_with(|| (flight, VecDeque::new()));
            }
            bytes += next.submission.bytes;
            members.push(next);
        }
        members
    }

    /// Opens the lanes of `members`, whose flight landed.
    pub(super) fn land(&mut self, members: &[Waiting]) {
        for lane in members.iter().filter_map(lane) {
            if let Some((_, aside)) = self.lanes.remove(&lane) {
                aside.into_iter().rev().for_each(|waiting| self.push_front(waiting));
            }
        }
    }

    /// Puts `members` of a flight that landed back to the front, in their order. Call [`Queue::land`] first.
    pub(super) fn requeue(&mut self, members: Vec<Waiting>) {
        members.into_iter().rev().for_each(|waiting| self.push_front(waiting));
    }

    /// Everything that waits, for when nothing can be proposed any more.
    pub(super) fn drain(&mut self) -> Vec<Waiting> {
        let aside = self.lanes.drain().flat_map(|(_, (_, aside))| aside);
        let mut all: Vec<Waiting> = aside.collect();
        all.extend(self.ready.drain(..));
        self.bytes = 0;
        all
    }
}

fn lane(waiting: &Waiting) -> Option<Lane> {
    waiting.submission.triple.map(|triple| (triple.id, waiting.submission.partition))
}
