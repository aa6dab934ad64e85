//! What a node needs of the world outside it: a way to its peers, and the files of checkpoints.
//!
//! Traits, so that tests and the simulation put a network and a bucket of their own under a node. Neither is called from
//! within openraft's callbacks where a failure would end the node.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use uuid::Uuid;

use super::options::CheckpointFiles;
use crate::error::{Error, Result};
use crate::model::{CheckpointRef, NodeId};

/// Whom a call is for, and where that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress {
    /// The node.
    pub node: NodeId,
    /// The UUID of its WAL directory: the same id with another directory is another node and must refuse the call.
    pub directory: Uuid,
    /// `host:port` of its peer listener.
    pub address: String,
}

/// Why a call has no answer.
#[derive(Debug)]
pub enum TransportError {
    /// The peer did not begin to handle it: nothing happened.
    NotSent(Error),
    /// The peer's handler answered with this error.
    Answered(Error),
    /// It broke after bytes were sent, or the deadline passed: it may have happened.
    Unknown(Error),
}

impl TransportError {
    /// The error, whatever is known about it.
    #[must_use]
    pub fn into_error(self) -> Error {
        match self {
            Self::NotSent(error) | Self::Answered(error) | Self::Unknown(error) => error,
        }
    }
}

/// How a node reaches its peers.
pub trait Transport: Send + Sync + 'static {
    /// Sends `body`, one frame after the other, to the handler of the shard at `target` and returns its answer. `kind` is one
    /// of [`super::kind`]. Dropping the future gives the call up, which the peer may have handled.
    fn call(
        &self,
        target: &PeerAddress,
        kind: u8,
        body: Vec<Bytes>,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>>;
}

/// Where a node that is too far behind gets the files of a checkpoint.
pub trait CheckpointSource: Send + Sync + 'static {
    /// The checkpoint named `reference` with all that it names; `leader` sent the name and has the files too. Files that the
    /// node holds already may be left out.
    fn fetch(&self, reference: CheckpointRef, leader: NodeId) -> BoxFuture<'static, Result<CheckpointFiles>>;
}

/// The surroundings of a node that is alone: it reaches nobody and fetches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Transport for Alone {
    fn call(
        &self,
        target: &PeerAddress,
        _kind: u8,
        _body: Vec<Bytes>,
        _deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let message = format!("node {} cannot be reached: this node has no peer listener", target.node);
        async move { Err(TransportError::NotSent(Error::unavailable(message))) }.boxed()
    }
}

impl CheckpointSource for Alone {
    fn fetch(&self, _reference: CheckpointRef, leader: NodeId) -> BoxFuture<'static, Result<CheckpointFiles>> {
        let message =
            format!("a checkpoint that node {leader} named cannot be fetched: this node has no source for it");
        async move { Err(Error::unavailable(message)) }.boxed()
    }
}
