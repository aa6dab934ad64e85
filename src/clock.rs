//! The clocks of the process, injected so that tests and the simulation can drive them.
//!
//! Log time itself lives in commands; this module only supplies the readings from which a leader makes it.
//! Nothing in `state/` may name this module.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01 UTC.
pub type Millis = u64;

/// A source of wall and monotonic time.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System(Instant, Arc<AtomicI64>),
    Manual(Arc<ManualTime>),
}

#[derive(Debug)]
struct ManualTime {
    wall: AtomicU64,
    monotonic: AtomicU64,
}

impl Clock {
    /// The clock of the operating system.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System(Instant::now(), Arc::default()))
    }

    /// A clock that stands still at `wall` until it is told otherwise; clones share it.
    #[must_use]
    pub fn manual(wall: Millis) -> Self {
        Self(Source::Manual(Arc::new(ManualTime { wall: AtomicU64::new(wall), monotonic: AtomicU64::new(0) })))
    }

    /// Wall time; may jump.
    #[must_use]
    pub fn wall(&self) -> Millis {
        match &self.0 {
            Source::System(_, shift) => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
                .saturating_add_signed(shift.load(Ordering::Relaxed)),
            Source::Manual(time) => time.wall.load(Ordering::Relaxed),
        }
    }

    /// Milliseconds since this clock was made; never runs backwards.
    #[must_use]
    pub fn monotonic(&self) -> Millis {
        match &self.0 {
            Source::System(start, _) => u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
            Source::Manual(time) => time.monotonic.load(Ordering::Relaxed),
        }
    }

    /// Moves a manual clock on, wall and monotonic alike; without effect on the system's.
    pub fn advance(&self, millis: Millis) {
        if let Source::Manual(time) = &self.0 {
            time.wall.fetch_add(millis, Ordering::Relaxed);
            time.monotonic.fetch_add(millis, Ordering::Relaxed);
        }
    }

    /// Shows wall time `millis` later than the operating system does, in all clones: for tests of the whole process with a
    /// wrong clock. Without effect on a manual clock.
    pub fn shift_wall(&self, millis: i64) {
        if let Source::System(_, shift) = &self.0 {
            shift.store(millis, Ordering::Relaxed);
        }
    }

    /// Sets the wall time of a manual clock without touching its monotonic reading: an operator who set the date.
    pub fn set_wall(&self, wall: Millis) {
        if let Source::Manual(time) = &self.0 {
            time.wall.store(wall, Ordering::Relaxed);
        }
    }
}
