//! What an operator does to the cluster: look at its nodes, add, remove and replace them, and move the leadership.
//!
//! Every node answers; what changes something is done by the leader. All of it is safe to repeat.

use super::Queue;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{ClusterStatus, MemberStatus, NodeId};

impl Queue {
    /// The members of the cluster and their leader.
    ///
    /// # Errors
    /// The log's.
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

    /// Adds the node that listens for its peers at `address` (`host:port`): as a learner, and as a voter once it has caught up.
    ///
    /// # Errors
    /// `node_unreachable` if it does not answer there; `node_identity_mismatch` if another directory has that id;
    /// `unavailable` if it has not caught up in time: then call again.
    pub async fn add_node(&self, _node: NodeId, _address: String) -> Result<ClusterStatus> {
        Err(alone())
    }

    /// Takes a node out of the cluster; one that is not in it is none to take out.
    ///
    /// # Errors
    /// `last_voter`, or `quorum_at_risk` if too few of the voters that stay can be reached.
    pub async fn remove_node(&self, node: NodeId) -> Result<ClusterStatus> {
        if node == self.0.identity.node { Err(alone()) } else { self.cluster().await }
    }

    /// Puts node `new` at `address` in the place of `old`, which may be gone for ever.
    ///
    /// # Errors
    /// `node_not_found` if `old` is not in the cluster and `new` neither; those of [`Queue::add_node`].
    pub async fn replace_node(&self, _old: NodeId, _new: NodeId, _address: String) -> Result<ClusterStatus> {
        Err(alone())
    }

    /// Makes `to` the leader, or the voter that is furthest if it is none in particular.
    ///
    /// # Errors
    /// `node_not_found` if `to` does not vote; `unavailable` if it did not take over in time.
    pub async fn transfer_leader(&self, to: Option<NodeId>) -> Result<ClusterStatus> {
        match to {
            Some(to) if to != self.0.identity.node => Err(alone()),
            _ => self.cluster().await,
        }
    }

    /// Hands the leadership over if this node has it, so that stopping it stops nothing else.
    ///
    /// # Errors
    /// `unavailable` if nobody took over in time.
    pub async fn drain(&self) -> Result<ClusterStatus> {
        self.cluster().await
    }
}

fn alone() -> Error {
    let message = "this node has no peer listener and is a cluster of its own; set peer.listen to have others join it";
    Error::new(ErrorKind::Conflict, "no_peers", message)
}
