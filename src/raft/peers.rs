//! What a leader knows of the other nodes: it asks each for its status every few seconds.
//!
//! The answers say which checkpoints must not be deleted, and are the witnesses of log time. They begin anew with each
//! leadership: what an earlier leader was told is not known here. With the question goes what the nodes hold ([`super::acknowledged`]).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::Instant;

use super::leadership::Leadership;
use super::node::{Inner, RaftNode};
use super::transport::PeerAddress;
use super::wire::{self, PeerStatus, kind};
use crate::error::{Error, ErrorKind, Result};
use crate::log_clock::Sighting;
use crate::model::NodeId;

/// How often a leader asks; three answers fit into the age up to which log time believes one.
const INTERVAL: Duration = Duration::from_secs(3);
/// How long it waits for an answer.
const ASK_DEADLINE: Duration = Duration::from_secs(2);

/// A node's answer, and when it came.
#[derive(Debug, Clone)]
pub struct PeerReport {
    /// What it said.
    pub status: PeerStatus,
    /// When it said so.
    pub at: Instant,
}

/// The last answer of each other member, since this node leads.
#[derive(Default)]
pub(super) struct Peers(Mutex<BTreeMap<NodeId, PeerReport>>);

impl Peers {
    fn reports(&self) -> MutexGuard<'_, BTreeMap<NodeId, PeerReport>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the members while `node` leads, until it is gone.
pub(super) async fn watch(node: Weak<Inner>, mut leadership: watch::Receiver<Leadership>) {
    let mut term = 0;
    loop {
        let now = *leadership.borrow_and_update();
        {
            let Some(inner) = node.upgrade() else { return };
            if !now.is_leader || now.term != term {
                inner.peers.reports().clear();
            }
            term = now.term;
            if now.is_leader {
                RaftNode { inner }.ask_members().await;
            }
        }
        let changed = async {
            if now.is_leader {
                tokio::time::timeout(INTERVAL, leadership.changed()).await.unwrap_or(Ok(()))
            } else {
                leadership.changed().await
            }
        };
        if changed.await.is_err() {
            return;
        }
    }
}

impl RaftNode {
    /// Asks a node of the group what it says of itself.
    ///
    /// # Errors
    /// `unavailable` if it is not a member or does not answer in time; what it answers.
    pub async fn peer_status(&self, node: NodeId) -> Result<PeerStatus> {
        if node == self.inner.node {
            return Ok(self.own_status());
        }
        self.ask_status(node, Bytes::new()).await
    }

    /// The same of another node, which is told what the nodes hold.
    async fn ask_status(&self, node: NodeId, held: Bytes) -> Result<PeerStatus> {
        let answer = self.inner.call(node, kind::STATUS, vec![held], ASK_DEADLINE).await;
        let status = wire::decode_status(&answer.map_err(super::TransportError::into_error)?)?;
        if status.node != node {
            return Err(Error::new(
                ErrorKind::Conflict,
                "node_identity_mismatch",
                format!("node {} answered in the place of node {node}", status.node),
            ));
        }
        Ok(status)
    }

    /// Asks a node what it says of itself in this shard, whether it is a member or not.
    ///
    /// # Errors
    /// `unavailable` if it does not answer in time; what it answers.
    pub async fn status_at(&self, target: &PeerAddress) -> Result<PeerStatus> {
        let answer = self.inner.transport.call(target, kind::STATUS, Vec::new(), ASK_DEADLINE).await;
        wire::decode_status(&answer.map_err(super::TransportError::into_error)?)
    }

    /// The last answer of each other member since this node leads; of those that did not answer there is none. Empty on a node
    /// that does not lead.
    #[must_use]
    pub fn peer_reports(&self) -> BTreeMap<NodeId, PeerReport> {
        self.inner.peers.reports().clone()
    }

    /// Asks every other member, notes the answers, and lets log time know the voters' wall clocks.
    async fn ask_members(&self) {
        let members = self.members();
        let others = members.iter().filter(|member| member.node != self.inner.node);
        // What cannot be encoded is not told.
        let held = wire::encode_held(&self.held()).unwrap_or_default();
        let asked = others.map(|member| async {
            let clock = self.inner.shared.clock.get();
            let before = clock.map(|clock| clock.monotonic());
            let status = self.ask_status(member.node, held.clone()).await.ok()?;
            self.tell_if_lost(status.node, status.directory, status.last_log).await;
            let seen =
                clock.zip(before).and_then(|(clock, before)| Sighting::of(status.wall_ms, before, clock.monotonic()));
            Some((status, seen.filter(|_| member.voter)))
        });
        let answers: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
        if let Some(clock) = self.inner.shared.clock.get() {
            clock.saw(answers.iter().filter_map(|(status, seen)| seen.map(|seen| (status.node.0, seen))));
        }
        let at = Instant::now();
        let mut reports = self.inner.peers.reports();
        reports.retain(|node, _| members.iter().any(|member| member.node == *node));
        reports.extend(answers.into_iter().map(|(status, _)| (status.node, PeerReport { status, at })));
    }
}
