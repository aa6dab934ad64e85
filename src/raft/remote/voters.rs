//! Who is asked: the members as they were heard of last, the leader before the others, and nobody again at once who failed.
//!
//! A node that lost its majority may answer all the same, and believe that it leads: who cannot say up to where everything is
//! committed is doubted, and passed over like one that failed until it can.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::NodeId;
use crate::raft::transport::PeerAddress;
use crate::raft::wire::Voter;

/// How long a node is passed over that failed.
const AVOIDED: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Voters(Mutex<Inner>);

struct Inner {
    version: Option<u64>,
    members: Vec<Voter>,
    avoided: BTreeMap<NodeId, Instant>,
    doubted: BTreeMap<NodeId, Instant>,
    turn: usize,
}

impl Voters {
    /// Begins somewhere, so that many gateways do not ask one node.
    pub(super) fn new(members: Vec<Voter>) -> Self {
        Self(Mutex::new(Inner {
            version: None,
            members,
            avoided: BTreeMap::new(),
            doubted: BTreeMap::new(),
            turn: rand::random_range(0..64),
        }))
    }

    pub(super) fn all(&self) -> Vec<Voter> {
        self.lock().members.clone()
    }

    /// The version of the members that were heard of from a node of the group.
    pub(super) fn version(&self) -> Option<u64> {
        self.lock().version
    }

    /// Takes over the members as a node of the group knows them; without a version they count until one says more.
    pub(super) fn set(&self, version: Option<u64>, members: Vec<Voter>) {
        if members.is_empty() {
            return;
        }
        let mut inner = self.lock();
        let Inner { avoided, doubted, .. } = &mut *inner;
        for passed_over in [avoided, doubted] {
            passed_over.retain(|node, _| members.iter().any(|member| member.node == *node));
        }
        (inner.version, inner.members) = (version, members);
    }

    /// Where `node` is.
    pub(super) fn address(&self, node: NodeId) -> Option<PeerAddress> {
        self.lock().members.iter().find(|member| member.node == node).map(address)
    }

    /// Everybody, in the order in which to ask: `leader` first, then round about; those that failed lately last.
    pub(super) fn in_order(&self, leader: Option<NodeId>) -> Vec<PeerAddress> {
        self.in_order_at(leader, Instant::now())
    }

    fn in_order_at(&self, leader: Option<NodeId>, now: Instant) -> Vec<PeerAddress> {
        let mut inner = self.lock();
        inner.turn = inner.turn.wrapping_add(1);
        let count = inner.members.len().max(1);
        let at = inner.turn % count;
        let (after, before) = inner.members.split_at(at.min(inner.members.len()));
        let mut members: Vec<&Voter> = before.iter().chain(after).collect();
        let failed = |member: &Voter| {
            [&inner.avoided, &inner.doubted].iter().any(|all| all.get(&member.node).is_some_and(|until| *until > now))
        };
        // A learner may have nothing yet.
        members.sort_by_key(|member| (failed(member), Some(member.node) != leader, !member.voter));
        members.into_iter().map(address).collect()
    }

    /// `node` did not answer.
    pub(super) fn failed(&self, node: NodeId) {
        self.lock().avoided.insert(node, Instant::now() + AVOIDED);
    }

    /// `node` answered.
    pub(super) fn answered(&self, node: NodeId) {
        let mut inner = self.lock();
        if !inner.avoided.is_empty() {
            inner.avoided.remove(&node);
        }
    }

    /// `node` was asked as the leader and could not say up to where everything is committed.
    pub(super) fn doubt(&self, node: NodeId) {
        self.lock().doubted.insert(node, Instant::now() + AVOIDED);
    }

    /// `node` leads, and a majority of voters says so.
    pub(super) fn confirmed(&self, node: NodeId) {
        let mut inner = self.lock();
        if !(inner.doubted.is_empty() && inner.avoided.is_empty()) {
            inner.doubted.remove(&node);
            inner.avoided.remove(&node);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn address(member: &Voter) -> PeerAddress {
    PeerAddress { node: member.node, directory: member.directory, address: member.address.clone() }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn member(node: u64) -> Voter {
        Voter { node: NodeId(node), directory: Uuid::nil(), address: format!("h:{node}"), voter: node != 4 }
    }

    fn order(voters: &Voters, leader: u64) -> Vec<u64> {
        voters.in_order(Some(NodeId(leader))).iter().map(|address| address.node.0).collect()
    }

    #[test]
    fn the_leader_is_asked_first_and_who_failed_last() {
        let voters = Voters::new((1..=4).map(member).collect());
        for _ in 0..8 {
            let order = order(&voters, 2);
            assert!(order[0] == 2 && order[3] == 4 && order.len() == 4, "{order:?}");
        }
        let seconds: std::collections::BTreeSet<u64> = (0..8).map(|_| order(&voters, 2)[1]).collect();
        assert_eq!(seconds, [1, 3].into(), "the others take turns");
        voters.failed(NodeId(2));
        assert_eq!(order(&voters, 2)[3], 2);
        voters.answered(NodeId(2));
        assert_eq!(order(&voters, 2)[0], 2);
        // That it answers does not make it the leader.
        voters.doubt(NodeId(2));
        voters.answered(NodeId(2));
        assert_eq!(order(&voters, 2)[3], 2);
        voters.confirmed(NodeId(2));
        assert_eq!(order(&voters, 2)[0], 2);
        voters.failed(NodeId(1));
        voters.doubt(NodeId(1));
        let later = voters.in_order_at(Some(NodeId(1)), Instant::now() + AVOIDED);
        assert_eq!(later[0].node, NodeId(1));
        voters.set(Some(7), Vec::new());
        assert_eq!(voters.all().len(), 4, "a group has members");
    }
}
