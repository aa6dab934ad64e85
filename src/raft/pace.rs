//! How fast a follower that is far behind is sent what it lacks: faster than the log grows, and not much faster.
//!
//! Each append costs this node a read, and the follower a write and a sync; without a pause between them a follower that was
//! away would have the disks and the processors for itself until it has caught up, and producers what is left. So while others
//! write, it is sent what they write and [`LEAD`] more in each second: its distance shrinks by that much, however much is written,
//! unless the machines cannot send as fast, and then nothing is held back. A follower that is near, and one of a log that nobody
//! writes to, is sent to at once.

use std::time::Duration;

use tokio::time::Instant;

/// A follower that lacks less is near: some appends of the largest size.
const FAR: u64 = 32 << 20;
/// Bytes by which the distance shrinks in a second.
const LEAD: u64 = 32 << 20;
/// What may be sent at once after a while in which less was sent: some of the largest appends.
const BURST: u64 = 16 << 20;
/// A log that grows by less in a second is one that nobody writes to: there are always some control commands.
const QUIET: u64 = 1 << 20;
/// For how long its growth is looked at.
const WINDOW: Duration = Duration::from_millis(250);
/// The longest pause between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// The end of the log at a time.
#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Instant,
    end: u64,
}

impl Seen {
    /// Bytes by which the log has grown until `now`, and the time that it took.
    fn until(self, now: Self) -> (u64, Duration) {
        (now.end.saturating_sub(self.end), now.at.saturating_duration_since(self.at))
    }
}

/// Of one follower.
#[derive(Debug)]
struct Far {
    last: Seen,
    /// Where the window begins, and whether others wrote in the one before it.
    window: Seen,
    is_written: bool,
    /// Bytes that may be sent now.
    credit: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pace(Option<Far>);

impl Pace {
    /// How long to wait before an append of `bytes` is looked at again, which begins `distance` bytes before the end of the log at
    /// WAL offset `end`; `None` if it is to be sent, and counts as sent.
    pub(super) fn pause(&mut self, now: Instant, distance: u64, end: u64, bytes: u64) -> Option<Duration> {
        if distance < FAR {
            self.0 = None;
            return None;
        }
        let seen = Seen { at: now, end };
        let far = self.0.get_or_insert(Far { last: seen, window: seen, is_written: true, credit: bytes });
        let (grown, elapsed) = far.last.until(seen);
        far.last = seen;
        far.credit = far.credit.saturating_add(grown).saturating_add(bytes_in(elapsed, LEAD)).min(BURST.max(bytes));
        let (grown, elapsed) = far.window.until(seen);
        if elapsed >= WINDOW {
            (far.is_written, far.window) = (grown >= bytes_in(elapsed, QUIET), seen);
        }
        if far.is_written && far.credit < bytes {
            let missing = bytes - far.credit;
            return Some(Duration::from_micros(missing.saturating_mul(1_000_000) / LEAD + 1).min(PAUSE));
        }
        far.credit = far.credit.saturating_sub(bytes);
        None
    }
}

/// What `rate` bytes a second make in `time`.
fn bytes_in(time: Duration, rate: u64) -> u64 {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    micros.saturating_mul(rate) / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const APPEND: u64 = 4 << 20;

    /// Sends appends for `seconds` beside writers of `growth` bytes a second, each append taking `takes`; bytes sent, and bytes by
    /// which the log has grown.
    fn send(growth: u64, takes: Duration, seconds: u64) -> (u64, u64) {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        let (mut now, mut sent) = (begun, 0);
        let grown = |now: Instant| bytes_in(now - begun, growth);
        while now - begun < Duration::from_secs(seconds) {
            // Far away, whatever happens.
            match pace.pause(now, 1 << 40, grown(now), APPEND) {
                Some(pause) => now += pause,
                None => {
                    sent += APPEND;
                    now += takes;
                }
            }
        }
        (sent, grown(now))
    }

    #[test]
    fn the_distance_shrinks_however_much_is_written() {
        for growth in [2 << 20, 50 << 20, 300 << 20] {
            let (sent, grown) = send(growth, Duration::from_millis(2), 10);
            let won = sent - grown;
            assert!((9 * LEAD..11 * LEAD).contains(&won), "of {growth} bytes a second: {won}");
        }
    }

    #[test]
    fn nothing_is_held_back_from_one_that_takes_as_much_as_can_be_sent() {
        // 100 appends in 10 s, beside writers that are as fast.
        let (sent, grown) = send(40 << 20, Duration::from_millis(100), 10);
        assert_eq!((sent, grown), (100 * APPEND, 400 << 20));
    }

    #[test]
    fn a_log_that_nobody_writes_to_is_sent_as_fast_as_it_can_be() {
        let (sent, _) = send(1 << 10, Duration::from_millis(2), 10);
        assert!(sent > 4_000 * APPEND, "{sent}");
    }

    #[test]
    fn one_that_is_near_waits_for_nothing() {
        let mut pace = Pace::default();
        let now = Instant::now();
        for end in 0..1_000 {
            assert_eq!(pace.pause(now, FAR - 1, end * APPEND, APPEND), None);
        }
        let paused = (0..1_000).filter(|_| pace.pause(now, FAR, 0, APPEND).is_some()).count();
        assert_eq!(paused, 999, "and one that is not waits");
    }
}
