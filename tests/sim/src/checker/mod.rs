//! Holds a whole history against the promises: pure, so that hand-made histories test it.
//!
//! | module | what it looks at |
//! |---|---|
//! | `sends` | what was acknowledged, refused or sent twice |
//! | `reads` | pages and bounds that readers saw meanwhile |
//! | `ends` | the final scans of two readers, the replicas, the topics |
//!
//! A violation says which [`Invariant`] was broken and how. All are evaluated, whatever was broken before.

mod ends;
mod reads;
mod sends;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::history::{Cut, End, History, Part, PartScan, Record, Stamp};

/// A promise that is held against the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// An acknowledged record is there, at its offset, with its bytes.
    AcknowledgedIsThere,
    /// What was acknowledged with `acks=object` was in the bucket then.
    ObjectIsInTheBucket,
    /// Nothing is read that was not sent, or with other bytes, or in another partition.
    OnlyWhatWasSent,
    /// No record is there twice.
    Once,
    /// What was refused as not written is not there.
    RefusedIsNotThere,
    /// The answers to one request name the same offsets, and no offset is named to two.
    OneOffset,
    /// No producer's sequence is there twice or out of order.
    SequencesAscend,
    /// A request that began after another was acknowledged has the larger offset.
    Order,
    /// A conditional request was written exactly where it demanded.
    Conditional,
    /// Offsets have no gap.
    Dense,
    /// A page has the records from the offset that was asked for, none left out, and all of them committed.
    PagesAreWhole,
    /// What was read once is there in the end, the same.
    ReadsStay,
    /// High watermark and log start never go back, and a read knows of all that was acknowledged before it.
    Monotonic,
    /// Bucket and HTTP have the same records.
    SameEverywhere,
    /// All that the bucket's checkpoint names exists and verifies.
    BucketIsWhole,
    /// Replicas at the same applied index have the same state.
    ReplicasAgree,
    /// Records go only once they are as old as their topic says.
    Retention,
    /// What left the log stays in archive files for as long as its topic says.
    ArchiveRetention,
    /// Topics are there from their creation until their deletion.
    Topics,
    /// Log time is near to the time.
    LogTime,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// How.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How often a promise was held against something.
    pub evaluated: u64,
    /// Broken promises; of each kind at most `MOST_OF_A_KIND`.
    pub violations: Vec<Violation>,
    counts: BTreeMap<Invariant, u64>,
}

/// Violations of one kind that are kept: one bug breaks thousands of records.
const MOST_OF_A_KIND: u64 = 5;

impl Verdict {
    /// Whether all held.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }

    /// Notes whether `invariant` held.
    pub fn expect(&mut self, invariant: Invariant, holds: bool, what: impl FnOnce() -> String) {
        self.evaluated += 1;
        if holds {
            return;
        }
        let count = self.counts.entry(invariant).or_default();
        *count += 1;
        if *count <= MOST_OF_A_KIND {
            self.violations.push(Violation { invariant, what: what() });
        }
    }
}

/// Holds what clients saw against what is there in the end.
#[must_use]
pub fn check(history: &History, end: &End) -> Verdict {
    let known = Known::new(history, end);
    let mut verdict = Verdict::default();
    sends::check(&known, &mut verdict);
    reads::check(&known, &mut verdict);
    ends::check(&known, &mut verdict);
    verdict
}

/// The history and the end, with indexes that all checks use.
struct Known<'a> {
    history: &'a History,
    end: &'a End,
    /// Which send and which of its records has the value.
    sent: HashMap<&'a str, (usize, usize)>,
}

impl<'a> Known<'a> {
    fn new(history: &'a History, end: &'a End) -> Self {
        let sent = history.sends.iter().enumerate().flat_map(|(at, send)| {
            send.records.iter().enumerate().map(move |(place, record)| (record.value.as_str(), (at, place)))
        });
        Self { history, end, sent: sent.collect() }
    }

    /// The first start from the bucket after `stamp` that has lost the place; `None` if it has to be there still.
    fn lost(&self, stamp: Stamp, part: &Part, offset: u64) -> Option<&'a Cut> {
        let later = self.history.cuts.iter().filter(|cut| cut.at > stamp);
        later.into_iter().find(|cut| offset >= cut.kept.get(part).copied().unwrap_or(0))
    }

    /// How many starts from the bucket that may have lost something were before `stamp`.
    fn life(&self, stamp: Stamp) -> usize {
        self.history.cuts.iter().filter(|cut| cut.at <= stamp).count()
    }

    /// Whether the topic was asked to be deleted: then what was in it may be gone.
    fn may_be_deleted(&self, topic: &str) -> bool {
        self.history.topics.get(topic).is_some_and(|topic| topic.deleting.is_some())
    }

    fn part(&self, part: &Part) -> Option<&'a PartScan> {
        self.end.http.parts.get(part)
    }
}

impl PartScan {
    /// The record at `offset`.
    #[must_use]
    pub fn at(&self, offset: u64) -> Option<&Record> {
        let at = self.records.binary_search_by_key(&offset, |(offset, _)| *offset).ok()?;
        self.records.get(at).map(|(_, record)| record)
    }
}

/// A partition as people write it.
fn named(part: &Part) -> String {
    format!("{}/{}", part.0, part.1)
}
