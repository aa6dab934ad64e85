//! One listening socket: connections are accepted while there are places, and served until they end or the server does.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tidelog::config::Http;
use tidelog::metrics as names;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::progress::{Limits, Progress};
use crate::front::Gateway;

/// The server's buffer for a request's head; larger than what requests may have, so that the refusal is ours.
const HEAD_BUFFER: usize = 128 << 10;
const MAX_HEAD_FIELDS: usize = 256;
/// Requests that one HTTP/2 connection may have open.
const MAX_STREAMS: u32 = 256;
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// The pause after the process ran out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A socket that is bound and not served yet.
#[derive(Debug)]
pub(super) struct Socket {
    listener: TcpListener,
    pub(super) address: SocketAddr,
}

impl Socket {
    pub(super) async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { address: listener.local_addr()?, listener })
    }
}

/// What accepts the connections of one socket.
pub(super) struct Acceptor {
    listener: TcpListener,
    places: Arc<Semaphore>,
    protocol: auto::Builder<TokioExecutor>,
    limits: Limits,
    gateway: Gateway,
    closing: CancellationToken,
}

impl Acceptor {
    /// Serves `gateway` to at most `places` connections of `socket`.
    pub(super) fn new(socket: Socket, places: u32, gateway: Gateway, closing: CancellationToken) -> Self {
        let http = &gateway.app().config().http;
        Self {
            listener: socket.listener,
            places: Arc::new(Semaphore::new(places as usize)),
            protocol: protocol(http),
            limits: Limits { opening: http.read_timeout, stalled: http.write_timeout },
            gateway,
            closing,
        }
    }

    /// Accepts until closing; then the listener is dropped and the connections are handed over to be drained.
    pub(super) async fn run(self) -> GracefulShutdown {
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

fn protocol(http: &Http) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(http.read_timeout)
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
