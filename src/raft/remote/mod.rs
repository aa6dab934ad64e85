//! A shard as a process sees it that keeps none of its log: a gateway.
//!
//! Its state follows the log: it begins with a checkpoint that a node of the group names, and applies the heads of the
//! entries that the node sends, which is all that `apply` reads; so it equals the nodes' own at the same index. Commands and
//! questions for the read index go to the leader, entries of the tail come from whoever has them.
//!
//! The state may be behind by as long as the last linearizable read is ago, and is usable for a bounded time
//! ([`Remote::usable`]): far less than it takes until an object that it names may be deleted.
//!
//! | file | what |
//! |---|---|
//! | `view` | the state, how far it is, and how old it may be |
//! | `voters` | who is asked: the members as they were heard of last |
//! | `follow` | keeps the view up to date |
//! | `entries` | whole entries, asked for together, in a bounded cache |
//! | `ask` | proposals and read indices |

mod ask;
mod entries;
mod follow;
mod view;
mod voters;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::watch;

use self::entries::Entries;
use self::view::View;
use self::voters::Voters;
use super::growth::Growth;
use super::leadership::Leadership;
use super::node::RaftStatus;
use super::read::Rounds;
use super::transport::{CheckpointSource, Transport};
use super::wire::Voter;
use crate::clock::Clock;
use crate::error::Result;
use crate::model::{Incarnation, LogIndex, LogTime, ShardId, TopicPartition};
use crate::state::State;

/// Where the members are asked for when none that is known answers.
pub trait Seeds: Send + Sync + 'static {
    /// The members as one of the nodes that this process was told of knows them.
    fn members(&self) -> BoxFuture<'static, Result<Vec<Voter>>>;
}

/// With what a shard is followed.
pub struct RemoteOptions {
    /// The shard.
    pub shard: ShardId,
    /// The life of the cluster.
    pub incarnation: Incarnation,
    /// The members as they are known at the beginning.
    pub members: Vec<Voter>,
    /// Where they are asked for later on.
    pub seeds: Arc<dyn Seeds>,
    /// The way to them.
    pub transport: Arc<dyn Transport>,
    /// Checkpoints in the bucket; what it does not give is asked of the node that named it.
    pub checkpoints: Arc<dyn CheckpointSource>,
    /// Bytes of entries that are kept in memory (`tail.memory`).
    pub tail_memory: u64,
    /// How long the view is usable after the last contact (`fetch.view_age`).
    pub max_age: Duration,
    /// The process's clock.
    pub clock: Clock,
}

/// A followed shard; clones share it.
#[derive(Clone)]
pub struct Remote {
    inner: Arc<Inner>,
}

struct Inner {
    shard: ShardId,
    view: View,
    voters: Voters,
    seeds: Arc<dyn Seeds>,
    transport: Arc<dyn Transport>,
    checkpoints: Arc<dyn CheckpointSource>,
    leadership: watch::Sender<Leadership>,
    entries: Entries,
    rounds: Rounds,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("applied", &*self.inner.view.applied().borrow()).finish_non_exhaustive()
    }
}

impl Remote {
    /// A shard of which nothing is known yet; [`Remote::follow`] and [`Remote::stay_in_contact`] have to run.
    #[must_use]
    pub fn new(options: RemoteOptions) -> Self {
        let RemoteOptions { shard, incarnation, members, seeds, transport, checkpoints, tail_memory, max_age, clock } =
            options;
        let inner = Inner {
            shard,
            view: View::new(State::new(shard, incarnation), clock, max_age),
            voters: Voters::new(members),
            seeds,
            transport,
            checkpoints,
            leadership: watch::Sender::new(Leadership::default()),
            entries: Entries::new(tail_memory),
            rounds: Rounds::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.inner.shard
    }

    /// Sets the bytes of entries that are kept in memory: they are shared out among shards.
    pub fn set_tail_memory(&self, bytes: u64) {
        self.inner.entries.set_budget(bytes);
    }

    /// Who leads, as far as this process has heard; it never does itself.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.subscribe()
    }

    /// The members as they were heard of last.
    #[must_use]
    pub fn members(&self) -> Vec<Voter> {
        self.inner.voters.all()
    }

    /// The state as it is now; it never changes.
    #[must_use]
    pub fn view(&self) -> State {
        self.inner.view.with_state(State::clone)
    }

    /// Calls `f` with the state. `apply` waits for it.
    pub fn with_state<R>(&self, f: impl FnOnce(&State) -> R) -> R {
        self.inner.view.with_state(f)
    }

    /// Whether the state may still be read without asking.
    ///
    /// # Errors
    /// `unavailable` once the last contact is too long ago, or if there was none yet.
    pub fn usable(&self) -> Result<()> {
        self.inner.view.usable()
    }

    /// How long ago everything committed was known to be in the state; `None` before the first time.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.inner.view.age()
    }

    /// The last applied log index; each value is visible in the state when it is seen here.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<LogIndex> {
        self.inner.view.applied()
    }

    /// As [`super::RaftNode::watch_growth`].
    ///
    /// # Errors
    /// `overloaded` if too many wait.
    pub fn watch_growth(&self, partitions: &[TopicPartition]) -> Result<Growth> {
        self.inner.view.waiters().subscribe(partitions)
    }

    /// The encoded command of entry `index`, from memory or else from a node of the group; `None` if the log does not have it
    /// (any more): make the plan again.
    ///
    /// # Errors
    /// `unavailable` if nobody who has it can be reached; what the node says that was asked.
    pub async fn read_entry(&self, index: LogIndex) -> Result<Option<Bytes>> {
        entries::read(&self.inner, index).await
    }

    /// Log time, at most as late as the leader's.
    #[must_use]
    pub fn log_time(&self) -> LogTime {
        self.inner.view.log_time()
    }

    /// Milliseconds by which log time is behind wall time.
    #[must_use]
    pub fn log_time_lag_ms(&self) -> i64 {
        self.inner.view.log_time_lag_ms()
    }

    /// What is known of the shard.
    #[must_use]
    pub fn status(&self) -> RaftStatus {
        let Leadership { term, leader, .. } = *self.inner.leadership.borrow();
        let applied = *self.inner.view.applied().borrow();
        RaftStatus {
            term,
            leader,
            last_log: applied,
            committed: applied,
            applied,
            tail_bytes: self.inner.entries.bytes(),
            ..RaftStatus::default()
        }
    }

    /// Returns once everything that was committed at some moment after the beginning was applied here.
    pub async fn ready(&self) {
        self.inner.view.reached().await;
    }
}
