//! What a node sees to whether it leads or not: that it keeps log for others while there are others, that they know where it
//! is, and that it is who they think it is.

use std::time::Duration;

use tracing::{debug, info, warn};

use super::admin::Request;
use super::common::Common;
use super::duty::{Duty, Needs};
use super::{hello, life};
use crate::config::Config;
use crate::error::ErrorKind;
use crate::model::NodeId;
use crate::model::catalog::CATALOG_SHARD;
use crate::raft::RaftNode;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(2);
/// `wal.keep` of a group of several, if it is not set.
const KEEP: u64 = 1 << 30;
/// The largest share of the budget that `wal.keep` takes by itself: the rest has to hold what is not flushed.
const KEEP_SHARE: u64 = 4;

/// Starts the tasks; `joins` if this node was never taken in.
pub(super) fn start(duty: &Duty, joins: bool) {
    let tasks = &duty.0.tasks;
    let tending = duty.clone();
    tasks.spawn("tend", async move {
        tend(&tending.0, joins).await;
        None
    });
    // The node as a whole, which the first shard speaks for.
    if duty.0.common.config.cluster.nodes.is_empty() || duty.0.leader.node().shard() != CATALOG_SHARD {
        return;
    }
    if joins {
        let joining = duty.clone();
        tasks.spawn("join", async move { is_refused(&joining.0).await });
    } else {
        let (bucket, identity) = (duty.0.common.bucket.clone(), duty.0.common.identity.clone());
        tasks.spawn("bucket", async move { life::watch_bucket(&bucket, &identity).await });
    }
}

async fn tend(needs: &Needs, joins: bool) {
    let (node, address) = (needs.leader.node(), needs.members.address());
    let (me, shard) = (needs.common.identity.node, node.shard());
    let mut told = false;
    let mut expected = joins;
    let mut was_member = false;
    loop {
        node.set_wal_keep(needs.common.share(keep(&needs.common.config, node)));
        let known = needs.members.known();
        let own = known.members.iter().find(|member| member.node == me);
        if own.is_some() && std::mem::take(&mut expected) {
            info!(node = %me, %shard, "this node was taken into the cluster");
        }
        if own.is_none() && std::mem::take(&mut was_member) {
            warn!(node = %me, %shard, "this node was taken out of the cluster: it can be stopped");
        }
        was_member |= own.is_some();
        // Whoever is not a member has nobody to tell.
        let moved = !address.is_empty() && own.is_some_and(|own| own.address != address);
        if moved {
            let request = Request::Moved { node: me, address: address.to_owned() };
            match needs.members.run(request).await {
                Ok(_) => told = false,
                Err(error) if !std::mem::replace(&mut told, true) => {
                    warn!(?error, address, "the others cannot be told where this node is now");
                }
                Err(error) => debug!(?error, "the others cannot be told where this node is now"),
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Flushed log is kept for followers that lag, where there are any.
fn keep(config: &Config, node: &RaftNode) -> u64 {
    config.wal.keep.unwrap_or_else(|| if node.is_alone() { 0 } else { KEEP.min(config.wal.budget / KEEP_SHARE) })
}

/// Asks the others until this node was taken in; answers why the process has to end if it never will be.
async fn is_refused(needs: &Needs) -> Option<String> {
    let Needs { common, members, leader, .. } = needs;
    let Common { identity, config, bucket, .. } = &**common;
    let calls = members.calls()?;
    let (me, directory) = (identity.node, identity.directory);
    loop {
        if leader.node().members().iter().any(|member| member.node == me && member.directory == directory) {
            return None;
        }
        for other in config.cluster.nodes.iter().filter(|other| other.id != me.0) {
            match calls.hello(NodeId(other.id), &other.address).await {
                Ok(hello) if hello.knows_other(me, directory) => {
                    return Some(hello::wiped(me, members.address()).to_string());
                }
                Ok(_) => {}
                // It may be of another life of the cluster, which this node has to begin with then.
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    if let Some(why) = life::is_over(bucket, identity).await {
                        return Some(why);
                    }
                }
                Err(error) => debug!(?error, node = other.id, "a node does not answer"),
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
