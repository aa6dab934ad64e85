//! The shards of the cluster and the order in which changes of topics have to be told to them. In shard 0.
//!
//! A topic of several shards is in one of two sets by the revision of its newest change: those whose change is not visible yet,
//! and those that every shard knows. In a new incarnation the shards may come from different moments, so there everything
//! has to be told again: a revision of an earlier incarnation counts as the first one of the current one. Nothing is
//! rewritten for that, it is how the sets are read.

use imbl::OrdSet;

use super::super::State;
use super::entry::TopicEntry;
use crate::model::catalog::MAX_SHARDS;
use crate::model::{Answer, Incarnation, NodeId, Rejection, Revision, TopicId};

/// What shard 0 knows of the shards.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Catalog {
    /// By shard.
    pub(in super::super) founders: Vec<NodeId>,
    /// Partitions of each shard; that of shard 0 is not kept here. Empty while there is one shard.
    pub(in super::super) loads: Vec<u32>,
    /// Topics with a change that is not visible yet, oldest first.
    pending: OrdSet<(Revision, TopicId)>,
    /// The other topics of several shards.
    settled: OrdSet<(Revision, TopicId)>,
    /// What the other shards have is not known yet.
    pub(in super::super) adopting: bool,
    /// In the other shards: the newest revision that let a topic be forgotten.
    pub(in super::super) forgotten: Revision,
}

impl Catalog {
    /// These are the shards now.
    pub(in super::super) fn set_founders(&mut self, founders: Vec<NodeId>) {
        if founders.len() > 1 {
            self.loads.resize(founders.len(), 0);
        }
        self.founders = founders;
    }

    /// Takes a topic into the set that it belongs to.
    pub(in super::super) fn note(&mut self, id: TopicId, entry: &TopicEntry) {
        if entry.placed.is_some() {
            let set = if entry.is_pending() { &mut self.pending } else { &mut self.settled };
            set.insert((entry.revision, id));
        }
    }

    /// Takes a topic, as it was when it was noted, out.
    pub(super) fn forget(&mut self, id: TopicId, entry: &TopicEntry) {
        let set = if entry.is_pending() { &mut self.pending } else { &mut self.settled };
        set.remove(&(entry.revision, id));
    }

    /// Takes the partitions of a topic off the loads.
    pub(super) fn unload(&mut self, entry: &TopicEntry) {
        for (shard, run) in entry.placed_runs() {
            if let Some(load) = self.loads.get_mut(shard.0 as usize) {
                *load = load.saturating_sub(run.count);
            }
        }
    }

    /// Adds the partitions of a topic to the loads.
    pub(in super::super) fn load(&mut self, entry: &TopicEntry) {
        for (shard, run) in entry.placed_runs() {
            if let Some(load) = self.loads.get_mut(shard.0 as usize) {
                *load = load.saturating_add(run.count);
            }
        }
    }

    /// The topics that not every shard is known to know in `incarnation`, in the order in which to tell them.
    pub(super) fn unsynced(&self, incarnation: Incarnation) -> impl Iterator<Item = TopicId> + '_ {
        let first = (Revision { incarnation, index: 0 }, TopicId(uuid::Uuid::nil()));
        let (pending, settled) = (self.pending.iter(), self.settled.range(..first));
        pending.chain(settled).map(|(_, id)| *id)
    }
}

impl State {
    /// Notes which shards there are.
    pub(in super::super) fn set_shards(&mut self, founders: &[NodeId]) -> Result<Answer, Rejection> {
        let current = self.shard_count();
        if founders.len() > MAX_SHARDS as usize {
            return Err(Rejection::TooManyShards { limit: MAX_SHARDS });
        }
        if founders.len() < current as usize {
            return Err(Rejection::ShardsShrink { current });
        }
        if self.closed {
            return Err(Rejection::Closed);
        }
        let known = self.catalog.founders.len();
        if founders.len() > known {
            let all = self.catalog.founders.iter().chain(&founders[known..]).copied().collect();
            self.catalog.set_founders(all);
            // A later life may only now learn of shards that an earlier one had.
            self.catalog.adopting = self.shard_count() > 1 && self.incarnation > Incarnation(1);
            self.changed_at = self.applied;
        }
        Ok(Answer::Done)
    }

    /// The revision of a change by the command that is being applied.
    pub(super) fn this_revision(&self) -> Revision {
        Revision { incarnation: self.incarnation, index: self.applied }
    }

    /// The revision under which the other shards have to know a topic in this incarnation.
    pub(super) fn current_revision(&self, entry: &TopicEntry) -> Revision {
        entry.revision.max(Revision { incarnation: self.incarnation, index: 0 })
    }

    /// Whether not every shard is known to know the topic as it is wanted.
    pub(super) fn is_unsynced(&self, entry: &TopicEntry) -> bool {
        entry.is_pending() || (entry.placed.is_some() && entry.revision.incarnation < self.incarnation)
    }
}
