//! What the nodes of a group say to each other, as bytes.
//!
//! A request is one of the kinds below; the peer layer carries kind, shard and identities and knows nothing of the body. The
//! layouts are our own, so that openraft's types may change: `docs/formats.md`, "Between nodes". Postcard, field order is the
//! format; entries' payloads follow their header as they are and are never copied apart from small ones.
//!
//! Whatever is decoded here came from another process: decoders never panic, never allocate from a length they have not
//! checked, refuse what is left over, and hold against Raft's rules what openraft asserts.

mod append;
mod calls;
mod follow;

use bytes::Bytes;
use openraft::LogIdOptionExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub(super) use append::{decode_append, decode_append_answer, encode_append, encode_append_answer, payload_bytes};
pub use calls::PeerStatus;
pub(super) use calls::*;
pub use follow::Voter;
pub(super) use follow::{
    Content, FollowAsked, Followed, MAX_ASKED, MAX_ENTRY_BYTES, MAX_HEAD_BYTES, MAX_HEADS, decode_entries,
    decode_entries_asked, decode_follow, decode_followed, encode_entries, encode_entries_asked, encode_follow,
    encode_followed,
};

use super::types::{LogId, Vote, log_id, term_of};
use crate::error::{Error, Result};

/// The kinds of calls between the nodes of a group.
pub mod kind {
    /// Entries of the leader's log, or none: a heartbeat.
    pub const APPEND: u8 = 1;
    /// A candidate asks for a vote.
    pub const VOTE: u8 = 2;
    /// Whether a vote would be granted.
    pub const PRE_VOTE: u8 = 3;
    /// The name of the checkpoint with which a follower goes on that is behind the log.
    pub const SNAPSHOT: u8 = 4;
    /// The leader hands leadership over.
    pub const TRANSFER: u8 = 5;
    /// A command for the leader to propose.
    pub const PROPOSE: u8 = 6;
    /// The log index up to which a linearizable read has to wait.
    pub const READ_INDEX: u8 = 7;
    /// A piece of a checkpoint's file that the node holds.
    pub const CHECKPOINT_FILES: u8 = 8;
    /// What a node says of itself.
    pub const STATUS: u8 = 9;
    /// The heads of the entries that were applied after an index, as soon as there are some: for gateways.
    pub const FOLLOW: u8 = 10;
    /// Whole entries, by their indices.
    pub const READ_ENTRIES: u8 = 11;
    /// The leader says that the node has lost what it had acknowledged.
    pub const LOST: u8 = 15;
}

/// Term, node, committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WireVote {
    term: u64,
    node: u64,
    committed: bool,
}

impl From<&Vote> for WireVote {
    fn from(vote: &Vote) -> Self {
        Self { term: vote.leader_id.term, node: vote.leader_id.voted_for, committed: vote.committed }
    }
}

impl From<WireVote> for Vote {
    fn from(vote: WireVote) -> Self {
        if vote.committed { Self::new_committed(vote.term, vote.node) } else { Self::new(vote.term, vote.node) }
    }
}

/// Term and index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WireLogId {
    term: u64,
    index: u64,
}

impl From<&LogId> for WireLogId {
    fn from(id: &LogId) -> Self {
        Self { term: term_of(id), index: id.index }
    }
}

impl From<WireLogId> for LogId {
    fn from(id: WireLogId) -> Self {
        log_id(id.term, id.index)
    }
}

fn to_wire(id: Option<&LogId>) -> Option<WireLogId> {
    id.map(WireLogId::from)
}

fn from_wire(id: Option<WireLogId>) -> Result<Option<LogId>> {
    // The index after it is computed everywhere.
    match id {
        Some(WireLogId { index: u64::MAX, .. }) => Err(malformed("a log index is out of range")),
        id => Ok(id.map(LogId::from)),
    }
}

/// The index that follows `id`.
fn next_index(id: Option<&LogId>) -> u64 {
    id.copied().next_index()
}

fn encode<T: Serialize>(value: &T) -> Result<Bytes> {
    postcard::to_stdvec(value)
        .map(Bytes::from)
        .map_err(|error| Error::internal("a message to a peer cannot be encoded").with_source(error))
}

/// One postcard value that takes all of `bytes`.
fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(malformed("it is too long")),
        Err(error) => Err(malformed("it cannot be decoded").with_source(error)),
    }
}

fn malformed(why: &str) -> Error {
    Error::invalid("peer_message", format!("a message of a peer is malformed: {why}"))
}

#[cfg(test)]
mod tests;
