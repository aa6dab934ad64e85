//! The nodes of a cluster, as an operator sees them.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::id::{LogIndex, NodeId};

/// A voter or learner of the shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The node.
    pub node: NodeId,
    /// `host:port` of its peer listener; empty for a group of one that has none.
    pub address: String,
    /// The UUID of its WAL directory.
    pub directory: Uuid,
    /// Whether it votes; a learner is being brought up to date.
    pub voter: bool,
    /// Whether it leads.
    pub is_leader: bool,
    /// The last entry that the leader knows to be on its disk; only the leader knows.
    pub matched: Option<LogIndex>,
    /// Entries that it is behind the leader's log; only the leader knows.
    pub lag: Option<u64>,
    /// Whether it answered the leader lately; only the leader knows.
    pub reachable: Option<bool>,
}

/// The cluster: who is in it and who leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// As in the bucket's `cluster.json`.
    pub cluster_id: String,
    /// The node that says so: the leader if it could be reached, else the node that was asked.
    pub node: NodeId,
    /// Who leads, if that is known.
    pub leader: Option<NodeId>,
    /// The term of `node`.
    pub term: u64,
    /// By node id.
    pub members: Vec<MemberStatus>,
}
