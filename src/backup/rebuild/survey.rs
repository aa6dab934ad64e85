//! What is in the segments and archive files of a bucket, as they say themselves: footers only.
//!
//! Memory grows with the ranges that are stored, about 100 bytes each, as that of a node does.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use super::super::pace::Progress;
use crate::error::{Error, ErrorKind, Result};
use crate::format::archive::{Described, Undescribed, describe};
use crate::format::segment::{Footer, TRAILER_LEN};
use crate::model::{Incarnation, LogIndex, ObjectId, SegmentInfo, SegmentRange, ShardId, TopicId, TopicSettings};
use crate::store::keys::{ArchiveKey, Key};
use crate::store::{Bucket, StoreError};

/// Bytes of the end of an object that are read first; most footers are shorter.
const TAIL_BYTES: u64 = 64 << 10;
/// A footer holds a few hundred bytes for each partition and 64 KiB.
const MAX_FOOTER_BYTES: u64 = 256 << 20;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// By shard; all shards of which there is an object.
    pub(super) shards: BTreeMap<ShardId, Objects>,
    /// Topics by the newest segment that names them, else by an archive file.
    pub(super) topics: BTreeMap<TopicId, Named>,
    /// The newest life that anything in the bucket is of.
    pub(super) newest: Option<Incarnation>,
    /// Objects that could not be read, and why.
    pub(super) unreadable: Vec<(String, String)>,
}

/// Objects of a shard.
#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) segments: Vec<(SegmentInfo, Vec<SegmentRange>)>,
    pub(super) files: Vec<Described>,
    /// The highest log index that a checkpoint is named after.
    pub(super) index: LogIndex,
}

/// A topic as an object names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) settings: TopicSettings,
    pub(super) created_at: u64,
    /// Out of a segment, by its id; archive files do not have all settings.
    pub(super) by: Option<ObjectId>,
}

/// An object that was read.
enum Found {
    Segment(ShardId, Box<Footer>),
    File(ArchiveKey, Box<Described>),
}

impl Survey {
    /// Reads the footers of all segments and archive files of `bucket`.
    pub(super) async fn read(bucket: &Bucket, parallel: usize, progress: &Progress) -> Result<Self> {
        let mut survey = Self::default();
        let mut objects = Vec::new();
        let mut listing = bucket.list("");
        while let Some(object) = listing.try_next().await? {
            let Some(key) = Key::parse(&object.key) else { continue };
            survey.note(&key);
            if matches!(key, Key::Segment(..) | Key::Archive(_)) {
                progress.expect(object.bytes);
                objects.push((key, object.bytes));
            }
        }
        // So that the same bucket gives the same answer.
        objects.sort();
        let reads = objects.into_iter().map(|(key, bytes)| async move {
            let found = read(bucket, &key, bytes).await;
            (key, bytes, found)
        });
        let mut reads = std::pin::pin!(futures::stream::iter(reads).buffered(parallel.max(1)));
        while let Some((key, bytes, found)) = reads.next().await {
            progress.found(bytes);
            match found {
                Ok(found) => survey.take(found),
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                    survey.unreadable.push((key.to_string(), error.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(survey)
    }

    fn note(&mut self, key: &Key) {
        let life = match key {
            Key::Incarnation(incarnation) => Some(*incarnation),
            Key::Checkpoint(shard, reference) => {
                let objects = self.shards.entry(*shard).or_default();
                objects.index = objects.index.max(reference.index);
                Some(reference.incarnation)
            }
            _ => None,
        };
        self.newest = self.newest.max(life);
        if let Some(shard) = key.shard() {
            self.shards.entry(shard).or_default();
        }
    }

    fn take(&mut self, found: Found) {
        match found {
            Found::Segment(shard, footer) => {
                for topic in footer.topics() {
                    let (namespace, name) = (topic.namespace.clone(), topic.name.clone());
                    let (settings, created_at) = (topic.settings.clone(), topic.created_at);
                    self.name(topic.id, Named { namespace, name, settings, created_at, by: Some(footer.info().id) });
                }
                let ranges = footer.ranges().copied().collect();
                self.shards.entry(shard).or_default().segments.push((*footer.info(), ranges));
            }
            Found::File(key, described) => {
                let (namespace, name) = described.topic.clone();
                let settings = TopicSettings { value_format: described.value_format, ..TopicSettings::default() };
                let created_at = described.ranges.iter().map(|range| range.min_append_time).min().unwrap_or(0);
                self.name(described.file.topic, Named { namespace, name, settings, created_at, by: None });
                self.shards.entry(key.shard).or_default().files.push(*described);
            }
        }
    }

    fn name(&mut self, id: TopicId, named: Named) {
        match self.topics.get_mut(&id) {
            Some(known) if known.by >= named.by => {
                if known.by.is_none() {
                    known.created_at = known.created_at.min(named.created_at);
                }
            }
            Some(known) => *known = named,
            None => drop(self.topics.insert(id, named)),
        }
    }

    /// The ids of the objects that could be read.
    pub(super) fn objects(&self) -> BTreeSet<(ShardId, ObjectId)> {
        let of = |(shard, objects): (&ShardId, &Objects)| {
            let segments = objects.segments.iter().map(|(info, _)| info.id);
            let files = objects.files.iter().map(|described| described.file.id);
            segments.chain(files).map(|id| (*shard, id)).collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(of).collect()
    }
}

async fn read(bucket: &Bucket, key: &Key, bytes: u64) -> Result<Found> {
    match key {
        Key::Segment(shard, id) => {
            let footer = segment(bucket, key, *id, bytes).await?;
            Ok(Found::Segment(*shard, Box::new(footer)))
        }
        Key::Archive(archive) => {
            let described = archive_file(bucket, key, archive, bytes).await?;
            Ok(Found::File(archive.clone(), Box::new(described)))
        }
        _ => Err(Error::internal(format!("{key} is neither a segment nor an archive file"))),
    }
}

async fn segment(bucket: &Bucket, key: &Key, id: ObjectId, bytes: u64) -> Result<Footer> {
    let short = || Error::corrupt(format!("{key} is shorter than its footer says"));
    let tail = tail(bucket, key, bytes, TAIL_BYTES).await?;
    if tail.len() < TRAILER_LEN {
        return Err(short());
    }
    let len = Footer::len(&tail)?;
    if len > bytes || len > MAX_FOOTER_BYTES {
        return Err(short());
    }
    let tail = if len > tail.len() as u64 { self::tail(bucket, key, bytes, len).await? } else { tail };
    let footer = Footer::decode(id, &tail.slice(tail.len() - len as usize..))?;
    if footer.info().bytes == bytes {
        Ok(footer)
    } else {
        Err(Error::corrupt(format!("{key} is not as long as its footer says")))
    }
}

async fn archive_file(bucket: &Bucket, key: &Key, archive: &ArchiveKey, bytes: u64) -> Result<Described> {
    let mut wanted = TAIL_BYTES;
    loop {
        let tail = tail(bucket, key, bytes, wanted).await?;
        match describe(archive.id, bytes, &tail) {
            Ok(described) if (described.file.topic, described.file.day) == (archive.topic_id, archive.day) => {
                return Ok(described);
            }
            Ok(_) => return Err(Error::corrupt(format!("{key} is of another topic or day"))),
            // More than there was, each time, and no more than the file has.
            Err(Undescribed::Needs(more)) => wanted = more,
            Err(Undescribed::Error(error)) => return Err(error),
        }
    }
}

/// The last `len` bytes of an object of `bytes`, or all of it.
async fn tail(bucket: &Bucket, key: &Key, bytes: u64, len: u64) -> Result<Bytes> {
    if bytes == 0 {
        return Ok(Bytes::new());
    }
    let read = bucket.get_range(&key.to_string(), bytes.saturating_sub(len)..bytes).await;
    read.map_err(|error| match error {
        StoreError::NotFound { key } => Error::new(ErrorKind::NotFound, "object_not_found", format!("{key} went away")),
        other => other.into(),
    })
}
