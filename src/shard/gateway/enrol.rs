//! How a gateway finds its cluster: it asks the nodes that it was told of, any of which knows the others.
//!
//! It knows no cluster at first and says so; whoever is called by one refuses, and says of which cluster and which life of it
//! itself is. With that the gateway calls again and asks for the members.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use tokio::time::Instant;
use tracing::{debug, info};

use super::super::hello::{Hello, Known};
use super::super::life;
use super::super::network::Calls;
use super::calls_of;
use crate::config::{ClusterNode, Config};
use crate::error::{Detail, Error, ErrorKind, Result};
use crate::model::{Incarnation, NodeId};
use crate::peer::Wire;
use crate::raft::{NodeIdentity, Seeds, Voter};
use crate::store::Bucket;

/// Between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(250);
/// Between two lines that say what is waited for.
const REPORT: Duration = Duration::from_secs(5);
/// How long the bucket is waited for to say which cluster it is of; later a task of the gateway finds out.
const BUCKET_PATIENCE: Duration = Duration::from_secs(1);

/// The place of a gateway beside the cluster.
pub(super) struct Enrolled {
    pub(super) identity: NodeIdentity,
    pub(super) calls: Calls,
    pub(super) members: Vec<Voter>,
}

/// Asks until a node of the cluster says who its members are.
///
/// # Errors
/// `cluster_mismatch` if the nodes, or they and the bucket, are not of one cluster.
pub(super) async fn enrol((config, wire): (&Config, Option<&Arc<dyn Wire>>), bucket: &Bucket) -> Result<Enrolled> {
    let nobody = NodeIdentity::new(String::new(), Incarnation(0), NodeId::GATEWAY);
    let stranger = calls_of(&nobody, (config, wire))?;
    let nodes = &config.cluster.nodes;
    let mut reported = Instant::now();
    loop {
        if let Some((cluster, incarnation)) = newest(&stranger, nodes).await? {
            check_bucket(bucket, &cluster).await?;
            let mut identity = nobody.clone();
            (identity.cluster, identity.incarnation) = (cluster, incarnation);
            let calls = calls_of(&identity, (config, wire))?;
            if let Ok(members) = members(&calls, nodes).await {
                info!(cluster = %identity.cluster, %incarnation, members = members.len(), "the cluster was found");
                return Ok(Enrolled { identity, calls, members });
            }
        }
        if reported.elapsed() >= REPORT {
            reported = Instant::now();
            let asked: Vec<&str> = nodes.iter().map(|node| node.address.as_str()).collect();
            info!(asked = asked.join(", "), "waiting for a node of the cluster that says who its members are");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The cluster of the nodes that answer, and the newest life of it that one of them is in.
async fn newest(stranger: &Calls, nodes: &[ClusterNode]) -> Result<Option<(String, Incarnation)>> {
    let answers = join_all(nodes.iter().map(|node| stranger.hello(NodeId(node.id), &node.address))).await;
    let refusals: Vec<Error> = answers.into_iter().filter_map(Result::err).collect();
    let known: BTreeSet<(String, Incarnation)> = refusals.iter().filter_map(named).collect();
    if let Some((cluster, _)) = known.first()
        && let Some((other, _)) = known.iter().find(|(other, _)| other != cluster)
    {
        return Err(mismatch(format!("the nodes of cluster.nodes are of two clusters, {cluster} and {other}")));
    }
    Ok(known.into_iter().max_by_key(|(_, incarnation)| *incarnation))
}

/// The cluster and the life of it that a refusal names.
fn named(refusal: &Error) -> Option<(String, Incarnation)> {
    if refusal.code() != "cluster_mismatch" {
        debug!(?refusal, "a node cannot be asked which cluster it is of");
        return None;
    }
    let find = |wanted: &str| refusal.details().iter().find(|(name, _)| *name == wanted).map(|(_, detail)| detail);
    match (find("cluster")?, find("incarnation")?) {
        (Detail::Text(cluster), Detail::Number(incarnation)) => Some((cluster.clone(), Incarnation(*incarnation))),
        _ => None,
    }
}

async fn check_bucket(bucket: &Bucket, cluster: &str) -> Result<()> {
    match tokio::time::timeout(BUCKET_PATIENCE, life::cluster_of(bucket)).await {
        Ok(Ok(Some(theirs))) if theirs != cluster => {
            Err(mismatch(format!("the nodes are of cluster {cluster}, and the bucket of cluster {theirs}")))
        }
        _ => Ok(()),
    }
}

fn mismatch(message: String) -> Error {
    Error::new(ErrorKind::Conflict, "cluster_mismatch", message)
}

/// The members as the first of `nodes` says that knows any.
async fn members(calls: &Calls, nodes: &[ClusterNode]) -> Result<Vec<Voter>> {
    let answers = join_all(nodes.iter().map(|node| calls.hello(NodeId(node.id), &node.address))).await;
    let mut last = Error::unavailable("no node knows the members of the cluster");
    for answer in answers {
        match answer {
            Ok(Hello { members, .. }) if !members.is_empty() => return Ok(members.into_iter().map(voter).collect()),
            Ok(_) => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Whether it votes the node itself says once it is followed.
fn voter(known: Known) -> Voter {
    Voter { node: known.node, directory: known.directory, address: known.address, voter: true }
}

/// The nodes that this process was told of.
pub(super) struct Told {
    calls: Calls,
    nodes: Arc<[ClusterNode]>,
}

impl Told {
    pub(super) fn new(calls: Calls, nodes: Vec<ClusterNode>) -> Self {
        Self { calls, nodes: nodes.into() }
    }
}

impl Seeds for Told {
    fn members(&self) -> BoxFuture<'static, Result<Vec<Voter>>> {
        let (calls, nodes) = (self.calls.clone(), Arc::clone(&self.nodes));
        async move { members(&calls, &nodes).await }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_cluster_and_nothing_else_does() {
        let refusal =
            mismatch("another one".to_owned()).with_number("incarnation", 3).with_text("cluster", "c".to_owned());
        assert_eq!(named(&refusal), Some(("c".to_owned(), Incarnation(3))));
        assert_eq!(named(&mismatch("no details".to_owned())), None);
        assert_eq!(named(&Error::unavailable("away").with_number("incarnation", 3)), None);
    }
}
