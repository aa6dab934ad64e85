//! Bodies of the routes about the nodes of the cluster.
//!
//! Every change may be sent again: one that was done already answers the cluster as it is.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// `GET /v1/admin/cluster`, and the answer to every change of the cluster: as the leaders of its shards see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cluster {
    /// Identity of the cluster.
    pub cluster_id: String,
    /// The node that answered.
    pub node: u64,
    /// The node that leads shard 0, which has the catalog; null during an election.
    pub leader: Option<u64>,
    /// The Raft term of shard 0.
    pub term: u64,
    /// By node id. Log indexes are those of shard 0.
    pub members: Vec<Member>,
    /// By number.
    #[serde(default)]
    pub shards: Vec<Shard>,
}

/// A shard of the cluster: one Raft group of all members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Shard {
    /// Its number.
    pub shard: u32,
    /// `good`; `degraded` if its leader does not hear of every voter; `unknown` if the leader does not answer; `leaderless`.
    pub health: String,
    /// The node that leads it; null during an election.
    pub leader: Option<u64>,
    /// Its Raft term.
    pub term: u64,
    /// Index of the last entry that its leader applied.
    pub applied: u64,
    /// Index of the last entry that is committed.
    pub committed: u64,
    /// At and below it all is in the bucket.
    pub flushed: u64,
    /// By node id.
    pub members: Vec<Replica>,
}

/// A member in one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Replica {
    /// The member.
    pub node: u64,
    /// It votes in this shard; a learner only follows.
    pub voter: bool,
    /// Log index up to which it has what the leader has; null where that is not known.
    pub matched: Option<u64>,
    /// Entries by which it is behind the leader; null where that is not known.
    pub lag: Option<u64>,
    /// It answered the leader of late; null where that is not known.
    pub reachable: Option<bool>,
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
    /// The version of its program; null where it did not say.
    #[serde(default)]
    pub version: Option<String>,
    /// What it does: `gateway`, `wal`, `compactor`; empty where it did not say.
    #[serde(default)]
    pub roles: Vec<String>,
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
