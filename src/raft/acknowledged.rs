//! Followers that lost what they had acknowledged: a disk that was restored from an older copy.
//!
//! Such a node breaks the promise that a majority has every acknowledged record, and may have voted in a term that it does not
//! remember. Whoever leads notices it by its first answer, tells openraft only that the node cannot be reached, and tells the
//! node, which writes that down and ends. What only an earlier leader knew of a follower is not known here: a copy that comes
//! back after the leader changed is taken for a node that was away.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::raft::AppendEntriesResponse;
use uuid::Uuid;

use super::node::RaftNode;
use super::types::{LogId, TypeConfig, Vote};
use super::wire::Lost;
use crate::error::{Error, Result};
use crate::model::NodeId;

/// How long a node is told that it lost something; the next answer has it told again.
pub(super) const TELL_DEADLINE: Duration = Duration::from_secs(1);

/// What each follower has acknowledged to this node as the leader of a term, for all of openraft's connections to it.
#[derive(Default)]
pub(super) struct Acknowledged(Mutex<BTreeMap<u64, Known>>);

#[derive(Clone, Copy)]
struct Known {
    vote: Vote,
    directory: Uuid,
    last: LogId,
    /// It was said already.
    said: bool,
}

impl Acknowledged {
    /// What `target` had acknowledged before a call under `vote` is made.
    pub(super) fn before(&self, target: u64, directory: Uuid, vote: &Vote) -> Option<LogId> {
        let known = self.known();
        let known = known.get(&target).filter(|known| known.vote == *vote && known.directory == directory)?;
        Some(known.last)
    }

    /// `target` acknowledged entries up to `last`.
    pub(super) fn note(&self, target: u64, directory: Uuid, vote: &Vote, last: LogId) {
        let mut known = self.known();
        let entry = known.entry(target).or_insert(Known { vote: *vote, directory, last, said: false });
        if entry.vote != *vote || entry.directory != directory {
            *entry = Known { vote: *vote, directory, last, said: false };
        }
        entry.last = entry.last.max(last);
    }

    /// Says once for each follower and term what happened.
    pub(super) fn say(&self, target: u64, acknowledged: LogId) {
        let mut known = self.known();
        let Some(known) = known.get_mut(&target).filter(|known| !known.said) else { return };
        known.said = true;
        let (node, index) = (NodeId(target), acknowledged.index);
        tracing::error!(
            %node,
            index,
            "a node has lost entries that it had acknowledged, as if its disk was restored from an older copy: it is sent \
             nothing more; replace it"
        );
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<u64, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// The leader says that this node has lost entries: if that is so, it must not take part any more.
    pub(super) async fn receive_lost(&self, told: Lost) -> Result<()> {
        let metrics = self.inner.raft.metrics().borrow_watched().clone();
        let last = metrics.last_log_index.unwrap_or(0);
        if told.vote < metrics.vote || last >= told.acknowledged {
            return Err(Error::invalid(
                "peer_message",
                "this node has what it acknowledged, or follows another leader",
            ));
        }
        let why = format!(
            "this node had acknowledged entry {} of the log and has {last} entries: its disk was restored from an older copy, \
             and it may have forgotten votes too; replace it by a node with a new number and an empty directory: \
             tidelog admin replace-node {} NEW HOST:PORT",
            told.acknowledged, self.inner.node
        );
        let (meta, text) = (self.inner.shared.meta.clone(), why.clone());
        let written = crate::blocking::spawn(move || meta.write_lost(&text)).await;
        if !matches!(written, Ok(Ok(()))) {
            tracing::error!("that this log must not be used any more could not be written down");
        }
        self.inner.shared.give_up(why);
        Ok(())
    }
}
