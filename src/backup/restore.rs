//! Restores a backup: makes a new bucket of it, of another cluster, from which a node then starts as after a clean stop.
//!
//! | step | what | after a crash here |
//! |---|---|---|
//! | 1 | `restore.json`: the new cluster's id, its topics' ids, all else that was decided (`restore.planned`) | a bucket that no node starts from; the same restore goes on |
//! | 2 | of each shard segments, archive files and index parts, then the checkpoint | the same |
//! | 3 | the incarnation (`restore.incarnation`) | the same |
//! | 4 | `cluster.json` | a cluster's bucket |
//!
//! Whatever is written follows from the backup and `restore.json`, so it may be written twice, and by two at once. Records are not
//! touched: blocks and row groups are copied byte for byte, and only the footers that name topics are encoded anew.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::StreamExt;
use serde::Serialize;
use tracing::info;
use uuid::Uuid;

use super::copy::{Copier, Failure};
use super::inventory::Inventory;
use super::manifest::{self, Manifest, Plan};
use super::pace::{Progress, Rate};
use super::rename::{Renaming, fresh_ids, later_life};
use super::{Options, Volume, conflict};
use crate::checkpoints::lives::{self, ClusterFile, IncarnationFile};
use crate::checkpoints::{self, LoadedCheckpoint};
use crate::clock::Millis;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint;
use crate::format::archive;
use crate::format::checkpoint::encode_checkpoint;
use crate::model::{ArchiveFile, Incarnation, ObjectId, SegmentInfo, ShardId, TopicId};
use crate::store::keys::{ArchiveKey, Key};
use crate::store::{Bucket, Created};

/// A restore that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// The backup.
    pub backup: String,
    /// When it was taken.
    pub backup_ms: Millis,
    /// The bucket that was made.
    pub bucket: String,
    /// The cluster of the backup.
    pub from_cluster: String,
    /// The new cluster.
    pub cluster_id: String,
    /// The new topics by name: those that are not deleted.
    pub topics: Vec<RestoredTopic>,
    /// Readable records.
    pub records: u64,
    /// All of it.
    pub total: Volume,
    /// What of it was not there yet.
    pub copied: Volume,
    /// It had been done already.
    pub was_done: bool,
}

/// A topic of a restored bucket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct RestoredTopic {
    /// Its name.
    pub name: String,
    /// Its id in the old cluster.
    pub old_id: String,
    /// Its id now.
    pub id: String,
}

/// Makes a bucket of the backup `backup` at `from`, the newest if none is named. `to` is empty, or has what an earlier call of the
/// same restore left there. `now` is wall time.
///
/// # Errors
/// `not_a_backup_place`, `backup_not_found`, `bucket_not_empty`, `restore_of_another_backup`, `corrupt`; the buckets'.
pub async fn restore(
    from: &Bucket,
    to: &Bucket,
    backup: Option<ObjectId>,
    (options, now): (&Options, Millis),
    progress: &Progress,
) -> Result<Restored> {
    let manifest = choose(from, to, backup).await?;
    let mut shards = Vec::new();
    for (shard, reference) in manifest.checkpoints()? {
        shards.push(checkpoints::load(from, shard, reference).await?);
    }
    let rate = Rate::new(options.bytes_per_second);
    let copier = Copier { from, to, rate: &rate, progress };
    let plan = plan(&copier, &manifest, &shards, now, options.parallel).await?;
    let was_done = match lives::founded(to).await? {
        Some(cluster) if cluster.cluster_id != plan.cluster_id => return Err(begun_meanwhile(to)),
        founded => founded.is_some(),
    };
    let mut restored = Restored {
        backup: manifest.id().to_string(),
        backup_ms: manifest.started_ms,
        bucket: to.url().to_owned(),
        from_cluster: manifest.cluster_id.clone(),
        cluster_id: plan.cluster_id.clone(),
        topics: topics(&plan, &shards),
        records: shards.iter().map(records).sum(),
        total: Volume::default(),
        copied: Volume::default(),
        was_done,
    };
    if was_done {
        return Ok(restored);
    }
    failpoint::hit_async("restore.planned").await?;
    let renaming = Renaming { topics: &plan.topics, incarnation: Incarnation(plan.incarnation) };
    let inventory = Inventory::read(to).await?;
    let restoring = Restoring { copier, renaming, inventory, parallel: options.parallel };
    for loaded in &shards {
        restoring.shard(loaded).await?;
    }
    begin_cluster(to, &plan).await?;
    (restored.total, restored.copied) = (progress.done(), progress.copied());
    info!(cluster = plan.cluster_id, bucket = to.url(), "a backup was restored");
    Ok(restored)
}

/// The backup to restore: the one that is named, the one whose restore into `to` was begun, or else the newest.
async fn choose(from: &Bucket, to: &Bucket, backup: Option<ObjectId>) -> Result<Manifest> {
    if manifest::place(from).await?.is_none() {
        let message = format!("{} does not hold backups: `tidelog backup` makes them", from.url());
        return Err(conflict("not_a_backup_place", message));
    }
    let begun = manifest::plan(to).await?.map(|plan| plan.backup());
    let chosen = match backup.or(begun) {
        Some(id) => id,
        None => manifest::list(from).await?.last().copied().ok_or_else(|| {
            let message = format!("no backup at {} was finished", from.url());
            Error::new(ErrorKind::NotFound, "backup_not_found", message)
        })?,
    };
    if let Some(begun) = begun.filter(|begun| *begun != chosen) {
        let message = format!(
            "{} is being or was made of backup {begun}: go on with `--backup {begun}`, or take an empty bucket",
            to.url()
        );
        return Err(conflict("restore_of_another_backup", message));
    }
    manifest::manifest(from, chosen).await
}

/// What was decided, by this call or by an earlier one of the same restore.
async fn plan(
    copier: &Copier<'_>,
    manifest: &Manifest,
    shards: &[LoadedCheckpoint],
    now: Millis,
    parallel: usize,
) -> Result<Plan> {
    let to = copier.to;
    if let Some(plan) = manifest::plan(to).await? {
        return same(plan, manifest, to);
    }
    if let Some(other) = to.list("").next().await {
        let message = format!(
            "{} is not empty, it has {}: a restore makes a new bucket, take an empty one",
            to.url(),
            other?.key
        );
        return Err(conflict("bucket_not_empty", message));
    }
    let mut ids = BTreeSet::new();
    let mut newest = Incarnation(manifest.incarnation);
    for loaded in shards {
        newest = newest.max(loaded.reference.incarnation).max(loaded.checkpoint.incarnation);
        ids.extend(loaded.checkpoint.topics.iter().map(|record| record.topic.id));
        ids.extend(topics_of_segments(copier, loaded, parallel).await?);
    }
    let cluster_id = Uuid::new_v4().to_string();
    let plan = Plan::new(manifest, cluster_id, later_life(newest), now, fresh_ids(ids));
    match manifest::create(to, &Key::Restore, &plan).await? {
        Created::New => Ok(plan),
        // Another call of the same restore was faster, and has decided otherwise.
        Created::Exists => match manifest::plan(to).await? {
            Some(plan) => same(plan, manifest, to),
            None => Err(Error::unavailable(format!("{} of {} came and went", Key::Restore, to.url()))),
        },
    }
}

fn same(plan: Plan, manifest: &Manifest, to: &Bucket) -> Result<Plan> {
    if plan.backup() == manifest.id() && plan.from_cluster == manifest.cluster_id {
        return Ok(plan);
    }
    let message = format!("{} is being made of backup {} of cluster {}", to.url(), plan.backup(), plan.from_cluster);
    Err(conflict("restore_of_another_backup", message))
}

/// The topics in the segments of a shard, also those that were forgotten since.
async fn topics_of_segments(
    copier: &Copier<'_>,
    loaded: &LoadedCheckpoint,
    parallel: usize,
) -> Result<BTreeSet<TopicId>> {
    let shard = loaded.checkpoint.shard;
    let footers = loaded.checkpoint.segments.iter().map(|segment| async move {
        let (footer, _) = whole(copier.segment_footer(&Key::Segment(shard, segment.info.id), &segment.info).await)?;
        Ok::<Vec<TopicId>, Error>(footer.topics().iter().map(|topic| topic.id).collect())
    });
    let mut footers = std::pin::pin!(futures::stream::iter(footers).buffer_unordered(parallel.max(1)));
    let mut ids = BTreeSet::new();
    while let Some(topics) = footers.next().await {
        ids.extend(topics?);
    }
    Ok(ids)
}

/// The steps that make a cluster of what is there.
async fn begin_cluster(to: &Bucket, plan: &Plan) -> Result<()> {
    // No directory is of it: whoever starts begins the next one.
    let incarnation = IncarnationFile::new(Incarnation(plan.incarnation), Uuid::nil(), plan.started_ms, true);
    lives::create_incarnation(to, &incarnation).await?;
    failpoint::hit_async("restore.incarnation").await?;
    let cluster = ClusterFile::new(plan.cluster_id.clone(), plan.started_ms);
    match lives::create_cluster(to, &cluster).await? {
        Created::New => Ok(()),
        // By another call of the same restore.
        Created::Exists if lives::founded(to).await?.is_some_and(|there| there.cluster_id == plan.cluster_id) => Ok(()),
        Created::Exists => Err(begun_meanwhile(to)),
    }
}

fn begun_meanwhile(to: &Bucket) -> Error {
    let message = format!("a cluster was begun in {} while it was being restored: take an empty bucket", to.url());
    conflict("bucket_not_empty", message)
}

struct Restoring<'a> {
    copier: Copier<'a>,
    renaming: Renaming<'a>,
    inventory: Inventory,
    parallel: usize,
}

impl Restoring<'_> {
    async fn shard(&self, loaded: &LoadedCheckpoint) -> Result<()> {
        let (shard, old) = (loaded.checkpoint.shard, &loaded.checkpoint);
        self.expect(loaded);
        let segments = old.segments.iter().map(|segment| self.segment(shard, &segment.info));
        let mut segments = std::pin::pin!(futures::stream::iter(segments).buffer_unordered(self.parallel.max(1)));
        while let Some(copied) = segments.next().await {
            whole(copied)?;
        }
        let files = old.archive_files.iter().map(|file| self.archive_file(loaded, file));
        let mut copied = std::pin::pin!(futures::stream::iter(files).buffered(self.parallel.max(1)));
        let mut files = Vec::with_capacity(old.archive_files.len());
        while let Some(file) = copied.next().await {
            files.push(whole(file)?);
        }
        for (id, bytes, _) in &loaded.parts {
            self.whole(&Key::IndexPart(shard, *id), bytes.clone()).await?;
        }
        let new = self.renaming.checkpoint(loaded, files)?;
        let bytes = encode_checkpoint(&new)?;
        failpoint::hit_async("restore.checkpoint").await?;
        let key = Key::Checkpoint(shard, new.self_ref);
        // Always: one of the same length may be of another build, and it is what makes the rest count.
        self.copier.whole(&key, bytes.clone()).await?;
        self.copier.progress.expect(bytes.len() as u64);
        self.copier.progress.copy(bytes.len() as u64);
        Ok(())
    }

    fn expect(&self, loaded: &LoadedCheckpoint) {
        let progress = self.copier.progress;
        loaded.checkpoint.segments.iter().for_each(|segment| progress.expect(segment.info.bytes));
        loaded.checkpoint.archive_files.iter().for_each(|file| progress.expect(file.bytes));
        loaded.parts.iter().for_each(|(_, bytes, _)| progress.expect(bytes.len() as u64));
    }

    async fn segment(&self, shard: ShardId, info: &SegmentInfo) -> Result<(), Failure> {
        let key = Key::Segment(shard, info.id);
        if self.inventory.has(&key, info.bytes) {
            self.copier.progress.found(info.bytes);
            return Ok(());
        }
        let (footer, _) = self.copier.segment_footer(&key, info).await?;
        let renamed = footer.renamed(|topic| self.renaming.topic(topic))?;
        if renamed.len() as u64 != info.bytes - info.footer_start {
            return Err(Error::internal(format!("the footer of {key} has another length under other ids")).into());
        }
        self.copier.segment(&key, &key, info, renamed.into()).await?;
        self.copier.progress.copy(info.bytes);
        Ok(failpoint::hit_async("restore.object").await?)
    }

    async fn archive_file(&self, loaded: &LoadedCheckpoint, file: &ArchiveFile) -> Result<ArchiveFile, Failure> {
        let from = checkpoints::archive_key(&loaded.checkpoint, file);
        let Some(Key::Archive(from)) = from else {
            let what = format!("archive file {} of the backup is of a topic that does not exist", file.id);
            return Err(Error::corrupt(what).into());
        };
        let to = ArchiveKey { topic_id: self.renaming.topic(file.topic)?, ..from.clone() };
        let (from, to) = (Key::Archive(from), Key::Archive(to));
        let (reader, footer) = self.copier.archive_footer(&from, file).await?;
        let (new, footer) = archive::renamed(file, &footer, self.renaming.topic(file.topic)?)?;
        if self.inventory.has(&to, file.bytes) {
            self.copier.progress.found(file.bytes);
            return Ok(new);
        }
        self.copier.archive(&from, &to, &reader, footer).await?;
        self.copier.progress.copy(file.bytes);
        failpoint::hit_async("restore.object").await?;
        Ok(new)
    }

    async fn whole(&self, key: &Key, bytes: Bytes) -> Result<()> {
        let len = bytes.len() as u64;
        if self.inventory.has(key, len) {
            self.copier.progress.found(len);
            return Ok(());
        }
        self.copier.whole(key, bytes).await?;
        self.copier.progress.copy(len);
        Ok(())
    }
}

/// Nothing deletes what a backup names, so what is not there is damage.
fn whole<T>(result: Result<T, Failure>) -> Result<T> {
    result.map_err(|failure| match failure {
        Failure::Gone(key) => Error::corrupt(format!("the backup lacks {key}")),
        Failure::Error(error) => error,
    })
}

fn topics(plan: &Plan, shards: &[LoadedCheckpoint]) -> Vec<RestoredTopic> {
    let live = shards.iter().flat_map(|loaded| &loaded.checkpoint.topics);
    let live = live.filter(|record| record.topic.deleted_at.is_none() && !record.removed);
    let named = live.filter_map(|record| {
        let id = plan.topics.get(&record.topic.id)?;
        Some(RestoredTopic { name: record.topic.name.clone(), old_id: record.topic.id.to_string(), id: id.to_string() })
    });
    named.collect::<BTreeSet<_>>().into_iter().collect()
}

fn records(loaded: &LoadedCheckpoint) -> u64 {
    let each = |record: &crate::model::checkpoint::PartitionRecord| record.flushed.saturating_sub(record.log_start);
    loaded.checkpoint.partitions.iter().map(each).sum()
}
