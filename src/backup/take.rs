//! Takes a backup: a checkpoint of every shard, and all that they name.
//!
//! | step | what | after a crash here |
//! |---|---|---|
//! | 1 | `backup.json`, if it is the first backup | a place for backups without any |
//! | 2 | of each shard the newest checkpoint: segments and archive files that are not there yet, index parts, then the checkpoint | objects that the next backup finds |
//! | 3 | `backups/{ulid}.json` (`backup.manifest`) | a backup |
//!
//! The cluster goes on meanwhile, and its garbage collection too. What a checkpoint names and is gone was replaced since, so there is a
//! newer checkpoint, which is taken instead; a newest one whose objects do not come is of a flush that broke off, and the one
//! before it is taken. Shard 0 comes last: what it knows of topics is then at least as new as what the others hold, which is how a
//! start from the bucket loses the least (docs/decisions/0017-a-catalog-over-several-shards.md).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use serde::Serialize;
use tokio::time::Instant;
use tracing::{info, warn};

use super::copy::{Copier, Failure};
use super::inventory::Inventory;
use super::manifest::{self, Manifest, Place};
use super::pace::{Progress, Rate};
use super::{Options, Volume, conflict};
use crate::checkpoints::{self, lives};
use crate::clock::Millis;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint;
use crate::model::{CATALOG_SHARD, Checkpoint, CheckpointRef, ObjectId, ShardId};
use crate::store::Bucket;
use crate::store::keys::Key;

/// Pause between two looks at a checkpoint whose objects are not all there.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(if cfg!(test) { 5 } else { 1_000 });
/// How often checkpoints are looked for anew while nothing was copied in between, and at all.
const MAX_IDLE_TRIES: u32 = 30;
const MAX_TRIES: u32 = 1_000;

/// A backup that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Taken {
    /// Its name.
    pub backup: String,
    /// The bucket.
    pub bucket: String,
    /// Where the backup is.
    pub to: String,
    /// The cluster.
    pub cluster_id: String,
    /// By shard.
    pub shards: Vec<TakenShard>,
    /// All that the backup consists of.
    pub total: Volume,
    /// What of it was not there before.
    pub copied: Volume,
    /// How often checkpoints were looked for anew because something was not there (any more).
    pub refreshed: u32,
    /// Newer checkpoints that are not whole, and why: the backup is older than they are.
    pub passed_over: Vec<String>,
}

/// What was taken of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TakenShard {
    /// The shard.
    pub shard: u32,
    /// Key of the checkpoint.
    pub checkpoint: String,
    /// Its log time.
    pub log_time_ms: u64,
    /// Partitions.
    pub partitions: u64,
    /// Readable records: flushed offset less log start, over all partitions.
    pub records: u64,
    /// The checkpoint and all that it names.
    pub total: Volume,
    #[serde(skip)]
    reference: CheckpointRef,
    #[serde(skip)]
    shards: u32,
}

/// Copies the newest state of the cluster on `from` to `to`, which is empty or has backups of it. `now` is wall time.
///
/// # Errors
/// `no_cluster` if there is none on `from` or it has not flushed yet, `not_a_backup_place` if `to` holds something else,
/// `cluster_mismatch` if it holds backups of another cluster, `corrupt` for what fails a checksum; the buckets'.
pub async fn take(from: &Bucket, to: &Bucket, options: &Options, now: Millis, progress: &Progress) -> Result<Taken> {
    let cluster = lives::cluster(from).await?;
    let cluster = cluster.ok_or_else(|| no_cluster(from, "there is no cluster on it"))?;
    let incarnation = checkpoints::incarnations(from).await?.last().copied();
    let incarnation = incarnation.ok_or_else(|| no_cluster(from, "its cluster has not begun yet"))?;
    let id = ObjectId::from_parts(now, rand::random());
    prepare(to, &Place::new(id, cluster.cluster_id.clone(), now)).await?;

    let rate = Rate::new(options.bytes_per_second);
    let copier = Copier { from, to, rate: &rate, progress };
    let mut taking =
        Taking { copier, options, inventory: Inventory::read(to).await?, refreshed: 0, passed_over: Vec::new() };
    let shards = taking.shards().await?;
    failpoint::hit_async("backup.manifest").await?;
    let references: Vec<CheckpointRef> = shards.iter().map(|shard| shard.reference).collect();
    let of = (cluster.cluster_id.clone(), cluster.created_ms);
    let manifest = Manifest::new(id, of, incarnation, now, &references);
    manifest::create(to, &Key::Backup(id), &manifest).await?;
    info!(backup = %id, to = to.url(), "a backup was taken");
    Ok(Taken {
        backup: id.to_string(),
        bucket: from.url().to_owned(),
        to: to.url().to_owned(),
        cluster_id: cluster.cluster_id,
        total: Volume::sum(shards.iter().map(|shard| shard.total)),
        shards,
        copied: progress.copied(),
        refreshed: taking.refreshed,
        passed_over: taking.passed_over,
    })
}

fn no_cluster(bucket: &Bucket, what: &str) -> Error {
    Error::new(ErrorKind::NotFound, "no_cluster", format!("{} cannot be backed up: {what}", bucket.url()))
}

/// Makes `to` a place for backups of the cluster, if it is not one.
async fn prepare(to: &Bucket, place: &Place) -> Result<()> {
    if manifest::place(to).await?.is_none() {
        if let Some(other) = to.list("").next().await {
            let message = format!("{} is neither empty nor a place for backups: it has {}", to.url(), other?.key);
            return Err(conflict("not_a_backup_place", message));
        }
        manifest::create_place(to, place).await?;
    }
    // Somebody else may have been faster.
    let there = manifest::place(to).await?.map(|place| place.cluster_id).unwrap_or_default();
    if there == place.cluster_id {
        return Ok(());
    }
    let message = format!("{} holds backups of cluster {there}, and this is cluster {}", to.url(), place.cluster_id);
    Err(conflict("cluster_mismatch", message))
}

struct Taking<'a> {
    copier: Copier<'a>,
    options: &'a Options,
    inventory: Inventory,
    refreshed: u32,
    passed_over: Vec<String>,
}

/// An object of a checkpoint and the bytes that it has.
#[derive(Clone)]
enum Named {
    Segment(Key, crate::model::SegmentInfo),
    Archive(Key, crate::model::ArchiveFile),
}

impl Named {
    const fn key(&self) -> &Key {
        match self {
            Self::Segment(key, _) | Self::Archive(key, _) => key,
        }
    }

    const fn bytes(&self) -> u64 {
        match self {
            Self::Segment(_, info) => info.bytes,
            Self::Archive(_, file) => file.bytes,
        }
    }
}

impl Taking<'_> {
    /// Copies all shards; shard 0 last.
    async fn shards(&mut self) -> Result<Vec<TakenShard>> {
        let mut others: Vec<TakenShard> = Vec::new();
        let mut count = shard_count(self.copier.from).await?;
        loop {
            while others.len() + 1 < count as usize {
                let shard = ShardId(others.len() as u32 + 1);
                others.push(self.shard(shard).await?);
            }
            let zero = self.shard(CATALOG_SHARD).await?;
            // Shards may have been added meanwhile; there are few.
            count = zero.shards;
            if others.len() + 1 >= count as usize {
                others.insert(0, zero);
                return Ok(others);
            }
        }
    }

    /// Copies a checkpoint of `shard` and all that it names.
    async fn shard(&mut self, shard: ShardId) -> Result<TakenShard> {
        let mut passed_over = BTreeSet::new();
        let mut waiting: Option<(CheckpointRef, Instant)> = None;
        let (mut tries, mut idle, mut copied) = (0, 0, self.copier.progress.copied());
        loop {
            let listed = checkpoints::list(self.copier.from, shard).await?;
            let newest = listed.into_iter().find(|reference| !passed_over.contains(reference));
            let Some(newest) = newest else {
                let what = format!("shard {shard} has no usable checkpoint; a new one has its first within a minute");
                return Err(no_cluster(self.copier.from, &what));
            };
            let lacking = match self.checkpoint(shard, newest).await {
                Ok(taken) => return Ok(taken),
                Err(Failure::Gone(key)) => key,
                Err(Failure::Error(error)) => return Err(error),
            };
            self.refreshed += 1;
            tries += 1;
            idle = if self.copier.progress.copied() == copied { idle + 1 } else { 0 };
            copied = self.copier.progress.copied();
            if tries > MAX_TRIES || idle > MAX_IDLE_TRIES {
                let message = format!("shard {shard} cannot be backed up: {lacking}, and no newer checkpoint is whole");
                return Err(Error::unavailable(message));
            }
            match waiting {
                Some((reference, since)) if reference == newest => {
                    if since.elapsed() >= self.options.patience {
                        warn!(%shard, index = newest.index, lacking, "a checkpoint is not whole: the one before it is taken");
                        self.passed_over.push(format!("{}: {lacking}", Key::Checkpoint(shard, newest)));
                        passed_over.insert(newest);
                    }
                }
                _ => waiting = Some((newest, Instant::now())),
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn checkpoint(&mut self, shard: ShardId, reference: CheckpointRef) -> Result<TakenShard, Failure> {
        let from = self.copier.from;
        let (checkpoint, bytes) = gone(checkpoints::load_alone(from, shard, reference).await)?;
        let named = named_by(&checkpoint);
        let mut total = Volume::default();
        for object in &named {
            total.add(object.bytes());
            self.copier.progress.expect(object.bytes());
        }
        self.objects(named).await?;
        let parts: Vec<ObjectId> = checkpoint.parts.iter().map(|part| part.id).collect();
        for (id, bytes) in gone(checkpoints::load_parts(from, shard, parts).await)? {
            total.add(bytes.len() as u64);
            self.whole(&Key::IndexPart(shard, id), bytes).await?;
        }
        total.add(bytes.len() as u64);
        failpoint::hit_async("backup.checkpoint").await?;
        let key = Key::Checkpoint(shard, reference);
        self.whole(&key, bytes).await?;
        let records =
            |record: &crate::model::checkpoint::PartitionRecord| record.flushed.saturating_sub(record.log_start);
        Ok(TakenShard {
            shard: shard.0,
            checkpoint: key.to_string(),
            log_time_ms: checkpoint.log_time,
            partitions: checkpoint.partitions.len() as u64,
            records: checkpoint.partitions.iter().map(records).sum(),
            total,
            reference,
            shards: count_in(&checkpoint),
        })
    }

    /// Copies those of `named` that are not there, the oldest first: they are the next to be replaced.
    async fn objects(&mut self, named: Vec<Named>) -> Result<(), Failure> {
        let stop = AtomicBool::new(false);
        let (copier, inventory) = (&self.copier, &self.inventory);
        let (there, lacking): (Vec<_>, Vec<_>) =
            named.into_iter().partition(|object| inventory.has(object.key(), object.bytes()));
        there.iter().for_each(|object| copier.progress.found(object.bytes()));
        let copies = lacking.into_iter().map(|object| {
            let stop = &stop;
            async move {
                // What is on its way when another fails is brought to its end; nothing else is begun.
                if stop.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                let copied = copy(copier, &object).await;
                stop.fetch_or(copied.is_err(), Ordering::Relaxed);
                copied.map(|()| Some(object))
            }
        });
        let mut copies = std::pin::pin!(futures::stream::iter(copies).buffer_unordered(self.options.parallel.max(1)));
        let (mut copied, mut failed) = (Vec::new(), None);
        while let Some(result) = copies.next().await {
            match result {
                Ok(object) => copied.extend(object),
                Err(failure) => failed = failed.or(Some(failure)),
            }
        }
        copied.iter().for_each(|object| self.inventory.note(object.key(), object.bytes()));
        failed.map_or(Ok(()), Err)
    }

    /// Writes an object whose bytes are known, if it is not there.
    async fn whole(&mut self, key: &Key, bytes: Bytes) -> Result<()> {
        let len = bytes.len() as u64;
        self.copier.progress.expect(len);
        if self.inventory.has(key, len) {
            self.copier.progress.found(len);
            return Ok(());
        }
        self.copier.whole(key, bytes).await?;
        self.copier.progress.copy(len);
        self.inventory.note(key, len);
        Ok(())
    }
}

async fn copy(copier: &Copier<'_>, object: &Named) -> Result<(), Failure> {
    match object {
        Named::Segment(key, info) => {
            let (_, footer) = copier.segment_footer(key, info).await?;
            copier.segment(key, key, info, footer).await?;
        }
        Named::Archive(key, file) => {
            let (reader, footer) = copier.archive_footer(key, file).await?;
            copier.archive(key, key, &reader, footer).await?;
        }
    }
    copier.progress.copy(object.bytes());
    Ok(failpoint::hit_async("backup.object").await?)
}

/// Segments and archive files by age.
fn named_by(checkpoint: &Checkpoint) -> Vec<Named> {
    let shard = checkpoint.shard;
    let segments =
        checkpoint.segments.iter().map(|segment| Named::Segment(Key::Segment(shard, segment.info.id), segment.info));
    // A file of a topic that the checkpoint does not know is in none that `apply` ever made.
    let files = checkpoint
        .archive_files
        .iter()
        .filter_map(|file| checkpoints::archive_key(checkpoint, file).map(|key| Named::Archive(key, file.clone())));
    let mut named: Vec<Named> = segments.chain(files).collect();
    named.sort_by_key(|object| object.key().object_id());
    named
}

/// How many shards the newest checkpoint of the catalog that can be read counts.
async fn shard_count(bucket: &Bucket) -> Result<u32> {
    for reference in checkpoints::list(bucket, CATALOG_SHARD).await? {
        match gone(checkpoints::load_alone(bucket, CATALOG_SHARD, reference).await) {
            Ok((checkpoint, _)) => return Ok(count_in(&checkpoint)),
            Err(Failure::Gone(_)) => {}
            Err(Failure::Error(error)) => return Err(error),
        }
    }
    Err(no_cluster(bucket, "its first shard has no usable checkpoint; a new cluster has its first within a minute"))
}

fn count_in(zero: &Checkpoint) -> u32 {
    (zero.founders.len() as u32).max(1)
}

/// A checkpoint or part that cannot be read is as good as one that is not there.
fn gone<T>(loaded: Result<T>) -> Result<T, Failure> {
    loaded.map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::Corrupt => Failure::Gone(error.to_string()),
        _ => Failure::Error(error),
    })
}
