//! How many shards the cluster has: what the settings ask for, what the catalog counts, and raising the one to the other.

use std::time::Duration;

use tracing::{info, warn};

use super::common::Common;
use crate::config::Config;
use crate::error::Result;
use crate::model::catalog::MAX_SHARDS;
use crate::model::{Control, NodeId, ShardId};
use crate::raft::{Handle, Leader};
use crate::state::State;

/// Before it is said again.
const RETRY: Duration = Duration::from_secs(1);

/// How many there are, as this process knows of the first shard.
pub(super) fn count(zero: &Handle) -> u32 {
    zero.with_state(State::shard_count)
}

/// Who begins `shard`.
pub(super) fn founder(state: &State, shard: ShardId) -> Option<NodeId> {
    state.founders().get(usize::try_from(shard.0).ok()?).copied()
}

/// How many there will be once the catalog says so: as many as the settings ask for, if that is more than there are. What is not
/// set counts only while the cluster has no topics, which is when it is founded.
pub(super) fn wanted(state: &State, config: &Config) -> u32 {
    let voters = u32::try_from(config.cluster.nodes.len()).unwrap_or(MAX_SHARDS);
    let asked = match config.cluster.shards {
        Some(shards) => shards,
        None if state.topics("", "").next().is_none() && state.partition_count() == 0 => voters,
        None => 1,
    };
    asked.clamp(1, MAX_SHARDS).max(state.shard_count())
}

/// Has the catalog count as many shards as are wanted. Those that are added are founded by this node, which leads the first.
pub(super) async fn raise(leader: &Handle, common: &Common) -> Result<()> {
    let node = leader.node();
    let (wanted, mut founders) = node.with_state(|state| (wanted(state, &common.config), state.founders().to_vec()));
    let before = node.with_state(State::shard_count);
    if wanted <= before {
        return Ok(());
    }
    founders.resize(wanted as usize, common.identity.node);
    leader.control(Control::SetShards { founders }).await?;
    info!(before, shards = wanted, "the cluster has more shards");
    Ok(())
}

/// Raises the number while this node leads the first shard, until it is as wanted.
pub(super) async fn keep_raised(leader: &Leader, common: &Common) {
    let mut told = false;
    let leader = Handle::from(leader.clone());
    while let Err(error) = raise(&leader, common).await {
        // One that is closed takes it once it is open again.
        if !std::mem::replace(&mut told, true) {
            warn!(?error, "the number of shards could not be set and this is tried again");
        }
        tokio::time::sleep(RETRY).await;
    }
}
