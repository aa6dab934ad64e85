//! Having the leader of a shard change its members, whoever is asked: members and gateways look for it in the same way.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::model::{GroupStatus, ShardId};
use crate::peer::CallError;

/// How long a request looks for a leader that takes it.
const LEADER_PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts to find one.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// What came of one attempt.
pub(super) enum Attempt {
    /// There is an answer.
    Over(Result<GroupStatus>),
    /// Nothing happened, for this reason; whether somebody else may be asked without a pause.
    Again(Error, bool),
}

/// Asks whoever may lead, once.
pub(super) trait Attempts: Send {
    /// The next attempt.
    fn attempt(&mut self) -> impl Future<Output = Attempt> + Send;
}

impl Attempt {
    /// What the answer of a node is that was asked in the place of the leader.
    pub(super) fn of(answer: Result<GroupStatus, CallError>, at_once: bool) -> Self {
        match answer {
            Ok(status) => Self::Over(Ok(status)),
            // It may have happened; all requests may be repeated, but not for longer than one takes.
            Err(CallError::Unknown(error)) => Self::Over(Err(error.with_outcome(Outcome::Unknown))),
            Err(CallError::Answered(error)) if error.kind() != ErrorKind::NotLeader => Self::Over(Err(error)),
            Err(CallError::NotSent(error) | CallError::Answered(error)) => Self::Again(error, at_once),
        }
    }
}

/// Repeats attempts until one is answered.
///
/// # Errors
/// What the leader says; `unavailable` if there is none.
pub(super) async fn until_taken(shard: ShardId, mut by: impl Attempts) -> Result<GroupStatus> {
    let deadline = Instant::now() + LEADER_PATIENCE;
    loop {
        let (error, at_once) = match by.attempt().await {
            Attempt::Over(answer) => return answer,
            Attempt::Again(error, at_once) => (error, at_once),
        };
        if Instant::now() + PAUSE >= deadline {
            return Err(match error.kind() {
                ErrorKind::NotLeader => leaderless(shard).with_source(error),
                _ => error,
            });
        }
        if !at_once {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// That nobody leads.
pub(super) fn leaderless(shard: ShardId) -> Error {
    Error::unavailable(match shard.0 {
        0 => "the cluster has no leader".to_owned(),
        shard => format!("shard {shard} has no leader"),
    })
}
