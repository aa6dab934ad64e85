//! The catalog of a cluster with several shards: where partitions are and what the shards have yet to learn.
//!
//! Shard 0 decides, the others follow: a change of a topic is wanted first, is told to every shard that holds partitions of
//! the topic ([`TopicSync`]), and is visible once all of them know it. What a shard is told carries a [`Revision`], so it may
//! be told twice and late. With one shard there is nothing to tell, and a change is visible at once.

use serde::{Deserialize, Serialize};

use super::command::Control;
use super::id::{Incarnation, LogIndex, ShardId, TopicId};
use super::topic::Topic;

/// Shards that a cluster may have.
pub const MAX_SHARDS: u32 = 64;

/// The shard that owns the catalog.
pub const CATALOG_SHARD: ShardId = ShardId(0);

/// When the catalog last changed a topic: the order in which its changes count, also in shards that were restored from
/// another moment than the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Revision {
    /// The life of the cluster; log indexes of an earlier one may come again.
    pub incarnation: Incarnation,
    /// The entry in the log of shard 0.
    pub index: LogIndex,
}

/// Consecutive partitions of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionRun {
    /// The first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// Where a topic's partitions are, from `first` on until the next run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementRun {
    /// The first partition.
    pub first: u32,
    /// The shard that has it.
    pub shard: ShardId,
}

/// Which partitions of a topic a shard has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// The shard.
    pub shard: ShardId,
    /// Ascending.
    pub runs: Vec<PartitionRun>,
}

/// What shard 0 wants the other shards to know of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSync {
    /// The topic as it shall be.
    pub topic: Topic,
    /// It shall be forgotten, data and all.
    pub removed: bool,
    /// The change that this is.
    pub revision: Revision,
    /// The partitions of each shard besides shard 0, by shard; none without a partition.
    pub holdings: Vec<Holding>,
}

impl TopicSync {
    /// The command for each shard; all have to be answered `Done` before [`Self::synced`] is proposed.
    pub fn commands(&self) -> impl Iterator<Item = (ShardId, Control)> + '_ {
        self.holdings.iter().map(|holding| {
            let control = Control::SyncTopic {
                topic: self.topic.clone(),
                removed: self.removed,
                revision: self.revision,
                runs: holding.runs.clone(),
            };
            (holding.shard, control)
        })
    }

    /// The command for shard 0 that makes the change visible.
    #[must_use]
    pub const fn synced(&self) -> Control {
        Control::TopicSynced { id: self.id(), revision: self.revision }
    }

    /// The topic's id.
    #[must_use]
    pub const fn id(&self) -> TopicId {
        self.topic.id
    }
}

/// What users see of a topic of several shards, in a checkpoint of shard 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Visible {
    /// What is wanted: every shard knows it.
    Wanted,
    /// What was there before the newest change, if anything.
    Before(Option<Topic>),
}

/// Where the partitions of a topic of several shards are, in a checkpoint of shard 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedRecord {
    /// From partition 0 on, without two neighbours of the same shard.
    pub runs: Vec<PlacementRun>,
    /// Partitions were added after the creation.
    pub grown: bool,
    /// What users see.
    pub visible: Visible,
}
