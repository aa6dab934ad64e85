//! After a start from the bucket: what the other shards have and shard 0 does not know.
//!
//! The shards are restored from checkpoints of different moments. If shard 0's is the older one, others have topics or
//! partitions of which it has never heard; were it to place new partitions first, two shards would own the same. So in a new
//! incarnation topics cannot change until all that the others have was adopted. It is named by one command for each topic, for
//! all shards at once: partitions that nobody has any more are placed anew, and must not be those that another shard has.
//!
//! What differs in other ways is decided by shard 0: its settings, its deletions. A topic whose name is taken meanwhile is
//! adopted as deleted.

use std::collections::BTreeMap;

use super::super::State;
use super::entry::TopicEntry;
use super::placement::water_fill;
use crate::model::topic::MAX_PARTITIONS;
use crate::model::{
    Answer, CATALOG_SHARD, Control, Holding, Incarnation, Rejection, Revision, ShardId, Topic, TopicId,
};
use crate::state::MAX_SHARD_PARTITIONS;

/// A topic as other shards know it.
struct Found<'a> {
    revision: Revision,
    topic: &'a Topic,
    removed: bool,
    partitions: u32,
    held: Vec<Holding>,
}

impl State {
    /// Whether topics cannot change until [`Control::Adopted`].
    #[must_use]
    pub fn is_adopting(&self) -> bool {
        self.catalog.adopting
    }

    /// The commands that tell shard 0, whose view this is, what `others` have and it does not know: views of all other
    /// shards, none left out, taken after the new incarnation began. Reads all topics.
    #[must_use]
    pub fn adoptions(&self, others: &[Self]) -> Vec<Control> {
        let mut found: BTreeMap<TopicId, Found<'_>> = BTreeMap::new();
        for other in others {
            for (id, entry) in &other.topics {
                let (revision, topic, removed) = (entry.revision, entry.topic.as_ref(), entry.removed);
                let holding = Holding { shard: other.shard, runs: entry.runs() };
                let new = Found { revision, topic, removed, partitions: 0, held: Vec::new() };
                let known = found.entry(*id).or_insert(new);
                if revision > known.revision {
                    (known.revision, known.topic, known.removed) = (revision, topic, removed);
                }
                known.partitions = known.partitions.max(topic.settings.partitions);
                known.held.push(holding);
            }
        }
        let unknown = |id: &TopicId, found: &Found<'_>| match self.topics.get(id) {
            Some(entry) => {
                !entry.removed && partitions_of(found.partitions, &found.held) > entry.topic.settings.partitions
            }
            None => true,
        };
        let adopt = |found: Found<'_>| {
            let mut topic = found.topic.clone();
            topic.settings.partitions = found.partitions;
            Control::AdoptTopic { topic, removed: found.removed, held: found.held }
        };
        found.into_iter().filter(|(id, found)| unknown(id, found)).map(|(_, found)| adopt(found)).collect()
    }

    /// Takes over a topic, or the partitions of a known one, that other shards have.
    pub(in super::super) fn adopt_topic(
        &mut self,
        topic: &Topic,
        removed: bool,
        held: &[Holding],
    ) -> Result<Answer, Rejection> {
        if self.closed {
            return Err(Rejection::Closed);
        }
        let known = self.topics.get(&topic.id).map(|entry| TopicEntry::clone(entry));
        let created = known.is_none();
        let (mut entry, from, before) = match known {
            Some(entry) if entry.removed => return Ok(Answer::Done),
            Some(entry) => {
                let (from, before) = (entry.topic.settings.partitions, entry.visible().cloned());
                (entry, from, before)
            }
            None => (TopicEntry { removed, ..TopicEntry::new(topic.clone()) }, 0, None),
        };
        let total = partitions_of(topic.settings.partitions, held);
        if total <= from {
            return Ok(Answer::Done);
        }
        let owners = self.owners(from, total, held)?;
        let mut wanted = Topic::clone(&entry.topic);
        wanted.settings.partitions = total;
        if created {
            self.enter_name(&mut wanted, removed);
        }
        entry.topic = wanted.into();
        self.place_at(&mut entry, from, &owners)?;
        entry.note_growth();
        Ok(self.changed(entry, before, created))
    }

    /// Who has or gets each of the partitions `[from, total)`, of which `held` says who has them.
    fn owners(&self, from: u32, total: u32, held: &[Holding]) -> Result<Vec<ShardId>, Rejection> {
        let mut owners: Vec<Option<ShardId>> = vec![None; (total - from) as usize];
        let mut loads = self.loads();
        for Holding { shard, runs } in held.iter().filter(|holding| holding.shard != CATALOG_SHARD) {
            let Some(load) = loads.get_mut(shard.0 as usize) else { return Err(Rejection::OtherShard) };
            for run in runs {
                let end = run.first.saturating_add(run.count).min(total);
                for partition in run.first.max(from)..end {
                    let owner = &mut owners[(partition - from) as usize];
                    *load += u32::from(owner.is_none());
                    owner.get_or_insert(*shard);
                }
            }
        }
        let gaps = owners.iter().filter(|owner| owner.is_none()).count() as u32;
        let full = Rejection::TooManyPartitions { limit: MAX_SHARD_PARTITIONS };
        let counts = water_fill(&loads, gaps).ok_or(full.clone())?;
        let mut fill = (0..).zip(counts).flat_map(|(shard, count)| (0..count).map(move |_| ShardId(shard)));
        owners.into_iter().map(|owner| owner.or_else(|| fill.next()).ok_or(full.clone())).collect()
    }

    /// Takes the name of an adopted topic, or takes the topic for deleted.
    fn enter_name(&mut self, topic: &mut Topic, removed: bool) {
        if topic.deleted_at.is_none() && (removed || self.names.contains_key(&topic.name)) {
            topic.deleted_at = Some(self.log_time);
        }
        match topic.deleted_at {
            Some(at) => drop(self.deleted.insert((topic.name.clone(), at, topic.id))),
            None => drop(self.names.insert(topic.name.clone(), topic.id)),
        }
    }

    /// Topics change again, if this is about the current incarnation.
    pub(in super::super) fn adopted(&mut self, incarnation: Incarnation) -> Answer {
        if incarnation == self.incarnation && self.catalog.adopting {
            self.catalog.adopting = false;
            self.changed_at = self.applied;
        }
        Answer::Done
    }
}

/// How many partitions a topic has that should have `known` and of which there are those in `held`.
fn partitions_of(known: u32, held: &[Holding]) -> u32 {
    let runs = held.iter().flat_map(|holding| &holding.runs);
    let end = runs.map(|run| run.first.saturating_add(run.count)).max().unwrap_or(0);
    known.max(end).min(MAX_PARTITIONS)
}
