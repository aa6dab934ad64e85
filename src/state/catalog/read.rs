//! Reading the catalog: where partitions are, what is wanted, and what the other shards have yet to learn.

use std::sync::Arc;

use super::super::State;
use crate::model::{NodeId, PlacementRun, Revision, ShardId, Topic, TopicId, TopicPartition, TopicSync};

impl State {
    /// How many shards the cluster has; 1 until [`Control::SetShards`](crate::model::Control::SetShards) said something
    /// else. Shard 0 knows.
    #[must_use]
    pub fn shard_count(&self) -> u32 {
        self.catalog.founders.len().max(1) as u32
    }

    /// By shard, the node that founds or founded it. Empty until the shards were set.
    #[must_use]
    pub fn founders(&self) -> &[NodeId] {
        &self.catalog.founders
    }

    /// The shard that has or will have a partition: in shard 0 of any topic, elsewhere only of those that are in that shard.
    /// A partition that is not visible yet is placed already: compare with the settings of [`Self::topic`].
    #[must_use]
    pub fn shard_of(&self, partition: TopicPartition) -> Option<ShardId> {
        let entry = self.topics.get(&partition.topic)?;
        match &entry.placed {
            Some(placed) if partition.partition < entry.topic.settings.partitions => {
                placed.shard_of(partition.partition)
            }
            Some(_) => None,
            None => entry.slot(partition.partition).map(|_| self.shard),
        }
    }

    /// Where the partitions of a topic are, by partition, those included that are not visible yet.
    #[must_use]
    pub fn placement(&self, topic: TopicId) -> Vec<PlacementRun> {
        self.topics.get(&topic).map(|entry| entry.placement(self.shard)).unwrap_or_default()
    }

    /// The shards that have partitions of a topic, ascending.
    #[must_use]
    pub fn shards_of(&self, topic: TopicId) -> Vec<ShardId> {
        let mut shards: Vec<ShardId> = self.placement(topic).iter().map(|run| run.shard).collect();
        shards.sort_unstable();
        shards.dedup();
        shards
    }

    /// Whether partitions were added to a topic of several shards: then what one shard remembers of an idempotency key counts
    /// in the others, and all of them have to be asked. See docs/decisions/0017.
    #[must_use]
    pub fn has_grown(&self, topic: TopicId) -> bool {
        self.topics.get(&topic).and_then(|entry| entry.placed.as_ref()).is_some_and(|placed| placed.grown)
    }

    /// The topic as it shall be, visible or not: what a change has to be based on, and what this shard's own partitions go by.
    #[must_use]
    pub fn wanted(&self, topic: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(&topic).map(|entry| &entry.topic)
    }

    /// Live topics with partitions in this shard, by id, each as its partitions go by it.
    pub fn live_topics(&self) -> impl Iterator<Item = &Arc<Topic>> + '_ {
        self.topics.values().filter(|entry| entry.is_live() && !entry.extents.is_empty()).map(|entry| &entry.topic)
    }

    /// The newest change of a topic that concerns or concerned other shards: in shard 0 of those that have partitions elsewhere,
    /// in another shard what it was told last.
    #[must_use]
    pub fn revision(&self, topic: TopicId) -> Option<Revision> {
        let entry = self.topics.get(&topic)?;
        (entry.revision != Revision::default()).then_some(entry.revision)
    }

    /// What the other shards have yet to learn of a topic, if anything. Nothing while the catalog has yet to learn of them.
    #[must_use]
    pub fn pending_sync(&self, topic: TopicId) -> Option<TopicSync> {
        let entry = self.topics.get(&topic).filter(|entry| !self.is_adopting() && self.is_unsynced(entry))?;
        Some(entry.sync(self.current_revision(entry)))
    }

    /// The first `limit` topics of which other shards have yet to learn something, oldest change first.
    #[must_use]
    pub fn unsynced(&self, limit: usize) -> Vec<TopicSync> {
        let limit = if self.is_adopting() { 0 } else { limit };
        let ids = self.catalog.unsynced(self.incarnation).take(limit);
        ids.filter_map(|id| self.pending_sync(id)).collect()
    }
}
