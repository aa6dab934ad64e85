//! Leaderships and memberships go where they belong, while this node leads.
//!
//! Shard k is led by the voter at place k of all, by number and around, so that every node leads as many as the others. Whoever
//! leads in its place hands over once that one has been there, caught up and willing for `cluster.balance_after`: a failure
//! moves a leadership away, the recovery brings it back, and a node that drains is asked before and says no.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::admin::Request;
use super::duty::Needs;
use super::members::{REACHABLE, seats_of};
use super::profile::{PROFILE, Profile};
use crate::error::{Error, Result};
use crate::model::catalog::CATALOG_SHARD;
use crate::model::{LogIndex, NodeId};
use crate::peer::CallError;
use crate::raft::RaftNode;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// Between two looks at the members of the other shards.
const MATCH: Duration = Duration::from_secs(2);
/// How far behind whoever is handed a leadership may be: a transfer waits for that and no longer than moments.
const LAG: LogIndex = 64;
/// How long a node may take to say whether it wants to lead.
const ASK_DEADLINE: Duration = Duration::from_secs(1);

/// Hands the leadership over to whom it belongs; ends with it.
pub(super) async fn balance(needs: &Needs) {
    let after = needs.common.config.cluster.balance_after;
    if after.is_zero() {
        return;
    }
    let shard = needs.leader.node().shard();
    let mut since: Option<(NodeId, Instant)> = None;
    loop {
        tokio::time::sleep(LOOK.min(after)).await;
        let Some(preferred) = preferred(needs).filter(|preferred| is_fit(needs, *preferred)) else {
            since = None;
            continue;
        };
        let begun = match since {
            Some((node, begun)) if node == preferred => begun,
            _ => since.insert((preferred, Instant::now())).1,
        };
        if begun.elapsed() < after {
            continue;
        }
        // Whatever comes of it, it is tried again only after the same time.
        since = None;
        match hand_over(needs, preferred).await {
            Ok(true) => info!(%shard, to = %preferred, "the leadership went to whom it belongs"),
            Ok(false) => {}
            Err(error) => debug!(%shard, to = %preferred, ?error, "the leadership cannot go to whom it belongs yet"),
        }
    }
}

/// Who is to lead, if it is another node.
fn preferred(needs: &Needs) -> Option<NodeId> {
    let node = needs.leader.node();
    let voters: Vec<NodeId> =
        node.members().into_iter().filter(|member| member.voter).map(|member| member.node).collect();
    // By number, as the members are.
    let place = usize::try_from(node.shard().0).ok()?.checked_rem(voters.len())?;
    voters.get(place).copied().filter(|preferred| *preferred != node.id())
}

/// Whether `preferred` answers and has nearly all of the log.
fn is_fit(needs: &Needs, preferred: NodeId) -> bool {
    let node = needs.leader.node();
    let answers = node.peer_reports().get(&preferred).is_some_and(|report| report.at.elapsed() < REACHABLE);
    let last = node.status().last_log;
    let members = node.members();
    let matched = members.iter().find(|member| member.node == preferred).and_then(|member| member.matched);
    answers && matched.is_some_and(|matched| matched.saturating_add(LAG) >= last)
}

/// Whether the leadership went over; not if the other node does not want it.
async fn hand_over(needs: &Needs, to: NodeId) -> Result<bool> {
    let willing = profile_of(needs, to).await?.may_lead;
    if willing {
        needs.members.run_here(Request::Transfer { to: Some(to) }).await?;
    }
    Ok(willing)
}

async fn profile_of(needs: &Needs, node: NodeId) -> Result<Profile> {
    let others = needs.members.others();
    let target = others.iter().find(|other| other.node == node);
    let (Some(target), Some(calls)) = (target, needs.members.calls()) else {
        return Err(Error::unavailable(format!("node {node} cannot be reached")));
    };
    let answer = calls.call(target, PROFILE, bytes::Bytes::new(), ASK_DEADLINE).await;
    Profile::decode(&answer.map_err(CallError::into_error)?)
}

/// Brings changes of the members to their end that broke off: the one of this shard, which is the first, and then those of the
/// other shards, which are to have the same members; ends with the leadership.
pub(super) async fn keep_matched(needs: &Needs) {
    let mut failing = false;
    loop {
        tokio::time::sleep(MATCH).await;
        if needs.leader.node().is_changing()
            && let Err(error) = needs.leader.node().end_change().await
        {
            debug!(?error, "a change of the members cannot be brought to its end yet");
            continue;
        }
        let seats = seats_of(needs.leader.node());
        let mut others = needs.common.shards.iter().filter(|(shard, _)| *shard != CATALOG_SHARD);
        // Between the two steps of a change the members look as they do after it.
        let matches = |node: &RaftNode| !node.is_changing() && seats_of(node) == seats;
        if others.all(|(_, shard)| shard.leader().local().is_none_or(matches)) {
            continue;
        }
        match needs.members.match_others().await {
            Ok(()) => failing = false,
            // An operator's change that is under way looks the same; it ends within its time.
            Err(error) if !std::mem::replace(&mut failing, true) => {
                warn!(?error, "a shard does not have the members of the first one yet");
            }
            Err(error) => debug!(?error, "a shard does not have the members of the first one yet"),
        }
    }
}
