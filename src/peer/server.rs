//! The listener for peers: bounded in connections, in the time until the first request, and on the way down.
//!
//! A connection ends when its certificates or ours were replaced, so that one made with an authority that is believed no
//! more does not outlive it; its calls finish first, and the peer connects anew.

use std::any::Any;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::budget::Budget;
use super::counted::{Counted, Direction};
use super::dial::{CONNECTION_WINDOW, FRAME, PING_INTERVAL, PING_TIMEOUT, STREAM_WINDOW};
use super::serve::{Named, Service};
use super::tls::{Loaded, Tls, nodes_of};
use super::wire::{Receiver, Wire};
use super::{Local, PeerHandler};
use crate::config;

/// Connections at once, of nodes and of gateways; more wait in the listen queue.
const MAX_CONNECTIONS: usize = 512;
/// Requests that one connection may have open.
const MAX_STREAMS: u32 = 1_024;
/// Heads are in bodies: header fields are a handful.
const HEADER_BYTES: u32 = 4 << 10;
/// How long a connection may take until its first request, its TLS handshake too.
const OPENING: Duration = Duration::from_secs(5);
/// How long calls may take to finish on the way down.
const DRAIN: Duration = Duration::from_secs(2);
/// The pause after the process ran out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Callers give calls up at their deadline, all at once when a node hangs, which is no attack.
const RESETS: usize = 4 * MAX_STREAMS as usize;

/// A listener that does not serve yet; callers wait, and count as not reached.
pub struct Bound {
    listener: Listener,
    address: SocketAddr,
    settings: config::Peer,
    tls: Option<Arc<Tls>>,
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Where calls come from.
enum Listener {
    Tcp(TcpListener),
    Wire(Arc<dyn Wire>),
}

/// A running listener; dropped without [`PeerServer::shutdown`] it ends at once.
#[derive(Debug)]
pub struct PeerServer {
    address: SocketAddr,
    /// On a wire: calls arrive as long as it is there.
    on_wire: Option<Box<dyn Any + Send + Sync>>,
    closing: CancellationToken,
    _killing: DropGuard,
    tasks: TaskTracker,
}

impl PeerServer {
    /// Binds `peer.listen` and reads the files of `peer.tls`.
    ///
    /// # Errors
    /// The operating system's, such as `AddrInUse`; `InvalidInput` without an address or with files that cannot be used.
    pub async fn bind(settings: &config::Peer) -> io::Result<Bound> {
        let invalid = |message: String| io::Error::new(io::ErrorKind::InvalidInput, message);
        let listen = settings.listen.ok_or_else(|| invalid("peer.listen is not set".to_owned()))?;
        let tls = Tls::open(&settings.tls).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        Ok(Bound { listener: Listener::Tcp(listener), address, settings: settings.clone(), tls })
    }

    /// A listener at `peer.listen` for the calls that `wire` carries.
    ///
    /// # Errors
    /// `InvalidInput` without an address.
    pub fn on(wire: Arc<dyn Wire>, settings: &config::Peer) -> io::Result<Bound> {
        let address = settings.listen.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Bound { listener: Listener::Wire(wire), address, settings: settings.clone(), tls: None })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Closes the listener, lets the calls that it has finish within two seconds, and ends what is left.
    pub async fn shutdown(mut self) {
        self.on_wire = None;
        self.closing.cancel();
        self.tasks.close();
        // What is left ends with the guard.
        let _ = timeout(DRAIN, self.tasks.wait()).await;
    }
}

impl Bound {
    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The address under which peers reach this node: `peer.advertise`, else where it listens.
    #[must_use]
    pub fn advertised(&self) -> String {
        self.settings.advertise.clone().unwrap_or_else(|| self.address.to_string())
    }

    /// Serves the calls that are for `local` with `handler`.
    #[must_use]
    pub fn serve(self, local: Local, handler: Arc<dyn PeerHandler>) -> PeerServer {
        let Self { listener, address, settings, tls } = self;
        let killing = CancellationToken::new();
        let listener = match listener {
            Listener::Tcp(listener) => listener,
            Listener::Wire(wire) => {
                let at = settings.advertise.clone().unwrap_or_else(|| address.to_string());
                let on_wire = Some(wire.listen(&at, Receiver::new(local, handler, &settings)));
                let (closing, tasks) = (CancellationToken::new(), TaskTracker::new());
                return PeerServer { address, on_wire, closing, _killing: killing.drop_guard(), tasks };
            }
        };
        let acceptor = Acceptor {
            listener,
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            connections: Connections {
                service: Arc::new(Service {
                    local,
                    handler,
                    max_body: settings.max_body,
                    memory: Budget::new(settings.memory),
                }),
                tls,
                closing: CancellationToken::new(),
                killing: killing.clone(),
            },
            tasks: TaskTracker::new(),
        };
        let (closing, tasks) = (acceptor.connections.closing.clone(), acceptor.tasks.clone());
        tasks.spawn(acceptor.run());
        PeerServer { address, on_wire: None, closing, _killing: killing.drop_guard(), tasks }
    }
}

struct Acceptor {
    listener: TcpListener,
    places: Arc<Semaphore>,
    connections: Connections,
    tasks: TaskTracker,
}

/// What every connection is served with.
#[derive(Clone)]
struct Connections {
    service: Arc<Service>,
    tls: Option<Arc<Tls>>,
    closing: CancellationToken,
    killing: CancellationToken,
}

impl Acceptor {
    /// Accepts until closing; then the listener is dropped.
    async fn run(self) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.connections.closing.cancelled() => return,
                () = self.connections.killing.cancelled() => return,
                accepted = self.accept() => accepted,
            };
            match accepted {
                Ok((stream, place)) => {
                    let connections = self.connections.clone();
                    self.tasks.spawn(async move {
                        connections.serve(stream).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a peer's connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// A place first: who gets none waits in the kernel's queue.
    async fn accept(&self) -> io::Result<(Counted, OwnedSemaphorePermit)> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, _) = self.listener.accept().await?;
        Ok((Counted::new(stream, Direction::In)?, place))
    }
}

impl Connections {
    async fn serve(&self, stream: Counted) {
        let Some(tls) = &self.tls else { return self.run(stream, None, None).await };
        let identity = tls.current().await;
        let accepting = TlsAcceptor::from(Arc::clone(&identity.server)).accept(stream);
        let accepted = tokio::select! {
            biased;
            accepted = timeout(OPENING, accepting) => accepted,
            () = self.closing.cancelled() => return,
            () = self.killing.cancelled() => return,
        };
        let stream = match accepted {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::warn!(%error, "a peer's certificate was refused, or it has none"),
            Err(_) => return tracing::debug!("a connection did not finish its TLS handshake"),
        };
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        match certificate.map(nodes_of) {
            Some(Ok(named)) => self.run(stream, Some(Arc::new(named)), Some(&identity)).await,
            // The verifier has read it, and it requires one.
            Some(Err(error)) => tracing::warn!(?error, "a peer's certificate cannot be read"),
            None => tracing::warn!("a peer has no certificate"),
        }
    }

    /// Serves HTTP/2 over `io` until it ends, or this side wants it to.
    async fn run<S>(&self, io: S, named: Named, identity: Option<&Arc<Loaded>>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let opened = Arc::new(AtomicBool::new(false));
        let service = service_fn({
            let (service, opened) = (Arc::clone(&self.service), Arc::clone(&opened));
            move |request: Request<Incoming>| {
                opened.store(true, Ordering::Relaxed);
                let (service, named) = (Arc::clone(&service), named.clone());
                async move { Ok::<_, Infallible>(service.answer(request, named).await) }
            }
        });
        let mut connection = pin!(protocol().serve_connection(TokioIo::new(io), service));
        let mut opening = pin!(tokio::time::sleep(OPENING));
        let mut outdated = pin!(self.outdated(identity));
        let (mut waits, mut drains) = (true, false);
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a peer's connection ended");
                    }
                    return;
                }
                () = self.killing.cancelled() => return,
                () = self.closing.cancelled(), if !drains => {
                    drains = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = &mut outdated, if !drains => {
                    drains = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = &mut opening, if waits => {
                    waits = false;
                    if !opened.load(Ordering::Relaxed) {
                        return;
                    }
                }
            }
        }
    }

    /// Resolves when the certificates of a connection were replaced.
    async fn outdated(&self, identity: Option<&Arc<Loaded>>) {
        match (&self.tls, identity) {
            (Some(tls), Some(identity)) => tls.changed(identity).await,
            _ => std::future::pending().await,
        }
    }
}

fn protocol() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(HEADER_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_pending_accept_reset_streams(RESETS);
    builder
}
