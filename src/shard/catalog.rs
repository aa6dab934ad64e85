//! What the state of the first shard says about the shards of the cluster.

use crate::config::Config;
use crate::model::{NodeId, ShardId};
use crate::raft::RaftNode;
use crate::state::State;

/// How many shards the settings ask for when a cluster is founded.
pub(super) fn wanted(config: &Config) -> u32 {
    let voters = u32::try_from(config.cluster.nodes.len()).unwrap_or(u32::MAX).max(1);
    config.cluster.shards.unwrap_or(voters)
}

/// How many there are, as `node`, which is of the first shard, knows.
pub(super) fn count(node: &RaftNode) -> u32 {
    node.with_state(|state| state.shards())
}

/// Who begins `shard`.
pub(super) fn founder(state: &State, shard: ShardId) -> Option<NodeId> {
    state.founder(shard)
}

/// Whether the number of shards is still the one that a cluster begins with: it has no topics yet, and it was not said.
pub(super) fn is_founding(state: &State, config: &Config) -> bool {
    state.shards() < wanted(config) && state.partition_count() == 0
}
