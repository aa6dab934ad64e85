//! The members of a shard, as its nodes know them, and requests to change them.
//!
//! Any node takes a request; the leader of the shard does it (`change`). Everything may be repeated: what is done already is
//! found so.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Shard;
use super::admin::{self, Request, Seat};
use super::asking::{self, Attempt, Attempts};
use super::network::Calls;
use super::slots::Slots;
use crate::error::{Error, ErrorKind, Result};
use crate::model::catalog::CATALOG_SHARD;
use crate::model::{GroupStatus, MemberStatus, NodeId};
use crate::peer::CallError;
use crate::raft::{self, NodeIdentity, PeerAddress, RaftNode};

/// How long a request for the members waits for the leader before this node says what it knows itself.
pub(super) const STATUS_DEADLINE: Duration = Duration::from_secs(2);
/// How long the leader may take for a request of another node: catching up, and a change of the group before and after, of the
/// first shard and then of all others at once.
pub(super) const FORWARD_DEADLINE: Duration = Duration::from_secs(150);
/// How long a node that is not a member waits to hear that it is one: it may just have been taken in.
const STRANGER_PATIENCE: Duration = Duration::from_secs(1);
/// A member that answered within this counts as reachable; the leader asks every three seconds.
pub(super) const REACHABLE: Duration = Duration::from_secs(8);

/// See the module; clones share it.
#[derive(Clone)]
pub(super) struct Members(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) node: RaftNode,
    pub(super) identity: NodeIdentity,
    /// Where the others reach this node; empty if they cannot.
    pub(super) address: String,
    /// None without a peer listener.
    pub(super) calls: Option<Calls>,
    /// All shards that this node hosts. Held by whoever hosts them: each of them holds this.
    pub(super) shards: Weak<Slots<Shard>>,
    /// Held from reading who votes to setting it.
    pub(super) changing: Mutex<()>,
}

impl Members {
    /// The members of the group of `node`.
    pub(super) fn new(
        node: RaftNode,
        identity: NodeIdentity,
        address: String,
        calls: Option<Calls>,
        shards: Weak<Slots<Shard>>,
    ) -> Self {
        Self(Arc::new(Inner { node, identity, address, calls, shards, changing: Mutex::new(()) }))
    }

    /// The members as this node knows them.
    pub(super) fn known(&self) -> GroupStatus {
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
        members.map(address_of).collect()
    }

    /// Calls to peers, if there are any.
    pub(super) fn calls(&self) -> Option<&Calls> {
        self.0.calls.as_ref()
    }

    /// Has the leader do what is asked for, whichever node that is.
    ///
    /// # Errors
    /// What the leader says; `unavailable` if there is none.
    pub(super) async fn run(&self, request: Request) -> Result<GroupStatus> {
        match request {
            Request::Status => Ok(self.ask_status().await),
            request => {
                let asking = Asking { members: self, request, since: Instant::now(), others: Vec::new() };
                asking::until_taken(self.0.node.shard(), asking).await
            }
        }
    }

    async fn ask_status(&self) -> GroupStatus {
        let Some(leader) = self.leader() else { return self.known() };
        match self.0.forward(&leader, &Request::Status, STATUS_DEADLINE).await {
            Ok(status) => status,
            Err(error) => {
                tracing::debug!(?error, "the leader does not say who the members are");
                self.known()
            }
        }
    }

    /// Does what is asked for if this node leads. What was begun goes on when the caller goes away.
    ///
    /// # Errors
    /// `not_leader`; see the methods of [`crate::queue::Queue`].
    pub(super) async fn run_here(&self, request: Request) -> Result<GroupStatus> {
        if request == Request::Status {
            return Ok(self.known());
        }
        let inner = Arc::clone(&self.0);
        let work = tokio::spawn(async move { inner.change(request).await.map(|()| inner.known()) });
        work.await.map_err(|error| Error::internal("a change of the cluster panicked").with_source(error))?
    }

    /// Has every other shard have the members of this one, which is the first; see `change`.
    ///
    /// # Errors
    /// The first of what was in the way; the rest is done all the same.
    pub(super) async fn match_others(&self) -> Result<()> {
        self.0.match_others().await
    }
}

/// A request on its way to the leader.
struct Asking<'a> {
    members: &'a Members,
    request: Request,
    /// When it was asked for.
    since: Instant,
    /// Who is still to be asked while this node hears of no leader.
    others: Vec<PeerAddress>,
}

impl Attempts for Asking<'_> {
    async fn attempt(&mut self) -> Attempt {
        let inner = &self.members.0;
        // A node that is not a member of the shard yet, or none any more, hears of no leader: any of the others may be it.
        let Some(leader) = inner.leader().or_else(|| self.others.pop()) else {
            return match self.members.run_here(self.request.clone()).await {
                Err(error) if error.kind() == ErrorKind::NotLeader => {
                    if inner.is_stranger() && self.since.elapsed() >= STRANGER_PATIENCE {
                        return Attempt::Over(Err(stranger(inner.identity.node)));
                    }
                    self.others = inner.elsewhere();
                    Attempt::Again(error, false)
                }
                done => Attempt::Over(done),
            };
        };
        let answer = inner.forward(&leader, &self.request, FORWARD_DEADLINE).await;
        Attempt::of(answer, inner.leader().is_none())
    }
}

impl Inner {
    async fn forward(
        &self,
        leader: &PeerAddress,
        request: &Request,
        deadline: Duration,
    ) -> Result<GroupStatus, CallError> {
        let calls =
            self.calls.as_ref().ok_or_else(|| CallError::NotSent(super::change::alone("it reaches no other node")))?;
        admin::ask(calls, leader, request, deadline).await
    }

    fn leader(&self) -> Option<PeerAddress> {
        let leader = self.node.leadership().borrow().leader.filter(|leader| *leader != self.identity.node)?;
        let member = self.node.members().into_iter().find(|member| member.node == leader)?;
        Some(address_of(member))
    }

    /// Whether this node is no member of the cluster, as the first shard knows it: the members take no request from it.
    fn is_stranger(&self) -> bool {
        self.node.shard() == CATALOG_SHARD && self.member(self.identity.node).is_none()
    }

    /// Whoever else may lead this shard, as the first one says; nobody for the first one.
    fn elsewhere(&self) -> Vec<PeerAddress> {
        if self.node.shard() == CATALOG_SHARD {
            return Vec::new();
        }
        let Some(shards) = self.shards.upgrade() else { return Vec::new() };
        let others = shards.get(CATALOG_SHARD).map(|zero| zero.members().others());
        others.into_iter().flatten().filter(|other| !other.address.is_empty()).collect()
    }

    pub(super) fn known(&self) -> GroupStatus {
        let leadership = *self.node.leadership().borrow();
        let status = self.node.status();
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
            lag: member.matched.map(|matched| status.last_log.saturating_sub(matched)),
            reachable: leads.then(|| reachable(member.node)),
        };
        GroupStatus {
            shard: self.node.shard(),
            node: self.identity.node,
            leader: leadership.leader,
            term: leadership.term,
            applied: status.applied,
            committed: status.committed,
            flushed: self.node.with_state(|state| state.flushed_index()),
            members: self.node.members().into_iter().map(member).collect(),
        }
    }

    /// The members of this shard as the others are to have them.
    pub(super) fn seats(&self) -> Vec<Seat> {
        seats_of(&self.node)
    }
}

/// The members of the group of `node` as another one is to have them.
pub(super) fn seats_of(node: &RaftNode) -> Vec<Seat> {
    let seat = |member: raft::MemberStatus| Seat {
        node: member.node,
        directory: member.directory,
        address: member.address,
        voter: member.voter,
    };
    node.members().into_iter().map(seat).collect()
}

/// That a node is not one of the cluster; whoever asked it asks another.
fn stranger(node: NodeId) -> Error {
    Error::unavailable(format!(
        "node {node} is not a member of the cluster: it waits to be taken in, or was taken out; ask one of the members"
    ))
}

fn address_of(member: raft::MemberStatus) -> PeerAddress {
    PeerAddress { node: member.node, directory: member.directory, address: member.address }
}
