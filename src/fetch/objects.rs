//! Parts of objects of the bucket, through the cache: segment footers and blocks, archive footers and row groups.
//!
//! Everything is verified each time it is used, whether it came from the bucket, from memory or from the cache's disk.
//! What fails is fetched once more past the cache; failing again it is corrupt. An object that is not there is told
//! apart: it may have been replaced since the view was taken.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::recent::Recent;
use super::runs::{Runs, Segment};
use crate::cache::{BlockCache, BlockKey, BlockKind};
use crate::error::{Error, ErrorKind, Result};
use crate::format::archive::ArchiveReader;
use crate::format::segment::{self, Footer};
use crate::model::{ArchiveFile, Offset, SegmentInfo, ShardId, StoredRecord, Topic};
use crate::store::keys::{ArchiveKey, Key};
use crate::store::{Bucket, OBJECT_MISSING, StoreError};

/// Decoded footers kept in memory, bytes of their encoded forms.
const FOOTER_BYTES: u64 = 16 << 20;

/// Why a part cannot be had.
#[derive(Debug)]
pub(super) enum Failure {
    /// What the view names is not there: make the plan again with a fresh view.
    Gone(Error),
    /// Anything else.
    Failed(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if error.code() == OBJECT_MISSING { Self::Gone(error) } else { Self::Failed(error) }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Error::from(error).into()
    }
}

/// An archive file with what its key is made of.
#[derive(Debug, Clone)]
pub(super) struct ArchiveObject {
    pub(super) topic: Arc<Topic>,
    pub(super) file: ArchiveFile,
}

/// Reads the objects of one shard.
pub(super) struct Objects {
    bucket: Bucket,
    cache: BlockCache,
    shard: ShardId,
    /// How long one call of the bucket may take, its retries included: a reader is better told than kept waiting.
    patience: Duration,
    /// Of all shards: ids of objects are unique.
    footers: Arc<Recent<Footer>>,
    archives: Arc<Recent<ArchiveReader>>,
    runs: Arc<Runs>,
}

/// A part of an object: how the cache knows it, and where its bytes are.
struct Part {
    name: BlockKey,
    key: Key,
    range: Range<u64>,
}

impl Part {
    /// Says in which object the damage is.
    fn damaged(&self, error: Error) -> Error {
        Error::new(error.kind(), error.code(), format!("object {}: {}", self.key, error.message())).with_source(error)
    }
}

impl Objects {
    pub(super) fn new(bucket: Bucket, cache: BlockCache, shard: ShardId, patience: Duration) -> Self {
        let (footers, archives) = (Arc::new(Recent::new(FOOTER_BYTES)), Arc::new(Recent::new(FOOTER_BYTES)));
        let runs = Arc::new(Runs::new());
        Self { bucket, cache, shard, patience, footers, archives, runs }
    }

    /// Those of another shard, through the same caches.
    pub(super) fn of_shard(&self, shard: ShardId) -> Self {
        Self {
            bucket: self.bucket.clone(),
            cache: self.cache.clone(),
            shard,
            patience: self.patience,
            footers: Arc::clone(&self.footers),
            archives: Arc::clone(&self.archives),
            runs: Arc::clone(&self.runs),
        }
    }

    /// The footer of a segment.
    pub(super) async fn footer(&self, info: &SegmentInfo) -> Result<Arc<Footer>, Failure> {
        if let Some(footer) = self.footers.get(info.id) {
            return Ok(footer);
        }
        let range = info.footer_start..info.bytes;
        let weight = range.end.saturating_sub(range.start);
        let part = self.segment_part(info, BlockKind::SegmentFooter, 0, range);
        let footer = self.verified(&part, self.load(&part).await?, |bytes| Footer::decode(info.id, &bytes)).await?;
        Ok(self.footers.insert(info.id, footer, weight))
    }

    /// The verified logical bytes of a block of a segment. Others of `run` come with it if it comes from the bucket.
    pub(super) async fn block(&self, info: &SegmentInfo, index: u32, run: &Range<u32>) -> Result<Bytes, Failure> {
        let range = segment::block_bytes(index, info.footer_start);
        if range.is_empty() {
            return Err(Error::corrupt(format!("segment {} has no block {index}", info.id)).into());
        }
        let part = self.segment_part(info, BlockKind::SegmentBlock, u64::from(index), range);
        let fetch = || {
            let (bucket, key, patience) = (self.bucket.clone(), part.key.to_string(), self.patience);
            let read = move |range| get(bucket, key, range, patience);
            let from = Segment { info: *info, cache: self.cache.clone(), read };
            Arc::clone(&self.runs).block(from, index, run.clone())
        };
        let bytes = self.cache.get_or_fetch(part.name, fetch).await?;
        self.verified(&part, bytes, |bytes| segment::verify_block(info.id, index, &bytes)).await
    }

    fn segment_part(&self, info: &SegmentInfo, kind: BlockKind, index: u64, range: Range<u64>) -> Part {
        let name = BlockKey { object: info.id, kind, index };
        Part { name, key: Key::Segment(self.shard, info.id), range }
    }

    /// The footer of an archive file.
    pub(super) async fn archive(&self, object: &ArchiveObject) -> Result<Arc<ArchiveReader>, Failure> {
        let file = &object.file;
        if let Some(reader) = self.archives.get(file.id) {
            return Ok(reader);
        }
        let range = file.footer_start..file.bytes;
        let weight = range.end.saturating_sub(range.start);
        let part = self.archive_part(object, BlockKind::ArchiveFooter, 0, range);
        let reader = self.verified(&part, self.load(&part).await?, |bytes| ArchiveReader::open(file, bytes)).await?;
        Ok(self.archives.insert(file.id, reader, weight))
    }

    /// The records of a row group whose offsets are in `offsets`.
    pub(super) async fn records(
        &self,
        object: &ArchiveObject,
        reader: &Arc<ArchiveReader>,
        group: usize,
        offsets: Range<Offset>,
    ) -> Result<Vec<StoredRecord>, Failure> {
        self.decoded(object, reader, group, move |reader, bytes| reader.records(group, bytes, offsets.clone())).await
    }

    /// The lowest offset of a row group, at or above `from`, whose timestamp is at least `timestamp`.
    pub(super) async fn offset_of_timestamp(
        &self,
        object: &ArchiveObject,
        reader: &Arc<ArchiveReader>,
        group: usize,
        (from, timestamp): (Offset, i64),
    ) -> Result<Option<Offset>, Failure> {
        let decode = move |reader: &ArchiveReader, bytes| reader.offset_of_timestamp(group, bytes, from, timestamp);
        self.decoded(object, reader, group, decode).await
    }

    /// Has a row group in the cache.
    pub(super) async fn warm_group(&self, object: &ArchiveObject, reader: &ArchiveReader, group: usize) {
        if let Some(part) = self.group_part(object, reader, group) {
            let _ = self.load(&part).await;
        }
    }

    /// Decodes a row group on a thread that may block; the decoder verifies its checksum.
    async fn decoded<T: Send + 'static>(
        &self,
        object: &ArchiveObject,
        reader: &Arc<ArchiveReader>,
        group: usize,
        decode: impl Fn(&ArchiveReader, Bytes) -> Result<T> + Clone + Send + 'static,
    ) -> Result<T, Failure> {
        let lacks = || Error::internal(format!("archive file {} has no row group {group}", object.file.id));
        let part = self.group_part(object, reader, group).ok_or_else(lacks)?;
        let run = |bytes: Bytes| {
            let (reader, decode) = (Arc::clone(reader), decode.clone());
            off_thread(move || decode(&reader, bytes))
        };
        match run(self.load(&part).await?).await {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                Ok(run(self.reload(&part, &error).await?).await.map_err(|error| part.damaged(error))?)
            }
            other => Ok(other?),
        }
    }

    fn group_part(&self, object: &ArchiveObject, reader: &ArchiveReader, group: usize) -> Option<Part> {
        let place = reader.groups().get(group)?;
        let range = place.position..place.position + place.bytes;
        Some(self.archive_part(object, BlockKind::ArchiveRange, place.position, range))
    }

    fn archive_part(&self, object: &ArchiveObject, kind: BlockKind, index: u64, range: Range<u64>) -> Part {
        let ArchiveObject { topic, file } = object;
        let key = Key::Archive(ArchiveKey {
            namespace: topic.namespace.clone(),
            topic: topic.name.clone(),
            topic_id: topic.id,
            day: file.day,
            shard: self.shard,
            id: file.id,
        });
        Part { name: BlockKey { object: file.id, kind, index }, key, range }
    }

    /// Decodes a part that was loaded, which verifies it.
    async fn verified<T>(&self, part: &Part, bytes: Bytes, decode: impl Fn(Bytes) -> Result<T>) -> Result<T, Failure> {
        match decode(bytes) {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                Ok(decode(self.reload(part, &error).await?).map_err(|error| part.damaged(error))?)
            }
            other => Ok(other?),
        }
    }

    /// The bytes of a part, from the cache or else the bucket; one call to the bucket however many ask.
    async fn load(&self, part: &Part) -> Result<Bytes, Failure> {
        let fetch = || {
            let (bucket, key, range) = (self.bucket.clone(), part.key.to_string(), part.range.clone());
            get(bucket, key, range, self.patience)
        };
        self.cache.get_or_fetch(part.name, fetch).await.map_err(Failure::from)
    }

    /// The bytes of a part, from the bucket, because those that were cached or fetched first failed with `error`.
    async fn reload(&self, part: &Part, error: &Error) -> Result<Bytes, Failure> {
        let Part { name, key, range } = part;
        tracing::warn!(%key, ?range, %error, "bytes failed their checksum and are fetched again");
        self.cache.forget(name);
        Ok(get(self.bucket.clone(), key.to_string(), range.clone(), self.patience).await?)
    }
}

/// Reads a range within `patience`.
async fn get(bucket: Bucket, key: String, range: Range<u64>, patience: Duration) -> Result<Bytes> {
    match tokio::time::timeout(patience, bucket.get_range(&key, range)).await {
        Ok(read) => Ok(read?),
        Err(_) => Err(Error::unavailable(format!("the bucket did not give {key} within fetch.bucket_deadline"))),
    }
}

/// Runs `work` on a thread that may block.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match crate::blocking::spawn(work).await {
        Ok(result) => result,
        // A defect: end as any other panic does.
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(Error::unavailable("the node is stopping").with_source(error)),
    }
}
