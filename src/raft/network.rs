//! openraft's calls over the node's transport.
//!
//! What certainly did not arrive, and what the peer declined, counts as unreachable, so that openraft waits before it calls
//! again; what may have arrived is called again at once. Neither is ever a vote or an acknowledgement. A peer that does not
//! answer is spoken to as by a leader for a while only: see [`super::contact`].

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::OptionalSend;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};

use tokio::time::Instant;

use super::acknowledged::{TELL_DEADLINE, acknowledged_by};
use super::contact::Contact;
use super::leadership::LEASE;
use super::machine::{CheckpointSnapshot, Shared};
use super::options::RaftOptions;
use super::pace::Pace;
use super::transport::{PeerAddress, Transport, TransportError};
use super::types::{LogEntry, LogId, Member, TypeConfig, Vote};
use super::wire::{self, Lost, NamedSnapshot, kind};
use crate::error::Error;
use crate::model::NodeId;
use crate::planted::{self, Bug};

/// The least that a follower gets for writing and syncing entries: far more than a heartbeat, since a disk may stall, and
/// little enough that one which hangs does not keep the leader from purging its log.
const APPEND_DEADLINE: Duration = Duration::from_secs(2);
/// Heartbeats that an append may take.
const APPEND_HEARTBEATS: u32 = 10;

/// Makes connections to the peers.
pub(crate) struct Network {
    transport: Arc<dyn Transport>,
    shared: Arc<Shared>,
    append_deadline: Duration,
    contact: Arc<Contact>,
}

impl Network {
    /// The network of a node that was opened with `options`.
    pub(crate) fn new(options: &RaftOptions, shared: Arc<Shared>) -> Self {
        let append_deadline = APPEND_DEADLINE.max(options.heartbeat * APPEND_HEARTBEATS);
        let contact = Arc::new(Contact::new(options.election_timeout * LEASE));
        Self { transport: Arc::clone(&options.transport), shared, append_deadline, contact }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &Member) -> Peer {
        Peer {
            target,
            member: node.clone(),
            transport: Arc::clone(&self.transport),
            shared: Arc::clone(&self.shared),
            append_deadline: self.append_deadline,
            contact: Arc::clone(&self.contact),
            pace: Pace::default(),
        }
    }
}

/// One peer.
pub(crate) struct Peer {
    target: u64,
    member: Member,
    transport: Arc<dyn Transport>,
    shared: Arc<Shared>,
    append_deadline: Duration,
    contact: Arc<Contact>,
    pace: Pace,
}

impl Peer {
    /// openraft keeps a connection as long as the node is a member, also when its address changes.
    fn address(&self) -> PeerAddress {
        let newest = self.shared.member(self.target).filter(|member| member.directory == self.member.directory);
        let Member { address, directory } = newest.unwrap_or_else(|| self.member.clone());
        PeerAddress { node: NodeId(self.target), directory, address }
    }

    async fn call(&self, kind: u8, body: Vec<Bytes>, deadline: Duration) -> Result<Bytes, RPCError<TypeConfig>> {
        let address = self.address();
        if address.address.is_empty() {
            return Err(unreachable(&format!("node {} has no peer listener", self.target)));
        }
        let answer = self.transport.call(&address, kind, body, deadline).await;
        if matches!(answer, Ok(_) | Err(TransportError::Answered(_))) {
            self.contact.answered(self.target);
        }
        answer.map_err(|error| match error {
            TransportError::NotSent(error) => unreachable(&error),
            TransportError::Answered(error) => {
                tracing::debug!(node = self.target, kind, ?error, "a peer declined a call of raft");
                unreachable(&error)
            }
            TransportError::Unknown(error) => RPCError::Network(NetworkError::from_string(error)),
        })
    }
}

impl Peer {
    /// Returns once the peer may be spoken to as by the leader of `vote`: if it has not answered for a lease, once it answers a
    /// call that keeps nobody from electing.
    async fn hears_and_answers(&self, vote: &Vote) -> Result<(), RPCError<TypeConfig>> {
        if self.contact.is_kept(self.target, vote) {
            return Ok(());
        }
        if let Some(asking) = self.contact.ask(self.target) {
            let calling = self.transport.call(&self.address(), kind::STATUS, Vec::new(), self.contact.lease());
            // A heartbeat is given up sooner than a slow node answers, and its answer counts all the same.
            let asked = tokio::spawn(async move {
                let answer = calling.await;
                let answers = matches!(answer, Ok(_) | Err(TransportError::Answered(_)));
                if answers {
                    asking.answered();
                }
                answers
            });
            if asked.await.unwrap_or(false) {
                return Ok(());
            }
        }
        Err(unreachable(&format!("node {} does not answer", self.target)))
    }
}

impl Peer {
    /// Waits until it is time to send `entries` to a peer that is far behind.
    async fn keep_pace(&mut self, entries: &[LogEntry]) {
        let Some(first) = entries.first() else { return };
        let bytes = entries.iter().map(wire::payload_bytes).sum();
        // What the log does not have any more is sent at once.
        while let Ok(Some((distance, end))) = self.shared.log.distance(first.log_id.index)
            && let Some(pause) = self.pace.pause(Instant::now(), distance, end, bytes)
        {
            tokio::time::sleep(pause).await;
        }
    }
}

/// What is remembered of a request for its answer.
struct Sent {
    vote: Vote,
    previous: Option<LogId>,
    last: Option<LogId>,
    /// What the peer had acknowledged before.
    acknowledged: Option<LogId>,
}

impl Sent {
    fn of(rpc: &AppendEntriesRequest<TypeConfig>, acknowledged: Option<LogId>) -> Self {
        let last = rpc.entries.last().map(|entry| entry.log_id).or(rpc.prev_log_id);
        Self { vote: rpc.vote, previous: rpc.prev_log_id, last, acknowledged }
    }

    /// What the peer had acknowledged and does not have any more, if it answers so.
    fn lost(&self, answer: &AppendEntriesResponse<TypeConfig>) -> Option<LogId> {
        let conflicts = matches!(answer, AppendEntriesResponse::Conflict);
        self.acknowledged.filter(|acknowledged| conflicts && self.previous <= Some(*acknowledged))
    }
}

impl Peer {
    /// Notes what `answer` acknowledges. An answer that takes back an earlier one is not for openraft, which asserts that there is
    /// none: the peer is told, and counts as one that cannot be reached.
    async fn judge(&self, sent: &Sent, answer: &AppendEntriesResponse<TypeConfig>) -> Result<(), RPCError<TypeConfig>> {
        let Some(lost) = sent.lost(answer) else {
            if let Some(last) = acknowledged_by(answer, sent.last) {
                self.shared.acknowledged.note(self.target, self.member.directory, &sent.vote, last);
            }
            return Ok(());
        };
        self.shared.acknowledged.say(self.target, lost);
        let told = wire::encode_lost(&Lost { vote: sent.vote, acknowledged: lost.index });
        let told = told.map_err(|error| unusable(&error))?;
        self.call(kind::LOST, vec![told], TELL_DEADLINE).await?;
        Err(unreachable(&"it has lost what it had acknowledged"))
    }
}

impl Peer {
    /// `answer`, unless it grants a vote that does not count: with less than it held the peer may let anybody win.
    fn count(&self, answer: VoteResponse<TypeConfig>) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let last = answer.last_log_id.as_ref().map(|last| last.index);
        match self.shared.acknowledged.lost(self.target, self.member.directory, last) {
            Some(lost) if answer.vote_granted => {
                self.shared.acknowledged.say(self.target, lost);
                Err(unreachable(&"it has lost what it had acknowledged"))
            }
            _ => Ok(answer),
        }
    }
}

fn unreachable(why: &impl ToString) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::from_string(why.to_string()))
}

/// A message that cannot be encoded, or an answer that cannot be decoded.
fn unusable(error: &Error) -> RPCError<TypeConfig> {
    unreachable(&format!("{error:?}"))
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = CheckpointSnapshot;

    /// The deadline of a heartbeat is openraft's own: it drops the future.
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.keep_pace(&rpc.entries).await;
        self.hears_and_answers(&rpc.vote).await?;
        let body = wire::encode_append(&rpc).map_err(|error| unusable(&error))?;
        let sent = Sent::of(&rpc, self.shared.acknowledged.before(self.target, self.member.directory, &rpc.vote));
        drop(rpc);
        let answer = match self.call(kind::APPEND, body, self.append_deadline.max(option.hard_ttl())).await {
            Err(_) if planted::is(Bug::AckOnOneOfThree) => return Ok(AppendEntriesResponse::Success),
            answer => answer?,
        };
        let answer = wire::decode_append_answer(&answer, sent.previous.is_some()).map_err(|error| unusable(&error))?;
        self.judge(&sent, &answer).await?;
        Ok(answer)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let body = wire::encode_vote(&rpc).map_err(|error| unusable(&error))?;
        let answer = self.call(kind::VOTE, vec![body], option.hard_ttl()).await?;
        self.count(wire::decode_vote_answer(&answer).map_err(|error| unusable(&error))?)
    }

    /// The default would grant.
    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let body = wire::encode_vote(&rpc).map_err(|error| unusable(&error))?;
        let answer = self.call(kind::PRE_VOTE, vec![body], option.hard_ttl()).await?;
        self.count(wire::decode_vote_answer(&answer).map_err(|error| unusable(&error))?)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::alias::SnapshotOf<TypeConfig, CheckpointSnapshot>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        self.hears_and_answers(&vote).await?;
        let named = NamedSnapshot { vote, meta: snapshot.meta, reference: snapshot.snapshot.reference };
        let body = wire::encode_snapshot(&named).map_err(|error| unusable(&error))?;
        let answer = tokio::select! {
            biased;
            answer = self.call(kind::SNAPSHOT, vec![body], option.hard_ttl()) => answer?,
            closed = cancel => return Err(closed.into()),
        };
        let answer = wire::decode_snapshot_answer(&answer).map_err(|error| unusable(&error))?;
        if let Some(last) = named.meta.last_log_id.filter(|_| answer.vote == named.vote) {
            self.shared.acknowledged.note(self.target, self.member.directory, &named.vote, last);
        }
        Ok(answer)
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let body = wire::encode_transfer(&request).map_err(|error| unusable(&error))?;
        self.call(kind::TRANSFER, vec![body], option.hard_ttl()).await.map(|_| Ok(()))
    }
}
