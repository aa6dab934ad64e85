//! Bare write + `fdatasync`: what the disk of a data directory can do at best for a log that grows.
//!
//! Append to a file (`O_APPEND`), `fdatasync`, the next; a file is left at 64 MiB for a new one, as a log does. Making and
//! removing files is not in the figures. All files stay until the end, as those of a log do: a file that is removed gives its
//! pages and blocks to the next one, and where a virtual machine has to ask its host for every page that it did not have yet,
//! writing to recycled ones is several times as fast.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::report::round;
use super::tally::{Latencies, LatencySummary};

/// When a file is left for the next.
const FILE_BYTES: u64 = 64 << 20;

/// What the disk did.
#[derive(Debug, Clone, Serialize)]
pub(super) struct DiskFigures {
    /// Bytes of a write.
    pub size: usize,
    pub syncs_per_second: f64,
    pub mb_per_second: f64,
    pub latency: LatencySummary,
}

/// Writes and syncs `size` bytes again and again in `dir`, which is made if it is missing.
pub(super) fn measure(dir: &Path, size: usize, duration: Duration) -> Result<DiskFigures> {
    let failed = || format!("cannot write in {}", dir.display());
    fs::create_dir_all(dir).with_context(failed)?;
    let mut files = Files { dir, made: Vec::new(), open: None };
    // A page of zeros might be treated as a hole by some disks.
    let bytes: Vec<u8> = (0..size).map(|at| (at * 131 % 251) as u8).collect();
    let mut latencies = Latencies::new()?;
    let mut busy = Duration::ZERO;
    let mut written = 0;
    let mut count = 0_u64;
    while busy < duration {
        let mut file = files.next(written).with_context(failed)?;
        let begun = Instant::now();
        file.write_all(&bytes).and_then(|()| file.sync_data()).with_context(failed)?;
        let time = begun.elapsed();
        latencies.record(time);
        busy += time;
        written += size as u64;
        count += 1;
    }
    let seconds = busy.as_secs_f64();
    Ok(DiskFigures {
        size,
        syncs_per_second: round(count as f64 / seconds),
        mb_per_second: round(written as f64 / 1e6 / seconds),
        latency: latencies.summary(),
    })
}

/// The files of a run.
struct Files<'a> {
    dir: &'a Path,
    made: Vec<PathBuf>,
    open: Option<File>,
}

impl Files<'_> {
    /// The file for what follows `written` bytes.
    fn next(&mut self, written: u64) -> Result<&File> {
        if self.made.len() as u64 <= written / FILE_BYTES {
            let path = self.dir.join(format!("bench-{}-{}", std::process::id(), self.made.len()));
            self.open = Some(OpenOptions::new().append(true).create_new(true).open(&path)?);
            self.made.push(path);
            File::open(self.dir)?.sync_all()?;
        }
        self.open.as_ref().context("the file was just opened")
    }
}

impl Drop for Files<'_> {
    fn drop(&mut self) {
        for path in &self.made {
            // It may stay: it is only in the way of nobody.
            let _ = fs::remove_file(path);
        }
    }
}
