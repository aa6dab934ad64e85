//! The objects of a place with backups, and of a bucket that is made of one. JSON under a checksum; the table is in docs/formats.md.
//!
//! `backup.json` comes first and says whose backups the place holds, `backups/{ulid}.json` comes last and is what makes a backup one.
//! `restore.json` comes first in a bucket that is being restored, with all that was decided, so that whoever goes on decides the same.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{CheckpointRef, Incarnation, ObjectId, ShardId, TopicId};
use crate::store::keys::{self, Key};
use crate::store::{Bucket, Created, StoreError};

/// Of all three.
const FORMAT: u32 = 1;
/// A plan names every topic: about 90 bytes each.
const MAX_BYTES: u64 = 64 << 20;

/// What `backup.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    format: u32,
    /// Distinguishes who wrote it.
    id: ObjectIdText,
    /// Whose backups are here.
    pub cluster_id: String,
    /// Wall time.
    pub created_ms: Millis,
}

/// What `backups/{ulid}.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: u32,
    /// Its name.
    id: ObjectIdText,
    /// The cluster.
    pub cluster_id: String,
    /// Wall time of the cluster's creation.
    pub cluster_created_ms: Millis,
    /// The newest life that the bucket knew.
    pub incarnation: u64,
    /// Wall time.
    pub started_ms: Millis,
    /// Of each shard, ascending from 0, the key of the checkpoint that was copied with all that it names.
    pub checkpoints: Vec<String>,
}

/// What `restore.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    format: u32,
    /// The backup.
    backup: ObjectIdText,
    /// The cluster that it is of.
    pub from_cluster: String,
    /// The new cluster.
    pub cluster_id: String,
    /// The life in which its checkpoints are written.
    pub incarnation: u64,
    /// Wall time.
    pub started_ms: Millis,
    /// The new ids of the topics by the old ones; both ascend.
    pub topics: BTreeMap<TopicId, TopicId>,
}

/// An object's id as in keys: JSON has no number of 128 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ObjectIdText(ObjectId);

impl Serialize for ObjectIdText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ObjectIdText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|_| serde::de::Error::custom("not the id of an object"))
    }
}

impl Place {
    /// Of backups of `cluster_id`.
    #[must_use]
    pub const fn new(id: ObjectId, cluster_id: String, created_ms: Millis) -> Self {
        Self { format: FORMAT, id: ObjectIdText(id), cluster_id, created_ms }
    }
}

impl Manifest {
    /// Of a backup that is done, of `checkpoints` of the shards in order.
    #[must_use]
    pub fn new(
        id: ObjectId,
        (cluster_id, cluster_created_ms): (String, Millis),
        incarnation: Incarnation,
        started_ms: Millis,
        checkpoints: &[CheckpointRef],
    ) -> Self {
        let key = |(shard, reference): (u32, &CheckpointRef)| Key::Checkpoint(ShardId(shard), *reference).to_string();
        let checkpoints = (0..).zip(checkpoints).map(key).collect();
        let (id, incarnation) = (ObjectIdText(id), incarnation.0);
        Self { format: FORMAT, id, cluster_id, cluster_created_ms, incarnation, started_ms, checkpoints }
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> ObjectId {
        self.id.0
    }

    /// The checkpoints of the shards, in order.
    ///
    /// # Errors
    /// `corrupt` if they are not that.
    pub fn checkpoints(&self) -> Result<Vec<(ShardId, CheckpointRef)>> {
        let parse = |(at, key): (u32, &String)| match Key::parse(key) {
            Some(Key::Checkpoint(shard, reference)) if shard.0 == at => Ok((shard, reference)),
            _ => Err(Error::corrupt(format!("backup {} names {key:?} as the checkpoint of shard {at}", self.id.0))),
        };
        if self.checkpoints.is_empty() {
            return Err(Error::corrupt(format!("backup {} names no checkpoint", self.id.0)));
        }
        (0..).zip(&self.checkpoints).map(parse).collect()
    }
}

impl Plan {
    /// To make cluster `cluster_id` of `manifest`, beginning after `incarnation`.
    #[must_use]
    pub fn new(
        manifest: &Manifest,
        cluster_id: String,
        incarnation: Incarnation,
        started_ms: Millis,
        topics: BTreeMap<TopicId, TopicId>,
    ) -> Self {
        let (backup, from_cluster) = (manifest.id, manifest.cluster_id.clone());
        Self { format: FORMAT, backup, from_cluster, cluster_id, incarnation: incarnation.0, started_ms, topics }
    }

    /// The backup.
    #[must_use]
    pub const fn backup(&self) -> ObjectId {
        self.backup.0
    }
}

/// Whose backups `bucket` holds, if it is a place for backups.
///
/// # Errors
/// The bucket's; `corrupt`.
pub async fn place(bucket: &Bucket) -> Result<Option<Place>> {
    read(bucket, &Key::BackupPlace).await
}

/// Makes `bucket` a place for backups unless it is one.
///
/// # Errors
/// The bucket's.
pub async fn create_place(bucket: &Bucket, place: &Place) -> Result<Created> {
    create(bucket, &Key::BackupPlace, place).await
}

/// Makes a backup one.
///
/// # Errors
/// The bucket's.
pub async fn create(bucket: &Bucket, key: &Key, content: &impl Serialize) -> Result<Created> {
    Ok(bucket.put_if_absent(&key.to_string(), encode(content)?).await?)
}

/// The backups at `bucket`, oldest first.
///
/// # Errors
/// The bucket's.
pub async fn list(bucket: &Bucket) -> Result<Vec<ObjectId>> {
    let mut found = Vec::new();
    let mut listing = bucket.list(keys::BACKUPS);
    while let Some(object) = listing.try_next().await? {
        if let Some(Key::Backup(id)) = Key::parse(&object.key) {
            found.push(id);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The backup `id`.
///
/// # Errors
/// `backup_not_found`, `corrupt`, or the bucket's.
pub async fn manifest(bucket: &Bucket, id: ObjectId) -> Result<Manifest> {
    let found: Option<Manifest> = read(bucket, &Key::Backup(id)).await?;
    match found {
        Some(manifest) if manifest.id.0 == id => Ok(manifest),
        Some(_) => Err(Error::corrupt(format!("{} is another backup than its name says", Key::Backup(id)))),
        None => {
            let message = format!("there is no backup {id} at {}", bucket.url());
            Err(Error::new(ErrorKind::NotFound, "backup_not_found", message))
        }
    }
}

/// What `bucket` is being or was made of.
///
/// # Errors
/// The bucket's; `corrupt`.
pub async fn plan(bucket: &Bucket) -> Result<Option<Plan>> {
    read(bucket, &Key::Restore).await
}

async fn read<T: for<'a> Deserialize<'a> + Serialize>(bucket: &Bucket, key: &Key) -> Result<Option<T>> {
    match bucket.get(&key.to_string(), MAX_BYTES).await {
        Ok(bytes) => decode(key, &bytes).map(Some),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// An object as it is stored: the content, and the CRC-32C of it as JSON without white space.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed<T> {
    content: T,
    crc32c: u32,
}

pub(super) fn encode(content: &impl Serialize) -> Result<Bytes> {
    let failed = |error| Error::internal("an object of a backup cannot be encoded").with_source(error);
    let crc32c = crc32c::crc32c(&serde_json::to_vec(content).map_err(failed)?);
    Ok(serde_json::to_vec_pretty(&Sealed { content, crc32c }).map_err(failed)?.into())
}

pub(super) fn decode<T: for<'a> Deserialize<'a> + Serialize>(key: &Key, bytes: &[u8]) -> Result<T> {
    let damaged = || Error::corrupt(format!("{key} is not what this program writes"));
    let stated: Format = serde_json::from_slice(bytes).map_err(|error| damaged().with_source(error))?;
    if stated.content.format != FORMAT {
        let format = stated.content.format;
        return Err(Error::corrupt(format!("{key} has format {format}, which is not known to this build")));
    }
    let Sealed { content, crc32c }: Sealed<T> =
        serde_json::from_slice(bytes).map_err(|error| damaged().with_source(error))?;
    let written = serde_json::to_vec(&content).map_err(|error| damaged().with_source(error))?;
    if crc32c::crc32c(&written) == crc32c { Ok(content) } else { Err(damaged()) }
}

/// What every version of them has.
#[derive(Deserialize)]
struct Format {
    content: Versioned,
}

#[derive(Deserialize)]
struct Versioned {
    format: u32,
}
