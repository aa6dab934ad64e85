//! When each background job last succeeded, by shard. The leader of a shard has jobs that the other nodes do not have to do.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::metrics::{counter, gauge};

use super::process::started;
use super::{JOB_FAILURES, JOB_LAST_SUCCESS_AGE_SECONDS, TABLE};

static LAST_SUCCESS: Mutex<BTreeMap<(&'static str, u32), Success>> = Mutex::new(BTreeMap::new());

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

/// Notes that a run of `job` of a shard succeeded.
pub fn job_succeeded(job: &'static str, shard: u32) {
    lock().insert((job, shard), Success::At(Instant::now()));
}

/// Notes that this process does `job` of a shard from now on, if another one did: its age counts from here.
pub fn job_begins(job: &'static str, shard: u32) {
    if let Some(last @ Success::Elsewhere) = lock().get_mut(&(job, shard)) {
        *last = Success::At(Instant::now());
    }
}

/// Notes that another process does `job` of a shard from now on.
pub fn job_elsewhere(job: &'static str, shard: u32) {
    lock().insert((job, shard), Success::Elsewhere);
}

/// Counts a run of `job` that failed.
pub fn job_failed(job: &'static str) {
    counter!(JOB_FAILURES, "task" => job).increment(1);
}

/// How long ago `job` last succeeded in this process, in the shard where that is longest ago; `None` if it never did, nothing if
/// other processes do it.
#[must_use]
pub fn job_age(job: &str) -> Option<Duration> {
    let last = lock();
    let ages = last.iter().filter(|((name, _), _)| *name == job).map(|(_, last)| match last {
        Success::At(at) => at.elapsed(),
        Success::Elsewhere => Duration::ZERO,
    });
    ages.max()
}

fn lock() -> MutexGuard<'static, BTreeMap<(&'static str, u32), Success>> {
    LAST_SUCCESS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sets the gauges of all jobs; a job that never succeeded is as old as the process.
pub(super) fn observe() {
    for job in jobs() {
        let age = job_age(job).unwrap_or_else(|| started().elapsed());
        gauge!(JOB_LAST_SUCCESS_AGE_SECONDS, "task" => job).set(age.as_secs_f64());
    }
}
