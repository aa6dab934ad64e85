//! Writes one flush: segments, index parts and checkpoint to the bucket, `Flushed` to the log, the checkpoint beside the
//! log. Nothing here decides when.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::plan::{self, PlannedSegment};
use crate::checkpoints::Missing;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint;
use crate::format::checkpoint as codec;
use crate::format::segment::{FinishedSegment, SegmentWriter};
use crate::metrics;
use crate::model::{
    Checkpoint, CheckpointRef, Control, IndexPart, IndexPartRef, LogIndex, ObjectId, SegmentInfo, SegmentRange,
    ShardId, StoredBatch, TailRef, Topic,
};
use crate::raft::{CheckpointFiles, Leader};
use crate::state::State;
use crate::store::Bucket;
use crate::store::keys::Key;

/// How a shard is flushed.
#[derive(Debug, Clone)]
pub struct FlusherOptions {
    /// The shard.
    pub shard: ShardId,
    /// Bytes of batches at which a segment is cut.
    pub segment_bytes: u64,
    /// Segments built and uploaded at once; bounds the memory of a flush to about this many segments.
    pub uploads: usize,
    /// A flush that is not committed after this is given up: its objects may be collected later.
    pub deadline: Duration,
}

/// Writes flushes of one shard.
#[derive(Debug, Clone)]
pub struct Flusher {
    leader: Leader,
    bucket: Bucket,
    options: FlusherOptions,
}

/// The next incarnation exists: another cluster was started from the bucket, and this one must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("incarnation {0} of this cluster was started from the bucket: this one has been replaced")]
pub struct Replaced(pub u64);

impl Flusher {
    /// A flusher of the shard that `leader` leads, into `bucket`.
    #[must_use]
    pub fn new(leader: Leader, bucket: Bucket, options: FlusherOptions) -> Self {
        Self { leader, bucket, options }
    }

    /// The leader.
    #[must_use]
    pub fn leader(&self) -> &Leader {
        &self.leader
    }

    /// Flushes all that is applied now and returns its log index F; that a `Flushed` covers F is applied when this
    /// returns. Cancelling it leaves orphans in the bucket, nothing else.
    ///
    /// # Errors
    /// The bucket's, `replaced` (see [`Replaced`]), or what the log says. Nothing was lost; another flush may follow.
    pub async fn flush(&self) -> Result<LogIndex> {
        match tokio::time::timeout(self.options.deadline, self.flush_within()).await {
            Ok(flushed) => flushed,
            Err(_) => Err(Error::unavailable("the flush was given up at its deadline")),
        }
    }

    async fn flush_within(&self) -> Result<LogIndex> {
        let view = Arc::new(self.leader.node().view());
        let index = view.applied();
        let (flushed, mut files) = self.write(&view).await?;
        // Before it can be applied: a crash in between must not leave a checkpoint that this node cannot adopt.
        self.stage(&mut files).await?;
        self.check_not_replaced(&view).await?;
        failpoint::hit_async("flush.checkpoint").await?;
        self.leader.control(flushed).await?;
        failpoint::hit_async("flush.flushed").await?;
        self.leader.node().adopt_checkpoint(files).await?;
        Ok(index)
    }

    /// Keeps the files of a checkpoint beside the log. A node that began to lead before it had made the last flush of the
    /// leader before its own (the bucket was away, say) has not all that a checkpoint after it names, and reads the rest.
    async fn stage(&self, files: &mut CheckpointFiles) -> Result<()> {
        let node = self.leader.node();
        let missing = match node.stage_checkpoint(files).await {
            Err(error) if error.code() == "missing_files" => Missing::of(&error)?,
            staged => return staged,
        };
        let checkpoint = codec::decode_checkpoint(&files.checkpoint)?;
        let (parts, ranges) = missing.load(&self.bucket, self.options.shard, &checkpoint).await?;
        files.parts.extend(parts);
        files.ranges.extend(ranges);
        node.stage_checkpoint(files).await
    }

    /// Writes the objects of a flush of `view`; answers the command that makes them live.
    async fn write(&self, view: &Arc<State>) -> Result<(Control, CheckpointFiles)> {
        let tail = view.unflushed().flat_map(|partition| {
            let id = partition.id();
            partition.tail().iter().map(move |batch| (id, *batch))
        });
        let planned = plan::cut(tail.collect(), self.options.segment_bytes);
        let new_segments = planned.len();
        // Dropped with this future, it ends what is under way: a flush that is made anew must not hold the last one's memory.
        let mut uploads = Uploads::new();
        let (infos, ranges) = self.segments(view, planned, &mut uploads).await?;
        let flushed = self.flushed(view, &infos, ranges.clone(), new_segments);
        let (checkpoint, parts) = self.contents(view, &flushed).await?;
        let files = self.encode(&flushed, &checkpoint, parts, &infos, ranges).await?;
        for (part, bytes) in &files.parts {
            let key = Key::IndexPart(self.options.shard, *part).to_string();
            self.upload(&mut uploads, key, vec![bytes.clone()]);
        }
        let metadata = files.parts.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() + files.checkpoint.len();
        ::metrics::counter!(metrics::FLUSH_CHECKPOINT_BYTES).increment(metadata as u64);
        let key = Key::Checkpoint(self.options.shard, files.reference).to_string();
        self.upload(&mut uploads, key, vec![files.checkpoint.clone()]);
        while let Some(uploaded) = uploads.join_next().await {
            uploaded.map_err(joined)??;
        }
        Ok((flushed, files))
    }

    /// Writes the segments. In a bucket far away the last of them are still on their way when this returns, and the
    /// checkpoint goes beside them. On a local disk they are there, or they and their room are given back: a flush that is
    /// made anew again and again would fill the disk.
    async fn segments(
        &self,
        view: &Arc<State>,
        planned: Vec<PlannedSegment>,
        uploads: &mut Uploads,
    ) -> Result<(Vec<SegmentInfo>, Vec<Vec<SegmentRange>>)> {
        let mut keys = Vec::new();
        let built = async {
            let built = self.build(view, planned, uploads, &mut keys).await?;
            while self.bucket.is_local()
                && let Some(uploaded) = uploads.join_next().await
            {
                uploaded.map_err(joined)??;
            }
            Ok(built)
        };
        let built = built.await;
        if built.is_err() && self.bucket.is_local() {
            uploads.shutdown().await;
            // No checkpoint was begun that could name them, so nothing does.
            if let Err(error) = self.bucket.delete(keys).await {
                tracing::debug!(%error, "segments of a failed flush are left to the garbage collection");
            }
        }
        built
    }

    /// Builds the segments in order, at most `uploads` in memory: some are read and built while others are uploaded.
    async fn build(
        &self,
        view: &Arc<State>,
        planned: Vec<PlannedSegment>,
        uploads: &mut Uploads,
        keys: &mut Vec<String>,
    ) -> Result<(Vec<SegmentInfo>, Vec<Vec<SegmentRange>>)> {
        let at_once = self.options.uploads.max(1);
        let slots = Arc::new(Semaphore::new(at_once));
        let mut infos = Vec::with_capacity(planned.len());
        let mut ranges = Vec::with_capacity(planned.len());
        let mut rest = planned.as_slice();
        while !rest.is_empty() {
            let (group, after) = rest.split_at(plan::read_together(rest, at_once.div_ceil(2)));
            rest = after;
            let mut free = slots_for(&slots, group.len()).await?;
            // What failed so far fails the flush before more is built.
            while let Some(uploaded) = uploads.try_join_next() {
                uploaded.map_err(joined)??;
            }
            for (planned, batches) in group.iter().zip(self.batches(group).await?) {
                let finished = self.segment(view, planned, batches).await?;
                let key = Key::Segment(self.options.shard, finished.info.id).to_string();
                keys.push(key.clone());
                let (bucket, slot) = (self.bucket.clone(), free.split(1));
                uploads.spawn(async move {
                    let _slot = slot;
                    let put = bucket.put(&key, finished.bytes).await;
                    failpoint::hit_async("flush.segments").await?;
                    put.map_err(Error::from)
                });
                ::metrics::counter!(metrics::FLUSH_SEGMENT_BYTES).increment(finished.info.bytes);
                infos.push(finished.info);
                ranges.push(finished.ranges);
            }
        }
        Ok((infos, ranges))
    }

    /// The bytes of the batches of `segments`, by segment, partition and place: reads their log entries in log order, each once.
    async fn batches(&self, segments: &[PlannedSegment]) -> Result<Vec<SegmentBytes>> {
        let mut refs: Vec<(TailRef, [usize; 3])> = Vec::new();
        let mut batches: Vec<SegmentBytes> = Vec::with_capacity(segments.len());
        for (segment, planned) in segments.iter().enumerate() {
            for (at, (_, placed)) in planned.partitions.iter().enumerate() {
                refs.extend(placed.iter().enumerate().map(|(nth, batch)| (*batch, [segment, at, nth])));
            }
            batches.push(planned.partitions.iter().map(|(_, refs)| vec![Bytes::new(); refs.len()]).collect());
        }
        refs.sort_unstable_by_key(|(batch, _)| (batch.log_index, batch.position));
        let mut entry: Option<(LogIndex, Bytes)> = None;
        for (batch, [segment, at, nth]) in refs {
            if entry.as_ref().is_none_or(|(index, _)| *index != batch.log_index) {
                entry = Some((batch.log_index, self.read_entry(batch.log_index).await?));
            }
            if let Some((_, bytes)) = &entry {
                batches[segment][at][nth] = slice(bytes, &batch)?;
            }
        }
        Ok(batches)
    }

    /// Builds one segment, its batches in offset order.
    async fn segment(
        &self,
        view: &Arc<State>,
        planned: &PlannedSegment,
        batches: SegmentBytes,
    ) -> Result<FinishedSegment> {
        let work = planned.partitions.iter().zip(batches).map(|((partition, refs), bytes)| {
            let topic = view.wanted(partition.topic).cloned();
            let topic = topic.ok_or_else(|| Error::internal("a partition with a tail has no topic"))?;
            let stored = refs.iter().zip(bytes).map(|(batch, bytes)| stored(batch, bytes)).collect();
            Ok((topic, partition.partition, stored))
        });
        let work = work.collect::<Result<Vec<_>>>()?;
        let id = self.object_id();
        crate::blocking::spawn(move || write_segment(id, &work)).await.map_err(joined)?
    }

    async fn read_entry(&self, index: LogIndex) -> Result<Bytes> {
        // Above the flushed index nothing is ever purged: only another flush that won can have taken it.
        self.leader.node().read_entry(index).await?.ok_or_else(|| {
            Error::new(ErrorKind::Conflict, "stale_job", format!("log entry {index} was flushed by another flush"))
        })
    }

    fn flushed(
        &self,
        view: &State,
        segments: &[SegmentInfo],
        ranges: Vec<Vec<SegmentRange>>,
        new_segments: usize,
    ) -> Control {
        let index = view.applied();
        let parts = view.parts_to_write(new_segments).into_iter();
        let parts = parts.map(|part| IndexPartRef { part, id: self.object_id(), written_at: index }).collect();
        let checkpoint = CheckpointRef { incarnation: view.incarnation(), index, id: self.object_id() };
        let previous = view.flushed_index();
        Control::Flushed { previous, index, segments: segments.to_vec(), ranges, checkpoint, parts }
    }

    async fn contents(&self, view: &Arc<State>, flushed: &Control) -> Result<(Checkpoint, Vec<IndexPart>)> {
        let (view, flushed) = (Arc::clone(view), flushed.clone());
        let term = self.leader.node().status().term;
        let made = crate::blocking::spawn(move || view.checkpoint(&flushed)).await.map_err(joined)?;
        let (mut checkpoint, parts) =
            made.map_err(|error| Error::internal("the flush does not fit its own view").with_source(error))?;
        checkpoint.term = term;
        Ok((checkpoint, parts))
    }

    async fn encode(
        &self,
        flushed: &Control,
        checkpoint: &Checkpoint,
        parts: Vec<IndexPart>,
        segments: &[SegmentInfo],
        ranges: Vec<Vec<SegmentRange>>,
    ) -> Result<CheckpointFiles> {
        let Control::Flushed { checkpoint: reference, parts: named, .. } = flushed else {
            return Err(Error::internal("a flush makes a Flushed"));
        };
        let bytes = codec::encode_checkpoint(checkpoint)?;
        assert_eq!(named.len(), parts.len(), "one content for each index part named");
        let ids: Vec<ObjectId> = named.iter().map(|part| part.id).collect();
        let parts = crate::blocking::spawn(move || {
            ids.into_iter()
                .zip(&parts)
                .map(|(id, part)| Ok((id, codec::encode_part(part)?)))
                .collect::<Result<Vec<_>>>()
        });
        let parts = parts.await.map_err(joined)??;
        let ranges = segments.iter().map(|segment| segment.id).zip(ranges).collect();
        Ok(CheckpointFiles { reference: *reference, checkpoint: bytes, parts, ranges })
    }

    fn upload(&self, uploads: &mut Uploads, key: String, parts: Vec<Bytes>) {
        let bucket = self.bucket.clone();
        uploads.spawn(async move { Ok(bucket.put(&key, parts).await?) });
    }

    /// Two lives of one cluster must not both acknowledge: looks whether the next one has begun.
    async fn check_not_replaced(&self, view: &State) -> Result<()> {
        let next = view.incarnation().0 + 1;
        let key = Key::Incarnation(crate::model::Incarnation(next)).to_string();
        if self.bucket.exists(&key).await? {
            let replaced = Replaced(next);
            return Err(Error::new(ErrorKind::Conflict, "replaced", replaced.to_string()).with_source(replaced));
        }
        Ok(())
    }

    fn object_id(&self) -> ObjectId {
        ObjectId::from_parts(self.leader.log_time(), rand::random())
    }
}

/// Objects on their way into the bucket.
type Uploads = JoinSet<Result<()>>;

fn joined(error: tokio::task::JoinError) -> Error {
    Error::internal("a task of the flush broke off").with_source(error)
}

/// The bytes of the batches of a segment, by partition.
type SegmentBytes = Vec<Vec<Bytes>>;

/// Room for so many segments in memory.
async fn slots_for(slots: &Arc<Semaphore>, segments: usize) -> Result<OwnedSemaphorePermit> {
    let count = u32::try_from(segments).unwrap_or(u32::MAX);
    let free = Arc::clone(slots).acquire_many_owned(count).await;
    free.map_err(|closed| Error::internal("the upload slots are closed").with_source(closed))
}

/// The bytes of a batch within its log entry.
fn slice(entry: &Bytes, batch: &TailRef) -> Result<Bytes> {
    let (start, len) = (batch.position as usize, batch.len as usize);
    if start.checked_add(len).is_none_or(|end| end > entry.len()) {
        return Err(Error::corrupt(format!("log entry {} is shorter than its batches", batch.log_index)));
    }
    // A small batch must not hold on to a large entry while its segment is built.
    if len < entry.len() / 4 {
        Ok(Bytes::copy_from_slice(&entry[start..start + len]))
    } else {
        Ok(entry.slice(start..start + len))
    }
}

fn stored(batch: &TailRef, bytes: Bytes) -> StoredBatch {
    StoredBatch {
        base_offset: batch.base_offset,
        count: batch.count,
        max_timestamp: batch.max_timestamp,
        append_time: batch.append_time,
        bytes,
    }
}

type SegmentWork = Vec<(Arc<Topic>, u32, Vec<StoredBatch>)>;

fn write_segment(id: ObjectId, work: &SegmentWork) -> Result<FinishedSegment> {
    let mut writer = SegmentWriter::new(id);
    for (topic, partition, batches) in work {
        for batch in batches {
            writer.push(topic, *partition, batch)?;
        }
    }
    writer.finish()
}
