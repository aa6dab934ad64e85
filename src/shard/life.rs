//! The lives of a cluster on a bucket: which one this directory is in, and with what it begins.
//!
//! `cluster.json` and `incarnations/{n:010}.json` are created only if absent; `node.json` names the incarnation that a
//! directory is about to create before it creates it, so that a start which crashed at any step goes on where it was and
//! no other directory can. Nothing is acknowledged before this module is done.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use uuid::Uuid;

use crate::checkpoints::{self, LoadedCheckpoint};
use crate::clock::Millis;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{CheckpointRef, Incarnation, NodeId, ShardId};
use crate::raft::{CheckpointFiles, NodeIdentity, RaftNode, Start, StartCheckpoint, WalPresence};
use crate::store::keys::Key;
use crate::store::{Bucket, Created, StoreError};

/// Of `cluster.json` and the incarnation files.
const FORMAT: u32 = 1;
/// These files are a few hundred bytes.
const MAX_FILE_BYTES: u64 = 64 << 10;
/// The first life.
const FIRST: Incarnation = Incarnation(1);

/// What `cluster.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ClusterFile {
    format: u32,
    cluster_id: String,
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

/// Who starts, and how.
#[derive(Debug)]
pub struct Life {
    /// This directory's place in the cluster.
    pub identity: NodeIdentity,
    /// With what the shard begins.
    pub start: Start,
}

/// What a start is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `wal/`.
    pub wal_dir: &'a Path,
    /// `--restore`: a start from the bucket may lose acknowledged records.
    pub restore: bool,
    /// Wall time.
    pub now: Millis,
}

const SHARD: ShardId = ShardId(0);

/// Finds out in which life this directory is; begins one if it has none. A WAL is enough: the bucket is not asked then.
///
/// # Errors
/// `corrupt` for a damaged directory; `unclean_bucket` if acknowledged records may be missing in the bucket and `restore`
/// is not set; `cluster_mismatch`; or the bucket's.
pub async fn begin(bucket: &Bucket, request: Request<'_>) -> Result<Life> {
    let identity = NodeIdentity::load(request.wal_dir)?;
    if let Some(identity) = &identity
        && RaftNode::presence(request.wal_dir, identity.directory, SHARD)? == WalPresence::Present
    {
        return Ok(Life { identity: identity.clone(), start: Start::Wal });
    }
    // The log of a directory that was open is lost, not new: what it acknowledged may be nowhere else.
    let identity = identity.filter(|identity| !identity.opened);
    match read::<ClusterFile>(bucket, &Key::Cluster).await? {
        None => new_cluster(bucket, request, identity).await,
        Some(cluster) => known_cluster(bucket, request, identity, cluster).await,
    }
}

async fn new_cluster(bucket: &Bucket, request: Request<'_>, identity: Option<NodeIdentity>) -> Result<Life> {
    let identity = identity.unwrap_or_else(|| NodeIdentity::new(Uuid::new_v4().to_string(), FIRST, NodeId(1)));
    identity.save(request.wal_dir)?;
    let cluster = ClusterFile { format: FORMAT, cluster_id: identity.cluster.clone(), created_ms: request.now };
    if create(bucket, &Key::Cluster, &cluster).await? == Created::Exists {
        return Err(lost_race());
    }
    info!(cluster = %identity.cluster, "a new cluster begins");
    first_life(bucket, request, identity).await
}

async fn first_life(bucket: &Bucket, request: Request<'_>, identity: NodeIdentity) -> Result<Life> {
    create_incarnation(bucket, request, &identity, false).await?;
    let start = Start::alone(identity.node, identity.directory);
    Ok(Life { identity, start })
}

async fn known_cluster(
    bucket: &Bucket,
    request: Request<'_>,
    identity: Option<NodeIdentity>,
    cluster: ClusterFile,
) -> Result<Life> {
    if let Some(identity) = &identity
        && identity.cluster != cluster.cluster_id
    {
        let message = format!(
            "the directory {} belongs to cluster {}, the bucket to cluster {}",
            request.wal_dir.display(),
            identity.cluster,
            cluster.cluster_id
        );
        return Err(Error::new(ErrorKind::Conflict, "cluster_mismatch", message));
    }
    let newest = checkpoints::incarnations(bucket).await?.last().copied();
    let all = checkpoints::list(bucket, SHARD).await?;
    // A start of this very directory that crashed: it had decided, and only it may go on.
    if let Some(identity) = identity.filter(|identity| newest.is_none_or(|newest| identity.incarnation >= newest)) {
        let untouched = all.iter().all(|checkpoint| checkpoint.incarnation < identity.incarnation);
        if untouched && newest.is_none() {
            return first_life(bucket, request, identity).await;
        }
        if untouched && owns(bucket, &identity).await? {
            return resume(bucket, request, identity, &all).await;
        }
    }
    next_life(bucket, request, cluster, newest, &all).await
}

/// Goes on with an incarnation that this directory created and that has no checkpoint yet.
async fn resume(bucket: &Bucket, request: Request<'_>, identity: NodeIdentity, all: &[CheckpointRef]) -> Result<Life> {
    info!(incarnation = identity.incarnation.0, "a start that broke off goes on");
    // It exists; that it is durable only the call says that creates it, and that one broke off.
    create_incarnation(bucket, request, &identity, request.restore).await?;
    let start = match newest_usable(bucket, all).await? {
        Some(loaded) => from_checkpoint(loaded),
        None => Start::alone(identity.node, identity.directory),
    };
    Ok(Life { identity, start })
}

async fn next_life(
    bucket: &Bucket,
    request: Request<'_>,
    cluster: ClusterFile,
    newest: Option<Incarnation>,
    all: &[CheckpointRef],
) -> Result<Life> {
    // Asked before anything is created, so that a refused start changes nothing.
    check_clean(newest, newest_usable(bucket, all).await?.as_ref(), request.restore)?;
    let next = Incarnation(newest.map_or(FIRST.0, |newest| newest.0 + 1));
    // Only one node starts a shard from the bucket; ids are never reused within a life, and each life begins anew.
    let identity = NodeIdentity::new(cluster.cluster_id, next, NodeId(next.0));
    identity.save(request.wal_dir)?;
    create_incarnation(bucket, request, &identity, request.restore).await?;
    // The older life may have written until now: what counts is what is there after its end.
    let loaded = newest_usable(bucket, &checkpoints::list(bucket, SHARD).await?).await?;
    check_clean(newest, loaded.as_ref(), request.restore)?;
    let start = loaded.map_or_else(|| Start::alone(identity.node, identity.directory), from_checkpoint);
    Ok(Life { identity, start })
}

/// A start from the bucket loses nothing only if the newest life has ended with a clean checkpoint.
fn check_clean(newest: Option<Incarnation>, loaded: Option<&LoadedCheckpoint>, restore: bool) -> Result<()> {
    let clean =
        loaded.is_some_and(|loaded| loaded.checkpoint.is_clean() && Some(loaded.reference.incarnation) == newest);
    if clean || newest.is_none() {
        return Ok(());
    }
    let checkpoint = loaded.map_or_else(
        || "there is no checkpoint".to_owned(),
        |loaded| {
            let CheckpointRef { incarnation, index, .. } = loaded.reference;
            format!("the newest usable checkpoint is of incarnation {incarnation} at log index {index}")
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
async fn newest_usable(bucket: &Bucket, all: &[CheckpointRef]) -> Result<Option<LoadedCheckpoint>> {
    for reference in all {
        let loaded = match checkpoints::load(bucket, SHARD, *reference).await {
            Ok(loaded) => loaded,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {
                warn!(index = reference.index, ?error, "a checkpoint is not usable");
                continue;
            }
            Err(error) => return Err(error),
        };
        match checkpoints::first_missing(bucket, &loaded.checkpoint).await? {
            None => return Ok(Some(loaded)),
            Some(key) => warn!(index = reference.index, key, "a checkpoint names an object that does not exist"),
        }
    }
    Ok(None)
}

fn from_checkpoint(loaded: LoadedCheckpoint) -> Start {
    let files = CheckpointFiles {
        reference: loaded.reference,
        checkpoint: loaded.bytes,
        parts: loaded.parts.into_iter().map(|(id, bytes, _)| (id, bytes)).collect(),
        ranges: loaded.ranges,
    };
    Start::Checkpoint(Box::new(StartCheckpoint { term: loaded.checkpoint.term, files }))
}

async fn owns(bucket: &Bucket, identity: &NodeIdentity) -> Result<bool> {
    let file = read::<IncarnationFile>(bucket, &Key::Incarnation(identity.incarnation)).await?;
    Ok(file.is_some_and(|file| file.directory == identity.directory))
}

async fn create_incarnation(
    bucket: &Bucket,
    request: Request<'_>,
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
