//! The two kinds of objects that are created only if absent: `cluster.json` and `incarnations/{n:010}.json`.

use super::Request;
use crate::checkpoints::lives::{self, IncarnationFile};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Incarnation;
use crate::raft::NodeIdentity;
use crate::store::keys::Key;
use crate::store::{Bucket, Created};

pub(super) use crate::checkpoints::lives::{ClusterFile, cluster};

/// Creates `cluster.json` for the cluster of `identity`.
pub(super) async fn create_cluster(bucket: &Bucket, request: &Request<'_>, identity: &NodeIdentity) -> Result<()> {
    match lives::create_cluster(bucket, &ClusterFile::new(identity.cluster.clone(), request.now)).await? {
        Created::New => Ok(()),
        Created::Exists => Err(lost_race()),
    }
}

/// Whether the directory of `identity` began its incarnation.
pub(super) async fn owns(bucket: &Bucket, identity: &NodeIdentity) -> Result<bool> {
    let file = lives::incarnation(bucket, identity.incarnation).await?;
    Ok(file.is_some_and(|file| file.directory == identity.directory))
}

/// Creates the incarnation of `identity`, or finds that this directory did so earlier.
pub(super) async fn create_incarnation(
    bucket: &Bucket,
    request: &Request<'_>,
    identity: &NodeIdentity,
    restored: bool,
) -> Result<()> {
    let file = IncarnationFile::new(identity.incarnation, identity.directory, request.now, restored);
    match lives::create_incarnation(bucket, &file).await? {
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
