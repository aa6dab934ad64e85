//! What the server spends while it is measured: processor time and resident memory from /proc, and how its counters grew.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, anyhow};
use serde::Serialize;
use tidelog::metrics as names;
use tidelog_client::Client;
use tokio::runtime::Runtime;

use super::args::Watch;
use super::drive::Observe;
use crate::args::Remote;
use crate::command::connect;

/// Ticks of /proc/PID/stat a second: `USER_HZ`, which is 100 on every Linux.
const TICKS: f64 = 100.0;
/// The series of resident memory is thinned out to at most this many.
const MAX_SERIES: usize = 240;
const MIB: f64 = 1024.0 * 1024.0;

/// The counters that are reported. A histogram is reported by its count and sum.
const COUNTERS: &[(&str, &str)] = &[
    ("flushes", "tidelog_flushes_total{outcome=\"ok\"}"),
    ("flush_segment_bytes", names::FLUSH_SEGMENT_BYTES),
    ("flush_checkpoint_bytes", names::FLUSH_CHECKPOINT_BYTES),
    ("bucket_puts", "tidelog_bucket_calls_total{kind=\"put\",outcome=\"ok\"}"),
    ("bucket_put_parts", "tidelog_bucket_calls_total{kind=\"put_part\",outcome=\"ok\"}"),
    ("bucket_gets", "tidelog_bucket_calls_total{kind=\"get\",outcome=\"ok\"}"),
    ("bucket_written_bytes", names::BUCKET_WRITTEN_BYTES),
    ("bucket_read_bytes", names::BUCKET_READ_BYTES),
    ("cache_fetched_bytes", names::CACHE_FETCHED_BYTES),
    ("archive_files", names::ARCHIVE_FILES),
    ("produce_entries", "tidelog_produce_entry_bytes_count"),
    ("produce_entry_bytes", "tidelog_produce_entry_bytes_sum"),
    ("produce_batches", names::PRODUCE_BATCHES),
    ("produce_records", names::PRODUCE_RECORDS),
];

/// What the server spent.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct ServerUse {
    /// Processor time while it was measured, user and system.
    pub cpu_seconds: f64,
    /// Resident memory at the end.
    pub rss_mib: f64,
    /// The most resident memory while it was measured.
    pub peak_rss_mib: f64,
    /// Resident memory over time, evenly spaced.
    pub rss_mib_series: Vec<f64>,
}

/// Looks at a server.
pub(super) struct Observer {
    pid: Option<u32>,
    metrics: Option<(Runtime, Client)>,
    cpu: [f64; 2],
    own_cpu: [f64; 2],
    rss: Vec<f64>,
    counters: [BTreeMap<&'static str, f64>; 2],
}

impl Observer {
    /// Looks at nothing but this process.
    pub(super) fn none() -> Self {
        Self {
            pid: None,
            metrics: None,
            cpu: [0.0; 2],
            own_cpu: [0.0; 2],
            rss: Vec::new(),
            counters: [BTreeMap::new(), BTreeMap::new()],
        }
    }

    /// Looks at what was asked for.
    pub(super) fn new(watch: &Watch, remote: &Remote) -> Result<Self> {
        let mut observer = Self::none();
        observer.pid = watch.server_pid;
        if let Some(pid) = watch.server_pid {
            cpu_seconds(&pid.to_string()).with_context(|| format!("there is no process {pid}"))?;
        }
        if watch.metrics {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            observer.metrics = Some((runtime, connect(&remote.of_operators(&watch.admin))?));
        }
        Ok(observer)
    }

    /// What the server spent.
    pub(super) fn server(&self) -> Option<ServerUse> {
        self.pid?;
        let step = self.rss.len().div_ceil(MAX_SERIES).max(1);
        Some(ServerUse {
            cpu_seconds: self.cpu[1] - self.cpu[0],
            rss_mib: self.rss.last().copied().unwrap_or_default(),
            peak_rss_mib: self.rss.iter().copied().fold(0.0, f64::max),
            rss_mib_series: self.rss.iter().copied().step_by(step).collect(),
        })
    }

    /// Processor time of this process.
    pub(super) fn own_cpu_seconds(&self) -> f64 {
        self.own_cpu[1] - self.own_cpu[0]
    }

    /// How the counters grew.
    pub(super) fn grown(&self) -> Option<BTreeMap<&'static str, f64>> {
        self.metrics.as_ref()?;
        let before = |name| self.counters[0].get(name).copied().unwrap_or_default();
        Some(self.counters[1].iter().map(|(name, value)| (*name, value - before(*name))).collect())
    }

    fn sample(&mut self, at: usize) -> Result<()> {
        self.own_cpu[at] = cpu_seconds("self")?;
        if let Some(pid) = self.pid {
            self.cpu[at] = cpu_seconds(&pid.to_string())?;
        }
        if let Some((runtime, client)) = &self.metrics {
            self.counters[at] = counters(&runtime.block_on(client.metrics())?);
        }
        self.look()
    }
}

impl Observe for Observer {
    fn begin(&mut self) -> Result<()> {
        self.sample(0)
    }

    fn look(&mut self) -> Result<()> {
        if let Some(pid) = self.pid {
            self.rss.push(rss_mib(pid)?);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        self.sample(1)
    }
}

fn cpu_seconds(pid: &str) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is a name in brackets and may hold anything.
    let rest = stat.rsplit_once(')').map_or(stat.as_str(), |(_, rest)| rest);
    let field = |n: usize| rest.split_whitespace().nth(n).and_then(|text| text.parse::<f64>().ok());
    match (field(11), field(12)) {
        (Some(user), Some(system)) => Ok((user + system) / TICKS),
        _ => Err(anyhow!("/proc/{pid}/stat has no processor times")),
    }
}

fn rss_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|text| text.parse::<f64>().ok());
    kib.map(|kib| (kib * 1024.0 / MIB * 10.0).round() / 10.0).ok_or_else(|| anyhow!("/proc/{pid}/status has no VmRSS"))
}

fn counters(text: &str) -> BTreeMap<&'static str, f64> {
    let value = |series: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse::<f64>().ok())
    };
    COUNTERS.iter().filter_map(|(name, series)| Some((*name, value(series)?))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn processor_time_and_memory_of_this_process_are_read() {
        let pid = std::process::id();
        let before = cpu_seconds(&pid.to_string()).unwrap();
        assert!(cpu_seconds("self").unwrap() >= before);
        assert!(rss_mib(pid).unwrap() > 1.0);
    }

    #[test]
    fn counters_are_found_by_their_whole_series() {
        let text = "# HELP x\ntidelog_flushes_total{outcome=\"error\"} 9\ntidelog_flushes_total{outcome=\"ok\"} 3\n\
                    tidelog_produce_records_total 12\ntidelog_produce_entry_bytes_sum 1.5\n";
        let found = counters(text);
        assert_eq!(found, BTreeMap::from([("flushes", 3.0), ("produce_entry_bytes", 1.5), ("produce_records", 12.0)]));
    }
}
