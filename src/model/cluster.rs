//! What the queue says about the nodes of its cluster.

use uuid::Uuid;

use super::id::{LogIndex, NodeId};

/// One member of the Raft group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its id; never given to another directory.
    pub node: NodeId,
    /// `host:port` at which its peers reach it; empty for a sole node without a peer listener.
    pub address: String,
    /// Identity of its WAL directory.
    pub directory: Uuid,
    /// It votes; a learner only follows.
    pub voter: bool,
    /// It leads.
    pub is_leader: bool,
    /// The log index up to which its log is known to agree with the leader's; `None` where that is not known.
    pub matched: Option<LogIndex>,
    /// Entries by which `matched` is behind the leader's log.
    pub lag: Option<u64>,
    /// It answered the leader of late; `None` where that is not known.
    pub reachable: Option<bool>,
}

/// The cluster, as its leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterStatus {
    /// Identity of the cluster.
    pub cluster_id: String,
    /// The node that was asked.
    pub node: NodeId,
    /// The node that leads; `None` during an election.
    pub leader: Option<NodeId>,
    /// The Raft term.
    pub term: u64,
    /// By node id.
    pub members: Vec<MemberStatus>,
}
