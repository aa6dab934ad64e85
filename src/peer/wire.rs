//! Calls over something else than TCP: what a simulation puts under the nodes of one process.
//!
//! A [`Wire`] carries calls from one node's `Peers` to the [`Receiver`] of another, and may lose, hold back, double or break
//! them. What the listener checks is checked here as well, errors travel in the form that they have between processes, and a
//! call is handled on the runtime of the node that was called, whoever waits for it.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::budget::Budget;
use super::failure::Failure;
use super::head::{BodyHead, End, RequestHead};
use super::serve::Service;
use super::{CallError, Local, PeerHandler, Target};
use crate::config;
use crate::error::{Error, ErrorKind, Outcome};
use crate::model::ShardId;

/// A call on its way.
#[derive(Debug, Clone)]
pub struct WireCall {
    /// Who calls.
    pub from: Local,
    /// Who is called.
    pub target: Target,
    /// For which shard.
    pub shard: ShardId,
    /// What is asked.
    pub kind: u8,
    /// All parts of the body, one after the other.
    pub body: Bytes,
    /// How long the caller waits.
    pub deadline: Duration,
}

/// Carries calls between nodes.
pub trait Wire: Send + Sync + 'static {
    /// From now on calls to `address` are for `receiver`, until what is returned is dropped. A receiver that was there is
    /// replaced.
    fn listen(&self, address: &str, receiver: Receiver) -> Box<dyn Any + Send + Sync>;

    /// Carries a call to whoever listens at its target's address, and the answer back. Has to end at the call's deadline in the
    /// time of the runtime that polls it; what it cannot tell to have been lost on the way there is [`CallError::Unknown`].
    /// Dropping the future gives the call up.
    fn call(&self, call: WireCall) -> BoxFuture<'static, Result<Bytes, CallError>>;
}

/// Answers the calls of a wire for one node; clones are the same.
#[derive(Clone)]
pub struct Receiver {
    service: Arc<Service>,
    runtime: Handle,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("local", &self.service.local).finish_non_exhaustive()
    }
}

impl Receiver {
    /// Answers on the runtime that this is made in.
    pub(super) fn new(local: Local, handler: Arc<dyn PeerHandler>, settings: &config::Peer) -> Self {
        let memory = Budget::new(settings.memory);
        let service = Service { local, handler, max_body: settings.max_body, memory };
        Self { service: Arc::new(service), runtime: Handle::current() }
    }

    /// Who answers.
    #[must_use]
    pub fn local(&self) -> &Local {
        &self.service.local
    }

    /// Handles a call that has arrived. Dropping the future gives the call up where it stands.
    ///
    /// # Errors
    /// See [`CallError`]; `Unknown` if the node that was called is gone.
    pub async fn answer(&self, call: WireCall) -> Result<Bytes, CallError> {
        let service = Arc::clone(&self.service);
        let handling = AbortOnDropHandle::new(self.runtime.spawn(async move { answer(&service, call).await }));
        handling.await.unwrap_or_else(|_| Err(CallError::Unknown(lost(ErrorKind::Unavailable, "peer_broken"))))
    }
}

async fn answer(service: &Service, call: WireCall) -> Result<Bytes, CallError> {
    let WireCall { from, target, shard, kind, body, deadline } = call;
    let head = RequestHead {
        cluster: from.cluster,
        incarnation: from.incarnation,
        from: End { node: from.node, directory: from.directory },
        to: End { node: target.node, directory: target.directory },
        shard,
        kind,
        deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
        body: BodyHead { bytes: body.len() as u64, checksum: 0 },
    };
    match service.take(head, body).await {
        Err(refused) => Err(CallError::NotSent(travelled(&refused))),
        Ok(None) => Err(CallError::Unknown(lost(ErrorKind::Unavailable, "peer_timeout"))),
        Ok(Some(Err(error))) => Err(CallError::Answered(travelled(&error))),
        Ok(Some(Ok(parts))) => Ok(joined(parts)),
    }
}

/// The parts of a body in one.
pub(super) fn joined(mut parts: Vec<Bytes>) -> Bytes {
    if parts.len() == 1 {
        return parts.swap_remove(0);
    }
    let mut whole = BytesMut::new();
    parts.iter().for_each(|part| whole.extend_from_slice(part));
    whole.freeze()
}

/// The error as it arrives.
fn travelled(error: &Error) -> Error {
    Error::from(Failure::from(error))
}

fn lost(kind: ErrorKind, code: &'static str) -> Error {
    Error::new(kind, code, "the call broke off at the node that was called").with_outcome(Outcome::Unknown)
}
