//! Linearizable reads, on the leader and elsewhere.
//!
//! A read asks the leader up to which log index everything was committed when the read began (the read index), and waits
//! until this node has applied that. Reads that come while one is asking share the next question: a read must not take an
//! index that was asked for before it came.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use super::node::{Inner, RaftNode};
use super::wire::{self, kind};
use crate::error::{Error, Result};
use crate::model::{LogIndex, NodeId};
use crate::planted::{self, Bug};

/// How long a read looks for a leader and waits for this node to catch up.
pub(super) const READ_DEADLINE: Duration = Duration::from_secs(5);
/// How long one question to the leader may take; a majority of voters has to answer it.
pub(super) const ASK_DEADLINE: Duration = Duration::from_secs(2);
/// Pause after an answer that was none.
pub(super) const ASK_PAUSE: Duration = Duration::from_millis(20);

/// Why a question for the read index has no answer.
#[derive(Debug, Clone)]
pub(super) enum NoIndex {
    /// This node has stopped: it never will have one.
    Stopped(String),
    /// This node does not lead; who does, if that is known.
    Elsewhere(Option<NodeId>),
    /// Ask again.
    Later(String),
}

type Answer = Result<LogIndex, NoIndex>;

/// Questions for the read index: one at a time, and one more that those who wait for it share.
#[derive(Default)]
pub(super) struct Rounds {
    next: Mutex<Arc<OnceCell<Answer>>>,
    asking: tokio::sync::Mutex<()>,
}

impl Rounds {
    /// Joins the next question, and asks it if nobody does. Whoever is dropped while asking is replaced by another that waits.
    pub(super) async fn join(&self, question: impl Future<Output = Answer>) -> Answer {
        let round = Arc::clone(&self.next());
        let asked = async {
            let _one_at_a_time = self.asking.lock().await;
            self.close(&round);
            question.await
        };
        round.get_or_init(|| asked).await.clone()
    }

    /// Whoever comes from here on comes after the question of `round`.
    fn close(&self, round: &Arc<OnceCell<Answer>>) {
        let mut next = self.next();
        if Arc::ptr_eq(&next, round) {
            *next = Arc::default();
        }
    }

    fn next(&self) -> std::sync::MutexGuard<'_, Arc<OnceCell<Answer>>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks this node if it leads or nobody is known to, and otherwise the leader.
async fn ask(inner: &Inner) -> Answer {
    let leader = inner.shared.leadership.borrow().leader;
    let other = match leader.filter(|leader| *leader != inner.node) {
        Some(other) => other,
        None => match inner.own_rounds.join(ask_here(inner)).await {
            Err(NoIndex::Elsewhere(Some(other))) if other != inner.node => other,
            answer => return answer,
        },
    };
    match inner.call(other, kind::READ_INDEX, Vec::new(), ASK_DEADLINE).await {
        Ok(body) => match wire::decode_read_index(&body) {
            Ok(Ok(index)) => Ok(index),
            Ok(Err(leader)) => Err(NoIndex::Elsewhere(leader)),
            Err(error) => Err(NoIndex::Later(error.to_string())),
        },
        Err(error) => Err(NoIndex::Later(format!("the leader, node {other}, cannot be asked: {}", error.into_error()))),
    }
}

/// The read index if this node leads and a majority of voters says so now.
async fn ask_here(inner: &Inner) -> Answer {
    if planted::is(Bug::StaleLeaderRead) && inner.shared.leadership.borrow().is_leader {
        return Ok(*inner.shared.applied().borrow());
    }
    // Boxed: it is large, and every read would carry it around several times over.
    match Box::pin(inner.raft.get_read_linearizer(ReadPolicy::ReadIndex)).await {
        Ok(linearizer) => Ok(linearizer.read_log_id().index()),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
            Err(NoIndex::Elsewhere(forward.leader_id.map(NodeId)))
        }
        Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(error))) => {
            Err(NoIndex::Later(format!("no majority of the shard's voters answers: {error}")))
        }
        Err(RaftError::Fatal(error)) => Err(NoIndex::Stopped(error.to_string())),
    }
}

impl RaftNode {
    /// Returns once this node has applied all that was committed when it was called, whoever leads. Looks for a leader for
    /// a few seconds.
    ///
    /// # Errors
    /// `unavailable` if no leader with a majority of voters was found, if this node does not catch up, or has stopped.
    pub async fn linearize(&self) -> Result<()> {
        let deadline = Instant::now() + READ_DEADLINE;
        loop {
            let why = match timeout_at(deadline, self.read_index()).await {
                Ok(Ok(index)) => return self.wait_applied(index, deadline).await,
                Ok(Err(NoIndex::Stopped(why))) => {
                    return Err(Error::unavailable(format!("the node has stopped: {why}")));
                }
                Ok(Err(NoIndex::Elsewhere(_))) => "the shard has no leader".to_owned(),
                Ok(Err(NoIndex::Later(why))) => why,
                Err(_) => "the leader does not answer".to_owned(),
            };
            if Instant::now() + ASK_PAUSE >= deadline {
                return Err(Error::unavailable(why));
            }
            tokio::time::sleep(ASK_PAUSE).await;
        }
    }

    async fn read_index(&self) -> Answer {
        if self.is_alone() {
            // Nothing is sent, so there is nothing to share.
            let answer = ask_here(&self.inner).await;
            if !matches!(answer, Err(NoIndex::Elsewhere(_))) {
                return answer;
            }
        }
        Box::pin(self.inner.rounds.join(ask(&self.inner))).await
    }

    /// Waits until this node has applied entry `index`.
    pub(super) async fn wait_applied(&self, index: LogIndex, deadline: Instant) -> Result<()> {
        let mut applied = self.applied();
        let waiting = timeout_at(deadline, applied.wait_for(|applied| *applied >= index)).await;
        match waiting {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::unavailable("the node has stopped")),
            Err(_) => Err(Error::unavailable(format!("this node did not catch up with entry {index} in time"))),
        }
    }

    /// Answers a peer's question for the read index, and never asks another: a crowd of followers costs one round of
    /// heartbeats.
    pub(super) async fn receive_read_index(&self) -> Result<Bytes> {
        let answer = match self.inner.own_rounds.join(ask_here(&self.inner)).await {
            Ok(index) => Ok(index),
            Err(NoIndex::Elsewhere(leader)) => Err(leader),
            Err(NoIndex::Later(why)) => return Err(Error::unavailable(why)),
            Err(NoIndex::Stopped(why)) => return Err(Error::unavailable(format!("the node has stopped: {why}"))),
        };
        wire::encode_read_index(&answer)
    }
}
