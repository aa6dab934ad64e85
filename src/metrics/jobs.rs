//! When each background job last succeeded. The leader of a shard has jobs that the other nodes do not have to do.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::metrics::{counter, gauge};

use super::process::started;
use super::{JOB_FAILURES, JOB_LAST_SUCCESS_AGE_SECONDS, TABLE};

static LAST_SUCCESS: Mutex<BTreeMap<&'static str, Success>> = Mutex::new(BTreeMap::new());

#[derive(Debug, Clone, Copy)]
enum Success {
    At(Instant),
    /// Another node's to worry about.
    Elsewhere,
}

/// The background jobs, as the table lists them.
pub fn jobs() -> impl Iterator<Item = &'static str> {
    let metric = TABLE.iter().find(|metric| metric.name == JOB_LAST_SUCCESS_AGE_SECONDS);
    metric.into_iter().flat_map(|metric| metric.labels).flat_map(|(_, values)| values.iter().copied())
}

/// Notes that a run of `job` succeeded.
pub fn job_succeeded(job: &'static str) {
    LAST_SUCCESS.lock().unwrap_or_else(PoisonError::into_inner).insert(job, Success::At(Instant::now()));
}

/// Notes that this process does `job` from now on, if another one did: its age counts from here.
pub fn job_begins(job: &'static str) {
    let mut last = LAST_SUCCESS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(last @ Success::Elsewhere) = last.get_mut(job) {
        *last = Success::At(Instant::now());
    }
}

/// Notes that another process does `job` from now on.
pub fn job_elsewhere(job: &'static str) {
    LAST_SUCCESS.lock().unwrap_or_else(PoisonError::into_inner).insert(job, Success::Elsewhere);
}

/// Counts a run of `job` that failed.
pub fn job_failed(job: &'static str) {
    counter!(JOB_FAILURES, "job" => job).increment(1);
}

/// How long ago `job` last succeeded in this process; `None` if it never did, nothing if another process does it.
#[must_use]
pub fn job_age(job: &str) -> Option<Duration> {
    let last = LAST_SUCCESS.lock().unwrap_or_else(PoisonError::into_inner).get(job).copied();
    last.map(|last| match last {
        Success::At(at) => at.elapsed(),
        Success::Elsewhere => Duration::ZERO,
    })
}

/// Sets the gauges of all jobs; a job that never succeeded is as old as the process.
pub(super) fn observe() {
    for job in jobs() {
        let age = job_age(job).unwrap_or_else(|| started().elapsed());
        gauge!(JOB_LAST_SUCCESS_AGE_SECONDS, "job" => job).set(age.as_secs_f64());
    }
}
