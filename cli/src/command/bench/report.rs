//! What a run prints: every parameter and every figure, as JSON or as a table.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::{Value, json};

use super::args::Load;
use super::body::Bodies;
use super::observe::{Observer, ServerUse};
use super::tally::{LatencySummary, Tally};
use crate::output::{self, Table, grouped};

/// The figures of one load. MB are 10^6 bytes.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Figures {
    /// From the end of the warm-up to the last answer.
    pub seconds: f64,
    pub requests: u64,
    pub records: u64,
    /// Bytes of values.
    pub value_bytes: u64,
    pub requests_per_second: f64,
    pub records_per_second: f64,
    pub value_mb_per_second: f64,
    pub latency: LatencySummary,
    /// Of an open loop: how much later than due requests were sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_lag: Option<LatencySummary>,
    /// Requests sent before the measurement.
    pub warm_up_requests: u64,
    pub warm_up_records: u64,
    /// Failures by code, those of the warm-up included.
    pub errors: BTreeMap<String, u64>,
    /// Processor time of the generator.
    pub generator_cpu_seconds: f64,
}

/// A whole run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub bench: &'static str,
    pub version: &'static str,
    pub parameters: Value,
    #[serde(flatten)]
    pub figures: Figures,
    /// From the time at which a record was due to its receipt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_to_end: Option<LatencySummary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerUse>,
    /// How the server's counters grew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<BTreeMap<&'static str, f64>>,
}

impl Figures {
    /// The figures of a run of requests that carry `records` records and `value_bytes` bytes of values each.
    pub(super) fn new(tally: &Tally, warm_up: Duration, each: (u64, u64), observer: &Observer) -> Self {
        let (records, value_bytes) = (tally.requests * each.0, tally.requests * each.1);
        let seconds = tally.last.saturating_sub(warm_up).as_secs_f64();
        let rate = |count: u64| if seconds > 0.0 { round(count as f64 / seconds) } else { 0.0 };
        let lags = tally.lags.summary();
        Self {
            seconds: (seconds * 1e6).round() / 1e6,
            requests: tally.requests,
            records,
            value_bytes,
            requests_per_second: rate(tally.requests),
            records_per_second: rate(records),
            value_mb_per_second: if seconds > 0.0 { round(value_bytes as f64 / 1e6 / seconds) } else { 0.0 },
            latency: tally.latencies.summary(),
            send_lag: (lags.count > 0).then_some(lags),
            warm_up_requests: tally.warm_up,
            warm_up_records: tally.warm_up * each.0,
            errors: tally.errors.clone(),
            generator_cpu_seconds: round(observer.own_cpu_seconds()),
        }
    }

    /// Adds what people read first.
    pub(super) fn rows(&self, table: &mut Table) {
        table.row(["requests", &format!("{} in {:.2} s", grouped(self.requests), self.seconds)]);
        table.row(["requests/s", &grouped(self.requests_per_second as u64)]);
        table.row(["records/s", &grouped(self.records_per_second as u64)]);
        table.row(["MB/s of values", &format!("{:.2}", self.value_mb_per_second)]);
        table.row(["latency", &percentiles(&self.latency)]);
        if let Some(lag) = &self.send_lag {
            table.row(["sent later than due", &percentiles(lag)]);
        }
        if self.warm_up_requests > 0 {
            table.row(["warm-up", &format!("{} requests", grouped(self.warm_up_requests))]);
        }
        for (code, count) in &self.errors {
            table.row([&format!("failed: {code}"), &grouped(*count)]);
        }
        table.row(["generator", &format!("{:.2} s of processor time", self.generator_cpu_seconds)]);
    }
}

impl Report {
    /// Prints it.
    pub(super) fn print(&self, as_json: bool) -> Result<()> {
        if as_json {
            return output::json(self);
        }
        let mut table = Table::new(&[self.bench, ""]);
        self.figures.rows(&mut table);
        if let Some(latency) = &self.end_to_end {
            let records = grouped(latency.count);
            table.row(["to the consumer", &format!("{} ({records} records)", percentiles(latency))]);
        }
        if let Some(server) = &self.server {
            let cpu = format!("{:.2} s of processor time", server.cpu_seconds);
            let rss = format!("{} MiB resident, {} at most", server.rss_mib, server.peak_rss_mib);
            table.row(["server", &format!("{cpu}, {rss}")]);
        }
        for (name, value) in self.metrics.iter().flatten() {
            table.row([*name, &grouped(*value as u64)]);
        }
        table.print()
    }

    /// Fails if requests did and that was not allowed.
    pub(super) fn verdict(&self, allow_errors: bool) -> Result<()> {
        let failed: u64 = self.figures.errors.values().sum();
        if failed > 0 && !allow_errors {
            let codes: Vec<String> =
                self.figures.errors.iter().map(|(code, count)| format!("{code} {count} times")).collect();
            bail!("{failed} requests failed: {}", codes.join(", "));
        }
        Ok(())
    }
}

/// The parameters of a load, the derived ones included.
pub(super) fn parameters(load: &Load, bodies: &Bodies) -> Value {
    json!({
        "connections": load.connections,
        "rate": load.rate,
        "duration_seconds": load.duration.map(|duration| duration.as_secs_f64()),
        "records": load.records,
        "bytes": load.bytes.map(|bytes| bytes.as_u64()),
        "warm_up_seconds": load.warm_up.as_secs_f64(),
        "record_size": load.record_size.as_u64(),
        "records_per_request": bodies.records,
        "request_bytes": bodies.len(),
        "content_type": load.content_type,
        "compression": load.compression,
        "threads": load.threads,
    })
}

/// Two digits after the point.
pub(super) fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Latencies as people read them.
pub(super) fn percentiles(latency: &LatencySummary) -> String {
    let millis = |micros: f64| format!("{:.3}", micros / 1e3);
    format!(
        "p50 {} p90 {} p99 {} p99.9 {} max {} ms",
        millis(latency.p50_us),
        millis(latency.p90_us),
        millis(latency.p99_us),
        millis(latency.p999_us),
        millis(latency.max_us)
    )
}
