//! What an operator does to the cluster: look at its nodes, add, remove and replace them, and move the leaderships. All shards have the
//! same members: what is done is done in every one of them.
//!
//! Every call works on every node (one that does not lead asks its leader) and may be repeated: one that was done already
//! answers what is. The errors that a caller branches on:
//!
//! | code | kind | when |
//! |---|---|---|
//! | `node_not_found` | `NotFound` | no member has this number |
//! | `node_exists` | `AlreadyExists` | the number is a member's, with another directory |
//! | `node_identity_mismatch` | `Conflict` | what listens at the address is another node, or one with the log of another group |
//! | `cluster_mismatch` | `Conflict` | it belongs to another cluster |
//! | `invalid_membership` | `Conflict` | it would leave no voter, too few that answer, or too many; or a leader that does not vote |
//! | `invalid_node` | `Invalid` | a number or address that no node can have |
//! | `timeout` | `Unavailable` | not done in time: it may be asked for again |
//! | `unavailable` | `Unavailable` | no leader, or a node that does not answer |

use super::Queue;
use crate::error::Result;
use crate::model::{ClusterStatus, NodeId};

impl Queue {
    /// The members of the cluster, and for each shard who leads it and how far each member is, as its leader knows; without one, what
    /// this node knows.
    ///
    /// # Errors
    /// None as yet.
    pub async fn cluster(&self) -> Result<ClusterStatus> {
        Ok(self.0.shards.cluster().await)
    }

    /// Whether this node is the only voter: nobody else has its logs, and nobody can take its leaderships over.
    #[must_use]
    pub fn is_sole_voter(&self) -> bool {
        self.0.shards.is_sole_voter()
    }

    /// Takes the node whose peer listener is at `address` (`host:port`) in as a learner and, once it has caught up, as a voter.
    /// A member gets the address.
    ///
    /// # Errors
    /// `invalid_node`, `node_exists`, `node_identity_mismatch`, `cluster_mismatch`, `invalid_membership`, `timeout`,
    /// `unavailable`.
    pub async fn add_node(&self, node: NodeId, address: String) -> Result<ClusterStatus> {
        self.0.shards.add_node(node, address).await
    }

    /// Takes a node out of the cluster; one that is not in it is out already.
    ///
    /// # Errors
    /// `invalid_membership` for the last voter, or if too few of the others answer; `timeout`, `unavailable`.
    pub async fn remove_node(&self, node: NodeId) -> Result<ClusterStatus> {
        self.0.shards.remove_node(node).await
    }

    /// Takes node `new` at `address` in, in the place of `old`, which may be gone for ever.
    ///
    /// # Errors
    /// `node_not_found` if neither is a member; those of [`Queue::add_node`] and [`Queue::remove_node`].
    pub async fn replace_node(&self, old: NodeId, new: NodeId, address: String) -> Result<ClusterStatus> {
        self.0.shards.replace_node(old, new, address).await
    }

    /// Gives the leaderships of all shards to a voter, or each to the one that is furthest; a sole voter keeps them. Those that belong
    /// elsewhere go there after `cluster.balance_after`.
    ///
    /// # Errors
    /// `invalid_membership` if `to` does not vote, `timeout`, `unavailable`.
    pub async fn transfer_leader(&self, to: Option<NodeId>) -> Result<ClusterStatus> {
        self.0.shards.transfer_leader(to).await
    }

    /// Gives the leaderships away that this node has and somebody can take over, and takes none any more; the caller stops the
    /// process then. If it fails or is dropped, the node goes on as before.
    ///
    /// # Errors
    /// `timeout` if nobody took it over.
    pub async fn drain(&self) -> Result<ClusterStatus> {
        self.0.shards.drain().await
    }

    /// The same of a process that ends whatever comes of it: it takes no leadership any more.
    ///
    /// # Errors
    /// As [`Self::drain`].
    pub async fn leave(&self) -> Result<ClusterStatus> {
        self.0.shards.leave().await
    }
}
