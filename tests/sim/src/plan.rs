//! What goes wrong, and when: decided from a seed and a profile before anything runs.
//!
//! A plan names nodes by what they are at that moment (the leader, a follower), since nobody knows now who will lead. Faults
//! that last are begun and ended by themselves; at the end of the plan everything is healed whatever it says.

use crate::history::Millis;
use crate::profile::Profile;
use crate::random::Rng;

/// A node, chosen when the fault begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Whoever leads shard 0; a follower's place if nobody does.
    Leader,
    /// Whoever leads the shard at this place of all, around; a follower's place if nobody does.
    LeaderOf(u64),
    /// One that does not lead shard 0, counted from this number.
    Follower(u64),
    /// Any, pure gateways too, counted from this number.
    Any(u64),
}

/// What links are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// All from and to the node.
    Isolated(Who),
    /// All from the node: it hears and is not heard.
    Mute(Who),
    /// All to the node: it is heard and does not hear.
    Deaf(Who),
    /// Those between the node and another one.
    Link(Who, Who),
    /// The nodes fall into two halves by the bits of this number.
    Halves(u64),
    /// All of them.
    All,
}

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The node's machine loses its power and starts again after so many milliseconds.
    Crash(Who, Millis),
    /// All machines do.
    CrashAll(Millis),
    /// The process ends and starts again; the machine stays.
    Kill(Who, Millis),
    /// The process is stopped for so long and goes on.
    Pause(Who, Millis),
    /// Links are cut for so long.
    Cut(Shape, Millis),
    /// Messages are lost: of a thousand so many, for so long.
    Loss(u64, Millis),
    /// Messages take up to so many milliseconds, and overtake each other, for so long.
    Delay(u64, Millis),
    /// Calls break after they were sent: of a thousand so many, for so long.
    Breaks(u64, Millis),
    /// A sync takes so many milliseconds, for so long.
    SlowSync(Who, u64, Millis),
    /// The next syncs fail.
    SyncError(Who),
    /// The disk has room for so many more bytes, for so long.
    FullDisk(Who, u64, Millis),
    /// The wall clock jumps by so many milliseconds.
    ClockJump(Who, i64),
    /// Calls to the bucket fail: of a thousand so many before, so many after they were done, for so long.
    BucketErrors(u64, u64, Millis),
    /// A call to the bucket takes up to so many milliseconds, for so long.
    BucketSlow(u64, Millis),
    /// What is deleted from the bucket goes up to so many milliseconds later, for so long.
    LateDeletes(u64, Millis),
    /// The bucket does not answer for so long.
    BucketAway(Millis),
    /// An operator has another node lead all shards, or each the one that is furthest.
    Transfer,
    /// An operator takes a node out, wipes its disk and takes in another in its place.
    Replace(Who),
    /// An operator has a node give its leadership away and end, and starts it again.
    Drain(Who, Millis),
    /// An operator closes the cluster; all disks are lost; it is started from the bucket.
    FromBucket,
    /// All disks are lost without a close; an operator starts from the bucket and knows that something is gone.
    Restore,
}

impl Fault {
    /// Its kind, for the report.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Crash(..) => "crash",
            Self::CrashAll(_) => "crash of all",
            Self::Kill(..) => "kill",
            Self::Pause(..) => "pause",
            Self::Cut(..) => "cut",
            Self::Loss(..) => "loss",
            Self::Delay(..) => "delay",
            Self::Breaks(..) => "breaks",
            Self::SlowSync(..) => "slow sync",
            Self::SyncError(_) => "sync error",
            Self::FullDisk(..) => "full disk",
            Self::ClockJump(..) => "clock jump",
            Self::BucketErrors(..) => "bucket errors",
            Self::BucketSlow(..) => "bucket slow",
            Self::LateDeletes(..) => "late deletes",
            Self::BucketAway(_) => "bucket away",
            Self::Transfer => "transfer",
            Self::Replace(_) => "replace",
            Self::Drain(..) => "drain",
            Self::FromBucket => "from the bucket",
            Self::Restore => "restore",
        }
    }
}

/// When what goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In order.
    pub faults: Vec<(Millis, Fault)>,
    /// When everything heals.
    pub heals_at: Millis,
}

impl Plan {
    /// The plan of a seed's generator.
    #[must_use]
    pub fn new(rng: &mut Rng, profile: &Profile) -> Self {
        let mut faults = Vec::new();
        let mut at = profile.quiet;
        while at < profile.lasts {
            let exactly = (!profile.exactly.is_empty()).then(|| *rng.pick(&profile.exactly));
            faults.push((at, exactly.unwrap_or_else(|| fault(rng, profile))));
            at += rng.within(profile.pause.clone());
        }
        for last in &profile.last {
            faults.push((profile.lasts, *last));
        }
        Self { faults, heals_at: profile.lasts + profile.settles }
    }
}

fn who(rng: &mut Rng) -> Who {
    match rng.below(4) {
        0 | 1 => Who::LeaderOf(rng.below(8)),
        2 => Who::Follower(rng.below(8)),
        _ => Who::Any(rng.below(8)),
    }
}

/// One with a log, a leader as often as another one.
fn member(rng: &mut Rng) -> Who {
    if rng.chance(500) { Who::LeaderOf(rng.below(8)) } else { Who::Follower(rng.below(8)) }
}

fn shape(rng: &mut Rng) -> Shape {
    match rng.below(8) {
        0..=2 => Shape::Isolated(who(rng)),
        3 => Shape::Mute(who(rng)),
        4 => Shape::Deaf(who(rng)),
        5 => Shape::Link(who(rng), who(rng)),
        6 => Shape::Halves(rng.within(1..31)),
        _ => Shape::All,
    }
}

fn fault(rng: &mut Rng, profile: &Profile) -> Fault {
    let total: u64 = profile.weights.iter().map(|(_, weight)| weight).sum();
    let mut left = rng.below(total);
    let kind = profile.weights.iter().find(|(_, weight)| {
        let found = left < *weight;
        left = left.saturating_sub(*weight);
        found
    });
    let kind = kind.map_or("kill", |(kind, _)| *kind);
    let short = |rng: &mut Rng| rng.within(100..1_500);
    let long = |rng: &mut Rng| rng.within(500..6_000);
    match kind {
        "crash" => Fault::Crash(who(rng), short(rng)),
        "crash of all" => Fault::CrashAll(short(rng)),
        "pause" => Fault::Pause(who(rng), long(rng)),
        "cut" => Fault::Cut(shape(rng), long(rng)),
        "loss" => Fault::Loss(rng.within(20..300), long(rng)),
        "delay" => Fault::Delay(rng.within(5..120), long(rng)),
        "breaks" => Fault::Breaks(rng.within(20..300), long(rng)),
        "slow sync" => Fault::SlowSync(who(rng), rng.within(5..300), long(rng)),
        "sync error" => Fault::SyncError(who(rng)),
        "full disk" => Fault::FullDisk(who(rng), rng.within(0..200_000), long(rng)),
        "clock jump" => Fault::ClockJump(who(rng), jump(rng)),
        "bucket errors" => Fault::BucketErrors(rng.below(400), rng.below(400), long(rng)),
        "bucket slow" => Fault::BucketSlow(rng.within(50..3_000), long(rng)),
        "late deletes" => Fault::LateDeletes(rng.within(500..8_000), long(rng)),
        "bucket away" => Fault::BucketAway(long(rng)),
        "transfer" => Fault::Transfer,
        "replace" => Fault::Replace(member(rng)),
        "drain" => Fault::Drain(who(rng), short(rng)),
        "from the bucket" => Fault::FromBucket,
        "restore" => Fault::Restore,
        _ => Fault::Kill(who(rng), short(rng)),
    }
}

/// From a second to a year, forwards and backwards.
fn jump(rng: &mut Rng) -> i64 {
    let by = *rng.pick(&[1_000, 60_000, 3_600_000, 86_400_000, 365 * 86_400_000]);
    if rng.chance(600) { by } else { -by }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_plan_and_another_one_another() {
        let plan = |seed| Plan::new(&mut Rng::new(seed).fork("plan"), &Profile::named("mixed").unwrap());
        assert_eq!(plan(1), plan(1));
        assert_ne!(plan(1), plan(2));
    }

    #[test]
    fn plans_are_in_order_and_in_time_and_every_kind_is_met() {
        let mut kinds = std::collections::BTreeSet::new();
        let profile = Profile::named("mixed").unwrap();
        for seed in 0..200 {
            let plan = Plan::new(&mut Rng::new(seed), &profile);
            assert!(plan.faults.is_sorted_by_key(|(at, _)| *at));
            assert!(plan.faults.iter().all(|(at, _)| *at < plan.heals_at));
            kinds.extend(plan.faults.iter().map(|(_, fault)| fault.kind()));
        }
        let wanted = profile.weights.iter().filter(|(_, weight)| *weight > 0).map(|(kind, _)| *kind);
        assert_eq!(kinds, wanted.collect());
    }
}
