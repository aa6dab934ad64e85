//! The small objects that say whose bucket it is: `cluster.json` and `incarnations/{n:010}.json`. Both are created only if absent,
//! and never changed. Read and written here and nowhere else.
//!
//! A place with backups and a bucket that is still being restored have no `cluster.json`: [`cluster`] tells them from an empty
//! bucket, so that nobody founds a cluster in them.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Millis;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Incarnation;
use crate::store::keys::Key;
use crate::store::{Bucket, Created, StoreError};

/// Of both, and of what a life says of its nodes and groups.
pub(crate) const FORMAT: u32 = 1;
/// They are a few hundred bytes.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// What `cluster.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterFile {
    format: u32,
    /// The cluster.
    pub cluster_id: String,
    /// Wall time of its creation.
    pub created_ms: Millis,
}

impl ClusterFile {
    /// Of the cluster `cluster_id`.
    #[must_use]
    pub const fn new(cluster_id: String, created_ms: Millis) -> Self {
        Self { format: FORMAT, cluster_id, created_ms }
    }
}

/// What `incarnations/{n:010}.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncarnationFile {
    format: u32,
    incarnation: u64,
    /// The WAL directory that began it; one that does not exist if it was begun by a restore or a rebuild.
    pub directory: Uuid,
    /// Wall time.
    pub started_ms: Millis,
    /// What was acknowledged after the checkpoint is gone.
    pub restored: bool,
}

impl IncarnationFile {
    /// Of `incarnation`.
    #[must_use]
    pub const fn new(incarnation: Incarnation, directory: Uuid, started_ms: Millis, restored: bool) -> Self {
        Self { format: FORMAT, incarnation: incarnation.0, directory, started_ms, restored }
    }
}

/// `cluster.json`, if it is there.
///
/// # Errors
/// The bucket's; `corrupt`; `bucket_is_backup` and `restore_unfinished` if it is not there and the bucket is not to have one.
pub async fn cluster(bucket: &Bucket) -> Result<Option<ClusterFile>> {
    let found = founded(bucket).await?;
    if found.is_none() {
        refuse_other_use(bucket).await?;
    }
    Ok(found)
}

/// `cluster.json`, if it is there, of a bucket of any kind.
///
/// # Errors
/// The bucket's; `corrupt`.
pub async fn founded(bucket: &Bucket) -> Result<Option<ClusterFile>> {
    read(bucket, &Key::Cluster).await
}

/// Refuses a bucket in which nothing but a restore may create a cluster.
async fn refuse_other_use(bucket: &Bucket) -> Result<()> {
    let url = bucket.url();
    if bucket.exists(&Key::BackupPlace.to_string()).await? {
        let message = format!(
            "{url} holds backups: `tidelog restore --from {url} --bucket URL` makes a bucket of the newest one"
        );
        return Err(Error::new(ErrorKind::Conflict, "bucket_is_backup", message));
    }
    if bucket.exists(&Key::Restore.to_string()).await? {
        let message = format!(
            "the restore of a backup into {url} was not finished: run the same `tidelog restore --bucket {url}` again, it goes on"
        );
        return Err(Error::new(ErrorKind::Conflict, "restore_unfinished", message));
    }
    Ok(())
}

/// What the bucket says of `incarnation`.
///
/// # Errors
/// The bucket's; `corrupt`.
pub async fn incarnation(bucket: &Bucket, incarnation: Incarnation) -> Result<Option<IncarnationFile>> {
    read(bucket, &Key::Incarnation(incarnation)).await
}

/// Creates `cluster.json` if it is not there.
///
/// # Errors
/// The bucket's.
pub async fn create_cluster(bucket: &Bucket, file: &ClusterFile) -> Result<Created> {
    create(bucket, &Key::Cluster, file).await
}

/// Creates an incarnation if it is not there.
///
/// # Errors
/// The bucket's.
pub async fn create_incarnation(bucket: &Bucket, file: &IncarnationFile) -> Result<Created> {
    create(bucket, &Key::Incarnation(Incarnation(file.incarnation)), file).await
}

/// Creates a small object if it is not there.
///
/// # Errors
/// The bucket's.
pub(crate) async fn create(bucket: &Bucket, key: &Key, file: &impl Serialize) -> Result<Created> {
    let bytes = serde_json::to_vec_pretty(file)
        .map_err(|error| Error::internal(format!("{key} cannot be encoded")).with_source(error))?;
    Ok(bucket.put_if_absent(&key.to_string(), bytes.into()).await?)
}

/// A small object, if it is there.
///
/// # Errors
/// The bucket's; `corrupt`.
pub(crate) async fn read<T: for<'a> Deserialize<'a>>(bucket: &Bucket, key: &Key) -> Result<Option<T>> {
    let bytes = match bucket.get(&key.to_string(), MAX_FILE_BYTES).await {
        Ok(bytes) => bytes,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let file = serde_json::from_slice(&bytes)
        .map_err(|error| Error::corrupt(format!("{key} is not what this program writes")).with_source(error))?;
    Ok(Some(file))
}
