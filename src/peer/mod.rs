//! How the nodes of a cluster reach each other: bytes in, bytes out, with a verdict on what became of a call.
//!
//! Each node keeps one HTTP/2 connection to each peer that it calls; calls share it. A request names cluster, incarnation,
//! both nodes and their directories, and the receiver refuses what is not meant for it before a handler sees it. The
//! framing is in docs/formats.md. Invariants:
//! - A call that ends as [`CallError::NotSent`] did nothing; one of which that cannot be said is [`CallError::Unknown`].
//! - Nothing is allocated from a length that was not checked; bodies are bounded one by one and together.
//! - A body is handed to a handler whole and with the checksum that it was sent with, or not at all.
//!
//! It knows nothing of Raft: what a kind means is the handler's business.

mod budget;
mod client;
mod counted;
mod dial;
mod failure;
mod frame;
mod head;
mod kind;
mod link;
mod sent;
mod serve;
mod server;
#[cfg(test)]
mod tests;
mod tls;
mod wire;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::model::{Incarnation, NodeId, ShardId};

pub use client::Peers;
pub use server::{Bound, PeerServer};
pub use wire::{Receiver, Wire, WireCall};

/// The longest that a call may take; longer deadlines count as this.
pub const MAX_DEADLINE: Duration = Duration::from_secs(600);

/// Who this process is to its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// The cluster's id, as in the bucket; at most 256 bytes.
    pub cluster: String,
    /// The life of the cluster.
    pub incarnation: Incarnation,
    /// This node.
    pub node: NodeId,
    /// Made with the node's directory.
    pub directory: Uuid,
}

/// Whom a call is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// The node; anybody else who answers at the address refuses.
    pub node: NodeId,
    /// Its directory; nil if it is not known yet, which any directory answers.
    pub directory: Uuid,
    /// `host:port`.
    pub address: String,
}

/// Who calls: what the request's head says, of the same cluster and incarnation, the node as in its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The node.
    pub node: NodeId,
    /// Its directory.
    pub directory: Uuid,
}

/// Answers the calls of peers.
pub trait PeerHandler: Send + Sync + 'static {
    /// Answers one call. An error travels to the caller with kind, code, message, outcome and details.
    ///
    /// The future is dropped where it stands when the caller went away or its deadline passed.
    fn handle(&self, caller: Caller, shard: ShardId, kind: u8, body: Bytes) -> BoxFuture<'static, Result<Vec<Bytes>>>;
}

/// Why a call has no answer.
#[derive(Debug)]
pub enum CallError {
    /// No byte of the body left this machine, or the peer refused it before handling: nothing happened.
    NotSent(Error),
    /// The peer's handler answered with this error.
    Answered(Error),
    /// It broke after bytes were sent, or the deadline passed: it may have happened. The error's outcome says so.
    Unknown(Error),
}

impl CallError {
    /// The error, whatever became of the call.
    #[must_use]
    pub fn error(&self) -> &Error {
        match self {
            Self::NotSent(error) | Self::Answered(error) | Self::Unknown(error) => error,
        }
    }

    /// The error, whatever became of the call.
    #[must_use]
    pub fn into_error(self) -> Error {
        match self {
            Self::NotSent(error) | Self::Answered(error) | Self::Unknown(error) => error,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error().fmt(f)
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(self.error())
    }
}
