//! `tidelog bucket check`: whether a bucket can be used, and how fast it is; no server is asked.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use tidelog::config::{self, Config};
use tidelog::store::{Bucket, Timing};

use crate::args::{BucketCheckArgs, BucketCommand};
use crate::exit::note;
use crate::output::{self, Out, Table};

/// A person waits for the answer: a bucket that does not answer is told of sooner than a server would give it up.
const DEADLINE: Duration = Duration::from_secs(10);
/// Between two looks at a bucket that cannot be used yet.
const PAUSE: Duration = Duration::from_secs(1);
/// Sizes of a checkpoint, a block and a segment, and how often each is written and read.
const SIZES: [(usize, usize); 3] = [(4 << 10, 20), (1 << 20, 10), (16 << 20, 4)];

#[derive(Debug, Serialize)]
struct Report {
    bucket: String,
    usable: bool,
    timings: Vec<Row>,
}

/// Milliseconds of one size.
#[derive(Debug, Serialize)]
struct Row {
    bytes: usize,
    rounds: usize,
    put_p50_ms: f64,
    put_p99_ms: f64,
    get_p50_ms: f64,
    get_p99_ms: f64,
}

/// Runs the subcommand.
pub(super) async fn run(command: BucketCommand) -> Result<()> {
    let BucketCommand::Check(args) = command;
    check(&args).await
}

async fn check(args: &BucketCheckArgs) -> Result<()> {
    let config = Config { bucket: args.bucket.clone(), ..Config::default() };
    let store = config::Store { deadline: DEADLINE, ..config.store.clone() };
    let bucket = Bucket::open(&config.bucket_url()?, &store)?;
    wait_until_usable(&bucket, args.wait).await?;
    let mut timings = Vec::with_capacity(SIZES.len());
    for (bytes, rounds) in SIZES.into_iter().filter(|_| !args.quick) {
        timings.push(Row::new(&bucket.time(bytes, rounds).await?));
    }
    let report = Report { bucket: bucket.url().to_owned(), usable: true, timings };
    if args.json { output::json(&report) } else { print(&report) }
}

/// Probes the bucket, and again until `patience` is over if it cannot be used.
async fn wait_until_usable(bucket: &Bucket, patience: Duration) -> Result<()> {
    let end = Instant::now() + patience;
    while let Err(error) = bucket.probe().await {
        if Instant::now() + PAUSE > end {
            return Err(error.into());
        }
        note(&format!("waiting: {error}"));
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

impl Row {
    fn new(timing: &Timing) -> Self {
        Self {
            bytes: timing.bytes,
            rounds: timing.put.len(),
            put_p50_ms: quantile(&timing.put, 50),
            put_p99_ms: quantile(&timing.put, 99),
            get_p50_ms: quantile(&timing.get, 50),
            get_p99_ms: quantile(&timing.get, 99),
        }
    }
}

/// The value below which `percent` of the ascending `times` are, in milliseconds; of few times p99 is the slowest.
fn quantile(times: &[Duration], percent: usize) -> f64 {
    let place = (times.len() * percent).div_ceil(100).saturating_sub(1);
    times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1_000.0)
}

fn print(report: &Report) -> Result<()> {
    let mut out = Out::new();
    out.line(&format!("{} can be written, read, listed and deleted", report.bucket))?;
    if report.timings.is_empty() {
        return out.finish();
    }
    let mut table = Table::new(&["SIZE", "ROUNDS", "PUT P50", "PUT P99", "GET P50", "GET P99"]);
    for row in &report.timings {
        let times = [row.put_p50_ms, row.put_p99_ms, row.get_p50_ms, row.get_p99_ms].map(|ms| format!("{ms:.1} ms"));
        let size =
            if row.bytes < 1 << 20 { format!("{} KiB", row.bytes >> 10) } else { format!("{} MiB", row.bytes >> 20) };
        table.row([size, row.rounds.to_string()].into_iter().chain(times));
    }
    out.table(&table)?;
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_few_times_are_among_them() {
        let times: Vec<_> = (1..=20).map(Duration::from_millis).collect();
        assert_eq!([50, 99].map(|percent| quantile(&times, percent)), [10.0, 20.0]);
        assert_eq!(quantile(&times[..1], 99), 1.0);
        assert_eq!(quantile(&[], 50), 0.0);
    }
}
