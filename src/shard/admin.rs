//! What nodes ask of the leader of a shard on behalf of operators, as bytes: one postcard value each way, of bounded size.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::message;
use super::network::Calls;
use crate::error::Result;
use crate::model::{GroupStatus, NodeId};
use crate::peer::CallError;
use crate::raft::PeerAddress;

/// The kind of the peer request.
pub(super) const ADMIN: u8 = 33;
/// Bytes of a request or an answer: some hundred for each member.
const MAX_BYTES: usize = 64 << 10;

/// What is asked of the leader; each of them may be repeated. Field and variant order is the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Request {
    /// The members as the leader sees them.
    Status,
    /// Takes a node in.
    Add {
        /// Its number.
        node: NodeId,
        /// Where its peer listener is.
        address: String,
    },
    /// Takes a node out.
    Remove {
        /// Its number.
        node: NodeId,
    },
    /// Takes a node in and another one out.
    Replace {
        /// Who goes.
        old: NodeId,
        /// Who comes.
        new: NodeId,
        /// Where its peer listener is.
        address: String,
    },
    /// Hands the leadership over.
    Transfer {
        /// To this voter, or to the one that is furthest.
        to: Option<NodeId>,
    },
    /// A member has another address than the others know.
    Moved {
        /// The member.
        node: NodeId,
        /// Where its peer listener is now.
        address: String,
    },
    /// The shard is to have the members that the first one has.
    Match {
        /// All of them.
        seats: Vec<Seat>,
    },
}

/// A member as every shard is to have it. Field order is the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seat {
    /// The node.
    pub(super) node: NodeId,
    /// The UUID of its WAL directory.
    pub(super) directory: Uuid,
    /// Where its peer listener is; empty if it has none.
    pub(super) address: String,
    /// Whether it votes.
    pub(super) voter: bool,
}

impl Request {
    pub(super) fn encode(&self) -> Result<Bytes> {
        message::encode(self)
    }

    /// # Errors
    /// `peer_message` for what no node sends.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        message::decode(bytes, MAX_BYTES)
    }
}

pub(super) fn encode_status(status: &GroupStatus) -> Result<Bytes> {
    message::encode(status)
}

/// # Errors
/// `peer_message` for what no node sends.
pub(super) fn decode_status(bytes: &[u8]) -> Result<GroupStatus> {
    message::decode(bytes, MAX_BYTES)
}

/// Has the node at `leader` do what is asked for.
pub(super) async fn ask(
    calls: &Calls,
    leader: &PeerAddress,
    request: &Request,
    deadline: Duration,
) -> Result<GroupStatus, CallError> {
    let body = request.encode().map_err(CallError::NotSent)?;
    let answer = calls.call(leader, ADMIN, body, deadline).await?;
    decode_status(&answer).map_err(CallError::Unknown)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::{MemberStatus, ShardId};

    #[test]
    fn requests_and_answers_are_read_as_they_were_written_and_nothing_else_is() {
        let (node, address) = (NodeId(4), "host-4:7072".to_owned());
        let requests = [
            Request::Status,
            Request::Add { node, address: address.clone() },
            Request::Remove { node },
            Request::Replace { old: NodeId(1), new: node, address: address.clone() },
            Request::Transfer { to: None },
            Request::Moved { node, address: address.clone() },
            Request::Match {
                seats: vec![Seat { node, directory: Uuid::from_u128(4), address: address.clone(), voter: true }],
            },
        ];
        for request in requests {
            let bytes = request.encode().unwrap();
            assert_eq!(Request::decode(&bytes).unwrap(), request);
            for len in 0..bytes.len() {
                assert!(Request::decode(&bytes[..len]).is_err(), "{request:?} cut to {len} bytes");
            }
            assert_eq!(Request::decode(&[&bytes[..], b"x"].concat()).unwrap_err().code(), "peer_message");
        }
        let member = MemberStatus {
            node,
            address,
            directory: Uuid::from_u128(4),
            voter: true,
            is_leader: false,
            matched: Some(7),
            lag: Some(2),
            reachable: None,
        };
        let status = GroupStatus {
            shard: ShardId(2),
            node,
            leader: Some(NodeId(1)),
            term: 3,
            applied: 8,
            committed: 9,
            flushed: 4,
            members: vec![member],
        };
        assert_eq!(decode_status(&encode_status(&status).unwrap()).unwrap(), status);
        assert!(decode_status(&vec![0xff; MAX_BYTES + 1]).is_err());
    }
}
