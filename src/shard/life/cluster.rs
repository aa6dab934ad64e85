//! An empty directory of a cluster of several nodes.
//!
//! The node with the smallest number of `cluster.nodes` founds the cluster: it creates it on the bucket, waits until every
//! other one has told its directory, and begins the group with exactly these. The others wait for that. Whoever finds
//! that the members know its number with another directory lost its log, and is refused; the founder therefore asks
//! before it believes that a cluster it knows nothing of has no members left.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;
use tracing::info;

use super::super::hello::{self, Hello};
use super::files::{self, ClusterFile};
use super::{Life, Peering, Request, Resumable, alone, new_cluster, next_life, resumable, resume};
use crate::checkpoints;
use crate::config::{ClusterNode, NodeChoice};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Incarnation, NodeId};
use crate::raft::{Member, NodeIdentity, Start};
use crate::store::{Bucket, Created};

/// Between two looks at the bucket or rounds of greetings.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 250 });
/// Between two lines that say what is waited for.
const REPORT: Duration = Duration::from_secs(5);
/// How long a node asks the others whether they know its number before it opens and goes on asking beside its work, and a
/// founder that lost its log before it believes that nobody is left.
const ASK: Duration = Duration::from_millis(if cfg!(test) { 500 } else { 5_000 });

/// See [`super::begin`], for a directory without a log; `identity` if it has its place already and was never open.
pub(super) async fn begin(
    bucket: &Bucket,
    request: Request<'_>,
    identity: Option<NodeIdentity>,
    peering: &mut impl Peering,
) -> Result<Life> {
    let identity = match identity {
        Some(identity) if is_passed_over(&request, &identity, peering).await => None,
        identity => identity,
    };
    let known = identity.as_ref().map(|identity| identity.node);
    let me = match request.given_id().or(known) {
        Some(me) => me,
        None => next_id(bucket, &request, peering).await?,
    };
    let founder = request.cluster.nodes.iter().map(|node| node.id).min();
    let life = if founder == Some(me.0) {
        found_or_return(bucket, &request, me, identity, peering).await?
    } else {
        join(bucket, &request, me, identity, peering).await?
    };
    info!(node = %life.identity.node, incarnation = %life.identity.incarnation, "this node has its place in the cluster");
    Ok(life)
}

/// The founder's way.
async fn found_or_return(
    bucket: &Bucket,
    request: &Request<'_>,
    me: NodeId,
    identity: Option<NodeIdentity>,
    peering: &mut impl Peering,
) -> Result<Life> {
    let Some(cluster) = files::cluster(bucket).await? else {
        let identity = new_cluster(bucket, request, identity, me).await?;
        return found(request, identity, peering).await;
    };
    let found = match resumable(bucket, request, identity, &cluster).await? {
        Resumable::First(identity) => return found(request, identity, peering).await,
        Resumable::Next(identity, all) if all.is_empty() && identity.incarnation == super::FIRST => {
            return found(request, identity, peering).await;
        }
        Resumable::Next(identity, all) => {
            let life = resume(bucket, request, identity, &all, peering).await?;
            peering.open(&life.identity, true)?;
            return Ok(life);
        }
        Resumable::No(found) => found,
    };
    // The cluster is there and this directory is not of it: either this node lost its log, or all did.
    let newest = found.newest.unwrap_or(super::FIRST);
    let identity = NodeIdentity::new(cluster.cluster_id.clone(), newest, me);
    if somebody_is_left(request, &identity, peering).await? {
        return admit(request, identity, peering).await;
    }
    let life = next_life(bucket, request, (&cluster, found), Some(me), peering).await?;
    peering.open(&life.identity, true)?;
    Ok(life)
}

/// Whether one of the other nodes has a log; an error if they know this number with another directory.
async fn somebody_is_left(request: &Request<'_>, identity: &NodeIdentity, peering: &impl Peering) -> Result<bool> {
    let (until, mut report) = (Instant::now() + ASK, Report::default());
    loop {
        let round = greet(request, identity, peering).await;
        refuse_if_wiped(&round, identity, peering)?;
        if round.answers.iter().any(|hello| !hello.empty) {
            return Ok(true);
        }
        if round.silent.is_empty() || Instant::now() >= until {
            return Ok(false);
        }
        report.now_and_then(|| {
            format!("asking the other nodes whether they still have the cluster: {}", round.missing())
        });
        tokio::time::sleep(PAUSE).await;
    }
}

/// Begins the group with all first nodes, once each of them has told its directory.
async fn found(request: &Request<'_>, identity: NodeIdentity, peering: &mut impl Peering) -> Result<Life> {
    peering.open(&identity, true)?;
    let mut report = Report::default();
    let answers = loop {
        let round = greet(request, &identity, peering).await;
        refuse_if_wiped(&round, &identity, peering)?;
        if let Some(other) = round.answers.iter().find(|hello| !hello.empty) {
            let message = format!(
                "node {} has the log of a cluster already, and node {}, which is to begin it, has none: its log is lost",
                other.node, identity.node
            );
            return Err(Error::new(ErrorKind::Conflict, "node_identity_mismatch", message));
        }
        if round.silent.is_empty() {
            break round.answers;
        }
        report.now_and_then(|| format!("waiting for the other nodes to begin the cluster: {}", round.missing()));
        tokio::time::sleep(PAUSE).await;
    };
    if answers.is_empty() {
        let start = alone(&identity, peering);
        return Ok(Life::of_zero(identity, start));
    }
    let mut members = BTreeMap::new();
    members.insert(identity.node, Member { address: peering.address(identity.node), directory: identity.directory });
    for node in request.others(identity.node) {
        let told = answers.iter().find(|hello| hello.node.0 == node.id);
        let told = told.ok_or_else(|| Error::internal("a node that answered is not among the answers"))?;
        members.insert(told.node, Member { address: node.address.clone(), directory: told.directory });
    }
    info!(nodes = members.len(), "the cluster begins");
    Ok(Life::of_zero(identity, Start::New(members)))
}

/// The way of all others: the cluster is there or will be.
async fn join(
    bucket: &Bucket,
    request: &Request<'_>,
    me: NodeId,
    identity: Option<NodeIdentity>,
    peering: &mut impl Peering,
) -> Result<Life> {
    let (cluster, newest) = wait_for_cluster(bucket).await?;
    if let Some(identity) = &identity {
        files::check_same(request, identity, &cluster)?;
    }
    // A directory that was never taken in may join whatever life is there now.
    let identity = identity.filter(|identity| identity.incarnation == newest && identity.node == me);
    let identity = identity.unwrap_or_else(|| NodeIdentity::new(cluster.cluster_id.clone(), newest, me));
    admit(request, identity, peering).await
}

/// Answers the others from now on, and is taken in by them later; refused if they know this number with another directory.
async fn admit(request: &Request<'_>, identity: NodeIdentity, peering: &mut impl Peering) -> Result<Life> {
    let until = Instant::now() + ASK;
    let mut round = greet(request, &identity, peering).await;
    // First of all, so that a directory that is refused can begin under another number.
    refuse_if_wiped(&round, &identity, peering)?;
    identity.save(request.wal_dir)?;
    peering.open(&identity, true)?;
    loop {
        let decided = round.silent.is_empty() || round.answers.iter().any(|hello| !hello.members.is_empty());
        if decided || Instant::now() >= until {
            return Ok(Life::of_zero(identity, Start::Join));
        }
        tokio::time::sleep(PAUSE).await;
        round = greet(request, &identity, peering).await;
        refuse_if_wiped(&round, &identity, peering)?;
    }
}

/// Waits until the founder has created the cluster and its incarnation.
async fn wait_for_cluster(bucket: &Bucket) -> Result<(ClusterFile, Incarnation)> {
    let mut report = Report::default();
    loop {
        if let Some(cluster) = files::cluster(bucket).await?
            && let Some(newest) = checkpoints::incarnations(bucket).await?.last()
        {
            return Ok((cluster, *newest));
        }
        report.now_and_then(|| "waiting for the node with the smallest number to create the cluster".to_owned());
        tokio::time::sleep(PAUSE).await;
    }
}

/// One above all numbers that the others know and that any node ever had, for `--node-id auto`.
async fn next_id(bucket: &Bucket, request: &Request<'_>, peering: &impl Peering) -> Result<NodeId> {
    debug_assert_eq!(request.cluster.node_id, Some(NodeChoice::Auto));
    let mut report = Report::default();
    loop {
        let (cluster, newest) = wait_for_cluster(bucket).await?;
        // It has no number yet: 0 is nobody's.
        let nobody = NodeIdentity::new(cluster.cluster_id, newest, NodeId(0));
        let round = greet(request, &nobody, peering).await;
        let taken = |hello: &Hello| hello.members.iter().map(|member| member.node.0).chain([hello.node.0]).max();
        if round.answers.iter().any(|hello| !hello.members.is_empty()) {
            let named = request.cluster.nodes.iter().map(|node| node.id);
            // Also of nodes that were taken out since.
            let ever = files::highest_number(bucket, newest).await?;
            let highest = round.answers.iter().filter_map(taken).chain(named).chain([ever]).max().unwrap_or(0);
            let number = NodeId(highest + 1);
            if files::take_number(bucket, newest, number).await? == Created::New {
                return Ok(number);
            }
        }
        report.now_and_then(|| "asking the other nodes for the next free number".to_owned());
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether the number that this directory took by `--node-id auto` went to another one that began at the same time: it has another
/// one then, which it may, since it was never taken in.
async fn is_passed_over(request: &Request<'_>, identity: &NodeIdentity, peering: &impl Peering) -> bool {
    let round = match request.cluster.node_id {
        Some(NodeChoice::Auto) => greet(request, identity, peering).await,
        Some(NodeChoice::Id(_)) | None => return false,
    };
    round.answers.iter().any(|hello| hello.knows_other(identity.node, identity.directory))
}

/// What the others said.
struct Round {
    answers: Vec<Hello>,
    /// Who did not answer, and why.
    silent: Vec<(u64, Error)>,
}

impl Round {
    fn missing(&self) -> String {
        let each = self.silent.iter().map(|(node, error)| format!("node {node} ({error})"));
        each.collect::<Vec<_>>().join(", ")
    }
}

async fn greet(request: &Request<'_>, identity: &NodeIdentity, peering: &impl Peering) -> Round {
    let nodes: Vec<&ClusterNode> = request.others(identity.node).collect();
    let answers = join_all(nodes.iter().map(|node| peering.hello(identity, node))).await;
    let mut round = Round { answers: Vec::new(), silent: Vec::new() };
    for (node, answer) in nodes.iter().zip(answers) {
        match answer {
            Ok(hello) => round.answers.push(hello),
            Err(error) => round.silent.push((node.id, error)),
        }
    }
    round
}

fn refuse_if_wiped(round: &Round, identity: &NodeIdentity, peering: &impl Peering) -> Result<()> {
    if round.answers.iter().any(|hello| hello.knows_other(identity.node, identity.directory)) {
        return Err(hello::wiped(identity.node, &peering.address(identity.node)));
    }
    Ok(())
}

/// Says what is waited for, now and then.
#[derive(Default)]
struct Report {
    last: Option<Instant>,
}

impl Report {
    fn now_and_then(&mut self, what: impl FnOnce() -> String) {
        // Not at once: usually it is there a moment later.
        let due = self.last.get_or_insert_with(Instant::now);
        if due.elapsed() >= REPORT {
            *due = Instant::now();
            info!("{}", what());
        }
    }
}
