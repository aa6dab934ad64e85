//! When requests are sent and from when their latency counts.
//!
//! Open loop: request `n` is due `n / rate` after the start, whatever became of the ones before, and its latency counts from
//! then. A generator that waits for an answer before it looks at the clock again leaves out the very requests that a
//! stall would have delayed ("coordinated omission"). Closed loop: the next request follows the answer, and counts from
//! its sending.
//!
//! Pure: the clock is given, times are since the start.

use std::time::Duration;

/// The due times of an open loop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Schedule {
    rate: f64,
}

impl Schedule {
    /// `rate` requests a second.
    pub(super) const fn new(rate: f64) -> Self {
        Self { rate }
    }

    /// When request `n`, counted from 0, is due.
    pub(super) fn due(&self, n: u64) -> Duration {
        Duration::from_secs_f64(n as f64 / self.rate)
    }

    /// How many requests are due at `elapsed`: all with `due(n) <= elapsed`.
    pub(super) fn due_by(&self, elapsed: Duration) -> u64 {
        // The division may round either way.
        let mut count = (elapsed.as_secs_f64() * self.rate) as u64;
        while self.due(count) <= elapsed {
            count += 1;
        }
        while count > 0 && self.due(count - 1) > elapsed {
            count -= 1;
        }
        count
    }
}

/// When to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Before this nothing is measured.
    pub warm_up: Duration,
    /// How long is measured.
    pub duration: Option<Duration>,
    /// How many requests are measured.
    pub requests: Option<u64>,
}

impl Extent {
    /// Whether a request that begins at `begin` is measured.
    pub(super) fn measures(&self, begin: Duration) -> bool {
        begin >= self.warm_up
    }

    /// Whether the time is over.
    pub(super) fn is_over(&self, begin: Duration) -> bool {
        self.duration.is_some_and(|duration| begin >= self.warm_up + duration)
    }

    /// How many requests an open loop sends in all, warm-up included.
    pub(super) fn total(&self, schedule: &Schedule) -> u64 {
        let before = |end: Duration| match schedule.due_by(end) {
            0 => 0,
            count if schedule.due(count - 1) == end => count - 1,
            count => count,
        };
        let warm_up = before(self.warm_up);
        let by_time = self.duration.map_or(u64::MAX, |duration| before(self.warm_up + duration));
        by_time.min(self.requests.map_or(u64::MAX, |requests| warm_up.saturating_add(requests)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// One connection, a server that answers within 1 ms but stands still between 100 and 600 ms: the latencies seen.
    fn run(schedule: Option<Schedule>, extent: Extent) -> Vec<Duration> {
        let mut now = Duration::ZERO;
        let mut latencies = Vec::new();
        for n in 0.. {
            let begin = schedule.map_or(now, |schedule| schedule.due(n));
            let over = schedule.map_or(extent.is_over(now), |schedule| n >= extent.total(&schedule));
            if over {
                return latencies;
            }
            now = now.max(begin) + millis(1);
            if (millis(100)..millis(600)).contains(&now) {
                now = millis(600);
            }
            if extent.measures(begin) {
                latencies.push(now - begin);
            }
        }
        latencies
    }

    #[test]
    fn a_stall_delays_every_request_that_was_due_in_it_and_a_closed_loop_sees_it_once() {
        let extent = Extent { warm_up: Duration::ZERO, duration: Some(millis(2000)), requests: None };
        let closed = run(None, extent);
        assert_eq!(closed.iter().filter(|latency| **latency > millis(10)).count(), 1);
        let open = run(Some(Schedule::new(100.0)), extent);
        assert_eq!(open.len(), 200);
        let slow = open.iter().filter(|latency| **latency > millis(10)).count();
        // 50 were due while it stood still, and they queue up behind one another.
        assert!((48..=56).contains(&slow), "{slow}");
        assert!(open.iter().max().is_some_and(|most| *most > millis(490)));
    }

    #[test]
    fn the_warm_up_is_sent_but_not_measured() {
        let extent = Extent { warm_up: millis(500), duration: Some(millis(1000)), requests: None };
        let schedule = Schedule::new(100.0);
        assert_eq!(extent.total(&schedule), 150);
        assert_eq!(run(Some(schedule), extent).len(), 100);
        let counted = Extent { requests: Some(7), ..extent };
        assert_eq!(counted.total(&schedule), 57);
        assert_eq!(run(Some(schedule), counted).len(), 7);
    }

    #[test]
    fn due_times_and_counts_agree() {
        for rate in [0.5, 3.0, 7.0, 1000.0, 33_333.3] {
            let schedule = Schedule::new(rate);
            assert_eq!(schedule.due_by(Duration::ZERO), 1);
            for n in [1, 2, 10, 12_345] {
                let due = schedule.due(n);
                assert_eq!(schedule.due_by(due), n + 1, "{rate} {n}");
                assert_eq!(schedule.due_by(due - Duration::from_nanos(1)), n, "{rate} {n}");
            }
        }
    }
}
