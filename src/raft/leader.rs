//! A node together with the log time it stamps on what it proposes.

use std::sync::Arc;
use std::time::Duration;

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

/// Proposes control commands; clones share the node and the clock.
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
    /// `node` with the clock of its shard.
    #[must_use]
    pub fn new(node: RaftNode, clock: Arc<LogClock>) -> Self {
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

    /// Proposes `control` and returns what `apply` answered, and at which log index.
    ///
    /// # Errors
    /// What `apply` declined; `not_leader` or `unavailable` with the outcome if it was not answered.
    pub async fn control(&self, control: Control) -> Result<(LogIndex, Answer)> {
        let deadline = Instant::now() + PROPOSE_DEADLINE;
        loop {
            let logged = LoggedCommand { log_time: self.clock.now(), command: Command::Control(control.clone()) };
            match self.node.propose(command::encode(&logged)?).await {
                Ok((_, Answer::Rejected(rejection))) => return Err(Error::from(rejection)),
                Ok(answered) => return Ok(answered),
                // Certainly not written: a fresh leader that waits for its first quorum says this too.
                Err(ProposeError::NotWritten { .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(PROPOSE_PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
