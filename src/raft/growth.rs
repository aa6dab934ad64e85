//! Who waits for which partitions to grow: long polls and followers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::error::{Error, Result};
use crate::model::TopicPartition;

/// Subscriptions times partitions; some 100 bytes each.
const MAX_WAITS: usize = 200_000;

/// The subscriptions of one shard.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    by_partition: Mutex<HashMap<TopicPartition, Vec<Arc<Notify>>>>,
    /// How many there are; lets `apply` pass by when nobody waits.
    count: AtomicUsize,
}

impl Waiters {
    /// See [`super::RaftNode::watch_growth`].
    pub(crate) fn subscribe(self: &Arc<Self>, partitions: &[TopicPartition]) -> Result<Growth> {
        let notify = Arc::new(Notify::new());
        let mut by_partition = self.lock();
        if self.count.load(Ordering::Relaxed) + partitions.len() > MAX_WAITS {
            return Err(Error::overloaded("too many readers wait for records"));
        }
        self.count.fetch_add(partitions.len(), Ordering::SeqCst);
        for partition in partitions {
            by_partition.entry(*partition).or_default().push(Arc::clone(&notify));
        }
        Ok(Growth { waiters: Arc::clone(self), notify, partitions: partitions.to_vec() })
    }

    /// Wakes those who wait for `grown`. Called after the state shows the growth: whoever subscribed after that sees it
    /// there, whoever subscribed before is counted.
    pub(crate) fn wake(&self, grown: &[TopicPartition]) {
        if grown.is_empty() || self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let by_partition = self.lock();
        for waiter in grown.iter().filter_map(|partition| by_partition.get(partition)).flatten() {
            waiter.notify_one();
        }
    }

    /// Wakes everybody: the state was replaced as a whole.
    pub(crate) fn wake_all(&self) {
        self.lock().values().flatten().for_each(|waiter| waiter.notify_one());
    }

    fn unsubscribe(&self, notify: &Arc<Notify>, partitions: &[TopicPartition]) {
        let mut by_partition = self.lock();
        for partition in partitions {
            if let Some(waiting) = by_partition.get_mut(partition) {
                waiting.retain(|other| !Arc::ptr_eq(other, notify));
                if waiting.is_empty() {
                    by_partition.remove(partition);
                }
            }
        }
        self.count.fetch_sub(partitions.len(), Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TopicPartition, Vec<Arc<Notify>>>> {
        self.by_partition.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A subscription to the growth of partitions: see [`super::RaftNode::watch_growth`].
#[derive(Debug)]
pub struct Growth {
    waiters: Arc<Waiters>,
    notify: Arc<Notify>,
    partitions: Vec<TopicPartition>,
}

impl Growth {
    /// Returns once one of the partitions has grown since the last call, or since the subscription. Several growths may
    /// count as one.
    pub async fn changed(&mut self) {
        self.notify.notified().await;
    }
}

impl Drop for Growth {
    fn drop(&mut self) {
        self.waiters.unsubscribe(&self.notify, &self.partitions);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures::FutureExt;
    use uuid::Uuid;

    use super::*;
    use crate::model::TopicId;

    fn partition(number: u32) -> TopicPartition {
        TopicPartition::new(TopicId(Uuid::from_u128(1)), number)
    }

    #[tokio::test]
    async fn growth_between_subscribing_and_waiting_is_not_missed() {
        let waiters = Arc::new(Waiters::default());
        let mut growth = waiters.subscribe(&[partition(0), partition(1)]).unwrap();
        assert!(growth.changed().now_or_never().is_none());
        waiters.wake(&[partition(2)]);
        assert!(growth.changed().now_or_never().is_none());
        waiters.wake(&[partition(1), partition(2)]);
        growth.changed().await;
        assert!(growth.changed().now_or_never().is_none());
    }

    #[test]
    fn nothing_is_left_of_those_who_went() {
        let waiters = Arc::new(Waiters::default());
        let first = waiters.subscribe(&[partition(0), partition(0)]).unwrap();
        let second = waiters.subscribe(&[partition(0), partition(1)]).unwrap();
        drop(first);
        assert_eq!(waiters.lock().len(), 2);
        drop(second);
        assert!(waiters.lock().is_empty());
        assert_eq!(waiters.count.load(Ordering::SeqCst), 0);
        assert_eq!(waiters.subscribe(&vec![partition(0); MAX_WAITS + 1]).unwrap_err().code(), "overloaded");
    }
}
