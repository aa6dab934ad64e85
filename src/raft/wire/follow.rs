//! What gateways ask a node of the group for: the heads of entries as they are applied, and whole entries of the tail.
//!
//! ```text
//! answer to both: header length u32 LE | header: postcard | the entries, in order
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{decode, encode, malformed};
use crate::error::{Error, Result};
use crate::format::command::MAX_COMMAND_BYTES;
use crate::model::{CheckpointRef, LogIndex, LogTime, NodeId};

/// Heads that one answer holds at most.
pub(in crate::raft) const MAX_HEADS: usize = 4_096;
/// Bytes of heads in one answer, its first entry excepted: a flush of many partitions alone may be longer.
pub(in crate::raft) const MAX_HEAD_BYTES: usize = 1 << 20;
/// Entries that may be asked for at once.
pub(in crate::raft) const MAX_ASKED: usize = 256;
/// Bytes of entries in one answer, its first one excepted.
pub(in crate::raft) const MAX_ENTRY_BYTES: usize = 4 << 20;
/// Far above what a group has.
const MAX_MEMBERS: usize = 64;
/// Some bytes an entry, and some hundred a member.
const MAX_HEADER_BYTES: usize = 256 << 10;
/// Stands for an entry that the log does not have.
const NONE: u32 = u32::MAX;

/// A member as a gateway is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voter {
    /// The node.
    pub node: NodeId,
    /// The UUID of its WAL directory.
    pub directory: Uuid,
    /// `host:port` of its peer listener.
    pub address: String,
    /// It votes; otherwise it learns.
    pub voter: bool,
}

/// What a gateway knows already; the answer waits until there is more, or a time is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::raft) struct FollowAsked {
    /// The first entry that it lacks; none if it has no state at all.
    pub(in crate::raft) next: Option<LogIndex>,
    pub(in crate::raft) wait_ms: u64,
    pub(in crate::raft) leader: Option<NodeId>,
    /// Of the membership that it knows; none if it knows none.
    pub(in crate::raft) members: Option<u64>,
}

/// What a node says to a gateway that follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::raft) struct Followed {
    pub(in crate::raft) term: u64,
    pub(in crate::raft) leader: Option<NodeId>,
    pub(in crate::raft) applied: LogIndex,
    pub(in crate::raft) log_time: LogTime,
    /// Set if it is another than the gateway knows: its version, and the members.
    pub(in crate::raft) members: Option<(u64, Vec<Voter>)>,
    pub(in crate::raft) content: Content,
}

/// How the gateway goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::raft) enum Content {
    /// With this checkpoint: the log does not go back so far.
    Checkpoint(CheckpointRef),
    /// With these entries from the index on that it asked for, applied all: the heads of commands, none of what is no command.
    Heads(Vec<Option<Bytes>>),
}

#[derive(Serialize, Deserialize)]
struct FollowHeader {
    term: u64,
    leader: Option<NodeId>,
    applied: LogIndex,
    log_time: LogTime,
    members: Option<(u64, Vec<Voter>)>,
    checkpoint: Option<CheckpointRef>,
    lens: Vec<u32>,
}

/// See [`FollowAsked`].
pub(in crate::raft) fn encode_follow(asked: &FollowAsked) -> Result<Bytes> {
    encode(asked)
}

/// See [`FollowAsked`].
pub(in crate::raft) fn decode_follow(body: &[u8]) -> Result<FollowAsked> {
    decode(body)
}

/// See [`Followed`].
pub(in crate::raft) fn encode_followed(followed: Followed) -> Result<Vec<Bytes>> {
    let Followed { term, leader, applied, log_time, members, content } = followed;
    let (checkpoint, heads) = match content {
        Content::Checkpoint(reference) => (Some(reference), Vec::new()),
        Content::Heads(heads) => (None, heads),
    };
    let lens = lens_of(&heads)?;
    framed(&FollowHeader { term, leader, applied, log_time, members, checkpoint, lens }, heads)
}

/// See [`Followed`].
///
/// # Errors
/// `peer_message` for what no node sends.
pub(in crate::raft) fn decode_followed(body: &Bytes) -> Result<Followed> {
    let (header, rest) = unframed::<FollowHeader>(body)?;
    let FollowHeader { term, leader, applied, log_time, members, checkpoint, lens } = header;
    if members.as_ref().is_some_and(|(_, members)| members.len() > MAX_MEMBERS) || lens.len() > MAX_HEADS {
        return Err(malformed("it has too many members or entries"));
    }
    let heads = taken_apart(&lens, rest)?;
    let content = match checkpoint {
        Some(_) if !heads.is_empty() => return Err(malformed("entries beside a checkpoint")),
        Some(reference) => Content::Checkpoint(reference),
        None => Content::Heads(heads),
    };
    Ok(Followed { term, leader, applied, log_time, members, content })
}

/// The indices of entries that are asked for.
pub(in crate::raft) fn encode_entries_asked(indices: &[LogIndex]) -> Result<Bytes> {
    encode(&indices)
}

/// See [`encode_entries_asked`].
pub(in crate::raft) fn decode_entries_asked(body: &[u8]) -> Result<Vec<LogIndex>> {
    let indices: Vec<LogIndex> = decode(body)?;
    if indices.len() > MAX_ASKED {
        return Err(malformed("it asks for too many entries"));
    }
    Ok(indices)
}

/// The first of the entries that were asked for, as many as fit: none for what the log does not have any more. What is not yet
/// applied, and all that was asked for after it, is left out.
pub(in crate::raft) fn encode_entries(entries: Vec<Option<Bytes>>) -> Result<Vec<Bytes>> {
    framed(&lens_of(&entries)?, entries)
}

/// See [`encode_entries`].
pub(in crate::raft) fn decode_entries(body: &Bytes) -> Result<Vec<Option<Bytes>>> {
    let (lens, rest) = unframed::<Vec<u32>>(body)?;
    if lens.len() > MAX_ASKED {
        return Err(malformed("it has too many entries"));
    }
    taken_apart(&lens, rest)
}

fn lens_of(entries: &[Option<Bytes>]) -> Result<Vec<u32>> {
    let len = |entry: &Option<Bytes>| match entry {
        None => Ok(NONE),
        Some(bytes) => u32::try_from(bytes.len()).ok().filter(|len| *len != NONE).ok_or(()),
    };
    let lens: Result<Vec<u32>, ()> = entries.iter().map(len).collect();
    lens.map_err(|()| Error::internal("an entry is longer than 4 GiB"))
}

fn framed(header: &impl Serialize, entries: Vec<Option<Bytes>>) -> Result<Vec<Bytes>> {
    let header = encode(header)?;
    let len = u32::try_from(header.len()).map_err(|_| Error::internal("the header of an answer is too long"))?;
    let mut open = BytesMut::with_capacity(4 + header.len());
    open.put_u32_le(len);
    open.extend_from_slice(&header);
    // Small frames are joined on the way out.
    Ok(std::iter::once(open.freeze()).chain(entries.into_iter().flatten()).collect())
}

/// The header, and what follows it.
fn unframed<T: DeserializeOwned>(body: &Bytes) -> Result<(T, Bytes)> {
    let (len, rest) = body.split_first_chunk().ok_or_else(|| malformed("it is cut short"))?;
    let len = u32::from_le_bytes(*len) as usize;
    let header = rest.get(..len).filter(|_| len <= MAX_HEADER_BYTES).ok_or_else(|| malformed("it has no header"))?;
    Ok((decode(header)?, body.slice(4 + len..)))
}

/// The entries of these lengths that make up `bytes`.
fn taken_apart(lens: &[u32], mut bytes: Bytes) -> Result<Vec<Option<Bytes>>> {
    let mut entries = Vec::with_capacity(lens.len());
    for len in lens {
        if *len == NONE {
            entries.push(None);
            continue;
        }
        let len = *len as usize;
        if len > bytes.len() || len > MAX_COMMAND_BYTES {
            return Err(malformed("an entry is cut short or too long"));
        }
        entries.push(Some(bytes.split_to(len)));
    }
    if bytes.is_empty() { Ok(entries) } else { Err(malformed("it is too long")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Incarnation, ObjectId};

    fn followed(content: Content) -> Followed {
        let voter = |node: u64| Voter {
            node: NodeId(node),
            directory: Uuid::from_u128(node.into()),
            address: format!("host-{node}:7072"),
            voter: node != 3,
        };
        Followed {
            term: 7,
            leader: Some(NodeId(2)),
            applied: 1 << 40,
            log_time: 1_700_000_000_000,
            members: Some((12, (1..=3).map(voter).collect())),
            content,
        }
    }

    fn concat(frames: &[Bytes]) -> Bytes {
        Bytes::from(frames.concat())
    }

    fn checkpoint() -> Content {
        Content::Checkpoint(CheckpointRef { incarnation: Incarnation(2), index: 99, id: ObjectId(5) })
    }

    #[test]
    fn questions_are_read_as_they_were_written_and_nothing_else_is() {
        let asked = FollowAsked { next: Some(300), wait_ms: 500, leader: Some(NodeId(3)), members: Some(77) };
        let bytes = encode_follow(&asked).unwrap();
        assert_eq!(decode_follow(&bytes).unwrap(), asked);
        for len in 0..bytes.len() {
            assert!(decode_follow(&bytes[..len]).is_err(), "{len} bytes");
        }
        let indices: Vec<LogIndex> = (1..=MAX_ASKED as u64).collect();
        assert_eq!(decode_entries_asked(&encode_entries_asked(&indices).unwrap()).unwrap(), indices);
        let more: Vec<LogIndex> = (0..=MAX_ASKED as u64).collect();
        assert!(decode_entries_asked(&encode_entries_asked(&more).unwrap()).is_err());
    }

    #[test]
    fn a_checkpoint_has_no_entries_beside_it() {
        let bytes = concat(&encode_followed(followed(checkpoint())).unwrap());
        assert_eq!(decode_followed(&bytes).unwrap(), followed(checkpoint()));
        let header = FollowHeader {
            term: 1,
            leader: None,
            applied: 1,
            log_time: 1,
            members: None,
            checkpoint: Some(CheckpointRef { incarnation: Incarnation(2), index: 99, id: ObjectId(5) }),
            lens: vec![1],
        };
        let both = concat(&framed(&header, vec![Some(Bytes::from_static(b"x"))]).unwrap());
        assert!(decode_followed(&both).is_err());
    }

    fn entries() -> impl Strategy<Value = Vec<Option<Bytes>>> {
        let entry = proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
        proptest::collection::vec(proptest::option::of(entry), 0..20)
    }

    proptest! {
        #[test]
        fn answers_are_read_as_they_were_written_and_damage_never_panics(
            entries in entries(),
            at in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let expected = followed(Content::Heads(entries.clone()));
            let bytes = concat(&encode_followed(expected.clone()).unwrap());
            prop_assert_eq!(decode_followed(&bytes).unwrap(), expected);
            for len in 0..bytes.len() {
                prop_assert!(decode_followed(&bytes.slice(..len)).is_err());
            }
            prop_assert!(decode_followed(&concat(&[bytes.clone(), Bytes::from_static(b"x")])).is_err());
            let mut damaged = bytes.to_vec();
            damaged[at.index(bytes.len())] ^= 1 << bit;
            // The peers' own checksum finds it; here it must only do no harm.
            let _ = decode_followed(&damaged.into());
            let bytes = concat(&encode_entries(entries.clone()).unwrap());
            prop_assert_eq!(decode_entries(&bytes).unwrap(), entries);
            for len in 0..bytes.len() {
                prop_assert!(decode_entries(&bytes.slice(..len)).is_err());
            }
        }
    }
}
