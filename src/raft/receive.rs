//! What a node does for its peers: the receiving side of every call.
//!
//! Each call is checked before openraft sees it: who calls, that a leader or candidate speaks for itself, and what
//! openraft would assert. A refusal changes nothing.

use std::sync::Arc;

use bytes::Bytes;
use openraft::Snapshot;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::RaftError;
use openraft::raft::VoteResponse;
use uuid::Uuid;

use super::machine::{CheckpointSnapshot, Prepared};
use super::node::RaftNode;
use super::options::CheckpointFiles;
use super::publish::check_gateway;
use super::types::{LogId, TypeConfig, Vote};
use super::wire::{self, NamedSnapshot, PeerStatus, kind};
use crate::blocking;
use crate::error::{Error, ErrorKind, Result};
use crate::model::NodeId;

impl RaftNode {
    /// Handles a call of `from`, whose WAL directory is `directory`: `kind` is one of [`super::kind`]. The answer is the
    /// frames of its body.
    ///
    /// Dropping the future gives up the answer; what was begun goes on or not.
    ///
    /// # Errors
    /// `node_identity_mismatch` if the membership knows the caller with another directory; `peer_message` for what no node
    /// sends; `unavailable` if this node has stopped; whatever the call itself answers. Nothing was written then, unless the
    /// outcome says otherwise.
    pub async fn handle(&self, from: NodeId, directory: Uuid, kind: u8, body: Bytes) -> Result<Vec<Bytes>> {
        self.check_caller(from, directory)?;
        check_gateway(from, kind)?;
        let raft = &self.inner.raft;
        let answer = match kind {
            kind::APPEND => {
                let request = wire::decode_append(&body)?;
                drop(body);
                speaks_for_itself(from, &request.vote)?;
                wire::encode_append_answer(&raft.append_entries(request).await.map_err(|error| stopped(&error))?)
            }
            kind::VOTE | kind::PRE_VOTE => {
                let request = wire::decode_vote(&body)?;
                speaks_for_itself(from, &request.vote)?;
                let last = request.last_log_id;
                let asked = if kind == kind::VOTE { raft.vote(request).await } else { raft.pre_vote(request).await };
                let answer = asked.map_err(|error| stopped(&error))?;
                self.stand_for(last, &answer).await;
                wire::encode_vote_answer(&answer)
            }
            kind::SNAPSHOT => self.receive_snapshot(from, wire::decode_snapshot(&body)?).await,
            kind::TRANSFER => {
                let request = wire::decode_transfer(&body)?;
                speaks_for_itself(from, request.from_leader())?;
                let handed = raft.handle_transfer_leader(request).await.map_err(|error| fatal(&error))?;
                handed.map(|()| Bytes::new()).map_err(|error| Error::unavailable(error.to_string()))
            }
            kind::PROPOSE => self.receive_proposal(from, body).await,
            kind::READ_INDEX => self.receive_read_index().await,
            kind::CHECKPOINT_FILES => return self.receive_piece_asked(&body).await,
            kind::LOST => {
                let told = wire::decode_lost(&body)?;
                speaks_for_itself(from, &told.vote)?;
                self.receive_lost(told).await.map(|()| Bytes::new())
            }
            kind::STATUS => {
                if !body.is_empty() {
                    self.receive_held(from, &body).await?;
                }
                wire::encode_status(&self.own_status())
            }
            kind::FOLLOW => return self.receive_follow(&body).await,
            kind::READ_ENTRIES => return self.receive_entries_asked(&body).await,
            other => Err(Error::invalid("peer_message", format!("this build knows no calls of kind {other}"))),
        };
        answer.map(|answer| vec![answer])
    }

    /// Stands for election in the place of a candidate that was refused because its log, which ends with `last`, lacks entries of
    /// this one: it cannot win, and this node's own timeout has not passed. While a leader is believed in openraft stands for
    /// nothing.
    async fn stand_for(&self, last: Option<LogId>, answer: &VoteResponse<TypeConfig>) {
        if !answer.vote_granted && last < answer.last_log_id {
            // It fails with the node.
            let _ = self.inner.raft.trigger().elect(true).await;
        }
    }

    /// A known id with another directory forgot its vote, or is another node.
    fn check_caller(&self, from: NodeId, directory: Uuid) -> Result<()> {
        let known = self.inner.directory_of(from);
        if known.is_none_or(|known| known == directory) {
            return Ok(());
        }
        let message = format!("node {from} is known with another directory than the one that calls: replace the node");
        Err(Error::new(ErrorKind::Conflict, "node_identity_mismatch", message).with_number("node", from.0))
    }

    /// Fetches the checkpoint that the leader names, restores it, and has openraft install it.
    ///
    /// All that can fail for want of a bucket or of sound bytes is done before openraft is asked: an error in its callback
    /// would end the node. It goes on in a task of its own when the caller gives up, so that nothing else touches the files, and is
    /// given up itself, while it fetches, once another node leads.
    async fn receive_snapshot(&self, from: NodeId, named: NamedSnapshot) -> Result<Bytes> {
        speaks_for_itself(from, &named.vote)?;
        let Ok(one_at_a_time) = Arc::clone(&self.inner.adopting).try_lock_owned() else {
            return Err(Error::unavailable("another checkpoint is being taken over"));
        };
        let node = self.clone();
        let installing = tokio::spawn(async move {
            let _one_at_a_time = one_at_a_time;
            let fetching = node.inner.checkpoints.fetch(named.reference, from);
            let files = tokio::select! {
                biased;
                files = fetching => files?,
                // The next leader names another one, which has to wait for this no longer than for the disk.
                () = node.outvoted(named.vote) => {
                    return Err(Error::unavailable("another node leads than the one that named the checkpoint"));
                }
            };
            let prepared = node.prepare(files, &named).await?;
            let snapshot = CheckpointSnapshot { reference: named.reference, prepared: Some(prepared) };
            let snapshot = Snapshot { meta: named.meta, snapshot };
            let installed = node.inner.raft.install_full_snapshot(named.vote, snapshot).await;
            wire::encode_snapshot_answer(&installed.map_err(|error| fatal(&error))?)
        });
        let installed = installing.await;
        installed.map_err(|error| Error::internal("installing a checkpoint panicked").with_source(error))?
    }

    /// Returns once this node knows a vote above `vote`.
    async fn outvoted(&self, vote: Vote) {
        let mut metrics = self.inner.raft.metrics();
        // One that has stopped takes no checkpoint over either.
        let _ = metrics.wait_until(|metrics| metrics.vote > vote || metrics.running_state.is_err()).await;
    }

    async fn prepare(&self, files: CheckpointFiles, named: &NamedSnapshot) -> Result<Prepared> {
        if files.reference != named.reference {
            return Err(Error::internal("the source of checkpoints fetched another one than was asked for"));
        }
        let meta = self.inner.shared.meta.clone();
        let restoring = blocking::spawn(move || {
            meta.stage(&files)?;
            let state = meta.restore(files.reference)?;
            Ok(Prepared { files: Arc::new(files), state })
        });
        restoring.await.map_err(|error| Error::internal("restoring a checkpoint panicked").with_source(error))?
    }

    async fn receive_piece_asked(&self, body: &[u8]) -> Result<Vec<Bytes>> {
        let asked = wire::decode_piece_asked(body)?;
        let meta = self.inner.shared.meta.clone();
        let reading = blocking::spawn(move || meta.piece(asked.file, asked.offset)).await;
        let (total, bytes) =
            reading.map_err(|error| Error::internal("reading a checkpoint panicked").with_source(error))??;
        Ok(wire::encode_piece(total, bytes))
    }

    /// What this node says of itself to its peers.
    pub(super) fn own_status(&self) -> PeerStatus {
        let inner = &self.inner;
        let status = self.status();
        PeerStatus {
            node: inner.node,
            directory: inner.directory,
            applied: status.applied,
            // Raft itself does not say so in its first moments.
            last_log: inner.shared.log.last_index().unwrap_or(status.last_log),
            checkpoint: inner.shared.pointer().map(|pointer| pointer.reference),
            wall_ms: inner.shared.clock.get().map_or(0, |clock| clock.wall()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            newest: inner.shared.newest(),
        }
    }
}

/// A vote that is spoken for by another node than the one that calls is not what raft sends.
fn speaks_for_itself(from: NodeId, vote: &Vote) -> Result<()> {
    if vote.leader_id.voted_for == from.0 {
        return Ok(());
    }
    let message = format!("node {from} speaks for node {}", vote.leader_id.voted_for);
    Err(Error::invalid("peer_message", message))
}

fn stopped(error: &RaftError<TypeConfig>) -> Error {
    Error::unavailable(format!("the node has stopped: {error}"))
}

fn fatal(error: &dyn std::error::Error) -> Error {
    Error::unavailable(format!("the node has stopped: {error}"))
}
