//! Metrics: one table of names, registered whole at start, rendered for Prometheus.
//!
//! `::metrics::counter!(metrics::BUCKET_CALLS, …)` with the constants of `table.rs` is how the rest of the engine
//! counts. Units are in the names. Before [`install`] (in most unit tests) counting does nothing and costs nothing.

pub mod cost;
mod expiry;
mod jobs;
mod process;
mod table;
mod topics;

use std::sync::{Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use ::metrics::{Key, Label, Level, Metadata, Recorder, SharedString};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

pub use expiry::certificate_in_force;
pub use jobs::{job_age, job_begins, job_elsewhere, job_failed, job_succeeded, jobs};
pub use process::uptime;
pub use table::*;
pub use topics::{Direction, TopicTotals, TopicTraffic};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution in buckets.
    Histogram,
}

/// A line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Name with unit.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// For people.
    pub help: &'static str,
    /// Labels with the values that are registered at start.
    pub labels: &'static [(&'static str, &'static [&'static str])],
}

/// Upper bounds of histograms in seconds: from a hit in memory to a flush that a slow bucket delays.
const SECONDS_BUCKETS: [f64; 18] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    120.0,
];
/// Upper bounds of histograms in bytes.
const BYTES_BUCKETS: [f64; 10] =
    [256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0, 134_217_728.0];
/// Upper bounds of histograms of counts.
const COUNT_BUCKETS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1_000.0, 10_000.0];

/// How often a process with a recorder has to call [`upkeep`].
pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

static INSTALLING: Mutex<()> = Mutex::new(());
static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
static TRAFFIC: OnceLock<RwLock<TopicTraffic>> = OnceLock::new();

/// All metrics, the ones by topic included: name, kind, help and labels.
pub fn all() -> impl Iterator<Item = Metric> {
    const TOPIC_LABELS: &[(&str, &[&str])] = &[("namespace", &["default"]), ("topic", &["other"])];
    let topics = topics::SERIES.map(|(name, help)| Metric { name, kind: Kind::Counter, help, labels: TOPIC_LABELS });
    TABLE.iter().copied().chain(topics)
}

/// Installs the recorder of this process, once, with all metrics registered; later calls change nothing. `topics` is
/// how many topics have series of their own.
///
/// # Errors
/// If another recorder was installed by somebody else.
pub fn install(topics: u32) -> Result<(), String> {
    process::started();
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    TRAFFIC.get_or_init(|| RwLock::new(TopicTraffic::new(topics as usize)));
    if HANDLE.get().is_some() {
        return Ok(());
    }
    let recorder = builder().map_err(|error| error.to_string())?.build_recorder();
    let handle = recorder.handle();
    register(&recorder);
    ::metrics::set_global_recorder(recorder).map_err(|error| error.to_string())?;
    let _ = HANDLE.set(handle);
    Ok(())
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    TABLE.iter().filter(|metric| metric.kind == Kind::Histogram).try_fold(
        PrometheusBuilder::new(),
        |builder, metric| {
            let buckets: &[f64] = match metric.name {
                name if name.ends_with("_seconds") => &SECONDS_BUCKETS,
                name if name.ends_with("_bytes") => &BYTES_BUCKETS,
                _ => &COUNT_BUCKETS,
            };
            builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)
        },
    )
}

/// Describes every metric and registers every series that is known beforehand.
fn register(recorder: &impl Recorder) {
    static METADATA: Metadata<'static> = Metadata::new("tidelog", Level::INFO, Some(module_path!()));
    for metric in TABLE {
        let (name, help) = (metric.name, SharedString::const_str(metric.help));
        match metric.kind {
            Kind::Counter => recorder.describe_counter(name.into(), None, help),
            Kind::Gauge => recorder.describe_gauge(name.into(), None, help),
            Kind::Histogram => recorder.describe_histogram(name.into(), None, help),
        }
        if metric.name == BUILD {
            continue;
        }
        for labels in combinations(metric.labels) {
            let key = Key::from_parts(name, labels);
            match metric.kind {
                Kind::Counter => recorder.register_counter(&key, &METADATA).absolute(0),
                Kind::Gauge => recorder.register_gauge(&key, &METADATA).set(0.0),
                Kind::Histogram => drop(recorder.register_histogram(&key, &METADATA)),
            }
        }
    }
}

/// Every combination of the labels' values.
fn combinations(labels: &[(&'static str, &[&'static str])]) -> Vec<Vec<Label>> {
    labels.iter().fold(vec![Vec::new()], |sets, (name, values)| {
        let with = |set: &Vec<Label>, value: &&'static str| {
            let mut set = set.clone();
            set.push(Label::from_static_parts(name, value));
            set
        };
        sets.iter().flat_map(|set| values.iter().map(move |value| with(set, value))).collect()
    })
}

/// Counts records and encoded bytes of a topic.
pub fn topic_traffic(topic: &str, direction: Direction, records: u64, bytes: u64) {
    if let Some(traffic) = TRAFFIC.get() {
        traffic.read().unwrap_or_else(PoisonError::into_inner).add(topic, direction, records, bytes);
    }
}

/// Bytes by topic: those with series of their own, and the rest as `other`; nothing before [`install`].
#[must_use]
pub fn topic_totals() -> Vec<TopicTotals> {
    TRAFFIC.get().map_or_else(Vec::new, |traffic| traffic.read().unwrap_or_else(PoisonError::into_inner).totals())
}

/// Keeps the recorder's memory bounded between scrapes; call every [`UPKEEP_INTERVAL`].
pub fn upkeep() {
    if let Some(handle) = HANDLE.get() {
        handle.run_upkeep();
    }
}

/// All metrics in Prometheus' text format; empty before [`install`].
#[must_use]
pub fn render() -> String {
    let Some(handle) = HANDLE.get() else { return String::new() };
    process::observe(env!("CARGO_PKG_VERSION"));
    jobs::observe();
    cost::observe();
    let mut text = handle.render();
    if let Some(traffic) = TRAFFIC.get() {
        traffic.read().unwrap_or_else(PoisonError::into_inner).render(&mut text);
    }
    text
}

#[cfg(test)]
mod tests;
