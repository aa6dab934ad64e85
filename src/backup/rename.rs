//! A shard of a backup as the shard of another cluster. Pure.
//!
//! The topics have other ids, in the same order, so that frames and slots stay where they are. The life is a new one, and closed: a
//! start finds a cluster that was stopped cleanly. Whoever produced to the old cluster is fenced: the epochs of all producers are one
//! above what they have there. How far they got stays known, so that a run that asks for it and takes the new epoch goes on where it
//! was. Archive jobs are nobody's. All else stays as it was: offsets, log starts, names and settings of topics, deleted ones,
//! idempotency keys.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::checkpoints::LoadedCheckpoint;
use crate::error::{Error, Result};
use crate::model::catalog::Visible;
use crate::model::checkpoint::TopicRecord;
use crate::model::{ArchiveFile, Checkpoint, Incarnation, IndexPart, ObjectId, SegmentRange, TopicId};
use crate::state::State;

/// Lives between the newest one of a backup and that of a restored bucket: ids of producers carry the life that handed them out, and
/// the old cluster may go on beside the new one and begin more of them.
const LIVES_APART: u64 = 1_024;

/// The largest epoch that a record batch can carry.
const MAX_EPOCH: u16 = i16::MAX as u16;

/// Which topic becomes which.
pub(super) struct Renaming<'a> {
    pub(super) topics: &'a BTreeMap<TopicId, TopicId>,
    pub(super) incarnation: Incarnation,
}

/// The ranges of segments, by segment.
pub(super) type Ranges = Vec<(ObjectId, Vec<SegmentRange>)>;

/// New ids for `topics`, in the same order.
pub(super) fn fresh_ids(topics: BTreeSet<TopicId>) -> BTreeMap<TopicId, TopicId> {
    let mut fresh = BTreeSet::new();
    while fresh.len() < topics.len() {
        fresh.insert(TopicId(Uuid::new_v4()));
    }
    topics.into_iter().zip(fresh).collect()
}

/// The life of a restored bucket's checkpoints, `newest` being the backup's newest.
pub(super) const fn later_life(newest: Incarnation) -> Incarnation {
    Incarnation(newest.0 + LIVES_APART)
}

impl Renaming<'_> {
    /// The new id of a topic.
    pub(super) fn topic(&self, old: TopicId) -> Result<TopicId> {
        let new = self.topics.get(&old).copied();
        new.ok_or_else(|| Error::corrupt(format!("the plan of this restore does not name topic {old} of the backup")))
    }

    /// The checkpoint that says the same of the new cluster, with `files` in place of its archive files.
    pub(super) fn checkpoint(&self, loaded: &LoadedCheckpoint, files: Vec<ArchiveFile>) -> Result<Checkpoint> {
        let old = &loaded.checkpoint;
        let mut new = old.clone();
        new.self_ref.incarnation = self.incarnation;
        new.incarnation = self.incarnation;
        (new.closed, new.unsealed) = (true, false);
        new.topics = old.topics.iter().map(|record| self.topic_record(record)).collect::<Result<_>>()?;
        new.archive_files = files;
        new.jobs.clear();
        // A name whose epochs are used up gets another id when it is registered again.
        new.names.retain(|name| name.epoch < MAX_EPOCH);
        new.names.iter_mut().for_each(|name| name.epoch += 1);
        for producer in &mut new.producers {
            producer.epoch = producer.epoch.saturating_add(1);
        }
        let parts: Vec<IndexPart> = loaded.parts.iter().map(|(_, _, part)| part.clone()).collect();
        State::restore(new.clone(), parts, self.ranges(&loaded.ranges)?).map_err(|error| {
            let what = format!("the checkpoint of shard {} of the backup cannot be restored", old.shard);
            Error::corrupt(what).with_source(error)
        })?;
        Ok(new)
    }

    fn ranges(&self, old: &Ranges) -> Result<Ranges> {
        let renamed = |range: &SegmentRange| {
            let mut range = *range;
            range.partition.topic = self.topic(range.partition.topic)?;
            Ok(range)
        };
        let each = |(id, ranges): &(ObjectId, Vec<SegmentRange>)| {
            Ok((*id, ranges.iter().map(renamed).collect::<Result<Vec<_>>>()?))
        };
        old.iter().map(each).collect()
    }

    fn topic_record(&self, old: &TopicRecord) -> Result<TopicRecord> {
        let mut new = old.clone();
        new.topic.id = self.topic(old.topic.id)?;
        if let Some(placed) = &mut new.placed
            && let Visible::Before(Some(topic)) = &mut placed.visible
        {
            topic.id = new.topic.id;
        }
        Ok(new)
    }
}
