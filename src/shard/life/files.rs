//! The kinds of objects that are created only if absent: `cluster.json` and `incarnations/{n:010}.json` (`checkpoints/lives.rs`),
//! `nodes/{incarnation:010}-{node:010}.json` for each number that a node of that life has or had, and
//! `groups/{incarnation:010}-{shard:05}.json` for the members with which a shard begins.

use std::collections::BTreeMap;

use futures::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Request;
use crate::checkpoints;
use crate::checkpoints::lives::{self, FORMAT, IncarnationFile, create, read};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint;
use crate::model::catalog::CATALOG_SHARD;
use crate::model::{Incarnation, NodeId, ShardId};
use crate::raft::{Member, NodeIdentity};
use crate::store::keys::{self, Key};
use crate::store::{Bucket, Created};

pub(super) use crate::checkpoints::lives::{ClusterFile, cluster};

/// What `nodes/{incarnation:010}-{node:010}.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct NodeFile {
    format: u32,
    node: u64,
    /// Of this attempt to take the number: two at the same time do not write the same.
    attempt: Uuid,
}

/// What `groups/{incarnation:010}-{shard:05}.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct GroupFile {
    format: u32,
    shard: u32,
    members: Vec<FirstMember>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FirstMember {
    node: u64,
    directory: Uuid,
    address: String,
}

/// Creates `cluster.json` for the cluster of `identity`.
pub(super) async fn create_cluster(bucket: &Bucket, request: &Request<'_>, identity: &NodeIdentity) -> Result<()> {
    match lives::create_cluster(bucket, &ClusterFile::new(identity.cluster.clone(), request.now)).await? {
        Created::New => Ok(()),
        Created::Exists => Err(lost_race()),
    }
}

/// Refuses to found a cluster where another one's objects are: to the new one they would be garbage, and it would delete them.
/// A founding that broke off has left none before `cluster.json`.
pub(super) async fn refuse_to_found_over(bucket: &Bucket) -> Result<()> {
    let Some(key) = first_of(bucket, &[keys::INCARNATIONS, keys::SHARDS, keys::ARCHIVE], |_| true).await? else {
        return Ok(());
    };
    // Another founder, or a restore, may have begun since this one looked.
    if cluster(bucket).await?.is_some() {
        return Err(lost_race());
    }
    Err(rebuild_needed(bucket, "cluster.json is not there", &key))
}

/// Refuses to begin a life of a cluster of whose lives nothing is known where it has written anything.
pub(super) async fn refuse_to_begin_first_over(bucket: &Bucket) -> Result<()> {
    let Some(key) = first_of(bucket, &[keys::SHARDS, keys::ARCHIVE], |_| true).await? else { return Ok(()) };
    // Another start may have begun it since this one looked.
    if !checkpoints::incarnations(bucket).await?.is_empty() {
        return Err(lost_race());
    }
    Err(rebuild_needed(bucket, "neither its lives nor a usable checkpoint are there", &key))
}

/// Refuses to begin a life in which `shard`, of which there is no usable checkpoint, would be empty, where it has records. For
/// the catalog's shard those of any shard count: it alone says which shards there are. Lists the whole archive if there are none.
pub(super) async fn refuse_to_begin_empty_over(bucket: &Bucket, shard: ShardId) -> Result<()> {
    let is_catalog = shard == CATALOG_SHARD;
    // A first life that ended before its first flush may have left index parts, of which a start makes nothing.
    let counts =
        |key: &Key| matches!(key, Key::Segment(..) | Key::Archive(_)) && (is_catalog || key.shard() == Some(shard));
    let segments = if is_catalog { keys::SHARDS.to_owned() } else { keys::segments_of(shard) };
    let Some(key) = first_of(bucket, &[&segments, keys::ARCHIVE], counts).await? else { return Ok(()) };
    let lost = if is_catalog {
        "a usable checkpoint of its topics is not there".to_owned()
    } else {
        format!("a usable checkpoint of shard {shard} is not there")
    };
    Err(rebuild_needed(bucket, &lost, &key))
}

/// The key of any of our objects under one of these prefixes that counts. Others' are no business of ours: nothing deletes them.
async fn first_of(bucket: &Bucket, prefixes: &[&str], counts: impl Fn(&Key) -> bool) -> Result<Option<String>> {
    for prefix in prefixes {
        let mut objects = bucket.list(prefix);
        while let Some(object) = objects.try_next().await? {
            if Key::parse(&object.key).is_some_and(|key| counts(&key)) {
                return Ok(Some(object.key));
            }
        }
    }
    Ok(None)
}

fn rebuild_needed(bucket: &Bucket, lost: &str, key: &str) -> Error {
    let url = bucket.url();
    let message = format!(
        "{url} holds objects of a cluster, such as {key}, but {lost}: a cluster that began here anew would delete them. If a node \
         of it still has its data directory, start that one; otherwise `tidelog rebuild --bucket {url}` makes a bucket of them \
         that a node starts from. A new cluster needs a place of its own"
    );
    Error::new(ErrorKind::Conflict, "rebuild_needed", message)
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

/// With which members `shard` begins in `incarnation`, if that was decided.
pub(in crate::shard) async fn group(
    bucket: &Bucket,
    incarnation: Incarnation,
    shard: ShardId,
) -> Result<Option<BTreeMap<NodeId, Member>>> {
    let file: Option<GroupFile> = read(bucket, &Key::Group(incarnation, shard)).await?;
    let member =
        |first: FirstMember| (NodeId(first.node), Member { address: first.address, directory: first.directory });
    Ok(file.map(|file| file.members.into_iter().map(member).collect()))
}

/// Decides that `shard` begins with `members`, unless that was decided; with which it begins.
pub(in crate::shard) async fn begin_group(
    bucket: &Bucket,
    incarnation: Incarnation,
    shard: ShardId,
    members: BTreeMap<NodeId, Member>,
) -> Result<BTreeMap<NodeId, Member>> {
    let first = |(node, member): (&NodeId, &Member)| FirstMember {
        node: node.0,
        directory: member.directory,
        address: member.address.clone(),
    };
    let file = GroupFile { format: FORMAT, shard: shard.0, members: members.iter().map(first).collect() };
    let key = Key::Group(incarnation, shard);
    let created = create(bucket, &key, &file).await?;
    failpoint::hit_async("shard.decided").await?;
    match created {
        Created::New => Ok(members),
        Created::Exists => {
            let decided = group(bucket, incarnation, shard).await?;
            decided.ok_or_else(|| Error::internal(format!("{key} is there and cannot be found")))
        }
    }
}

/// Takes a number that a node of `incarnation` is to have, if nobody has ever had it.
pub(super) async fn take_number(bucket: &Bucket, incarnation: Incarnation, node: NodeId) -> Result<Created> {
    let file = NodeFile { format: FORMAT, node: node.0, attempt: Uuid::new_v4() };
    let created = create(bucket, &Key::Node(incarnation, node), &file).await?;
    failpoint::hit_async("node.numbered").await?;
    Ok(created)
}

/// The highest number that was taken in `incarnation`; 0 if none was.
pub(super) async fn highest_number(bucket: &Bucket, incarnation: Incarnation) -> Result<u64> {
    let (mut highest, mut listing) = (0, bucket.list(keys::NODES));
    while let Some(object) = listing.try_next().await? {
        match Key::parse(&object.key) {
            Some(Key::Node(of, node)) if of == incarnation => highest = highest.max(node.0),
            _ => {}
        }
    }
    Ok(highest)
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
