//! Rebuilds a bucket whose checkpoints are lost: makes them of what segments and archive files say themselves.
//!
//! What only a checkpoint knows cannot be had again: which records were trimmed and which topics were deleted (they come back as far as
//! their objects are still there), producers and idempotency keys, topics that were never written to, the settings of topics
//! of which there are only archive files. So it is a proposal first, and written only by [`Proposal::write`].
//!
//! | step | what | after a crash here |
//! |---|---|---|
//! | 1 | the next incarnation: whatever still writes to the bucket stops (`rebuild.incarnation`) | a life without checkpoints; a rebuild begins another |
//! | 2 | of each shard index parts, then the checkpoint, shard 0 last (`rebuild.checkpoint`) | the same: no start takes them for clean, since not all shards have one of the newest life (one with `--restore` takes the mixture: a rebuild comes first); a rebuild begins another, since they are of several lives |
//! | 3 | `cluster.json`, if it is lost too | no node founds a cluster over it (`rebuild_needed`); a rebuild begins another, since without `cluster.json` no start could use the checkpoints |
//!
//! | module | what |
//! |---|---|
//! | `survey` | the footers |
//! | `chain` | which of the ranges that are stored of a partition are the partition |
//! | `make` | checkpoints of that |

mod chain;
mod make;
mod survey;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::Serialize;
use tracing::info;
use uuid::Uuid;

use self::make::{Given, Made};
use self::survey::Survey;
use super::pace::Progress;
use super::{Options, conflict};
use crate::checkpoints::{self, lives};
use crate::clock::Millis;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint;
use crate::format::checkpoint::{encode_checkpoint, encode_part};
use crate::model::{Incarnation, LogTime, ShardId};
use crate::store::Bucket;
use crate::store::keys::Key;

/// The life of the first checkpoints where nothing says which lives there were: above any that there may have been, since ids of
/// producers carry it.
const UNKNOWN_LIVES: u64 = 1_024;

/// What a rebuild would make, and what it cannot.
#[derive(Debug)]
pub struct Proposal {
    /// For people and programs.
    pub report: Report,
    made: Made,
    incarnation: Incarnation,
    now: Millis,
    has_cluster: bool,
}

/// What a rebuild makes of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The bucket.
    pub bucket: String,
    /// The life that begins with it.
    pub incarnation: u64,
    /// By shard.
    pub shards: Vec<ShardReport>,
    /// By name.
    pub topics: Vec<TopicReport>,
    /// Offsets that are stored and will not be readable: what lies before a gap, and what a later life has written anew.
    pub left_out: Vec<LeftOut>,
    /// Objects that could not be read.
    pub unreadable: Vec<Unreadable>,
}

/// A shard of a rebuilt bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShardReport {
    /// The shard.
    pub shard: u32,
    /// Key of the checkpoint.
    pub checkpoint: String,
    /// Segments in it.
    pub segments: u64,
    /// Archive files in it.
    pub archive_files: u64,
    /// Segments and archive files that are not in it: what they hold is in others, or left out.
    pub unused: u64,
    /// Partitions.
    pub partitions: u64,
}

/// A topic of a rebuilt bucket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct TopicReport {
    /// Its name.
    pub name: String,
    /// Its id.
    pub topic_id: String,
    /// Its partitions: all that have records, and as many as its settings say.
    pub partitions: u32,
    /// Readable records.
    pub records: u64,
    /// Another topic of this name was created later: this one counts as deleted.
    pub deleted: bool,
    /// Its settings are those that it had; otherwise they are the defaults.
    pub settings_known: bool,
}

/// Offsets of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// The partition.
    pub partition: String,
    /// The first offset.
    pub from: u64,
    /// The first one after it.
    pub to: u64,
}

/// An object that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// Its key.
    pub key: String,
    /// What is wrong with it.
    pub what: String,
}

/// Looks at what there is in `bucket` and proposes checkpoints. `now` is wall time; with `anyway` also if there are checkpoints.
///
/// # Errors
/// `checkpoints_usable` if a start with `--restore` would do (which needs `cluster.json`, and checkpoints of one life), `nothing_to_rebuild` if there is neither a segment nor an archive file,
/// `corrupt` if objects contradict each other; the bucket's.
pub async fn propose(
    bucket: &Bucket,
    anyway: bool,
    (options, now): (&Options, Millis),
    progress: &Progress,
) -> Result<Proposal> {
    // Refuses a place with backups, and a bucket that is being restored.
    let has_cluster = lives::cluster(bucket).await?.is_some();
    let survey = Survey::read(bucket, options.parallel, progress).await?;
    if survey.objects().is_empty() {
        let message = format!("{} has neither a segment nor an archive file that can be read", bucket.url());
        return Err(Error::new(ErrorKind::NotFound, "nothing_to_rebuild", message));
    }
    // Without `cluster.json` there is no such start.
    if !anyway && has_cluster && all_usable(bucket, &survey).await? {
        let message = format!(
            "every shard of {} has a usable checkpoint, which knows more than a rebuild can: start a node with --restore; \
             --ignore-checkpoints rebuilds all the same",
            bucket.url()
        );
        return Err(conflict("checkpoints_usable", message));
    }
    let incarnation = survey.newest.map_or(Incarnation(UNKNOWN_LIVES), |newest| Incarnation(newest.0 + 1));
    let restarts = restarts(bucket).await?;
    let mut random = rand::random::<u128>;
    let mut given = Given { incarnation, restarts: &restarts, random: &mut random };
    let made = make::make(&survey, &mut given)?;
    let report = report(bucket, &survey, &made, incarnation);
    Ok(Proposal { report, made, incarnation, now, has_cluster })
}

/// Whether a start from the bucket finds a checkpoint of each shard, all of one life: those of several may be what a rebuild that
/// broke off has left, and a mixture of such and older ones may have the same partition in two shards.
async fn all_usable(bucket: &Bucket, survey: &Survey) -> Result<bool> {
    let mut lives = BTreeSet::new();
    for shard in survey.shards.keys() {
        match newest_usable(bucket, *shard).await? {
            Some(life) => lives.insert(life),
            None => return Ok(false),
        };
    }
    Ok(lives.len() == 1)
}

/// The life of the newest usable checkpoint of a shard.
async fn newest_usable(bucket: &Bucket, shard: ShardId) -> Result<Option<Incarnation>> {
    for reference in checkpoints::list(bucket, shard).await? {
        match checkpoints::load(bucket, shard, reference).await {
            Ok(loaded) if checkpoints::first_missing(bucket, &loaded.checkpoint).await?.is_none() => {
                return Ok(Some(reference.incarnation));
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// When lives began that gave up what came after their checkpoint. Of a life whose object cannot be read nothing is known.
async fn restarts(bucket: &Bucket) -> Result<Vec<LogTime>> {
    let mut restarts = Vec::new();
    for incarnation in checkpoints::incarnations(bucket).await? {
        match lives::incarnation(bucket, incarnation).await {
            Ok(Some(file)) if file.restored => restarts.push(file.started_ms),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Corrupt => {}
            Err(error) => return Err(error),
        }
    }
    restarts.sort_unstable();
    Ok(restarts)
}

fn report(bucket: &Bucket, survey: &Survey, made: &Made, incarnation: Incarnation) -> Report {
    let shard = |made: &make::MadeShard| {
        let checkpoint = &made.checkpoint;
        let found = survey.shards.get(&checkpoint.shard);
        let found = found.map_or(0, |objects| objects.segments.len() + objects.files.len());
        let (segments, files) = (checkpoint.segments.len(), checkpoint.archive_files.len());
        ShardReport {
            shard: checkpoint.shard.0,
            checkpoint: Key::Checkpoint(checkpoint.shard, checkpoint.self_ref).to_string(),
            segments: segments as u64,
            archive_files: files as u64,
            unused: (found - segments - files) as u64,
            partitions: checkpoint.partitions.len() as u64,
        }
    };
    let topic = |made: &make::MadeTopic| TopicReport {
        name: made.topic.name.clone(),
        topic_id: made.topic.id.to_string(),
        partitions: made.topic.settings.partitions,
        records: made.records,
        deleted: made.topic.deleted_at.is_some(),
        settings_known: made.settings_known,
    };
    let mut topics: Vec<TopicReport> = made.topics.iter().map(topic).collect();
    topics.sort();
    let left_out = made.left_out.iter();
    let left_out =
        left_out.map(|(partition, from, to)| LeftOut { partition: partition.to_string(), from: *from, to: *to });
    let unreadable = survey.unreadable.iter().map(|(key, what)| Unreadable { key: key.clone(), what: what.clone() });
    Report {
        bucket: bucket.url().to_owned(),
        incarnation: incarnation.0,
        shards: made.shards.iter().map(shard).collect(),
        topics,
        left_out: left_out.collect(),
        unreadable: unreadable.collect(),
    }
}

impl Proposal {
    /// Writes it. What is in the bucket stays.
    ///
    /// # Errors
    /// `cluster_started_elsewhere` if the life that this was to be was begun by somebody else meanwhile; the bucket's.
    pub async fn write(&self, bucket: &Bucket) -> Result<()> {
        // Nobody's: whoever starts begins the next one.
        let life = lives::IncarnationFile::new(self.incarnation, Uuid::new_v4(), self.now, true);
        if lives::create_incarnation(bucket, &life).await? == crate::store::Created::Exists {
            let message = format!("incarnation {} was begun by somebody else just now", self.incarnation);
            return Err(conflict("cluster_started_elsewhere", message));
        }
        failpoint::hit_async("rebuild.incarnation").await?;
        for shard in self.made.shards.iter().rev() {
            let checkpoint = &shard.checkpoint;
            for (part, named) in shard.parts.iter().zip(&checkpoint.parts) {
                let key = Key::IndexPart(checkpoint.shard, named.id).to_string();
                bucket.put(&key, vec![encode_part(part)?]).await?;
            }
            let key = Key::Checkpoint(checkpoint.shard, checkpoint.self_ref).to_string();
            bucket.put(&key, vec![encode_checkpoint(checkpoint)?]).await?;
            failpoint::hit_async("rebuild.checkpoint").await?;
        }
        if !self.has_cluster {
            let cluster = lives::ClusterFile::new(Uuid::new_v4().to_string(), self.now);
            lives::create_cluster(bucket, &cluster).await?;
        }
        info!(bucket = bucket.url(), incarnation = self.incarnation.0, "the checkpoints were rebuilt");
        Ok(())
    }
}
