//! What the operating system says of this process.

use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ::metrics::gauge;

use super::{BUILD, OPEN_FILES, RESIDENT_MEMORY_BYTES, UPTIME_SECONDS};

static STARTED: OnceLock<Instant> = OnceLock::new();

/// When the process started, or rather when somebody first asked.
pub(super) fn started() -> Instant {
    *STARTED.get_or_init(Instant::now)
}

/// How long the process has run.
#[must_use]
pub fn uptime() -> Duration {
    started().elapsed()
}

/// Sets the process gauges; those that the system does not tell stay as they are.
pub(super) fn observe(version: &'static str) {
    gauge!(BUILD, "version" => version).set(1.0);
    gauge!(UPTIME_SECONDS).set(started().elapsed().as_secs_f64());
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        // One of them is the listing's own.
        gauge!(OPEN_FILES).set(files.count().saturating_sub(1) as f64);
    }
    if let Some(bytes) = fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident) {
        gauge!(RESIDENT_MEMORY_BYTES).set(bytes as f64);
    }
}

/// `VmRSS:     1234 kB` of `/proc/self/status`, in bytes.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    #[test]
    fn resident_memory_is_read_from_the_status() {
        assert_eq!(super::resident("Name:\ttidelog\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
        assert_eq!(super::resident("Name:\ttidelog\n"), None);
    }
}
