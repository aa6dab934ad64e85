//! Bugs that are planted to prove that the simulation finds them. Nothing of this is in a product: without the feature
//! `planted-bugs` [`is`] is a constant `false` and the wrong branch is not compiled into anything.
//!
//! Each bug is made where a tired engineer would really make it, and by as little code as possible. One is planted at a
//! time and for one thread (`plant`), so that simulations beside each other do not see it. What a bug needs before
//! it does harm is said beside it: the simulation chooses its faults by that.

macro_rules! bugs {
    ($($(#[$doc:meta])* $bug:ident = $name:literal,)*) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Bug {
            $($(#[$doc])* $bug,)*
        }

        impl Bug {
            /// Every bug there is.
            pub const ALL: &[Self] = &[$(Self::$bug,)*];

            /// Its name on a command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$bug => $name,)*
                }
            }

            /// The bug of that name.
            #[must_use]
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|bug| bug.name() == name)
            }
        }
    };
}

bugs! {
    /// The log answers an append once it was written, without waiting for its sync. Harm: all nodes of a majority crash.
    AckBeforeSync = "ack-before-sync",
    /// A leader counts a follower that does not answer as one that has the entries. Harm: a leader that is cut off.
    AckOnOneOfThree = "ack-on-one-of-three",
    /// A state restored from a checkpoint has no producers. Harm: a retry under a triple after a restart or an install.
    SkipProducersOnRestore = "skip-producers-on-restore",
    /// The log is purged up to what was applied instead of up to the checkpoint. Harm: a restart before the next flush.
    PurgePastCheckpoint = "purge-past-checkpoint",
    /// `apply` takes a `Flushed` without comparing what it builds on. Harm: a proposal that is not answered for longer than a
    /// flush may take, so that the flush is made anew and both are applied. The guard behind it, that what was
    /// flushed of a partition fits it, is out too.
    StaleFlushAccepted = "stale-flush-accepted",
    /// The answer's offsets are what they would have been when the entry was proposed. Harm: entries in flight beside each
    /// other.
    OffsetAtPropose = "offset-at-propose",
    /// `apply` stamps batches with the node's wall clock. Harm: any two nodes; equal state hashes break.
    WallClockInApply = "wall-clock-in-apply",
    /// A linearizable read does not ask a quorum whether this node still leads. Harm: a leader that is cut off.
    StaleLeaderRead = "stale-leader-read",
    /// The collector does not look whether the state names a segment. Harm: a segment that is older than the grace period.
    CollectNamed = "collect-named",
    /// An `Archived` that is applied leaves out the last range of each partition. Harm: any archive job.
    ArchiveDropsRange = "archive-drops-range",
    /// After the install of a checkpoint the references of the tail that was there stay. Harm: a follower away for longer
    /// than `wal.keep`.
    InstallKeepsTail = "install-keeps-tail",
    /// A frame of the log that fails its checksum is taken as it is. Harm: a crash within a write.
    TornTailAccepted = "torn-tail-accepted",
    /// A `Flushed` is not held against what was condemned. Harm: a flush that takes longer than the grace period, objects that
    /// were collected meanwhile.
    LateFlushAfterCollection = "late-flush-after-collection",
    /// A start from the bucket takes any checkpoint for the one of a closed cluster. Harm: the bucket alone, not closed.
    StaleCleanCheckpoint = "stale-clean-checkpoint",
    /// An entry that was discarded (unknown outcome) is taken for one that was only forwarded, and is proposed again
    /// without a triple. Harm: a leader that loses its leadership while entries are in flight, and is sent a checkpoint that has
    /// them (those that are truncated were not written).
    DiscardedIsForwarded = "discarded-is-forwarded",
    /// A retry that `apply` knows is answered `object` although the first copy is not flushed yet. Harm: a retry under a
    /// triple, then the loss of everything but the bucket.
    ObjectForUnflushedDuplicate = "object-for-unflushed-duplicate",
    /// Log time follows the leader's wall clock without asking the others. Harm: a leader whose clock is a year ahead.
    ClockYearAhead = "clock-year-ahead",
    /// The log is purged although the checkpoint and the pointer to it were not kept on the local disk. Harm: a restart after
    /// a flush.
    PurgeWithoutKeep = "purge-without-keep",
    /// A trim applied between the cut of a flush and its `Flushed` is undone by the `Flushed`. Harm: retention during a flush.
    /// There is a second guard, retention leaves the tail alone, which is not there either with this bug.
    TrimDuringFlushForgotten = "trim-during-flush-forgotten",
    /// Retention raises the archive start with the log start, whatever the topic says. Harm: a topic whose archive is to outlive
    /// its log.
    ArchiveGoesWithLog = "archive-goes-with-log",
}

/// Whether that bug is planted in this thread.
#[cfg(not(feature = "planted-bugs"))]
#[must_use]
#[inline]
pub const fn is(_bug: Bug) -> bool {
    false
}

/// Whether that bug is planted in this thread.
#[cfg(feature = "planted-bugs")]
#[must_use]
pub fn is(bug: Bug) -> bool {
    PLANTED.with(std::cell::Cell::get) == Some(bug)
}

/// Plants a bug in this thread, or removes the one that is there.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.with(|planted| planted.set(bug));
}

#[cfg(feature = "planted-bugs")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
mod tests {
    use super::Bug;

    #[test]
    fn every_name_is_of_one_bug() {
        assert_eq!(Bug::ALL.len(), 20);
        for bug in Bug::ALL {
            assert_eq!(Bug::named(bug.name()), Some(*bug));
        }
    }

    #[test]
    #[cfg(not(feature = "planted-bugs"))]
    fn nothing_is_planted_without_the_feature() {
        const { assert!(!super::is(Bug::AckBeforeSync)) };
    }
}
