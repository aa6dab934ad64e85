//! Reading the catalog: where partitions are, what is wanted, and what the other shards have yet to learn.

use std::sync::Arc;

use super::super::State;
use crate::model::{Control, NodeId, PlacementRun, ShardId, Topic, TopicId, TopicPartition, TopicSync};

impl State {
    /// How many shards the cluster has; 1 until [`Control::SetShards`] said something else. Shard 0 knows.
    #[must_use]
    pub fn shard_count(&self) -> u32 {
        1
    }

    /// By shard, the node that founds or founded it. Empty until [`Control::SetShards`].
    #[must_use]
    pub fn founders(&self) -> &[NodeId] {
        &[]
    }

    /// The shard that has or will have a partition: in shard 0 of any topic, elsewhere only of those that the shard has itself.
    /// A partition that is not visible yet is placed already: compare with the settings of [`Self::topic`].
    #[must_use]
    pub fn shard_of(&self, partition: TopicPartition) -> Option<ShardId> {
        self.slot(partition).map(|_| self.shard)
    }

    /// Where the partitions of a topic are, by partition, those included that are not visible yet.
    #[must_use]
    pub fn placement(&self, topic: TopicId) -> Vec<PlacementRun> {
        self.topic(topic).map(|_| PlacementRun { first: 0, shard: self.shard }).into_iter().collect()
    }

    /// The shards that have partitions of a topic, ascending.
    #[must_use]
    pub fn shards_of(&self, topic: TopicId) -> Vec<ShardId> {
        let mut shards: Vec<ShardId> = self.placement(topic).iter().map(|run| run.shard).collect();
        shards.sort_unstable();
        shards.dedup();
        shards
    }

    /// Whether partitions were added while other shards had some: then what one shard remembers of an idempotency key may
    /// count in another, and all of them have to be asked.
    #[must_use]
    pub fn has_grown(&self, _topic: TopicId) -> bool {
        false
    }

    /// The topic as it shall be, visible or not: what a change has to be based on, and what this shard's own partitions go by.
    #[must_use]
    pub fn wanted(&self, topic: TopicId) -> Option<&Arc<Topic>> {
        self.topic(topic)
    }

    /// What the other shards have yet to learn of a topic, if anything.
    #[must_use]
    pub fn pending_sync(&self, _topic: TopicId) -> Option<TopicSync> {
        None
    }

    /// The first `limit` topics of which other shards have yet to learn something, oldest change first.
    #[must_use]
    pub fn unsynced(&self, _limit: usize) -> Vec<TopicSync> {
        Vec::new()
    }

    /// Whether topics cannot change until [`Control::Adopted`].
    #[must_use]
    pub fn is_adopting(&self) -> bool {
        false
    }

    /// The commands that tell shard 0 what `others`, views of all other shards, have and it does not know. Reads all topics.
    #[must_use]
    pub fn adoptions(&self, _others: &[Self]) -> Vec<Control> {
        Vec::new()
    }
}
