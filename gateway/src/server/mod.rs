//! The listener: HTTP/1.1 and HTTP/2 on one port, bounded in connections, in the time a head may take and in the time a
//! client may leave an answer unread; and the way down.
//!
//! [`Bound::start`] serves, [`Server::shutdown`] drains: not ready, a pause for load balancers, followers and long polls end,
//! the listener closes, requests finish. Stopping the engine is the caller's.

mod progress;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tidelog::config::Config;
use tidelog::metrics as names;
use tidelog::queue::Queue;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::progress::{Limits, Progress};
use crate::app::{AdminHooks, App, Lifecycle};
use crate::front::{Gateway, gateway};

/// The server's buffer for a request's head; larger than what requests may have, so that the refusal is ours.
const HEAD_BUFFER: usize = 128 << 10;
const MAX_HEAD_FIELDS: usize = 256;
/// Requests that one HTTP/2 connection may have open.
const MAX_STREAMS: u32 = 256;
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// The pause after the process ran out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listener that does not serve yet: whoever binds first learns of a busy port before it starts an engine.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    config: Config,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    drain_delay: Duration,
    lifecycle: Lifecycle,
    closing: CancellationToken,
    acceptor: JoinHandle<GracefulShutdown>,
}

impl Server {
    /// Binds `http.listen`.
    ///
    /// # Errors
    /// The operating system's, such as `AddrInUse`.
    pub async fn bind(config: &Config) -> io::Result<Bound> {
        let listener = TcpListener::bind(config.http.listen).await?;
        let address = listener.local_addr()?;
        Ok(Bound { listener, address, config: config.clone() })
    }

    /// Binds and serves.
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub async fn start(config: &Config, queue: Queue, hooks: Arc<dyn AdminHooks>) -> io::Result<Self> {
        Ok(Self::bind(config).await?.start(queue, hooks).await)
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Turns not ready, waits `shutdown.drain_delay`, ends followers and long polls, closes the listener and lets requests
    /// finish within `deadline`, counted from the end of the pause. Says whether all did.
    pub async fn shutdown(self, deadline: Duration) -> bool {
        self.lifecycle.begin_drain();
        tokio::time::sleep(self.drain_delay).await;
        self.lifecycle.end_waits();
        self.closing.cancel();
        let Ok(connections) = self.acceptor.await else { return false };
        timeout(deadline, connections.shutdown()).await.is_ok()
    }
}

impl Bound {
    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves `queue`.
    pub async fn start(self, queue: Queue, hooks: Arc<dyn AdminHooks>) -> Server {
        let Self { listener, address, config } = self;
        let lifecycle = Lifecycle::default();
        let incarnation = queue.status().incarnation;
        let drain_delay = config.shutdown.drain_delay;
        let acceptor = Acceptor {
            listener,
            places: Arc::new(Semaphore::new(config.http.max_connections as usize)),
            protocol: protocol(&config),
            limits: Limits { opening: config.http.read_timeout, stalled: config.http.write_timeout },
            gateway: gateway(App::new(queue, config, hooks, incarnation, lifecycle.clone())),
            closing: CancellationToken::new(),
        };
        let closing = acceptor.closing.clone();
        Server { address, drain_delay, lifecycle, closing, acceptor: tokio::spawn(acceptor.run()) }
    }
}

fn protocol(config: &Config) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.http.read_timeout)
        .max_buf_size(HEAD_BUFFER)
        .max_headers(MAX_HEAD_FIELDS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_BUFFER as u32)
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(KEEP_ALIVE)
        .adaptive_window(true);
    builder
}

struct Acceptor {
    listener: TcpListener,
    places: Arc<Semaphore>,
    protocol: auto::Builder<TokioExecutor>,
    limits: Limits,
    gateway: Gateway,
    closing: CancellationToken,
}

impl Acceptor {
    /// Accepts until closing; then the listener is dropped and the connections are handed over to be drained.
    async fn run(self) -> GracefulShutdown {
        let connections = GracefulShutdown::new();
        loop {
            // A place first: who gets none waits in the kernel's queue.
            let accepted = tokio::select! {
                accepted = self.accept() => accepted,
                () = self.closing.cancelled() => return connections,
            };
            match accepted {
                Ok((stream, place)) => self.serve(stream, place, &connections),
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, _) = self.listener.accept().await?;
        // Answers are written whole: waiting for more would only delay them.
        stream.set_nodelay(true)?;
        Ok((stream, place))
    }

    fn serve(&self, stream: TcpStream, place: OwnedSemaphorePermit, connections: &GracefulShutdown) {
        let io = TokioIo::new(Progress::new(stream, self.limits));
        let connection = self.protocol.serve_connection(io, self.gateway.clone()).into_owned();
        let connection = connections.watch(connection);
        metrics::gauge!(names::HTTP_CONNECTIONS).increment(1);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                // Clients go away at any time; this is for whoever looks for them.
                tracing::debug!(error, "a connection ended");
            }
            metrics::gauge!(names::HTTP_CONNECTIONS).decrement(1);
            drop(place);
        });
    }
}
