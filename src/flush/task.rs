//! Decides when a shard is flushed, and does it, one flush at a time.
//!
//! A flush is due when the tail has `flush.bytes`, when its oldest record is `flush.interval` old, when somebody waits
//! for one, or when metadata alone changed `metadata_interval` ago; never sooner than `checkpoint_gap` after the last began. A
//! flush that fails is made anew with a pause that grows; nothing is lost meanwhile, the log keeps it all. Only the leader
//! flushes: the task is dropped when the leadership ends, and [`super::follow`] takes its place.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use super::execute::{Flusher, Replaced};
use crate::error::{Error, Result};
use crate::metrics;
use crate::model::{LogIndex, ShardId};

/// How often sizes and ages are looked at.
const TICK: Duration = Duration::from_millis(50);
/// The pause after the first failed flush; doubled up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Short enough that a bucket that came back is used soon.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// When a flush is due.
#[derive(Debug, Clone)]
pub struct Triggers {
    /// Bytes of tail.
    pub bytes: u64,
    /// Age of the oldest record of the tail.
    pub interval: Duration,
    /// Age of a change of metadata alone.
    pub metadata_interval: Duration,
    /// The least time between two checkpoints, from begin to begin: who waits for one waits for no more than this and its own.
    pub checkpoint_gap: Duration,
}

/// Asks for flushes and sees how far they are; clones share the task.
#[derive(Debug, Clone)]
pub struct FlushHandle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    shard: ShardId,
    wanted: AtomicU64,
    wake: Notify,
    paused: AtomicBool,
    progress: watch::Sender<Progress>,
}

/// How far flushing is.
#[derive(Debug, Clone, Default)]
struct Progress {
    flushed: LogIndex,
    last_success_ms: Option<u64>,
    last_error: Option<String>,
    ended: Option<String>,
}

impl FlushHandle {
    /// A handle of `shard` whose task is yet to run; `flushed` is the state's flushed index.
    #[must_use]
    pub fn new(shard: ShardId, flushed: LogIndex) -> Self {
        let progress = watch::Sender::new(Progress { flushed, ..Progress::default() });
        Self(Arc::new(Shared {
            shard,
            wanted: AtomicU64::new(0),
            wake: Notify::new(),
            paused: AtomicBool::new(false),
            progress,
        }))
    }

    /// Asks for a flush of all at or below `index`, without waiting.
    pub fn request(&self, index: LogIndex) {
        self.0.wanted.fetch_max(index, Ordering::AcqRel);
        self.0.wake.notify_one();
    }

    /// Asks for a flush of all at or below `index` and returns once a `Flushed` that covers it was applied. Waits without
    /// end while the bucket is away: put a deadline around it.
    ///
    /// # Errors
    /// `unavailable` if no flush will ever come again; what was appended stays written.
    pub async fn flushed(&self, index: LogIndex) -> Result<()> {
        let mut progress = self.0.progress.subscribe();
        if progress.borrow_and_update().flushed < index {
            self.request(index);
        }
        let done = progress.wait_for(|progress| progress.flushed >= index || progress.ended.is_some()).await;
        let done = done.map_err(|gone| Error::unavailable("the flush task is gone").with_source(gone))?;
        match &done.ended {
            Some(why) if done.flushed < index => Err(Error::unavailable(why.clone())),
            _ => Ok(()),
        }
    }

    /// Notes that a `Flushed` which covers `flushed` was applied here, whoever proposed it.
    pub fn observe(&self, flushed: LogIndex) {
        self.0.progress.send_if_modified(|progress| {
            let newer = flushed > progress.flushed;
            progress.flushed = progress.flushed.max(flushed);
            newer
        });
    }

    /// Another node flushes from now on; what went wrong here is not this node's to report any more.
    pub fn rest(&self) {
        self.0.progress.send_modify(|progress| progress.last_error = None);
        metrics::job_elsewhere("flush", self.0.shard.0);
    }

    /// The largest index of which somebody asked that it be flushed.
    pub(super) fn wanted(&self) -> LogIndex {
        self.0.wanted.load(Ordering::Acquire)
    }

    /// Returns once somebody asked, or after `at_most`.
    pub(super) async fn woken(&self, at_most: Duration) {
        let _ = tokio::time::timeout(at_most, self.0.wake.notified()).await;
    }

    /// Stops or resumes flushing; a flush under way ends first.
    pub fn set_paused(&self, paused: bool) {
        self.0.paused.store(paused, Ordering::Release);
        self.0.wake.notify_one();
    }

    /// Whether flushing is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.0.paused.load(Ordering::Acquire)
    }

    /// Wall time of the last success, and what went wrong since.
    #[must_use]
    pub fn last(&self) -> (Option<u64>, Option<String>) {
        let progress = self.0.progress.borrow();
        (progress.last_success_ms, progress.last_error.clone())
    }
}

/// The task of one shard.
#[derive(Debug)]
pub struct FlushTask {
    flusher: Flusher,
    handle: FlushHandle,
    triggers: Triggers,
    clock: crate::clock::Clock,
    /// When the last checkpoint was begun.
    last_checkpoint: Option<Instant>,
    tail_since: Option<Instant>,
    changed_since: Option<Instant>,
}

impl FlushTask {
    /// The task behind `handle`.
    #[must_use]
    pub fn new(flusher: Flusher, handle: FlushHandle, triggers: Triggers, clock: crate::clock::Clock) -> Self {
        let (last_checkpoint, tail_since, changed_since) = (None, None, None);
        Self { flusher, handle, triggers, clock, last_checkpoint, tail_since, changed_since }
    }

    /// Flushes until dropped, or until another life of the cluster has replaced this one.
    ///
    /// # Errors
    /// [`Replaced`]: the process has to stop.
    pub async fn run(mut self) -> Result<(), Replaced> {
        let mut pause = FIRST_PAUSE;
        loop {
            self.wait_until_due().await;
            let begun = Instant::now();
            match self.flusher.flush().await {
                Ok(index) => {
                    pause = FIRST_PAUSE;
                    self.succeeded(index, begun);
                }
                Err(error) => {
                    if let Some(replaced) = replaced(&error) {
                        let why = error.to_string();
                        self.handle.0.progress.send_modify(|progress| progress.ended = Some(why));
                        return Err(replaced);
                    }
                    self.failed(&error, pause);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
            }
        }
    }

    async fn wait_until_due(&mut self) {
        loop {
            if !self.handle.is_paused() && self.is_due() {
                return;
            }
            // The tick bounds how late a size or an age is noticed; a request wakes the task at once.
            self.handle.woken(self.gap_left().unwrap_or(TICK).min(TICK)).await;
        }
    }

    /// The time until the next checkpoint may begin, if that is not over.
    fn gap_left(&self) -> Option<Duration> {
        let end = self.last_checkpoint? + self.triggers.checkpoint_gap;
        Some(end.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    fn is_due(&mut self) -> bool {
        let (tail, changed, flushed, applied) = self
            .flusher
            .leader()
            .node()
            .with_state(|state| (state.tail_bytes(), state.changed_at(), state.flushed_index(), state.applied()));
        // An earlier leader's flush, or one whose answer was lost, counts as well.
        self.handle.observe(flushed);
        let now = Instant::now();
        since(&mut self.tail_since, tail > 0, now);
        since(&mut self.changed_since, changed > flushed, now);
        if self.gap_left().is_some() {
            return false;
        }
        let wanted = self.handle.wanted();
        let old = |since: Option<Instant>, age: Duration| since.is_some_and(|since| now >= since + age);
        (wanted > flushed && applied > flushed)
            || tail >= self.triggers.bytes
            || old(self.tail_since, self.triggers.interval)
            || old(self.changed_since, self.triggers.metadata_interval)
    }

    fn succeeded(&mut self, index: LogIndex, begun: Instant) {
        self.last_checkpoint = Some(begun);
        (self.tail_since, self.changed_since) = (None, None);
        let wall = self.clock.wall();
        metrics::job_succeeded("flush", self.handle.0.shard.0);
        ::metrics::counter!(metrics::FLUSHES, "outcome" => "ok").increment(1);
        ::metrics::histogram!(metrics::FLUSH_SECONDS).record(begun.elapsed());
        self.handle.0.progress.send_modify(|progress| {
            if progress.last_error.is_some() {
                info!(index, "flushing goes on");
            }
            progress.flushed = progress.flushed.max(index);
            progress.last_success_ms = Some(wall);
            progress.last_error = None;
        });
    }

    fn failed(&self, error: &Error, pause: Duration) {
        metrics::job_failed("flush");
        ::metrics::counter!(metrics::FLUSHES, "outcome" => "error").increment(1);
        warn!(shard = %self.handle.0.shard, ?error, pause_ms = pause.as_millis(), "a flush failed and will be made anew");
        let text = error.to_string();
        self.handle.0.progress.send_modify(|progress| progress.last_error = Some(text));
    }
}

/// Since when a condition holds, as far as this task saw.
fn since(mark: &mut Option<Instant>, holds: bool, now: Instant) {
    *mark = if holds { mark.or(Some(now)) } else { None };
}

fn replaced(error: &Error) -> Option<Replaced> {
    std::error::Error::source(error).and_then(|source| source.downcast_ref::<Replaced>()).copied()
}
