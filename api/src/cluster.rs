//! Bodies of the routes about the nodes of the cluster.
//!
//! Every change may be sent again: one that was done already answers the cluster as it is.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// `GET /v1/admin/cluster`, and the answer to every change of the cluster: as its leader sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cluster {
    /// Identity of the cluster.
    pub cluster_id: String,
    /// The node that answered.
    pub node: u64,
    /// The node that leads; null during an election.
    pub leader: Option<u64>,
    /// The Raft term.
    pub term: u64,
    /// By node id.
    pub members: Vec<Member>,
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// Its id, never given to another node.
    pub node: u64,
    /// `host:port` at which its peers reach it; empty for a sole node without a peer listener.
    pub address: String,
    /// Identity of its data directory: another one under the same id is refused.
    #[schema(value_type = String, format = "uuid")]
    pub directory: Uuid,
    /// It votes; a learner only follows.
    pub voter: bool,
    /// It leads.
    pub is_leader: bool,
    /// Log index up to which it has what the leader has; null where that is not known.
    pub matched: Option<u64>,
    /// Entries by which it is behind the leader; null where that is not known.
    pub lag: Option<u64>,
    /// It answered the leader of late; null where that is not known.
    pub reachable: Option<bool>,
}

/// `POST /v1/admin/nodes:add`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddNode {
    /// The new node's id.
    pub node: u64,
    /// `host:port` of its peer listener.
    pub address: String,
}

/// `POST /v1/admin/nodes:remove`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveNode {
    /// The node that leaves.
    pub node: u64,
}

/// `POST /v1/admin/nodes:replace`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplaceNode {
    /// The node that leaves.
    pub node: u64,
    /// The id of the one that comes in its place.
    pub by: u64,
    /// `host:port` of the new one's peer listener.
    pub address: String,
}

/// `POST /v1/admin/leader:transfer`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferLeader {
    /// The voter that is to lead; absent or null: the one that is furthest.
    #[serde(default)]
    pub to: Option<u64>,
}
