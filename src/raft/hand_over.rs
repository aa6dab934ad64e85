//! Giving leadership away on purpose, while others propose: nothing that was proposed is lost or left without an answer.
//!
//! The proposals that are under way are answered first and those that come meanwhile wait, so that between the last answer of
//! this leader and the first of the next there is the hand-over itself and no election timeout. A hand-over that fails leaves
//! things as they were, or has some node elected after the usual timeouts.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use tokio::time::{Instant, timeout, timeout_at};

use super::members::{not_found, stopped};
use super::node::RaftNode;
use crate::error::{Error, Result};
use crate::format::command;
use crate::model::{Command, Control, LogIndex, LoggedCommand, NodeId};

/// How far the next leader may be behind when proposals begin to wait for it.
const LAG: LogIndex = 64;
/// How long it may take to get that near.
const CATCH_UP: Duration = Duration::from_secs(5);
/// How long proposals that are under way are waited for, and then the next leader to have them: with a disk that takes longer
/// the hand-over goes on, since they are answered by way of the next leader too.
const QUIET: Duration = Duration::from_millis(500);
/// How long the leadership is waited for, in election timeouts: if the next leader does not take it, one is elected within these.
const PATIENCE: u32 = 4;

impl RaftNode {
    /// Hands leadership to the voter `to`, and returns once it leads. Nothing is proposed meanwhile, some milliseconds as a rule.
    ///
    /// # Errors
    /// `not_leader`; `node_not_found` if it does not vote; `unavailable` if it lags behind, or did not take over: then some node
    /// is elected after the usual timeouts.
    pub async fn transfer_leader(&self, to: NodeId) -> Result<()> {
        let mut leadership = self.leadership();
        if leadership.borrow_and_update().leader == Some(to) {
            return Ok(());
        }
        self.check_leads()?;
        if !self.members().iter().any(|member| member.node == to && member.voter) {
            return Err(not_found(to.0));
        }
        let deadline = Instant::now() + CATCH_UP;
        self.wait_caught_up(to, LAG, deadline).await?;
        self.tick(to, deadline).await?;
        let begun = Instant::now();
        let alone = timeout(QUIET, self.inner.proposing.write()).await;
        // Another hand-over may have come first.
        self.check_leads()?;
        self.has_all(to, begun + QUIET).await?;
        self.inner.raft.trigger().transfer_leader(to.0).await.map_err(|error| stopped(&error))?;
        let mut took_over = Box::pin(async { leadership.wait_for(|now| now.leader == Some(to)).await.is_ok() });
        let soon = timeout(self.inner.election_timeout, &mut took_over).await;
        // From here on the usual timeouts count, and what waits looks for a leader itself.
        drop(alone);
        let taken = match soon {
            Ok(taken) => Ok(taken),
            Err(_) => timeout_at(begun + self.inner.election_timeout * PATIENCE, took_over).await,
        };
        match taken {
            Ok(true) => {
                tracing::info!(%to, elapsed = ?begun.elapsed(), "leadership was handed over");
                Ok(())
            }
            Ok(false) => Err(Error::unavailable("the node has stopped")),
            Err(_) => Err(Error::unavailable(format!("node {to} did not take leadership over in time"))),
        }
    }

    /// Has `node` append an entry. openraft takes leadership over only where an entry was synced under the leader's vote since
    /// the node was started, however complete its log is.
    async fn tick(&self, node: NodeId, deadline: Instant) -> Result<()> {
        let tick = LoggedCommand { log_time: 0, command: Command::Control(Control::Tick) };
        let (index, _) = self.propose_stamped(command::encode(&tick)?).await?;
        self.wait_matched(node, deadline, |matched, _| matched >= index).await
    }

    /// Waits until `node` has all of this node's log, if that is before `deadline`: what it lacks is sent while nobody takes
    /// proposals.
    async fn has_all(&self, node: NodeId, deadline: Instant) -> Result<()> {
        let mut metrics = self.inner.raft.metrics();
        let matched = metrics.wait_until(|metrics| {
            let matched =
                metrics.replication.as_ref().and_then(|replication| replication.get(&node.0).copied().flatten());
            metrics.running_state.is_err()
                || metrics.replication.is_none()
                || matched.is_some_and(|id| Some(id.index) >= metrics.last_log_index)
        });
        match timeout_at(deadline, matched).await {
            Ok(Ok(metrics)) => metrics.running_state.map_err(|error| stopped(&error)),
            Ok(Err(error)) => Err(stopped(&error)),
            Err(_) => Ok(()),
        }
    }
}
