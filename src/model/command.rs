//! Commands: everything that changes a shard's state, and what `apply` answers.
//!
//! A command carries all that `apply` needs; `apply` reads no clock and draws no random number.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::archive::{ArchiveFile, ArchiveRange, JobId};
use super::batch::BatchInfo;
use super::catalog::{Holding, PartitionRun, Revision};
use super::checkpoint::{CheckpointRef, IndexPartRef};
use super::id::{Incarnation, LogIndex, LogTime, NodeId, ObjectId, Offset, ProducerId, TopicId, TopicPartition};
use super::limits::Limits;
use super::producer::{Keyed, Triple};
use super::rejection::Rejection;
use super::segment::{SegmentInfo, SegmentRange};
use super::topic::{Topic, TopicSettings};

/// A command with the log time at which its leader proposed it: the content of one Raft entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedCommand {
    /// `apply` takes the larger of this and the state's.
    pub log_time: LogTime,
    /// What to do.
    pub command: Command,
}

/// A change of a shard's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Appends batches, each on its own terms; the only command that budgets may stop.
    Append(Vec<Append>),
    /// Everything else: small, and encoded as one postcard value.
    Control(Control),
}

/// One record batch for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Where to.
    pub partition: TopicPartition,
    /// The batch: base offset 0, leader epoch 0, checked whole before it was proposed.
    pub batch: Bytes,
    /// Where `batch` begins within the encoded command; set by the codec when it decodes, ignored when it encodes.
    pub position: u32,
    /// What the batch says of itself.
    pub info: BatchInfo,
    /// Set for an idempotent producer.
    pub triple: Option<Triple>,
    /// Set for a request under an `Idempotency-Key`.
    pub idempotency: Option<Keyed>,
    /// Hash of the records as the client sent them; compared when a triple or key comes again.
    pub digest: u128,
    /// `Expected-Offset`.
    pub expected_offset: Option<Offset>,
}

/// The commands that are not appends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    /// Creates a topic, or agrees with the one that exists.
    CreateTopic {
        /// The id it gets if it does not exist.
        id: TopicId,
        /// Checked by the proposer.
        name: String,
        /// Checked by the proposer.
        settings: TopicSettings,
        /// Which members of `settings` an existing topic must agree with.
        named: NamedSettings,
    },
    /// Replaces the settings of a topic whose current ones are `expected`.
    AlterTopic {
        /// The topic.
        id: TopicId,
        /// What the proposer saw; the answer is [`Rejection::TopicExists`] if they changed meanwhile.
        expected: TopicSettings,
        /// What to set.
        settings: TopicSettings,
    },
    /// Frees the name; the data stays for the grace period.
    DeleteTopic {
        /// The topic.
        id: TopicId,
    },
    /// Brings back the newest deleted topic of `name`.
    UndeleteTopic {
        /// Its name.
        name: String,
    },
    /// Forgets deleted topics whose grace period is over.
    RemoveTopics {
        /// The topics.
        ids: Vec<TopicId>,
    },
    /// Hands out a producer id, or raises the epoch of a named one.
    RegisterProducer {
        /// `None` for a fresh id that nobody can register again.
        name: Option<String>,
    },
    /// All of the tail at or below `index` is in `segments`, and `checkpoint` says so.
    Flushed {
        /// The flushed index on which this flush builds.
        previous: LogIndex,
        /// The new flushed index F.
        index: LogIndex,
        /// The segments written.
        segments: Vec<SegmentInfo>,
        /// For each segment, in the same order, its ranges sorted by partition.
        ranges: Vec<Vec<SegmentRange>>,
        /// The checkpoint of F.
        checkpoint: CheckpointRef,
        /// Index parts that this checkpoint wrote anew.
        parts: Vec<IndexPartRef>,
    },
    /// Claims consecutive live segments for archiving.
    ClaimArchive {
        /// For people.
        worker: String,
        /// Milliseconds of log time for which the claim holds: a duration, since the claiming node's clock may be wrong.
        hold_ms: u64,
        /// Oldest first.
        segments: Vec<ObjectId>,
    },
    /// Extends a claim.
    ExtendArchive {
        /// The job.
        job: JobId,
        /// Milliseconds for which it holds from this command on.
        hold_ms: u64,
    },
    /// Gives a claim back.
    AbandonArchive {
        /// The job.
        job: JobId,
    },
    /// The live ranges of the job's segments are in `files`.
    Archived {
        /// The claim; stale ones are declined.
        job: JobId,
        /// The files written.
        files: Vec<ArchiveFile>,
        /// For each partition what is where; equal to what is live there, clipped to the log start.
        ranges: Vec<ArchiveRange>,
    },
    /// Raises log starts and archive starts, unless the shard is closed.
    Trim {
        /// By partition.
        starts: Vec<LogStart>,
    },
    /// From now on nothing below `floor` that is not yet live may become live.
    Condemn {
        /// The smallest id that is safe.
        floor: ObjectId,
    },
    /// Sets the limits that `apply` enforces.
    SetLimits(Limits),
    /// No append from now on; a checkpoint of this state is clean: a start from the bucket alone may trust it.
    Close,
    /// Appends again, in `incarnation`. In the same incarnation only after an [`Control::Unseal`] and a checkpoint of what it
    /// left are in the bucket, or an older clean checkpoint would hide what is acknowledged from now on.
    Reopen {
        /// The life of the cluster that begins, or the current one.
        incarnation: Incarnation,
    },
    /// Changes nothing: carries log time on.
    Tick,
    /// Closed still, but a checkpoint of this state is no longer clean: the step before a [`Control::Reopen`].
    Unseal,
    /// To shard 0: the cluster has these shards from now on. Shards are added, never removed.
    SetShards {
        /// By shard, the node that founds or founded it; at most [`super::catalog::MAX_SHARDS`]. Those of shards that exist
        /// stay as they are.
        founders: Vec<NodeId>,
    },
    /// To another shard: what it has to know of a topic. An older revision than it knows is ignored; the same one again
    /// changes nothing.
    SyncTopic {
        /// The topic, with the number of its partitions in all shards.
        topic: Topic,
        /// Forget it, in steps of bounded size: the answer is [`Answer::More`] until it is gone.
        removed: bool,
        /// Of this change.
        revision: Revision,
        /// The partitions that this shard has; those that are missing are created, none is ever dropped.
        runs: Vec<PartitionRun>,
    },
    /// To shard 0: every other shard knows this revision of the topic. If it still is the newest one it becomes visible, or
    /// the topic is forgotten, in steps of bounded size.
    TopicSynced {
        /// The topic.
        id: TopicId,
        /// What the shards know.
        revision: Revision,
    },
    /// To shard 0: a shard declined this revision with [`Rejection::StaleSync`]. If it still is the newest one, the same
    /// change gets a new revision.
    RenewTopic {
        /// The topic.
        id: TopicId,
        /// What was declined.
        revision: Revision,
    },
    /// To shard 0 that was restored from another moment than the other shards: they have these partitions of the topic.
    AdoptTopic {
        /// As the shard with the newest revision knows it.
        topic: Topic,
        /// That shard was about to forget it.
        removed: bool,
        /// The partitions of all shards besides shard 0, by shard.
        held: Vec<Holding>,
    },
    /// To shard 0: everything that the other shards have was adopted in this incarnation; topics change again.
    Adopted {
        /// The life of the cluster.
        incarnation: Incarnation,
    },
    /// From now on `apply` behaves as of this version; a node that does not know it stops before it applies this. Proposed once
    /// every member knows it.
    RaiseVersion {
        /// The version; one that is not newer changes nothing.
        version: u32,
    },
}

/// Where a partition begins from now on; what is not above what it has now changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStart {
    /// The partition.
    pub partition: TopicPartition,
    /// The smallest offset that can be read.
    pub log_start: Offset,
    /// The smallest offset that stays in archive files; at most the log start.
    pub archive_start: Offset,
}

impl LogStart {
    /// Nothing below `offset` stays, in the log or in archive files.
    #[must_use]
    pub const fn of_all(partition: TopicPartition, offset: Offset) -> Self {
        Self { partition, log_start: offset, archive_start: offset }
    }
}

impl Control {
    /// A [`Control::Trim`] after which nothing below these offsets stays, in the log or in archive files.
    #[must_use]
    pub fn trim(starts: impl IntoIterator<Item = (TopicPartition, Offset)>) -> Self {
        Self::Trim { starts: starts.into_iter().map(|(partition, start)| LogStart::of_all(partition, start)).collect() }
    }

    /// Whether shard 0 takes it (`true`), the other shards do (`false`), or every shard.
    #[must_use]
    pub const fn is_for_catalog(&self) -> Option<bool> {
        match self {
            Self::CreateTopic { .. }
            | Self::AlterTopic { .. }
            | Self::DeleteTopic { .. }
            | Self::UndeleteTopic { .. }
            | Self::RemoveTopics { .. }
            | Self::RegisterProducer { .. }
            | Self::SetShards { .. }
            | Self::TopicSynced { .. }
            | Self::RenewTopic { .. }
            | Self::AdoptTopic { .. }
            | Self::Adopted { .. } => Some(true),
            Self::SyncTopic { .. } => Some(false),
            _ => None,
        }
    }
}

/// Which settings the body of a create request named: an existing topic has to agree with these only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "one flag for each setting")]
pub struct NamedSettings {
    /// `partitions`
    pub partitions: bool,
    /// `value_format`
    pub value_format: bool,
    /// `retention_ms`
    pub retention_ms: bool,
    /// `retention_bytes`
    pub retention_bytes: bool,
    /// `archive_retention_ms`
    pub archive_retention_ms: bool,
    /// `archive_after_ms`
    pub archive_after_ms: bool,
    /// `compression`
    pub compression: bool,
    /// `timestamp_max_ahead_ms`
    pub timestamp_max_ahead_ms: bool,
}

/// What `apply` answers to one entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Command::Append`]: one for each batch, in order.
    Appended(Vec<BatchOutcome>),
    /// A topic was created (`true`) or existed and agreed.
    Topic {
        /// The topic.
        id: TopicId,
        /// Whether this command created it.
        created: bool,
    },
    /// A producer id and its epoch.
    Producer {
        /// The id.
        id: ProducerId,
        /// Its epoch.
        epoch: u16,
    },
    /// The archive job that was claimed.
    Job(JobId),
    /// Done; there is nothing to say.
    Done,
    /// Declined.
    Rejected(Rejection),
    /// A change of a topic is wanted and not visible yet: see [`super::catalog::TopicSync`].
    TopicPending {
        /// The topic.
        id: TopicId,
        /// Whether this command created it.
        created: bool,
        /// What the other shards have to know.
        revision: Revision,
    },
    /// A step was done and there is more to do: propose the same again.
    More,
}

/// What became of one batch.
pub type BatchOutcome = Result<Appended, Rejection>;

/// Where a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Records in it.
    pub count: u32,
    /// It was written by an earlier attempt; these are that attempt's offsets.
    pub duplicate: bool,
    /// The log index after whose flush it is in the bucket: the index of the entry that wrote it.
    pub log_index: LogIndex,
}
