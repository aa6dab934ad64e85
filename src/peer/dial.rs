//! Making a connection to a peer: TCP, TLS if there are certificates, HTTP/2, and a greeting.
//!
//! The greeting is a request without a body. Its answer says that a peer's listener is there and serves: a process that
//! hangs, or one that serves something else, is found before anything is sent to it that might be handled.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, StatusCode, Uri, header};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use rustls::{CertificateError, Error as TlsError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::counted::{Counted, Direction};
use super::frame::Parts;
use super::tls::{Loaded, Tls, name_of, nodes_of};
use crate::error::{Error, ErrorKind, Result};
use crate::model::NodeId;

/// What a listener for peers answers a greeting with, in the header `server`.
pub(super) const GREETING: HeaderValue = HeaderValue::from_static("tidelog-peer");
/// Where requests go; only that there is an authority matters.
pub(super) const URI: &str = "http://tidelog/";
/// Unread bytes of one message, and of all on a connection, before the sender waits: a large entry is sent at once.
pub(super) const STREAM_WINDOW: u32 = 8 << 20;
pub(super) const CONNECTION_WINDOW: u32 = 32 << 20;
/// Large frames are received with fewer copies; a heartbeat waits behind one for 8 ms on a link of 1 Gbit/s.
pub(super) const FRAME: u32 = 1 << 20;
/// A peer that answers no ping for the second is gone.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(2);
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Calls that passed their deadline and whose late answers are still ignored one by one.
const CANCELLED: usize = 1_024;

/// A connection that calls may be sent on.
pub(super) type Sender = SendRequest<Parts>;

/// What a connection is made with.
#[derive(Debug)]
pub(super) struct Dialer {
    pub(super) timeout: Duration,
    pub(super) tls: Option<Arc<Tls>>,
}

/// A connection, and the certificates that it was made with.
pub(super) struct Dialed {
    pub(super) sender: Sender,
    pub(super) identity: Option<Arc<Loaded>>,
}

impl Dialer {
    /// A connection to `node` at `address`.
    ///
    /// # Errors
    /// `peer_unreachable`, or `node_identity_mismatch` if the certificate there names another node.
    pub(super) async fn dial(&self, node: NodeId, address: &str) -> Result<Dialed> {
        tokio::time::timeout(self.timeout, self.connect(node, address))
            .await
            .unwrap_or_else(|_| Err(unreachable(node, address, "it did not answer in time")))
    }

    async fn connect(&self, node: NodeId, address: &str) -> Result<Dialed> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| unreachable(node, address, error);
        let socket = TcpStream::connect(address).await.map_err(|error| failed(error.into()))?;
        let socket = Counted::new(socket, Direction::Out).map_err(|error| failed(error.into()))?;
        let Some(tls) = &self.tls else {
            let sender = greet(socket).await.map_err(failed)?;
            return Ok(Dialed { sender, identity: None });
        };
        let identity = tls.current().await;
        let name = ServerName::try_from(name_of(node)).map_err(|error| failed(error.into()))?;
        let connected = TlsConnector::from(Arc::clone(&identity.client)).connect(name, socket).await;
        let socket = connected.map_err(|error| match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => mismatch(node, address),
            _ => failed(error.into()),
        })?;
        let certificate = socket.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        // The verifier takes other spellings too.
        if !certificate.map(nodes_of).transpose()?.is_some_and(|nodes| nodes.contains(&node)) {
            return Err(mismatch(node, address));
        }
        let sender = greet(socket).await.map_err(failed)?;
        Ok(Dialed { sender, identity: Some(identity) })
    }
}

fn unreachable(node: NodeId, address: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let message = format!("node {node} cannot be reached at {address}");
    Error::new(ErrorKind::Unavailable, "peer_unreachable", message).with_source(source)
}

fn mismatch(node: NodeId, address: &str) -> Error {
    let message = format!("the certificate at {address} does not name {}", name_of(node));
    Error::new(ErrorKind::Conflict, "node_identity_mismatch", message)
}

/// HTTP/2 over `io`, up to the answer to a greeting. The connection ends with the last sender and its calls.
async fn greet<S>(io: S) -> Result<Sender, Box<dyn std::error::Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .max_concurrent_reset_streams(CANCELLED)
        .handshake(TokioIo::new(io))
        .await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to a peer ended");
        }
    });
    let mut request = Request::new(Parts::none());
    *request.uri_mut() = Uri::from_static(URI);
    let answer = sender.send_request(request).await?;
    let is_peer = answer.headers().get(header::SERVER) == Some(&GREETING);
    if answer.status() != StatusCode::NO_CONTENT || !is_peer {
        return Err("what listens there is no peer".into());
    }
    Ok(sender)
}
