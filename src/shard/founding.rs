//! Beginning a shard whose founder is gone: its disk was lost between the moment at which the catalog counted the shard and the one
//! at which it began it.
//!
//! With which members a shard begins the bucket says, and it says it once: whoever begins it writes them down if nobody has, and
//! goes by what is there. So there is one group whoever begins it, and any of its first members may, since all of them begin
//! with the same entry. The founder does it as soon as the shard is counted. Only once it is taken out of the cluster do others:
//! those that the bucket names, or, if it names nobody, the voters that the first shard has now, as soon as each of them says that
//! it has nothing of the shard.
//!
//! | a crash right after | leaves |
//! |---|---|
//! | the members were written down (`shard.decided`) | nothing else, and whoever comes next begins with these |
//! | one of them has begun | a node that asks the others for votes; they begin too, or are sent what they lack |

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use tracing::{debug, info, warn};

use super::common::Common;
use super::{Shard, catalog, life};
use crate::error::{ErrorKind, Result};
use crate::model::{NodeId, ShardId};
use crate::raft::{Member, PeerAddress, RaftNode};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// With which members the founder begins `shard`: those that are written down, `members` if none are.
pub(super) async fn members_of(
    common: &Common,
    shard: ShardId,
    members: BTreeMap<NodeId, Member>,
) -> Result<BTreeMap<NodeId, Member>> {
    life::begin_group(&common.bucket, common.identity.incarnation, shard, members).await
}

/// Begins whatever is open here and was to be begun by a node that is gone, again and again.
pub(super) async fn watch(common: &Common, zero: &Shard) {
    let Some(zero) = zero.leader().local() else { return };
    loop {
        tokio::time::sleep(LOOK).await;
        for (id, shard) in common.shards.iter() {
            let Some(node) = shard.leader().local().filter(|node| node.members().is_empty()) else { continue };
            if !is_abandoned(zero, id) {
                continue;
            }
            match begin(common, zero, node).await {
                Ok(true) => info!(shard = %id, "a shard was begun in the place of its founder"),
                Ok(false) => {}
                // Whoever does not answer may have it.
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    debug!(shard = %id, ?error, "a shard whose founder is gone cannot be begun yet");
                }
                Err(error) => warn!(shard = %id, ?error, "a shard whose founder is gone cannot be begun yet"),
            }
        }
    }
}

/// Whether the founder of `shard` is no member of the cluster any more, as far as this node knows.
fn is_abandoned(zero: &RaftNode, shard: ShardId) -> bool {
    let founder = zero.with_state(|state| catalog::founder(state, shard));
    founder.is_some_and(|founder| zero.members().iter().all(|member| member.node != founder))
}

/// Begins the shard of `node`; whether this node was to.
async fn begin(common: &Common, zero: &RaftNode, node: &RaftNode) -> Result<bool> {
    // What a node that is behind knows must not be what counts.
    zero.linearize().await?;
    let (id, me) = (node.shard(), common.identity.node);
    if !is_abandoned(zero, id) {
        return Ok(false);
    }
    let incarnation = common.identity.incarnation;
    let members = match life::group_of(&common.bucket, incarnation, id).await? {
        Some(members) => members,
        None => {
            let voters = super::host::voters(zero);
            if !voters.contains_key(&me) || !have_nothing(node, &voters, me).await? {
                return Ok(false);
            }
            life::begin_group(&common.bucket, incarnation, id, voters).await?
        }
    };
    if !members.contains_key(&me) {
        return Ok(false);
    }
    node.begin(members).await?;
    Ok(true)
}

/// Whether each of the other `voters` says that it has nothing of the shard of `node`.
async fn have_nothing(node: &RaftNode, voters: &BTreeMap<NodeId, Member>, me: NodeId) -> Result<bool> {
    let others = voters.iter().filter(|(other, _)| **other != me).map(|(other, member)| PeerAddress {
        node: *other,
        directory: member.directory,
        address: member.address.clone(),
    });
    let asked = join_all(others.map(|other| async move { node.status_at(&other).await })).await;
    let mut nothing = true;
    for status in asked {
        let status = status?;
        nothing &= status.last_log == 0 && status.applied == 0 && status.checkpoint.is_none();
    }
    Ok(nothing)
}
