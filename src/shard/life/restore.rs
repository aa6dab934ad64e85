//! The checkpoints with which a start from the bucket begins: the newest usable one of each shard. How many shards there are the
//! catalog says, which is in that of the first.

use tracing::warn;

use super::{Life, Peering, alone, files};
use crate::checkpoints::{self, LoadedCheckpoint};
use crate::error::{Error, ErrorKind, Result};
use crate::model::catalog::CATALOG_SHARD;
use crate::model::{CheckpointRef, Incarnation, ShardId};
use crate::planted::{self, Bug};
use crate::raft::{CheckpointFiles, NodeIdentity, Start, StartCheckpoint};
use crate::state::State;
use crate::store::Bucket;

/// No life comes after it.
pub(super) const AFTER_ALL: Incarnation = Incarnation(u64::MAX);

/// What a start from the bucket has to begin with.
pub(super) struct Restorable {
    zero: Option<LoadedCheckpoint>,
    others: Vec<(ShardId, Option<LoadedCheckpoint>)>,
}

impl Restorable {
    /// Looks through the checkpoints of lives before `before`; `zero` are those of the first shard.
    pub(super) async fn find(bucket: &Bucket, zero: &[CheckpointRef], before: Incarnation) -> Result<Self> {
        let zero = newest_usable(bucket, CATALOG_SHARD, zero).await?;
        let count = zero.as_ref().map_or(Ok(1), shard_count)?;
        let mut others = Vec::new();
        for shard in (1..count).map(ShardId) {
            let mut all = checkpoints::list(bucket, shard).await?;
            // What a start that broke off has begun is in its log.
            all.retain(|reference| reference.incarnation < before);
            others.push((shard, newest_usable(bucket, shard, &all).await?));
        }
        Ok(Self { zero, others })
    }

    /// A shard without a usable checkpoint would begin empty, and delete what is there of it.
    pub(super) async fn check_nothing_is_begun_over(&self, bucket: &Bucket, newest: Option<Incarnation>) -> Result<()> {
        match (&self.zero, newest) {
            (Some(_), _) => {}
            (None, None) => files::refuse_to_begin_first_over(bucket).await?,
            (None, Some(_)) => files::refuse_to_begin_empty_over(bucket, CATALOG_SHARD).await?,
        }
        for (shard, _) in self.others.iter().filter(|(_, loaded)| loaded.is_none()) {
            files::refuse_to_begin_empty_over(bucket, *shard).await?;
        }
        Ok(())
    }

    /// A start from the bucket loses nothing only if the newest life has ended with a clean checkpoint of every shard.
    pub(super) fn check_clean(&self, newest: Option<Incarnation>, restore: bool) -> Result<()> {
        check_clean(CATALOG_SHARD, newest, self.zero.as_ref(), restore)?;
        self.others.iter().try_for_each(|(shard, loaded)| check_clean(*shard, newest, loaded.as_ref(), restore))
    }

    /// The life that begins with it.
    pub(super) fn into_life(self, identity: NodeIdentity, peering: &impl Peering) -> Life {
        let begin =
            |loaded: Option<LoadedCheckpoint>| loaded.map_or_else(|| alone(&identity, peering), from_checkpoint);
        let start = begin(self.zero);
        let others = self.others.into_iter().map(|(shard, loaded)| (shard, begin(loaded))).collect();
        Life { identity, start, others }
    }
}

fn shard_count(zero: &LoadedCheckpoint) -> Result<u32> {
    let parts = zero.parts.iter().map(|(_, _, part)| part.clone()).collect();
    let state = State::restore(zero.checkpoint.clone(), parts, zero.ranges.clone());
    let strange = |error| Error::corrupt("the checkpoint of the catalog contradicts itself").with_source(error);
    Ok(state.map_err(strange)?.shard_count())
}

fn check_clean(
    shard: ShardId,
    newest: Option<Incarnation>,
    loaded: Option<&LoadedCheckpoint>,
    restore: bool,
) -> Result<()> {
    let clean =
        loaded.is_some_and(|loaded| loaded.checkpoint.is_clean() && Some(loaded.reference.incarnation) == newest);
    // Without any life nothing was ever written; if there is a checkpoint, which life was the newest is lost.
    let is_new = newest.is_none() && loaded.is_none();
    if clean || is_new || (loaded.is_some() && planted::is(Bug::StaleCleanCheckpoint)) {
        return Ok(());
    }
    let of = if shard == CATALOG_SHARD { String::new() } else { format!(" of shard {shard}") };
    let checkpoint = loaded.map_or_else(
        || format!("there is no checkpoint{of}"),
        |loaded| {
            let CheckpointRef { incarnation, index, .. } = loaded.reference;
            format!("the newest usable checkpoint{of} is of incarnation {incarnation} at log index {index}")
        },
    );
    if restore {
        warn!("{checkpoint}: records acknowledged after it are gone");
        return Ok(());
    }
    let message = format!(
        "the cluster on this bucket was not closed cleanly, and its write-ahead log is not here: {checkpoint}; start with \
         --restore to go on from there, records acknowledged after it would be gone"
    );
    Err(Error::new(ErrorKind::Conflict, "unclean_bucket", message))
}

/// The first of `all` whose objects all exist.
async fn newest_usable(bucket: &Bucket, shard: ShardId, all: &[CheckpointRef]) -> Result<Option<LoadedCheckpoint>> {
    for reference in all {
        let loaded = match checkpoints::load(bucket, shard, *reference).await {
            Ok(loaded) => loaded,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {
                warn!(%shard, index = reference.index, ?error, "a checkpoint is not usable");
                continue;
            }
            Err(error) => return Err(error),
        };
        match checkpoints::first_missing(bucket, &loaded.checkpoint).await? {
            None => return Ok(Some(loaded)),
            Some(key) => {
                warn!(%shard, index = reference.index, key, "a checkpoint names an object that does not exist");
            }
        }
    }
    Ok(None)
}

fn from_checkpoint(loaded: LoadedCheckpoint) -> Start {
    let term = loaded.checkpoint.term;
    Start::Checkpoint(Box::new(StartCheckpoint { term, files: files_of(loaded) }))
}

/// A checkpoint out of the bucket as a node keeps it.
pub(in crate::shard) fn files_of(loaded: LoadedCheckpoint) -> CheckpointFiles {
    CheckpointFiles {
        reference: loaded.reference,
        checkpoint: loaded.bytes,
        parts: loaded.parts.into_iter().map(|(id, bytes, _)| (id, bytes)).collect(),
        ranges: loaded.ranges,
    }
}
