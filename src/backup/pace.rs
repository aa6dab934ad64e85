//! How fast objects are copied, and how far that is.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Volume;

/// How far a backup or a restore is, for whoever shows it; it only grows.
#[derive(Debug, Default)]
pub struct Progress {
    known: Counter,
    done: Counter,
    copied: Counter,
}

#[derive(Debug, Default)]
struct Counter {
    objects: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    fn add(&self, bytes: u64) {
        self.objects.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    fn volume(&self) -> Volume {
        Volume { objects: self.objects.load(Relaxed), bytes: self.bytes.load(Relaxed) }
    }
}

impl Progress {
    /// What is known so far to have to be there.
    #[must_use]
    pub fn known(&self) -> Volume {
        self.known.volume()
    }

    /// What of that is there.
    #[must_use]
    pub fn done(&self) -> Volume {
        self.done.volume()
    }

    /// What of that was not there before.
    #[must_use]
    pub fn copied(&self) -> Volume {
        self.copied.volume()
    }

    pub(super) fn expect(&self, bytes: u64) {
        self.known.add(bytes);
    }

    pub(super) fn found(&self, bytes: u64) {
        self.done.add(bytes);
    }

    pub(super) fn copy(&self, bytes: u64) {
        self.done.add(bytes);
        self.copied.add(bytes);
    }
}

/// Spreads bytes over time.
#[derive(Debug)]
pub(super) struct Rate {
    per_second: Option<u64>,
    /// When all that was let through is through.
    free: Mutex<Instant>,
}

impl Rate {
    pub(super) fn new(per_second: Option<u64>) -> Self {
        Self { per_second, free: Mutex::new(Instant::now()) }
    }

    /// Waits until `bytes` may be read.
    pub(super) async fn take(&self, bytes: u64) {
        let Some(per_second) = self.per_second.map(|rate| rate.max(1)) else { return };
        let until = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            let begin = (*free).max(Instant::now());
            // Of 2^53 bytes at one a second a duration has room.
            *free = begin + Duration::from_secs_f64(bytes as f64 / per_second as f64);
            begin
        };
        tokio::time::sleep_until(until).await;
    }
}
