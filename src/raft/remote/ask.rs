//! What a gateway asks of the leader: to propose a command, and up to where everything is committed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::{Inner, Remote};
use crate::error::{Error, Result};
use crate::format::command::MAX_COMMAND_BYTES;
use crate::model::{Answer, Control, LogIndex, LogTime, NodeId};
use crate::raft::control::{self, Proposes};
use crate::raft::error::ProposeError;
use crate::raft::propose::{FORWARD_DEADLINE, moved_from, outcome};
use crate::raft::read::{ASK_DEADLINE, ASK_PAUSE, NoIndex, READ_DEADLINE};
use crate::raft::transport::PeerAddress;
use crate::raft::wire::{self, kind};

/// The longest pause between two looks whether the shard is still there.
const LONGEST_BEAT: Duration = Duration::from_secs(3);
/// Looks that fit into the time for which the view is usable.
const BEATS: u32 = 4;
/// The pause after one that failed.
const BEAT_RETRY: Duration = Duration::from_millis(200);

impl Remote {
    /// Proposes an encoded command at the leader, which stamps its own log time on it: once, or at two nodes if the first says
    /// who leads instead.
    ///
    /// Dropping the future gives up the answer; the command may still be written.
    ///
    /// # Errors
    /// See [`ProposeError`]: what was written differs.
    pub async fn propose(&self, entry: Bytes) -> Result<(LogIndex, Answer), ProposeError> {
        if entry.len() > MAX_COMMAND_BYTES {
            return Err(ProposeError::TooLarge { bytes: entry.len(), limit: MAX_COMMAND_BYTES });
        }
        let Some(leader) = self.inner.leader() else { return Err(ProposeError::NotWritten { leader: None }) };
        let answered = match self.propose_at(leader, leader, entry.clone()).await {
            Err(ProposeError::NotWritten { leader: Some(other) }) if other != leader => {
                self.propose_at(other, leader, entry.clone()).await
            }
            answered => answered,
        };
        if let Ok((index, Answer::Appended(_))) = &answered {
            // Whoever reads it here need not ask for it. Its log time is not the one in the log, and nobody looks at that.
            self.inner.entries.keep(*index, &entry);
        }
        answered
    }

    /// `named_by` is whom this node took for the leader.
    async fn propose_at(
        &self,
        leader: NodeId,
        named_by: NodeId,
        entry: Bytes,
    ) -> Result<(LogIndex, Answer), ProposeError> {
        let Some(address) = self.inner.voters.address(leader) else {
            return Err(ProposeError::NotWritten { leader: None });
        };
        let calling = self.inner.transport.call(&address, kind::PROPOSE, vec![entry], FORWARD_DEADLINE);
        let answered = tokio::select! {
            biased;
            answered = calling => answered,
            () = moved_from(self.leadership(), [leader, named_by]) => return Err(ProposeError::Unknown),
        };
        outcome(leader, answered)
    }

    /// Proposes `control` at the leader and returns what `apply` answered, and at which log index; see [`super::super::Leader::control`].
    ///
    /// # Errors
    /// As there.
    pub async fn control(&self, control: Control) -> Result<(LogIndex, Answer)> {
        control::control(self, control).await
    }

    /// Returns once the state has all that was committed when this was called. Looks for a leader for a few seconds.
    ///
    /// # Errors
    /// `unavailable` if no leader with a majority of voters was found, or if the state does not catch up.
    pub async fn linearize(&self) -> Result<()> {
        let deadline = Instant::now() + READ_DEADLINE;
        loop {
            // Before the question: what was committed until now is in the state then.
            let moment = self.inner.view.moment();
            let asked = timeout_at(deadline, Box::pin(self.inner.rounds.join(ask(&self.inner)))).await;
            let why = match asked {
                Ok(Ok(index)) => {
                    self.inner.view.wait_applied(index, deadline).await?;
                    self.inner.view.in_contact(moment);
                    return Ok(());
                }
                Ok(Err(NoIndex::Stopped(why) | NoIndex::Later(why))) => why,
                Ok(Err(NoIndex::Elsewhere(_))) => "the shard has no leader".to_owned(),
                Err(_) => "the leader does not answer".to_owned(),
            };
            if Instant::now() + ASK_PAUSE >= deadline {
                return Err(Error::unavailable(why));
            }
            tokio::time::sleep(ASK_PAUSE).await;
        }
    }

    /// Keeps the view usable while nobody reads, until dropped.
    pub async fn stay_in_contact(self) {
        let pause = LONGEST_BEAT.min(self.inner.view.max_age() / BEATS);
        let mut away = false;
        loop {
            match self.linearize().await {
                Ok(()) => {
                    if std::mem::take(&mut away) {
                        tracing::info!("the shard is in reach again");
                    }
                    tokio::time::sleep(pause).await;
                }
                Err(error) => {
                    if !std::mem::replace(&mut away, true) {
                        tracing::warn!(?error, "the shard is out of reach: its state here gets old");
                    }
                    tokio::time::sleep(BEAT_RETRY).await;
                }
            }
        }
    }
}

impl Proposes for Remote {
    fn log_time(&self) -> LogTime {
        Self::log_time(self)
    }

    fn propose(&self, entry: Bytes) -> impl Future<Output = Result<(LogIndex, Answer), ProposeError>> + Send {
        Self::propose(self, entry)
    }

    async fn catch_up(&self, index: LogIndex, within: Duration) {
        if let Err(error) = self.inner.view.wait_applied(index, Instant::now() + within).await {
            tracing::debug!(index, ?error, "a command was applied by the leader and not yet here");
        }
    }
}

impl Inner {
    fn leader(&self) -> Option<NodeId> {
        self.leadership.borrow().leader
    }
}

/// Asks the leader, or whom it names instead.
async fn ask(inner: &Arc<Inner>) -> Result<LogIndex, NoIndex> {
    let leader = inner.leader().ok_or(NoIndex::Elsewhere(None))?;
    match ask_at(inner, leader).await {
        Err(NoIndex::Elsewhere(Some(other))) if other != leader => ask_at(inner, other).await,
        answer => answer,
    }
}

async fn ask_at(inner: &Inner, node: NodeId) -> Result<LogIndex, NoIndex> {
    let address = inner.voters.address(node).ok_or(NoIndex::Elsewhere(None))?;
    let answer = answer_of(inner, node, &address).await;
    match &answer {
        Ok(_) => inner.voters.confirmed(node),
        Err(_) => inner.voters.doubt(node),
    }
    answer
}

async fn answer_of(inner: &Inner, node: NodeId, address: &PeerAddress) -> Result<LogIndex, NoIndex> {
    match inner.transport.call(address, kind::READ_INDEX, Vec::new(), ASK_DEADLINE).await {
        Ok(body) => match wire::decode_read_index(&body) {
            Ok(Ok(index)) => Ok(index),
            Ok(Err(leader)) => Err(NoIndex::Elsewhere(leader)),
            Err(error) => Err(NoIndex::Later(error.to_string())),
        },
        Err(error) => Err(NoIndex::Later(format!("the leader, node {node}, cannot be asked: {}", error.into_error()))),
    }
}
