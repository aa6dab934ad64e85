//! What every handler has at hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tidelog::clock::Clock;
use tidelog::config::Config;
use tidelog::queue::Queue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::access::RouteSeries;
use crate::auth::Auth;
use crate::body::BodyLimits;
use crate::held::Patience;

/// How long an answer may be left unread while others wait for the memory that it holds.
const SCARCE_PATIENCE: Duration = Duration::from_secs(2);

/// What the process around the gateway does on request of an operator.
pub trait AdminHooks: Send + Sync {
    /// Replaces the filter of the log, in the syntax of `RUST_LOG`.
    ///
    /// # Errors
    /// What is wrong with the filter, for people.
    fn set_log_filter(&self, filter: &str) -> Result<(), String>;

    /// The metrics in Prometheus' text format.
    fn render_metrics(&self) -> String;

    /// Ends the process in order; called once the queue is closed.
    fn stop(&self);
}

/// By which of the two listeners a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// `http.listen`
    Client,
    /// `admin.listen`
    Admin,
}

/// The state of all handlers, as those of one listener see it; cheap to clone.
#[derive(Clone)]
pub(crate) struct App {
    inner: Arc<Inner>,
    listener: Listener,
}

struct Inner {
    queue: Queue,
    config: Config,
    clock: Clock,
    hooks: Arc<dyn AdminHooks>,
    auth: Auth,
    bodies: BodyLimits,
    patience: Patience,
    followers: Arc<Semaphore>,
    lifecycle: Lifecycle,
    incarnation: u64,
    rotation: AtomicUsize,
    series: RouteSeries,
}

impl App {
    /// For the clients' listener; see [`App::on`].
    pub(crate) fn new(
        queue: Queue,
        config: Config,
        hooks: Arc<dyn AdminHooks>,
        incarnation: u64,
        lifecycle: Lifecycle,
    ) -> Self {
        let http = &config.http;
        let bodies = BodyLimits::new(http.max_body, http.body_memory, http.read_timeout);
        let followers = Arc::new(Semaphore::new(http.max_followers as usize));
        let patience = patience(queue.clone(), http.write_timeout);
        let rotation = AtomicUsize::new(0);
        let clock = queue.clock().clone();
        let series = RouteSeries::default();
        let inner = Arc::new(Inner {
            queue,
            config,
            clock,
            hooks,
            auth: Auth::default(),
            bodies,
            patience,
            followers,
            lifecycle,
            incarnation,
            rotation,
            series,
        });
        Self { inner, listener: Listener::Client }
    }

    /// The same for another listener.
    pub(crate) fn on(&self, listener: Listener) -> Self {
        Self { inner: Arc::clone(&self.inner), listener }
    }

    /// The same for those who have a token.
    ///
    /// # Panics
    /// Once it is cloned.
    pub(crate) fn with_auth(mut self, auth: Auth) -> Self {
        let Some(inner) = Arc::get_mut(&mut self.inner) else { unreachable!("it is set before anything is served") };
        inner.auth = auth;
        self
    }

    /// Who may call.
    pub(crate) fn auth(&self) -> &Auth {
        &self.inner.auth
    }

    /// By which listener this request came.
    pub(crate) fn listener(&self) -> Listener {
        self.listener
    }

    /// Whether only this machine reaches the listener.
    pub(crate) fn is_local(&self) -> bool {
        let listen = match self.listener {
            Listener::Client => Some(self.config().http.listen),
            Listener::Admin => self.config().admin.listen,
        };
        listen.is_some_and(|address| address.ip().is_loopback())
    }

    /// Origins of pages that may call.
    pub(crate) fn cors_origins(&self) -> &[String] {
        match self.listener {
            Listener::Client => &self.config().http.cors_origins,
            Listener::Admin => &[],
        }
    }

    pub(crate) fn queue(&self) -> &Queue {
        &self.inner.queue
    }

    pub(crate) fn config(&self) -> &Config {
        &self.inner.config
    }

    pub(crate) fn hooks(&self) -> &dyn AdminHooks {
        &*self.inner.hooks
    }

    pub(crate) fn bodies(&self) -> &BodyLimits {
        &self.inner.bodies
    }

    /// How long a client may leave an answer unread.
    pub(crate) fn patience(&self) -> &Patience {
        &self.inner.patience
    }

    pub(crate) fn lifecycle(&self) -> &Lifecycle {
        &self.inner.lifecycle
    }

    /// Life of the cluster on its bucket; fixed as long as the process runs.
    pub(crate) fn incarnation(&self) -> u64 {
        self.inner.incarnation
    }

    /// The timestamp of records that have none.
    pub(crate) fn now(&self) -> i64 {
        self.inner.clock.wall().cast_signed()
    }

    /// A place for one more follower, if there is one.
    pub(crate) fn follow(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.inner.followers).try_acquire_owned().ok()
    }

    /// The series of every route.
    pub(crate) fn series(&self) -> &RouteSeries {
        &self.inner.series
    }

    /// A number that differs from request to request, so that no partition is always the first.
    pub(crate) fn rotate(&self) -> usize {
        self.inner.rotation.fetch_add(1, Ordering::Relaxed)
    }
}

fn patience(queue: Queue, limit: Duration) -> Patience {
    Patience::new(move || if queue.is_page_memory_scarce() { limit.min(SCARCE_PATIENCE) } else { limit })
}

/// How far the server is on its way down. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lifecycle {
    draining: Arc<AtomicBool>,
    waits: CancellationToken,
}

impl Lifecycle {
    /// From now on the server is not ready.
    pub(crate) fn begin_drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Ends followers and long polls.
    pub(crate) fn end_waits(&self) {
        self.waits.cancel();
    }

    /// Returns once followers and long polls have to end.
    pub(crate) async fn waits_ended(&self) {
        self.waits.cancelled().await;
    }
}
