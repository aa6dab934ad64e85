//! The replicated state machine of a shard: pure, deterministic, and the only place that decides.
//!
//! [`State::apply`] takes one command at one log index and reads no clock, draws no random number and does no I/O, so that
//! every replica comes to the same answer and the same [`State::hash`]. Payload bytes are not in here: the tail holds
//! references into the Raft log, the rest is in the objects that the stored ranges name.
//!
//! A view is a clone: all collections are persistent, a partition is shared until it changes. What a command costs
//! (P partitions named by the command, R stored ranges of a partition; none depends on how long the history is):
//!
//! | command | cost of `apply` |
//! |---|---|
//! | `Append` | for each batch: O(log partitions + log producers + log keys) |
//! | `Flushed` | O(P log partitions), P = partitions with a tail at or below F |
//! | `Archived` | O(P log partitions + ranges replaced); the ranges after them too if a job finishes out of order |
//! | `Trim` | O(P log partitions + ranges passed and dropped): the proposer ends a command once its partitions pass 16,384; each passes as many at most, and drops as many, or all files it kept if it passes into segments |
//! | `CreateTopic`, `AlterTopic` | O(partitions added log shards) |
//! | `DeleteTopic`, `UndeleteTopic` | O(log topics) |
//! | `RemoveTopics` | the partitions of the topics, and partitions until 16,384 ranges are gone, the last of them whole; proposed again until they are gone |
//! | `SyncTopic` | O(partitions of the topic in this shard); forgetting it in steps as above |
//! | `TopicSynced`, `RenewTopic` | O(log topics + runs of the placement); forgetting in steps as above |
//! | `AdoptTopic` | O(partitions of the topic log shards) |
//! | `SetShards` | O(shards) |
//! | `ClaimArchive` | O(segments named + jobs) |
//! | others | O(log n) |
//!
//! Expired producers and keys leave in bounded steps with every command, so expiry is never a scan either.

mod append;
mod archived;
mod catalog;
mod checkpoint;
mod chunks;
mod expiry;
mod flushed;
mod hash;
mod keys;
mod names;
mod objects;
mod partition;
mod producer;
mod ranges;
mod read;
mod restore;
#[cfg(test)]
mod tests;
mod trim;

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use self::catalog::{Catalog, TopicEntry};
pub use self::checkpoint::FlushMismatch;
use self::flushed::Flush;
use self::keys::Keys;
use self::names::Names;
use self::objects::Objects;
pub use self::objects::{LiveFile, LiveSegment};
pub use self::partition::PartitionState;
pub use self::producer::{ProducerPosition, Producers};
pub use self::ranges::RangeList;
pub use self::restore::RestoreError;
use crate::model::{
    Answer, CATALOG_SHARD, CheckpointRef, Command, Control, Incarnation, IndexPartRef, Job, JobId, Limits, LogIndex,
    LogTime, LoggedCommand, NodeId, ObjectId, ProducerId, Rejection, ShardId, TopicId, TopicPartition,
};

/// The behaviour of `apply` that this program starts new shards with, and the newest that it knows.
pub const STATE_VERSION: u32 = 1;

/// Partitions that a shard holds at most, deleted topics included.
pub const MAX_SHARD_PARTITIONS: u32 = 32_768;

/// Producer ids are `incarnation << 40 | counter`.
const PRODUCER_COUNTER_BITS: u32 = 40;

/// What applying one entry did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The answer to the proposer.
    pub answer: Answer,
    /// Partitions whose high watermark rose: waiting fetches may go on. No partition twice in a row.
    pub grown: Vec<TopicPartition>,
}

/// The state of a shard. Cloning it makes a view: O(1), and the view never changes.
#[derive(Debug, Clone)]
pub struct State {
    shard: ShardId,
    incarnation: Incarnation,
    version: u32,
    applied: LogIndex,
    log_time: LogTime,
    changed_at: LogIndex,
    closed: bool,
    unsealed: bool,
    limits: Limits,
    condemned: ObjectId,
    flushed_index: LogIndex,
    checkpoint: Option<CheckpointRef>,
    tail_bytes: u64,
    next_slot: u32,
    topics: OrdMap<TopicId, Arc<TopicEntry>>,
    /// Names in use, those of topics included that are not visible yet. In shard 0 only.
    names: OrdMap<String, TopicId>,
    partitions: OrdMap<u32, Arc<PartitionState>>,
    /// Slots of partitions with a tail.
    unflushed: OrdSet<u32>,
    /// Deleted topics by name and time of deletion. In shard 0 only.
    deleted: OrdSet<(String, LogTime, TopicId)>,
    catalog: Catalog,
    objects: Objects,
    parts: OrdMap<u32, PartState>,
    jobs: OrdMap<JobId, Arc<Job>>,
    next_job: u64,
    next_producer: u64,
    producer_names: Names,
    /// When to look next for expired producers, by partition; one entry for each partition that has any.
    producer_checks: OrdSet<(LogTime, u32)>,
    keys: Keys,
}

/// What is known of an index part.
#[derive(Debug, Clone, Copy, Default)]
struct PartState {
    /// The newest one written.
    written: Option<IndexPartRef>,
    /// The last command that changed its ranges other than by flush or trim.
    changed_at: LogIndex,
    /// Partitions in it; a part without any leaves.
    partitions: u32,
}

impl State {
    /// The state of a shard that has applied nothing.
    #[must_use]
    pub fn new(shard: ShardId, incarnation: Incarnation) -> Self {
        Self {
            shard,
            incarnation,
            version: STATE_VERSION,
            applied: 0,
            log_time: 0,
            changed_at: 0,
            closed: false,
            unsealed: false,
            limits: Limits::default(),
            condemned: ObjectId(0),
            flushed_index: 0,
            checkpoint: None,
            tail_bytes: 0,
            next_slot: 0,
            topics: OrdMap::new(),
            names: OrdMap::new(),
            partitions: OrdMap::new(),
            unflushed: OrdSet::new(),
            deleted: OrdSet::new(),
            catalog: Catalog::default(),
            objects: Objects::default(),
            parts: OrdMap::new(),
            jobs: OrdMap::new(),
            next_job: 0,
            next_producer: 0,
            producer_names: Names::default(),
            producer_checks: OrdSet::new(),
            keys: Keys::default(),
        }
    }

    /// Applies the entry at `index`. Never fails: what is declined is an answer.
    ///
    /// # Panics
    /// If `index` is not above all applied before: the caller lost its place, and going on would make replicas differ.
    pub fn apply(&mut self, index: LogIndex, entry: &LoggedCommand) -> Applied {
        assert!(index > self.applied, "entry {index} applied after {}", self.applied);
        self.applied = index;
        self.log_time = self.log_time.max(entry.log_time);
        match &entry.command {
            Command::Append(batches) => {
                let (outcomes, grown) = self.append(batches);
                self.expire(batches.len());
                Applied { answer: Answer::Appended(outcomes), grown }
            }
            Command::Control(control) => {
                let answer = self.control(control).unwrap_or_else(Answer::Rejected);
                self.expire(0);
                Applied { answer, grown: Vec::new() }
            }
        }
    }

    fn control(&mut self, control: &Control) -> Result<Answer, Rejection> {
        if control.is_for_catalog().is_some_and(|catalog| catalog != (self.shard == CATALOG_SHARD)) {
            return Err(Rejection::OtherShard);
        }
        match control {
            Control::CreateTopic { id, name, settings, named } => self.create_topic(*id, name, settings, *named),
            Control::AlterTopic { id, expected, settings } => self.alter_topic(*id, expected, settings),
            Control::DeleteTopic { id } => self.delete_topic(*id),
            Control::UndeleteTopic { name } => self.undelete_topic(name),
            Control::RemoveTopics { ids } => Ok(self.remove_topics(ids)),
            Control::RegisterProducer { name } => self.register_producer(name.as_deref()),
            Control::Flushed { .. } => match Flush::from_control(control) {
                Some(flush) => self.flush(flush).map(|()| Answer::Done),
                None => Ok(Answer::Done),
            },
            Control::ClaimArchive { worker, hold_ms, segments } => self.claim_archive(worker, *hold_ms, segments),
            Control::ExtendArchive { job, hold_ms } => self.extend_archive(*job, *hold_ms),
            Control::AbandonArchive { job } => self.abandon_archive(*job),
            Control::Archived { job, files, ranges } => self.archived(*job, files, ranges),
            Control::Trim { starts } => Ok(self.trim(starts)),
            Control::Condemn { floor } => {
                self.condemned = self.condemned.max(*floor);
                Ok(Answer::Done)
            }
            Control::SetLimits(limits) => {
                self.limits = *limits;
                self.changed_at = self.applied;
                Ok(Answer::Done)
            }
            Control::Close => {
                self.closed = true;
                self.unsealed = false;
                self.changed_at = self.applied;
                Ok(Answer::Done)
            }
            Control::Reopen { incarnation } => Ok(self.reopen(*incarnation)),
            Control::Tick => Ok(Answer::Done),
            Control::Unseal => {
                self.unsealed = self.closed;
                self.changed_at = self.applied;
                Ok(Answer::Done)
            }
            Control::SetShards { founders } => self.set_shards(founders),
            Control::SyncTopic { topic, removed, revision, runs } => self.sync_topic(topic, *removed, *revision, runs),
            Control::TopicSynced { id, revision } => self.topic_synced(*id, *revision),
            Control::RenewTopic { id, revision } => self.renew_topic(*id, *revision),
            Control::AdoptTopic { topic, removed, held } => self.adopt_topic(topic, *removed, held),
            Control::Adopted { incarnation } => Ok(self.adopted(*incarnation)),
            Control::RaiseVersion { version } => Ok(self.raise_version(*version)),
        }
    }

    fn raise_version(&mut self, version: u32) -> Answer {
        if version > self.version {
            self.version = version;
            self.changed_at = self.applied;
        }
        Answer::Done
    }

    /// Takes appends again. Producer ids count anew in a new incarnation.
    fn reopen(&mut self, incarnation: Incarnation) -> Answer {
        self.closed = false;
        self.unsealed = false;
        if incarnation > self.incarnation {
            self.incarnation = incarnation;
            self.next_producer = 0;
            // Every shard there was is begun before the first one is, whoever founded it once: nobody is to found it again.
            self.catalog.founders.fill(NodeId(0));
            // The shards may have been restored from different moments.
            self.catalog.adopting = self.shard_count() > 1;
        }
        self.changed_at = self.applied;
        Answer::Done
    }

    fn register_producer(&mut self, name: Option<&str>) -> Result<Answer, Rejection> {
        if self.closed {
            return Err(Rejection::Closed);
        }
        let fresh = ProducerId((self.incarnation.0 << PRODUCER_COUNTER_BITS) | self.next_producer);
        let (id, epoch, used) = match name {
            Some(name) => self.producer_names.register(name, fresh, self.log_time, self.name_cutoff()),
            None => (fresh, 0, true),
        };
        self.next_producer += u64::from(used);
        self.changed_at = self.applied;
        Ok(Answer::Producer { id, epoch })
    }

    /// Notes that the Raft log has an entry at `index` which is no command (a blank one, a membership).
    pub fn skip(&mut self, index: LogIndex) {
        self.applied = self.applied.max(index);
    }
}
