//! Metrics: one table of names, registered whole at start, rendered for Prometheus.
//!
//! `metrics::counter!(metrics::BUCKET_CALLS, …)` with the constants of the table is how the rest of the engine counts;
//! a name that is not in the table fails a test of its user's module or shows up undescribed. Units are in the names.

mod table;

pub use table::*;

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
