//! Checkpoints in the bucket: listing them, loading one with all it names, and telling whether everything it names is there.
//!
//! For starts from the bucket, `verify` and backups; the flush writes them, gc deletes them. Only reads, but for what [`lives`] creates.

pub mod lives;
#[cfg(test)]
pub(crate) mod tests;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use crate::error::{Detail, Error, ErrorKind, Result};
use crate::format::checkpoint as codec;
use crate::format::segment::Footer;
use crate::model::{
    ArchiveFile, Checkpoint, CheckpointRef, Incarnation, IndexPart, ObjectId, SegmentInfo, SegmentRange, ShardId,
};
use crate::store::keys::{self, ArchiveKey, Key};
use crate::store::{Bucket, StoreError};

/// A checkpoint object is at most 1 MiB for 10,000 partitions (DESIGN section 4); the rest is room.
const MAX_CHECKPOINT_BYTES: u64 = 256 << 20;
/// An index part holds the ranges of 256 partitions.
const MAX_PART_BYTES: u64 = 256 << 20;
/// Calls in flight to the bucket while a checkpoint is loaded or looked over.
const PARALLEL_CALLS: usize = 16;

/// A checkpoint with all its bytes: what a node needs to begin from it.
#[derive(Debug, Clone)]
pub struct LoadedCheckpoint {
    /// Its name.
    pub reference: CheckpointRef,
    /// What it says.
    pub checkpoint: Checkpoint,
    /// The object.
    pub bytes: Bytes,
    /// The index parts that it names: id, object, contents.
    pub parts: Vec<(ObjectId, Bytes, IndexPart)>,
    /// The ranges of [`Checkpoint::footer_segments`].
    pub ranges: Vec<(ObjectId, Vec<SegmentRange>)>,
}

/// The checkpoints of `shard`, newest life first, within a life the highest index first.
///
/// # Errors
/// The bucket's.
pub async fn list(bucket: &Bucket, shard: ShardId) -> Result<Vec<CheckpointRef>> {
    let mut found = Vec::new();
    let mut listing = bucket.list(&keys::checkpoints_of(shard));
    while let Some(object) = listing.try_next().await? {
        if let Some(Key::Checkpoint(_, reference)) = Key::parse(&object.key) {
            found.push(reference);
        }
    }
    found.sort_unstable_by(|left, right| right.cmp(left));
    Ok(found)
}

/// The incarnations that the bucket knows, ascending.
///
/// # Errors
/// The bucket's.
pub async fn incarnations(bucket: &Bucket) -> Result<Vec<Incarnation>> {
    let mut found = Vec::new();
    let mut listing = bucket.list(keys::INCARNATIONS);
    while let Some(object) = listing.try_next().await? {
        if let Some(Key::Incarnation(incarnation)) = Key::parse(&object.key) {
            found.push(incarnation);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Loads a checkpoint with its index parts and the footers that it leaves ranges to.
///
/// # Errors
/// `not_found` if something it names is missing, `corrupt` if something fails its checksum, or the bucket's.
pub async fn load(bucket: &Bucket, shard: ShardId, reference: CheckpointRef) -> Result<LoadedCheckpoint> {
    let (checkpoint, bytes) = load_alone(bucket, shard, reference).await?;
    let parts = futures::stream::iter(checkpoint.parts.clone()).map(async |part| {
        let key = Key::IndexPart(shard, part.id);
        let bytes = get(bucket, &key, MAX_PART_BYTES).await?;
        let content = codec::decode_part(&bytes).map_err(|error| named(&key, error))?;
        Ok::<_, Error>((part.id, bytes, content))
    });
    let parts = parts.buffered(PARALLEL_CALLS).try_collect().await?;
    let ranges = load_ranges(bucket, shard, checkpoint.footer_segments()).await?;
    Ok(LoadedCheckpoint { reference, checkpoint, bytes, parts, ranges })
}

/// Loads a checkpoint without what it names.
///
/// # Errors
/// As [`load`].
pub async fn load_alone(bucket: &Bucket, shard: ShardId, reference: CheckpointRef) -> Result<(Checkpoint, Bytes)> {
    let key = Key::Checkpoint(shard, reference);
    let bytes = get(bucket, &key, MAX_CHECKPOINT_BYTES).await?;
    let checkpoint = codec::decode_checkpoint(&bytes).map_err(|error| named(&key, error))?;
    if checkpoint.self_ref != reference || checkpoint.shard != shard {
        return Err(Error::corrupt(format!("object {key} is another checkpoint than its name says")));
    }
    Ok((checkpoint, bytes))
}

/// The index part objects `parts`.
///
/// # Errors
/// As [`load`].
pub async fn load_parts(bucket: &Bucket, shard: ShardId, parts: Vec<ObjectId>) -> Result<Vec<(ObjectId, Bytes)>> {
    let parts = futures::stream::iter(parts).map(async |id| {
        let key = Key::IndexPart(shard, id);
        let bytes = get(bucket, &key, MAX_PART_BYTES).await?;
        codec::decode_part(&bytes).map_err(|error| named(&key, error))?;
        Ok::<_, Error>((id, bytes))
    });
    parts.buffered(PARALLEL_CALLS).try_collect().await
}

/// The ranges of `segments`, out of their footers.
///
/// # Errors
/// As [`load`].
pub async fn load_ranges(
    bucket: &Bucket,
    shard: ShardId,
    segments: Vec<SegmentInfo>,
) -> Result<Vec<(ObjectId, Vec<SegmentRange>)>> {
    let footers = futures::stream::iter(segments).map(async |segment| {
        let footer = footer(bucket, shard, &segment).await?;
        Ok::<_, Error>((segment.id, footer.ranges().copied().collect::<Vec<_>>()))
    });
    footers.buffered(PARALLEL_CALLS).try_collect().await
}

/// The footer of a segment.
///
/// # Errors
/// `not_found`, `corrupt`, or the bucket's.
pub async fn footer(bucket: &Bucket, shard: ShardId, segment: &SegmentInfo) -> Result<Footer> {
    let key = Key::Segment(shard, segment.id).to_string();
    let bytes = bucket.get_range(&key, segment.footer_start..segment.bytes).await.map_err(missing)?;
    Footer::decode(segment.id, &bytes)
}

/// The first object that `checkpoint` names and the bucket does not have; `None` if all are there. One call for each.
///
/// # Errors
/// The bucket's.
pub async fn first_missing(bucket: &Bucket, checkpoint: &Checkpoint) -> Result<Option<String>> {
    let shard = checkpoint.shard;
    let segments = checkpoint.segments.iter().map(|segment| Key::Segment(shard, segment.info.id));
    let parts = checkpoint.parts.iter().map(|part| Key::IndexPart(shard, part.id));
    let files = checkpoint.archive_files.iter().filter_map(|file| archive_key(checkpoint, file));
    let keys: Vec<String> = segments.chain(parts).chain(files).map(|key| key.to_string()).collect();
    let looked = futures::stream::iter(keys).map(async |key| {
        let there = bucket.exists(&key).await?;
        Ok::<_, Error>((!there).then_some(key))
    });
    let mut looked = std::pin::pin!(looked.buffer_unordered(PARALLEL_CALLS));
    while let Some(found) = looked.try_next().await? {
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The key of an archive file of a topic that `checkpoint` knows.
#[must_use]
pub fn archive_key(checkpoint: &Checkpoint, file: &ArchiveFile) -> Option<Key> {
    let topic = &checkpoint.topics.iter().find(|record| record.topic.id == file.topic)?.topic;
    Some(Key::Archive(ArchiveKey {
        namespace: topic.namespace.clone(),
        topic: topic.name.clone(),
        topic_id: file.topic,
        day: file.day,
        shard: checkpoint.shard,
        id: file.id,
    }))
}

async fn get(bucket: &Bucket, key: &Key, limit: u64) -> Result<Bytes> {
    bucket.get(&key.to_string(), limit).await.map_err(missing)
}

/// Says in which object the damage is.
fn named(key: &Key, error: Error) -> Error {
    Error::new(error.kind(), error.code(), format!("object {key}: {}", error.message())).with_source(error)
}

fn missing(error: StoreError) -> Error {
    match error {
        StoreError::NotFound { key } => {
            Error::new(ErrorKind::NotFound, "object_not_found", format!("object {key} does not exist"))
        }
        other => other.into(),
    }
}

/// The files of a checkpoint that a node lacks, as named in the details of `missing_files`.
pub(crate) struct Missing {
    parts: Vec<ObjectId>,
    ranges: Vec<ObjectId>,
}

impl Missing {
    /// Those that `error` names.
    ///
    /// # Errors
    /// `internal` if it names none, or something else.
    pub(crate) fn of(error: &Error) -> Result<Self> {
        let strange = || Error::internal("the files that a checkpoint lacks cannot be told");
        let named = error.details().iter().find_map(|(name, detail)| match detail {
            Detail::Text(files) if *name == "files" => Some(files),
            _ => None,
        });
        let mut missing = Self { parts: Vec::new(), ranges: Vec::new() };
        for name in named.ok_or_else(strange)?.split(' ') {
            let (id, ending) = name.split_once('.').ok_or_else(strange)?;
            let id = id.parse().map_err(|_| strange())?;
            match ending {
                "idx" => missing.parts.push(id),
                "ranges" => missing.ranges.push(id),
                _ => return Err(strange()),
            }
        }
        Ok(missing)
    }

    /// Reads them: index parts, and the ranges of segments out of their footers.
    ///
    /// # Errors
    /// The bucket's; `corrupt`.
    pub(crate) async fn load(self, bucket: &Bucket, shard: ShardId, checkpoint: &Checkpoint) -> Result<Files> {
        let parts = load_parts(bucket, shard, self.parts).await?;
        let segments = checkpoint.footer_segments().into_iter().filter(|segment| self.ranges.contains(&segment.id));
        Ok((parts, load_ranges(bucket, shard, segments.collect()).await?))
    }
}

/// Index parts, and the ranges of segments.
type Files = (Vec<(ObjectId, Bytes)>, Vec<(ObjectId, Vec<SegmentRange>)>);
