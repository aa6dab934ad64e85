//! What was measured: a histogram of latencies and counts, one for each thread, added up at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

/// Longer latencies count as this.
const MAX_NANOS: u64 = 600_000_000_000;
/// Three digits: a latency is known to a thousandth of itself.
const DIGITS: u8 = 3;

/// Latencies from a nanosecond to ten minutes.
#[derive(Debug, Clone)]
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    /// None yet.
    pub(super) fn new() -> Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, MAX_NANOS, DIGITS)?))
    }

    /// Counts one.
    pub(super) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(MAX_NANOS));
    }

    /// Adds those of another thread.
    pub(super) fn add(&mut self, other: &Self) -> Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    /// What is reported of them.
    pub(super) fn summary(&self) -> LatencySummary {
        let micros = |nanos: f64| (nanos / 10.0).round() / 100.0;
        let at = |quantile: f64| micros(self.0.value_at_quantile(quantile) as f64);
        LatencySummary {
            count: self.0.len(),
            min_us: micros(if self.0.is_empty() { 0.0 } else { self.0.min() as f64 }),
            mean_us: micros(self.0.mean()),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: micros(self.0.max() as f64),
        }
    }
}

/// Latencies in microseconds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct LatencySummary {
    /// How many.
    pub count: u64,
    pub min_us: f64,
    pub mean_us: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

/// What one thread measured.
#[derive(Debug)]
pub(super) struct Tally {
    pub latencies: Latencies,
    /// How much later than due requests were sent, in an open loop.
    pub lags: Latencies,
    /// Requests that were measured and succeeded.
    pub requests: u64,
    /// Bytes of their answers.
    pub answer_bytes: u64,
    /// Requests of the warm-up that succeeded.
    pub warm_up: u64,
    /// Failures by code, those of the warm-up included.
    pub errors: BTreeMap<String, u64>,
    /// When the last measured request was answered, since the start.
    pub last: Duration,
}

impl Tally {
    /// Nothing yet.
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            latencies: Latencies::new()?,
            lags: Latencies::new()?,
            requests: 0,
            answer_bytes: 0,
            warm_up: 0,
            errors: BTreeMap::new(),
            last: Duration::ZERO,
        })
    }

    /// Counts a failure.
    pub(super) fn fail(&mut self, code: &str) {
        match self.errors.get_mut(code) {
            Some(count) => *count += 1,
            None => drop(self.errors.insert(code.to_owned(), 1)),
        }
    }

    /// Adds what another thread measured.
    pub(super) fn add(&mut self, other: &Self) -> Result<()> {
        self.latencies.add(&other.latencies)?;
        self.lags.add(&other.lags)?;
        self.requests += other.requests;
        self.answer_bytes += other.answer_bytes;
        self.warm_up += other.warm_up;
        for (code, count) in &other.errors {
            *self.errors.entry(code.clone()).or_default() += count;
        }
        self.last = self.last.max(other.last);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn threads_add_up_and_percentiles_are_exact_to_a_thousandth() {
        let (mut a, mut b) = (Tally::new().unwrap(), Tally::new().unwrap());
        for micros in 1..=1000 {
            let tally = if micros % 2 == 0 { &mut a } else { &mut b };
            tally.latencies.record(Duration::from_micros(micros));
            tally.requests += 1;
        }
        b.fail("overloaded");
        a.fail("overloaded");
        a.fail("timeout");
        a.add(&b).unwrap();
        assert_eq!(a.requests, 1000);
        assert_eq!(a.errors, BTreeMap::from([("overloaded".to_owned(), 2), ("timeout".to_owned(), 1)]));
        let summary = a.latencies.summary();
        assert_eq!(summary.count, 1000);
        for (value, expected) in [(summary.p50_us, 500.0), (summary.p99_us, 990.0), (summary.max_us, 1000.0)] {
            assert!((value - expected).abs() <= expected / 500.0, "{value} for {expected}");
        }
        a.latencies.record(Duration::from_secs(100_000));
        assert_eq!(a.latencies.summary().count, 1001);
    }
}
