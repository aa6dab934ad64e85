//! How fast a verification reads, and how far it is: shared by all that is read at once.
//!
//! What is counted and held back are the bytes of segments and archive files, which are nearly all there is; checkpoints
//! and index parts are read as they come.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How far a verification is. Totals grow when another shard begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Bytes of segments and archive files that are done with.
    pub bytes: u64,
    /// Of so many that are known to be due.
    pub total_bytes: u64,
    /// Objects that are done with.
    pub objects: u64,
    /// Of so many.
    pub total_objects: u64,
}

/// Is told of every piece that was read, from several threads.
pub type Watch = Arc<dyn Fn(Progress) + Send + Sync>;

/// See the module.
pub(super) struct Meter {
    watch: Watch,
    /// Bytes a second.
    rate: Option<u64>,
    /// When the next piece may be read.
    next: Mutex<Instant>,
    bytes: AtomicU64,
    total_bytes: AtomicU64,
    objects: AtomicU64,
    total_objects: AtomicU64,
    /// Bytes that came from the bucket.
    read: AtomicU64,
}

impl Meter {
    pub(super) fn new(rate: Option<u64>, watch: Watch) -> Self {
        let zero = || AtomicU64::new(0);
        let next = Mutex::new(Instant::now());
        let (bytes, total_bytes, objects, total_objects) = (zero(), zero(), zero(), zero());
        Self { watch, rate, next, bytes, total_bytes, objects, total_objects, read: zero() }
    }

    /// So much more is to be done.
    pub(super) fn expect(&self, objects: u64, bytes: u64) {
        self.total_objects.fetch_add(objects, Ordering::Relaxed);
        self.total_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.tell();
    }

    /// Waits until `bytes` more may be read. The first piece never waits; on average the rate is kept.
    pub(super) async fn admit(&self, bytes: u64) {
        let Some(rate) = self.rate else { return };
        let takes = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
        let takes = Duration::from_nanos(u64::try_from(takes).unwrap_or(u64::MAX));
        let begins = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let begins = (*next).max(Instant::now());
            *next = begins + takes;
            begins
        };
        tokio::time::sleep_until(begins).await;
    }

    /// So many bytes came from the bucket.
    pub(super) fn read(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
        self.pass(bytes);
    }

    /// So many bytes are done with, read or not.
    pub(super) fn pass(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.tell();
    }

    /// An object is done with.
    pub(super) fn object(&self) {
        self.objects.fetch_add(1, Ordering::Relaxed);
        self.tell();
    }

    /// Bytes that came from the bucket so far.
    pub(super) fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    fn tell(&self) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (self.watch)(Progress {
            bytes: of(&self.bytes),
            total_bytes: of(&self.total_bytes),
            objects: of(&self.objects),
            total_objects: of(&self.total_objects),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a clock that stands still but for sleeps, so what passes is what was waited.
    #[tokio::test(start_paused = true)]
    async fn a_rate_holds_readers_back_whoever_they_are() {
        let begun = Instant::now();
        let meter = Arc::new(Meter::new(Some(1_000), Arc::new(|_| {})));
        let readers = (0..4).map(|_| {
            let meter = Arc::clone(&meter);
            tokio::spawn(async move {
                for _ in 0..5 {
                    meter.admit(100).await;
                }
            })
        });
        for reader in readers.collect::<Vec<_>>() {
            assert!(reader.await.is_ok());
        }
        // Twenty pieces of a tenth of a second, the first of which did not wait.
        assert_eq!(begun.elapsed().as_millis(), 1_900);
        let unbound = Meter::new(None, Arc::new(|_| {}));
        unbound.admit(u64::MAX).await;
        assert_eq!(begun.elapsed().as_millis(), 1_900);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_of_nothing_does_not_divide_by_it() {
        let meter = Meter::new(Some(0), Arc::new(|_| {}));
        meter.admit(3).await;
        let begun = Instant::now();
        meter.admit(1).await;
        assert_eq!(begun.elapsed().as_secs(), 3);
    }
}
