//! The two kinds of objects that are created only if absent: `cluster.json` and `incarnations/{n:010}.json`.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Request;
use crate::clock::Millis;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Incarnation;
use crate::raft::NodeIdentity;
use crate::store::keys::Key;
use crate::store::{Bucket, Created, StoreError};

/// Of both.
const FORMAT: u32 = 1;
/// They are a few hundred bytes.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// What `cluster.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClusterFile {
    format: u32,
    pub(super) cluster_id: String,
    created_ms: Millis,
}

/// What `incarnations/{n:010}.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct IncarnationFile {
    format: u32,
    incarnation: u64,
    /// The WAL directory that began it.
    directory: Uuid,
    started_ms: Millis,
    /// Begun with `--restore`: records acknowledged after the checkpoint are gone.
    restored: bool,
}

/// `cluster.json`, if it is there.
pub(super) async fn cluster(bucket: &Bucket) -> Result<Option<ClusterFile>> {
    read(bucket, &Key::Cluster).await
}

/// Creates `cluster.json` for the cluster of `identity`.
pub(super) async fn create_cluster(bucket: &Bucket, request: &Request<'_>, identity: &NodeIdentity) -> Result<()> {
    let cluster = ClusterFile { format: FORMAT, cluster_id: identity.cluster.clone(), created_ms: request.now };
    match create(bucket, &Key::Cluster, &cluster).await? {
        Created::New => Ok(()),
        Created::Exists => Err(lost_race()),
    }
}

/// Whether the directory of `identity` began its incarnation.
pub(super) async fn owns(bucket: &Bucket, identity: &NodeIdentity) -> Result<bool> {
    let file = read::<IncarnationFile>(bucket, &Key::Incarnation(identity.incarnation)).await?;
    Ok(file.is_some_and(|file| file.directory == identity.directory))
}

/// Creates the incarnation of `identity`, or finds that this directory did so earlier.
pub(super) async fn create_incarnation(
    bucket: &Bucket,
    request: &Request<'_>,
    identity: &NodeIdentity,
    restored: bool,
) -> Result<()> {
    let file = IncarnationFile {
        format: FORMAT,
        incarnation: identity.incarnation.0,
        directory: identity.directory,
        started_ms: request.now,
        restored,
    };
    match create(bucket, &Key::Incarnation(identity.incarnation), &file).await? {
        Created::New => Ok(()),
        // An earlier attempt of this directory, at another time.
        Created::Exists if owns(bucket, identity).await? => Ok(()),
        Created::Exists => Err(lost_race()),
    }
}

/// Whether the incarnation after `incarnation` was begun.
pub(super) async fn is_replaced(bucket: &Bucket, incarnation: Incarnation) -> Result<bool> {
    Ok(bucket.exists(&Key::Incarnation(Incarnation(incarnation.0 + 1)).to_string()).await?)
}

/// That `identity` is of the cluster that the bucket is of.
pub(super) fn check_same(request: &Request<'_>, identity: &NodeIdentity, cluster: &ClusterFile) -> Result<()> {
    if identity.cluster == cluster.cluster_id {
        return Ok(());
    }
    let message = format!(
        "the directory {} belongs to cluster {}, the bucket to cluster {}",
        request.wal_dir.display(),
        identity.cluster,
        cluster.cluster_id
    );
    Err(Error::new(ErrorKind::Conflict, "cluster_mismatch", message))
}

fn lost_race() -> Error {
    Error::new(
        ErrorKind::Conflict,
        "cluster_started_elsewhere",
        "another node started this cluster from the bucket just now",
    )
}

async fn create(bucket: &Bucket, key: &Key, file: &impl Serialize) -> Result<Created> {
    let bytes = serde_json::to_vec_pretty(file)
        .map_err(|error| Error::internal(format!("{key} cannot be encoded")).with_source(error))?;
    Ok(bucket.put_if_absent(&key.to_string(), bytes.into()).await?)
}

async fn read<T: for<'a> Deserialize<'a>>(bucket: &Bucket, key: &Key) -> Result<Option<T>> {
    let bytes = match bucket.get(&key.to_string(), MAX_FILE_BYTES).await {
        Ok(bytes) => bytes,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let file = serde_json::from_slice(&bytes)
        .map_err(|error| Error::corrupt(format!("{key} is not what this program writes")).with_source(error))?;
    Ok(Some(file))
}
