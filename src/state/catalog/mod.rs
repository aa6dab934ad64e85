//! Topics: create, alter, delete, undelete, remove.
//!
//! A deleted topic keeps its id, its data and its slots; only its name is free. It can come back within the grace period
//! and is removed after it. Partitions only grow, and a slot is never given out twice.

mod read;

use std::sync::Arc;

use super::objects::Dropped;
use super::{MAX_SHARD_PARTITIONS, PartitionState, State, TopicEntry};
use crate::model::checkpoint::PARTITIONS_PER_PART;
use crate::model::topic::{DEFAULT_NAMESPACE, MAX_PARTITIONS};
use crate::model::{Answer, NamedSettings, Rejection, Topic, TopicId, TopicPartition, TopicSettings};

/// Stored ranges and tail references that one `RemoveTopics` lets go at most; the proposer asks again until the topics
/// are gone.
const REMOVED_RANGES: usize = 16_384;

impl State {
    /// Creates the topic, or agrees with the live one of that name.
    pub(super) fn create_topic(
        &mut self,
        id: TopicId,
        name: &str,
        settings: &TopicSettings,
        named: NamedSettings,
    ) -> Result<Answer, Rejection> {
        if let Some(existing) = self.topic_by_name(name) {
            if !agrees(&existing.settings, settings, named) {
                return Err(Rejection::TopicExists);
            }
            return Ok(Answer::Topic { id: existing.id, created: false });
        }
        if self.closed {
            return Err(Rejection::Closed);
        }
        if self.topics.contains_key(&id) {
            return Err(Rejection::TopicExists);
        }
        let mut entry = TopicEntry {
            topic: Arc::new(Topic {
                id,
                name: name.to_owned(),
                namespace: DEFAULT_NAMESPACE.to_owned(),
                settings: settings.clone(),
                created_at: self.log_time,
                deleted_at: None,
            }),
            extents: Vec::new(),
        };
        self.grow(&mut entry, 0)?;
        self.topics.insert(id, Arc::new(entry));
        self.names.insert(name.to_owned(), id);
        self.changed_at = self.applied;
        Ok(Answer::Topic { id, created: true })
    }

    /// Gives the topic of `entry` the partitions that its settings have above `current`.
    fn grow(&mut self, entry: &mut TopicEntry, current: u32) -> Result<(), Rejection> {
        let wanted = entry.topic.settings.partitions;
        if wanted == 0 || wanted > MAX_PARTITIONS {
            return Err(Rejection::TooManyPartitions { limit: MAX_PARTITIONS });
        }
        let added = wanted - current;
        let too_many = Rejection::TooManyPartitions { limit: MAX_SHARD_PARTITIONS };
        let next_slot = self.next_slot.checked_add(added).ok_or(too_many.clone())?;
        if self.partitions.len() + added as usize > MAX_SHARD_PARTITIONS as usize {
            return Err(too_many);
        }
        if added > 0 {
            entry.extents.push((current, self.next_slot));
        }
        for (partition, slot) in (current..wanted).zip(self.next_slot..) {
            let id = TopicPartition::new(entry.topic.id, partition);
            self.partitions.insert(slot, Arc::new(PartitionState::new(id, slot)));
        }
        for part in self.next_slot / PARTITIONS_PER_PART..=next_slot.saturating_sub(1) / PARTITIONS_PER_PART {
            let first = self.next_slot.max(part * PARTITIONS_PER_PART);
            let end = next_slot.min(part.saturating_add(1).saturating_mul(PARTITIONS_PER_PART));
            if end > first {
                self.parts.entry(part).or_default().partitions += end - first;
            }
        }
        self.next_slot = next_slot;
        Ok(())
    }

    /// Replaces the settings if they still are `expected`.
    pub(super) fn alter_topic(
        &mut self,
        id: TopicId,
        expected: &TopicSettings,
        settings: &TopicSettings,
    ) -> Result<Answer, Rejection> {
        let entry = self.topics.get(&id).filter(|entry| entry.is_live()).ok_or(Rejection::TopicNotFound)?;
        if self.closed {
            return Err(Rejection::Closed);
        }
        let current = &entry.topic.settings;
        if current != expected || current.value_format != settings.value_format {
            return Err(Rejection::TopicExists);
        }
        let partitions = current.partitions;
        if settings.partitions < partitions {
            return Err(Rejection::PartitionsShrink { current: partitions });
        }
        let mut entry = TopicEntry::clone(entry);
        let topic = Arc::make_mut(&mut entry.topic);
        topic.settings = settings.clone();
        if settings.partitions > partitions {
            self.grow(&mut entry, partitions)?;
        }
        self.topics.insert(id, Arc::new(entry));
        self.changed_at = self.applied;
        Ok(Answer::Topic { id, created: false })
    }

    /// Frees the name; the data stays.
    pub(super) fn delete_topic(&mut self, id: TopicId) -> Result<Answer, Rejection> {
        let closed = self.closed;
        let entry = self.topics.get_mut(&id).filter(|entry| entry.is_live()).ok_or(Rejection::TopicNotFound)?;
        if closed {
            return Err(Rejection::Closed);
        }
        let topic = Arc::make_mut(&mut Arc::make_mut(entry).topic);
        topic.deleted_at = Some(self.log_time);
        self.names.remove(&topic.name);
        self.deleted.insert((topic.name.clone(), self.log_time, id));
        self.changed_at = self.applied;
        Ok(Answer::Done)
    }

    /// Brings back the newest deleted topic of that name.
    pub(super) fn undelete_topic(&mut self, name: &str) -> Result<Answer, Rejection> {
        let first = (name.to_owned(), 0, TopicId(uuid::Uuid::nil()));
        let last = (name.to_owned(), u64::MAX, TopicId(uuid::Uuid::max()));
        let newest = self.deleted.range(first..=last).next_back().cloned().ok_or(Rejection::NotDeleted)?;
        let (_, deleted_at, id) = newest;
        if self.grace_is_over(deleted_at) {
            return Err(Rejection::NotDeleted);
        }
        if self.names.contains_key(name) {
            return Err(Rejection::TopicExists);
        }
        if self.closed {
            return Err(Rejection::Closed);
        }
        let entry = self.topics.get_mut(&id).ok_or(Rejection::NotDeleted)?;
        Arc::make_mut(&mut Arc::make_mut(entry).topic).deleted_at = None;
        self.names.insert(name.to_owned(), id);
        self.deleted.remove(&newest);
        self.changed_at = self.applied;
        Ok(Answer::Topic { id, created: false })
    }

    /// Forgets deleted topics whose grace period is over, as far as the bound on one command allows.
    pub(super) fn remove_topics(&mut self, ids: &[TopicId]) -> Answer {
        let mut dropped = Dropped::default();
        let mut budget = REMOVED_RANGES;
        for id in ids {
            let Some(entry) = self.topics.get(id).cloned() else { continue };
            let Some(deleted_at) = entry.topic.deleted_at.filter(|at| self.grace_is_over(*at)) else { continue };
            self.changed_at = self.applied;
            if !self.empty_partitions(&entry, &mut budget, &mut dropped) {
                break;
            }
            for slot in entry.slots() {
                self.forget_partition(slot);
            }
            self.deleted.remove(&(entry.topic.name.clone(), deleted_at, *id));
            self.topics.remove(id);
        }
        self.objects.drop_ranges(dropped);
        Answer::Done
    }

    /// Trims the partitions of a topic to their ends until `budget` is used up; whether all of them are empty.
    fn empty_partitions(&mut self, entry: &TopicEntry, budget: &mut usize, dropped: &mut Dropped) -> bool {
        for slot in entry.slots() {
            let Some(partition) = self.partitions.get(&slot) else { continue };
            let references = partition.ranges.len() + partition.tail.len();
            if references == 0 {
                continue;
            }
            if *budget == 0 {
                return false;
            }
            *budget = budget.saturating_sub(references);
            self.trim_partition(slot, partition.high_watermark, dropped);
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

impl TopicEntry {
    pub(super) fn is_live(&self) -> bool {
        self.topic.deleted_at.is_none()
    }

    /// The slot of `partition`, if the topic has it.
    pub(super) fn slot(&self, partition: u32) -> Option<u32> {
        if partition >= self.topic.settings.partitions {
            return None;
        }
        let run = self.extents.partition_point(|(first, _)| *first <= partition).checked_sub(1)?;
        let (first, slot) = self.extents[run];
        slot.checked_add(partition - first)
    }

    /// The slots of all partitions, in partition order.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.topic.settings.partitions).filter_map(|partition| self.slot(partition))
    }
}

/// Whether `existing` has the members of `wanted` that the request named.
fn agrees(existing: &TopicSettings, wanted: &TopicSettings, named: NamedSettings) -> bool {
    (!named.partitions || existing.partitions == wanted.partitions)
        && (!named.value_format || existing.value_format == wanted.value_format)
        && (!named.retention_ms || existing.retention_ms == wanted.retention_ms)
        && (!named.retention_bytes || existing.retention_bytes == wanted.retention_bytes)
        && (!named.archive_after_ms || existing.archive_after_ms == wanted.archive_after_ms)
        && (!named.compression || existing.compression == wanted.compression)
        && (!named.timestamp_max_ahead_ms || existing.timestamp_max_ahead_ms == wanted.timestamp_max_ahead_ms)
}
