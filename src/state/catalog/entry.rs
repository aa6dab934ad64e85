//! One topic as a shard knows it: its settings, the partitions that are here, and in shard 0 where the others are.

use std::sync::Arc;

use super::super::State;
use crate::model::catalog::{PlacedRecord, Visible};
use crate::model::checkpoint::{Extent, TopicRecord};
use crate::model::{
    CATALOG_SHARD, Holding, PartitionRun, PlacementRun, Revision, ShardId, Topic, TopicPartition, TopicSync,
};

/// A topic of the shard and where its partitions are.
#[derive(Debug, Clone)]
pub(in super::super) struct TopicEntry {
    /// What this shard goes by. In shard 0: what is wanted, whatever the other shards know.
    pub(in super::super) topic: Arc<Topic>,
    /// The partitions that are here, ascending.
    pub(in super::super) extents: Vec<Extent>,
    /// The newest change that concerns other shards.
    pub(in super::super) revision: Revision,
    /// It is being forgotten and does not come back.
    pub(in super::super) removed: bool,
    /// In shard 0: where the partitions are, if other shards have some. Without it all of them are here.
    pub(in super::super) placed: Option<Placed>,
}

/// Where the partitions of a topic of several shards are.
#[derive(Debug, Clone)]
pub(in super::super) struct Placed {
    /// From partition 0 on, without two neighbours of the same shard.
    pub(in super::super) runs: Vec<PlacementRun>,
    /// Partitions were added after the creation.
    pub(in super::super) grown: bool,
    /// What users see.
    pub(in super::super) shown: Shown,
}

/// What users see of a topic of several shards.
#[derive(Debug, Clone)]
pub(in super::super) enum Shown {
    /// What is wanted: all shards know it.
    Wanted,
    /// What was there before, if anything, since not all shards are known to know the newest revision.
    Before(Option<Arc<Topic>>),
}

impl TopicEntry {
    /// A topic without a partition.
    pub(super) fn new(topic: Topic) -> Self {
        let (topic, revision) = (Arc::new(topic), Revision::default());
        Self { topic, extents: Vec::new(), revision, removed: false, placed: None }
    }

    /// From a checkpoint. The caller checks it.
    pub(in super::super) fn restore(record: TopicRecord) -> Self {
        let TopicRecord { topic, extents, revision, removed, placed } = record;
        let placed = placed.map(|PlacedRecord { runs, grown, visible }| {
            let shown = match visible {
                Visible::Wanted => Shown::Wanted,
                Visible::Before(topic) => Shown::Before(topic.map(Arc::new)),
            };
            Placed { runs, grown, shown }
        });
        Self { topic: Arc::new(topic), extents, revision, removed, placed }
    }

    /// As a checkpoint holds it.
    pub(in super::super) fn record(&self) -> TopicRecord {
        let placed = self.placed.as_ref().map(|placed| {
            let visible = match &placed.shown {
                Shown::Wanted => Visible::Wanted,
                Shown::Before(topic) => Visible::Before(topic.as_deref().cloned()),
            };
            PlacedRecord { runs: placed.runs.clone(), grown: placed.grown, visible }
        });
        TopicRecord {
            topic: Topic::clone(&self.topic),
            extents: self.extents.clone(),
            revision: self.revision,
            removed: self.removed,
            placed,
        }
    }

    pub(in super::super) fn is_live(&self) -> bool {
        self.topic.deleted_at.is_none()
    }

    /// The topic as users see it.
    pub(in super::super) fn visible(&self) -> Option<&Arc<Topic>> {
        match self.placed.as_ref().map(|placed| &placed.shown) {
            Some(Shown::Before(topic)) => topic.as_ref(),
            Some(Shown::Wanted) | None => Some(&self.topic),
        }
    }

    /// Whether a change is not visible yet.
    pub(super) fn is_pending(&self) -> bool {
        self.placed.as_ref().is_some_and(|placed| matches!(placed.shown, Shown::Before(_)))
    }

    /// The slot of `partition`, if it is here.
    pub(in super::super) fn slot(&self, partition: u32) -> Option<u32> {
        let run = self.extents.partition_point(|extent| extent.first <= partition).checked_sub(1)?;
        let Extent { first, count, slot } = self.extents[run];
        let past = partition - first;
        (past < count).then(|| slot.saturating_add(past))
    }

    /// The partitions that are here and their slots, in partition order.
    pub(in super::super) fn slots(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.extents.iter().flat_map(|extent| (extent.first..).zip(extent.slot..).take(extent.count as usize))
    }

    /// The partitions that are here.
    pub(super) fn runs(&self) -> Vec<PartitionRun> {
        let mut runs: Vec<PartitionRun> = Vec::with_capacity(self.extents.len());
        for Extent { first, count, .. } in self.extents.iter().copied() {
            match runs.last_mut().filter(|last| last.first + last.count == first) {
                Some(last) => last.count += count,
                None => runs.push(PartitionRun { first, count }),
            }
        }
        runs
    }

    /// Where all partitions are; without a partition nothing.
    pub(super) fn placement(&self, here: ShardId) -> Vec<PlacementRun> {
        match &self.placed {
            Some(placed) => placed.runs.clone(),
            None if here == CATALOG_SHARD => vec![PlacementRun { first: 0, shard: here }],
            None => self.runs().iter().map(|run| PlacementRun { first: run.first, shard: here }).collect(),
        }
    }

    /// How many partitions each run of the placement has, with its shard.
    pub(in super::super) fn placed_runs(&self) -> impl Iterator<Item = (ShardId, PartitionRun)> + '_ {
        let total = self.topic.settings.partitions;
        let runs = self.placed.as_ref().map_or(&[][..], |placed| &placed.runs);
        let ends = runs.iter().skip(1).map(|run| run.first).chain([total]);
        runs.iter()
            .zip(ends)
            .map(|(run, end)| (run.shard, PartitionRun { first: run.first, count: end.saturating_sub(run.first) }))
    }

    /// Whether the partitions that are here are those that the placement says.
    pub(in super::super) fn is_here(&self) -> bool {
        let placed = self.placed_runs().filter(|(shard, _)| *shard == CATALOG_SHARD).map(|(_, run)| run);
        placed.eq(self.runs())
    }

    /// What the other shards have to know, under `revision`.
    pub(super) fn sync(&self, revision: Revision) -> TopicSync {
        let mut holdings: Vec<Holding> = Vec::new();
        for (shard, run) in self.placed_runs().filter(|(shard, _)| *shard != CATALOG_SHARD) {
            match holdings.binary_search_by_key(&shard, |holding| holding.shard) {
                Ok(at) => holdings[at].runs.push(run),
                Err(at) => holdings.insert(at, Holding { shard, runs: vec![run] }),
            }
        }
        TopicSync { topic: Topic::clone(&self.topic), removed: self.removed, revision, holdings }
    }
}

impl Placed {
    /// The shard that has `partition`.
    pub(super) fn shard_of(&self, partition: u32) -> Option<ShardId> {
        let run = self.runs.partition_point(|run| run.first <= partition).checked_sub(1)?;
        Some(self.runs[run].shard)
    }
}

impl State {
    /// The slot of a partition that is here.
    pub(in super::super) fn slot(&self, id: TopicPartition) -> Option<u32> {
        self.topics.get(&id.topic)?.slot(id.partition)
    }
}
