//! Verifying a bucket: everything that the newest checkpoint of each shard names is read and checked, byte by byte.
//!
//! Checkpoint, index parts, segments (blocks, frames, batches, footers) and archive files (footers, row groups) against
//! their checksums and against each other; the offset ranges of every partition for gaps and overlaps. It only reads,
//! needs no node and may run beside one: a checkpoint that names something missing is looked at again for a while, since a
//! flush puts it beside its segments. What is wrong is listed; only a bucket that does not answer is an error.

mod meter;
mod objects;
mod ranges;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use serde::Serialize;

use self::meter::Meter;
pub use self::meter::{Progress, Watch};
use self::objects::Reading;
use crate::checkpoints::{self, LoadedCheckpoint, lives};
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
    /// Objects read at once; each holds a few MiB, and keeps a core busy if the bucket is fast enough.
    pub parallel: usize,
    /// Bytes of segments and archive files read in a second at most, on average; `None`: as fast as they come.
    pub rate: Option<u64>,
    /// How long a flush under way may leave the newest checkpoint without one of its objects.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { parallel: 4, rate: None, patience: Duration::from_secs(10) }
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
    /// Bytes of segments and archive files that were read.
    pub bytes_read: u64,
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

/// Verifies the bucket and tells `watch` how far it is. Dropped, it stops.
///
/// # Errors
/// If the bucket does not answer, or was written by a newer program.
pub async fn verify(bucket: &Bucket, options: &Options, watch: Watch) -> Result<Report> {
    let incarnation = checkpoints::incarnations(bucket).await?.last().map(|incarnation| incarnation.0);
    let mut report = Report { bucket: bucket.url().to_owned(), incarnation, ..Report::default() };
    let inventory = Inventory::read(bucket).await?;
    report.foreign_objects = inventory.foreign;
    if !inventory.has_cluster {
        report.problems.push(Problem::new(keys::CLUSTER, "does not exist: the bucket holds no cluster"));
    }
    noted(lives::founded(bucket).await, keys::CLUSTER, &mut report.problems)?;
    let meter = Arc::new(Meter::new(options.rate, watch));
    let reading = Reading { bucket: bucket.clone(), meter: Arc::clone(&meter), parallel: options.parallel };
    let mut named = HashMap::new();
    for shard in inventory.shards {
        let of_shard = verify_shard(&reading, shard, options.patience, &mut report).await?;
        named.insert(shard, of_shard);
    }
    count_orphans(bucket, &named, &mut report).await?;
    report.bytes_read = meter.bytes_read();
    report.problems.sort();
    Ok(report)
}

/// Ids of the objects that the verified checkpoint of a shard names; no two objects share one.
type Named = HashSet<ObjectId>;

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

async fn verify_shard(reading: &Reading, shard: ShardId, patience: Duration, report: &mut Report) -> Result<Named> {
    let mut found = ShardReport { shard: shard.0, ..ShardReport::default() };
    let mut named = Named::new();
    match newest(&reading.bucket, shard, patience, &mut report.problems).await? {
        None => {
            report.problems.push(Problem::new(keys::checkpoints_of(shard), "holds no checkpoint that can be loaded"))
        }
        Some(loaded) => {
            named = verify_checkpoint(reading, &loaded, &mut found, &mut report.problems).await?;
        }
    }
    report.shards.push(found);
    Ok(named)
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

/// Verifies all that a checkpoint names; gives the ids of that.
async fn verify_checkpoint(
    reading: &Reading,
    loaded: &LoadedCheckpoint,
    found: &mut ShardReport,
    problems: &mut Vec<Problem>,
) -> Result<Named> {
    let (shard, checkpoint) = (loaded.checkpoint.shard, &loaded.checkpoint);
    let key = Key::Checkpoint(shard, loaded.reference).to_string();
    found.checkpoint = Some(key.clone());
    found.index = loaded.reference.index;
    found.clean = checkpoint.is_clean();
    found.index_parts = loaded.parts.len() as u64;
    found.partitions = checkpoint.partitions.len() as u64;
    found.records =
        checkpoint.partitions.iter().map(|partition| partition.flushed.saturating_sub(partition.log_start)).sum();
    let segments = checkpoint.segments.iter().map(|segment| segment.info.bytes);
    let bytes = segments.chain(checkpoint.archive_files.iter().map(|file| file.bytes)).sum();
    let objects = checkpoint.segments.len() + checkpoint.archive_files.len();
    reading.meter.expect(objects as u64, bytes);

    let before = problems.len();
    let partitions = ranges::by_partition(loaded);
    for (id, partition) in &partitions {
        problems.extend(partition.problems().into_iter().map(|what| Problem::new(id, what)));
    }
    let mut by_object = ranges::by_object(&partitions);
    let segments = objects::segments(reading, checkpoint, &mut by_object, problems).await?;
    (found.segments, found.segment_bytes) = segments;
    let files = objects::archive_files(reading, checkpoint, &mut by_object, problems).await?;
    (found.archive_files, found.archive_bytes) = files;
    if problems.len() == before {
        let parts = loaded.parts.iter().map(|(_, _, part)| part.clone()).collect();
        if let Err(error) = State::restore(checkpoint.clone(), parts, loaded.ranges.clone()) {
            problems.push(Problem::new(&key, error));
        }
    }

    let segments = checkpoint.segments.iter().map(|segment| segment.info.id);
    let parts = checkpoint.parts.iter().map(|part| part.id);
    let files = checkpoint.archive_files.iter().map(|file| file.id);
    Ok(segments.chain(parts).chain(files).chain([loaded.reference.id]).collect())
}

/// Counts what the checkpoints do not name: one listing for all shards.
async fn count_orphans(bucket: &Bucket, named: &HashMap<ShardId, Named>, report: &mut Report) -> Result<()> {
    let mut orphans: HashMap<u32, (u64, u64)> = HashMap::new();
    for prefix in [keys::SHARDS, keys::ARCHIVE] {
        let mut listing = bucket.list(prefix);
        while let Some(object) = listing.try_next().await? {
            let key = Key::parse(&object.key);
            let Some((shard, id)) = key.and_then(|key| Some((key.shard()?, key.object_id()?))) else { continue };
            if named.get(&shard).is_some_and(|named| !named.contains(&id)) {
                let (count, bytes) = orphans.entry(shard.0).or_default();
                *count += 1;
                *bytes += object.bytes;
            }
        }
    }
    for shard in &mut report.shards {
        (shard.orphans, shard.orphan_bytes) = orphans.get(&shard.shard).copied().unwrap_or_default();
    }
    Ok(())
}

/// The ranges that partitions have in objects, by object.
type ByObject = BTreeMap<ObjectId, Vec<ranges::Placed>>;
