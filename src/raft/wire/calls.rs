//! The calls besides entries: votes, checkpoints by name, handing over, proposals, reads, files, status.

use bytes::Bytes;
use openraft::raft::{SnapshotResponse, TransferLeaderRequest, VoteRequest, VoteResponse};
use openraft::storage::SnapshotMeta;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{WireLogId, WireVote, decode, encode, from_wire, malformed, to_wire};
use crate::error::{Error, Result};
use crate::model::{Answer, CheckpointRef, LogIndex, NodeId, ObjectId};
use crate::raft::types::{LogId, StoredMembership, TypeConfig, Vote, term_of};
use crate::raft::wal::{MAX_MEMBERSHIP_BYTES, decode_membership, encode_membership};

/// Bytes of a piece of a file. A call carries little more than this, whatever the file's size.
pub(in crate::raft) const PIECE_BYTES: u64 = 4 << 20;

type Meta = openraft::alias::SnapshotMetaOf<TypeConfig>;

#[derive(Serialize, Deserialize)]
struct VoteAsked {
    vote: WireVote,
    last: Option<WireLogId>,
    transfer: bool,
}

#[derive(Serialize, Deserialize)]
struct VoteAnswered {
    vote: WireVote,
    granted: bool,
    last: Option<WireLogId>,
}

/// A request for a vote, or for a pre-vote.
pub(in crate::raft) fn encode_vote(request: &VoteRequest<TypeConfig>) -> Result<Bytes> {
    encode(&VoteAsked {
        vote: WireVote::from(&request.vote),
        last: to_wire(request.last_log_id.as_ref()),
        transfer: request.leadership_transfer,
    })
}

/// See [`encode_vote`].
pub(in crate::raft) fn decode_vote(body: &[u8]) -> Result<VoteRequest<TypeConfig>> {
    let VoteAsked { vote, last, transfer } = decode(body)?;
    if vote.committed {
        return Err(malformed("a candidate does not lead"));
    }
    let mut request = VoteRequest::new(Vote::from(vote), from_wire(last)?);
    request.leadership_transfer = transfer;
    Ok(request)
}

/// The answer to [`encode_vote`].
pub(in crate::raft) fn encode_vote_answer(answer: &VoteResponse<TypeConfig>) -> Result<Bytes> {
    encode(&VoteAnswered {
        vote: WireVote::from(&answer.vote),
        granted: answer.vote_granted,
        last: to_wire(answer.last_log_id.as_ref()),
    })
}

/// See [`encode_vote_answer`].
pub(in crate::raft) fn decode_vote_answer(body: &[u8]) -> Result<VoteResponse<TypeConfig>> {
    let VoteAnswered { vote, granted, last } = decode(body)?;
    Ok(VoteResponse::new(Vote::from(vote), from_wire(last)?, granted))
}

#[derive(Serialize, Deserialize)]
struct TransferAsked {
    leader: WireVote,
    to: u64,
    last: Option<WireLogId>,
}

/// The leader asks all voters to let `to` lead.
pub(in crate::raft) fn encode_transfer(request: &TransferLeaderRequest<TypeConfig>) -> Result<Bytes> {
    encode(&TransferAsked {
        leader: WireVote::from(request.from_leader()),
        to: *request.to_node_id(),
        last: to_wire(request.last_log_id()),
    })
}

/// See [`encode_transfer`].
pub(in crate::raft) fn decode_transfer(body: &[u8]) -> Result<TransferLeaderRequest<TypeConfig>> {
    let TransferAsked { leader, to, last } = decode(body)?;
    Ok(TransferLeaderRequest::new(Vote::from(leader), to, from_wire(last)?))
}

/// A leader says that a node has lost entries that it had acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::raft) struct Lost {
    /// Of the leader.
    pub(in crate::raft) vote: Vote,
    /// The last entry that the node had acknowledged to it.
    pub(in crate::raft) acknowledged: LogIndex,
}

/// See [`Lost`].
pub(in crate::raft) fn encode_lost(lost: &Lost) -> Result<Bytes> {
    encode(&(WireVote::from(&lost.vote), lost.acknowledged))
}

/// See [`Lost`].
pub(in crate::raft) fn decode_lost(body: &[u8]) -> Result<Lost> {
    let (vote, acknowledged): (WireVote, LogIndex) = decode(body)?;
    if !vote.committed {
        return Err(malformed("only a leader knows what was acknowledged"));
    }
    Ok(Lost { vote: Vote::from(vote), acknowledged })
}

/// What a node has durably of what is committed, as a leader knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::raft) struct Held {
    /// The node.
    pub(in crate::raft) node: NodeId,
    /// Its directory.
    pub(in crate::raft) directory: Uuid,
    /// The last such entry.
    pub(in crate::raft) last: LogId,
}

/// Nodes of which a leader says what they hold: far more than a group has.
const MAX_HELD: usize = 64;

/// Of each node what it holds.
pub(in crate::raft) fn encode_held(held: &[Held]) -> Result<Bytes> {
    let held: Vec<(NodeId, Uuid, WireLogId)> =
        held.iter().take(MAX_HELD).map(|held| (held.node, held.directory, (&held.last).into())).collect();
    encode(&held)
}

/// See [`encode_held`].
pub(in crate::raft) fn decode_held(body: &[u8]) -> Result<Vec<Held>> {
    // Before anything is made room for.
    if body.len() > MAX_HELD * 64 {
        return Err(malformed("it is too long"));
    }
    let held: Vec<(NodeId, Uuid, WireLogId)> = decode(body)?;
    let held = held.into_iter().map(|(node, directory, last)| {
        let last = from_wire(Some(last))?.ok_or_else(|| malformed("it names no entry"))?;
        Ok(Held { node, directory, last })
    });
    held.collect()
}

#[derive(Serialize, Deserialize)]
struct SnapshotNamed {
    vote: WireVote,
    last: WireLogId,
    membership_at: Option<WireLogId>,
    membership: Vec<u8>,
    reference: CheckpointRef,
}

/// A checkpoint as a leader names it to a follower.
#[derive(Debug, Clone)]
pub(in crate::raft) struct NamedSnapshot {
    pub(in crate::raft) vote: Vote,
    pub(in crate::raft) meta: Meta,
    pub(in crate::raft) reference: CheckpointRef,
}

/// The name of a checkpoint. Its bytes are fetched by the receiver.
pub(in crate::raft) fn encode_snapshot(named: &NamedSnapshot) -> Result<Bytes> {
    let last = named.meta.last_log_id.as_ref().ok_or_else(|| Error::internal("a checkpoint of nothing was sent"))?;
    let membership = encode_membership(named.meta.last_membership.membership())
        .map_err(|error| Error::internal("a membership cannot be encoded").with_source(error))?;
    encode(&SnapshotNamed {
        vote: WireVote::from(&named.vote),
        last: last.into(),
        membership_at: to_wire(named.meta.last_membership.log_id().as_ref()),
        membership: membership.to_vec(),
        reference: named.reference,
    })
}

/// See [`encode_snapshot`].
///
/// # Errors
/// `peer_message` also for what openraft would assert: a checkpoint of a later term than its sender's.
pub(in crate::raft) fn decode_snapshot(body: &[u8]) -> Result<NamedSnapshot> {
    let SnapshotNamed { vote, last, membership_at, membership, reference } = decode(body)?;
    if membership.len() > MAX_MEMBERSHIP_BYTES {
        return Err(malformed("its membership is too long"));
    }
    let membership = decode_membership(&membership)
        .map_err(|error| malformed("it has a membership that is none").with_source(error))?;
    let (vote, last) = (Vote::from(vote), from_wire(Some(last))?);
    let at = from_wire(membership_at)?;
    if !vote.committed || reference.index != last.map_or(0, |last| last.index) {
        return Err(malformed("the checkpoint is not the one of its log index"));
    }
    if last.as_ref().is_some_and(|last| term_of(last) > vote.leader_id.term) || at > last {
        return Err(malformed("the checkpoint is of a later term than its leader"));
    }
    let last_membership = StoredMembership::new(at, membership);
    Ok(NamedSnapshot { vote, meta: SnapshotMeta { last_log_id: last, last_membership }, reference })
}

/// The answer to [`encode_snapshot`].
pub(in crate::raft) fn encode_snapshot_answer(answer: &SnapshotResponse<TypeConfig>) -> Result<Bytes> {
    encode(&WireVote::from(&answer.vote))
}

/// See [`encode_snapshot_answer`].
pub(in crate::raft) fn decode_snapshot_answer(body: &[u8]) -> Result<SnapshotResponse<TypeConfig>> {
    Ok(SnapshotResponse::new(decode::<WireVote>(body)?.into()))
}

/// What became of a command that was sent to the leader. What the leader's gate declined is an error of the call instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::raft) enum Proposed {
    /// Applied at this index, with this answer.
    Applied(LogIndex, Answer),
    /// Nothing was written: the node does not lead, or not yet. Who does, if that is known.
    NotLeader(Option<NodeId>),
    /// It was appended and may have been discarded, or the leader stopped.
    Unknown,
}

/// See [`Proposed`].
pub(in crate::raft) fn encode_proposed(answer: &Proposed) -> Result<Bytes> {
    encode(answer)
}

/// See [`Proposed`].
pub(in crate::raft) fn decode_proposed(body: &[u8]) -> Result<Proposed> {
    decode(body)
}

/// What a node that was asked for a read index answers: the index, or who leads instead, if that is known.
pub(in crate::raft) type ReadIndex = std::result::Result<LogIndex, Option<NodeId>>;

/// See [`ReadIndex`].
pub(in crate::raft) fn encode_read_index(answer: &ReadIndex) -> Result<Bytes> {
    encode(answer)
}

/// See [`ReadIndex`].
pub(in crate::raft) fn decode_read_index(body: &[u8]) -> Result<ReadIndex> {
    decode(body)
}

/// A file of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::raft) enum CheckpointFile {
    /// The checkpoint itself.
    Checkpoint(ObjectId),
    /// An index part.
    Part(ObjectId),
    /// The ranges of a segment.
    Ranges(ObjectId),
}

/// Which piece of which file; pieces have [`PIECE_BYTES`], the last one less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::raft) struct PieceAsked {
    pub(in crate::raft) file: CheckpointFile,
    pub(in crate::raft) offset: u64,
}

/// See [`PieceAsked`].
pub(in crate::raft) fn encode_piece_asked(asked: &PieceAsked) -> Result<Bytes> {
    encode(asked)
}

/// See [`PieceAsked`].
pub(in crate::raft) fn decode_piece_asked(body: &[u8]) -> Result<PieceAsked> {
    decode(body)
}

/// `total u64 LE`, then the bytes: the frames of a piece.
pub(in crate::raft) fn encode_piece(total: u64, bytes: Bytes) -> Vec<Bytes> {
    vec![Bytes::copy_from_slice(&total.to_le_bytes()), bytes]
}

/// The file's length and the piece's bytes.
pub(in crate::raft) fn decode_piece(body: &Bytes) -> Result<(u64, Bytes)> {
    let (total, rest) = body.split_first_chunk::<8>().ok_or_else(|| malformed("it is cut short"))?;
    let total = u64::from_le_bytes(*total);
    if rest.len() as u64 > PIECE_BYTES.min(total) {
        return Err(malformed("a piece is too long"));
    }
    Ok((total, body.slice(8..)))
}

/// What a node says of itself to a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// The node.
    pub node: NodeId,
    /// The UUID of its WAL directory.
    pub directory: Uuid,
    /// The last entry that it applied.
    pub applied: LogIndex,
    /// The last entry of its log.
    pub last_log: LogIndex,
    /// The checkpoint with which it would start again: it must not be deleted.
    pub checkpoint: Option<CheckpointRef>,
    /// Its wall clock, milliseconds since 1970; 0 while it has none.
    pub wall_ms: u64,
    /// The version of its program.
    pub version: String,
    /// The newest behaviour of `apply` that it knows.
    pub newest: u32,
}

/// See [`PeerStatus`].
pub(in crate::raft) fn encode_status(status: &PeerStatus) -> Result<Bytes> {
    encode(status)
}

/// See [`PeerStatus`]. What a newer build says besides is left out: nodes of two versions have to know of each other.
pub(in crate::raft) fn decode_status(body: &[u8]) -> Result<PeerStatus> {
    let status = postcard::take_from_bytes(body).map(|(status, _)| status);
    status.map_err(|error| malformed("it cannot be decoded").with_source(error))
}
