//! Verifying a bucket: everything that the newest checkpoint of each shard names is read and checked, byte by byte.
//!
//! Checkpoint, index parts, segments (blocks, frames, batches, footers) and archive files (footers, row groups) against
//! their checksums and against each other; the offset ranges of every partition for gaps and overlaps. It only reads,
//! needs no node and may run beside one: a checkpoint that names something missing is looked at again for a while, since a
//! flush puts it beside its segments. What is wrong is listed; only a bucket that does not answer is an error.

mod objects;
mod ranges;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::TryStreamExt;
use serde::Serialize;

use crate::checkpoints::{self, LoadedCheckpoint};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{CheckpointRef, ObjectId, ShardId};
use crate::state::State;
use crate::store::Bucket;
use crate::store::keys::{self, Key};

/// Pause between two looks at a checkpoint whose objects are not all there.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How to verify.
#[derive(Debug, Clone)]
pub struct Options {
    /// Objects read at once; each holds a few MiB.
    pub parallel: usize,
    /// How long a flush under way may leave the newest checkpoint without one of its objects.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { parallel: 4, patience: Duration::from_secs(10) }
    }
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// The bucket's URL.
    pub bucket: String,
    /// The newest life of the cluster that the bucket knows.
    pub incarnation: Option<u64>,
    /// By shard.
    pub shards: Vec<ShardReport>,
    /// Objects whose keys are not ours.
    pub foreign_objects: u64,
    /// What is wrong; empty if all is well.
    pub problems: Vec<Problem>,
}

/// What a verification found in one shard.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ShardReport {
    /// The shard.
    pub shard: u32,
    /// Key of the checkpoint that was verified.
    pub checkpoint: Option<String>,
    /// Its log index.
    pub index: u64,
    /// Whether the shard was closed with it: nothing was acknowledged after it.
    pub clean: bool,
    /// Partitions.
    pub partitions: u64,
    /// Readable records: flushed offset less log start, over all partitions.
    pub records: u64,
    /// Index parts read.
    pub index_parts: u64,
    /// Segments read.
    pub segments: u64,
    /// Their bytes.
    pub segment_bytes: u64,
    /// Archive files read.
    pub archive_files: u64,
    /// Their bytes.
    pub archive_bytes: u64,
    /// Objects that the checkpoint does not name: older checkpoints and what they name, flushes under way, garbage.
    pub orphans: u64,
    /// Their bytes.
    pub orphan_bytes: u64,
}

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// Key of the object, or the partition.
    pub place: String,
    /// What is wrong with it.
    pub what: String,
}

impl Problem {
    fn new(place: impl ToString, what: impl ToString) -> Self {
        Self { place: place.to_string(), what: what.to_string() }
    }
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Sorts what reading an object gave: damage is a problem at `place`, a bucket that does not answer an error.
fn noted<T>(result: Result<T>, place: impl ToString, problems: &mut Vec<Problem>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_damage(&error) => {
            problems.push(Problem::new(place, error));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound)
}

/// Verifies the bucket.
///
/// # Errors
/// If the bucket does not answer, or was written by a newer program.
pub async fn verify(bucket: &Bucket, options: &Options) -> Result<Report> {
    let incarnation = checkpoints::incarnations(bucket).await?.last().map(|incarnation| incarnation.0);
    let mut report = Report { bucket: bucket.url().to_owned(), incarnation, ..Report::default() };
    let mut inventory = Inventory::read(bucket).await?;
    report.foreign_objects = inventory.foreign;
    if !inventory.has_cluster {
        report.problems.push(Problem::new(keys::CLUSTER, "does not exist: the bucket holds no cluster"));
    }
    for shard in std::mem::take(&mut inventory.shards) {
        verify_shard(bucket, shard, options, &mut report).await?;
    }
    report.problems.sort();
    Ok(report)
}

/// Which shards there are.
#[derive(Debug, Default)]
struct Inventory {
    shards: BTreeSet<ShardId>,
    has_cluster: bool,
    foreign: u64,
}

impl Inventory {
    async fn read(bucket: &Bucket) -> Result<Self> {
        let mut inventory = Self::default();
        let mut listing = bucket.list("");
        while let Some(object) = listing.try_next().await? {
            match Key::parse(&object.key) {
                None => inventory.foreign += 1,
                // A place with backups holds checkpoints as a bucket does, and is of one cluster.
                Some(Key::Cluster | Key::BackupPlace) => inventory.has_cluster = true,
                Some(key) => inventory.shards.extend(key.shard()),
            }
        }
        Ok(inventory)
    }
}

async fn verify_shard(bucket: &Bucket, shard: ShardId, options: &Options, report: &mut Report) -> Result<()> {
    let mut found = ShardReport { shard: shard.0, ..ShardReport::default() };
    let mut named = BTreeSet::new();
    match newest(bucket, shard, options.patience, &mut report.problems).await? {
        None => {
            report.problems.push(Problem::new(keys::checkpoints_of(shard), "holds no checkpoint that can be loaded"))
        }
        Some(loaded) => {
            named = verify_checkpoint(bucket, &loaded, options, &mut found, &mut report.problems).await?;
        }
    }
    count_orphans(bucket, shard, &named, &mut found).await?;
    report.shards.push(found);
    Ok(())
}

/// The newest checkpoint that can be loaded. One that cannot is a problem, unless a flush under way makes it whole, or a
/// newer one appears, within `patience`.
async fn newest(
    bucket: &Bucket,
    shard: ShardId,
    patience: Duration,
    problems: &mut Vec<Problem>,
) -> Result<Option<LoadedCheckpoint>> {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        let listed = checkpoints::list(bucket, shard).await?;
        let Some(first) = listed.first() else { return Ok(None) };
        let whole = match checkpoints::load(bucket, shard, *first).await {
            Ok(loaded) if checkpoints::first_missing(bucket, &loaded.checkpoint).await?.is_none() => {
                return Ok(Some(loaded));
            }
            Ok(loaded) => Some(loaded),
            Err(error) if is_damage(&error) => None,
            Err(error) => return Err(error),
        };
        if tokio::time::Instant::now() < deadline {
            tokio::time::sleep(LOOK_AGAIN).await;
        } else if whole.is_some() {
            // What is missing is listed when it is read.
            return Ok(whole);
        } else {
            return newest_of(bucket, shard, &listed, problems).await;
        }
    }
}

/// The first of `listed` that can be loaded; those before it are problems.
async fn newest_of(
    bucket: &Bucket,
    shard: ShardId,
    listed: &[CheckpointRef],
    problems: &mut Vec<Problem>,
) -> Result<Option<LoadedCheckpoint>> {
    for reference in listed {
        let loaded = checkpoints::load(bucket, shard, *reference).await;
        if let Some(loaded) = noted(loaded, Key::Checkpoint(shard, *reference), problems)? {
            return Ok(Some(loaded));
        }
    }
    Ok(None)
}

/// Verifies all that a checkpoint names; gives the keys of that.
async fn verify_checkpoint(
    bucket: &Bucket,
    loaded: &LoadedCheckpoint,
    options: &Options,
    found: &mut ShardReport,
    problems: &mut Vec<Problem>,
) -> Result<BTreeSet<String>> {
    let (shard, checkpoint) = (loaded.checkpoint.shard, &loaded.checkpoint);
    let key = Key::Checkpoint(shard, loaded.reference).to_string();
    found.checkpoint = Some(key.clone());
    found.index = loaded.reference.index;
    found.clean = checkpoint.is_clean();
    found.index_parts = loaded.parts.len() as u64;
    found.partitions = checkpoint.partitions.len() as u64;
    found.records =
        checkpoint.partitions.iter().map(|partition| partition.flushed.saturating_sub(partition.log_start)).sum();

    let before = problems.len();
    let partitions = ranges::by_partition(loaded);
    for (id, partition) in &partitions {
        problems.extend(partition.problems().into_iter().map(|what| Problem::new(id, what)));
    }
    let by_object = ranges::by_object(&partitions);
    let segments = objects::segments(bucket, checkpoint, &by_object, options.parallel, problems).await?;
    (found.segments, found.segment_bytes) = segments;
    let files = objects::archive_files(bucket, checkpoint, &by_object, options.parallel, problems).await?;
    (found.archive_files, found.archive_bytes) = files;
    if problems.len() == before {
        let parts = loaded.parts.iter().map(|(_, _, part)| part.clone()).collect();
        if let Err(error) = State::restore(checkpoint.clone(), parts, loaded.ranges.clone()) {
            problems.push(Problem::new(&key, error));
        }
    }

    let segments = checkpoint.segments.iter().map(|segment| Key::Segment(shard, segment.info.id));
    let parts = checkpoint.parts.iter().map(|part| Key::IndexPart(shard, part.id));
    let files = checkpoint.archive_files.iter().filter_map(|file| checkpoints::archive_key(checkpoint, file));
    Ok(segments.chain(parts).chain(files).map(|key| key.to_string()).chain([key]).collect())
}

async fn count_orphans(
    bucket: &Bucket,
    shard: ShardId,
    named: &BTreeSet<String>,
    found: &mut ShardReport,
) -> Result<()> {
    for prefix in [keys::objects_of(shard), keys::ARCHIVE.to_owned()] {
        let mut listing = bucket.list(&prefix);
        while let Some(object) = listing.try_next().await? {
            let is_ours = Key::parse(&object.key).is_some_and(|key| key.shard() == Some(shard));
            if is_ours && !named.contains(&object.key) {
                found.orphans += 1;
                found.orphan_bytes += object.bytes;
            }
        }
    }
    Ok(())
}

/// The ranges that partitions have in objects, by object.
type ByObject = BTreeMap<ObjectId, Vec<ranges::Placed>>;
