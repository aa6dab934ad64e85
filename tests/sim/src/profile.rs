//! What a run is like: how many nodes, how they are set, who produces what, and which faults are likely.
//!
//! `mixed` is what seeds run by default. For each bug that can be planted there is a profile that brings about what the
//! bug needs to do harm (`aimed`); `src/planted.rs` of the engine says what that is. A profile decides nothing about when:
//! the seed does.

mod aimed;

use std::ops::Range;

use crate::history::Millis;
use crate::plan::Fault;

/// How the nodes are set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Knobs {
    /// Nodes at the beginning.
    pub nodes: u64,
    /// `flush.interval`.
    pub flush: Millis,
    /// `wal.keep`, bytes.
    pub keep: u64,
    /// `gc.grace`; the collector runs four times in it.
    pub grace: Millis,
    /// `gc.list_limit`.
    pub listed: u64,
    /// Whether segments are archived.
    pub archive: bool,
    /// Retention of the second topic.
    pub retention: Option<Millis>,
    /// Of what leaves its log, in the archive.
    pub archive_retention: Option<Millis>,
    /// Of a thousand requests, how many wait for the bucket.
    pub object: u64,
    /// The longest pause of a producer, milliseconds.
    pub rest: u64,
    /// The longest pause of whoever operates, milliseconds.
    pub operate: u64,
    /// Of a thousand answers to clients, how many get lost.
    pub answers_lost: u64,
    /// Of a thousand calls over a link that is cut, how many fail at once. The others wait for their deadline.
    pub refused: u64,
    /// A call to the bucket takes up to so many milliseconds from the beginning on.
    pub bucket_delay: u64,
    /// A PUT takes up to so many milliseconds more until everything heals.
    pub put_delay: u64,
    /// A sync takes so many milliseconds from the beginning on.
    pub sync_delay: u64,
    /// How long a flush or a read may take, and twice as long as a call to the bucket; `None`: the grace period allows it.
    pub deadline: Option<Millis>,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            nodes: 3,
            flush: 1_500,
            keep: 64 << 10,
            grace: 20_000,
            listed: 100_000,
            archive: true,
            retention: Some(15_000),
            archive_retention: None,
            object: 100,
            rest: 80,
            operate: 2_000,
            answers_lost: 10,
            refused: 200,
            bucket_delay: 10,
            put_delay: 0,
            sync_delay: 1,
            deadline: None,
        }
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// How the nodes are set.
    pub knobs: Knobs,
    /// Shards and gateways; `None`: the seed decides.
    pub cluster: Option<(u32, u64)>,
    /// Nothing goes wrong before, milliseconds.
    pub quiet: Millis,
    /// Faults begin until then.
    pub lasts: Millis,
    /// After the last one, until all is healed.
    pub settles: Millis,
    /// Between two faults.
    pub pause: Range<u64>,
    /// After everything was healed, until all is well again at the latest.
    pub converges: Millis,
    /// Kinds of faults, and how likely each is beside the others.
    pub weights: Vec<(&'static str, u64)>,
    /// Instead of those: exactly these, each as likely as the others.
    pub exactly: Vec<Fault>,
    /// What happens in the end, whatever the seed says.
    pub last: Vec<Fault>,
}

/// Every kind with its weight where nothing is aimed at.
const MIXED: &[(&str, u64)] = &[
    ("crash", 12),
    ("crash of all", 4),
    ("kill", 8),
    ("pause", 8),
    ("cut", 14),
    ("loss", 5),
    ("delay", 6),
    ("breaks", 5),
    ("slow sync", 5),
    ("sync error", 3),
    ("full disk", 3),
    ("clock jump", 5),
    ("bucket errors", 6),
    ("bucket slow", 5),
    ("late deletes", 5),
    ("bucket away", 4),
    ("transfer", 6),
    ("drain", 3),
    ("replace", 3),
    ("from the bucket", 1),
    ("restore", 1),
];

impl Profile {
    /// The profile of that name: `mixed`, or a planted bug's.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let mixed = Self {
            name: name.to_owned(),
            knobs: Knobs::default(),
            cluster: None,
            quiet: 3_000,
            lasts: 22_000,
            settles: 1_500,
            pause: 200..2_500,
            converges: 120_000,
            weights: MIXED.to_vec(),
            exactly: Vec::new(),
            last: Vec::new(),
        };
        Some(if name == "mixed" { mixed } else { aimed::profile(mixed, name)? })
    }

    /// Every name that there is.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        let bugs = tidelog::planted::Bug::ALL.iter().map(|bug| bug.name());
        std::iter::once("mixed").chain(bugs).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_has_a_profile_of_its_own() {
        for bug in tidelog::planted::Bug::ALL {
            let profile = Profile::named(bug.name()).unwrap();
            assert!(!profile.exactly.is_empty() || !profile.last.is_empty(), "{}", bug.name());
        }
        assert_eq!(Profile::named("nonsense"), None);
    }
}
