//! Proposals that are not proposed where they arise: forwarded to the leader, and taken from a peer.
//!
//! A command is appended only by the leader, which stamps its own log time on whatever comes from elsewhere. What is known
//! of a forwarded command that was not answered is kept apart: what was not sent, or was declined, was not written and may
//! be proposed again; a call that broke may have been.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::{RwLockReadGuard, watch};
use tokio::time::Instant;

use super::error::ProposeError;
use super::leadership::Leadership;
use super::node::RaftNode;
use super::publish::check_proposal;
use super::transport::TransportError;
use super::wire::{self, Proposed, kind};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::format::command::{self, MAX_COMMAND_BYTES};
use crate::model::{Answer, Command, LogIndex, LogTime, NodeId};

/// How long a forwarded command may take. Callers have deadlines of their own; this one ends what a hung leader holds.
pub(super) const FORWARD_DEADLINE: Duration = Duration::from_secs(30);
/// How long a forwarded command is waited for after another leader was heard of: its answer may be on its way.
const MOVED_GRACE: Duration = Duration::from_secs(1);

/// Whether appends that peers send are taken; see [`RaftNode::set_append_gate`].
pub type Gate = Box<dyn Fn() -> Result<()> + Send + Sync>;

/// The gate, once there is one.
#[derive(Default)]
pub(super) struct AppendGate(OnceLock<Gate>);

impl RaftNode {
    /// Asks `gate` before an append of a peer is proposed here: the WAL budget and the low-space mark of the leader decide for
    /// all. Control commands do not pass it. What it says is the caller's answer. Only the first gate counts.
    pub fn set_append_gate(&self, gate: Gate) {
        // A second gate would come from a second opening of the shard, which its lock forbids.
        let _ = self.inner.gate.0.set(gate);
    }

    /// Whether this node is the only voter of its group.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.inner.shared.alone.load(Ordering::Acquire)
    }

    /// Proposes `entry` here or at the leader, once.
    ///
    /// # Errors
    /// See [`ProposeError`]. `NotWritten` also while this node leads and has not yet applied an entry of its term: its log
    /// time is not yet the shard's.
    pub(super) async fn propose_anywhere(&self, entry: Bytes) -> Result<(LogIndex, Answer), ProposeError> {
        if self.is_alone() {
            return self.propose(entry).await;
        }
        if entry.len() > MAX_COMMAND_BYTES {
            return Err(ProposeError::TooLarge { bytes: entry.len(), limit: MAX_COMMAND_BYTES });
        }
        if let Some(_under_way) = self.as_leader().await {
            return self.propose_stamped(entry).await;
        }
        let leader = self.inner.shared.leadership.borrow().leader;
        match leader {
            // Apart, so that a leader's proposals do not carry what forwarding needs.
            Some(leader) if leader != self.inner.node => Box::pin(self.forward(leader, entry)).await,
            _ => Err(ProposeError::NotWritten { leader: None }),
        }
    }

    /// Holds up a hand-over as long as what is returned is held; `None` if this node does not lead. What comes while leadership is
    /// handed over waits for its end, so that it goes to the next leader at once.
    async fn as_leader(&self) -> Option<RwLockReadGuard<'_, ()>> {
        let leads = || self.inner.shared.leadership.borrow().is_leader;
        if !leads() {
            return None;
        }
        let under_way = self.inner.proposing.read().await;
        leads().then_some(under_way)
    }

    /// Proposes `entry` here under the log time of now.
    pub(super) async fn propose_stamped(&self, entry: Bytes) -> Result<(LogIndex, Answer), ProposeError> {
        let Some(clock) = self.inner.shared.clock.get() else {
            return Err(ProposeError::NotWritten { leader: None });
        };
        self.propose(stamp(entry, clock.now())).await
    }

    async fn forward(&self, leader: NodeId, entry: Bytes) -> Result<(LogIndex, Answer), ProposeError> {
        let calling = self.inner.call(leader, kind::PROPOSE, vec![entry], FORWARD_DEADLINE);
        let answered = tokio::select! {
            biased;
            answered = calling => answered,
            () = moved_from(self.leadership(), [leader; 2]) => return Err(ProposeError::Unknown),
        };
        outcome(leader, answered)
    }

    /// Proposes the command that a peer sent.
    pub(super) async fn receive_proposal(&self, from: NodeId, body: Bytes) -> Result<Bytes> {
        // What cannot be decoded would stop every node that applies it.
        let logged = command::decode(&body)
            .map_err(|error| Error::invalid("peer_message", "a peer sent what is not a command").with_source(error))?;
        check_proposal(from, &logged.command)?;
        let is_append = matches!(logged.command, Command::Append(_));
        drop(logged);
        let Some(_under_way) = self.as_leader().await else {
            let leader = self.inner.shared.leadership.borrow().leader.filter(|leader| *leader != self.inner.node);
            return wire::encode_proposed(&Proposed::NotLeader(leader));
        };
        if is_append && let Some(gate) = self.inner.gate.0.get() {
            gate()?;
        }
        let proposed = match self.propose_stamped(body).await {
            Ok((index, answer)) => Proposed::Applied(index, answer),
            Err(ProposeError::NotWritten { leader }) => Proposed::NotLeader(leader),
            Err(ProposeError::Unknown | ProposeError::Fatal(_)) => Proposed::Unknown,
            Err(error @ (ProposeError::TooLarge { .. } | ProposeError::Refused(_))) => return Err(error.into()),
        };
        // It may have been applied.
        wire::encode_proposed(&proposed).map_err(|error| error.with_outcome(Outcome::Unknown))
    }

    /// Waits until this node has applied entry `index`, so that its reads show it; at most `patience`.
    pub(super) async fn catch_up(&self, index: LogIndex, patience: Duration) {
        if let Err(error) = self.wait_applied(index, Instant::now() + patience).await {
            tracing::debug!(index, ?error, "a command was applied by the leader and not yet here");
        }
    }
}

/// What became of a command that was sent to `leader`.
pub(super) fn outcome(
    leader: NodeId,
    answered: Result<Bytes, TransportError>,
) -> Result<(LogIndex, Answer), ProposeError> {
    match answered {
        Ok(body) => match wire::decode_proposed(&body) {
            Ok(Proposed::Applied(index, answer)) => Ok((index, answer)),
            Ok(Proposed::NotLeader(leader)) => Err(ProposeError::NotWritten { leader }),
            Ok(Proposed::Unknown) | Err(_) => Err(ProposeError::Unknown),
        },
        Err(TransportError::NotSent(_)) => Err(ProposeError::NotWritten { leader: None }),
        Err(TransportError::Answered(error)) => Err(match (error.outcome(), error.kind()) {
            (Outcome::NotWritten, ErrorKind::Unavailable | ErrorKind::NotLeader) => {
                ProposeError::NotWritten { leader: None }
            }
            (Outcome::NotWritten, _) => ProposeError::Refused(error),
            _ => ProposeError::Unknown,
        }),
        Err(TransportError::Unknown(error)) => {
            tracing::debug!(%leader, ?error, "a command that was sent to the leader was not answered");
            Err(ProposeError::Unknown)
        }
    }
}

/// Returns a little after another node than these was heard of as the leader: the one that was asked, and the one that named it,
/// which this node may take for the leader a while longer.
pub(super) async fn moved_from(mut leadership: watch::Receiver<Leadership>, known: [NodeId; 2]) {
    let moved = leadership.wait_for(|now| now.leader.is_some_and(|now| !known.contains(&now))).await.is_ok();
    if !moved {
        // The node has stopped; the call ends with it.
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(MOVED_GRACE).await;
}

/// Writes `log_time` into an encoded command; in place if nobody else holds its bytes.
fn stamp(entry: Bytes, log_time: LogTime) -> Bytes {
    let mut entry = entry.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    command::restamp(&mut entry, log_time);
    entry.freeze()
}
