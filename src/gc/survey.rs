//! What a run would delete, and what stays and why, told from the bucket alone: nothing is deleted and no node is asked.
//!
//! The decision is [`super::plan`]'s, made with the newest whole checkpoint of each shard in the place of the state, and with
//! the later of its log time and the time that the caller says. So it is as a leader that begins now would decide, but for
//! what the bucket does not tell: a node that is away keeps the checkpoint that it would start from, and what has changed
//! since the checkpoint, a minute at most while anything does, has not happened yet.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use futures::TryStreamExt;
use serde::Serialize;

use super::plan::{self, Horizon, kind};
use crate::checkpoints;
use crate::error::{Error, ErrorKind, Result};
use crate::model::checkpoint::NamedObject;
use crate::model::{Checkpoint, CheckpointRef, LogTime, ObjectId, ShardId, TopicId};
use crate::store::keys::{self, Key};
use crate::store::{Bucket, Listed};

/// Checkpoints that are not kept, the newest ones, of which it is read what they name: to tell what was replaced from what
/// was never named.
const TOLD: usize = 32;

/// What becomes of an object, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Goes: a checkpoint that is not one of those that are kept.
    Superseded,
    /// Goes: a checkpoint that is not kept any more names it; it was replaced or trimmed.
    Replaced,
    /// Goes: an archive file of a topic that is gone.
    TopicRemoved,
    /// Goes: no checkpoint that was read names it; a flush or a job broke off, or its checkpoints went before it.
    Orphan,
    /// Stays: the newest checkpoint names it, or is it.
    Live,
    /// Stays: not live, but a checkpoint that is kept names it, or is it.
    Kept,
    /// Stays: not named, but younger than the grace period.
    Young,
}

impl Fate {
    /// Whether the object would be deleted.
    #[must_use]
    pub const fn goes(self) -> bool {
        matches!(self, Self::Superseded | Self::Replaced | Self::TopicRemoved | Self::Orphan)
    }

    /// Why, for people.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Superseded => "superseded by newer checkpoints",
            Self::Replaced => "replaced or trimmed",
            Self::TopicRemoved => "its topic was removed",
            Self::Orphan => "named by no checkpoint",
            Self::Live => "live",
            Self::Kept => "kept with an older checkpoint",
            Self::Young => "within the grace period",
        }
    }
}

/// Objects of one kind and one fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Group {
    /// `segment`, `index`, `checkpoint` or `archive`.
    pub kind: &'static str,
    /// What becomes of them.
    pub fate: Fate,
    /// Whether they would be deleted.
    pub deleted: bool,
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What was found of one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Survey {
    /// The shard.
    pub shard: u32,
    /// Key of the checkpoint that stands for the state; without one nothing is judged and nothing would be deleted.
    pub checkpoint: Option<String>,
    /// Its log time, milliseconds since 1970.
    pub log_time_ms: u64,
    /// Objects younger than this stay whatever they are, milliseconds since 1970.
    pub floor_ms: u64,
    /// What there is, first what would be deleted.
    pub groups: Vec<Group>,
}

/// An object that was judged.
#[derive(Debug)]
pub struct Judged<'a> {
    /// Its key and its bytes.
    pub object: &'a Listed,
    /// What becomes of it.
    pub fate: Fate,
}

/// Surveys all shards that the bucket has and tells `each` object to its caller. `now` is wall time, `grace` is `gc.grace`.
///
/// # Errors
/// The bucket's, `bucket_is_backup`, or `corrupt` if a checkpoint that is kept cannot be read: a leader deletes nothing then
/// either.
pub async fn survey(
    bucket: &Bucket,
    now: LogTime,
    grace: Duration,
    mut each: impl FnMut(Judged<'_>),
) -> Result<Vec<Survey>> {
    if bucket.exists(&Key::BackupPlace.to_string()).await? {
        let message = format!("{} holds backups: no cluster collects garbage there", bucket.url());
        return Err(Error::new(ErrorKind::Conflict, "bucket_is_backup", message));
    }
    let mut shards = BTreeMap::new();
    let mut counts: BTreeMap<Pile, (u64, u64)> = BTreeMap::new();
    for prefix in [keys::SHARDS, keys::ARCHIVE] {
        let mut listing = bucket.list(prefix);
        while let Some(object) = listing.try_next().await? {
            let Some(key) = Key::parse(&object.key) else { continue };
            let Some((shard, named)) = key.owned() else { continue };
            let basis = match shards.entry(shard) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(Basis::read(bucket, shard, now, grace).await?),
            };
            let Some(basis) = basis else { continue };
            let fate = basis.judge(&key, named);
            let (objects, bytes) = counts.entry((shard, !fate.goes(), kind(named), fate)).or_default();
            *objects += 1;
            *bytes += object.bytes;
            each(Judged { object: &object, fate });
        }
    }
    let of_shard = |(shard, basis): (ShardId, Option<Basis>)| {
        let piles = counts.range((shard, false, "", Fate::Superseded)..).take_while(|((of, ..), _)| *of == shard);
        Survey {
            shard: shard.0,
            checkpoint: basis.as_ref().map(|basis| Key::Checkpoint(shard, basis.current).to_string()),
            log_time_ms: basis.as_ref().map_or(0, |basis| basis.log_time),
            floor_ms: basis.as_ref().map_or(0, |basis| basis.floor.time()),
            groups: piles.map(|(pile, (objects, bytes))| group(*pile, *objects, *bytes)).collect(),
        }
    };
    Ok(shards.into_iter().map(of_shard).collect())
}

/// Shard, whether it stays, kind and fate: in the order of a report.
type Pile = (ShardId, bool, &'static str, Fate);

const fn group((_, _, kind, fate): Pile, objects: u64, bytes: u64) -> Group {
    Group { kind, fate, deleted: fate.goes(), objects, bytes }
}

/// What the objects of a shard are held against.
struct Basis {
    shard: ShardId,
    current: CheckpointRef,
    log_time: LogTime,
    floor: ObjectId,
    topics: HashSet<TopicId>,
    live: BTreeSet<NamedObject>,
    kept: BTreeSet<NamedObject>,
    told: BTreeSet<NamedObject>,
}

impl Basis {
    /// `None` if the shard has no checkpoint that is whole.
    async fn read(bucket: &Bucket, shard: ShardId, now: LogTime, grace: Duration) -> Result<Option<Self>> {
        let listed = checkpoints::list(bucket, shard).await?;
        let Some(newest) = newest(bucket, shard, &listed).await? else { return Ok(None) };
        let current = newest.self_ref;
        let horizon = Horizon { now: newest.log_time.max(now), grace };
        let kept_refs = plan::kept(&listed, current, horizon);
        let mut basis = Self {
            shard,
            current,
            log_time: newest.log_time,
            floor: horizon.floor(),
            topics: newest.topics.iter().map(|record| record.topic.id).collect(),
            live: plan::named_by(&newest).collect(),
            kept: BTreeSet::new(),
            told: BTreeSet::new(),
        };
        for checkpoint in kept_refs.iter().filter(|checkpoint| **checkpoint != current) {
            let (read, _) = checkpoints::load_alone(bucket, shard, *checkpoint).await?;
            basis.kept.extend(plan::named_by(&read));
        }
        for checkpoint in listed.iter().filter(|checkpoint| !kept_refs.contains(checkpoint)).take(TOLD) {
            // It only tells reasons apart: one that is damaged, or goes meanwhile, tells nothing.
            match checkpoints::load_alone(bucket, shard, *checkpoint).await {
                Ok((read, _)) => basis.told.extend(plan::named_by(&read)),
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(basis))
    }

    /// What becomes of `object`, whose key is `key`.
    fn judge(&self, key: &Key, object: NamedObject) -> Fate {
        if self.live.contains(&object) {
            return Fate::Live;
        }
        if self.kept.contains(&object) {
            return Fate::Kept;
        }
        if !plan::is_garbage(key, self.shard, self.floor, &self.live) {
            return Fate::Young;
        }
        match key {
            Key::Checkpoint(_, checkpoint) if *checkpoint < self.current => Fate::Superseded,
            Key::Archive(key) if !self.topics.contains(&key.topic_id) => Fate::TopicRemoved,
            _ if self.told.contains(&object) => Fate::Replaced,
            _ => Fate::Orphan,
        }
    }
}

/// The first checkpoint from the newest one down that is whole.
async fn newest(bucket: &Bucket, shard: ShardId, listed: &[CheckpointRef]) -> Result<Option<Checkpoint>> {
    for reference in listed {
        match checkpoints::load_alone(bucket, shard, *reference).await {
            Ok((checkpoint, _)) => {
                if checkpoints::first_missing(bucket, &checkpoint).await?.is_none() {
                    return Ok(Some(checkpoint));
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
