//! Log time: what a leader stamps on the commands that it proposes.
//!
//! It continues from the log time that the leader found, with the monotonic clock, slewed towards wall time by at most
//! 10%. A larger gap is jumped only when the wall clock has a witness. A group of one voter has none: it jumps gaps up to
//! `raft.clock_jump` (a laptop that slept over the weekend) and slews anything above, so that a clock a year ahead expires
//! nothing (docs/decisions/0003-log-time-of-a-sole-voter.md). Log time never runs backwards.

use std::sync::Mutex;

use crate::clock::{Clock, Millis};

/// Gaps up to this are slewed, larger ones may be jumped.
const JUMP_THRESHOLD_MS: Millis = 60_000;
/// Log time runs at most this share faster or slower than the monotonic clock.
const SLEW_DIVISOR: Millis = 10;
/// The slew is reckoned from an anchor at least this old: a tenth of one millisecond would always round to nothing.
const ANCHOR_MS: Millis = 1_000;

/// Makes log time for one leader.
#[derive(Debug)]
pub struct LogClock {
    clock: Clock,
    max_jump: Millis,
    anchor: Mutex<Anchor>,
}

#[derive(Debug, Clone, Copy)]
struct Anchor {
    log_time: Millis,
    monotonic: Millis,
    given: Millis,
    /// Wall time was further away than is believed when it was last looked at.
    disbelieved: bool,
}

impl LogClock {
    /// A clock that goes on from `found`, the state's log time; 0 means that there is none yet, and wall time is taken.
    #[must_use]
    pub fn new(clock: Clock, found: Millis, max_jump: Millis) -> Self {
        let wall = clock.wall();
        let log_time = if found == 0 { wall } else { jumped(found, wall, max_jump) };
        let anchor = Anchor { log_time, monotonic: clock.monotonic(), given: log_time, disbelieved: false };
        Self { clock, max_jump, anchor: Mutex::new(anchor) }
    }

    /// Log time now.
    #[must_use]
    pub fn now(&self) -> Millis {
        let mut anchor = self.anchor.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (monotonic, wall) = (self.clock.monotonic(), self.clock.wall());
        let elapsed = monotonic.saturating_sub(anchor.monotonic);
        // From what was given last: a jump since the anchor was set must not make the next one look twice as wide.
        let next = jumped(advance(anchor.log_time, elapsed, wall).max(anchor.given), wall, self.max_jump);
        anchor.given = next;
        if elapsed >= ANCHOR_MS {
            (anchor.log_time, anchor.monotonic) = (next, monotonic);
        }
        let disbelieved = wall.abs_diff(next) > self.max_jump.max(JUMP_THRESHOLD_MS);
        if disbelieved != anchor.disbelieved {
            anchor.disbelieved = disbelieved;
            report(disbelieved, wall, next);
        }
        next
    }

    /// How far log time is behind (positive) or ahead of wall time, milliseconds.
    #[must_use]
    pub fn lag_ms(&self) -> i64 {
        let now = self.now();
        i64::try_from(i128::from(self.clock.wall()) - i128::from(now)).unwrap_or(i64::MAX)
    }
}

/// Says once that the wall clock is not believed, and once that it is again.
fn report(disbelieved: bool, wall_ms: Millis, log_time_ms: Millis) {
    if disbelieved {
        tracing::warn!(
            wall_ms,
            log_time_ms,
            "the wall clock is further from log time than raft.clock_jump and is not believed: \
             log time approaches it by a tenth of the time that passes"
        );
    } else {
        tracing::info!(wall_ms, log_time_ms, "the wall clock is near log time again");
    }
}

/// Log time `elapsed` after `log_time`, slewed towards `wall`.
fn advance(log_time: Millis, elapsed: Millis, wall: Millis) -> Millis {
    let straight = log_time.saturating_add(elapsed);
    let slew = elapsed / SLEW_DIVISOR;
    if wall > straight { straight + slew.min(wall - straight) } else { straight - slew.min(straight - wall) }
}

/// Jumps to `wall` over a gap that is large enough to be worth it and small enough to be believed.
fn jumped(log_time: Millis, wall: Millis, max_jump: Millis) -> Millis {
    let gap = wall.saturating_sub(log_time);
    if gap > JUMP_THRESHOLD_MS && gap <= max_jump { wall } else { log_time }
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
            log.anchor.lock().is_ok_and(|anchor| anchor.disbelieved)
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
}
