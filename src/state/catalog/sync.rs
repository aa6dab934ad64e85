//! What shard 0 tells the other shards, and what it learns from their having heard it.
//!
//! Every command here may come twice, late, and after a newer one. A shard goes by the newest revision that it was told; the
//! one thing that it does not remember is which topics it has forgotten, so it declines what it cannot tell from such a
//! topic, and shard 0 tells it again under a new revision.

use std::sync::Arc;

use super::super::State;
use super::entry::{Shown, TopicEntry};
use crate::model::topic::MAX_PARTITIONS;
use crate::model::{Answer, PartitionRun, Rejection, Revision, Topic, TopicId};

impl State {
    /// In another shard than 0: goes by what shard 0 wants of a topic.
    pub(in super::super) fn sync_topic(
        &mut self,
        topic: &Topic,
        removed: bool,
        revision: Revision,
        runs: &[PartitionRun],
    ) -> Result<Answer, Rejection> {
        if self.closed {
            return Err(Rejection::Closed);
        }
        let known = self.topics.get(&topic.id).map(|entry| TopicEntry::clone(entry));
        let mut entry = match known {
            Some(entry) if revision < entry.revision => return Ok(Answer::Done),
            Some(entry) if revision == entry.revision && !removed => return Ok(Answer::Done),
            Some(entry) => entry,
            None if removed => {
                self.note_forgotten(revision);
                return Ok(Answer::Done);
            }
            None if revision < self.catalog.forgotten => return Err(Rejection::StaleSync),
            None => TopicEntry::new(topic.clone()),
        };
        if !removed {
            let missing = entry.missing(runs);
            self.check_room(missing.iter().map(|run| run.count).sum())?;
            missing.into_iter().for_each(|run| self.add_partitions(&mut entry, run));
        }
        entry.topic = Arc::new(topic.clone());
        entry.revision = revision;
        entry.removed = removed;
        self.changed_at = self.applied;
        self.topics.insert(topic.id, Arc::new(entry.clone()));
        if removed {
            if !self.remove_step(&entry) {
                return Ok(Answer::More);
            }
            self.note_forgotten(revision);
        }
        Ok(Answer::Done)
    }

    fn note_forgotten(&mut self, revision: Revision) {
        if revision > self.catalog.forgotten {
            self.catalog.forgotten = revision;
            self.changed_at = self.applied;
        }
    }

    /// In shard 0: makes visible what every shard knows, or forgets the topic.
    pub(in super::super) fn topic_synced(&mut self, id: TopicId, revision: Revision) -> Result<Answer, Rejection> {
        if self.closed {
            return Err(Rejection::Closed);
        }
        let Some(entry) = self.topics.get(&id).cloned() else { return Ok(Answer::Done) };
        if !self.is_unsynced(&entry) {
            return Ok(Answer::Done);
        }
        let current = self.current_revision(&entry);
        if current != revision {
            return Ok(Answer::TopicPending { id, created: false, revision: current });
        }
        if entry.removed {
            return Ok(if self.remove_step(&entry) { Answer::Done } else { Answer::More });
        }
        self.resettle(&entry, revision, Shown::Wanted);
        Ok(Answer::Done)
    }

    /// In shard 0: gives the change that a shard declined under `revision` a new one.
    pub(in super::super) fn renew_topic(&mut self, id: TopicId, revision: Revision) -> Result<Answer, Rejection> {
        if self.closed {
            return Err(Rejection::Closed);
        }
        let Some(entry) = self.topics.get(&id).cloned() else { return Ok(Answer::Done) };
        if !self.is_unsynced(&entry) {
            return Ok(Answer::Done);
        }
        let mut current = self.current_revision(&entry);
        if current == revision {
            current = self.this_revision();
            self.resettle(&entry, current, Shown::Before(entry.visible().cloned()));
        }
        Ok(Answer::TopicPending { id, created: false, revision: current })
    }

    /// Changes only the revision and what is shown.
    fn resettle(&mut self, entry: &TopicEntry, revision: Revision, shown: Shown) {
        let id = entry.topic.id;
        let mut changed = entry.clone();
        changed.revision = revision;
        if let Some(placed) = &mut changed.placed {
            placed.shown = shown;
        }
        self.catalog.forget(id, entry);
        self.catalog.note(id, &changed);
        self.topics.insert(id, Arc::new(changed));
        self.changed_at = self.applied;
    }
}

impl TopicEntry {
    /// The partitions of `runs` that are not here, as few runs as possible; nothing twice, whatever `runs` says.
    fn missing(&self, runs: &[PartitionRun]) -> Vec<PartitionRun> {
        let mut missing: Vec<PartitionRun> = Vec::new();
        let mut next = 0;
        for run in runs {
            let end = run.first.saturating_add(run.count).min(MAX_PARTITIONS);
            for partition in run.first.max(next)..end {
                if self.slot(partition).is_some() {
                    continue;
                }
                match missing.last_mut().filter(|last| last.first + last.count == partition) {
                    Some(last) => last.count += 1,
                    None => missing.push(PartitionRun { first: partition, count: 1 }),
                }
            }
            next = next.max(end);
        }
        missing
    }
}
