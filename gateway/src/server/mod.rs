//! The listeners: HTTP/1.1 and HTTP/2 on one port for clients and on another for operators, bounded in connections, in the time
//! a head may take and in the time a client may leave an answer unread; and the way down.
//!
//! [`Bound::start`] serves, [`Server::shutdown`] drains: not ready, a pause for load balancers, followers and long polls end,
//! the listeners close, requests finish. Stopping the engine is the caller's.

mod accept;
mod age;
mod progress;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use tidelog::config::Config;
use tidelog::error::Error;
use tidelog::queue::Queue;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::accept::{Acceptor, Connections, Socket};
pub(crate) use self::age::ConnectionEnd;
use crate::app::{AdminHooks, App, Lifecycle, Listener};
use crate::auth::Auth;
use crate::front::gateway;

/// Connections of operators and of what reads the metrics; their own, so that clients cannot take them.
const MAX_ADMIN_CONNECTIONS: u32 = 256;

/// Listeners that do not serve yet: whoever binds first learns of a busy port before it starts an engine.
pub struct Bound {
    /// None where no client is to be served.
    clients: Option<Socket>,
    admin: Option<Socket>,
    auth: Auth,
    config: Config,
}

/// The server cannot be had as the settings say.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// An address could not be bound.
    #[error("cannot listen on {address}")]
    Address {
        /// Which listener's.
        listener: Listener,
        /// Where it was to be.
        address: SocketAddr,
        /// The operating system's, such as `AddrInUse`.
        source: io::Error,
    },
    /// A file of certificates, keys or tokens cannot be used.
    #[error(transparent)]
    File(#[from] Error),
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    address: Option<SocketAddr>,
    admin_address: Option<SocketAddr>,
    drain_delay: Duration,
    lifecycle: Lifecycle,
    closing: CancellationToken,
    acceptors: Vec<JoinHandle<Connections>>,
}

impl Server {
    /// Binds `http.listen`, if clients are served, and `admin.listen`, and reads the files of certificates and tokens.
    ///
    /// # Errors
    /// Which address could not be bound, or which file cannot be used.
    pub async fn bind(config: &Config) -> Result<Bound, BindError> {
        let bind = async |listener, address| {
            Socket::bind(address).await.map_err(|source| BindError::Address { listener, address, source })
        };
        let clients = match config.cluster.serves_clients() {
            true => Some(bind(Listener::Client, config.http.listen).await?.with_tls(&config.http.tls, "clients")?),
            false => None,
        };
        let admin = match config.admin.listen {
            Some(address) => Some(bind(Listener::Admin, address).await?.with_tls(&config.admin.tls, "operators")?),
            None => None,
        };
        Ok(Bound { clients, admin, auth: Auth::open(&config.auth)?, config: config.clone() })
    }

    /// Binds and serves.
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub async fn start(config: &Config, queue: Queue, hooks: Arc<dyn AdminHooks>) -> Result<Self, BindError> {
        Ok(Self::bind(config).await?.start(queue, hooks).await)
    }

    /// Where it listens for clients, if it does.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Where it listens for operators, if it does.
    #[must_use]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Turns not ready, waits `shutdown.drain_delay`, ends followers and long polls, closes the listeners and lets requests
    /// finish within `deadline`, counted from the end of the pause. Says whether all did.
    pub async fn shutdown(self, deadline: Duration) -> bool {
        self.lifecycle.begin_drain();
        tokio::time::sleep(self.drain_delay).await;
        self.lifecycle.end_waits();
        self.closing.cancel();
        let Ok(connections) = try_join_all(self.acceptors).await else { return false };
        let finished = join_all(connections.into_iter().map(Connections::shutdown));
        timeout(deadline, finished).await.is_ok()
    }
}

impl Bound {
    /// Where it listens for clients, if it does.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.clients.as_ref().map(|socket| socket.address)
    }

    /// Where it listens for operators, if it does.
    #[must_use]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|socket| socket.address)
    }

    /// The URL for clients, if there is one.
    #[must_use]
    pub fn url(&self) -> Option<String> {
        self.clients.as_ref().map(url)
    }

    /// The URL for operators, if there is one.
    #[must_use]
    pub fn admin_url(&self) -> Option<String> {
        self.admin.as_ref().map(url)
    }

    /// Serves `queue`.
    pub async fn start(self, queue: Queue, hooks: Arc<dyn AdminHooks>) -> Server {
        let (address, admin_address) = (self.local_addr(), self.admin_addr());
        let Self { clients, admin, auth, config } = self;
        let lifecycle = Lifecycle::default();
        let incarnation = queue.status().incarnation;
        let (drain_delay, places) = (config.shutdown.drain_delay, config.http.max_connections);
        let app = App::new(queue, config, hooks, incarnation, lifecycle.clone()).with_auth(auth);
        let closing = CancellationToken::new();
        let accept = |socket, places, listener| {
            let acceptor = Acceptor::new(socket, places, gateway(app.on(listener)), closing.clone());
            tokio::spawn(acceptor.run())
        };
        let clients = clients.map(|socket| accept(socket, places, Listener::Client));
        let admin = admin.map(|socket| accept(socket, MAX_ADMIN_CONNECTIONS, Listener::Admin));
        let acceptors = clients.into_iter().chain(admin).collect();
        Server { address, admin_address, drain_delay, lifecycle, closing, acceptors }
    }
}

fn url(socket: &Socket) -> String {
    format!("{}://{}", socket.scheme(), socket.address)
}
