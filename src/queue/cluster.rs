//! The cluster as operators see and change it: members, learners, voters, leadership.
//!
//! Every call works on every node (a follower asks its leader) and may be repeated: one that was done already answers what
//! is. The errors that a caller branches on:
//!
//! | code | kind | when |
//! |---|---|---|
//! | `node_not_found` | `NotFound` | no member has this id |
//! | `node_exists` | `AlreadyExists` | the id is a member's, with another address or directory |
//! | `node_identity_mismatch` | `Conflict` | the node at the address is another one, or its directory is not the known one |
//! | `cluster_mismatch` | `Conflict` | the node at the address belongs to another cluster |
//! | `invalid_membership` | `Conflict` | the last voter cannot be removed, nor leadership be given to a node that does not vote |
//! | `invalid_node` | `Invalid` | an id or address that no node can have |
//! | `timeout` | `Unavailable` | not done in time; it may be repeated |
//! | `unavailable`, `not_leader` | | no leader, or a node that does not answer |

use super::Queue;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{ClusterStatus, MemberStatus, NodeId};

impl Queue {
    /// The members of the cluster and how far each is.
    ///
    /// # Errors
    /// `unavailable` without a leader.
    pub async fn cluster(&self) -> Result<ClusterStatus> {
        let raft = self.leader().node().status();
        let identity = &self.0.identity;
        let member = MemberStatus {
            node: identity.node,
            address: String::new(),
            directory: identity.directory,
            voter: true,
            is_leader: raft.is_leader,
            matched: Some(raft.last_log),
            lag: Some(0),
            reachable: Some(true),
        };
        Ok(ClusterStatus {
            cluster_id: identity.cluster.clone(),
            node: identity.node,
            leader: raft.leader,
            term: raft.term,
            members: vec![member],
        })
    }

    /// Whether this node is the only voter: nobody else has its log, and nobody can take its leadership over.
    #[must_use]
    pub fn is_sole_voter(&self) -> bool {
        true
    }

    /// Takes the node at `address` in as a learner and, once it has caught up, as a voter.
    ///
    /// # Errors
    /// `node_exists`, `node_identity_mismatch`, `cluster_mismatch`, `timeout`, `unavailable`.
    pub async fn add_node(&self, node: NodeId, address: String) -> Result<ClusterStatus> {
        Err(sole(&format!("node {node} at {address} cannot be added")))
    }

    /// Takes a member out; its id is not used again.
    ///
    /// # Errors
    /// `invalid_membership` for the last voter, `unavailable`.
    pub async fn remove_node(&self, node: NodeId) -> Result<ClusterStatus> {
        Err(sole(&format!("node {node} cannot be removed")))
    }

    /// Takes the node `new` at `address` in, and then `old` out.
    ///
    /// # Errors
    /// Those of [`Queue::add_node`] and [`Queue::remove_node`].
    pub async fn replace_node(&self, old: NodeId, new: NodeId, address: String) -> Result<ClusterStatus> {
        Err(sole(&format!("node {old} cannot be replaced by node {new} at {address}")))
    }

    /// Gives the leadership to a voter, or to the one that is furthest.
    ///
    /// # Errors
    /// `invalid_membership` if `to` does not vote, `timeout`, `unavailable`.
    pub async fn transfer_leader(&self, to: Option<NodeId>) -> Result<ClusterStatus> {
        match to {
            Some(to) if to != self.0.identity.node => Err(sole(&format!("node {to} cannot lead"))),
            _ => self.cluster().await,
        }
    }

    /// Gives the leadership away if this node has it and somebody can take it over; the caller stops the process then.
    ///
    /// # Errors
    /// Those of [`Queue::transfer_leader`].
    pub async fn drain(&self) -> Result<ClusterStatus> {
        self.cluster().await
    }
}

fn sole(what: &str) -> Error {
    Error::new(ErrorKind::Conflict, "invalid_membership", format!("{what}: this node is a cluster of its own"))
}
