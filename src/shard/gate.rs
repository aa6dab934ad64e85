//! Whether appends are taken: the WAL budget and the low-space mark, one of each for all shards of a node. Control commands do
//! not pass here, and 64 MiB of the budget stay reserved for them, so that a flush can always drain the log.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tracing::{info, warn};

use super::slots::Slots;
use crate::config;
use crate::disk::{self, Space};
use crate::error::{Error, Result};
use crate::raft::RaftNode;

/// How often the disk is asked for its free space: at 1 GB/s this is a tenth of the smallest mark.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);
/// When a refused producer may come again: a flush takes about this.
const RETRY_AFTER_MS: u64 = 1_000;

/// Decides for one node; clones share the samples.
#[derive(Clone)]
pub struct AppendGate(Arc<Inner>);

struct Inner {
    nodes: Slots<RaftNode>,
    dir: PathBuf,
    settings: config::Wal,
    free: AtomicU64,
    low_mark: AtomicU64,
    low_space: AtomicBool,
}

impl AppendGate {
    /// A gate for the logs in `dir`, none of which is there yet; [`AppendGate::sample`] keeps it up to date.
    #[must_use]
    pub fn new(dir: PathBuf, settings: config::Wal) -> Self {
        let (free, low_space) = (AtomicU64::new(u64::MAX), AtomicBool::new(false));
        let low_mark = AtomicU64::new(0);
        Self(Arc::new(Inner { nodes: Slots::new(), dir, settings, free, low_mark, low_space }))
    }

    /// Counts the log of `node` in.
    pub(super) fn add(&self, node: &RaftNode) {
        self.0.nodes.set(node.shard(), node.clone());
        self.measure();
    }

    /// Takes an append, or says why not.
    ///
    /// # Errors
    /// `overloaded` with `retry_after_ms`; nothing was written.
    pub fn check(&self) -> Result<()> {
        let (used, limit) = self.budget();
        if used >= limit {
            let message = format!(
                "the write-ahead log has {used} bytes, of {limit} that it may have (wal.budget less wal.reserve): \
                 the bucket does not take it over"
            );
            return Err(refused(&message));
        }
        if self.0.low_space.load(Ordering::Relaxed) {
            let (free, mark) = (self.free_bytes(), self.low_mark_bytes());
            let message = format!(
                "the disk of the write-ahead log has {free} bytes free; below {mark} (wal.min_free, \
                 wal.min_free_percent) appends are refused"
            );
            return Err(refused(&message));
        }
        Ok(())
    }

    /// Bytes of all logs, and how many stop appends.
    #[must_use]
    pub fn budget(&self) -> (u64, u64) {
        let settings = &self.0.settings;
        (self.nodes().map(RaftNode::wal_bytes).sum(), settings.budget.saturating_sub(settings.reserve))
    }

    /// Free bytes of the disk at the last sample.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.0.free.load(Ordering::Relaxed)
    }

    /// Free bytes of the disk below which appends are refused, at the last sample.
    #[must_use]
    pub fn low_mark_bytes(&self) -> u64 {
        self.0.low_mark.load(Ordering::Relaxed)
    }

    /// Measures the free space again and again until dropped.
    pub async fn sample(self) {
        loop {
            tokio::time::sleep(SAMPLE_INTERVAL).await;
            self.measure();
        }
    }

    fn nodes(&self) -> impl Iterator<Item = &RaftNode> {
        self.0.nodes.iter().map(|(_, node)| node)
    }

    fn measure(&self) {
        // Before the free space: what is given back in between counts twice for a moment, and never not at all.
        let spare: u64 = self.nodes().map(RaftNode::spare_bytes).sum();
        let Ok(Space { free, total }) = disk::space(&self.0.dir) else { return };
        let mark = low_mark(total, &self.0.settings);
        // Files that are kept ready for the log are given back before an append is refused.
        if free < mark {
            self.nodes().for_each(RaftNode::release_spares);
        }
        let low = free.saturating_add(spare) < mark;
        self.0.free.store(free, Ordering::Relaxed);
        self.0.low_mark.store(mark, Ordering::Relaxed);
        if self.0.low_space.swap(low, Ordering::Relaxed) != low {
            if low {
                warn!(free, "the disk runs low: appends are refused");
            } else {
                info!(free, "the disk has space again: appends are taken");
            }
        }
    }
}

/// Free bytes of a disk of `total` bytes below which appends are refused.
fn low_mark(total: u64, settings: &config::Wal) -> u64 {
    // More than the log may grow to is never needed: 5% of a large disk would refuse appends that have all their room.
    let share = (total / 100 * u64::from(settings.min_free_percent)).min(settings.budget);
    // On a disk too small for the absolute mark the share alone decides, or nothing could ever be written there.
    let absolute = settings.min_free.min(total / 4);
    share.max(absolute)
}

fn refused(message: &str) -> Error {
    Error::overloaded(message).with_number("retry_after_ms", RETRY_AFTER_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn the_low_mark_is_a_share_of_the_disk_between_the_absolute_mark_and_what_the_log_may_grow_to() {
        let settings = config::Wal::default();
        assert_eq!((settings.min_free, settings.min_free_percent, settings.budget), (GIB, 5, 10 * GIB));
        let mark = |total| low_mark(total, &settings);
        assert_eq!(mark(GIB), GIB / 4);
        assert_eq!(mark(10 * GIB), GIB);
        assert_eq!(mark(100 * GIB), 5 * GIB);
        assert_eq!(mark(4_096 * GIB), 10 * GIB);
    }
}
