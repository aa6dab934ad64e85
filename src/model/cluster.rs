//! The nodes of a cluster, as an operator sees them.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::id::{LogIndex, NodeId, ShardId};

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

/// A shard: who is in its group, who leads it, and how far it is. The fields of what nodes tell each other: their order is the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// The shard.
    pub shard: ShardId,
    /// The node that says so: the leader if it could be reached, else the node that was asked.
    pub node: NodeId,
    /// Who leads, if that is known.
    pub leader: Option<NodeId>,
    /// The term of `node`.
    pub term: u64,
    /// The last entry that `node` applied.
    pub applied: LogIndex,
    /// The last entry that `node` knows to be committed.
    pub committed: LogIndex,
    /// The entry up to which all is in the bucket.
    pub flushed: LogIndex,
    /// By node id.
    pub members: Vec<MemberStatus>,
}

/// How a shard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Its leader hears of all voters.
    Good,
    /// Its leader does not hear of every voter.
    Degraded,
    /// Its leader does not answer.
    Unknown,
    /// Nobody is known to lead it.
    Leaderless,
}

impl Health {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Degraded => "degraded",
            Self::Unknown => "unknown",
            Self::Leaderless => "leaderless",
        }
    }
}

impl GroupStatus {
    /// How it is.
    #[must_use]
    pub fn health(&self) -> Health {
        if self.leader.is_none() {
            return Health::Leaderless;
        }
        // Only a leader says who answers.
        if self.leader != Some(self.node) {
            return Health::Unknown;
        }
        let away = self.members.iter().any(|member| member.voter && member.reachable == Some(false));
        if away { Health::Degraded } else { Health::Good }
    }
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeProfile {
    /// The node.
    pub node: NodeId,
    /// The version of its program.
    pub version: String,
    /// What it does.
    pub roles: Vec<String>,
}

/// The cluster: who is in it and who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterStatus {
    /// As in the bucket's `cluster.json`.
    pub cluster_id: String,
    /// The node that was asked.
    pub node: NodeId,
    /// Who leads the first shard, which has the catalog and says who the members are.
    pub leader: Option<NodeId>,
    /// The term of the first shard.
    pub term: u64,
    /// Those of the first shard, by node id.
    pub members: Vec<MemberStatus>,
    /// All shards, by number; at least the first.
    pub shards: Vec<GroupStatus>,
    /// The members that answered, by node id.
    pub profiles: Vec<NodeProfile>,
}

impl ClusterStatus {
    /// The cluster of which `shards`, at least one, were told to `node`.
    #[must_use]
    pub fn new(cluster_id: String, node: NodeId, shards: Vec<GroupStatus>, profiles: Vec<NodeProfile>) -> Self {
        let (leader, term, members) =
            shards.first().map_or((None, 0, Vec::new()), |first| (first.leader, first.term, first.members.clone()));
        Self { cluster_id, node, leader, term, members, shards, profiles }
    }
}
