//! How Raft's values are written into the records of the WAL.
//!
//! Integers are big-endian. The record around them (kind, CRC) is raft-log's. Decoders never allocate from a length
//! they have not checked. Layouts: `docs/formats.md`, "WAL directory".

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};

use bytes::Bytes;
use openraft::EntryPayload;
use raft_log::codeq::{Decode, Encode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::mark::SyncMark;
use crate::format::command::MAX_COMMAND_BYTES;
use crate::raft::types::{EncodedCommand, LogId, Member, Membership, Vote, log_id, term_of};

/// Bytes of an encoded membership.
pub(crate) const MAX_MEMBERSHIP_BYTES: usize = 1024 * 1024;

const KIND_BLANK: u8 = 0;
const KIND_COMMAND: u8 = 1;
const KIND_MEMBERSHIP: u8 = 2;

/// Bytes charged for an entry besides its command's: keys, map nodes, allocator.
pub(crate) const ENTRY_OVERHEAD_BYTES: u64 = 128;

/// The types with which raft-log is instantiated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct WalTypes;

impl raft_log::Types for WalTypes {
    type LogId = WalLogId;
    type LogPayload = WalPayload;
    type Vote = WalVote;
    type Callback = super::log::Synced;
    type UserData = SyncMark;

    fn log_index(log_id: &WalLogId) -> u64 {
        log_id.index
    }

    fn payload_size(payload: &WalPayload) -> u64 {
        payload.charge()
    }
}

/// A log id: 16 bytes, term and index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WalLogId {
    pub(crate) term: u64,
    pub(crate) index: u64,
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

impl Encode for WalLogId {
    fn encode<W: Write>(&self, mut w: W) -> io::Result<usize> {
        w.write_all(&self.term.to_be_bytes())?;
        w.write_all(&self.index.to_be_bytes())?;
        Ok(16)
    }
}

impl Decode for WalLogId {
    fn decode<R: Read>(mut r: R) -> io::Result<Self> {
        Ok(Self { term: read_u64(&mut r)?, index: read_u64(&mut r)? })
    }
}

/// A vote: 17 bytes, term, node, committed (0 or 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WalVote(pub(crate) Vote);

impl PartialOrd for WalVote {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.0.partial_cmp(&other.0)
    }
}

impl Encode for WalVote {
    fn encode<W: Write>(&self, mut w: W) -> io::Result<usize> {
        w.write_all(&self.0.leader_id.term.to_be_bytes())?;
        w.write_all(&self.0.leader_id.voted_for.to_be_bytes())?;
        w.write_all(&[u8::from(self.0.committed)])?;
        Ok(17)
    }
}

impl Decode for WalVote {
    fn decode<R: Read>(mut r: R) -> io::Result<Self> {
        let (term, node) = (read_u64(&mut r)?, read_u64(&mut r)?);
        match read_u8(&mut r)? {
            0 => Ok(Self(Vote::new(term, node))),
            1 => Ok(Self(Vote::new_committed(term, node))),
            other => Err(invalid(format!("a vote's committed flag is {other}"))),
        }
    }
}

/// What an entry carries: a kind byte, then for commands and memberships a length (4 bytes) and so many bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WalPayload {
    Blank,
    Command(Bytes),
    Membership(Bytes),
}

impl WalPayload {
    /// Bytes that budgets are charged for it.
    pub(crate) fn charge(&self) -> u64 {
        ENTRY_OVERHEAD_BYTES
            + match self {
                Self::Blank => 0,
                Self::Command(bytes) | Self::Membership(bytes) => bytes.len() as u64,
            }
    }
}

impl Encode for WalPayload {
    fn encode<W: Write>(&self, mut w: W) -> io::Result<usize> {
        let (kind, bytes) = match self {
            Self::Blank => {
                w.write_all(&[KIND_BLANK])?;
                return Ok(1);
            }
            Self::Command(bytes) => (KIND_COMMAND, bytes),
            Self::Membership(bytes) => (KIND_MEMBERSHIP, bytes),
        };
        let len = u32::try_from(bytes.len()).map_err(|_| invalid("an entry is longer than 4 GiB".to_owned()))?;
        w.write_all(&[kind])?;
        w.write_all(&len.to_be_bytes())?;
        w.write_all(bytes)?;
        Ok(5 + bytes.len())
    }
}

impl Decode for WalPayload {
    fn decode<R: Read>(mut r: R) -> io::Result<Self> {
        match read_u8(&mut r)? {
            KIND_BLANK => Ok(Self::Blank),
            KIND_COMMAND => Ok(Self::Command(read_bytes(&mut r, MAX_COMMAND_BYTES)?)),
            KIND_MEMBERSHIP => Ok(Self::Membership(read_bytes(&mut r, MAX_MEMBERSHIP_BYTES)?)),
            other => Err(invalid(format!("unknown kind of entry {other}"))),
        }
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

pub(super) fn read_u8<R: Read>(r: &mut R) -> io::Result<u8> {
    let mut byte = [0; 1];
    r.read_exact(&mut byte)?;
    Ok(byte[0])
}

pub(super) fn read_u64<R: Read>(r: &mut R) -> io::Result<u64> {
    let mut bytes = [0; 8];
    r.read_exact(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}

/// Reads a length and so many bytes; memory grows with what is there, not with what the length claims.
fn read_bytes<R: Read>(r: &mut R, limit: usize) -> io::Result<Bytes> {
    let mut len = [0; 4];
    r.read_exact(&mut len)?;
    let len = u32::from_be_bytes(len) as usize;
    if len > limit {
        return Err(invalid(format!("an entry claims {len} bytes, the limit is {limit}")));
    }
    let mut bytes = Vec::new();
    r.take(len as u64).read_to_end(&mut bytes)?;
    if bytes.len() != len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Bytes::from(bytes))
}
