//! A shard as everything above uses it, whether this process keeps its log or follows it: one `match` a call, and no more.

use std::future::pending;

use bytes::Bytes;
use tokio::sync::watch;

use super::error::ProposeError;
use super::growth::Growth;
use super::leader::Leader;
use super::leadership::Leadership;
use super::node::{RaftNode, RaftStatus};
use super::remote::Remote;
use crate::error::Result;
use crate::model::{Answer, Control, LogIndex, LogTime, ShardId, TopicPartition};
use crate::state::State;

/// Proposes to a shard and reads it; clones share it.
#[derive(Debug, Clone)]
pub enum Handle {
    /// This process is a member of the group.
    Local(Leader),
    /// It follows the shard.
    Remote(Remote),
}

impl From<Leader> for Handle {
    fn from(leader: Leader) -> Self {
        Self::Local(leader)
    }
}

impl From<Remote> for Handle {
    fn from(remote: Remote) -> Self {
        Self::Remote(remote)
    }
}

impl Handle {
    /// The state of the shard and its log.
    #[must_use]
    pub fn node(&self) -> &Self {
        self
    }

    /// Log time now, as far as this process knows it.
    #[must_use]
    pub fn log_time(&self) -> LogTime {
        match self {
            Self::Local(leader) => leader.log_time(),
            Self::Remote(remote) => remote.log_time(),
        }
    }

    /// Milliseconds by which log time is behind wall time.
    #[must_use]
    pub fn log_time_lag_ms(&self) -> i64 {
        match self {
            Self::Local(leader) => leader.log_time_lag_ms(),
            Self::Remote(remote) => remote.log_time_lag_ms(),
        }
    }

    /// See [`Leader::propose`].
    ///
    /// # Errors
    /// As there.
    pub async fn propose(&self, entry: Bytes) -> Result<(LogIndex, Answer), ProposeError> {
        match self {
            Self::Local(leader) => leader.propose(entry).await,
            // Apart, so that a member's proposals do not carry what this one needs.
            Self::Remote(remote) => Box::pin(remote.propose(entry)).await,
        }
    }

    /// See [`Leader::control`].
    ///
    /// # Errors
    /// As there.
    pub async fn control(&self, control: Control) -> Result<(LogIndex, Answer)> {
        match self {
            Self::Local(leader) => leader.control(control).await,
            Self::Remote(remote) => Box::pin(remote.control(control)).await,
        }
    }

    /// The state as it is now; it never changes. A short lock and a few pointers.
    #[must_use]
    pub fn view(&self) -> State {
        self.with_state(State::clone)
    }

    /// Calls `f` with the state. `apply` waits for it: for a few look-ups, anything longer takes a [`Handle::view`].
    pub fn with_state<R>(&self, f: impl FnOnce(&State) -> R) -> R {
        match self {
            Self::Local(leader) => leader.node().with_state(f),
            Self::Remote(remote) => remote.with_state(f),
        }
    }

    /// Whether the state may be read without a linearizable read: always that of a member, that of one that follows for a time
    /// after its last contact, since what it names may be deleted then.
    ///
    /// # Errors
    /// `unavailable` if it may not.
    pub fn usable(&self) -> Result<()> {
        match self {
            Self::Local(_) => Ok(()),
            Self::Remote(remote) => remote.usable(),
        }
    }

    /// The last applied log index; each value is visible in the state when it is seen here.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<LogIndex> {
        match self {
            Self::Local(leader) => leader.node().applied(),
            Self::Remote(remote) => remote.applied(),
        }
    }

    /// Who leads, and whether this process does.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        match self {
            Self::Local(leader) => leader.node().leadership(),
            Self::Remote(remote) => remote.leadership(),
        }
    }

    /// Whether this process is the only voter of the group.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        match self {
            Self::Local(leader) => leader.node().is_alone(),
            Self::Remote(_) => false,
        }
    }

    /// Returns once the state has all that was committed when this was called, whoever leads.
    ///
    /// # Errors
    /// `unavailable` if no leader with a majority of voters was found, or the state does not catch up.
    pub async fn linearize(&self) -> Result<()> {
        match self {
            Self::Local(leader) => leader.node().linearize().await,
            Self::Remote(remote) => remote.linearize().await,
        }
    }

    /// See [`super::RaftNode::watch_growth`].
    ///
    /// # Errors
    /// `overloaded` if too many wait.
    pub fn watch_growth(&self, partitions: &[TopicPartition]) -> Result<Growth> {
        match self {
            Self::Local(leader) => leader.node().watch_growth(partitions),
            Self::Remote(remote) => remote.watch_growth(partitions),
        }
    }

    /// The encoded command of entry `index`; `None` if the log does not have it (any more): make the plan again.
    ///
    /// # Errors
    /// `corrupt` if its checksum is wrong, or that it cannot be read.
    pub async fn read_entry(&self, index: LogIndex) -> Result<Option<Bytes>> {
        match self {
            Self::Local(leader) => leader.node().read_entry(index).await,
            Self::Remote(remote) => remote.read_entry(index).await,
        }
    }

    /// What is known of the shard here.
    #[must_use]
    pub fn status(&self) -> RaftStatus {
        match self {
            Self::Local(leader) => leader.node().status(),
            Self::Remote(remote) => remote.status(),
        }
    }

    /// The node, if this process is a member of the group.
    #[must_use]
    pub fn local(&self) -> Option<&RaftNode> {
        match self {
            Self::Local(leader) => Some(leader.node()),
            Self::Remote(_) => None,
        }
    }

    /// The shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        match self {
            Self::Local(leader) => leader.node().shard(),
            Self::Remote(remote) => remote.shard(),
        }
    }

    /// Sets the bytes of recent entries that are kept in memory, and of files that are kept ready for the log, where there is one.
    pub fn set_shares(&self, tail: u64, spare: u64) {
        match self {
            Self::Local(leader) => leader.node().set_shares(tail, spare),
            Self::Remote(remote) => remote.set_tail_memory(tail),
        }
    }

    /// Bytes of files that are kept ready for the log.
    #[must_use]
    pub fn spare_bytes(&self) -> u64 {
        match self {
            Self::Local(leader) => leader.node().spare_bytes(),
            Self::Remote(_) => 0,
        }
    }

    /// Returns what went wrong once the node can do no more. One that follows says so in its own task.
    pub async fn fatal(&self) -> String {
        match self {
            Self::Local(leader) => leader.node().fatal().await,
            Self::Remote(_) => pending().await,
        }
    }

    /// Stops a member's node.
    pub async fn shutdown(&self) {
        if let Self::Local(leader) = self {
            leader.node().shutdown().await;
        }
    }
}
