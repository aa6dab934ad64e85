//! The life of a serving process: ports, engine, compactor, gateway; and the way down in the reverse order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use tidelog::config::{Config, Cost, Shutdown};
use tidelog::metrics;
use tidelog::queue::{Options, Queue};
use tidelog_gateway::{AdminHooks, Server};
use tokio::sync::Notify;

use super::compactor::Compactor;
use super::logging::LogFilter;
use super::signals::Signals;
use super::{injected, listen};
use crate::output::Out;

/// Of the time for the way down, the share in which the leadership is given away.
const HAND_OVER_SHARE: u32 = 4;
/// Of the time for the way down, the share that stays for closing the engine when requests do not finish.
const CLOSE_SHARE: u32 = 2;
/// The share that stays for ending what did not finish: the process is gone by the deadline.
const REST_SHARE: u32 = 10;

/// What the command line says about a start besides the settings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    /// Acknowledged records that the bucket does not have are given up.
    pub(super) restore: bool,
    /// The end of standard input ends the server.
    pub(super) until_stdin_closes: bool,
}

/// Serves until a signal, an operator's stop, or a fatal error of the engine.
pub(super) async fn serve(config: Config, start: Start, filter: LogFilter) -> Result<()> {
    let mut signals = Signals::new()?;
    if start.until_stdin_closes {
        signals = signals.with_stdin()?;
    }
    let clock = injected::start(&config)?;
    metrics::install(config.metrics.topics).map_err(|error| anyhow!("cannot start metrics: {error}"))?;
    metrics::cost::set_prices(prices(&config));
    tokio::spawn(async {
        let mut ticks = tokio::time::interval(metrics::UPKEEP_INTERVAL);
        loop {
            ticks.tick().await;
            metrics::upkeep();
        }
    });
    // The ports first: they tell a second server at once, and nothing was touched then.
    let bound = listen::bind(&config).await?;
    let options = Options { config: config.clone(), clock, restore: start.restore };
    let queue = tokio::select! {
        opened = Queue::open(options) => opened.context("cannot open the engine")?,
        name = signals.next() => {
            tracing::info!(signal = name, "ended before the engine was open");
            return Ok(());
        }
    };
    let (address, url, admin) = (bound.local_addr(), bound.url(), bound.admin_url());
    let listens = address.or(bound.admin_addr()).map_or_else(|| "no port".to_owned(), |address| address.to_string());
    queue.announce(&listens).context("cannot say who holds the data directory")?;
    let compactor = Compactor::start(&queue);
    let stop = Arc::new(Notify::new());
    let server = bound.start(queue.clone(), Arc::new(Hooks { filter, stop: Arc::clone(&stop) })).await;
    print_banner(&config, url.as_deref(), admin.as_deref());
    tracing::info!(url, admin, "serving");

    let reason = tokio::select! {
        name = signals.next() => name,
        () = stop.notified() => "an operator's stop",
        fatal = queue.fatal() => return Err(anyhow!("the engine cannot go on: {fatal}")),
    };
    tracing::info!(reason, "ending");
    signals.end_at_next();
    end(server, compactor, &queue, &config.shutdown).await;
    Ok(())
}

fn prices(config: &Config) -> metrics::cost::Prices {
    let Cost { put_per_1000, get_per_1000, read_per_gib, written_per_gib, peer_per_gib, .. } = config.cost;
    metrics::cost::Prices { put_per_1000, get_per_1000, read_per_gib, written_per_gib, peer_per_gib }
}

/// What the gateway asks of this process for an operator.
struct Hooks {
    filter: LogFilter,
    stop: Arc<Notify>,
}

impl AdminHooks for Hooks {
    fn set_log_filter(&self, filter: &str) -> Result<(), String> {
        self.filter.set(filter)
    }

    fn render_metrics(&self) -> String {
        metrics::render()
    }

    fn stop(&self) {
        self.stop.notify_one();
    }
}

/// Drains the gateway; a sole voter then closes and flushes, one of several gives its leadership away while requests finish. What
/// does not finish in time is left: the log has it.
async fn end(server: Server, compactor: Compactor, queue: &Queue, settings: &Shutdown) {
    let begun = Instant::now();
    let rest = settings.deadline / REST_SHARE;
    let within = settings.deadline - rest;
    let sole = queue.is_sole_voter();
    let hand_over = async {
        if !sole {
            hand_over(queue, within / HAND_OVER_SHARE).await;
        }
    };
    let drained = server.shutdown(within.saturating_sub(settings.drain_delay) / CLOSE_SHARE);
    let ((), drained) = tokio::join!(hand_over, drained);
    if !drained {
        tracing::warn!("requests were still under way when the gateway ended");
    }
    let closing = async {
        compactor.stop().await;
        if sole && let Err(error) = queue.close().await {
            tracing::warn!(?error, "not closed cleanly: what was not flushed is in the write-ahead log only");
        }
    };
    if tokio::time::timeout(within.saturating_sub(begun.elapsed()), closing).await.is_err() {
        tracing::warn!(
            deadline = ?settings.deadline,
            "not closed in time: what was not flushed is in the write-ahead log only"
        );
    }
    if tokio::time::timeout(rest / 2, queue.shutdown()).await.is_err() {
        tracing::warn!("the log was not closed in order");
    }
    tracing::info!(elapsed = ?begun.elapsed(), "ended");
}

/// Has another node lead, if this one does: requests that are under way are then answered by way of that one.
async fn hand_over(queue: &Queue, within: Duration) {
    match tokio::time::timeout(within, queue.leave()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(?error, "the leadership was not given away: the others elect a leader"),
        Err(_) => tracing::warn!(?within, "the leadership was not given away in time: the others elect a leader"),
    }
}

/// Where it listens, where the data is, one example each of produce and consume.
fn print_banner(config: &Config, url: Option<&str>, admin: Option<&str>) {
    let bucket = config.bucket_url().unwrap_or_default();
    let version = env!("CARGO_PKG_VERSION");
    let mut out = Out::new();
    let mut lines = vec![
        url.map_or_else(
            || format!("tidelog {version} serves no clients (cluster.roles)"),
            |url| format!("tidelog {version} listens on {url}"),
        ),
        format!("admin   {}", admin.unwrap_or("none")),
        format!("data    {} (bucket {bucket})", config.data_dir.display()),
    ];
    if let Some(url) = url {
        let server = if url == "http://127.0.0.1:7070" { String::new() } else { format!(" --server {url}") };
        lines.push(format!("produce echo hello | tidelog produce greetings --create{server}"));
        lines.push(format!("consume tidelog consume greetings{server}"));
    }
    // Whoever started us may not listen: a server serves all the same.
    for line in lines {
        let _ = out.line(&line);
    }
    let _ = out.finish();
}
