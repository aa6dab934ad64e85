//! A node together with the log time that is stamped on what it proposes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::control::{self, Proposes};
use super::error::ProposeError;
use super::node::RaftNode;
use crate::error::Result;
use crate::log_clock::LogClock;
use crate::model::{Answer, Control, LogIndex, LogTime};

/// Proposes commands, here or at the leader; clones share the node and the clock.
#[derive(Clone)]
pub struct Leader {
    node: RaftNode,
    clock: Arc<LogClock>,
}

impl std::fmt::Debug for Leader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leader").finish_non_exhaustive()
    }
}

impl Leader {
    /// `node` with the clock of its shard, which from now on follows the node's leaderships: it goes on from the state's log
    /// time when one begins, and believes the wall clock as the number of voters allows.
    #[must_use]
    pub fn new(node: RaftNode, clock: Arc<LogClock>) -> Self {
        node.follow_with(Arc::clone(&clock));
        Self { node, clock }
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &RaftNode {
        &self.node
    }

    /// Log time now.
    #[must_use]
    pub fn log_time(&self) -> LogTime {
        self.clock.now()
    }

    /// Milliseconds by which log time is behind wall time.
    #[must_use]
    pub fn log_time_lag_ms(&self) -> i64 {
        self.clock.lag_ms()
    }

    /// Proposes an encoded command, once: here if this node leads, otherwise at the leader, which stamps its own log time on
    /// it. Returns what `apply` answered and at which log index; the entry may not be applied here yet.
    ///
    /// Dropping the future gives up the answer; the command may still be written.
    ///
    /// # Errors
    /// See [`ProposeError`]: what was written differs.
    pub async fn propose(&self, entry: Bytes) -> Result<(LogIndex, Answer), ProposeError> {
        self.node.propose_anywhere(entry).await
    }

    /// Proposes `control`, here or at the leader, and returns what `apply` answered, and at which log index. This node has
    /// applied it too, unless it is seconds behind. What was certainly not written is proposed again for a while.
    ///
    /// # Errors
    /// What `apply` declined; `not_leader` or `unavailable` with the outcome if it was not answered.
    pub async fn control(&self, control: Control) -> Result<(LogIndex, Answer)> {
        control::control(self, control).await
    }
}

impl Proposes for Leader {
    fn log_time(&self) -> LogTime {
        self.clock.now()
    }

    fn propose(&self, entry: Bytes) -> impl Future<Output = Result<(LogIndex, Answer), ProposeError>> + Send {
        self.node.propose_anywhere(entry)
    }

    fn catch_up(&self, index: LogIndex, within: Duration) -> impl Future<Output = ()> + Send {
        self.node.catch_up(index, within)
    }
}
