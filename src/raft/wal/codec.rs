//! Raft's values as they are in the log, little-endian. Decoders allocate nothing that they have not read.
//!
//! Layouts: `docs/formats.md`, "WAL directory".

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::Bytes;
use openraft::EntryPayload;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::format::command::MAX_COMMAND_BYTES;
use crate::raft::types::{EncodedCommand, LogId, Member, Membership, Vote, log_id, term_of};

const MAX_MEMBERSHIP_BYTES: usize = 1024 * 1024;

const PAYLOAD_BLANK: u8 = 0;
const PAYLOAD_COMMAND: u8 = 1;
const PAYLOAD_MEMBERSHIP: u8 = 2;

/// Bytes charged for an entry besides its command's: keys, map nodes, allocator.
pub(crate) const ENTRY_OVERHEAD_BYTES: u64 = 128;

/// Takes fields off the front of bytes.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> io::Result<&'a [u8; N]> {
        let (array, rest) =
            self.0.split_first_chunk::<N>().ok_or_else(|| invalid("the value ends early".to_owned()))?;
        self.0 = rest;
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> io::Result<u8> {
        self.array::<1>().map(|[byte]| *byte)
    }

    pub(super) fn u16(&mut self) -> io::Result<u16> {
        self.array().map(|bytes| u16::from_le_bytes(*bytes))
    }

    pub(super) fn u32(&mut self) -> io::Result<u32> {
        self.array().map(|bytes| u32::from_le_bytes(*bytes))
    }

    pub(super) fn u64(&mut self) -> io::Result<u64> {
        self.array().map(|bytes| u64::from_le_bytes(*bytes))
    }

    pub(super) fn uuid(&mut self) -> io::Result<Uuid> {
        self.array().map(|bytes| Uuid::from_bytes(*bytes))
    }

    /// A byte that says whether a value is there, and the value; one that is not there takes as many bytes.
    pub(super) fn option<T>(&mut self, value: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<Option<T>> {
        let flag = self.u8()?;
        let value = value(self);
        match flag {
            0 => Ok(None),
            1 => value.map(Some),
            other => Err(invalid(format!("a flag is {other}"))),
        }
    }

    pub(super) fn end(&self) -> io::Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(invalid("the value is followed by more bytes".to_owned())) }
    }
}

/// Writes what [`Fields::option`] reads, of a value of `len` bytes.
pub(super) fn encode_option<T>(
    value: Option<&T>,
    len: usize,
    into: &mut Vec<u8>,
    encode: impl FnOnce(&T, &mut Vec<u8>),
) {
    into.push(u8::from(value.is_some()));
    match value {
        Some(value) => encode(value, into),
        None => into.resize(into.len() + len, 0),
    }
}

/// A log id: term and index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WalLogId {
    pub(crate) term: u64,
    pub(crate) index: u64,
}

impl WalLogId {
    pub(super) const BYTES: usize = 16;

    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        into.extend(self.term.to_le_bytes());
        into.extend(self.index.to_le_bytes());
    }

    pub(super) fn decode(fields: &mut Fields<'_>) -> io::Result<Self> {
        Ok(Self { term: fields.u64()?, index: fields.u64()? })
    }
}

impl From<&LogId> for WalLogId {
    fn from(id: &LogId) -> Self {
        Self { term: term_of(id), index: id.index }
    }
}

impl From<WalLogId> for LogId {
    fn from(id: WalLogId) -> Self {
        log_id(id.term, id.index)
    }
}

/// A vote: term, node, committed (0 or 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WalVote(pub(crate) Vote);

impl WalVote {
    pub(super) const BYTES: usize = 17;

    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        into.extend(self.0.leader_id.term.to_le_bytes());
        into.extend(self.0.leader_id.voted_for.to_le_bytes());
        into.push(u8::from(self.0.committed));
    }

    pub(super) fn decode(fields: &mut Fields<'_>) -> io::Result<Self> {
        let (term, node) = (fields.u64()?, fields.u64()?);
        match fields.u8()? {
            0 => Ok(Self(Vote::new(term, node))),
            1 => Ok(Self(Vote::new_committed(term, node))),
            other => Err(invalid(format!("a vote's committed flag is {other}"))),
        }
    }
}

/// What an entry carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WalPayload {
    Blank,
    Command(Bytes),
    Membership(Bytes),
}

impl WalPayload {
    /// Bytes that budgets are charged for it.
    pub(crate) fn charge(&self) -> u64 {
        ENTRY_OVERHEAD_BYTES + self.body().map_or(0, |bytes| bytes.len() as u64)
    }

    pub(super) fn body(&self) -> Option<&Bytes> {
        match self {
            Self::Blank => None,
            Self::Command(bytes) | Self::Membership(bytes) => Some(bytes),
        }
    }

    /// The byte before the body.
    pub(super) fn kind(&self) -> u8 {
        match self {
            Self::Blank => PAYLOAD_BLANK,
            Self::Command(_) => PAYLOAD_COMMAND,
            Self::Membership(_) => PAYLOAD_MEMBERSHIP,
        }
    }

    /// Whether a payload of this kind may have a body of `len` bytes.
    pub(super) fn check(kind: u8, len: usize) -> io::Result<()> {
        let limit = match kind {
            PAYLOAD_BLANK => 0,
            PAYLOAD_COMMAND => MAX_COMMAND_BYTES,
            PAYLOAD_MEMBERSHIP => MAX_MEMBERSHIP_BYTES,
            other => return Err(invalid(format!("unknown kind of entry {other}"))),
        };
        if len > limit {
            return Err(invalid(format!("an entry of kind {kind} has {len} bytes, the limit is {limit}")));
        }
        Ok(())
    }

    pub(super) fn decode(kind: u8, body: Bytes) -> io::Result<Self> {
        Self::check(kind, body.len())?;
        Ok(match kind {
            PAYLOAD_COMMAND => Self::Command(body),
            PAYLOAD_MEMBERSHIP => Self::Membership(body),
            _ => Self::Blank,
        })
    }
}

impl TryFrom<&EntryPayload<EncodedCommand, u64, Member>> for WalPayload {
    type Error = io::Error;

    fn try_from(payload: &EntryPayload<EncodedCommand, u64, Member>) -> io::Result<Self> {
        Ok(match payload {
            EntryPayload::Blank => Self::Blank,
            EntryPayload::Normal(command) => Self::Command(command.0.clone()),
            EntryPayload::Membership(membership) => Self::Membership(encode_membership(membership)?),
        })
    }
}

impl TryFrom<WalPayload> for EntryPayload<EncodedCommand, u64, Member> {
    type Error = io::Error;

    fn try_from(payload: WalPayload) -> io::Result<Self> {
        Ok(match payload {
            WalPayload::Blank => Self::Blank,
            WalPayload::Command(bytes) => Self::Normal(EncodedCommand(bytes)),
            WalPayload::Membership(bytes) => Self::Membership(decode_membership(&bytes)?),
        })
    }
}

/// Our own layout of a membership, so that openraft's may change: postcard of voter sets (two while it is joint) and
/// nodes.
#[derive(Serialize, Deserialize)]
struct MembershipLayout {
    voters: Vec<BTreeSet<u64>>,
    nodes: BTreeMap<u64, (String, Uuid)>,
}

/// Encodes a membership.
pub(crate) fn encode_membership(membership: &Membership) -> io::Result<Bytes> {
    let layout = MembershipLayout {
        voters: membership.get_joint_config().clone(),
        nodes: membership.nodes().map(|(id, node)| (*id, (node.address.clone(), node.directory))).collect(),
    };
    postcard::to_stdvec(&layout).map(Bytes::from).map_err(io::Error::other)
}

/// Decodes a membership.
pub(crate) fn decode_membership(bytes: &[u8]) -> io::Result<Membership> {
    let layout: MembershipLayout = postcard::from_bytes(bytes).map_err(|error| invalid(error.to_string()))?;
    let nodes: BTreeMap<u64, Member> =
        layout.nodes.into_iter().map(|(id, (address, directory))| (id, Member { address, directory })).collect();
    if layout.voters.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(layout.voters, nodes).map_err(|error| invalid(error.to_string()))
}

pub(super) fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
