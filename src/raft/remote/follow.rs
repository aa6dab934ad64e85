//! Keeping a view up to date: one question at a time, to the leader or else to another node, answered as soon as there is news.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::Remote;
use crate::error::{Detail, Error, ErrorKind, Result};
use crate::format::checkpoint;
use crate::model::{CheckpointRef, Incarnation, NodeId};
use crate::raft::checkpoint_files::Download;
use crate::raft::leadership::Leadership;
use crate::raft::options::CheckpointFiles;
use crate::raft::transport::{PeerAddress, TransportError};
use crate::raft::wire::{self, Content, FollowAsked, Followed, kind};
use crate::state::State;

/// How long a question waits for news. A node that hangs is found out this and [`ANSWER_GRACE`] later.
const WAIT: Duration = Duration::from_millis(1_000);
/// How much longer an answer may take: it may hold a megabyte that has to be read from disk.
const ANSWER_GRACE: Duration = Duration::from_millis(1_500);
/// The least time from a question that brought no entries to the next one.
const NO_NEWS: Duration = Duration::from_millis(20);
/// The pause after nobody answered; up to twice as long.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the bucket is waited for before the node is asked for a checkpoint.
const BUCKET_PATIENCE: Duration = Duration::from_secs(10);
/// Entries applied between two chances for other tasks.
const APPLIED_AT_ONCE: usize = 128;

/// Why a question brought nothing.
enum Failed {
    /// This process can do no more.
    Fatal(String),
    /// Somebody else may be asked.
    Error(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Remote {
    /// Follows the shard until dropped; returns why the process has to end: an entry that it cannot apply, or another life of
    /// the cluster.
    pub async fn follow(self) -> String {
        let mut silent = false;
        loop {
            let asked = Instant::now();
            match self.round().await {
                Ok(news) => {
                    if std::mem::take(&mut silent) {
                        info!("a node of the shard answers again");
                    }
                    // One that knows less than this process, say of the leader, would answer again and again.
                    if !news {
                        tokio::time::sleep(NO_NEWS.saturating_sub(asked.elapsed())).await;
                    }
                }
                Err(Failed::Fatal(why)) => return why,
                Err(Failed::Error(error)) => {
                    if !std::mem::replace(&mut silent, true) {
                        warn!(?error, "no node of the shard answers");
                    }
                    self.lost_leader();
                    tokio::time::sleep(PAUSE.mul_f64(1.0 + rand::random::<f64>())).await;
                    self.reseed().await;
                }
            }
        }
    }

    /// Asks one after the other until one answers; whether that brought anything.
    async fn round(&self) -> Result<bool, Failed> {
        let leader = self.inner.leadership.borrow().leader;
        let mut last = Error::unavailable("no node of the shard is known");
        for node in self.inner.voters.in_order(leader) {
            match self.ask(&node).await {
                Ok(news) => {
                    self.inner.voters.answered(node.node);
                    return Ok(news);
                }
                Err(Failed::Error(error)) => {
                    debug!(node = %node.node, ?error, "a node cannot be followed");
                    self.inner.voters.failed(node.node);
                    last = error;
                }
                fatal => return fatal,
            }
        }
        Err(Failed::Error(last))
    }

    async fn ask(&self, node: &PeerAddress) -> Result<bool, Failed> {
        let next = self.inner.view.next();
        let asked = FollowAsked {
            next,
            wait_ms: u64::try_from(WAIT.as_millis()).unwrap_or(u64::MAX),
            leader: self.inner.leadership.borrow().leader,
            members: self.inner.voters.version(),
        };
        let body = wire::encode_follow(&asked)?;
        let answer = self.inner.transport.call(node, kind::FOLLOW, vec![body], WAIT + ANSWER_GRACE).await;
        let answer = answer.map_err(|error| self.refusal(error))?;
        let Followed { term, leader, applied: _, log_time, members, content } = wire::decode_followed(&answer)?;
        if let Some((version, members)) = members {
            self.inner.voters.set(Some(version), members);
        }
        self.heard_of(term, leader);
        self.inner.view.heard_log_time(log_time);
        match content {
            Content::Heads(heads) => self.apply(&heads).await?,
            Content::Checkpoint(reference) => self.begin_with(reference, node).await?,
        }
        Ok(self.inner.view.next() != next)
    }

    async fn apply(&self, heads: &[Option<Bytes>]) -> Result<(), Failed> {
        for heads in heads.chunks(APPLIED_AT_ONCE) {
            // What cannot be applied here, though others did, cannot be passed over either.
            let flushed = self.inner.view.apply(heads).map_err(|error| Failed::Fatal(error.to_string()))?;
            if let Some(flushed) = flushed {
                self.inner.entries.evict(flushed);
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Goes on from a checkpoint: out of the bucket, or else from the node that named it.
    async fn begin_with(&self, reference: CheckpointRef, node: &PeerAddress) -> Result<(), Failed> {
        let state = match self.load(reference, node).await {
            Ok(state) => state,
            Err(error) if error.code() == UNKNOWN_VERSION => return Err(Failed::Fatal(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        info!(index = reference.index, "the state of the shard begins with a checkpoint");
        self.inner.entries.evict(reference.index);
        self.inner.view.replace(state);
        Ok(())
    }

    async fn load(&self, reference: CheckpointRef, node: &PeerAddress) -> Result<State> {
        let fetching = self.inner.checkpoints.fetch(reference, node.node);
        let from_bucket = match tokio::time::timeout(BUCKET_PATIENCE, fetching).await {
            Ok(Ok(files)) => restore(files).await,
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::unavailable("the bucket does not answer")),
        };
        let error = match from_bucket {
            Err(error) if error.code() != UNKNOWN_VERSION => error,
            loaded => return loaded,
        };
        info!(index = reference.index, node = %node.node, %error, "a node is asked for the checkpoint to begin with");
        let download = Download { transport: &*self.inner.transport, peer: node, has: &|_| false };
        restore(download.run(reference).await?).await
    }

    fn heard_of(&self, term: u64, leader: Option<NodeId>) {
        self.inner.leadership.send_if_modified(|last| {
            // A node that was cut off may say what was true once, or be in a term of its own: only a leader's counts.
            let now = match leader {
                Some(_) if term >= last.term => Leadership { term, leader, is_leader: false },
                None if term >= last.term => Leadership { leader: None, ..*last },
                _ => return false,
            };
            let changes = *last != now;
            *last = now;
            changes
        });
    }

    /// Nobody says who leads: who does next is asked for.
    fn lost_leader(&self) {
        self.inner.leadership.send_if_modified(|last| last.leader.take().is_some());
    }

    /// Asks where the members are now, if none answers where they were.
    async fn reseed(&self) {
        match self.inner.seeds.members().await {
            Ok(members) => self.inner.voters.set(None, members),
            Err(error) => debug!(?error, "nobody says who the members are"),
        }
    }

    /// What a call failed with; another life of the cluster ends this process.
    fn refusal(&self, error: TransportError) -> Failed {
        let error = error.into_error();
        let own = self.with_state(State::incarnation);
        match mismatch(&error) {
            Some(theirs) if theirs > own => Failed::Fatal(format!(
                "the cluster was started anew from the bucket as incarnation {theirs}, after {own}: start this gateway again"
            )),
            _ => Failed::Error(error),
        }
    }
}

/// The incarnation of a node that refused a call because it is of another one.
fn mismatch(error: &Error) -> Option<Incarnation> {
    if error.code() != "cluster_mismatch" {
        return None;
    }
    error.details().iter().find_map(|(name, detail)| match detail {
        Detail::Number(number) if *name == "incarnation" => Some(Incarnation(*number)),
        _ => None,
    })
}

/// Code of the error for a state that a newer program wrote.
const UNKNOWN_VERSION: &str = "unknown_state_version";

/// The state of a checkpoint whose files are all there; on a thread that may block, since it takes a while.
async fn restore(files: CheckpointFiles) -> Result<State> {
    let restoring = crate::blocking::spawn(move || restore_now(files));
    restoring.await.map_err(|error| Error::internal("restoring a checkpoint panicked").with_source(error))?
}

fn restore_now(files: CheckpointFiles) -> Result<State> {
    let found = checkpoint::decode_checkpoint(&files.checkpoint)?;
    if found.self_ref != files.reference {
        return Err(Error::corrupt("it is another checkpoint than its name says"));
    }
    let parts = files.parts.iter().map(|(_, bytes)| checkpoint::decode_part(bytes)).collect::<Result<Vec<_>>>()?;
    State::restore(found, parts, files.ranges).map_err(|error| {
        let message = format!("the checkpoint of entry {} cannot be used: {error}", files.reference.index);
        match error {
            crate::state::RestoreError::Version(_) => Error::new(ErrorKind::Internal, UNKNOWN_VERSION, message),
            _ => Error::corrupt(message),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt;
    use futures::future::BoxFuture;

    use super::*;
    use crate::clock::Clock;
    use crate::model::ShardId;
    use crate::raft::remote::{RemoteOptions, Seeds};
    use crate::raft::transport::Alone;
    use crate::raft::wire::Voter;

    struct Nobody;

    impl Seeds for Nobody {
        fn members(&self) -> BoxFuture<'static, Result<Vec<Voter>>> {
            async { Err(Error::unavailable("nobody")) }.boxed()
        }
    }

    fn remote() -> Remote {
        Remote::new(RemoteOptions {
            shard: ShardId(0),
            incarnation: Incarnation(2),
            members: Vec::new(),
            seeds: Arc::new(Nobody),
            transport: Arc::new(Alone),
            checkpoints: Arc::new(Alone),
            tail_memory: 0,
            max_age: Duration::from_secs(1),
            clock: Clock::manual(0),
        })
    }

    #[test]
    fn who_was_cut_off_does_not_say_who_leads() {
        let remote = remote();
        let leads = |remote: &Remote| remote.status().leader.map(|leader| leader.0);
        remote.heard_of(5, Some(NodeId(1)));
        assert_eq!(leads(&remote), Some(1));
        remote.heard_of(4, Some(NodeId(2)));
        remote.heard_of(4, None);
        assert_eq!(leads(&remote), Some(1), "an older term");
        // A candidate that nobody elects is in a term of its own, and hides no leader.
        remote.heard_of(9, None);
        assert_eq!(leads(&remote), None);
        remote.heard_of(5, Some(NodeId(1)));
        assert_eq!(leads(&remote), Some(1));
        remote.heard_of(6, Some(NodeId(3)));
        assert_eq!((leads(&remote), remote.status().term), (Some(3), 6));
        remote.lost_leader();
        assert_eq!(leads(&remote), None);
    }

    #[test]
    fn only_a_later_life_of_the_cluster_ends_a_gateway() {
        let remote = remote();
        let refused = |incarnation: u64| {
            let error =
                Error::new(ErrorKind::Conflict, "cluster_mismatch", "x").with_number("incarnation", incarnation);
            remote.refusal(TransportError::NotSent(error))
        };
        assert!(matches!(refused(3), Failed::Fatal(why) if why.contains("incarnation 3")));
        assert!(matches!(refused(1), Failed::Error(_)));
        assert!(matches!(remote.refusal(TransportError::NotSent(Error::unavailable("away"))), Failed::Error(_)));
    }
}
