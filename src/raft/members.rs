//! Who belongs to the group, and changes of it: on the leader, by joint consensus, and safe to repeat.
//!
//! A change that another leader left half done is brought to its end first, so that each begins with one set of voters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use tokio::time::{Instant, timeout_at};

use super::node::RaftNode;
use super::types::{Member, Membership, TypeConfig};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::model::{LogIndex, NodeId};

/// Voters of a group: each more costs a copy of everything, and five survive two failures.
pub const MAX_VOTERS: usize = 5;
/// Voters and learners: a group of five of which each is being replaced.
const MAX_MEMBERS: usize = 10;
/// How long a change may take; it needs a majority of the old voters and of the new.
const CHANGE_DEADLINE: Duration = Duration::from_secs(30);
/// Pause before a change that has to wait for another is tried again.
const CHANGE_PAUSE: Duration = Duration::from_millis(20);
/// How often a wait looks at how far a follower is.
const LAG_INTERVAL: Duration = Duration::from_millis(20);

type Changes = ChangeMembers<u64, Member>;

/// What the group knows of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// The node.
    pub node: NodeId,
    /// `host:port` of its peer listener; empty if it has none.
    pub address: String,
    /// The UUID of its WAL directory.
    pub directory: uuid::Uuid,
    /// It votes; otherwise it learns.
    pub voter: bool,
    /// The last entry that it is known to have as the leader has it; `None` where nobody knows: on other nodes than the leader.
    pub matched: Option<LogIndex>,
}

impl RaftNode {
    /// The members of the group as this node knows them, in the order of their ids.
    #[must_use]
    pub fn members(&self) -> Vec<MemberStatus> {
        let metrics = self.inner.raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let matched = |node: &u64| match &metrics.replication {
            Some(_) if *node == metrics.id => metrics.last_log_index,
            Some(replication) => replication.get(node).copied().flatten().map(|id| id.index),
            None => None,
        };
        let status = |(node, member): (&u64, &Member)| MemberStatus {
            node: NodeId(*node),
            address: member.address.clone(),
            directory: member.directory,
            voter: voters.contains(node),
            matched: matched(node),
        };
        membership.nodes().map(status).collect()
    }

    /// Begins the group with `members`, of which this node is one, unless something has happened in it here. The others may begin it
    /// as well, with the same ones.
    ///
    /// # Errors
    /// `conflict` if this node knows something of the group already; `unavailable` if it has stopped.
    pub async fn begin(&self, members: BTreeMap<NodeId, Member>) -> Result<()> {
        let members: BTreeMap<u64, Member> = members.into_iter().map(|(id, member)| (id.0, member)).collect();
        match self.inner.raft.initialize(members).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(refused)) => {
                Err(Error::new(ErrorKind::Conflict, "conflict", format!("the group is begun already: {refused}")))
            }
            Err(RaftError::Fatal(fatal)) => Err(stopped(&fatal)),
        }
    }

    /// Whether the membership that this node knows is one between two: its voters are those of both.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        let metrics = self.inner.raft.server_metrics();
        let membership = Arc::clone(&metrics.borrow_watched().membership_config);
        membership.membership().get_joint_config().len() > 1
    }

    /// Adds `node` as a learner: it gets the log and does not vote. A member with the same directory stays what it is and gets
    /// the address.
    ///
    /// # Errors
    /// `not_leader` naming the leader; `node_identity_mismatch` if the id is known with another directory, or the directory under
    /// another id; `invalid_members` for too many members or a node without an address; `unavailable` with the outcome if
    /// there is no majority.
    pub async fn add_learner(&self, node: NodeId, member: Member) -> Result<()> {
        if member.address.is_empty() {
            return Err(invalid("a node that joins a group needs the address of its peer listener"));
        }
        let _one_at_a_time = self.inner.changing.lock().await;
        let deadline = Instant::now() + CHANGE_DEADLINE;
        self.settle(deadline).await?;
        self.announce_self(deadline).await?;
        let members = self.membership().await?;
        check_identity(&members, node, &member)?;
        match members.get_node(&node.0) {
            Some(known) if *known == member => Ok(()),
            Some(_) => self.change(Changes::SetNodes(BTreeMap::from([(node.0, member)])), deadline).await,
            None if members.nodes().count() >= MAX_MEMBERS => {
                Err(invalid(&format!("a group has at most {MAX_MEMBERS} members")))
            }
            None => self.change(Changes::AddNodes(BTreeMap::from([(node.0, member)])), deadline).await,
        }
    }

    /// Makes `voters` the voters of the group; each must be a member. Who voted and does not any more leaves the group. Returns
    /// once the change is committed; a leader that is not among them hands leadership over by itself then.
    ///
    /// # Errors
    /// As [`RaftNode::add_learner`]; `node_not_found` for one that is not a member.
    pub async fn set_voters(&self, voters: BTreeSet<NodeId>) -> Result<()> {
        if voters.is_empty() || voters.len() > MAX_VOTERS {
            return Err(invalid(&format!("a group has 1 to {MAX_VOTERS} voters")));
        }
        let _one_at_a_time = self.inner.changing.lock().await;
        let deadline = Instant::now() + CHANGE_DEADLINE;
        self.settle(deadline).await?;
        let members = self.membership().await?;
        let voters: BTreeSet<u64> = voters.into_iter().map(|node| node.0).collect();
        if let Some(unknown) = voters.iter().find(|node| members.get_node(node).is_none()) {
            return Err(not_found(*unknown));
        }
        if members.voter_ids().eq(voters.iter().copied()) {
            return Ok(());
        }
        self.change(Changes::ReplaceAllVoters(voters), deadline).await
    }

    /// Removes a learner; one that is not there is removed already.
    ///
    /// # Errors
    /// As [`RaftNode::add_learner`]; `node_is_voter` for a voter.
    pub async fn remove_learner(&self, node: NodeId) -> Result<()> {
        let _one_at_a_time = self.inner.changing.lock().await;
        let deadline = Instant::now() + CHANGE_DEADLINE;
        self.settle(deadline).await?;
        let members = self.membership().await?;
        if members.voter_ids().any(|voter| voter == node.0) {
            let message = format!("node {node} votes: take it out of the voters first");
            return Err(Error::new(ErrorKind::Conflict, "node_is_voter", message).with_number("node", node.0));
        }
        if members.get_node(&node.0).is_none() {
            return Ok(());
        }
        self.change(Changes::RemoveNodes(BTreeSet::from([node.0])), deadline).await
    }

    /// Waits until `node` is at most `lag` entries behind the leader's log.
    ///
    /// # Errors
    /// `not_leader`; `node_not_found`; `unavailable` if it is not so in time.
    pub async fn wait_caught_up(&self, node: NodeId, lag: LogIndex, deadline: Instant) -> Result<()> {
        self.wait_matched(node, deadline, |matched, last| matched + lag >= last).await
    }

    /// Waits until `enough` holds for the last entry that `node` has and the last of the leader's log.
    pub(super) async fn wait_matched(
        &self,
        node: NodeId,
        deadline: Instant,
        enough: impl Fn(LogIndex, LogIndex) -> bool,
    ) -> Result<()> {
        loop {
            self.check_leads()?;
            let members = self.members();
            let Some(member) = members.iter().find(|member| member.node == node) else {
                return Err(not_found(node.0));
            };
            let last = self.status().last_log;
            if member.matched.is_some_and(|matched| enough(matched, last)) {
                return Ok(());
            }
            if Instant::now() + LAG_INTERVAL >= deadline {
                let behind =
                    member.matched.map_or_else(|| "nothing yet".to_owned(), |matched| format!("entry {matched}"));
                return Err(Error::unavailable(format!("node {node} has {behind} of {last} entries")));
            }
            tokio::time::sleep(LAG_INTERVAL).await;
        }
    }

    /// The membership that counts now, committed or not.
    async fn membership(&self) -> Result<Membership> {
        let asked = self.inner.raft.with_raft_state(|state| state.membership_state.effective().membership().clone());
        asked.await.map_err(|error| stopped(&error))
    }

    /// Ends a change that stopped between its two steps, whose leader was killed for example: the group needs a majority of the
    /// old voters and of the new ones until then, so that fewer of them may fail.
    ///
    /// # Errors
    /// As [`RaftNode::add_learner`].
    pub async fn end_change(&self) -> Result<()> {
        let _one_at_a_time = self.inner.changing.lock().await;
        self.settle(Instant::now() + CHANGE_DEADLINE).await
    }

    /// See [`RaftNode::end_change`].
    async fn settle(&self, deadline: Instant) -> Result<()> {
        self.check_leads()?;
        if self.membership().await?.get_joint_config().len() < 2 {
            return Ok(());
        }
        self.change(Changes::AddVoterIds(BTreeSet::new()), deadline).await
    }

    /// Lets the group know where this node is: one that was alone had no address.
    async fn announce_self(&self, deadline: Instant) -> Result<()> {
        let inner = &self.inner;
        let members = self.membership().await?;
        let Some(known) = members.get_node(&inner.node.0) else { return Ok(()) };
        if inner.advertise.is_empty() && known.address.is_empty() {
            return Err(invalid("this node has no peer listener (peer.listen), so that no other can join it"));
        }
        if inner.advertise.is_empty() || known.address == inner.advertise {
            return Ok(());
        }
        let own = Member { address: inner.advertise.clone(), directory: inner.directory };
        self.change(Changes::SetNodes(BTreeMap::from([(inner.node.0, own)])), deadline).await
    }

    pub(super) fn check_leads(&self) -> Result<()> {
        let now = *self.inner.shared.leadership.borrow();
        if now.is_leader {
            return Ok(());
        }
        Err(not_leader(now.leader.filter(|leader| *leader != self.inner.node)))
    }

    /// Waits until [`RaftNode::members`] shows the membership of entry `index`: whoever asks after a change sees it.
    async fn shows(&self, index: LogIndex, deadline: Instant) -> Result<()> {
        let mut metrics = self.inner.raft.metrics();
        let shown = metrics.wait_until(|metrics| {
            metrics.running_state.is_err() || metrics.membership_config.log_id().is_some_and(|id| id.index >= index)
        });
        match timeout_at(deadline, shown).await {
            Ok(Ok(metrics)) => metrics.running_state.map_err(|error| stopped(&error)),
            Ok(Err(error)) => Err(stopped(&error)),
            Err(_) => Err(Error::unavailable("the change of the group was committed and is not known here yet")),
        }
    }

    /// Commits `changes`; waits for one that is under way.
    async fn change(&self, changes: Changes, deadline: Instant) -> Result<()> {
        loop {
            let changing = self.inner.raft.change_membership(changes.clone(), retains(&changes));
            let changed = timeout_at(deadline, changing).await;
            match changed {
                Ok(Ok(written)) => return self.shows(written.log_id.index, deadline).await,
                Ok(Err(error)) if waits(&error) && Instant::now() < deadline => {
                    tokio::time::sleep(CHANGE_PAUSE).await;
                }
                // The first of two steps may have been taken.
                Ok(Err(error)) if self.is_changing() => return Err(refused(&error).with_outcome(Outcome::Unknown)),
                Ok(Err(error)) => return Err(refused(&error)),
                Err(_) => {
                    let message = "no majority of the voters agreed to the change of the group in time";
                    return Err(Error::unavailable(message).with_outcome(Outcome::Unknown));
                }
            }
        }
    }
}

/// Who voted and does not any more leaves only when the voters are set.
fn retains(changes: &Changes) -> bool {
    !matches!(changes, Changes::ReplaceAllVoters(_) | Changes::AddVoterIds(_))
}

/// A directory is one node, and a node one directory.
fn check_identity(members: &Membership, node: NodeId, member: &Member) -> Result<()> {
    let mismatch = |message: String| {
        Err(Error::new(ErrorKind::Conflict, "node_identity_mismatch", message).with_number("node", node.0))
    };
    if members.get_node(&node.0).is_some_and(|known| known.directory != member.directory) {
        return mismatch(format!("node {node} is a member with another directory: replace it by a node with a new id"));
    }
    match members.nodes().find(|(id, known)| **id != node.0 && known.directory == member.directory) {
        Some((other, _)) => mismatch(format!("the directory of node {node} is that of node {other}")),
        None => Ok(()),
    }
}

/// Whether a change has to wait for another, or for the first entry of a new leader.
fn waits(error: &RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> bool {
    match error {
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => {
            matches!(error, ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_))
        }
        // A fresh leader says this until its first quorum acknowledgement.
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => forward.leader_id.is_none(),
        RaftError::APIError(_) | RaftError::Fatal(_) => false,
    }
}

fn refused(error: &RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Error {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => not_leader(forward.leader_id.map(NodeId)),
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => {
            Error::unavailable("the leader changed before the change of the group was known to be committed")
                .with_outcome(Outcome::Unknown)
        }
        RaftError::APIError(error) => invalid(&error.to_string()),
        RaftError::Fatal(error) => stopped(error).with_outcome(Outcome::Unknown),
    }
}

fn not_leader(leader: Option<NodeId>) -> Error {
    let error = Error::new(ErrorKind::NotLeader, "not_leader", "this node does not lead the shard");
    match leader {
        Some(leader) => error.with_number("leader", leader.0),
        None => error,
    }
}

pub(super) fn not_found(node: u64) -> Error {
    let message = format!("node {node} is not a member of the group, or not in that role");
    Error::new(ErrorKind::NotFound, "node_not_found", message).with_number("node", node)
}

fn invalid(message: &str) -> Error {
    Error::invalid("invalid_members", message)
}

pub(super) fn stopped(error: &dyn std::error::Error) -> Error {
    Error::unavailable(format!("the node has stopped: {error}"))
}
