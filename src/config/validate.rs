//! Rules that a single value or several values together have to keep.

use std::time::Duration;

use super::Config;
use super::load::ConfigError;

/// Size of a command's largest single batch must leave room in an entry; also what openraft replicates at once.
const MAX_ENTRY: u64 = 4 << 20;
/// A start refuses log files of more than 256 MiB, and a file may exceed its size by one record.
const MAX_WAL_FILE: u64 = 128 << 20;
/// `gc.grace` must exceed this many times the longest upload or plan deadline.
const GRACE_FACTOR: u32 = 4;
/// Storage classes whose objects are not there when they are asked for.
const ASLEEP: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];
/// Asking more often than that is not for the few that are late.
const MAX_HEDGE_PERCENT: u32 = 20;

impl Config {
    /// Checks every rule and reports every problem at once.
    ///
    /// # Errors
    /// The problems, each starting with the key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        self.check_not_zero(&mut problems);
        self.check_sizes(&mut problems);
        self.check_times(&mut problems);
        self.check_names(&mut problems);
        self.check_cluster(&mut problems);
        self.check_peer(&mut problems);
        self.check_access(&mut problems);
        self.check_cost(&mut problems);
        ConfigError::check(problems)
    }

    fn check_not_zero(&self, problems: &mut Vec<String>) {
        let counts = [
            ("http.max_connections", u64::from(self.http.max_connections)),
            ("http.max_body", self.http.max_body),
            ("store.concurrency", u64::from(self.store.concurrency)),
            ("flush.bytes", self.flush.bytes),
            ("flush.uploads", u64::from(self.flush.uploads)),
            ("produce.in_flight", u64::from(self.produce.in_flight)),
            ("archive.workers", u64::from(self.archive.workers)),
            ("gc.list_limit", self.gc.list_limit),
            ("producer.per_partition", u64::from(self.producer.per_partition)),
            ("idempotency.keys", u64::from(self.idempotency.keys)),
        ];
        problems.extend(counts.iter().filter(|(_, value)| *value == 0).map(|(key, _)| format!("{key}: must not be 0")));
        let durations = [
            ("http.read_timeout", self.http.read_timeout),
            ("http.write_timeout", self.http.write_timeout),
            ("store.attempt_timeout", self.store.attempt_timeout),
            ("flush.interval", self.flush.interval),
            ("flush.metadata_interval", self.flush.metadata_interval),
            ("flush.deadline", self.flush.deadline),
            ("fetch.deadline", self.fetch.deadline),
            ("fetch.bucket_deadline", self.fetch.bucket_deadline),
            ("fetch.view_age", self.fetch.view_age),
            ("gc.interval", self.gc.interval),
            ("archive.interval", self.archive.interval),
            ("archive.max_age", self.archive.max_age),
            ("archive.claim", self.archive.claim),
            ("archive.deadline", self.archive.deadline),
            ("retention.interval", self.retention.interval),
            ("producer.expiry", self.producer.expiry),
            ("idempotency.window", self.idempotency.window),
            ("raft.heartbeat", self.raft.heartbeat),
            ("shutdown.deadline", self.shutdown.deadline),
        ];
        problems.extend(
            durations.iter().filter(|(_, value)| value.is_zero()).map(|(key, _)| format!("{key}: must not be 0")),
        );
    }

    fn check_sizes(&self, problems: &mut Vec<String>) {
        let mut at_least = |key: &str, value: u64, least: u64| {
            if value < least {
                problems.push(format!("{key}: {} is less than {}", size(value), size(least)));
            }
        };
        // One entry and one page must fit, or nothing would ever be admitted.
        at_least("produce.memory", self.produce.memory, self.http.max_body.max(self.produce.entry));
        at_least("http.body_memory", self.http.body_memory, self.http.max_body);
        at_least("fetch.memory", self.fetch.memory, 32 << 20);
        at_least("tail.memory", self.tail.memory, 2 * self.produce.entry);
        at_least("produce.entry", self.produce.entry, 1 << 20);
        at_least("cache.memory", self.cache.memory, 8 << 20);
        at_least("flush.bytes", self.flush.bytes, 64 << 10);
        at_least("wal.file_size", self.wal.file_size, 16 << 10);
        at_least("wal.reserve", self.wal.reserve, 8 << 20);
        at_least("wal.budget", self.wal.budget, self.wal.reserve.saturating_add(64 << 20));
        at_least("archive.file_size", self.archive.file_size, 1 << 20);
        at_least("archive.job_size", self.archive.job_size, self.flush.bytes);
        if self.wal.spare != 0 {
            at_least("wal.spare", self.wal.spare, self.wal.file_size);
        }
        if self.cache.disk != 0 {
            at_least("cache.disk", self.cache.disk, 64 << 20);
        }
        if self.produce.entry > MAX_ENTRY {
            problems.push(format!("produce.entry: {} is more than {}", size(self.produce.entry), size(MAX_ENTRY)));
        }
        if self.wal.file_size > MAX_WAL_FILE {
            let (found, most) = (size(self.wal.file_size), size(MAX_WAL_FILE));
            problems.push(format!("wal.file_size: {found} is more than {most}"));
        }
        // What is kept counts against the budget: with all of it kept nothing could be appended.
        let appends = self.wal.budget.saturating_sub(self.wal.reserve);
        if let Some(keep) = self.wal.keep.filter(|keep| *keep > appends / 2) {
            let (keep, half) = (size(keep), size(appends / 2));
            problems.push(format!("wal.keep: {keep} is more than half of wal.budget less wal.reserve ({half})"));
        }
        if self.wal.min_free_percent > 50 {
            problems.push(format!("wal.min_free_percent: {} is more than 50", self.wal.min_free_percent));
        }
    }

    fn check_times(&self, problems: &mut Vec<String>) {
        let deadlines = [
            ("store.deadline", self.store.deadline),
            ("flush.deadline", self.flush.deadline),
            ("fetch.deadline", self.fetch.deadline),
            ("archive.claim", self.archive.claim),
            ("archive.deadline", self.archive.deadline),
        ];
        // A node alone has no gateways.
        let view = ("fetch.view_age", self.fetch.view_age);
        let views = (!self.cluster.nodes.is_empty()).then_some(view);
        for (key, deadline) in deadlines.into_iter().chain(views) {
            if self.gc.grace <= deadline.saturating_mul(GRACE_FACTOR) {
                let (grace, deadline) = (time(self.gc.grace), time(deadline));
                problems.push(format!("gc.grace: {grace} is not more than {GRACE_FACTOR} × {key} ({deadline})"));
            }
        }
        if self.store.attempt_timeout > self.store.deadline {
            problems.push("store.attempt_timeout: is longer than store.deadline".to_owned());
        }
        if self.store.hedge_percent > MAX_HEDGE_PERCENT {
            let found = self.store.hedge_percent;
            problems.push(format!("store.hedge_percent: {found} is more than {MAX_HEDGE_PERCENT}"));
        }
        if self.fetch.bucket_deadline > self.fetch.deadline {
            problems.push("fetch.bucket_deadline: is longer than fetch.deadline".to_owned());
        }
        if self.raft.heartbeat.saturating_mul(3) > self.raft.election_min {
            problems.push("raft.heartbeat: is more than a third of raft.election_min".to_owned());
        }
        if self.shutdown.drain_delay >= self.shutdown.deadline {
            problems.push("shutdown.drain_delay: is not less than shutdown.deadline".to_owned());
        }
    }

    fn check_names(&self, problems: &mut Vec<String>) {
        if self.data_dir.as_os_str().is_empty() {
            problems.push("data_dir: must not be empty".to_owned());
        }
        if let Some(url) = &self.bucket
            && !["file:///", "memory:///", "s3://", "gs://", "az://"].iter().any(|scheme| url.starts_with(scheme))
        {
            problems.push(format!("bucket: {url:?} does not start with file:///, memory:///, s3://, gs:// or az://"));
        }
        let class = &self.store.archive_class;
        if class.is_empty() || !class.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_') {
            problems.push(format!("store.archive_class: {class:?} is not a storage class such as \"STANDARD_IA\""));
        } else if ASLEEP.contains(&class.as_str()) {
            problems.push(format!("store.archive_class: objects of {class} cannot be read until they are restored"));
        }
        for origin in &self.http.cors_origins {
            let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            if host.is_none_or(|host| host.is_empty() || host.contains('/')) {
                problems.push(format!("http.cors_origins: {origin:?} is not an origin such as \"https://a.example\""));
            }
        }
        if !(0.0..=1.0).contains(&self.log.sample) {
            problems.push(format!("log.sample: {} is not between 0 and 1", self.log.sample));
        }
    }
}

fn size(bytes: u64) -> String {
    super::units::size::print(bytes)
}

fn time(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}
