//! What a node does for gateways: tells them what it applies, and reads entries of the tail for them.
//!
//! Only what is applied leaves the node: an entry that is not may be replaced. A gateway that is behind the log is told the
//! newest checkpoint. Answers are bounded in entries and bytes, and so is what is read of the disk for one.

use std::time::Duration;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::async_runtime::WatchReceiver;
use tokio::time::{Instant, timeout_at};

use super::node::RaftNode;
use super::types::{EncodedCommand, Member, term_of};
use super::wire::{self, Content, FollowAsked, Followed, MAX_ENTRY_BYTES, MAX_HEAD_BYTES, MAX_HEADS, Voter, kind};
use crate::error::{Error, ErrorKind, Result};
use crate::format::command;
use crate::model::{Command, Control, LogIndex, NodeId};

/// The longest that a question waits for news; its callers give up later.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// Bytes of whole entries that are read for the heads of one answer.
const MAX_READ_BYTES: usize = 16 << 20;

/// What may have news for a gateway besides entries.
#[derive(PartialEq, Eq)]
struct Outlook {
    term: u64,
    leader: Option<NodeId>,
    version: u64,
}

impl RaftNode {
    /// Answers a gateway that follows this node, once there is something that it does not know or its wait is over.
    pub(super) async fn receive_follow(&self, body: &[u8]) -> Result<Vec<Bytes>> {
        let asked = wire::decode_follow(body)?;
        self.wait_for_news(&asked).await;
        let Outlook { term, leader, version } = self.outlook();
        let applied = *self.inner.shared.applied().borrow();
        let content = self.content(asked.next, applied).await?;
        let log_time = self.with_state(|state| state.log_time());
        let log_time = match self.inner.shared.clock.get() {
            // Only a leader's clock is the log's.
            Some(clock) if leader == Some(self.inner.node) => clock.now().max(log_time),
            _ => log_time,
        };
        let members = (asked.members != Some(version)).then(|| (version, self.voters()));
        wire::encode_followed(Followed { term, leader, applied, log_time, members, content })
    }

    async fn wait_for_news(&self, asked: &FollowAsked) {
        let Some(next) = asked.next else { return };
        let until = Instant::now() + Duration::from_millis(asked.wait_ms).min(MAX_WAIT);
        let mut applied = self.inner.shared.applied();
        let mut leadership = self.leadership();
        let mut members = self.inner.raft.server_metrics();
        loop {
            let outlook = self.outlook();
            let is_news = asked.leader != outlook.leader || asked.members != Some(outlook.version);
            if *applied.borrow_and_update() >= next || is_news {
                return;
            }
            leadership.borrow_and_update();
            let changed = async {
                tokio::select! {
                    biased;
                    changed = applied.changed() => changed.is_ok(),
                    changed = leadership.changed() => changed.is_ok(),
                    changed = members.changed() => changed.is_ok(),
                }
            };
            // The time is over, or the node has stopped, which the caller notices.
            if !timeout_at(until, changed).await.unwrap_or(false) {
                return;
            }
        }
    }

    fn outlook(&self) -> Outlook {
        let mut leadership = *self.inner.shared.leadership.borrow();
        if leadership.leader == Some(self.inner.node) && self.is_forsaken() {
            leadership.leader = None;
        }
        let metrics = self.inner.raft.server_metrics();
        let at = *metrics.borrow_watched().membership_config.log_id();
        // Compared only: another entry at the same index is of another term.
        let version = at.map_or(0, |id| term_of(&id).rotate_left(40) ^ (id.index + 1));
        Outlook { term: leadership.term, leader: leadership.leader, version }
    }

    fn voters(&self) -> Vec<Voter> {
        let metrics = self.inner.raft.server_metrics();
        let stored = metrics.borrow_watched().membership_config.clone();
        let membership = stored.membership();
        let voters: Vec<u64> = membership.voter_ids().collect();
        let voter = |(node, member): (&u64, &Member)| Voter {
            node: NodeId(*node),
            directory: member.directory,
            address: member.address.clone(),
            voter: voters.contains(node),
        };
        membership.nodes().map(voter).collect()
    }

    /// The heads from `next` on, or the checkpoint to begin with.
    async fn content(&self, next: Option<LogIndex>, applied: LogIndex) -> Result<Content> {
        let newest = || self.inner.shared.pointer().map(|pointer| pointer.reference);
        let Some(next) = next else {
            // Without a checkpoint the log has everything.
            return match newest() {
                Some(reference) => Ok(Content::Checkpoint(reference)),
                None => self.heads(0, applied).await.map(Content::Heads),
            };
        };
        let heads = self.heads(next, applied).await?;
        if !heads.is_empty() || next > applied {
            return Ok(Content::Heads(heads));
        }
        match newest().filter(|newest| newest.index >= next) {
            Some(newest) => Ok(Content::Checkpoint(newest)),
            None => {
                Err(Error::unavailable(format!("the log does not have entry {next} any more, and no checkpoint has")))
            }
        }
    }

    /// As many as fit from `next` on, up to `applied`, and up to what the log has.
    async fn heads(&self, next: LogIndex, applied: LogIndex) -> Result<Vec<Option<Bytes>>> {
        let (mut heads, mut bytes, mut read) = (Vec::new(), 0, 0);
        while heads.len() < MAX_HEADS && bytes < MAX_HEAD_BYTES && read < MAX_READ_BYTES {
            let from = next + heads.len() as u64;
            if from > applied {
                break;
            }
            // A stretch of the log at once; a bounded one.
            let entries = self.inner.shared.log.entries(from, applied + 1).await.map_err(unreadable)?;
            if entries.is_empty() {
                break;
            }
            for entry in entries.into_iter().take(MAX_HEADS - heads.len()) {
                let head = match entry.payload {
                    EntryPayload::Normal(EncodedCommand(whole)) => {
                        read += whole.len();
                        Some(command::head(&whole)?)
                    }
                    EntryPayload::Blank | EntryPayload::Membership(_) => None,
                };
                bytes += head.as_ref().map_or(0, Bytes::len);
                heads.push(head);
            }
        }
        Ok(heads)
    }

    /// Reads the entries that a gateway asks for, as many as fit.
    pub(super) async fn receive_entries_asked(&self, body: &[u8]) -> Result<Vec<Bytes>> {
        let indices = wire::decode_entries_asked(body)?;
        let applied = *self.inner.shared.applied().borrow();
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for index in indices {
            if index > applied || bytes >= MAX_ENTRY_BYTES {
                break;
            }
            let entry = self.read_entry(index).await?;
            bytes += entry.as_ref().map_or(0, Bytes::len);
            entries.push(entry);
        }
        wire::encode_entries(entries)
    }
}

fn unreadable(error: std::io::Error) -> Error {
    Error::internal("the write-ahead log cannot be read").with_source(error)
}

/// Refuses what no gateway asks for: it does not vote, and what a leader decides is not its business.
pub(super) fn check_gateway(from: NodeId, kind: u8) -> Result<()> {
    let allowed =
        [kind::PROPOSE, kind::READ_INDEX, kind::CHECKPOINT_FILES, kind::STATUS, kind::FOLLOW, kind::READ_ENTRIES];
    if from != NodeId::GATEWAY || allowed.contains(&kind) {
        return Ok(());
    }
    Err(Error::invalid("peer_message", format!("a gateway sends no calls of kind {kind}")))
}

/// Refuses what only a leader proposes.
pub(super) fn check_proposal(from: NodeId, command: &Command) -> Result<()> {
    let leaders_own = matches!(
        command,
        Command::Control(
            Control::Flushed { .. }
                | Control::RemoveTopics { .. }
                | Control::Trim { .. }
                | Control::Condemn { .. }
                | Control::SetLimits(_)
                | Control::SetShards { .. }
                | Control::AdoptTopic { .. }
                | Control::Adopted { .. }
                | Control::RaiseVersion { .. }
                | Control::Reopen { .. }
                | Control::Unseal
        )
    );
    if from == NodeId::GATEWAY && leaders_own {
        let message = "a gateway does not propose what only the leader decides";
        return Err(Error::new(ErrorKind::Invalid, "peer_message", message));
    }
    Ok(())
}
