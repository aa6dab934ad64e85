//! Reading a state or a view of it. Nothing here changes anything; costs are stated where they are not O(log n).

use std::sync::Arc;

use imbl::Vector;

use super::{LiveFile, LiveSegment, PartitionState, ProducerPosition, State};
use crate::model::checkpoint::NamedObject;
use crate::model::{
    CheckpointRef, IdempotencyKey, Incarnation, IndexPartRef, Job, JobId, Limits, LogIndex, LogTime, ObjectId,
    ProducerId, SegmentRange, ShardId, TailRef, Topic, TopicId, TopicPartition,
};

impl State {
    /// The shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The life of the cluster that this state is in.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Which behaviour `apply` follows.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The newest log index applied.
    #[must_use]
    pub fn applied(&self) -> LogIndex {
        self.applied
    }

    /// The largest log time applied.
    #[must_use]
    pub fn log_time(&self) -> LogTime {
        self.log_time
    }

    /// The last command that changed something besides log time, tail and flush bookkeeping: if it is above
    /// [`Self::flushed_index`], a checkpoint is due even without a tail.
    #[must_use]
    pub fn changed_at(&self) -> LogIndex {
        self.changed_at
    }

    /// Whether appends are refused.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether a checkpoint of this state would be clean: see [`crate::model::Checkpoint::is_clean`].
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.closed && !self.unsealed
    }

    /// The number of partitions among which the records of the request under `key` were assigned, if any of them was written
    /// within the window: where a retry has to look for them. `None` too if the request named its partition.
    #[must_use]
    pub fn assigned_among(&self, key: IdempotencyKey) -> Option<u32> {
        self.keys.newest_use(key, self.key_cutoff()).map(|used| used.among).filter(|among| *among > 0)
    }

    /// The id and the epoch last handed out under a producer name.
    #[must_use]
    pub fn producer_by_name(&self, name: &str) -> Option<(ProducerId, u16)> {
        self.producer_names.find(name)
    }

    /// The limits that `apply` enforces.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// No object below this may become live any more.
    #[must_use]
    pub fn condemned(&self) -> ObjectId {
        self.condemned
    }

    /// F of the newest flush: all that was appended at or below it is in the bucket. 0 before the first.
    #[must_use]
    pub fn flushed_index(&self) -> LogIndex {
        self.flushed_index
    }

    /// The newest checkpoint; `None` before the first.
    #[must_use]
    pub fn checkpoint_ref(&self) -> Option<CheckpointRef> {
        self.checkpoint
    }

    /// The index parts that the newest checkpoint names.
    pub fn index_parts(&self) -> impl Iterator<Item = IndexPartRef> + '_ {
        self.parts.values().filter_map(|part| part.written)
    }

    /// Bytes of all tails as budgets count them.
    #[must_use]
    pub fn tail_bytes(&self) -> u64 {
        self.tail_bytes
    }

    /// The live topic of that name. This and the next ones are what users see; [`Self::wanted`] is what partitions go by.
    #[must_use]
    pub fn topic_by_name(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topic(*self.names.get(name)?).filter(|topic| topic.deleted_at.is_none())
    }

    /// The topic of that id as it is visible, live or deleted (see `deleted_at`) but not yet removed.
    #[must_use]
    pub fn topic(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(&id)?.visible()
    }

    /// Live topics in name order whose names begin with `prefix` and are above `start_after`.
    pub fn topics<'a>(&'a self, prefix: &'a str, start_after: &str) -> impl Iterator<Item = &'a Arc<Topic>> + 'a {
        let from = std::cmp::max(prefix, start_after).to_owned();
        let skip = start_after.to_owned();
        self.names
            .range(from..)
            .skip_while(move |(name, _)| **name == skip && !skip.is_empty())
            .take_while(move |(name, _)| name.starts_with(prefix))
            .filter_map(|(_, id)| self.topic(*id))
            .filter(|topic| topic.deleted_at.is_none())
    }

    /// Deleted topics that are not about to be removed yet, by name, then time of deletion.
    pub fn deleted_topics(&self) -> impl Iterator<Item = &Arc<Topic>> + '_ {
        let entries = self.deleted.iter().filter_map(|(_, _, id)| self.topics.get(id));
        entries.filter(|entry| !entry.removed).map(|entry| &entry.topic)
    }

    /// The partition, also of a deleted topic.
    #[must_use]
    pub fn partition(&self, id: TopicPartition) -> Option<&Arc<PartitionState>> {
        self.partitions.get(&self.slot(id)?)
    }

    /// The partitions of a topic that are in this shard, in order.
    pub fn partitions_of(&self, topic: TopicId) -> impl Iterator<Item = &Arc<PartitionState>> + '_ {
        let slots = self.topics.get(&topic).into_iter().flat_map(|entry| entry.slots());
        slots.filter_map(|(_, slot)| self.partitions.get(&slot))
    }

    /// All partitions of the shard, by slot.
    pub fn partitions(&self) -> impl Iterator<Item = &Arc<PartitionState>> + '_ {
        self.partitions.values()
    }

    /// The partitions that have a tail, by slot: what a flush has to look at.
    pub fn unflushed(&self) -> impl Iterator<Item = &Arc<PartitionState>> + '_ {
        self.unflushed.iter().filter_map(|slot| self.partitions.get(slot))
    }

    /// The tail of a partition.
    #[must_use]
    pub fn tail(&self, id: TopicPartition) -> Option<&Vector<TailRef>> {
        self.partition(id).map(|partition| partition.tail())
    }

    /// How far producer `id` got in the partitions of `topic` that remember it: partition and position.
    #[must_use]
    pub fn producer_positions(&self, id: ProducerId, topic: TopicId) -> Vec<(u32, ProducerPosition)> {
        self.partitions_of(topic)
            .filter_map(|partition| Some((partition.id().partition, partition.producers().position(id)?)))
            .collect()
    }

    /// Idempotency keys remembered.
    #[must_use]
    pub fn idempotency_keys(&self) -> usize {
        self.keys.len()
    }

    /// How long keys really are remembered, in milliseconds: the window, or less when so many came that the bound on
    /// their number pushes the oldest out before its time.
    #[must_use]
    pub fn idempotency_window_ms(&self) -> u64 {
        let window = self.limits.idempotency_window_ms;
        match self.keys.oldest() {
            Some(oldest) if self.keys.len() >= self.limits.idempotency_keys as usize => {
                window.min(self.log_time.saturating_sub(oldest))
            }
            _ => window,
        }
    }

    /// How many partitions the shard holds, those of deleted topics included.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.partitions.len()
    }

    /// How many segments are live.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.objects.segment_count()
    }

    /// How many archive files are live.
    #[must_use]
    pub fn file_count(&self) -> usize {
        self.objects.file_count()
    }

    /// Live segments in flush order.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &LiveSegment> + '_ {
        self.objects.segments()
    }

    /// A live segment.
    #[must_use]
    pub fn segment(&self, id: ObjectId) -> Option<&LiveSegment> {
        self.objects.segment(id)
    }

    /// Live archive files, by topic, then id.
    pub fn files(&self) -> impl Iterator<Item = &Arc<LiveFile>> + '_ {
        self.objects.files()
    }

    /// The live archive files of a topic whose ids are above `after`, by id.
    pub fn files_of(&self, topic: TopicId, after: Option<ObjectId>) -> impl Iterator<Item = &Arc<LiveFile>> + '_ {
        self.objects.files_of(topic, after)
    }

    /// A live archive file.
    #[must_use]
    pub fn file(&self, topic: TopicId, id: ObjectId) -> Option<&Arc<LiveFile>> {
        self.objects.file(topic, id)
    }

    /// The live ranges in `segments`, clipped to the log starts only as a whole, by partition, then offset: what an
    /// `Archived` of a job over them has to cover. Reads the lists of all partitions: for a view, off the apply path.
    #[must_use]
    pub fn live_ranges(&self, segments: &[ObjectId]) -> Vec<SegmentRange> {
        let wanted: std::collections::BTreeSet<ObjectId> = segments.iter().copied().collect();
        let mut ranges = Vec::new();
        for partition in self.partitions.values() {
            for range in partition.ranges().iter_from(partition.bounds().archived) {
                if let Some((id, range)) = range.in_segment(partition.id())
                    && wanted.contains(&id)
                {
                    ranges.push(range);
                }
            }
        }
        ranges.sort_by_key(|range| (range.partition, range.start));
        ranges
    }

    /// Claimed archive jobs, those past their deadline included.
    pub fn jobs(&self) -> impl Iterator<Item = &Arc<Job>> + '_ {
        self.jobs.values()
    }

    /// A claimed archive job.
    #[must_use]
    pub fn job(&self, id: JobId) -> Option<&Arc<Job>> {
        self.jobs.get(&id)
    }

    /// The job that holds `segment` at the current log time.
    #[must_use]
    pub fn claimed_by(&self, segment: &LiveSegment) -> Option<&Arc<Job>> {
        self.jobs.get(&segment.claim?).filter(|job| job.deadline >= self.log_time)
    }

    /// Every object that this state names; the index parts and the checkpoint as of the newest flush.
    pub fn objects(&self) -> impl Iterator<Item = NamedObject> + '_ {
        let segments = self.objects.segments().map(|segment| NamedObject::Segment(segment.info.id));
        let files = self.objects.files().map(|file| NamedObject::Archive(file.file.id));
        let parts = self.index_parts().map(|part| NamedObject::IndexPart(part.id));
        let checkpoint = self.checkpoint.iter().map(|checkpoint| NamedObject::Checkpoint(checkpoint.id));
        segments.chain(files).chain(parts).chain(checkpoint)
    }
}
