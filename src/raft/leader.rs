//! A node together with the log time that is stamped on what it proposes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::error::ProposeError;
use super::node::RaftNode;
use crate::error::{Error, Result};
use crate::format::command;
use crate::log_clock::LogClock;
use crate::model::{Answer, Command, Control, LogIndex, LogTime, LoggedCommand};

/// How long a control command that was certainly not written is proposed again.
const PROPOSE_DEADLINE: Duration = Duration::from_secs(10);
/// Pause between two such attempts.
const PROPOSE_PAUSE: Duration = Duration::from_millis(20);
/// How long an answered control command waits for this node to apply it too.
const CATCH_UP: Duration = Duration::from_secs(5);

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
        let deadline = Instant::now() + PROPOSE_DEADLINE;
        loop {
            let logged = LoggedCommand { log_time: self.clock.now(), command: Command::Control(control.clone()) };
            match self.propose(command::encode(&logged)?).await {
                Ok((index, answer)) => {
                    self.node.catch_up(index, CATCH_UP).await;
                    return match answer {
                        Answer::Rejected(rejection) => Err(Error::from(rejection)),
                        answer => Ok((index, answer)),
                    };
                }
                // Certainly not written: a fresh leader that waits for its first quorum says this too.
                Err(ProposeError::NotWritten { .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(PROPOSE_PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
