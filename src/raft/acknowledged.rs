//! Followers that lost what they had acknowledged: a disk that was restored from an older copy.
//!
//! Such a node breaks the promise that a majority has every acknowledged record, and may have voted in a term that it does not
//! remember. Whoever leads notices it by its first answer, tells openraft only that the node cannot be reached, and tells the
//! node, which writes that down and ends. A vote of such a node does not count.
//!
//! A leader tells the others every few seconds what each node holds of what is committed (`Held`), so that the next leader
//! knows it too. It is kept in memory: a copy is not noticed that comes back after all others were started anew, or that
//! lacks only what was acknowledged since the last leader spoke.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::raft::AppendEntriesResponse;
use uuid::Uuid;

use super::node::RaftNode;
use super::types::{LogId, TypeConfig, Vote};
use super::wire::{self, Held, Lost, kind};
use crate::error::{Error, Result};
use crate::model::{LogIndex, NodeId};
use crate::planted::{self, Bug};

/// How long a node is told that it lost something; the next answer has it told again.
pub(super) const TELL_DEADLINE: Duration = Duration::from_secs(1);

/// What each follower has acknowledged, for all of openraft's connections to it.
#[derive(Default)]
pub(super) struct Acknowledged(Mutex<Tables>);

#[derive(Default)]
struct Tables {
    /// To this node as the leader of a term.
    known: BTreeMap<u64, Known>,
    /// To whoever led, and committed: nothing takes that back.
    held: BTreeMap<u64, (Uuid, LogId)>,
    /// What was said of it.
    said: BTreeMap<u64, LogId>,
}

#[derive(Clone, Copy)]
struct Known {
    vote: Vote,
    directory: Uuid,
    last: LogId,
}

impl Acknowledged {
    /// What `target` had acknowledged before a call under `vote` is made.
    pub(super) fn before(&self, target: u64, directory: Uuid, vote: &Vote) -> Option<LogId> {
        let tables = self.tables();
        let known = tables.known.get(&target).filter(|known| known.vote == *vote && known.directory == directory);
        // Both are of this leader's log.
        known.map(|known| known.last).max(tables.held_by(target, directory))
    }

    /// `target` acknowledged entries up to `last`.
    pub(super) fn note(&self, target: u64, directory: Uuid, vote: &Vote, last: LogId) {
        let mut tables = self.tables();
        let entry = tables.known.entry(target).or_insert(Known { vote: *vote, directory, last });
        if entry.vote != *vote || entry.directory != directory {
            *entry = Known { vote: *vote, directory, last };
        }
        entry.last = entry.last.max(last);
    }

    /// A leader says what a node holds.
    pub(super) fn note_held(&self, held: &Held) {
        let mut tables = self.tables();
        let entry = tables.held.entry(held.node.0).or_insert((held.directory, held.last));
        if entry.0 != held.directory {
            *entry = (held.directory, held.last);
        }
        entry.1 = entry.1.max(held.last);
    }

    /// What `target` held, if that is more than a log that ends with entry `last`.
    pub(super) fn lost(&self, target: u64, directory: Uuid, last: Option<LogIndex>) -> Option<LogId> {
        self.tables().held_by(target, directory).filter(|held| Some(held.index) > last)
    }

    /// Says once for each follower what happened.
    pub(super) fn say(&self, target: u64, acknowledged: LogId) {
        if self.tables().said.insert(target, acknowledged) == Some(acknowledged) {
            return;
        }
        let (node, index) = (NodeId(target), acknowledged.index);
        tracing::error!(
            %node,
            index,
            "a node has lost entries that it had acknowledged, as if its disk was restored from an older copy: it is sent \
             nothing more; replace it"
        );
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn held_by(&self, target: u64, directory: Uuid) -> Option<LogId> {
        self.held.get(&target).filter(|held| held.0 == directory).map(|held| held.1)
    }
}

/// The last entry that `answer` acknowledges, of a request that ends with `last`.
pub(super) fn acknowledged_by(answer: &AppendEntriesResponse<TypeConfig>, last: Option<LogId>) -> Option<LogId> {
    match answer {
        AppendEntriesResponse::Success => last,
        AppendEntriesResponse::PartialSuccess(upto) => *upto,
        AppendEntriesResponse::Conflict | AppendEntriesResponse::HigherVote(_) => None,
    }
}

impl RaftNode {
    /// What each member holds durably of what is committed, as this node knows it as the leader; also for a later leadership.
    pub(super) fn held(&self) -> Vec<Held> {
        // With that bug it is not true.
        if planted::is(Bug::AckOnOneOfThree) {
            return Vec::new();
        }
        let metrics = self.inner.raft.metrics().borrow_watched().clone();
        let (Some(committed), Some(replication)) = (metrics.local_committed, metrics.replication) else {
            return Vec::new();
        };
        let held = replication.into_iter().filter_map(|(node, matched)| {
            let node = NodeId(node);
            Some(Held { node, directory: self.inner.directory_of(node)?, last: matched?.min(committed) })
        });
        let held: Vec<Held> = held.collect();
        held.iter().for_each(|held| self.inner.shared.acknowledged.note_held(held));
        held
    }

    /// `from`, if it leads, says what the nodes hold.
    pub(super) async fn receive_held(&self, from: NodeId, body: &[u8]) -> Result<()> {
        if self.inner.shared.leadership.borrow().leader != Some(from) {
            return Ok(());
        }
        for held in wire::decode_held(body)? {
            if self.inner.directory_of(held.node) != Some(held.directory) {
                continue;
            }
            if held.node == self.inner.node {
                self.give_up_if_lost(held.last.index).await;
            } else {
                self.inner.shared.acknowledged.note_held(&held);
            }
        }
        Ok(())
    }

    /// Tells `node`, whose log ends with entry `last`, that it held more, if it did.
    pub(super) async fn tell_if_lost(&self, node: NodeId, directory: Uuid, last: LogIndex) {
        let Some(lost) = self.inner.shared.acknowledged.lost(node.0, directory, Some(last)) else { return };
        let vote = self.inner.raft.metrics().borrow_watched().vote;
        let Ok(told) = wire::encode_lost(&Lost { vote, acknowledged: lost.index }) else { return };
        match self.inner.call(node, kind::LOST, vec![told], TELL_DEADLINE).await {
            Ok(_) => self.inner.shared.acknowledged.say(node.0, lost),
            Err(error) => {
                tracing::debug!(%node, error = ?error.into_error(), "a node does not say that it lost something")
            }
        }
    }

    /// The leader says that this node has lost entries: if that is so, it must not take part any more.
    pub(super) async fn receive_lost(&self, told: Lost) -> Result<()> {
        let vote = self.inner.raft.metrics().borrow_watched().vote;
        if told.vote < vote || !self.give_up_if_lost(told.acknowledged).await {
            return Err(Error::invalid(
                "peer_message",
                "this node has what it acknowledged, or follows another leader",
            ));
        }
        Ok(())
    }

    /// Ends this node if it does not have entry `acknowledged`, which it had; whether that is so.
    async fn give_up_if_lost(&self, acknowledged: LogIndex) -> bool {
        let last = match self.inner.shared.log.last_index() {
            Ok(last) if last < acknowledged => last,
            _ => return false,
        };
        let why = format!(
            "this node had acknowledged entry {acknowledged} of the log and has {last} entries: its disk was restored from an \
             older copy, and it may have forgotten votes too; replace it by a node with a new number and an empty directory: \
             tidelog admin replace-node {} NEW HOST:PORT",
            self.inner.node
        );
        let (meta, text) = (self.inner.shared.meta.clone(), why.clone());
        let written = crate::blocking::spawn(move || meta.write_lost(&text)).await;
        if !matches!(written, Ok(Ok(()))) {
            tracing::error!("that this log must not be used any more could not be written down");
        }
        self.inner.shared.give_up(why);
        true
    }
}
