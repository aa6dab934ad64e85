//! The types with which openraft is instantiated.
//!
//! Node data is the encoded command, the response what `apply` answered. Log ids are (term, index): standard Raft,
//! one leader a term, so that no format of ours has to carry a leader's node id beside its term.

use std::fmt;

use bytes::Bytes;
use openraft::impls::{InlineBatch, OneshotResponder, leader_id_std};
use openraft::vote::RaftLeaderId;
use openraft::{Entry, EntryPayload, OptionalSend, RaftTypeConfig};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::Answer;

/// Raft as Tidelog uses it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TypeConfig;

impl RaftTypeConfig for TypeConfig {
    type D = EncodedCommand;
    type R = Reply;
    type NodeId = u64;
    type Node = Member;
    type Term = u64;
    type LeaderId = leader_id_std::LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = EntryPayload<EncodedCommand, u64, Member>;
    type Entry = Entry<<Self::LeaderId as RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = Runtime;
    type Responder<T>
        = OneshotResponder<Self, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

#[allow(deprecated, reason = "the crate that openraft names instead is not a dependency of ours")]
type Runtime = openraft::impls::TokioRuntime;

/// (term, index).
pub(crate) type LogId = openraft::alias::LogIdOf<TypeConfig>;
/// A vote for a node in a term.
pub(crate) type Vote = openraft::alias::VoteOf<TypeConfig>;
/// A log entry.
pub(crate) type LogEntry = openraft::alias::EntryOf<TypeConfig>;
/// Who votes and who learns.
pub(crate) type Membership = openraft::Membership<u64, Member>;
/// A membership and the entry that set it.
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;

/// The log id of `index` in `term`.
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}

/// The term of a log id.
pub(crate) fn term_of(id: &LogId) -> u64 {
    id.leader_id.term
}

/// An encoded command, as `format::command` makes it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct EncodedCommand(pub(crate) Bytes);

impl fmt::Debug for EncodedCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncodedCommand({} bytes)", self.0.len())
    }
}

impl fmt::Display for EncodedCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} bytes", self.0.len())
    }
}

/// What `apply` answered; `None` to entries that are not commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Reply(pub(crate) Option<Answer>);

/// What the membership says of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Member {
    /// `host:port` of its peer listener; empty while a group has one node.
    pub address: String,
    /// The UUID of its WAL directory: a known id with another directory forgot its vote and is refused.
    pub directory: Uuid,
}
