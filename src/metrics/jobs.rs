//! When each background job last succeeded.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::metrics::{counter, gauge};

use super::process::started;
use super::{JOB_FAILURES, JOB_LAST_SUCCESS_AGE_SECONDS, TABLE};

static LAST_SUCCESS: Mutex<BTreeMap<&'static str, Instant>> = Mutex::new(BTreeMap::new());

/// The background jobs, as the table lists them.
pub fn jobs() -> impl Iterator<Item = &'static str> {
    let metric = TABLE.iter().find(|metric| metric.name == JOB_LAST_SUCCESS_AGE_SECONDS);
    metric.into_iter().flat_map(|metric| metric.labels).flat_map(|(_, values)| values.iter().copied())
}

/// Notes that a run of `job` succeeded.
pub fn job_succeeded(job: &'static str) {
    LAST_SUCCESS.lock().unwrap_or_else(PoisonError::into_inner).insert(job, Instant::now());
}

/// Counts a run of `job` that failed.
pub fn job_failed(job: &'static str) {
    counter!(JOB_FAILURES, "job" => job).increment(1);
}

/// How long ago `job` last succeeded in this process; `None` if it never did.
#[must_use]
pub fn job_age(job: &str) -> Option<Duration> {
    LAST_SUCCESS.lock().unwrap_or_else(PoisonError::into_inner).get(job).map(Instant::elapsed)
}

/// Sets the gauges of all jobs; a job that never succeeded is as old as the process.
pub(super) fn observe() {
    for job in jobs() {
        let age = job_age(job).unwrap_or_else(|| started().elapsed());
        gauge!(JOB_LAST_SUCCESS_AGE_SECONDS, "job" => job).set(age.as_secs_f64());
    }
}
