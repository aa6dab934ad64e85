//! When and how often a request is sent again.

use std::time::Duration;

/// Retries of one call: pauses that double, with full jitter, until a deadline over all attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Upper bound of the first pause.
    pub first_pause: Duration,
    /// Upper bound of any pause.
    pub longest_pause: Duration,
    /// From the first attempt on: no attempt begins after it. Zero means one attempt.
    pub deadline: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(2),
            deadline: Duration::from_secs(30),
        }
    }
}

impl RetryPolicy {
    /// One attempt.
    #[must_use]
    pub fn never() -> Self {
        Self { deadline: Duration::ZERO, ..Self::default() }
    }

    /// The pause after attempt `attempt` (from 0) of a call that began `elapsed` ago; `None` gives up. `random` is from
    /// [0, 1). A server that says how long to wait is waited for at least that long.
    pub(crate) fn pause(
        &self,
        attempt: u32,
        elapsed: Duration,
        retry_after: Option<Duration>,
        random: f64,
    ) -> Option<Duration> {
        let bound = self.first_pause.saturating_mul(1 << attempt.min(20)).min(self.longest_pause);
        // Full jitter spreads clients that failed together; a tenth at least, so that nobody spins.
        let jittered = bound.mul_f64(random.clamp(0.1, 1.0));
        let pause = retry_after.map_or(jittered, |after| after + jittered);
        (elapsed + pause < self.deadline).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        first_pause: Duration::from_millis(100),
        longest_pause: Duration::from_secs(1),
        deadline: Duration::from_secs(10),
    };

    #[test]
    fn pauses_double_up_to_a_bound_and_never_pass_the_deadline() {
        let pause = |attempt, elapsed, random| POLICY.pause(attempt, Duration::from_millis(elapsed), None, random);
        assert_eq!(pause(0, 0, 0.999).unwrap().as_millis(), 99);
        assert_eq!(pause(2, 0, 0.5).unwrap().as_millis(), 200);
        assert_eq!(pause(30, 0, 0.5).unwrap().as_millis(), 500);
        assert_eq!(pause(0, 0, 0.0).unwrap().as_millis(), 10, "never zero");
        assert_eq!(pause(0, 10_000, 0.5), None);
        assert_eq!(RetryPolicy::never().pause(0, Duration::ZERO, None, 0.0), None);
    }

    #[test]
    fn the_server_may_ask_for_a_longer_pause() {
        let after = Some(Duration::from_secs(3));
        assert!(POLICY.pause(0, Duration::ZERO, after, 0.5).unwrap() >= Duration::from_secs(3));
        assert_eq!(POLICY.pause(0, Duration::from_secs(8), after, 0.5), None, "not within the deadline");
    }
}
