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
    /// It was not done, for this reason, whose outcome says whether a part of it was; whether somebody else may be asked without
    /// a pause.
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
    // What one leader began another one may refuse, or nobody go on with.
    let mut begun = false;
    let told = |error: Error, begun| if begun { error.in_part() } else { error };
    loop {
        let (error, at_once) = match by.attempt().await {
            Attempt::Over(answer) => return answer.map_err(|error| told(error, begun)),
            Attempt::Again(error, at_once) => (error, at_once),
        };
        begun |= error.outcome() != Outcome::NotWritten;
        if Instant::now() + PAUSE >= deadline {
            let error = match error.kind() {
                ErrorKind::NotLeader => leaderless(shard).with_source(error),
                _ => error,
            };
            return Err(told(error, begun));
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Answers of leaders, one after another, and then that nobody leads.
    struct Answers(Vec<Attempt>);

    impl Attempts for Answers {
        async fn attempt(&mut self) -> Attempt {
            self.0.pop().unwrap_or_else(|| Attempt::Again(not_leader(), false))
        }
    }

    fn not_leader() -> Error {
        Error::new(ErrorKind::NotLeader, "not_leader", "this node does not lead the shard")
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_leader_began_before_it_was_deposed_is_not_called_nothing() {
        let shard = ShardId(0);
        let nobody = until_taken(shard, Answers(Vec::new())).await.unwrap_err();
        assert_eq!((nobody.code(), nobody.outcome()), ("unavailable", Outcome::NotWritten));
        let begun = || Attempt::Again(not_leader().in_part(), true);
        let deposed = until_taken(shard, Answers(vec![begun()])).await.unwrap_err();
        assert_eq!((deposed.code(), deposed.outcome()), ("unavailable", Outcome::Partial));
        let refusal = Attempt::Over(Err(Error::invalid("invalid_node", "no")));
        let refused = until_taken(shard, Answers(vec![refusal, begun()])).await.unwrap_err();
        assert_eq!((refused.code(), refused.outcome()), ("invalid_node", Outcome::Partial));
    }
}
