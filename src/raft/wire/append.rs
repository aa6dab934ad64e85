//! Entries on their way to a follower, and its answer.
//!
//! ```text
//! header length u32 LE | header: postcard | the payloads of the entries, in order
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use openraft::{Entry, EntryPayload};
use serde::{Deserialize, Serialize};

use super::{WireLogId, WireVote, decode, encode, from_wire, malformed, next_index, to_wire};
use crate::error::{Error, Result};
use crate::format::command::MAX_COMMAND_BYTES;
use crate::raft::types::{EncodedCommand, LogEntry, TypeConfig, Vote, term_of};
use crate::raft::wal::{MAX_MEMBERSHIP_BYTES, decode_membership, encode_membership};

/// Some twenty bytes an entry; [`MAX_ENTRIES`] of them are far below.
const MAX_HEADER_BYTES: usize = 1 << 20;
/// What a header may claim; a leader sends `MAX_PAYLOAD_ENTRIES` at most.
const MAX_ENTRIES: usize = 1 << 14;
/// Payloads up to this are copied together: as a frame of its own each would cost more than the copy.
const SMALL_BYTES: usize = 4 << 10;

const KIND_BLANK: u8 = 0;
const KIND_COMMAND: u8 = 1;
const KIND_MEMBERSHIP: u8 = 2;

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    vote: WireVote,
    previous: Option<WireLogId>,
    committed: Option<WireLogId>,
    /// Consecutive, from the index after `previous`.
    entries: Vec<EntryHead>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct EntryHead {
    term: u64,
    kind: u8,
    len: u32,
}

/// The frames of a request: small ones put together, large payloads as they are.
struct Frames {
    done: Vec<Bytes>,
    open: BytesMut,
}

impl Frames {
    fn push(&mut self, payload: Bytes) {
        if payload.len() <= SMALL_BYTES {
            self.open.extend_from_slice(&payload);
            return;
        }
        self.close();
        self.done.push(payload);
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.done.push(self.open.split().freeze());
        }
    }
}

/// Bytes of what `entry` carries; a membership counts as none.
pub(in crate::raft) fn payload_bytes(entry: &LogEntry) -> u64 {
    if let EntryPayload::Normal(command) = &entry.payload { command.0.len() as u64 } else { 0 }
}

/// The frames of `request`.
pub(in crate::raft) fn encode_append(request: &AppendEntriesRequest<TypeConfig>) -> Result<Vec<Bytes>> {
    let mut heads = Vec::with_capacity(request.entries.len());
    let mut payloads = Vec::with_capacity(request.entries.len());
    for entry in &request.entries {
        let (kind, payload) = match &entry.payload {
            EntryPayload::Blank => (KIND_BLANK, Bytes::new()),
            EntryPayload::Normal(command) => (KIND_COMMAND, command.0.clone()),
            EntryPayload::Membership(membership) => {
                let encoded = encode_membership(membership)
                    .map_err(|error| Error::internal("a membership cannot be encoded").with_source(error))?;
                (KIND_MEMBERSHIP, encoded)
            }
        };
        let len = u32::try_from(payload.len()).map_err(|_| Error::internal("an entry is longer than 4 GiB"))?;
        heads.push(EntryHead { term: term_of(&entry.log_id), kind, len });
        payloads.push(payload);
    }
    let header = encode(&Header {
        vote: WireVote::from(&request.vote),
        previous: to_wire(request.prev_log_id.as_ref()),
        committed: to_wire(request.leader_commit.as_ref()),
        entries: heads,
    })?;
    let len = u32::try_from(header.len()).map_err(|_| Error::internal("the header of an append is too long"))?;
    let mut frames = Frames { done: Vec::new(), open: BytesMut::with_capacity(4 + header.len()) };
    frames.open.put_u32_le(len);
    frames.open.extend_from_slice(&header);
    payloads.into_iter().for_each(|payload| frames.push(payload));
    frames.close();
    Ok(frames.done)
}

/// The request in `body`; payloads are slices of it.
///
/// # Errors
/// `peer_message` for anything that no leader sends: openraft asserts that entries follow each other and what precedes
/// them, and are of no later term than the leader's.
pub(in crate::raft) fn decode_append(body: &Bytes) -> Result<AppendEntriesRequest<TypeConfig>> {
    let (len, rest) = body.split_first_chunk().ok_or_else(|| malformed("it is cut short"))?;
    let len = u32::from_le_bytes(*len) as usize;
    let header = rest.get(..len).filter(|_| len <= MAX_HEADER_BYTES).ok_or_else(|| malformed("it has no header"))?;
    let header: Header = decode(header)?;
    if header.entries.len() > MAX_ENTRIES {
        return Err(malformed("it has too many entries"));
    }
    let vote = Vote::from(header.vote);
    if !vote.committed {
        return Err(malformed("entries come from a leader"));
    }
    let previous = from_wire(header.previous)?;
    let mut at = 4 + len;
    let mut term = previous.as_ref().map_or(0, term_of);
    let indices = next_index(previous.as_ref())..u64::MAX;
    let mut entries = Vec::with_capacity(header.entries.len());
    for (head, index) in header.entries.iter().zip(indices) {
        let end = at.checked_add(head.len as usize).filter(|end| *end <= body.len());
        let payload = body.slice(at..end.ok_or_else(|| malformed("an entry is cut short"))?);
        at += payload.len();
        if head.term < term || head.term > header.vote.term {
            return Err(malformed("its entries are out of order"));
        }
        term = head.term;
        entries.push(entry(WireLogId { term, index }, head.kind, payload)?);
    }
    if at != body.len() || entries.len() != header.entries.len() {
        return Err(malformed("it is too long"));
    }
    if previous.as_ref().is_some_and(|previous| term_of(previous) > header.vote.term) {
        return Err(malformed("its entries are out of order"));
    }
    Ok(AppendEntriesRequest { vote, prev_log_id: previous, entries, leader_commit: from_wire(header.committed)? })
}

fn entry(id: WireLogId, kind: u8, payload: Bytes) -> Result<LogEntry> {
    let payload = match kind {
        KIND_BLANK if payload.is_empty() => EntryPayload::Blank,
        KIND_COMMAND if payload.len() <= MAX_COMMAND_BYTES => EntryPayload::Normal(EncodedCommand(payload)),
        KIND_MEMBERSHIP if payload.len() <= MAX_MEMBERSHIP_BYTES => {
            let membership = decode_membership(&payload)
                .map_err(|error| malformed("it has a membership that is none").with_source(error))?;
            EntryPayload::Membership(membership)
        }
        KIND_BLANK | KIND_COMMAND | KIND_MEMBERSHIP => return Err(malformed("an entry is too long")),
        other => return Err(malformed(&format!("it has an entry of the unknown kind {other}"))),
    };
    Ok(Entry { log_id: id.into(), payload })
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Answer {
    Success,
    Partial(Option<WireLogId>),
    Conflict,
    HigherVote(WireVote),
}

/// The bytes of `answer`.
pub(in crate::raft) fn encode_append_answer(answer: &AppendEntriesResponse<TypeConfig>) -> Result<Bytes> {
    encode(&match answer {
        AppendEntriesResponse::Success => Answer::Success,
        AppendEntriesResponse::PartialSuccess(upto) => Answer::Partial(to_wire(upto.as_ref())),
        AppendEntriesResponse::Conflict => Answer::Conflict,
        AppendEntriesResponse::HigherVote(vote) => Answer::HigherVote(vote.into()),
    })
}

/// The answer in `body` to entries that follow others, or that do not.
///
/// # Errors
/// `peer_message` for what no follower answers: nothing conflicts with the beginning of the log.
pub(in crate::raft) fn decode_append_answer(
    body: &[u8],
    has_previous: bool,
) -> Result<AppendEntriesResponse<TypeConfig>> {
    Ok(match decode(body)? {
        Answer::Success => AppendEntriesResponse::Success,
        Answer::Partial(upto) => AppendEntriesResponse::PartialSuccess(from_wire(upto)?),
        Answer::Conflict if has_previous => AppendEntriesResponse::Conflict,
        Answer::Conflict => return Err(malformed("the beginning of the log conflicts with nothing")),
        Answer::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote.into()),
    })
}
