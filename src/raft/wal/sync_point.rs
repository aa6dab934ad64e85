//! Fail point `wal.sync`: passed once for each `fdatasync` of the log, on the thread that made it, before anyone is told.
//!
//! raft-log's thread takes all that is queued, writes it, syncs it and runs the callbacks of that group one after the
//! other; it has no hook around the sync itself. So the first callback of a group passes the point. While it sleeps there the
//! thread sleeps; what is appended meanwhile queues and shares the next sync, as with a disk that is so much slower. Which
//! callback is the first is told by the file: nothing is written while callbacks run, so all that is in it belongs to this
//! group or an earlier one.
//!
//! Not slowed: syncs of other files (pointer, checkpoint, local bucket).

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The file in which a write ends.
#[derive(Debug)]
pub(super) struct EndsIn {
    pub(super) path: PathBuf,
    /// WAL offset at which the file begins.
    pub(super) start: u64,
}

/// The point of one log.
#[derive(Debug, Default)]
pub(super) struct SyncPoint {
    /// WAL offset up to which the point was passed.
    passed: AtomicU64,
    failed: AtomicBool,
}

impl SyncPoint {
    /// Calls `hit` if the callback of the write that ends at `upto` is the first of its group.
    ///
    /// # Errors
    /// What `hit` fails with, from then on for every callback: nothing is synced after a sync that failed.
    pub(super) fn pass(
        &self,
        upto: u64,
        file: &EndsIn,
        hit: impl FnOnce() -> crate::error::Result<()>,
    ) -> io::Result<()> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(io::Error::other("an earlier sync failed"));
        }
        // Only the sync thread is here.
        if upto <= self.passed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let written = std::fs::metadata(&file.path).map_or(0, |file| file.len());
        self.passed.store(upto.max(file.start + written), Ordering::Relaxed);
        hit().map_err(|error| {
            self.failed.store(true, Ordering::Relaxed);
            io::Error::other(error)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::cell::Cell;

    use super::*;
    use crate::error::Error;

    #[test]
    fn the_point_is_passed_once_for_all_that_one_sync_covers() {
        let dir = tempfile::tempdir().unwrap();
        let file = EndsIn { path: dir.path().join("chunk"), start: 1000 };
        let point = SyncPoint::default();
        let hits = Cell::new(0);
        let pass = |upto| {
            let hit = || {
                hits.set(hits.get() + 1);
                Ok(())
            };
            point.pass(upto, &file, hit).unwrap();
            hits.get()
        };
        // Three writes that ended at 1010, 1020 and 1030 were written and synced together; then two more.
        std::fs::write(&file.path, [0; 30]).unwrap();
        for (upto, expected) in [(1010, 1), (1020, 1), (1030, 1)] {
            assert_eq!(pass(upto), expected, "{upto}");
        }
        std::fs::write(&file.path, [0; 50]).unwrap();
        for upto in [1040, 1050] {
            assert_eq!(pass(upto), 2, "{upto}");
        }
    }

    #[test]
    fn after_a_sync_that_failed_all_fail() {
        let dir = tempfile::tempdir().unwrap();
        let file = EndsIn { path: dir.path().join("chunk"), start: 0 };
        std::fs::write(&file.path, [0; 30]).unwrap();
        let point = SyncPoint::default();
        assert!(point.pass(10, &file, || Err(Error::internal("no"))).is_err());
        assert!(point.pass(20, &file, || Ok(())).is_err());
        assert!(point.pass(40, &file, || Ok(())).is_err());
    }
}
