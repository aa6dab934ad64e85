//! Lists and deletes. What may go is decided in `plan`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ::metrics::counter;
use futures::TryStreamExt;

use super::plan::{self, Horizon};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::format::checkpoint::decode_checkpoint;
use crate::metrics::{GC_DELETED_BYTES, GC_DELETED_OBJECTS};
use crate::model::checkpoint::NamedObject;
use crate::model::{CheckpointRef, LogTime, ObjectId, ShardId};
use crate::state::State;
use crate::store::keys::{self, Key};
use crate::store::{Bucket, Listed, StoreError};

/// Objects of one deletion, and what a run holds of a listing at a time.
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

/// Collects the garbage of one shard.
#[derive(Debug)]
pub struct Collector {
    bucket: Bucket,
    shard: ShardId,
    grace: Duration,
    names: Names,
}

impl Collector {
    /// A collector of `shard`'s garbage in `bucket`; `grace` is `gc.grace`.
    #[must_use]
    pub fn new(bucket: Bucket, shard: ShardId, grace: Duration) -> Self {
        Self { bucket, shard, grace, names: Names::new() }
    }

    /// One run. Cancelled, it may have deleted some of the garbage.
    ///
    /// # Errors
    /// The bucket's or the log's; that a node has not said what it would go back to; `corrupt` if a kept checkpoint cannot be read: what it names is not known then, so
    /// nothing is deleted.
    pub async fn run(&mut self, log: &impl Log) -> Result<Deleted> {
        let horizon = Horizon { now: log.log_time(), grace: self.grace };
        let floor = horizon.floor();
        let pinned = log.pinned().await?;
        let Some(named) = self.named(&log.view(), horizon, &pinned).await? else { return Ok(Deleted::default()) };
        if !self.has_garbage(floor, &named).await? {
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
        let mut deleted = self.delete(&keys::checkpoints_of(self.shard), floor, &named).await?;
        failpoint::hit_async("gc.checkpoints").await?;
        for prefix in [keys::objects_of(self.shard), keys::ARCHIVE.to_owned()] {
            let more = self.delete(&prefix, floor, &named).await?;
            deleted = Deleted { objects: deleted.objects + more.objects, bytes: deleted.bytes + more.bytes };
        }
        tracing::info!(shard = self.shard.0, objects = deleted.objects, bytes = deleted.bytes, "garbage deleted");
        self.end(deleted).await
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
    ) -> Result<Option<BTreeSet<NamedObject>>> {
        let Some(current) = view.checkpoint_ref() else { return Ok(None) };
        let mut listed = Vec::new();
        let mut listing = self.bucket.list(&keys::checkpoints_of(self.shard));
        while let Some(object) = listing.try_next().await? {
            if let Some(Key::Checkpoint(_, checkpoint)) = Key::parse(&object.key) {
                listed.push(checkpoint);
            }
        }
        let mut kept = plan::kept(&listed, current, horizon);
        kept.extend(listed.iter().filter(|checkpoint| pinned.contains(checkpoint)));
        let mut names = Names::new();
        let mut named: BTreeSet<NamedObject> = view.objects().collect();
        for checkpoint in kept {
            named.insert(NamedObject::Checkpoint(checkpoint.id));
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
            named.extend(known.iter().copied());
            names.insert(checkpoint, known);
        }
        self.names = names;
        Ok(Some(named))
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

    async fn has_garbage(&self, floor: ObjectId, named: &BTreeSet<NamedObject>) -> Result<bool> {
        for prefix in [keys::objects_of(self.shard), keys::ARCHIVE.to_owned()] {
            let mut listing = self.bucket.list(&prefix);
            while let Some(object) = listing.try_next().await? {
                if self.garbage(&object, floor, named).is_some() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn garbage(&self, object: &Listed, floor: ObjectId, named: &BTreeSet<NamedObject>) -> Option<Key> {
        Key::parse(&object.key).filter(|key| plan::is_garbage(key, self.shard, floor, named))
    }

    /// Deletes the garbage under `prefix` as the listing goes on.
    pub(super) async fn delete(&self, prefix: &str, floor: ObjectId, named: &BTreeSet<NamedObject>) -> Result<Deleted> {
        let mut deleted = Deleted::default();
        let mut batch = Vec::new();
        let mut listing = self.bucket.list(prefix);
        loop {
            let object = listing.try_next().await?;
            let ended = object.is_none();
            if let Some(object) = object
                && let Some(key) = self.garbage(&object, floor, named)
            {
                batch.push((kind(&key), object));
            }
            if batch.len() >= BATCH || (ended && !batch.is_empty()) {
                self.bucket.delete(batch.iter().map(|(_, object)| object.key.clone()).collect()).await?;
                for (kind, object) in batch.drain(..) {
                    counter!(GC_DELETED_OBJECTS, "kind" => kind).increment(1);
                    counter!(GC_DELETED_BYTES).increment(object.bytes);
                    deleted = Deleted { objects: deleted.objects + 1, bytes: deleted.bytes + object.bytes };
                }
            }
            if ended {
                return Ok(deleted);
            }
        }
    }
}

const fn kind(key: &Key) -> &'static str {
    match key {
        Key::Checkpoint(..) => "checkpoint",
        Key::IndexPart(..) => "index",
        Key::Archive(..) => "archive",
        // The others are of no shard, and never garbage.
        Key::Segment(..)
        | Key::Cluster
        | Key::Incarnation(_)
        | Key::Node(..)
        | Key::Group(..)
        | Key::BackupPlace
        | Key::Backup(_)
        | Key::Restore => "segment",
    }
}
