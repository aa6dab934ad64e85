//! Which checkpoints are kept, and which objects are garbage. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::checkpoint::NamedObject;
use crate::model::{Checkpoint, CheckpointRef, LogTime, ObjectId, ShardId};
use crate::planted::{self, Bug};
use crate::store::keys::{Key, day_of};

/// The newest checkpoints that are kept whatever their age.
const KEPT_NEWEST: usize = 3;
/// Days before today of each of which the last checkpoint is kept.
const KEPT_DAYS: u32 = 7;

/// When it is, and for whom to plan.
#[derive(Debug, Clone, Copy)]
pub struct Horizon {
    /// Log time now.
    pub now: LogTime,
    /// `gc.grace`
    pub grace: Duration,
}

impl Horizon {
    /// The beginning of the grace period.
    #[must_use]
    pub fn start(&self) -> LogTime {
        self.now.saturating_sub(u64::try_from(self.grace.as_millis()).unwrap_or(u64::MAX))
    }

    /// No object at or above this is ever garbage.
    #[must_use]
    pub fn floor(&self) -> ObjectId {
        ObjectId::floor(self.start())
    }
}

/// The checkpoints of `listed` that are kept besides the current one:
/// - the newest three;
/// - the last of each of the seven days before today;
/// - the last from before the grace period and the first within it: what was live at its beginning is in one of them.
///
/// A checkpoint that no `Flushed` committed counts like any other: all that it names was written, and is kept with it.
#[must_use]
pub fn kept(listed: &[CheckpointRef], current: CheckpointRef, horizon: Horizon) -> BTreeSet<CheckpointRef> {
    // Those above the current one belong to a flush under way; they are young, and none of ours to judge.
    let mut listed: Vec<_> = listed.iter().copied().filter(|checkpoint| *checkpoint <= current).collect();
    listed.sort_unstable();
    let mut kept: BTreeSet<_> = listed.iter().rev().take(KEPT_NEWEST).copied().collect();
    kept.insert(current);

    let grace = listed.partition_point(|checkpoint| checkpoint.id.time() < horizon.start());
    kept.extend(grace.checked_sub(1).map(|before| listed[before]));
    kept.extend(listed.get(grace));

    let today = day_of(horizon.now);
    for day in today.saturating_sub(KEPT_DAYS)..today {
        kept.extend(listed.iter().rev().find(|checkpoint| day_of(checkpoint.id.time()) == day));
    }
    kept
}

/// Everything that a checkpoint names, itself included.
pub fn named_by(checkpoint: &Checkpoint) -> impl Iterator<Item = NamedObject> + '_ {
    let segments = checkpoint.segments.iter().map(|segment| NamedObject::Segment(segment.info.id));
    let parts = checkpoint.parts.iter().map(|part| NamedObject::IndexPart(part.id));
    let files = checkpoint.archive_files.iter().map(|file| NamedObject::Archive(file.id));
    segments.chain(parts).chain(files).chain([NamedObject::Checkpoint(checkpoint.self_ref.id)])
}

/// Whether `key` is an object of `shard` that is below `floor` and not among `objects`. What is not ours, or of no shard, is not.
#[must_use]
pub fn is_garbage(key: &Key, shard: ShardId, floor: ObjectId, objects: &BTreeSet<NamedObject>) -> bool {
    let Some((owner, object)) = key.owned() else { return false };
    let is_named =
        objects.contains(&object) && !(planted::is(Bug::CollectNamed) && matches!(object, NamedObject::Segment(_)));
    owner == shard && object.id() < floor && !is_named
}

/// The kind of an object as metrics and reports name it.
#[must_use]
pub const fn kind(object: NamedObject) -> &'static str {
    match object {
        NamedObject::Segment(_) => "segment",
        NamedObject::Checkpoint(_) => "checkpoint",
        NamedObject::IndexPart(_) => "index",
        NamedObject::Archive(_) => "archive",
    }
}
