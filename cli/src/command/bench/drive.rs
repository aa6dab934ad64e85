//! Sends requests over some connections at a pace, and measures them.
//!
//! Every thread has a runtime of its own and serves its share of the connections, without anything shared in the path of a
//! request but two counters. All connections are made before the clock starts.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt as _};
use http_body_util::Full;
use hyper::Request;
use tokio::sync::Semaphore;

use super::OBSERVE_EVERY;
use super::pace::{Extent, Schedule};
use super::tally::Tally;
use super::wire::{Outcome, Target, Wire};

/// The pause of a connection whose request was refused, so that a server that is overloaded is not hammered.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_millis(10);
/// The pause before a lost connection is made again.
const PAUSE_BEFORE_RECONNECT: Duration = Duration::from_millis(50);
/// What is to be sent.
pub(super) struct Job<'a> {
    pub target: &'a Target,
    /// Makes request `n`.
    pub request: &'a (dyn Fn(u64) -> Request<Full<Bytes>> + Sync),
    pub connections: u32,
    pub threads: u32,
    /// Of an open loop.
    pub schedule: Option<Schedule>,
    pub extent: Extent,
    /// Set when the clock starts.
    pub start: &'a OnceLock<Instant>,
}

/// Looks at the server while it is measured.
pub(super) trait Observe {
    /// The warm-up is over.
    fn begin(&mut self) -> Result<()>;
    /// Some time has passed.
    fn look(&mut self) -> Result<()>;
    /// The last answer is there.
    fn end(&mut self) -> Result<()>;
}

/// What the threads share.
struct Shared<'a> {
    job: &'a Job<'a>,
    ready: Barrier,
    /// Requests begun, warm-up included.
    numbers: AtomicU64,
    /// Requests begun that are measured.
    measured: AtomicU64,
    /// Requests of an open loop that are due.
    due: Semaphore,
    /// Requests of an open loop.
    total: u64,
}

/// A request to be sent now.
struct Ticket {
    number: u64,
    /// From when its latency counts.
    begin: Duration,
    measured: bool,
}

/// Runs the job to its end.
pub(super) fn run(job: &Job<'_>, observer: &mut impl Observe) -> Result<Tally> {
    let threads = job.threads.min(job.connections);
    let parties = threads as usize + 1 + usize::from(job.schedule.is_some());
    let shared = Shared {
        job,
        ready: Barrier::new(parties),
        numbers: AtomicU64::new(0),
        measured: AtomicU64::new(0),
        due: Semaphore::new(0),
        total: job.schedule.as_ref().map_or(u64::MAX, |schedule| job.extent.total(schedule)),
    };
    let (alive, ended) = channel();
    thread::scope(|scope| {
        let spawn = |thread: u32| {
            // The first threads take one connection more where they cannot be shared out evenly.
            let count = job.connections / threads + u32::from(thread < job.connections % threads);
            let (shared, alive) = (&shared, alive.clone());
            scope.spawn(move || serve(shared, count, alive))
        };
        let handles: Vec<_> = (0..threads).map(spawn).collect();
        drop(alive);
        if let Some(schedule) = job.schedule {
            let shared = &shared;
            scope.spawn(move || shared.release(schedule));
        }
        shared.ready.wait();
        let observed = shared.observe(observer, &ended);
        let mut tally = Tally::new()?;
        for handle in handles {
            tally.add(&handle.join().map_err(|_| anyhow!("a thread of the generator panicked"))??)?;
        }
        observed.map(|()| tally)
    })
}

/// One thread: connects, waits for the others, sends.
fn serve(shared: &Shared<'_>, connections: u32, _alive: Sender<()>) -> Result<Tally> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let wires = runtime.as_ref().map_err(|error| anyhow!("cannot start a runtime: {error}")).and_then(|runtime| {
        runtime.block_on(async {
            let mut wires = Vec::new();
            for _ in 0..connections {
                wires.push(Wire::connect(shared.job.target).await?);
            }
            Ok(wires)
        })
    });
    if wires.is_err() {
        // Nobody measures anything then.
        shared.due.close();
    }
    shared.ready.wait();
    let (wires, tally) = (wires?, RefCell::new(Tally::new()?));
    runtime?.block_on(async {
        let mut workers: FuturesUnordered<_> = wires.into_iter().map(|wire| shared.work(wire, &tally)).collect();
        while workers.next().await.is_some() {}
    });
    Ok(tally.into_inner())
}

impl Shared<'_> {
    fn start(&self) -> Instant {
        *self.job.start.get_or_init(Instant::now)
    }

    fn elapsed(&self) -> Duration {
        self.start().elapsed()
    }

    /// One connection: a request after the other until the end.
    async fn work(&self, wire: Wire, tally: &RefCell<Tally>) {
        let mut wire = Some(wire);
        while let Some(ticket) = self.next().await {
            let request = (self.job.request)(ticket.number);
            let lag = self.elapsed().saturating_sub(ticket.begin);
            let result = match &mut wire {
                Some(wire) => wire.send(request).await,
                None => match Wire::connect(self.job.target).await {
                    Ok(connected) => wire.insert(connected).send(request).await,
                    Err(error) => Err(error),
                },
            };
            let end = self.elapsed();
            let pause = {
                let mut tally = tally.borrow_mut();
                match result {
                    Ok(Outcome::Done(bytes)) => {
                        self.count(&mut tally, &ticket, lag, end, bytes);
                        continue;
                    }
                    Ok(Outcome::Refused(code)) => {
                        tally.fail(&code);
                        PAUSE_AFTER_REFUSAL
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a connection was lost");
                        tally.fail("connection");
                        wire = None;
                        PAUSE_BEFORE_RECONNECT
                    }
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn count(&self, tally: &mut Tally, ticket: &Ticket, lag: Duration, end: Duration, bytes: u64) {
        if !ticket.measured {
            tally.warm_up += 1;
            return;
        }
        tally.requests += 1;
        tally.answer_bytes += bytes;
        tally.latencies.record(end.saturating_sub(ticket.begin));
        if self.job.schedule.is_some() {
            tally.lags.record(lag);
        }
        tally.last = tally.last.max(end);
    }

    /// Waits until a request may be sent; `None` at the end.
    async fn next(&self) -> Option<Ticket> {
        let extent = &self.job.extent;
        if let Some(schedule) = &self.job.schedule {
            self.due.acquire().await.ok()?.forget();
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            let begin = schedule.due(number);
            return (number < self.total).then(|| Ticket { number, begin, measured: extent.measures(begin) });
        }
        let begin = self.elapsed();
        let measured = extent.measures(begin);
        if extent.is_over(begin) || self.due.is_closed() {
            return None;
        }
        if measured && self.measured.fetch_add(1, Ordering::Relaxed) >= extent.requests.unwrap_or(u64::MAX) {
            return None;
        }
        Some(Ticket { number: self.numbers.fetch_add(1, Ordering::Relaxed), begin, measured })
    }

    /// Lets requests of an open loop go when they are due. A thread of its own: timers of the runtime are exact to a
    /// millisecond only.
    fn release(&self, schedule: Schedule) {
        self.ready.wait();
        let mut released = 0;
        while released < self.total && !self.due.is_closed() {
            let elapsed = self.elapsed();
            let due = schedule.due_by(elapsed).min(self.total);
            self.due.add_permits(usize::try_from(due - released).unwrap_or(usize::MAX >> 4));
            released = due;
            if released == self.total {
                break;
            }
            thread::sleep(schedule.due(released).saturating_sub(elapsed));
        }
        // Whoever comes now learns that there is nothing left.
        self.due.add_permits(self.job.connections as usize);
    }

    /// Has the server looked at until all threads have ended.
    fn observe(&self, observer: &mut impl Observe, ended: &Receiver<()>) -> Result<()> {
        let warm_up = self.job.extent.warm_up.saturating_sub(self.elapsed());
        if !warm_up.is_zero() && is_over(ended, warm_up) {
            return Ok(());
        }
        observer.begin().context("cannot look at the server")?;
        while !is_over(ended, OBSERVE_EVERY) {
            observer.look()?;
        }
        observer.end().context("cannot look at the server")
    }
}

/// Waits; whether all threads have ended meanwhile.
fn is_over(ended: &Receiver<()>, time: Duration) -> bool {
    matches!(ended.recv_timeout(time), Err(RecvTimeoutError::Disconnected))
}
