//! What was asked to be archived before its time: `:flush?archive=true`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::model::{Offset, TopicId, TopicPartition};
use crate::state::State;

/// Requests of one shard; clones share them. Not replicated: they end with their node, and whoever waits asks again.
/// Bounded by the topics of the shard.
#[derive(Debug, Clone, Default)]
pub struct Requests(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    targets: Mutex<BTreeMap<TopicId, BTreeMap<u32, Offset>>>,
    changed: Notify,
}

impl Requests {
    /// Asks that partitions of `topic` be archived up to the offsets given. Asking again raises the offsets.
    pub fn request(&self, topic: TopicId, targets: impl IntoIterator<Item = (u32, Offset)>) {
        let mut topics = self.lock();
        let known = topics.entry(topic).or_default();
        for (partition, offset) in targets {
            let target = known.entry(partition).or_default();
            *target = offset.max(*target);
        }
        drop(topics);
        self.0.changed.notify_one();
    }

    /// The topics of which something that was asked for is not archived yet in `view`; forgets the others.
    #[must_use]
    pub fn open(&self, view: &State) -> BTreeSet<TopicId> {
        let mut topics = self.lock();
        topics.retain(|topic, targets| {
            targets.retain(|partition, target| {
                let partition = view.partition(TopicPartition::new(*topic, *partition));
                partition.is_some_and(|partition| partition.bounds().archived < *target)
            });
            !targets.is_empty()
        });
        topics.keys().copied().collect()
    }

    /// All that was asked for and is not known to be archived.
    #[must_use]
    pub fn targets(&self) -> Vec<(TopicId, Vec<(u32, Offset)>)> {
        let targets =
            |targets: &BTreeMap<u32, Offset>| targets.iter().map(|(partition, target)| (*partition, *target)).collect();
        self.lock().iter().map(|(topic, asked)| (*topic, targets(asked))).collect()
    }

    /// Returns once there was a request since the last return; wakes one worker.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TopicId, BTreeMap<u32, Offset>>> {
        self.0.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
