//! Asks a second time for a block whose answer is late: most of what is slow about a store is one connection or one machine of
//! it, and the second answer comes before the first.
//!
//! Late is later than 95% of the latest reads of that size were. At most `store.hedge_percent` of the reads are asked for
//! twice, and none while the store says that it is asked too much, so that a store that is slow altogether is not given more
//! to do. Both calls pass the same limits and retries as any; the one that is not needed any more is dropped.
//!
//! Only the reads of a bucket in S3 are (a simulation and the tests bring stores of their own, and nothing here is drawn at
//! random), and only the ones for somebody who waits: conversions and checks do not.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::metrics::counter;
use futures::future::{Either, select};
use object_store::Result;

use super::attempt::Health;
use crate::metrics::BUCKET_HEDGES;
use crate::metrics::cost::{self, BucketJob};

/// Reads that are remembered for each class of size.
const REMEMBERED: usize = 128;
/// Reads without which nothing is known of a class.
const LEAST: usize = 32;
/// Share of the reads that are in time.
const IN_TIME: usize = 95;
/// Nothing is late that takes less: below it the second call costs more than it saves.
const LEAST_DELAY: Duration = Duration::from_millis(10);
/// Second calls that a calm time saves up for a bad one.
const MOST_SAVED: u64 = 10;
/// Classes of size: up to 1 MiB, 2, 4, 8, 16 and above.
const CLASSES: usize = 6;

/// The times of one bucket's reads, and how many second calls are allowed.
#[derive(Debug)]
pub(super) struct Hedge {
    percent: u64,
    state: Mutex<State>,
    health: Arc<Mutex<Health>>,
}

#[derive(Debug, Default)]
struct State {
    times: [VecDeque<Duration>; CLASSES],
    /// In hundredths of a call.
    saved: u64,
}

impl Hedge {
    /// At most `percent` of the reads are asked for twice; none if it is 0.
    pub(super) fn new(percent: u32, health: Arc<Mutex<Health>>) -> Self {
        Self { percent: u64::from(percent), state: Mutex::default(), health }
    }

    /// Reads `bytes` by `call`, and by another one if that is late.
    pub(super) async fn read<T, F>(&self, bytes: u64, mut call: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let begun = Instant::now();
        let class = class(bytes);
        let result = match self.late_after(class) {
            Some(delay) => self.twice(delay, &mut call).await,
            None => call().await,
        };
        if result.is_ok() {
            self.remember(class, begun.elapsed());
        }
        result
    }

    async fn twice<T, F>(&self, delay: Duration, call: &mut impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut first = pin!(call());
        if let Ok(done) = tokio::time::timeout(delay, &mut first).await {
            return done;
        }
        if !self.may_ask_again() {
            return first.await;
        }
        // The one that is dropped is not counted where calls are: it is one all the same.
        cost::bucket_call(BucketJob::Fetch, "get");
        let second = pin!(call());
        let (outcome, result) = match select(first, second).await {
            Either::Left((Ok(done), _)) => ("late", Ok(done)),
            Either::Right((Ok(done), _)) => ("first", Ok(done)),
            // Whichever failed, the other may still succeed; it says what is wrong as well as this one.
            Either::Left((Err(_), second)) => ("first", second.await),
            Either::Right((Err(_), first)) => ("late", first.await),
        };
        counter!(BUCKET_HEDGES, "outcome" => outcome).increment(1);
        result
    }

    /// Counts a read; after which time it is late, if enough is known.
    fn late_after(&self, class: usize) -> Option<Duration> {
        if self.percent == 0 {
            return None;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.saved = (state.saved + self.percent).min(MOST_SAVED * 100);
        let times = &state.times[class];
        if times.len() < LEAST {
            return None;
        }
        let mut sorted: Vec<_> = times.iter().copied().collect();
        let place = sorted.len() * IN_TIME / 100;
        let (_, late, _) = sorted.select_nth_unstable(place);
        Some((*late).max(LEAST_DELAY))
    }

    /// Takes a second call from what is saved, unless the store is asked too much already.
    fn may_ask_again(&self) -> bool {
        let slowed = self.health.lock().unwrap_or_else(PoisonError::into_inner).slowed;
        if slowed.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left) = state.saved.checked_sub(100) else { return false };
        state.saved = left;
        true
    }

    fn remember(&self, class: usize, time: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let times = &mut state.times[class];
        if times.len() == REMEMBERED {
            times.pop_front();
        }
        times.push_back(time);
    }
}

/// The class of a read's size.
fn class(bytes: u64) -> usize {
    let mib = bytes.div_ceil(1 << 20).max(1);
    (mib.next_power_of_two().trailing_zeros() as usize).min(CLASSES - 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const BLOCK: u64 = 1 << 20;
    const LONG: Duration = Duration::from_secs(600);

    /// One that has seen reads that took a millisecond.
    fn experienced(percent: u32) -> Hedge {
        let hedge = Hedge::new(percent, Arc::default());
        (0..LEAST).for_each(|_| hedge.remember(class(BLOCK), Duration::from_millis(1)));
        hedge
    }

    /// A read whose first call never ends and whose second one does; how many calls it took.
    async fn calls_of(hedge: &Hedge) -> (usize, Result<u32>) {
        let calls = AtomicUsize::new(0);
        let call = || {
            let number = calls.fetch_add(1, Ordering::Relaxed);
            async move {
                if number == 0 {
                    tokio::time::sleep(LONG).await;
                }
                Ok(7)
            }
        };
        let done = hedge.read(BLOCK, call).await;
        (calls.load(Ordering::Relaxed), done)
    }

    #[test]
    fn sizes_are_of_the_class_of_the_next_power_of_two() {
        let found = [0, 1, BLOCK, BLOCK + 1, 3 * BLOCK, 8 * BLOCK, 16 * BLOCK, 99 * BLOCK].map(class);
        assert_eq!(found, [0, 0, 0, 1, 2, 3, 4, 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_late_is_asked_for_a_second_time_and_the_first_answer_counts() {
        let hedge = experienced(20);
        let begun = tokio::time::Instant::now();
        // Five reads save up one second call at 20%.
        for _ in 0..4 {
            assert_eq!(hedge.read(BLOCK, || async { Ok(1) }).await.unwrap(), 1);
        }
        let (calls, done) = calls_of(&hedge).await;
        assert_eq!((calls, done.unwrap()), (2, 7));
        assert!(begun.elapsed() < LONG, "it did not wait for the first call");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_share_is_asked_for_twice_and_nothing_while_the_store_is_to_be_left_alone() {
        let hedge = experienced(5);
        let mut twice = 0;
        for _ in 0..400 {
            twice += calls_of(&hedge).await.0 - 1;
        }
        assert_eq!(twice, 400 * 5 / 100);
        assert_eq!(calls_of(&experienced(0)).await.0, 1, "switched off");
        let unknown = Hedge::new(20, Arc::default());
        unknown.state.lock().unwrap().saved = 1_000;
        assert_eq!(calls_of(&unknown).await.0, 1, "nothing is known of its times yet");

        let slowed = experienced(20);
        slowed.state.lock().unwrap().saved = 1_000;
        slowed.health.lock().unwrap().slowed = Some(Instant::now() + LONG);
        assert_eq!(calls_of(&slowed).await.0, 1);
        slowed.health.lock().unwrap().slowed = None;
        assert_eq!(calls_of(&slowed).await.0, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_call_that_fails_leaves_the_first_one_its_time() {
        let hedge = experienced(20);
        hedge.state.lock().unwrap().saved = 1_000;
        let calls = AtomicUsize::new(0);
        let call = || {
            let number = calls.fetch_add(1, Ordering::Relaxed);
            async move {
                if number == 0 {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    return Ok(1);
                }
                Err(object_store::Error::Generic { store: "test", source: "no".into() })
            }
        };
        assert_eq!(hedge.read(BLOCK, call).await.unwrap(), 1);
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }
}
