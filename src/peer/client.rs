//! Outgoing calls: one connection to each peer, a deadline on each call, and a verdict on what became of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::metrics::{counter, histogram};
use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::budget::Budget;
use super::dial::{Dialer, URI};
use super::frame::{Broken, FrameError, Parts, Reader};
use super::head::{AnswerHead, BodyHead, End, MAX_ANSWER_HEAD, MAX_REQUEST_HEAD, RequestHead, VERSION, encode};
use super::link::Link;
use super::sent::Sent;
use super::tls::{Tls, may_be, name_of};
use super::wire::{Wire, WireCall, joined};
use super::{CallError, Local, MAX_DEADLINE, Target, kind};
use crate::config;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::metrics::{PEER_CALL_SECONDS, PEER_CALLS};
use crate::model::{NodeId, ShardId};

/// Peers with a connection of their own; far more than a cluster has nodes.
const MAX_LINKS: usize = 64;
/// A call of which nothing was sent is tried again once: its connection may have ended unnoticed.
const ATTEMPTS: usize = 2;

/// Calls to peers; cheap to clone. The connections end with the last clone and its calls.
#[derive(Clone)]
pub struct Peers(Arc<Inner>);

struct Inner {
    local: Local,
    max_body: u64,
    dialer: Arc<Dialer>,
    links: Mutex<BTreeMap<NodeId, Arc<Link>>>,
    answers: Budget,
    /// Carries the calls in the place of connections.
    wire: Option<Arc<dyn Wire>>,
}

/// One call's request.
struct Call<'a> {
    target: &'a Target,
    shard: ShardId,
    kind: u8,
    parts: Vec<Bytes>,
    until: Instant,
}

impl Peers {
    /// Calls on behalf of `local`; to be made within a runtime.
    ///
    /// # Errors
    /// `invalid_settings` if the files of `peer.tls` cannot be used, or their certificate does not name `local`.
    pub fn new(local: Local, settings: &config::Peer) -> Result<Self> {
        let tls = Tls::open(&settings.tls)?;
        if tls.as_ref().is_some_and(|tls| !may_be(&tls.last().nodes, local.node)) {
            let message = format!("the certificate of peer.tls.cert does not name {}", name_of(local.node));
            return Err(Error::invalid("invalid_settings", message));
        }
        Ok(Self(Arc::new(Inner {
            local,
            max_body: settings.max_body,
            dialer: Arc::new(Dialer { timeout: settings.connect_timeout, tls }),
            links: Mutex::default(),
            answers: Budget::new(settings.memory),
            wire: None,
        })))
    }

    /// Calls on behalf of `local` that `wire` carries.
    #[must_use]
    pub fn over(wire: Arc<dyn Wire>, local: Local, settings: &config::Peer) -> Self {
        Self(Arc::new(Inner {
            local,
            max_body: settings.max_body,
            dialer: Arc::new(Dialer { timeout: settings.connect_timeout, tls: None }),
            links: Mutex::default(),
            answers: Budget::new(settings.memory),
            wire: Some(wire),
        }))
    }

    /// Who calls.
    #[must_use]
    pub fn local(&self) -> &Local {
        &self.0.local
    }

    /// Calls `target` and returns the answer's body; `body` is sent as it is, in the order of its parts.
    ///
    /// It takes `deadline` at most, a connection to be made included, and [`MAX_DEADLINE`] at most. While a peer cannot be
    /// reached calls to it fail at once between two attempts, so whoever repeats a call has to pause. Dropping the
    /// future gives the call up; it may have happened.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(
        &self,
        target: &Target,
        shard: ShardId,
        kind: u8,
        body: Vec<Bytes>,
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        let started = Instant::now();
        let call = Call { target, shard, kind, parts: body, until: started + deadline.min(MAX_DEADLINE) };
        let result = self.0.call(&call).await;
        let outcome = match &result {
            Ok(_) => "ok",
            Err(CallError::Answered(_)) => "answered",
            Err(CallError::NotSent(_)) => "not_sent",
            Err(CallError::Unknown(_)) => "unknown",
        };
        let kind = kind::name(kind);
        counter!(PEER_CALLS, "kind" => kind, "outcome" => outcome).increment(1);
        histogram!(PEER_CALL_SECONDS, "kind" => kind).record(started.elapsed().as_secs_f64());
        result
    }
}

#[cfg(test)]
impl Peers {
    /// The same peer under another name, as one that lies would call.
    pub(super) fn pretending(&self, local: Local) -> Self {
        let Inner { max_body, dialer, .. } = &*self.0;
        let answers = Budget::new(*max_body);
        Self(Arc::new(Inner {
            local,
            max_body: *max_body,
            dialer: Arc::clone(dialer),
            links: Mutex::default(),
            answers,
            wire: None,
        }))
    }

    /// Looks at the files of TLS now.
    pub(super) async fn reread(&self) {
        if let Some(tls) = &self.0.dialer.tls {
            tls.current().await;
        }
    }
}

impl Inner {
    async fn call(&self, call: &Call<'_>) -> Result<Bytes, CallError> {
        let bytes: u64 = call.parts.iter().map(|part| part.len() as u64).sum();
        if bytes > self.max_body {
            let message = format!("{bytes} bytes for node {}, at most {}", call.target.node, self.max_body);
            return Err(CallError::NotSent(Error::invalid("peer_body_too_large", message)));
        }
        if let Some(wire) = &self.wire {
            return wire.call(self.on_wire(call)).await;
        }
        let link = self.link(call.target);
        let mut attempt = 1;
        loop {
            match self.attempt(&link, call).await {
                Err(Failed::Closed(_)) if attempt < ATTEMPTS && Instant::now() < call.until => attempt += 1,
                Err(Failed::Closed(error)) => return Err(CallError::NotSent(error)),
                Err(Failed::Over(error)) => return Err(error),
                Ok(bytes) => return Ok(bytes),
            }
        }
    }

    async fn attempt(&self, link: &Arc<Link>, call: &Call<'_>) -> Result<Bytes, Failed> {
        let mut sender = link.sender(call.until).await.map_err(CallError::NotSent)?;
        let head = self.head(call).map_err(CallError::NotSent)?;
        let sent = Arc::new(Sent::default());
        let mut request = Request::new(Parts::new(head, call.parts.iter().cloned()).watched(Arc::clone(&sent)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(URI);
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(|error| Lost::Connection(error.into()))?;
            if answer.status() != StatusCode::OK {
                return Err(Lost::Connection(format!("it answered with status {}", answer.status()).into()));
            }
            self.answer(answer.into_body()).await
        };
        let node = call.target.node;
        match timeout_at(call.until, exchange).await {
            Ok(Ok(Answer { bytes, failure: None, .. })) => Ok(bytes),
            Ok(Ok(Answer { failure: Some(error), refused: true, .. })) => Err(CallError::NotSent(error).into()),
            Ok(Ok(Answer { failure: Some(error), .. })) => Err(CallError::Answered(error).into()),
            Ok(Err(Lost::Version(theirs))) => Err(CallError::NotSent(other_version(node, theirs)).into()),
            Ok(Err(Lost::Connection(error))) => {
                let was_refused = is_refused_stream(&*error);
                let message = format!("the connection to node {node} broke during a call");
                let error = Error::new(ErrorKind::Unavailable, "peer_broken", message).with_source(error);
                Err(if sent.abandon() || was_refused { Failed::Closed(error) } else { unknown(error) })
            }
            Ok(Err(Lost::Answer(error))) => Err(unknown(error)),
            Err(_) => {
                let message = format!("node {node} did not answer in time");
                let error = Error::new(ErrorKind::Unavailable, "peer_timeout", message);
                Err(if sent.abandon() { CallError::NotSent(error).into() } else { unknown(error) })
            }
        }
    }

    fn on_wire(&self, call: &Call<'_>) -> WireCall {
        WireCall {
            from: self.local.clone(),
            target: call.target.clone(),
            shard: call.shard,
            kind: call.kind,
            body: joined(call.parts.clone()),
            deadline: call.until.saturating_duration_since(Instant::now()),
        }
    }

    fn head(&self, call: &Call<'_>) -> Result<Bytes> {
        let left = call.until.saturating_duration_since(Instant::now());
        let head = RequestHead {
            cluster: self.local.cluster.clone(),
            incarnation: self.local.incarnation,
            from: End { node: self.local.node, directory: self.local.directory },
            to: End { node: call.target.node, directory: call.target.directory },
            shard: call.shard,
            kind: call.kind,
            deadline_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
            body: BodyHead::of(&call.parts),
        };
        encode(&head, MAX_REQUEST_HEAD).ok_or_else(|| Error::internal("the head of a request to a peer is too large"))
    }

    async fn answer(&self, body: Incoming) -> Result<Answer, Lost> {
        let mut reader = Reader::new(body);
        let head: AnswerHead = reader.head(MAX_ANSWER_HEAD).await?;
        let bytes = head.body.bytes;
        if bytes > self.max_body {
            let message = format!("a peer answers with {bytes} bytes, at most {}", self.max_body);
            return Err(Lost::Answer(Error::new(ErrorKind::Unavailable, "peer_answer_too_large", message)));
        }
        let Some(_share) = self.answers.take(bytes) else {
            return Err(Lost::Answer(Error::overloaded("peer.memory is used up by the answers of other calls")));
        };
        let bytes = reader.rest(head.body).await?;
        Ok(Answer { refused: head.refused, failure: head.failure.map(Error::from), bytes })
    }

    /// The link to a target; one to another address of the same node is given up.
    fn link(&self, target: &Target) -> Arc<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get(&target.node)
            && link.address() == target.address
        {
            return Arc::clone(link);
        }
        if links.len() >= MAX_LINKS {
            links.retain(|_, link| link.is_up());
        }
        if links.len() >= MAX_LINKS {
            links.pop_first();
        }
        let link = Arc::new(Link::new(target.node, target.address.clone(), Arc::clone(&self.dialer)));
        links.insert(target.node, Arc::clone(&link));
        link
    }
}

/// What a peer answered.
struct Answer {
    refused: bool,
    failure: Option<Error>,
    bytes: Bytes,
}

/// Why there is no answer although the request may have been sent.
enum Lost {
    Version(u8),
    Connection(Broken),
    Answer(Error),
}

/// How an attempt failed.
enum Failed {
    /// The connection ended before anything of the request was sent.
    Closed(Error),
    Over(CallError),
}

impl From<CallError> for Failed {
    fn from(error: CallError) -> Self {
        Self::Over(error)
    }
}

impl From<FrameError> for Lost {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Version(theirs) => Self::Version(theirs),
            FrameError::Broken(source) => Self::Connection(source),
            damaged => {
                let error = Error::new(ErrorKind::Unavailable, "peer_damaged", "a peer's answer is damaged");
                Self::Answer(error.with_source(damaged))
            }
        }
    }
}

fn unknown(error: Error) -> Failed {
    Failed::Over(CallError::Unknown(error.with_outcome(Outcome::Unknown)))
}

fn other_version(node: NodeId, theirs: u8) -> Error {
    let message = format!("node {node} speaks version {theirs} of the peer protocol, this build version {VERSION}");
    Error::new(ErrorKind::Conflict, "peer_version", message)
}

/// Whether the peer says that it has not looked at the stream: it was refused, or came after the last one before the
/// connection was ended in order.
fn is_refused_stream(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            let is_late = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
            return error.is_remote() && (is_refused || is_late);
        }
        cause = error.source();
    }
    false
}
