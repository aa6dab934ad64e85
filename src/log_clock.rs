//! Log time: what a leader stamps on the commands that it proposes.
//!
//! It continues from the log time that the leader found, with the monotonic clock, slewed towards wall time by at most
//! 10%. A larger gap is jumped only when the wall clock has witnesses: a majority of the voters whose wall clocks agree with
//! the leader's, itself among them. A group of one voter has none: it jumps gaps up to `raft.clock_jump` (a laptop that
//! slept over the weekend) and slews anything above, so that a clock a year ahead expires nothing
//! (docs/decisions/0003-log-time-of-a-sole-voter.md, 0015-log-time-of-a-group.md). Log time never runs backwards while one
//! node leads; `apply` takes the larger of the command's and the state's.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::{Clock, Millis};
use crate::planted::{self, Bug};

/// Gaps up to this are slewed, larger ones may be jumped.
const JUMP_THRESHOLD_MS: Millis = 60_000;
/// Log time runs at most this share faster or slower than the monotonic clock.
const SLEW_DIVISOR: Millis = 10;
/// The slew is reckoned from an anchor at least this old: a tenth of one millisecond would always round to nothing.
const ANCHOR_MS: Millis = 1_000;
/// A voter's wall clock that was seen longer ago is no witness.
const SIGHTING_AGE_MS: Millis = 10_000;
/// Wall clocks that are this near agree.
const AGREEMENT_MS: Millis = 5_000;
/// A wall clock whose answer took longer may be anywhere.
const ROUND_TRIP_MS: Millis = 2_000;

/// Makes log time for one leader.
#[derive(Debug)]
pub struct LogClock {
    clock: Clock,
    max_jump: Millis,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    anchor: Anchor,
    /// Of the group, this node among them.
    voters: usize,
    /// The newest sighting of each other voter.
    seen: BTreeMap<u64, Sighting>,
}

#[derive(Debug, Clone, Copy)]
struct Anchor {
    log_time: Millis,
    monotonic: Millis,
    given: Millis,
    /// Wall time was further away than is believed when it was last looked at.
    disbelieved: bool,
}

/// What another voter's wall clock showed, and this node's monotonic clock at that moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    wall: Millis,
    monotonic: Millis,
}

impl Sighting {
    /// A wall clock that showed `wall` at some moment between two readings of this node's monotonic clock; `None` if they are
    /// too far apart, or if the node has no clock.
    #[must_use]
    pub fn of(wall: Millis, before: Millis, after: Millis) -> Option<Self> {
        let took = after.saturating_sub(before);
        (wall > 0 && took <= ROUND_TRIP_MS).then_some(Self { wall, monotonic: before + took / 2 })
    }

    /// Whether it is fresh, and that clock agrees with `wall` now.
    fn agrees(self, wall: Millis, monotonic: Millis) -> bool {
        let age = monotonic.saturating_sub(self.monotonic);
        age <= SIGHTING_AGE_MS && self.wall.saturating_add(age).abs_diff(wall) <= AGREEMENT_MS
    }
}

impl Inner {
    /// How far log time may jump to `wall`.
    fn believed(&self, wall: Millis, monotonic: Millis, max_jump: Millis) -> Millis {
        if planted::is(Bug::ClockYearAhead) {
            return Millis::MAX;
        }
        if self.voters <= 1 {
            return max_jump;
        }
        let agreeing = 1 + self.seen.values().filter(|sighting| sighting.agrees(wall, monotonic)).count();
        if agreeing > self.voters / 2 { Millis::MAX } else { 0 }
    }
}

impl LogClock {
    /// A clock that goes on from `found`, the state's log time; 0 means that there is none yet, and wall time is taken.
    /// It is that of a lone voter until [`LogClock::set_voters`].
    #[must_use]
    pub fn new(clock: Clock, found: Millis, max_jump: Millis) -> Self {
        let anchor = Anchor { log_time: found, monotonic: clock.monotonic(), given: found, disbelieved: false };
        let inner = Inner { anchor, voters: 1, seen: BTreeMap::new() };
        let made = Self { clock, max_jump, inner: Mutex::new(inner) };
        made.rebase(found);
        made
    }

    /// Goes on from `found`, the state's log time: a leadership begins. 0 means that there is none yet, and wall time is taken.
    /// Whatever was given before was never committed, or is in `found`.
    pub fn rebase(&self, found: Millis) {
        let mut inner = self.lock();
        let (monotonic, wall) = (self.clock.monotonic(), self.clock.wall());
        let log_time =
            if found == 0 { wall } else { jumped(found, wall, || inner.believed(wall, monotonic, self.max_jump)) };
        let disbelieved = inner.anchor.disbelieved;
        inner.anchor = Anchor { log_time, monotonic, given: log_time, disbelieved };
    }

    /// Sets how many vote, this node among them: one alone believes its wall clock up to `raft.clock_jump`, several only with
    /// witnesses.
    pub fn set_voters(&self, voters: usize) {
        self.lock().voters = voters;
    }

    /// Takes the newest sightings of the other voters' wall clocks; those that are not among them are forgotten once they are
    /// too old to count.
    pub fn saw(&self, sightings: impl IntoIterator<Item = (u64, Sighting)>) {
        let monotonic = self.clock.monotonic();
        let mut inner = self.lock();
        inner.seen.extend(sightings);
        inner.seen.retain(|_, sighting| monotonic.saturating_sub(sighting.monotonic) <= SIGHTING_AGE_MS);
    }

    /// Wall time of this node.
    #[must_use]
    pub fn wall(&self) -> Millis {
        self.clock.wall()
    }

    /// The monotonic clock that sightings are held against.
    #[must_use]
    pub fn monotonic(&self) -> Millis {
        self.clock.monotonic()
    }

    /// Log time now.
    #[must_use]
    pub fn now(&self) -> Millis {
        let mut inner = self.lock();
        let (monotonic, wall) = (self.clock.monotonic(), self.clock.wall());
        let anchor = inner.anchor;
        let elapsed = monotonic.saturating_sub(anchor.monotonic);
        // From what was given last: a jump since the anchor was set must not make the next one look twice as wide.
        let straight = advance(anchor.log_time, elapsed, wall).max(anchor.given);
        let next = jumped(straight, wall, || inner.believed(wall, monotonic, self.max_jump));
        inner.anchor.given = next;
        // After a jump as well: what passes from there on is reckoned from there.
        if elapsed >= ANCHOR_MS || next != straight {
            (inner.anchor.log_time, inner.anchor.monotonic) = (next, monotonic);
        }
        let near = if inner.voters <= 1 { self.max_jump.max(JUMP_THRESHOLD_MS) } else { JUMP_THRESHOLD_MS };
        let disbelieved = wall.abs_diff(next) > near;
        if disbelieved != anchor.disbelieved {
            inner.anchor.disbelieved = disbelieved;
            report(disbelieved, wall, next, inner.voters);
        }
        next
    }

    /// How far log time is behind (positive) or ahead of wall time, milliseconds.
    #[must_use]
    pub fn lag_ms(&self) -> i64 {
        let now = self.now();
        i64::try_from(i128::from(self.clock.wall()) - i128::from(now)).unwrap_or(i64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here can panic halfway through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says once that the wall clock is not believed, and once that it is again.
fn report(disbelieved: bool, wall_ms: Millis, log_time_ms: Millis, voters: usize) {
    if !disbelieved {
        tracing::info!(wall_ms, log_time_ms, "the wall clock is near log time again");
    } else if voters <= 1 {
        tracing::warn!(
            wall_ms,
            log_time_ms,
            "the wall clock is further from log time than raft.clock_jump and is not believed: \
             log time approaches it by a tenth of the time that passes"
        );
    } else {
        tracing::warn!(
            wall_ms,
            log_time_ms,
            "the wall clock is more than a minute from log time, and no majority of the voters' clocks agrees with it ahead: \
             log time approaches it by a tenth of the time that passes"
        );
    }
}

/// Log time `elapsed` after `log_time`, slewed towards `wall`.
fn advance(log_time: Millis, elapsed: Millis, wall: Millis) -> Millis {
    let straight = log_time.saturating_add(elapsed);
    let slew = elapsed / SLEW_DIVISOR;
    if wall > straight { straight + slew.min(wall - straight) } else { straight - slew.min(straight - wall) }
}

/// Jumps to `wall` over a gap that is large enough to be worth it and small enough to be believed.
fn jumped(log_time: Millis, wall: Millis, believed: impl FnOnce() -> Millis) -> Millis {
    let gap = wall.saturating_sub(log_time);
    if gap > JUMP_THRESHOLD_MS && gap <= believed() { wall } else { log_time }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: Millis = 7 * 24 * 3_600_000;
    const YEAR: Millis = 365 * 24 * 3_600_000;
    const START: Millis = 1_700_000_000_000;

    #[test]
    fn starts_at_wall_time_when_there_is_no_log_time_yet() {
        assert_eq!(LogClock::new(Clock::manual(START), 0, WEEK).now(), START);
    }

    #[test]
    fn a_night_away_is_jumped() {
        assert_eq!(LogClock::new(Clock::manual(START + WEEK), START, WEEK).now(), START + WEEK);
    }

    #[test]
    fn two_jumps_within_a_second_are_two_jumps() {
        let clock = Clock::manual(START);
        let log = LogClock::new(clock.clone(), START, WEEK);
        for jumps in 1..=3 {
            clock.set_wall(START + jumps * (WEEK - 1_000));
            clock.advance(10);
            assert_eq!(log.now(), clock.wall());
        }
    }

    #[test]
    fn a_clock_a_year_ahead_is_slewed_and_comes_right_again() {
        let clock = Clock::manual(START + YEAR);
        let log = LogClock::new(clock.clone(), START, WEEK);
        clock.advance(10_000);
        assert_eq!(log.now(), START + 11_000);
        clock.set_wall(START + 11_000);
        clock.advance(10_000);
        assert_eq!(log.now(), START + 21_000);
    }

    #[test]
    fn a_year_ahead_while_running_is_not_followed() {
        let clock = Clock::manual(START);
        let log = LogClock::new(clock.clone(), START, WEEK);
        clock.set_wall(START + YEAR);
        clock.advance(1_000);
        assert_eq!(log.now(), START + 1_100);
    }

    #[test]
    fn a_clock_that_is_not_believed_is_noticed_once_and_so_is_its_return() {
        let clock = Clock::manual(START);
        let log = LogClock::new(clock.clone(), START, WEEK);
        let disbelieved = || {
            let _ = log.now();
            log.lock().anchor.disbelieved
        };
        assert!(!disbelieved());
        for wrong in [START + YEAR, START - YEAR] {
            clock.set_wall(wrong);
            assert!(disbelieved());
            clock.advance(5_000);
            assert!(disbelieved());
            clock.set_wall(START);
            assert!(!disbelieved());
        }
    }

    #[test]
    fn a_clock_set_back_slows_log_time_and_never_turns_it() {
        let clock = Clock::manual(START);
        let log = LogClock::new(clock.clone(), START, WEEK);
        clock.set_wall(START - YEAR);
        let mut before = log.now();
        for _ in 0..100 {
            clock.advance(10);
            let now = log.now();
            assert!(now >= before + 9);
            before = now;
        }
    }

    /// A clock of three voters at `found`, and the operating system's that it reads.
    fn of_three(wall: Millis, found: Millis) -> (LogClock, Clock) {
        let clock = Clock::manual(wall);
        let log = LogClock::new(clock.clone(), found, WEEK);
        log.set_voters(3);
        log.rebase(found);
        (log, clock)
    }

    fn seen(log: &LogClock, wall: Millis) -> Option<Sighting> {
        Sighting::of(wall, log.monotonic(), log.monotonic())
    }

    #[test]
    fn several_voters_jump_only_with_a_majority_of_wall_clocks() {
        let (log, clock) = of_three(START + YEAR, START);
        assert_eq!(log.now(), START, "nobody else has been asked");
        log.saw(seen(&log, START).map(|seen| (2, seen)));
        assert_eq!(log.now(), START, "one disagrees");
        log.saw(seen(&log, START + YEAR + 4_000).map(|seen| (3, seen)));
        assert_eq!(log.now(), START + YEAR, "two of three agree");
        clock.advance(20_000);
        assert_eq!(log.now(), START + YEAR + 20_000);
    }

    #[test]
    fn one_that_agreed_is_no_witness_of_a_clock_that_was_set_since() {
        let (log, clock) = of_three(START, START);
        let both = [2, 3].into_iter().filter_map(|voter| Some((voter, seen(&log, START)?)));
        log.saw(both.collect::<Vec<_>>());
        clock.set_wall(START + YEAR);
        clock.advance(1_000);
        assert!(log.now() <= START + 1_100);
        // And a clock that ran on with the others is believed for ten seconds.
        let (log, clock) = of_three(START + 100_000, START);
        log.saw(seen(&log, START + 100_000).map(|seen| (2, seen)));
        clock.advance(9_000);
        assert_eq!(log.now(), START + 109_000);
        let (log, clock) = of_three(START + 100_000, START);
        log.saw(seen(&log, START + 100_000).map(|seen| (2, seen)));
        clock.advance(11_000);
        assert_eq!(log.now(), START + 12_100);
    }

    #[test]
    fn a_slow_answer_says_nothing() {
        assert_eq!(Sighting::of(START, 0, 2_001), None);
        assert_eq!(Sighting::of(0, 0, 1), None, "it has no clock");
        assert_eq!(Sighting::of(START, 100, 300), Some(Sighting { wall: START, monotonic: 200 }));
    }

    #[test]
    fn a_leadership_goes_on_from_what_it_finds() {
        let (log, clock) = of_three(START, 0);
        assert_eq!(log.now(), START, "there was no log time yet");
        // A follower whose clock is a year ahead gives such a time to nobody; what the state says counts.
        clock.set_wall(START + YEAR);
        log.rebase(START + 5_000);
        clock.advance(1_000);
        assert_eq!(log.now(), START + 6_100);
        log.rebase(START + 3_000);
        assert_eq!(log.now(), START + 3_000);
    }

    #[test]
    fn a_group_that_shrinks_to_one_believes_its_clock_again() {
        let (log, clock) = of_three(START + WEEK, START);
        assert_eq!(log.now(), START);
        log.set_voters(1);
        clock.advance(10);
        assert_eq!(log.now(), START + WEEK + 10);
    }
}
