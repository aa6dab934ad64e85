//! Background jobs of a shard: run again and again, can be paused, and say when they last succeeded.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{info, warn};

use crate::archive::JobWatch;
use crate::clock::Clock;
use crate::error::Result;
use crate::metrics;
use crate::model::ShardId;

/// A job of a shard by name; clones share it.
#[derive(Debug, Clone)]
pub struct Job(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: &'static str,
    shard: ShardId,
    clock: Clock,
    paused: AtomicBool,
    last: Mutex<Last>,
}

/// How the job went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Last {
    /// Wall time of the last success, milliseconds since 1970.
    pub success_ms: Option<u64>,
    /// What the last failure said, if it came after the last success.
    pub error: Option<String>,
}

impl Job {
    /// A job that has not run yet.
    #[must_use]
    pub fn new(name: &'static str, shard: ShardId, clock: Clock) -> Self {
        Self(Arc::new(Inner { name, shard, clock, paused: AtomicBool::new(false), last: Mutex::default() }))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// Stops or resumes it; a run under way ends first.
    pub fn set_paused(&self, paused: bool) {
        self.0.paused.store(paused, Ordering::Release);
    }

    /// Whether it is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.0.paused.load(Ordering::Acquire)
    }

    /// How it went.
    #[must_use]
    pub fn last(&self) -> Last {
        self.lock().clone()
    }

    /// Notes how a run went; a failure is logged once, not every time.
    pub fn ran(&self, result: Result<()>) {
        let mut last = self.lock();
        match result {
            Ok(()) => {
                if last.error.take().is_some() {
                    info!(job = self.0.name, shard = %self.0.shard, "the background job succeeds again");
                }
                last.success_ms = Some(self.0.clock.wall());
                metrics::job_succeeded(self.0.name, self.0.shard.0);
            }
            Err(error) => {
                metrics::job_failed(self.0.name);
                if last.error.is_none() {
                    warn!(job = self.0.name, shard = %self.0.shard, ?error, "a background job failed and will be tried again");
                }
                last.error = Some(error.to_string());
            }
        }
    }

    /// Another node does it from now on; what went wrong here is not this node's to report any more.
    pub(super) fn rest(&self) {
        self.lock().error = None;
        metrics::job_elsewhere(self.0.name, self.0.shard.0);
    }

    /// Runs `work` every `interval` until dropped.
    pub async fn every<F: Future<Output = Result<()>>>(self, interval: Duration, mut work: impl FnMut() -> F) {
        loop {
            tokio::time::sleep(interval).await;
            if !self.is_paused() {
                let result = work().await;
                self.ran(result);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Last> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl JobWatch for Job {
    fn is_paused(&self) -> bool {
        self.is_paused()
    }

    fn ran(&self, result: Result<()>) {
        self.ran(result);
    }
}
