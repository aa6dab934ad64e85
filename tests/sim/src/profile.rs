//! What a run is like: how many nodes, how they are set, who produces what, and which faults are likely.
//!
//! `mixed` is what seeds run by default. For each bug that can be planted there is a profile that brings about what the
//! bug needs to do harm; `src/planted.rs` of the engine says what that is. A profile decides nothing about when: the seed does.

use std::ops::Range;

use crate::history::Millis;
use crate::plan::{Fault, Who};

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
    /// Whether segments are archived.
    pub archive: bool,
    /// Retention of the second topic.
    pub retention: Option<Millis>,
    /// Of a thousand requests, how many wait for the bucket.
    pub object: u64,
    /// The longest pause of a producer, milliseconds.
    pub rest: u64,
    /// The longest pause of whoever operates, milliseconds.
    pub operate: u64,
    /// Of a thousand answers to clients, how many get lost.
    pub answers_lost: u64,
    /// A call to the bucket takes up to so many milliseconds from the beginning on.
    pub bucket_delay: u64,
    /// A sync takes so many milliseconds from the beginning on.
    pub sync_delay: u64,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            nodes: 3,
            flush: 1_500,
            keep: 64 << 10,
            grace: 20_000,
            archive: true,
            retention: Some(15_000),
            object: 100,
            rest: 80,
            operate: 2_000,
            answers_lost: 10,
            bucket_delay: 10,
            sync_delay: 1,
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
    /// Nothing goes wrong before, milliseconds.
    pub quiet: Millis,
    /// Faults begin until then.
    pub lasts: Millis,
    /// After the last one, until all is healed.
    pub settles: Millis,
    /// Between two faults.
    pub pause: Range<u64>,
    /// Kinds of faults, and how likely each is beside the others.
    pub weights: Vec<(&'static str, u64)>,
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
            quiet: 3_000,
            lasts: 22_000,
            settles: 1_500,
            pause: 200..2_500,
            weights: MIXED.to_vec(),
            last: Vec::new(),
        };
        Some(if name == "mixed" { mixed } else { aimed(mixed, name)? })
    }

    /// Every name that there is.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        let bugs = tidelog::planted::Bug::ALL.iter().map(|bug| bug.name());
        std::iter::once("mixed").chain(bugs).collect()
    }

    fn of(mut self, weights: &[(&'static str, u64)]) -> Self {
        self.weights = weights.to_vec();
        self
    }

    fn set(mut self, set: impl FnOnce(&mut Self)) -> Self {
        set(&mut self);
        self
    }
}

/// The mixed profile aimed at a bug.
fn aimed(mixed: Profile, name: &str) -> Option<Profile> {
    Some(match name {
        "ack-before-sync" => mixed.of(&[("crash of all", 4), ("crash", 1)]).set(|profile| {
            profile.knobs.sync_delay = 15;
        }),
        "ack-on-one-of-three" => mixed.of(&[("cut", 6), ("crash", 4), ("pause", 2)]),
        "skip-producers-on-restore" => mixed.of(&[("crash", 3), ("crash of all", 3), ("kill", 2)]).set(|profile| {
            profile.knobs.flush = 500;
            profile.knobs.answers_lost = 150;
        }),
        "purge-past-checkpoint" => mixed.of(&[("crash of all", 3), ("crash", 3), ("kill", 3)]).set(|profile| {
            profile.knobs.keep = 0;
            profile.knobs.flush = 1_000;
        }),
        "stale-flush-accepted" => mixed.of(&[("transfer", 8), ("pause", 3), ("bucket slow", 3)]).set(|profile| {
            profile.knobs.flush = 300;
            profile.knobs.bucket_delay = 400;
            profile.pause = 100..900;
        }),
        "offset-at-propose" => mixed.of(&[("delay", 3), ("transfer", 1)]).set(|profile| profile.knobs.rest = 15),
        "wall-clock-in-apply" => mixed.of(&[("clock jump", 3), ("transfer", 1)]),
        "stale-leader-read" => mixed.of(&[("cut", 8), ("pause", 2)]).set(|profile| profile.knobs.rest = 30),
        "collect-named" => mixed.of(&[("transfer", 1), ("kill", 1)]).set(|profile| {
            profile.knobs.grace = 2_000;
            profile.knobs.flush = 500;
            profile.knobs.archive = false;
        }),
        "archive-drops-range" => mixed.of(&[("transfer", 1), ("kill", 1)]).set(|profile| profile.knobs.operate = 300),
        "install-keeps-tail" => mixed.of(&[("pause", 5), ("crash", 3), ("cut", 2)]).set(|profile| {
            profile.knobs.keep = 0;
            profile.knobs.flush = 300;
        }),
        "torn-tail-accepted" => mixed.of(&[("crash", 5), ("crash of all", 2)]).set(|profile| {
            profile.knobs.sync_delay = 20;
            profile.pause = 200..1_200;
        }),
        "late-flush-after-collection" => {
            mixed.of(&[("bucket slow", 3), ("pause", 3), ("transfer", 4)]).set(|profile| {
                profile.knobs.grace = 1_000;
                profile.knobs.flush = 400;
                profile.knobs.bucket_delay = 1_500;
            })
        }
        "stale-clean-checkpoint" => mixed.of(&[("kill", 1)]).set(|profile| profile.last = vec![Fault::Restore]),
        "discarded-is-forwarded" => mixed.of(&[("cut", 6), ("pause", 4), ("transfer", 2)]).set(|profile| {
            profile.knobs.rest = 20;
        }),
        "object-for-unflushed-duplicate" => {
            mixed.of(&[("bucket slow", 3), ("bucket away", 2), ("kill", 1)]).set(|profile| {
                profile.knobs.object = 700;
                profile.knobs.answers_lost = 300;
                profile.knobs.bucket_delay = 300;
            })
        }
        "clock-year-ahead" => mixed.of(&[("kill", 1), ("transfer", 2)]).set(|profile| {
            profile.last = vec![Fault::ClockJump(Who::Leader, 365 * 86_400_000)];
            profile.settles = 6_000;
        }),
        "purge-without-keep" => mixed.of(&[("crash of all", 3), ("crash", 5)]).set(|profile| {
            profile.knobs.keep = 0;
            profile.knobs.flush = 150;
            profile.knobs.sync_delay = 10;
            profile.pause = 200..1_000;
        }),
        "trim-during-flush-forgotten" => mixed.of(&[("bucket slow", 3), ("transfer", 1), ("kill", 1)]).set(|profile| {
            profile.knobs.retention = Some(2_000);
            profile.knobs.flush = 500;
            profile.knobs.bucket_delay = 600;
        }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_has_a_profile_of_its_own() {
        for bug in tidelog::planted::Bug::ALL {
            let profile = Profile::named(bug.name()).unwrap();
            assert_ne!(profile.weights, MIXED, "{}", bug.name());
            assert!(profile.weights.iter().all(|(kind, _)| MIXED.iter().any(|(known, _)| known == kind)));
        }
        assert_eq!(Profile::named("nonsense"), None);
    }
}
