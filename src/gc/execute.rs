//! Lists, condemns, looks again and deletes. What may go is decided in `plan`; how much is looked at in `look`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ::metrics::counter;
use futures::TryStreamExt;

use super::look::{Found, Place};
use super::plan::{self, Horizon, kind};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint;
use crate::format::checkpoint::decode_checkpoint;
use crate::metrics::{GC_DELETED_BYTES, GC_DELETED_OBJECTS};
use crate::model::checkpoint::NamedObject;
use crate::model::{CheckpointRef, Incarnation, LogTime, ObjectId, ShardId};
use crate::state::State;
use crate::store::keys::{self, Key};
use crate::store::{Bucket, Listed, StoreError};

/// Objects of one deletion.
const BATCH: usize = 1_000;
/// The largest checkpoint object that is read.
const MAX_CHECKPOINT_BYTES: u64 = 256 << 20;
/// What an interrupted write left in a local bucket is removed after this.
const STALE_UPLOAD_AGE: Duration = Duration::from_secs(24 * 3_600);

/// What a run needs of the shard's log.
pub trait Log: Send + Sync {
    /// Log time now.
    fn log_time(&self) -> LogTime;
    /// The state with all that was applied.
    fn view(&self) -> State;
    /// The checkpoints that nodes of the shard would go back to, and so must not lose.
    ///
    /// # Errors
    /// If a node has not said which one that is: nothing is deleted then.
    fn pinned(&self) -> impl Future<Output = Result<BTreeSet<CheckpointRef>>> + Send;
    /// Proposes `Condemn{floor}`; it is applied in every later [`Log::view`] when this returns.
    fn condemn(&self, floor: ObjectId) -> impl Future<Output = Result<()>> + Send;
}

/// What a run deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deleted {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What the kept checkpoints name. Checkpoints are immutable, so each is read once.
type Names = BTreeMap<CheckpointRef, Arc<[NamedObject]>>;

/// What has to stay, and the checkpoints that were there when that was found out.
pub(super) struct Named {
    pub(super) objects: BTreeSet<NamedObject>,
    pub(super) checkpoints: Vec<Listed>,
}

/// Which garbage is collected, and how much is looked at for that.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// `gc.grace`
    pub grace: Duration,
    /// Objects that a run lists at most besides checkpoints; the next run goes on where it ended.
    pub listed: u64,
}

/// Collects the garbage of one shard.
#[derive(Debug)]
pub struct Collector {
    pub(super) bucket: Bucket,
    pub(super) shard: ShardId,
    pub(super) extent: Extent,
    /// Where the next run begins to list.
    place: Place,
    names: Names,
}

impl Collector {
    /// A collector of `shard`'s garbage in `bucket`.
    #[must_use]
    pub fn new(bucket: Bucket, shard: ShardId, extent: Extent) -> Self {
        Self { bucket, shard, extent, place: Place::default(), names: Names::new() }
    }

    /// One run. Cancelled, it may have deleted some of the garbage, and the next one looks at the same objects.
    ///
    /// # Errors
    /// The bucket's or the log's; that a node has not said what it would go back to; `corrupt` if a kept checkpoint cannot be read: what it names is not known then, so
    /// nothing is deleted; `replaced` if another life of the cluster has begun on the bucket, whose objects this one does not know.
    pub async fn run(&mut self, log: &impl Log) -> Result<Deleted> {
        let horizon = Horizon { now: log.log_time(), grace: self.extent.grace };
        let floor = horizon.floor();
        let pinned = log.pinned().await?;
        let Some(named) = self.named(&log.view(), horizon, &pinned).await? else { return Ok(Deleted::default()) };
        let found = self.look(self.place.clone(), floor, named).await?;
        if found.is_empty() {
            self.check_not_replaced(log.view().incarnation()).await?;
            self.place = found.next;
            return self.end(Deleted::default()).await;
        }
        log.condemn(floor).await?;
        failpoint::hit_async("gc.condemned").await?;
        // A view from before the floor was applied does not count: something below it may have become live since.
        let view = log.view();
        if view.condemned() < floor {
            return Err(Error::internal("the state does not know the floor that it was told"));
        }
        let Some(named) = self.named(&view, horizon, &pinned).await? else { return Ok(Deleted::default()) };
        // All that was found was there before, so none of it is of a life that begins after this.
        self.check_not_replaced(view.incarnation()).await?;
        let Found { checkpoints, objects, next } = found;
        let first = self.delete(checkpoints, floor, &named).await?;
        failpoint::hit_async("gc.checkpoints").await?;
        let rest = self.delete(objects, floor, &named).await?;
        let deleted = Deleted { objects: first.objects + rest.objects, bytes: first.bytes + rest.bytes };
        self.place = next;
        tracing::info!(shard = self.shard.0, objects = deleted.objects, bytes = deleted.bytes, "garbage deleted");
        self.end(deleted).await
    }

    /// Another life of the cluster names objects that this one does not know, under the same prefix.
    async fn check_not_replaced(&self, incarnation: Incarnation) -> Result<()> {
        let next = Incarnation(incarnation.0 + 1);
        if !self.bucket.exists(&Key::Incarnation(next).to_string()).await? {
            return Ok(());
        }
        let message = format!("incarnation {} of this cluster was started from the bucket: nothing is deleted", next.0);
        Err(Error::new(ErrorKind::Conflict, "replaced", message))
    }

    async fn end(&self, deleted: Deleted) -> Result<Deleted> {
        let uploads = self.bucket.remove_stale_uploads(STALE_UPLOAD_AGE).await?;
        if uploads > 0 {
            tracing::info!(uploads, "interrupted writes removed");
        }
        Ok(deleted)
    }

    /// What the state and the kept checkpoints name, among them those of `pinned` that are there; `None` before the first
    /// checkpoint.
    pub(super) async fn named(
        &mut self,
        view: &State,
        horizon: Horizon,
        pinned: &BTreeSet<CheckpointRef>,
    ) -> Result<Option<Named>> {
        let Some(current) = view.checkpoint_ref() else { return Ok(None) };
        let (mut listed, mut checkpoints) = (Vec::new(), Vec::new());
        let mut listing = self.bucket.list(&keys::checkpoints_of(self.shard));
        while let Some(object) = listing.try_next().await? {
            if let Some(Key::Checkpoint(_, checkpoint)) = Key::parse(&object.key) {
                listed.push(checkpoint);
                checkpoints.push(object);
            }
        }
        let mut kept = plan::kept(&listed, current, horizon);
        kept.extend(listed.iter().filter(|checkpoint| pinned.contains(checkpoint)));
        let mut names = Names::new();
        let mut objects: BTreeSet<NamedObject> = view.objects().collect();
        for checkpoint in kept {
            objects.insert(NamedObject::Checkpoint(checkpoint.id));
            let known = match self.names.get(&checkpoint) {
                Some(known) => Arc::clone(known),
                None => match self.read(checkpoint).await? {
                    Some(read) => read,
                    None if checkpoint == current => {
                        let key = Key::Checkpoint(self.shard, checkpoint);
                        return Err(Error::corrupt(format!("the current checkpoint {key} is not in the bucket")));
                    }
                    None => continue,
                },
            };
            objects.extend(known.iter().copied());
            names.insert(checkpoint, known);
        }
        self.names = names;
        Ok(Some(Named { objects, checkpoints }))
    }

    /// What a checkpoint names; `None` if it is gone.
    async fn read(&self, checkpoint: CheckpointRef) -> Result<Option<Arc<[NamedObject]>>> {
        let key = Key::Checkpoint(self.shard, checkpoint).to_string();
        match self.bucket.get(&key, MAX_CHECKPOINT_BYTES).await {
            Ok(bytes) => match decode_checkpoint(&bytes) {
                Ok(checkpoint) => Ok(Some(plan::named_by(&checkpoint).collect())),
                Err(error) => {
                    let message = format!("object {key}: {}", error.message());
                    Err(Error::new(error.kind(), error.code(), message).with_source(error))
                }
            },
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes those of `found` that are garbage by what is named now.
    pub(super) async fn delete(&self, found: Vec<Listed>, floor: ObjectId, named: &Named) -> Result<Deleted> {
        let mut deleted = Deleted::default();
        let garbage = found.into_iter().filter_map(|object| {
            let key = Key::parse(&object.key).filter(|key| plan::is_garbage(key, self.shard, floor, &named.objects));
            let (_, named) = key?.owned()?;
            Some((kind(named), object))
        });
        let garbage: Vec<_> = garbage.collect();
        for batch in garbage.chunks(BATCH) {
            self.bucket.delete(batch.iter().map(|(_, object)| object.key.clone()).collect()).await?;
            for (kind, object) in batch {
                counter!(GC_DELETED_OBJECTS, "kind" => *kind).increment(1);
                counter!(GC_DELETED_BYTES).increment(object.bytes);
                deleted = Deleted { objects: deleted.objects + 1, bytes: deleted.bytes + object.bytes };
            }
        }
        Ok(deleted)
    }
}
