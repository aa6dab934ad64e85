//! What happened, in order: its hash tells two runs apart, and a run may print it.
//!
//! Everything that the seed could have decided otherwise is noted: messages, calls to the bucket, requests and their answers,
//! faults. Two runs of a seed have the same hash, or something in them is not the seed's.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh3::Xxh3;

use crate::history::Millis;

/// The trace of a run; clones share it.
#[derive(Clone, Default)]
pub struct Trace(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    now: Millis,
    hash: Xxh3,
    events: u64,
    counts: BTreeMap<&'static str, u64>,
    print: bool,
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace").finish_non_exhaustive()
    }
}

impl Trace {
    /// An empty one; `print` has every event printed.
    #[must_use]
    pub fn new(print: bool) -> Self {
        let trace = Self::default();
        trace.lock().print = print;
        trace
    }

    /// The time is now this.
    pub fn at(&self, now: Millis) {
        self.lock().now = now;
    }

    /// Milliseconds since the simulation began.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.lock().now
    }

    /// Something happened.
    pub fn note(&self, kind: &'static str, what: impl Display) {
        let mut inner = self.lock();
        let line = format!("{:>7} {kind} {what}", inner.now);
        inner.hash.update(line.as_bytes());
        inner.events += 1;
        if inner.print {
            eprintln!("{line}");
        }
    }

    /// As [`Trace::note`], of something that the report counts by its kind.
    pub fn count(&self, kind: &'static str, what: impl Display) {
        *self.lock().counts.entry(kind).or_default() += 1;
        self.note(kind, what);
    }

    /// What was counted.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.lock().counts.clone()
    }

    /// Hash of all that happened.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.lock().hash.digest()
    }

    /// How much happened.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.lock().events
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_when_and_in_which_order_is_in_the_hash() {
        let of = |events: &[(Millis, &str)]| {
            let trace = Trace::new(false);
            for (at, what) in events {
                trace.at(*at);
                trace.count("fault", what);
            }
            assert_eq!(trace.events(), events.len() as u64);
            trace.hash()
        };
        assert_eq!(of(&[(1, "a"), (2, "b")]), of(&[(1, "a"), (2, "b")]));
        for other in [&[(1, "a"), (1, "b")][..], &[(2, "b"), (2, "a")], &[(1, "a")]] {
            assert_ne!(of(&[(1, "a"), (2, "b")]), of(other));
        }
    }
}
