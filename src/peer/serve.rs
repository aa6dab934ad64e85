//! Answering one request: what is not meant for this node is refused before the handler sees it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ::metrics::counter;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

use super::budget::Budget;
use super::dial::GREETING;
use super::failure::Failure;
use super::frame::{FrameError, Parts, Reader};
use super::head::{AnswerHead, BodyHead, MAX_ANSWER_HEAD, MAX_REQUEST_HEAD, RequestHead, VERSION, encode};
use super::tls::{may_be, name_of};
use super::{Caller, Local, MAX_DEADLINE, PeerHandler};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::metrics::PEER_REFUSED;
use crate::model::NodeId;

/// How long a request's head may take; it is the first that a caller sends.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How much longer than its caller a handler may take: a caller that is there gives up first and ends it, so this is for one
/// that is gone.
const GRACE: Duration = Duration::from_secs(1);

/// What requests are answered with.
pub(super) struct Service {
    pub(super) local: Local,
    pub(super) handler: Arc<dyn PeerHandler>,
    pub(super) max_body: u64,
    pub(super) memory: Budget,
}

/// The nodes that a connection's certificate names; `None` without TLS.
pub(super) type Named = Option<Arc<BTreeSet<NodeId>>>;

/// Why a request did not reach the handler.
struct Refusal {
    reason: &'static str,
    error: Error,
}

impl Service {
    /// Answers `request`; a greeting with nothing but the word that somebody serves here.
    pub(super) async fn answer(&self, request: Request<Incoming>, named: Named) -> Response<Parts> {
        let mut response = match *request.method() {
            Method::GET => with_status(StatusCode::NO_CONTENT),
            Method::POST => match self.respond(request.into_body(), named).await {
                Some(parts) => Response::new(parts),
                None => with_status(StatusCode::GATEWAY_TIMEOUT),
            },
            _ => with_status(StatusCode::METHOD_NOT_ALLOWED),
        };
        response.headers_mut().insert(header::SERVER, GREETING);
        response
    }

    /// What the handler answers to a request that has arrived whole, `None` as for [`Service::handle`].
    ///
    /// # Errors
    /// Why it is refused.
    pub(super) async fn take(&self, head: RequestHead, body: Bytes) -> Result<Option<Result<Vec<Bytes>>>> {
        let admitted = self.check(&head, None).and_then(|()| self.admit(head.body.bytes));
        let _share = admitted.map_err(|refusal| refusal.error)?;
        let until = Instant::now() + Duration::from_millis(head.deadline_ms).min(MAX_DEADLINE);
        Ok(self.handle(Received { head, body, until, _share }).await)
    }

    /// The answer's parts; `None` if it is not known what became of the request, so that the caller takes it as that.
    async fn respond(&self, body: Incoming, named: Named) -> Option<Parts> {
        let (refused, result) = match self.receive(body, named.as_deref()).await {
            Ok(request) => (false, self.handle(request).await?),
            Err(Refusal { reason, error }) => {
                counter!(PEER_REFUSED, "reason" => reason).increment(1);
                tracing::debug!(reason, ?error, "a peer's request was refused");
                (true, Err(error))
            }
        };
        let (failure, parts) = match result {
            Ok(parts) => (None, parts),
            Err(error) => (Some(Failure::from(&error)), Vec::new()),
        };
        let head = AnswerHead { refused, failure, body: BodyHead::of(&parts) };
        Some(Parts::new(encode(&head, MAX_ANSWER_HEAD)?, parts))
    }

    /// The request with its whole body, once all that its head says was checked.
    async fn receive(&self, body: Incoming, named: Option<&BTreeSet<NodeId>>) -> Result<Received, Refusal> {
        let mut reader = Reader::new(body);
        let head = timeout(HEAD_TIMEOUT, reader.head::<RequestHead>(MAX_REQUEST_HEAD));
        let head = head.await.map_err(|_| invalid("its head did not arrive"))?.map_err(Refusal::from)?;
        self.check(&head, named)?;
        let share = self.admit(head.body.bytes)?;
        let until = Instant::now() + Duration::from_millis(head.deadline_ms).min(MAX_DEADLINE);
        let body = timeout_at(until, reader.rest(head.body)).await;
        let body = body.map_err(|_| invalid("its body did not arrive"))?.map_err(Refusal::from)?;
        Ok(Received { head, body, until, _share: share })
    }

    /// Room for a body of `bytes`.
    fn admit(&self, bytes: u64) -> Result<super::budget::Share, Refusal> {
        if bytes > self.max_body {
            return Err(invalid(format!("it has {bytes} bytes, at most {}", self.max_body)));
        }
        self.memory.take(bytes).ok_or_else(|| {
            let message = format!("node {} has no memory for {bytes} bytes: peer.memory is used up", self.local.node);
            Refusal { reason: "memory", error: Error::overloaded(message) }
        })
    }

    fn check(&self, head: &RequestHead, named: Option<&BTreeSet<NodeId>>) -> Result<(), Refusal> {
        let local = &self.local;
        if head.cluster != local.cluster || head.incarnation != local.incarnation {
            let message = format!(
                "node {} is of cluster {} in incarnation {}, and was called by node {} of cluster {} in incarnation {}",
                local.node, local.cluster, local.incarnation, head.from.node, head.cluster, head.incarnation
            );
            let error = Error::new(ErrorKind::Conflict, "cluster_mismatch", message);
            let error = error.with_number("incarnation", local.incarnation.0);
            return Err(Refusal { reason: "cluster", error: error.with_text("cluster", local.cluster.clone()) });
        }
        let mismatch = |message: String| {
            let error = Error::new(ErrorKind::Conflict, "node_identity_mismatch", message);
            Refusal { reason: "identity", error: error.with_number("node", local.node.0) }
        };
        if head.to.node != local.node {
            return Err(mismatch(format!("this is node {}, and node {} was called", local.node, head.to.node)));
        }
        if head.to.directory != Uuid::nil() && head.to.directory != local.directory {
            let (theirs, ours) = (head.to.directory, local.directory);
            let message = format!("node {} has directory {ours}, and was called by {theirs}", local.node);
            return Err(mismatch(message));
        }
        if named.is_some_and(|named| !may_be(named, head.from.node)) {
            return Err(mismatch(format!("the caller's certificate does not name {}", name_of(head.from.node))));
        }
        Ok(())
    }

    /// What the handler answers; `None` if it did not in the caller's time and some more.
    async fn handle(&self, request: Received) -> Option<Result<Vec<Bytes>>> {
        let Received { head, body, until, _share } = request;
        let caller = Caller { node: head.from.node, directory: head.from.directory };
        let handling = self.handler.handle(caller, head.shard, head.kind, body);
        let result = timeout_at(until + GRACE, handling).await.ok()?;
        Some(result.and_then(|parts| self.bounded(parts)))
    }

    fn bounded(&self, parts: Vec<Bytes>) -> Result<Vec<Bytes>> {
        let bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
        if bytes > self.max_body {
            let message = format!("node {} has an answer of {bytes} bytes, at most {}", self.local.node, self.max_body);
            let error = Error::new(ErrorKind::Internal, "peer_answer_too_large", message);
            return Err(error.with_outcome(Outcome::Unknown));
        }
        Ok(parts)
    }
}

/// A request that may be handled.
struct Received {
    head: RequestHead,
    body: Bytes,
    until: Instant,
    /// Kept until the handler is done with the body.
    _share: super::budget::Share,
}

impl From<FrameError> for Refusal {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Version(theirs) => {
                let message = format!("the caller speaks version {theirs} of the peer protocol, this build {VERSION}");
                Self { reason: "version", error: Error::new(ErrorKind::Conflict, "peer_version", message) }
            }
            error => {
                let damaged = Error::new(ErrorKind::Unavailable, "peer_damaged", "the request is damaged");
                Self { reason: "invalid", error: damaged.with_source(error) }
            }
        }
    }
}

fn invalid(message: impl std::fmt::Display) -> Refusal {
    Refusal {
        reason: "invalid",
        error: Error::invalid("peer_invalid_request", format!("the request is refused: {message}")),
    }
}

fn with_status(status: StatusCode) -> Response<Parts> {
    let mut response = Response::new(Parts::none());
    *response.status_mut() = status;
    response
}
