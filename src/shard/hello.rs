//! What nodes tell each other before they are a cluster: which directory has which number, and who its members are.
//!
//! The one peer request that is answered before a node has its log, and by a node that nobody knows yet. The answer is one
//! postcard value of bounded size.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::message;
use crate::error::{Error, ErrorKind, Result};
use crate::model::NodeId;

/// The kind of the peer request; its body is empty.
pub(super) const HELLO: u8 = 0;
/// Bytes of an answer: some hundred for each member.
const MAX_BYTES: usize = 64 << 10;

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Its number.
    pub(super) node: NodeId,
    /// The UUID of its WAL directory.
    pub(super) directory: Uuid,
    /// Whether its log is as it was made.
    pub(super) empty: bool,
    /// The members that its log knows; none before it was taken in.
    pub(super) members: Vec<Known>,
}

/// A member as another node knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    /// Its number.
    pub(super) node: NodeId,
    /// Its directory.
    pub(super) directory: Uuid,
    /// Where its peer listener is.
    pub(super) address: String,
}

impl Hello {
    /// The answer as it is sent.
    pub(super) fn encode(&self) -> Result<Bytes> {
        message::encode(self)
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// `peer_message` if it is none.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        message::decode(bytes, MAX_BYTES)
    }

    /// What this node knows as `node` has this directory.
    pub(super) fn knows(&self, node: NodeId, directory: Uuid) -> bool {
        self.members.iter().any(|member| member.node == node && member.directory == directory)
    }

    /// What this node knows as `node` has another directory than `directory`.
    pub(super) fn knows_other(&self, node: NodeId, directory: Uuid) -> bool {
        self.members.iter().any(|member| member.node == node && member.directory != directory)
    }
}

/// The error of a directory whose number belongs to another one: a wiped voter has forgotten its vote and must not come
/// back as if it had not.
pub(super) fn wiped(node: NodeId, address: &str) -> Error {
    let address = if address.is_empty() { "HOST:PORT" } else { address };
    let message = format!(
        "node {node} is a member of this cluster with another write-ahead log directory; one that lost its log cannot come \
         back under its number: start it with one that no node ever had (--node-id NEW, or --node-id auto where peers \
         have no TLS) and have it take the place with: tidelog admin replace-node {node} NEW {address}"
    );
    Error::new(ErrorKind::Conflict, "node_identity_mismatch", message).with_number("node", node.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn hello() -> Hello {
        let known = |node| Known {
            node: NodeId(node),
            directory: Uuid::from_u128(u128::from(node)),
            address: format!("host-{node}:7072"),
        };
        Hello { node: NodeId(2), directory: Uuid::from_u128(2), empty: false, members: (1..=3).map(known).collect() }
    }

    #[test]
    fn a_greeting_is_read_as_it_was_written_and_nothing_else_is() {
        let bytes = hello().encode().unwrap();
        assert_eq!(Hello::decode(&bytes).unwrap(), hello());
        for len in 0..bytes.len() {
            assert!(Hello::decode(&bytes[..len]).is_err(), "{len} bytes");
        }
        let longer = [&bytes[..], b"x"].concat();
        assert!(Hello::decode(&longer).is_err());
        assert!(Hello::decode(&vec![0; MAX_BYTES + 1]).is_err());
    }

    #[test]
    fn a_number_belongs_to_one_directory() {
        let hello = hello();
        assert!(!hello.knows_other(NodeId(3), Uuid::from_u128(3)));
        assert!(hello.knows_other(NodeId(3), Uuid::from_u128(7)));
        assert!(!hello.knows_other(NodeId(4), Uuid::from_u128(4)));
        assert!(hello.knows(NodeId(3), Uuid::from_u128(3)));
        assert!(!hello.knows(NodeId(3), Uuid::from_u128(7)) && !hello.knows(NodeId(4), Uuid::from_u128(4)));
    }
}
