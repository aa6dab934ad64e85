//! The members of a shard as a gateway knows them, and requests to change them, which the leader does.

use std::sync::Arc;

use super::super::admin::{self, Request};
use super::super::asking::{self, Attempt, Attempts};
use super::super::dispatch::ask_flush;
use super::super::members::{FORWARD_DEADLINE, STATUS_DEADLINE};
use super::super::network::Calls;
use crate::error::Result;
use crate::flush::AskLeader;
use crate::model::{GroupStatus, LogIndex, MemberStatus, NodeId};
use crate::raft::{PeerAddress, Remote, Voter};

/// See the module; clones share it.
#[derive(Clone)]
pub(in crate::shard) struct Onlooker(Arc<Inner>);

struct Inner {
    remote: Remote,
    own: NodeId,
    calls: Calls,
}

impl Onlooker {
    pub(super) fn new(remote: Remote, own: NodeId, calls: Calls) -> Self {
        Self(Arc::new(Inner { remote, own, calls }))
    }

    /// The members as this process knows them.
    pub(in crate::shard) fn known(&self) -> GroupStatus {
        let remote = &self.0.remote;
        let status = remote.status();
        let member = |member: Voter| MemberStatus {
            is_leader: status.leader == Some(member.node),
            node: member.node,
            address: member.address,
            directory: member.directory,
            voter: member.voter,
            matched: None,
            lag: None,
            reachable: None,
        };
        let (shard, flushed) = remote.with_state(|state| (state.shard(), state.flushed_index()));
        GroupStatus {
            shard,
            node: self.0.own,
            leader: status.leader,
            term: status.term,
            applied: status.applied,
            committed: status.committed,
            flushed,
            members: remote.members().into_iter().map(member).collect(),
        }
    }

    /// All members.
    pub(in crate::shard) fn others(&self) -> Vec<PeerAddress> {
        let address =
            |member: Voter| PeerAddress { node: member.node, directory: member.directory, address: member.address };
        self.0.remote.members().into_iter().map(address).collect()
    }

    /// Calls to them.
    pub(in crate::shard) fn calls(&self) -> &Calls {
        &self.0.calls
    }

    fn leader(&self) -> Option<PeerAddress> {
        let leader = self.0.remote.leadership().borrow().leader?;
        self.others().into_iter().find(|other| other.node == leader)
    }

    /// Has the leader do what is asked for.
    ///
    /// # Errors
    /// What the leader says; `unavailable` if there is none.
    pub(in crate::shard) async fn run(&self, request: Request) -> Result<GroupStatus> {
        if request == Request::Status {
            let Some(leader) = self.leader() else { return Ok(self.known()) };
            return Ok(admin::ask(self.calls(), &leader, &request, STATUS_DEADLINE)
                .await
                .unwrap_or_else(|_| self.known()));
        }
        let shard = self.0.remote.shard();
        asking::until_taken(shard, Asking { onlooker: self, request }).await
    }
}

/// A request on its way to the leader.
struct Asking<'a> {
    onlooker: &'a Onlooker,
    request: Request,
}

impl Attempts for Asking<'_> {
    async fn attempt(&mut self) -> Attempt {
        let Some(leader) = self.onlooker.leader() else {
            return Attempt::Again(asking::leaderless(self.onlooker.0.remote.shard()), false);
        };
        let calls = self.onlooker.calls();
        Attempt::of(admin::ask(calls, &leader, &self.request, FORWARD_DEADLINE).await, false)
    }
}

impl AskLeader for Onlooker {
    async fn ask(&self, index: LogIndex) -> Result<()> {
        let leader = self.leader().ok_or_else(|| asking::leaderless(self.0.remote.shard()))?;
        ask_flush(&self.0.calls, &leader, index).await
    }
}
