//! The lives of a cluster on a bucket: which one this directory is in, and with what it begins.
//!
//! `cluster.json` and `incarnations/{n:010}.json` are created only if absent; `node.json` names the incarnation that a
//! directory is about to create before it creates it, so that a start which crashed at any step goes on where it was and
//! no other directory can. Nothing is acknowledged before this module is done.
//!
//! | module | what |
//! |---|---|
//! | this | a directory with a log; a node alone |
//! | [`cluster`] | an empty directory of a cluster of several: founding it, joining it, coming back to it |
//! | [`files`] | the objects |
//! | [`restore`] | the checkpoints with which a start from the bucket begins |

mod cluster;
mod files;
mod restore;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use tracing::{info, warn};
use uuid::Uuid;

use self::files::ClusterFile;
pub(super) use self::files::{begin_group, group as group_of};
pub(super) use self::restore::files_of;
use self::restore::{AFTER_ALL, Restorable};
use super::hello::Hello;
use crate::checkpoints;
use crate::clock::Millis;
use crate::config::{self, ClusterNode, NodeChoice};
use crate::error::{Error, ErrorKind, Result};
use crate::model::catalog::CATALOG_SHARD;
use crate::model::{CheckpointRef, Incarnation, NodeId, ShardId};
use crate::raft::{NodeIdentity, RaftNode, Start, WalPresence};
use crate::store::Bucket;

/// The first life.
const FIRST: Incarnation = Incarnation(1);
/// The number of a node alone that was not given one.
const SOLE_NODE: NodeId = NodeId(1);
/// How long a start with a log waits for the bucket to say which cluster it is of.
const BUCKET_PATIENCE: Duration = Duration::from_secs(1);
/// Between two questions to a bucket that does not answer, retries of its own included.
const BUCKET_PAUSE: Duration = Duration::from_secs(5);

/// Who starts, and how.
#[derive(Debug)]
pub(crate) struct Life {
    /// This directory's place in the cluster.
    pub(crate) identity: NodeIdentity,
    /// With what the first shard begins.
    pub(crate) start: Start,
    /// With what the others begin that are begun before the first: those of a start from the bucket.
    pub(crate) others: Vec<(ShardId, Start)>,
}

impl Life {
    /// A life of which nothing but the first shard is known yet.
    fn of_zero(identity: NodeIdentity, start: Start) -> Self {
        Self { identity, start, others: Vec::new() }
    }
}

/// What a start is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    /// `wal/`.
    pub(crate) wal_dir: &'a Path,
    /// `--restore`: a start from the bucket may lose acknowledged records.
    pub(crate) restore: bool,
    /// Wall time.
    pub(crate) now: Millis,
    /// Which node this is, and who begins the cluster.
    pub(crate) cluster: &'a config::Cluster,
}

impl Request<'_> {
    /// The number that this node was given.
    fn given_id(&self) -> Option<NodeId> {
        match self.cluster.node_id {
            Some(NodeChoice::Id(id)) => Some(NodeId(id)),
            Some(NodeChoice::Auto) | None => None,
        }
    }

    /// The first nodes other than `me`.
    fn others(&self, me: NodeId) -> impl Iterator<Item = &ClusterNode> {
        self.cluster.nodes.iter().filter(move |node| node.id != me.0)
    }
}

/// How a node that has no log yet meets the others.
pub(crate) trait Peering: Send {
    /// Begins to answer the peers as `identity`; `fresh` if it has no log. Called once at most.
    fn open(&mut self, identity: &NodeIdentity, fresh: bool) -> Result<()>;

    /// Asks a node who it is, on behalf of `identity`; gives up by itself after a second or so.
    fn hello(&self, identity: &NodeIdentity, node: &ClusterNode) -> impl Future<Output = Result<Hello>> + Send;

    /// `host:port` at which the others reach this node, which is `node`; empty if they cannot.
    fn address(&self, node: NodeId) -> String;
}

/// Finds out in which life this directory is; begins one if it has none. A WAL is enough: the bucket is not needed then.
///
/// # Errors
/// `corrupt` for a damaged directory; `unclean_bucket` if acknowledged records may be missing in the bucket and `restore`
/// is not set; `rebuild_needed` if the bucket has a cluster's data, and what says whose it is is lost; `cluster_mismatch`;
/// `node_identity_mismatch` if the directory or the number belongs to another node; or the bucket's.
pub(crate) async fn begin(bucket: &Bucket, request: Request<'_>, peering: &mut impl Peering) -> Result<Life> {
    let identity = NodeIdentity::load(request.wal_dir)?;
    if let Some(identity) = &identity {
        match RaftNode::presence(request.wal_dir, identity.directory, CATALOG_SHARD)? {
            WalPresence::Present => {
                check_given_id(&request, identity)?;
                check_bucket(bucket, &request, identity).await?;
                peering.open(identity, false)?;
                return Ok(Life::of_zero(identity.clone(), Start::Wal));
            }
            // It was taken in and has seen nothing yet. (A start from a checkpoint that broke off has a vote too, but was not
            // opened.)
            WalPresence::Voted if identity.opened && !request.cluster.nodes.is_empty() => {
                check_given_id(&request, identity)?;
                peering.open(identity, true)?;
                return Ok(Life::of_zero(identity.clone(), Start::Join));
            }
            WalPresence::Voted | WalPresence::Empty => {}
        }
    }
    // The log of a directory that was open is lost, not new: what it acknowledged may be nowhere else. One that never was may
    // get another number.
    let given = request.given_id();
    let identity = identity.filter(|identity| !identity.opened && given.is_none_or(|given| given == identity.node));
    let life = begin_fresh(bucket, request, identity, peering).await?;
    // So that it is not given to another one, whoever remembers this node then.
    files::take_number(bucket, life.identity.incarnation, life.identity.node).await?;
    Ok(life)
}

/// [`begin`] for a directory without a log.
async fn begin_fresh(
    bucket: &Bucket,
    request: Request<'_>,
    identity: Option<NodeIdentity>,
    peering: &mut impl Peering,
) -> Result<Life> {
    if !request.cluster.nodes.is_empty() {
        return cluster::begin(bucket, request, identity, peering).await;
    }
    let node = request.given_id();
    let life = match files::cluster(bucket).await? {
        None => {
            let identity = new_cluster(bucket, &request, identity, node.unwrap_or(SOLE_NODE)).await?;
            let start = alone(&identity, peering);
            Life::of_zero(identity, start)
        }
        Some(cluster) => match resumable(bucket, &request, identity, &cluster).await? {
            Resumable::First(identity) => {
                let start = alone(&identity, peering);
                Life::of_zero(identity, start)
            }
            Resumable::Next(identity, all) => resume(bucket, &request, identity, &all, peering).await?,
            Resumable::No(found) => next_life(bucket, &request, (&cluster, found), node, peering).await?,
        },
    };
    peering.open(&life.identity, true)?;
    Ok(life)
}

fn alone(identity: &NodeIdentity, peering: &impl Peering) -> Start {
    let member = crate::raft::Member { address: peering.address(identity.node), directory: identity.directory };
    Start::New([(identity.node, member)].into())
}

/// A directory with a log keeps its number.
fn check_given_id(request: &Request<'_>, identity: &NodeIdentity) -> Result<()> {
    match request.given_id() {
        Some(given) if given != identity.node => {
            let (dir, node) = (request.wal_dir.display(), identity.node);
            let message = format!(
                "the directory {dir} belongs to node {node}, and this is to be node {given}: start it as node {node}, or node \
                 {given} with an empty directory"
            );
            Err(Error::new(ErrorKind::Conflict, "node_identity_mismatch", message).with_number("node", node.0))
        }
        _ => Ok(()),
    }
}

/// Whether the bucket is this cluster's, if it answers soon: a start with a log does not wait for it. A node alone is not held
/// up at all, since its first flush goes where its settings say as ever.
async fn check_bucket(bucket: &Bucket, request: &Request<'_>, identity: &NodeIdentity) -> Result<()> {
    if request.cluster.nodes.is_empty() {
        return Ok(());
    }
    match tokio::time::timeout(BUCKET_PATIENCE, files::cluster(bucket)).await {
        Ok(Ok(Some(cluster))) => files::check_same(request, identity, &cluster),
        Ok(Ok(None)) => {
            warn!(cluster = %identity.cluster, "the bucket knows no cluster, and this directory has a log of one");
            Ok(())
        }
        Ok(Err(_)) | Err(_) => Ok(()),
    }
}

/// Waits until the bucket says which cluster it is of; if that is another one, why the process has to end.
pub(super) async fn watch_bucket(bucket: &Bucket, identity: &NodeIdentity) -> Option<String> {
    loop {
        match files::cluster(bucket).await {
            Ok(Some(cluster)) if cluster.cluster_id != identity.cluster => {
                let (ours, theirs) = (&identity.cluster, &cluster.cluster_id);
                return Some(format!("this node belongs to cluster {ours}, and the bucket to cluster {theirs}"));
            }
            Ok(_) => {
                // One that has its log since before numbers were noted. It is no more than a note.
                if identity.node != NodeId::GATEWAY
                    && let Err(error) = files::take_number(bucket, identity.incarnation, identity.node).await
                {
                    warn!(?error, "the bucket does not take down the number of this node");
                }
                return None;
            }
            Err(_) => tokio::time::sleep(BUCKET_PAUSE).await,
        }
    }
}

/// The cluster that the bucket says it is of.
pub(super) async fn cluster_of(bucket: &Bucket) -> Result<Option<String>> {
    Ok(files::cluster(bucket).await?.map(|cluster| cluster.cluster_id))
}

/// Why a node that was never taken in cannot be any more: the cluster was started anew from the bucket.
pub(super) async fn is_over(bucket: &Bucket, identity: &NodeIdentity) -> Option<String> {
    let incarnation = identity.incarnation;
    let over = files::is_replaced(bucket, incarnation).await.unwrap_or(false);
    over.then(|| {
        format!("the cluster was started anew from the bucket after incarnation {incarnation}: start this node again")
    })
}

/// Creates the cluster and its first incarnation.
async fn new_cluster(
    bucket: &Bucket,
    request: &Request<'_>,
    identity: Option<NodeIdentity>,
    node: NodeId,
) -> Result<NodeIdentity> {
    // Before anything is created, so that a refused start changes nothing; with `--restore` too, since there is nothing to start from.
    files::refuse_to_found_over(bucket).await?;
    let identity = identity.unwrap_or_else(|| NodeIdentity::new(Uuid::new_v4().to_string(), FIRST, node));
    identity.save(request.wal_dir)?;
    files::create_cluster(bucket, request, &identity).await?;
    info!(cluster = %identity.cluster, "a new cluster begins");
    files::create_incarnation(bucket, request, &identity, false).await?;
    Ok(identity)
}

/// Whether a start of this very directory broke off: it had decided, and only it may go on.
enum Resumable {
    /// While it created the first incarnation, which has nothing yet.
    First(NodeIdentity),
    /// After it had created an incarnation that has no checkpoint yet; the checkpoints of those before.
    Next(NodeIdentity, Vec<CheckpointRef>),
    /// No; what the bucket has.
    No(Found),
}

/// The lives that the bucket knows.
struct Found {
    newest: Option<Incarnation>,
    checkpoints: Vec<CheckpointRef>,
}

async fn resumable(
    bucket: &Bucket,
    request: &Request<'_>,
    identity: Option<NodeIdentity>,
    cluster: &ClusterFile,
) -> Result<Resumable> {
    if let Some(identity) = &identity {
        files::check_same(request, identity, cluster)?;
    }
    let newest = checkpoints::incarnations(bucket).await?.last().copied();
    let all = checkpoints::list(bucket, CATALOG_SHARD).await?;
    if let Some(identity) = identity.filter(|identity| newest.is_none_or(|newest| identity.incarnation >= newest)) {
        let untouched = all.iter().all(|checkpoint| checkpoint.incarnation < identity.incarnation);
        // With checkpoints, what says which lives there were is lost.
        if untouched && newest.is_none() && all.is_empty() {
            files::refuse_to_begin_first_over(bucket).await?;
            files::create_incarnation(bucket, request, &identity, false).await?;
            return Ok(Resumable::First(identity));
        }
        if untouched && files::owns(bucket, &identity).await? {
            return Ok(Resumable::Next(identity, all));
        }
    }
    Ok(Resumable::No(Found { newest, checkpoints: all }))
}

/// Goes on with an incarnation that this directory created and that has no checkpoint yet.
async fn resume(
    bucket: &Bucket,
    request: &Request<'_>,
    identity: NodeIdentity,
    all: &[CheckpointRef],
    peering: &impl Peering,
) -> Result<Life> {
    info!(incarnation = identity.incarnation.0, "a start that broke off goes on");
    // It exists; that it is durable only the call says that creates it, and that one broke off.
    files::create_incarnation(bucket, request, &identity, request.restore).await?;
    let found = Restorable::find(bucket, all, identity.incarnation).await?;
    found.check_nothing_is_begun_over(bucket, Some(identity.incarnation)).await?;
    Ok(found.into_life(identity, peering))
}

async fn next_life(
    bucket: &Bucket,
    request: &Request<'_>,
    (cluster, found): (&ClusterFile, Found),
    node: Option<NodeId>,
    peering: &impl Peering,
) -> Result<Life> {
    let Found { newest, checkpoints: all } = found;
    // Asked before anything is created, so that a refused start changes nothing.
    let before = Restorable::find(bucket, &all, AFTER_ALL).await?;
    before.check_nothing_is_begun_over(bucket, newest).await?;
    before.check_clean(newest, request.restore)?;
    drop(before);
    // Above the checkpoints too: if the objects of the lives are lost, a lower life's checkpoints would never be the newest.
    let known = newest.max(all.iter().map(|reference| reference.incarnation).max());
    let next = Incarnation(known.map_or(FIRST.0, |known| known.0 + 1));
    // Only one node starts a shard from the bucket; ids are never reused within a life, and each life begins anew.
    let node = node.unwrap_or(NodeId(next.0));
    let identity = NodeIdentity::new(cluster.cluster_id.clone(), next, node);
    identity.save(request.wal_dir)?;
    files::create_incarnation(bucket, request, &identity, request.restore).await?;
    // The older life may have written until now: what counts is what is there after its end.
    let found = Restorable::find(bucket, &checkpoints::list(bucket, CATALOG_SHARD).await?, AFTER_ALL).await?;
    found.check_nothing_is_begun_over(bucket, Some(next)).await?;
    found.check_clean(newest, request.restore)?;
    Ok(found.into_life(identity, peering))
}
