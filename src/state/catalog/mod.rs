//! Topics: create, alter, delete, undelete; and in shard 0 of several what is wanted of the others.
//!
//! A deleted topic keeps its id, its data and its slots; only its name is free. It can come back within the grace period
//! and is removed after it. Partitions only grow, and a slot is never given out twice.
//!
//! Shard 0 decides. While it is the only one, and for a topic that lies in it alone, a change is visible at once. A topic with
//! partitions in other shards has what is wanted, which this shard's own partitions go by, and what is visible; the two
//! differ from a change until [`Control::TopicSynced`](crate::model::Control::TopicSynced) says that every shard knows it.
//! Only a deletion hides the topic at once. Who tells the other shards, and when, is not decided here.

mod adopt;
mod entry;
mod placement;
mod read;
mod remove;
mod shards;
mod sync;

use std::sync::Arc;

pub(super) use self::entry::{Shown, TopicEntry};
pub(super) use self::shards::Catalog;
use super::State;
use crate::model::topic::DEFAULT_NAMESPACE;
use crate::model::{Answer, NamedSettings, Rejection, Topic, TopicId, TopicSettings};

impl State {
    /// Creates the topic, or agrees with the live one of that name.
    pub(super) fn create_topic(
        &mut self,
        id: TopicId,
        name: &str,
        settings: &TopicSettings,
        named: NamedSettings,
    ) -> Result<Answer, Rejection> {
        if let Some(existing) = self.names.get(name).and_then(|id| self.topics.get(id)) {
            if !agrees(&existing.topic.settings, settings, named) {
                return Err(Rejection::TopicExists);
            }
            return Ok(existing.answer(false));
        }
        self.check_changeable()?;
        if self.topics.contains_key(&id) {
            return Err(Rejection::TopicExists);
        }
        let mut entry = TopicEntry::new(Topic {
            id,
            name: name.to_owned(),
            namespace: DEFAULT_NAMESPACE.to_owned(),
            settings: settings.clone(),
            created_at: self.log_time,
            deleted_at: None,
        });
        self.place_partitions(&mut entry, 0)?;
        self.names.insert(name.to_owned(), id);
        Ok(self.changed(entry, None, true))
    }

    /// Replaces the settings if they still are `expected`.
    pub(super) fn alter_topic(
        &mut self,
        id: TopicId,
        expected: &TopicSettings,
        settings: &TopicSettings,
    ) -> Result<Answer, Rejection> {
        let entry = self.topics.get(&id).filter(|entry| entry.is_live()).ok_or(Rejection::TopicNotFound)?;
        self.check_changeable()?;
        let current = &entry.topic.settings;
        if current != expected || current.value_format != settings.value_format {
            return Err(Rejection::TopicExists);
        }
        let partitions = current.partitions;
        if settings.partitions < partitions {
            return Err(Rejection::PartitionsShrink { current: partitions });
        }
        let mut entry = TopicEntry::clone(entry);
        let before = entry.visible().cloned();
        let topic = Arc::make_mut(&mut entry.topic);
        topic.settings = settings.clone();
        if settings.partitions > partitions {
            self.place_partitions(&mut entry, partitions)?;
            entry.note_growth();
        }
        Ok(self.changed(entry, before, false))
    }

    /// Frees the name and hides the topic; the data stays.
    pub(super) fn delete_topic(&mut self, id: TopicId) -> Result<Answer, Rejection> {
        let entry = self.topics.get(&id).filter(|entry| entry.is_live()).ok_or(Rejection::TopicNotFound)?;
        self.check_changeable()?;
        let mut entry = TopicEntry::clone(entry);
        let now = self.log_time;
        let mut before = entry.visible().cloned();
        if let Some(shown) = &mut before {
            Arc::make_mut(shown).deleted_at = Some(now);
        }
        let topic = Arc::make_mut(&mut entry.topic);
        topic.deleted_at = Some(now);
        self.names.remove(&topic.name);
        self.deleted.insert((topic.name.clone(), now, id));
        Ok(match self.changed(entry, before, false) {
            Answer::Topic { .. } => Answer::Done,
            pending => pending,
        })
    }

    /// Brings back the newest deleted topic of that name.
    pub(super) fn undelete_topic(&mut self, name: &str) -> Result<Answer, Rejection> {
        let first = (name.to_owned(), 0, TopicId(uuid::Uuid::nil()));
        let last = (name.to_owned(), u64::MAX, TopicId(uuid::Uuid::max()));
        let kept = |id: &TopicId| self.topics.get(id).is_some_and(|entry| !entry.removed);
        let newest = self.deleted.range(first..=last).rev().find(|(.., id)| kept(id));
        let newest = newest.cloned().ok_or(Rejection::NotDeleted)?;
        let (_, deleted_at, id) = newest;
        if self.grace_is_over(deleted_at) {
            return Err(Rejection::NotDeleted);
        }
        if self.names.contains_key(name) {
            return Err(Rejection::TopicExists);
        }
        self.check_changeable()?;
        let mut entry = self.topics.get(&id).map(|entry| TopicEntry::clone(entry)).ok_or(Rejection::NotDeleted)?;
        let before = entry.visible().cloned();
        Arc::make_mut(&mut entry.topic).deleted_at = None;
        self.names.insert(name.to_owned(), id);
        self.deleted.remove(&newest);
        Ok(self.changed(entry, before, false))
    }

    /// Whether topics may change now.
    fn check_changeable(&self) -> Result<(), Rejection> {
        if self.closed {
            return Err(Rejection::Closed);
        }
        if self.is_adopting() { Err(Rejection::Adopting) } else { Ok(()) }
    }

    /// Puts a changed topic into the tables. If other shards have to know, users see `before` until they do.
    fn changed(&mut self, mut entry: TopicEntry, before: Option<Arc<Topic>>, created: bool) -> Answer {
        let id = entry.topic.id;
        self.changed_at = self.applied;
        if entry.placed.is_some() {
            let revision = self.this_revision();
            self.catalog.forget(id, &entry);
            entry.revision = revision;
            if let Some(placed) = &mut entry.placed {
                placed.shown = Shown::Before(before);
            }
            self.catalog.note(id, &entry);
        }
        let answer = entry.answer(created);
        self.topics.insert(id, Arc::new(entry));
        answer
    }
}

impl TopicEntry {
    /// What a change of it is answered.
    fn answer(&self, created: bool) -> Answer {
        let id = self.topic.id;
        if self.is_pending() {
            Answer::TopicPending { id, created, revision: self.revision }
        } else {
            Answer::Topic { id, created }
        }
    }

    fn note_growth(&mut self) {
        if let Some(placed) = &mut self.placed {
            placed.grown = true;
        }
    }
}

/// Whether `existing` has the members of `wanted` that the request named.
fn agrees(existing: &TopicSettings, wanted: &TopicSettings, named: NamedSettings) -> bool {
    (!named.partitions || existing.partitions == wanted.partitions)
        && (!named.value_format || existing.value_format == wanted.value_format)
        && (!named.retention_ms || existing.retention_ms == wanted.retention_ms)
        && (!named.retention_bytes || existing.retention_bytes == wanted.retention_bytes)
        && (!named.archive_retention_ms || existing.archive_retention_ms == wanted.archive_retention_ms)
        && (!named.archive_after_ms || existing.archive_after_ms == wanted.archive_after_ms)
        && (!named.compression || existing.compression == wanted.compression)
        && (!named.timestamp_max_ahead_ms || existing.timestamp_max_ahead_ms == wanted.timestamp_max_ahead_ms)
}
