//! Who leads, as seen by this node, and what begins with a leadership: log time goes on from the state's.
//!
//! Driven by openraft's server metrics, which change with elections and memberships: no entry wakes anybody here, but for
//! the first ones of a term.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use openraft::Instant as _;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::Fatal;
use openraft::{Raft, RaftState};

use super::machine::{Machine, Shared};
use super::node::RaftNode;
use super::types::{TypeConfig, term_of};
use crate::log_clock::LogClock;
use crate::model::NodeId;

/// How long followers believe in a leader, in election timeouts: openraft's lease is the longest timeout.
pub(super) const LEASE: u32 = 2;

/// Who leads the shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leadership {
    /// The term this node is in. Whoever follows a leadership compares it: one may end and the next begin between two looks.
    pub term: u64,
    /// Who leads, if that is known.
    pub leader: Option<NodeId>,
    /// This node leads and has applied an entry of its term, so that its state has all that was acknowledged before. A leader
    /// that was cut off says so until it hears of another; nothing that it proposes meanwhile is acknowledged.
    pub is_leader: bool,
}

/// What openraft says at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    term: u64,
    leader: Option<u64>,
    voters: usize,
    /// Nobody else votes.
    pub(super) alone: bool,
}

impl Seen {
    /// Asks the core of `raft`, which is node `node`.
    pub(super) async fn of(raft: &Raft<TypeConfig, Machine>, node: u64) -> Result<Self, Fatal<TypeConfig>> {
        raft.with_raft_state(move |state: &RaftState<TypeConfig>| {
            let vote = state.vote_ref();
            let membership = state.membership_state.effective();
            let voters: Vec<u64> = membership.voter_ids().collect();
            Self {
                term: vote.leader_id.term,
                leader: vote.committed.then_some(vote.leader_id.voted_for),
                voters: voters.len(),
                alone: voters == [node],
            }
        })
        .await
    }
}

/// Keeps [`Shared::leadership`] up to date until the node stops.
pub(super) async fn follow(raft: Raft<TypeConfig, Machine>, shared: Arc<Shared>, node: u64) {
    let mut changes = raft.server_metrics();
    let mut applied = shared.applied();
    'stopped: loop {
        // Whatever comes from now on is another change.
        drop(changes.borrow_and_update());
        let Ok(seen) = Seen::of(&raft, node).await else { break };
        let leads = seen.leader == Some(node);
        let caught_up = || leads && shared.last_applied().is_some_and(|id| term_of(&id) >= seen.term);
        let mut is_leader = caught_up();
        publish(&shared, seen, is_leader);
        loop {
            tokio::select! {
                biased;
                changed = changes.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => break 'stopped,
                },
                changed = applied.changed(), if leads && !is_leader => {
                    is_leader = caught_up();
                    if is_leader {
                        publish(&shared, seen, true);
                    }
                    if changed.is_err() {
                        break 'stopped;
                    }
                }
            }
        }
    }
    end(&shared);
}

/// Nobody is known to lead any more: the node stops.
pub(super) fn end(shared: &Shared) {
    shared.leadership.send_modify(|last| *last = Leadership { term: last.term, leader: None, is_leader: false });
}

impl RaftNode {
    /// Whether this node leads and no majority of voters has acknowledged that for as long as they believe in a leader: they may
    /// have another one by now, of which this node has not heard. Nobody is woken when this changes.
    pub(super) fn is_forsaken(&self) -> bool {
        if self.is_alone() {
            return false;
        }
        let metrics = self.inner.raft.metrics();
        let acknowledged = metrics.borrow_watched().last_quorum_acked;
        acknowledged.is_some_and(|at| at.into_inner().elapsed() > self.inner.election_timeout * LEASE)
    }

    /// Has `clock` follow the leaderships of this node from now on.
    pub(super) fn follow_with(&self, clock: Arc<LogClock>) {
        let shared = &self.inner.shared;
        let voters = self.members().iter().filter(|member| member.voter).count();
        clock.set_voters(voters);
        if voters > 1 {
            // It may have been made as that of a lone voter, which believes its wall clock.
            clock.rebase(shared.with_state(|state| state.log_time()));
        }
        // Clones of a leader bring the same clock again.
        let _ = shared.clock.set(clock);
    }
}

fn publish(shared: &Shared, seen: Seen, is_leader: bool) {
    shared.alone.store(seen.alone, Ordering::Release);
    let now = Leadership { term: seen.term, leader: seen.leader.map(NodeId), is_leader };
    let before = *shared.leadership.borrow();
    if let Some(clock) = shared.clock.get() {
        clock.set_voters(seen.voters);
        if now != before && (is_leader || now.leader != before.leader) {
            clock.rebase(shared.with_state(|state| state.log_time()));
        }
    }
    if now != before {
        shared.leadership.send_replace(now);
    }
}
