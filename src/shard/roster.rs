//! Who is in the group of a shard, whether this process is one of them or only looks on.

use super::admin::Request;
use super::gateway::Onlooker;
use super::members::Members;
use super::network::Calls;
use crate::error::{Error, ErrorKind, Result};
use crate::model::GroupStatus;
use crate::raft::PeerAddress;

/// See the module; clones share it.
#[derive(Clone)]
pub(super) enum Roster {
    Member(Members),
    Onlooker(Onlooker),
}

impl Roster {
    /// The members as this process knows them.
    pub(super) fn known(&self) -> GroupStatus {
        match self {
            Self::Member(members) => members.known(),
            Self::Onlooker(onlooker) => onlooker.known(),
        }
    }

    /// The other members.
    pub(super) fn others(&self) -> Vec<PeerAddress> {
        match self {
            Self::Member(members) => members.others(),
            Self::Onlooker(onlooker) => onlooker.others(),
        }
    }

    /// Calls to them, if they can be called.
    pub(super) fn calls(&self) -> Option<&Calls> {
        match self {
            Self::Member(members) => members.calls(),
            Self::Onlooker(onlooker) => Some(onlooker.calls()),
        }
    }

    /// Has the leader do what is asked for, whichever node that is.
    ///
    /// # Errors
    /// What the leader says; `unavailable` if there is none.
    pub(super) async fn run(&self, request: Request) -> Result<GroupStatus> {
        match self {
            Self::Member(members) => members.run(request).await,
            Self::Onlooker(onlooker) => onlooker.run(request).await,
        }
    }

    /// Does what is asked for if this node leads.
    ///
    /// # Errors
    /// `not_leader`; what was in the way.
    pub(super) async fn run_here(&self, request: Request) -> Result<GroupStatus> {
        match self {
            Self::Member(members) => members.run_here(request).await,
            Self::Onlooker(_) => {
                Err(Error::new(ErrorKind::NotLeader, "not_leader", "a gateway does not lead the shard"))
            }
        }
    }
}
