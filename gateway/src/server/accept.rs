//! One listening socket: connections are accepted while there are places, and served until they end, are old, or the server
//! ends.
//!
//! What a connection costs beyond its requests is paid when it is made: a handshake of TLS is the connection's own task's, and a
//! request finds its connection's age without an allocation.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tidelog::config::{Http, ListenerTls};
use tidelog::error::Result;
use tidelog::metrics as names;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::age::{Age, ConnectionEnd};
use super::progress::{Limits, Progress};
use super::tls::Tls;
use crate::front::{AnswerBody, Gateway};

/// The server's buffer for a request's head; larger than what requests may have, so that the refusal is ours.
const HEAD_BUFFER: usize = 128 << 10;
const MAX_HEAD_FIELDS: usize = 256;
/// Requests that one HTTP/2 connection may have open.
const MAX_STREAMS: u32 = 256;
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// The pause after the process ran out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A socket that is bound and not served yet.
pub(super) struct Socket {
    listener: TcpListener,
    pub(super) address: SocketAddr,
    tls: Option<Tls>,
}

impl Socket {
    pub(super) async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { address: listener.local_addr()?, listener, tls: None })
    }

    /// The same with the TLS of the settings, if there is any; `listener` is its name in the metrics.
    pub(super) fn with_tls(self, settings: &ListenerTls, listener: &'static str) -> Result<Self> {
        Ok(Self { tls: Tls::open(settings, listener)?, ..self })
    }

    /// What its URLs begin with.
    pub(super) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

/// What accepts the connections of one socket.
pub(super) struct Acceptor {
    socket: Socket,
    places: Arc<Semaphore>,
    protocol: auto::Builder<TokioExecutor>,
    limits: Limits,
    max_age: Duration,
    gateway: Gateway,
    closing: CancellationToken,
}

/// Connections that are left when a socket is closed.
#[derive(Debug)]
pub(super) struct Connections(watch::Sender<()>);

impl Connections {
    /// Lets each end with what it is at; returns when all have ended.
    pub(super) async fn shutdown(self) {
        self.0.send_replace(());
        self.0.closed().await;
    }
}

impl Acceptor {
    /// Serves `gateway` to at most `places` connections of `socket`.
    pub(super) fn new(socket: Socket, places: u32, gateway: Gateway, closing: CancellationToken) -> Self {
        let http = &gateway.app().config().http;
        Self {
            socket,
            places: Arc::new(Semaphore::new(places as usize)),
            protocol: protocol(http),
            limits: Limits { opening: http.read_timeout, stalled: http.write_timeout },
            max_age: http.max_connection_age,
            gateway,
            closing,
        }
    }

    /// Accepts until closing; then the listener is dropped and the connections are handed over to be drained.
    pub(super) async fn run(self) -> Connections {
        let (connections, ending) = watch::channel(());
        loop {
            // A place first: who gets none waits in the kernel's queue.
            let accepted = tokio::select! {
                accepted = self.accept() => accepted,
                () = self.closing.cancelled() => return Connections(connections),
            };
            match accepted {
                Ok((stream, place)) => self.serve(stream, place, ending.clone()),
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, _) = self.socket.listener.accept().await?;
        // Answers are written whole: waiting for more would only delay them.
        stream.set_nodelay(true)?;
        Ok((stream, place))
    }

    fn serve(&self, stream: TcpStream, place: OwnedSemaphorePermit, ending: watch::Receiver<()>) {
        let (limits, protocol) = (self.limits, self.protocol.clone());
        let service = Requests { gateway: self.gateway.clone(), age: Age::of_new(self.max_age) };
        let acceptor = self.socket.tls.as_ref().map(Tls::acceptor);
        metrics::gauge!(names::HTTP_CONNECTIONS).increment(1);
        tokio::spawn(async move {
            match acceptor {
                None => until_the_end(&protocol, Progress::new(stream, limits), service, ending).await,
                Some(acceptor) => match timeout(limits.opening, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => until_the_end(&protocol, Progress::new(stream, limits), service, ending).await,
                    Ok(Err(error)) => tracing::debug!(%error, "a connection failed to begin TLS"),
                    Err(_) => tracing::debug!("a connection did not begin TLS in time"),
                },
            }
            metrics::gauge!(names::HTTP_CONNECTIONS).decrement(1);
            drop(place);
        });
    }
}

/// Serves one connection. When the server ends, or the connection is an old one of HTTP/2, it ends with the requests that it has.
async fn until_the_end<S>(
    protocol: &auto::Builder<TokioExecutor>,
    stream: S,
    service: Requests,
    mut ending: watch::Receiver<()>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let age = service.age.clone();
    let mut connection = pin!(protocol.serve_connection(TokioIo::new(stream), service));
    let mut old = pin!(age.as_ref().map(|age| sleep_until(age.end)));
    // The receiver is kept until the end, which is what the server waits for.
    let mut ended = pin!(async {
        // Without a sender there is no server left.
        let _ = ending.changed().await;
    });
    let (mut is_old, mut has_ended) = (false, false);
    let result = std::future::poll_fn(|cx| {
        loop {
            if let Poll::Ready(result) = connection.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            let mut ends = false;
            if !has_ended && ended.as_mut().poll(cx).is_ready() {
                (has_ended, ends) = (true, true);
            }
            if !is_old && age.as_ref().is_some_and(Age::is_http2) {
                is_old = old.as_mut().as_pin_mut().is_some_and(|old| old.poll(cx).is_ready());
                ends |= is_old;
            }
            if !ends {
                return Poll::Pending;
            }
            connection.as_mut().graceful_shutdown();
        }
    });
    if let Err(error) = result.await {
        // Clients go away at any time; this is for whoever looks for them.
        tracing::debug!(error, "a connection ended");
    }
}

/// The requests of one connection.
struct Requests {
    gateway: Gateway,
    age: Option<Age>,
}

impl hyper::service::Service<http::Request<Incoming>> for Requests {
    type Response = http::Response<AnswerBody>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = std::result::Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, mut request: http::Request<Incoming>) -> Self::Future {
        let (gateway, age) = (self.gateway.clone(), self.age.clone());
        Box::pin(async move {
            let Some(age) = age else { return Ok(gateway.answer(request).await) };
            age.begin(request.version());
            // Only what follows may go on for longer than its connection.
            if http::Method::GET == request.method() {
                request.extensions_mut().insert(ConnectionEnd(age.end));
            }
            let mut response = gateway.answer(request).await;
            age.finish(&mut response);
            Ok(response)
        })
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
