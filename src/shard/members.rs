//! The nodes of the cluster and what operators change about them.
//!
//! Any node takes a request; the leader does it. Everything may be repeated: what is done already is found so. A node is taken
//! in as a learner first and votes once it has caught up, and no voter goes unless enough of the others answer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::admin::{self, ADMIN, Request};
use super::hello::Hello;
use super::network::Calls;
use crate::config::is_host_and_port;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::model::{ClusterStatus, LogIndex, MemberStatus, NodeId};
use crate::peer::CallError;
use crate::raft::{self, MAX_VOTERS, Member, NodeIdentity, PeerAddress, RaftNode};

/// How long a request looks for a leader that takes it.
const LEADER_PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts to find one.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a node that is to be taken in is asked who it is.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);
/// How long a request for the members waits for the leader before this node says what it knows itself.
const STATUS_DEADLINE: Duration = Duration::from_secs(2);
/// How long one request waits for a node to catch up; whoever asked may ask again.
const CATCH_UP: Duration = Duration::from_secs(60);
/// How long the leader may take for a request of another node: catching up, and a change of the group before and after.
const FORWARD_DEADLINE: Duration = Duration::from_secs(150);
/// How far behind a learner may be when it begins to vote: what it lacks is sent within the time of an election.
const VOTER_LAG: LogIndex = 100;
/// A member that answered within this counts as reachable; the leader asks every three seconds.
const REACHABLE: Duration = Duration::from_secs(8);

/// See the module; clones share it.
#[derive(Clone)]
pub(super) struct Members(Arc<Inner>);

struct Inner {
    node: RaftNode,
    identity: NodeIdentity,
    /// Where the others reach this node; empty if they cannot.
    address: String,
    /// None without a peer listener.
    calls: Option<Calls>,
    /// Held from reading who votes to setting it.
    changing: Mutex<()>,
}

impl Members {
    /// The members of the group of `node`.
    pub(super) fn new(node: RaftNode, identity: NodeIdentity, address: String, calls: Option<Calls>) -> Self {
        Self(Arc::new(Inner { node, identity, address, calls, changing: Mutex::new(()) }))
    }

    /// The members as this node knows them.
    pub(super) fn known(&self) -> ClusterStatus {
        self.0.known()
    }

    /// Where the leader is, if it is another node and known.
    pub(super) fn leader(&self) -> Option<PeerAddress> {
        self.0.leader()
    }

    /// Where the others reach this node; empty if they cannot.
    pub(super) fn address(&self) -> &str {
        &self.0.address
    }

    /// The other members.
    pub(super) fn others(&self) -> Vec<PeerAddress> {
        let members = self.0.node.members().into_iter().filter(|member| member.node != self.0.identity.node);
        let address = |member: raft::MemberStatus| PeerAddress {
            node: member.node,
            directory: member.directory,
            address: member.address,
        };
        members.map(address).collect()
    }

    /// Calls to peers, if there are any.
    pub(super) fn calls(&self) -> Option<&Calls> {
        self.0.calls.as_ref()
    }

    /// Has the leader do what is asked for, whichever node that is.
    ///
    /// # Errors
    /// What the leader says; `unavailable` if there is none.
    pub(super) async fn run(&self, request: Request) -> Result<ClusterStatus> {
        let mut status = match request {
            Request::Status => self.ask_status().await,
            request => self.ask_change(&request).await?,
        };
        status.node = self.0.identity.node;
        Ok(status)
    }

    async fn ask_status(&self) -> ClusterStatus {
        let Some(leader) = self.leader() else { return self.known() };
        match self.0.forward(&leader, &Request::Status, STATUS_DEADLINE).await {
            Ok(status) => status,
            Err(error) => {
                tracing::debug!(?error, "the leader does not say who the members are");
                self.known()
            }
        }
    }

    async fn ask_change(&self, request: &Request) -> Result<ClusterStatus> {
        let deadline = Instant::now() + LEADER_PATIENCE;
        loop {
            let error = match self.leader() {
                Some(leader) => match self.0.forward(&leader, request, FORWARD_DEADLINE).await {
                    Ok(status) => return Ok(status),
                    // It may have happened; all requests may be repeated, but not for longer than one takes.
                    Err(CallError::Unknown(error)) => return Err(error.with_outcome(Outcome::Unknown)),
                    Err(CallError::Answered(error)) if error.kind() != ErrorKind::NotLeader => return Err(error),
                    Err(CallError::NotSent(error) | CallError::Answered(error)) => error,
                },
                None => match self.run_here(request.clone()).await {
                    Err(error) if error.kind() == ErrorKind::NotLeader => error,
                    done => return done,
                },
            };
            if Instant::now() + PAUSE >= deadline {
                return Err(match error.kind() {
                    ErrorKind::NotLeader => Error::unavailable("the cluster has no leader").with_source(error),
                    _ => error,
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Does what is asked for if this node leads. What was begun goes on when the caller goes away.
    ///
    /// # Errors
    /// `not_leader`; see the methods of [`crate::queue::Queue`].
    pub(super) async fn run_here(&self, request: Request) -> Result<ClusterStatus> {
        if request == Request::Status {
            return Ok(self.known());
        }
        let inner = Arc::clone(&self.0);
        let work = tokio::spawn(async move { inner.change(request).await.map(|()| inner.known()) });
        work.await.map_err(|error| Error::internal("a change of the cluster panicked").with_source(error))?
    }
}

impl Inner {
    async fn forward(
        &self,
        leader: &PeerAddress,
        request: &Request,
        deadline: Duration,
    ) -> Result<ClusterStatus, CallError> {
        let calls = self.calls.as_ref().ok_or_else(|| CallError::NotSent(alone("it reaches no other node")))?;
        let body = request.encode().map_err(CallError::NotSent)?;
        let answer = calls.call(leader, ADMIN, body, deadline).await?;
        admin::decode_status(&answer).map_err(CallError::Unknown)
    }

    fn leader(&self) -> Option<PeerAddress> {
        let leader = self.node.leadership().borrow().leader.filter(|leader| *leader != self.identity.node)?;
        let member = self.node.members().into_iter().find(|member| member.node == leader)?;
        Some(PeerAddress { node: member.node, directory: member.directory, address: member.address })
    }

    fn known(&self) -> ClusterStatus {
        let leadership = *self.node.leadership().borrow();
        let last = self.node.status().last_log;
        let leads = leadership.leader == Some(self.identity.node);
        let reports = self.node.peer_reports();
        let reachable = |node: NodeId| {
            node == self.identity.node || reports.get(&node).is_some_and(|report| report.at.elapsed() < REACHABLE)
        };
        let member = |member: raft::MemberStatus| MemberStatus {
            node: member.node,
            address: member.address,
            directory: member.directory,
            voter: member.voter,
            is_leader: leadership.leader == Some(member.node),
            matched: member.matched,
            lag: member.matched.map(|matched| last.saturating_sub(matched)),
            reachable: leads.then(|| reachable(member.node)),
        };
        ClusterStatus {
            cluster_id: self.identity.cluster.clone(),
            node: self.identity.node,
            leader: leadership.leader,
            term: leadership.term,
            members: self.node.members().into_iter().map(member).collect(),
        }
    }

    async fn change(&self, request: Request) -> Result<()> {
        let leadership = *self.node.leadership().borrow();
        if !leadership.is_leader {
            return Err(not_leader());
        }
        match request {
            Request::Status => Ok(()),
            Request::Add { node, address } => self.add(node, address).await,
            Request::Remove { node } => self.remove(node).await,
            Request::Replace { old, new, address } => self.replace(old, new, address).await,
            Request::Transfer { to } => self.transfer(to).await,
            Request::Moved { node, address } => self.moved(node, address).await,
        }
    }

    async fn add(&self, node: NodeId, address: String) -> Result<()> {
        self.check_room(node, None)?;
        self.take_in(node, address).await?;
        let _one_at_a_time = self.changing.lock().await;
        let mut voters = self.voters();
        voters.insert(node);
        self.set_voters(voters).await
    }

    async fn remove(&self, node: NodeId) -> Result<()> {
        let Some(member) = self.member(node) else { return Ok(()) };
        if !member.voter {
            return self.node.remove_learner(node).await;
        }
        let mut voters = self.voters();
        voters.remove(&node);
        if voters.is_empty() {
            return Err(invalid(&format!("node {node} is the last voter: without it there is no cluster")));
        }
        self.hand_over(node).await?;
        let _one_at_a_time = self.changing.lock().await;
        let mut voters = self.voters();
        voters.remove(&node);
        self.set_voters(voters).await
    }

    async fn replace(&self, old: NodeId, new: NodeId, address: String) -> Result<()> {
        if old == new {
            return Err(invalid_node("a node is replaced by one with another number"));
        }
        let (leaves, comes) = (self.member(old), self.member(new));
        match (&leaves, &comes) {
            (None, Some(comes)) if comes.voter => return Ok(()),
            (None, _) => {
                let message = format!("node {old} is not a member of the cluster");
                return Err(Error::new(ErrorKind::NotFound, "node_not_found", message).with_number("node", old.0));
            }
            _ => {}
        }
        self.check_room(new, Some(old))?;
        self.hand_over(old).await?;
        self.take_in(new, address).await?;
        let _one_at_a_time = self.changing.lock().await;
        let mut voters = self.voters();
        voters.remove(&old);
        voters.insert(new);
        self.set_voters(voters).await?;
        // A voter that was replaced has left with that; a learner has not.
        self.node.remove_learner(old).await
    }

    async fn transfer(&self, to: Option<NodeId>) -> Result<()> {
        let me = self.identity.node;
        let others = || self.node.members().into_iter().filter(|member| member.voter && member.node != me);
        let to = match to {
            Some(to) if to == me => return Ok(()),
            Some(to) if others().any(|member| member.node == to) => to,
            Some(to) => return Err(invalid(&format!("node {to} does not vote, so it cannot lead"))),
            // Whoever has most of the log can take over soonest.
            None => match others().max_by_key(|member| member.matched) {
                Some(furthest) => furthest.node,
                None => return Ok(()),
            },
        };
        self.node.transfer_leader(to).await.map_err(in_time)
    }

    async fn moved(&self, node: NodeId, address: String) -> Result<()> {
        check_named(node, &address)?;
        let Some(member) = self.member(node) else { return Ok(()) };
        tracing::info!(%node, address, "a node has another address");
        self.node.add_learner(node, Member { address, directory: member.directory }).await
    }

    /// Takes `node` in as a learner and waits until it has caught up.
    async fn take_in(&self, node: NodeId, address: String) -> Result<()> {
        check_named(node, &address)?;
        let calls = self.calls.as_ref().ok_or_else(|| alone("no other node can join it"))?;
        let known = self.member(node);
        let directory = if node == self.identity.node {
            self.identity.directory
        } else {
            let hello = greet(calls, node, &address).await?;
            if let Some(known) = &known
                && known.directory != hello.directory
            {
                let message = format!(
                    "node {node} is a member with another directory than the one at {address}: one that lost its log comes \
                     back under a new number, in its place (replace-node)"
                );
                return Err(Error::new(ErrorKind::AlreadyExists, "node_exists", message).with_number("node", node.0));
            }
            if known.is_none() && !hello.empty {
                let message = format!(
                    "node {node} at {address} has a log, but is not a member: start it with a new number and an empty data \
                     directory"
                );
                return Err(mismatch(node, message));
            }
            hello.directory
        };
        self.node.add_learner(node, Member { address, directory }).await?;
        let caught_up = self.node.wait_caught_up(node, VOTER_LAG, Instant::now() + CATCH_UP).await;
        caught_up.map_err(in_time)
    }

    /// If `node` leads, which is this one then, gives the leadership to another and says who leads.
    async fn hand_over(&self, node: NodeId) -> Result<()> {
        if node != self.identity.node {
            return Ok(());
        }
        self.transfer(None).await?;
        // Whoever leads now goes on with the request.
        if self.node.leadership().borrow().is_leader { Ok(()) } else { Err(not_leader()) }
    }

    async fn set_voters(&self, voters: BTreeSet<NodeId>) -> Result<()> {
        self.check_quorum(&voters).await?;
        self.node.set_voters(voters).await
    }

    /// Refuses voters of which too few answer to decide anything.
    async fn check_quorum(&self, voters: &BTreeSet<NodeId>) -> Result<()> {
        let asked = join_all(voters.iter().map(|node| self.node.peer_status(*node))).await;
        let silent = voters.iter().zip(asked).filter_map(|(node, answer)| answer.err().map(|_| node.to_string()));
        let silent: Vec<String> = silent.collect();
        if voters.len() - silent.len() > voters.len() / 2 {
            return Ok(());
        }
        let silent = silent.join(", ");
        Err(invalid(&format!(
            "too few of the voters that would stay answer (not: {silent}): they could decide nothing"
        )))
    }

    /// Refuses one voter too many before anything is begun.
    fn check_room(&self, comes: NodeId, goes: Option<NodeId>) -> Result<()> {
        let mut voters = self.voters();
        goes.map(|goes| voters.remove(&goes));
        voters.insert(comes);
        if voters.len() <= MAX_VOTERS {
            return Ok(());
        }
        Err(invalid(&format!("a cluster has at most {MAX_VOTERS} voters")))
    }

    fn member(&self, node: NodeId) -> Option<raft::MemberStatus> {
        self.node.members().into_iter().find(|member| member.node == node)
    }

    fn voters(&self) -> BTreeSet<NodeId> {
        self.node.members().into_iter().filter(|member| member.voter).map(|member| member.node).collect()
    }
}

fn check_named(node: NodeId, address: &str) -> Result<()> {
    if node.0 == 0 {
        return Err(invalid_node("node numbers begin with 1"));
    }
    if !is_host_and_port(address) {
        return Err(invalid_node(&format!("{address:?} is not a host and a port such as \"node-4.example:7072\"")));
    }
    Ok(())
}

/// Asks whoever listens at `address` who it is. One that was just started may not be reached at once: a peer that was away is
/// called again only now and then.
async fn greet(calls: &Calls, node: NodeId, address: &str) -> Result<Hello> {
    let deadline = Instant::now() + HELLO_PATIENCE;
    loop {
        match calls.hello(node, address).await {
            Ok(hello) => return Ok(hello),
            Err(error) if error.kind() == ErrorKind::Conflict || Instant::now() + PAUSE >= deadline => {
                return Err(unmet(node, address, &error));
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// That whoever is at `address` cannot be taken in.
fn unmet(node: NodeId, address: &str, error: &Error) -> Error {
    match error.kind() {
        // It answered, and is somebody else.
        ErrorKind::Conflict => {
            let message = format!("what listens at {address} is not node {node} of this cluster: {error}");
            Error::new(ErrorKind::Conflict, error.code(), message).with_number("node", node.0)
        }
        _ => Error::unavailable(format!("node {node} does not answer at {address}: {error}")),
    }
}

/// What did not happen in time may be asked for again.
fn in_time(error: Error) -> Error {
    if error.code() != "unavailable" {
        return error;
    }
    Error::new(ErrorKind::Unavailable, "timeout", format!("{error}; it may be asked for again"))
}

fn alone(what: &str) -> Error {
    invalid(&format!("this node has no peer listener (peer.listen), so that {what}"))
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::Conflict, "invalid_membership", message)
}

fn invalid_node(message: &str) -> Error {
    Error::invalid("invalid_node", message)
}

fn mismatch(node: NodeId, message: String) -> Error {
    Error::new(ErrorKind::Conflict, "node_identity_mismatch", message).with_number("node", node.0)
}

fn not_leader() -> Error {
    Error::new(ErrorKind::NotLeader, "not_leader", "this node does not lead the shard")
}
