//! Forgetting deleted topics, in steps of bounded size.
//!
//! A topic that lies in this shard alone is emptied by `RemoveTopics` itself, proposed again until it is gone. One with
//! partitions in other shards is marked, which is a change like any other: the others empty theirs when they are told, and
//! this shard its own when all of them have.

use super::super::State;
use super::super::objects::Dropped;
use super::entry::TopicEntry;
use crate::model::checkpoint::PARTITIONS_PER_PART;
use crate::model::{Answer, LogStart, TopicId};

/// Stored ranges and tail references that one command lets go at most; the proposer asks again until the topics are gone.
const REMOVED_RANGES: usize = 16_384;

impl State {
    /// Forgets deleted topics whose grace period is over, as far as the bound on one command allows.
    pub(in super::super) fn remove_topics(&mut self, ids: &[TopicId]) -> Answer {
        let mut dropped = Dropped::default();
        let mut budget = REMOVED_RANGES;
        for id in ids {
            let Some(entry) = self.topics.get(id).cloned() else { continue };
            let over = entry.topic.deleted_at.is_some_and(|at| self.grace_is_over(at));
            if !over || entry.removed {
                continue;
            }
            if entry.placed.is_some() {
                self.mark_removed(&entry);
                continue;
            }
            self.changed_at = self.applied;
            if !self.empty_partitions(&entry, &mut budget, &mut dropped) {
                break;
            }
            self.forget_topic(&entry);
        }
        self.objects.drop_ranges(dropped);
        Answer::Done
    }

    /// From now on the topic does not come back.
    fn mark_removed(&mut self, entry: &TopicEntry) {
        if self.check_changeable().is_ok() {
            let before = entry.visible().cloned();
            self.changed(TopicEntry { removed: true, ..entry.clone() }, before, false);
        }
    }

    /// Empties a topic that is to be forgotten by one step; whether it is gone.
    pub(super) fn remove_step(&mut self, entry: &TopicEntry) -> bool {
        let mut dropped = Dropped::default();
        let mut budget = REMOVED_RANGES;
        self.changed_at = self.applied;
        let empty = self.empty_partitions(entry, &mut budget, &mut dropped);
        self.objects.drop_ranges(dropped);
        if empty {
            self.forget_topic(entry);
        }
        empty
    }

    /// Takes a topic whose partitions are empty out of every table.
    fn forget_topic(&mut self, entry: &TopicEntry) {
        let topic = &entry.topic;
        for (_, slot) in entry.slots() {
            self.forget_partition(slot);
        }
        self.catalog.forget(topic.id, entry);
        self.catalog.unload(entry);
        if let Some(deleted_at) = topic.deleted_at {
            self.deleted.remove(&(topic.name.clone(), deleted_at, topic.id));
        }
        self.topics.remove(&topic.id);
    }

    /// Trims the partitions of a topic to their ends until `budget` is used up; whether all of them are empty.
    fn empty_partitions(&mut self, entry: &TopicEntry, budget: &mut usize, dropped: &mut Dropped) -> bool {
        for (_, slot) in entry.slots() {
            let Some(partition) = self.partitions.get(&slot) else { continue };
            let references = partition.ranges.len() + partition.tail.len();
            if references == 0 {
                continue;
            }
            if *budget == 0 {
                return false;
            }
            *budget = budget.saturating_sub(references);
            let start = LogStart::of_all(partition.id, partition.high_watermark);
            self.trim_partition(slot, &start, dropped);
        }
        true
    }

    /// Takes an empty partition out of every table.
    fn forget_partition(&mut self, slot: u32) {
        let Some(partition) = self.partitions.remove(&slot) else { return };
        self.producer_checks.remove(&(partition.producers_checked, slot));
        let part = slot / PARTITIONS_PER_PART;
        if let Some(state) = self.parts.get_mut(&part) {
            state.partitions -= 1;
            state.changed_at = self.applied;
            if state.partitions == 0 {
                self.parts.remove(&part);
            }
        }
    }

    /// Whether a topic deleted at `deleted_at` can no longer be undeleted.
    #[must_use]
    pub fn grace_is_over(&self, deleted_at: u64) -> bool {
        deleted_at.saturating_add(self.limits.topic_delete_grace_ms) < self.log_time
    }
}
