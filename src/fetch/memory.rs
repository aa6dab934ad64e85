//! The memory of pages, from before they are read until their answers are sent.
//!
//! A page reserves what it may need before anything is read, keeps what it did need, which its first batch may make more,
//! and gives that back when its last clone is dropped; so does an answer that is longer than its pages: who does not read an
//! answer uses the budget up, and nothing beyond it. Pages out of the bucket take at most three quarters, so that a bucket
//! that does not answer keeps nobody from the tail. Who needs more than was reserved waits for it with a share in hand, as the
//! others do that it waits for: so it waits for a moment only, and lets go of what it has then.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ::metrics::counter;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::metrics::FETCH_REFUSED;
use crate::model::Hold;

/// The budget is counted in these units: a semaphore has at most 2^29 permits on small machines.
const UNIT: u64 = 1 << 10;
/// How long a page waits for its share; more than it takes to cut off who does not read.
const WAIT: Duration = Duration::from_secs(10);
/// How long one that has a share waits for more.
const WAIT_FOR_MORE: Duration = Duration::from_secs(1);
/// When who got none may come again.
const RETRY_AFTER_MS: u64 = 1_000;

/// The budget of one fetcher.
#[derive(Debug)]
pub(super) struct PageMemory {
    all: Budget,
    from_bucket: Budget,
    wait: Duration,
    wait_for_more: Duration,
    /// Pages that wait for a share.
    waiting: AtomicUsize,
}

/// Counted as waiting.
struct Waiting<'a>(&'a AtomicUsize);

#[derive(Debug)]
struct Budget {
    units: u32,
    free: Arc<Semaphore>,
}

/// A page's share while it is read.
#[derive(Debug)]
pub(super) struct Share {
    shares: Vec<OwnedSemaphorePermit>,
}

impl PageMemory {
    /// A budget of `bytes`; at least one page of any size can be made.
    pub(super) fn new(bytes: u64) -> Self {
        let units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).clamp(1, u32::MAX >> 4);
        let from_bucket = Budget::new((units - units / 4).max(1));
        let (wait, wait_for_more) = (WAIT, WAIT_FOR_MORE);
        Self { all: Budget::new(units), from_bucket, wait, wait_for_more, waiting: AtomicUsize::new(0) }
    }

    /// Bytes in use, and the budget.
    pub(super) fn usage(&self) -> (u64, u64) {
        let free = u32::try_from(self.all.free.available_permits()).unwrap_or(u32::MAX);
        (u64::from(self.all.units.saturating_sub(free)) * UNIT, u64::from(self.all.units) * UNIT)
    }

    /// Whether pages wait for others to be sent.
    pub(super) fn is_scarce(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// A share for a page of `max_bytes`.
    ///
    /// # Errors
    /// `overloaded` if others hold on to theirs for too long.
    pub(super) async fn reserve(&self, max_bytes: u64, from_bucket: bool) -> Result<Share> {
        self.take(units_of(max_bytes), from_bucket, self.wait).await
    }

    /// What a page of `bytes` holds as long as it is: the rest of its share is given back, what is missing is taken.
    ///
    /// # Errors
    /// `overloaded` if others hold on to theirs for too long.
    pub(super) async fn keep(&self, mut share: Share, bytes: u64) -> Result<Hold> {
        let needed = units_of(bytes);
        for share in &mut share.shares {
            drop(share.split(share.num_permits().saturating_sub(needed as usize)));
        }
        let has = share.shares.last().map_or(0, |share| u32::try_from(share.num_permits()).unwrap_or(u32::MAX));
        let missing = needed.min(self.all.units).saturating_sub(has);
        if missing > 0 {
            // What is read already comes out of the bucket no more.
            share.shares.append(&mut self.take(missing, false, self.wait_for_more).await?.shares);
        }
        Ok(Hold::new(share))
    }

    /// A share for `bytes` of an answer beyond those of its pages.
    ///
    /// # Errors
    /// `overloaded` if others hold on to theirs for too long.
    pub(super) async fn hold(&self, bytes: u64) -> Result<Hold> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        Ok(Hold::new(self.take(units, false, self.wait_for_more).await?))
    }

    async fn take(&self, units: u32, from_bucket: bool, wait: Duration) -> Result<Share> {
        if let Some(share) = self.at_once(units, from_bucket) {
            return Ok(share);
        }
        let _waiting = Waiting::begin(&self.waiting);
        let acquire = async {
            let mut shares = Vec::with_capacity(2);
            if from_bucket {
                shares.push(self.from_bucket.acquire(units).await?);
            }
            shares.push(self.all.acquire(units).await?);
            Ok(Share { shares })
        };
        match timeout(wait, acquire).await {
            Ok(share) => {
                share.map_err(|closed: AcquireError| Error::unavailable("the shard stopped").with_source(closed))
            }
            Err(_) => {
                counter!(FETCH_REFUSED).increment(1);
                Err(Error::overloaded("too many pages are being read and sent, see fetch.memory")
                    .with_number("retry_after_ms", RETRY_AFTER_MS))
            }
        }
    }

    fn at_once(&self, units: u32, from_bucket: bool) -> Option<Share> {
        let mut shares = Vec::with_capacity(2);
        if from_bucket {
            shares.push(self.from_bucket.try_acquire(units)?);
        }
        shares.push(self.all.try_acquire(units)?);
        Some(Share { shares })
    }
}

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Budget {
    fn new(units: u32) -> Self {
        Self { units, free: Arc::new(Semaphore::new(units as usize)) }
    }

    fn try_acquire(&self, units: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_many_owned(units.min(self.units)).ok()
    }

    async fn acquire(&self, units: u32) -> Result<OwnedSemaphorePermit, AcquireError> {
        Arc::clone(&self.free).acquire_many_owned(units.min(self.units)).await
    }
}

/// For the bytes of a page, and as many in the form in which it is answered.
fn units_of(bytes: u64) -> u32 {
    u32::try_from(2 * bytes / UNIT + 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn used(memory: &PageMemory) -> u64 {
        memory.usage().0
    }

    fn impatient(bytes: u64) -> PageMemory {
        let moment = Duration::from_millis(1);
        PageMemory { wait: moment, wait_for_more: moment, ..PageMemory::new(bytes) }
    }

    #[tokio::test]
    async fn pages_out_of_the_bucket_never_take_all() {
        let memory = impatient(64 << 20);
        let mut held = Vec::new();
        while let Ok(share) = memory.reserve(1 << 20, true).await {
            held.push(share);
        }
        assert!((20..=24).contains(&held.len()), "{}", held.len());
        assert!(memory.reserve(1 << 20, false).await.is_ok(), "a page of the tail");
        assert_eq!(memory.reserve(1 << 20, true).await.unwrap_err().code(), "overloaded");
        assert!(!memory.is_scarce(), "nobody waits any more");
        held.pop();
        assert!(memory.reserve(1 << 20, true).await.is_ok());
    }

    #[tokio::test]
    async fn a_page_keeps_what_it_needs_until_it_is_dropped() {
        let memory = PageMemory::new(64 << 20);
        let share = memory.reserve(16 << 20, true).await.unwrap();
        let hold = memory.keep(share, 1 << 20).await.unwrap();
        let kept = used(&memory);
        assert!((2 << 20..3 << 20).contains(&kept), "{kept}");
        let other = hold.clone();
        drop(hold);
        assert_eq!(used(&memory), kept);
        drop(other);
        assert_eq!(used(&memory), 0);
    }

    #[tokio::test]
    async fn a_page_that_is_larger_than_the_budget_takes_all_of_it() {
        let memory = PageMemory::new(1 << 20);
        let share = memory.reserve(16 << 20, true).await.unwrap();
        let hold = memory.keep(share, 32 << 20).await.unwrap();
        assert_eq!(used(&memory), 1 << 20);
        drop(hold);
        assert_eq!(used(&memory), 0);
    }

    #[tokio::test]
    async fn a_page_whose_first_batch_is_larger_than_was_asked_for_holds_all_of_it_or_is_not_answered() {
        let memory = impatient(16 << 20);
        let share = memory.reserve(1, true).await.unwrap();
        let hold = memory.keep(share, 4 << 20).await.unwrap();
        let kept = used(&memory);
        assert!((8 << 20..9 << 20).contains(&kept), "{kept}");
        let share = memory.reserve(1, true).await.unwrap();
        assert_eq!(memory.keep(share, 4 << 20).await.unwrap_err().code(), "overloaded");
        assert_eq!(used(&memory), kept);
        drop(hold);
        assert_eq!(used(&memory), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_need_more_do_not_wait_for_each_other_for_long() {
        let memory = PageMemory::new(64 << 20);
        let begun = tokio::time::Instant::now();
        // Each has a page, together all there is, and needs as much again.
        let pages: Vec<Share> =
            futures::future::try_join_all((0..30).map(|_| memory.reserve(1 << 20, false))).await.unwrap();
        let answers = pages.into_iter().map(async |share| {
            let page = memory.keep(share, 1 << 20).await?;
            let rest = memory.hold(6 << 20).await?;
            tokio::time::sleep(Duration::from_millis(5)).await;
            drop((page, rest));
            Ok::<_, Error>(())
        });
        // One after the other, as they do that are made to wait.
        let after_each_other = answers.enumerate().map(async |(at, answer)| {
            tokio::time::sleep(Duration::from_millis(20 * at as u64)).await;
            answer.await
        });
        let answered = futures::future::join_all(after_each_other).await;
        let sent = answered.iter().filter(|answer| answer.is_ok()).count();
        assert!(sent > 15, "{sent}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        assert_eq!(used(&memory), 0);
    }

    #[tokio::test]
    async fn an_answer_that_is_longer_than_its_page_holds_the_rest_as_well() {
        let memory = impatient(16 << 20);
        let hold = memory.hold(10 << 20).await.unwrap();
        assert_eq!(used(&memory), 10 << 20);
        assert_eq!(memory.hold(10 << 20).await.unwrap_err().code(), "overloaded");
        drop(hold);
        assert_eq!(used(&memory), 0);
    }
}
