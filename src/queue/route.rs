//! Which shard a partition is in, and reading several shards as one.
//!
//! The catalog, in the first shard, says which topics there are and where their partitions are; the partitions themselves only
//! their shards know. A node may have heard of a topic in the one and not yet in the other: it looks again there once it has all
//! that was committed.

use futures::future::try_join_all;

use super::{Queue, partition_not_found};
use crate::error::{Error, Result};
use crate::fetch::Fetcher;
use crate::model::{ShardId, Topic, TopicId, TopicPartition};
use crate::shard::Shard;
use crate::state::State;

impl Queue {
    /// The shard of a partition of `topic`, which the catalog has.
    pub(super) fn shard_of(&self, topic: &Topic, partition: u32) -> Result<&Shard> {
        let shards = &self.0.shards;
        if shards.is_single() {
            return Ok(shards.zero());
        }
        let placed = self.read(|state| state.shard_of(TopicPartition::new(topic.id, partition)));
        self.shard(placed.ok_or_else(|| partition_not_found(&topic.name, partition, topic.settings.partitions))?)
    }

    /// The shards that have partitions of a topic.
    pub(super) fn shards_of(&self, topic: TopicId) -> Result<Vec<&Shard>> {
        let shards = &self.0.shards;
        if shards.is_single() {
            return Ok(vec![shards.zero()]);
        }
        self.read(|state| state.shards_of(topic)).into_iter().map(|shard| self.shard(shard)).collect()
    }

    /// A shard that is open here.
    pub(super) fn shard(&self, shard: ShardId) -> Result<&Shard> {
        self.0.shards.get(shard).ok_or_else(|| Error::unavailable(format!("shard {shard} is not open here yet")))
    }

    /// What reads the partitions of `shard`.
    pub(super) fn fetcher(&self, shard: &Shard) -> Result<&Fetcher> {
        let node = || shard.leader().node().clone();
        let first = self.0.fetchers.get(ShardId(0));
        let fetcher = first.and_then(|first| self.0.fetchers.get_or_init(shard.id(), || first.beside(node())));
        fetcher.ok_or_else(|| Error::internal("a shard has no place among the others"))
    }

    /// Returns once this node has applied all that was committed in `shards` when it was called. A sole voter has.
    pub(super) async fn linearize_all(&self, shards: &[&Shard]) -> Result<()> {
        try_join_all(shards.iter().map(|shard| shard.leader().node().linearize())).await.map(drop)
    }

    /// Reads the partitions of `topic` in order, each in the view of its shard among `views`; an error if one is not there yet.
    pub(super) fn by_partition<R>(
        &self,
        topic: &Topic,
        views: &[State],
        read: impl Fn(&State, TopicPartition) -> Option<R>,
    ) -> Result<Vec<R>> {
        let partition = |number: u32| {
            let id = TopicPartition::new(topic.id, number);
            let found = views.iter().find_map(|view| read(view, id));
            found.ok_or_else(|| {
                Error::unavailable(format!("partition {number} of topic {} is not there yet", topic.name))
            })
        };
        (0..topic.settings.partitions).map(partition).collect()
    }
}

/// The states of `shards` as they are now.
pub(super) fn views(shards: &[&Shard]) -> Vec<State> {
    shards.iter().map(|shard| shard.leader().node().view()).collect()
}
