//! `tidelog bench latency`: from the time at which a record was due to be sent to its receipt by a consumer that waits.
//!
//! An open loop sends numbered records; a consumer for each partition reads them by long poll or by server-sent events, on a
//! thread of its own, and takes the time. The number tells when the record was due.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt as _};
use hyper::Uri;
use serde_json::json;
use tidelog_api::{headers, limits};
use tokio_util::sync::CancellationToken;

use super::args::{Consumers, LatencyBench};
use super::block_on;
use super::drive::{self, Job};
use super::observe::Observer;
use super::pace::{Extent, Schedule};
use super::produce::prepare;
use super::report::{Figures, Report};
use super::tally::{Latencies, LatencySummary, Tally};
use super::wire::{Outcome, Target, Wire};
use crate::command::connect;
use crate::exit::usage;

/// How long records may be on their way after the last was acknowledged.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of the smallest value: a number of up to 20 digits and what is around it.
const MIN_SIZE: u64 = 40;
/// How long a poll waits; a quiet partition is asked again.
const POLL_MS: u64 = 10_000;
/// What stands before a record's number, in both forms.
const MARK: &[u8] = b"\"value\":{\"n\":";
/// A line is a record of at most 1 MiB, escaped at worst sixfold.
const MAX_LINE: usize = 8 << 20;

/// Measures, prints, and fails if a request failed or a record did not come.
pub(super) fn run(args: &LatencyBench) -> Result<()> {
    let target = Target::of(&args.remote)?;
    if !(MIN_SIZE..=limits::MAX_RECORD_BYTES as u64).contains(&args.record_size.as_u64()) {
        return Err(usage(format!("--record-size is {MIN_SIZE} to {} bytes", limits::MAX_RECORD_BYTES)));
    }
    let uris = block_on(prepare(&args.remote, &args.sink, 1, None))?;
    let starts = block_on(high_watermarks(args))?;
    let schedule = Schedule::new(args.rate);
    let extent = Extent { warm_up: args.warm_up, duration: Some(args.duration), requests: None };
    let receipts = Receipts {
        start: OnceLock::new(),
        schedule,
        extent,
        received: AtomicU64::new(0),
        latencies: Mutex::new(Latencies::new()?),
        stop: CancellationToken::new(),
    };
    let mut observer = Observer::new(&args.watch, &args.remote)?;
    let tally = thread::scope(|scope| {
        let consumers = scope.spawn(|| receipts.consume(args, &target, &starts));
        let sent = send(args, &target, &uris, &receipts, &mut observer);
        if let Ok(tally) = &sent {
            receipts.wait_for(tally.requests + tally.warm_up, || consumers.is_finished());
        }
        receipts.stop.cancel();
        consumers.join().map_err(|_| anyhow!("a consumer panicked"))??;
        sent
    })?;
    let end_to_end = receipts.latencies.lock().unwrap_or_else(PoisonError::into_inner).summary();
    let expected = tally.requests;
    print(args, uris.len(), (&tally, &end_to_end), &observer)?;
    if end_to_end.count < expected {
        bail!("{} of {expected} records were not received", expected - end_to_end.count);
    }
    Ok(())
}

fn send(
    args: &LatencyBench,
    target: &Target,
    uris: &[Uri],
    receipts: &Receipts,
    observer: &mut Observer,
) -> Result<Tally> {
    let padding = "x".repeat(usize::try_from(args.record_size.as_u64())?);
    let request = |n: u64| {
        let value = format!("{{\"n\":{n},\"p\":\"");
        let padding = &padding[value.len() + 2..];
        let body = format!("{{\"records\":[{{\"value\":{value}{padding}\"}}}}]}}");
        target.post(uris[n as usize % uris.len()].clone(), headers::JSON, Bytes::from(body))
    };
    let job = Job {
        target,
        request: &request,
        connections: args.connections,
        threads: 1,
        schedule: Some(receipts.schedule),
        extent: receipts.extent,
        start: &receipts.start,
    };
    drive::run(&job, observer)
}

fn print(
    args: &LatencyBench,
    partitions: usize,
    (tally, end_to_end): (&Tally, &LatencySummary),
    observer: &Observer,
) -> Result<()> {
    let parameters = json!({
        "topic": args.sink.topic,
        "partitions": partitions,
        "rate": args.rate,
        "duration_seconds": args.duration.as_secs_f64(),
        "warm_up_seconds": args.warm_up.as_secs_f64(),
        "record_size": args.record_size.as_u64(),
        "connections": args.connections,
        "consumers": args.consumers,
        "acks": args.sink.acks.as_str(),
    });
    let report = Report {
        bench: "latency",
        version: env!("CARGO_PKG_VERSION"),
        parameters,
        figures: Figures::new(tally, args.warm_up, (1, args.record_size.as_u64()), observer),
        end_to_end: Some(end_to_end.clone()),
        server: observer.server(),
        metrics: observer.grown(),
    };
    report.print(args.remote.json)?;
    report.verdict(args.sink.allow_errors)
}

/// Where each partition ends now.
async fn high_watermarks(args: &LatencyBench) -> Result<Vec<u64>> {
    let topic = connect(&args.remote)?.describe_topic(&args.sink.topic).await?;
    Ok(topic.partitions.iter().map(|partition| partition.high_watermark).collect())
}

/// What was received.
struct Receipts {
    start: OnceLock<Instant>,
    schedule: Schedule,
    extent: Extent,
    received: AtomicU64,
    latencies: Mutex<Latencies>,
    stop: CancellationToken,
}

impl Receipts {
    /// Waits until `count` records were received, the consumers ended, or patience does.
    fn wait_for(&self, count: u64, ended: impl Fn() -> bool) {
        let begun = Instant::now();
        while self.received.load(Ordering::Relaxed) < count && !ended() && begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The consumers, until they are stopped.
    fn consume(&self, args: &LatencyBench, target: &Target, starts: &[u64]) -> Result<()> {
        block_on(async {
            let consumer = |(partition, start): (usize, u64)| async move {
                tokio::select! {
                    result = self.follow(args, target, partition, start) => result,
                    () = self.stop.cancelled() => Ok(()),
                }
            };
            let mut consumers: FuturesUnordered<_> = starts.iter().copied().enumerate().map(consumer).collect();
            while let Some(result) = consumers.next().await {
                result.context("a consumer failed")?;
            }
            Ok(())
        })
    }

    /// One consumer: answer after answer.
    async fn follow(&self, args: &LatencyBench, target: &Target, partition: usize, start: u64) -> Result<()> {
        let mut wire = Wire::connect(target).await?;
        let mut offset = start;
        let (accept, wait) = match args.consumers {
            Consumers::Poll => (headers::NDJSON, format!("&wait_ms={POLL_MS}")),
            Consumers::Sse => (headers::EVENT_STREAM, String::new()),
        };
        loop {
            let uri = format!("/v1/topics/{}/partitions/{partition}/records?offset={offset}{wait}", args.sink.topic);
            let mut response = wire.begin(target.get(uri.parse()?, accept)).await?;
            if !response.status().is_success() {
                let Outcome::Refused(code) = wire.refused(response).await? else { bail!("a fetch failed") };
                bail!("a fetch was refused: {code}");
            }
            let mut lines = Lines::default();
            while let Some(chunk) = wire.chunk(&mut response).await? {
                offset += lines.push(&chunk, |number| self.count(number))?;
            }
        }
    }

    fn count(&self, number: u64) {
        let Some(start) = self.start.get() else { return };
        let due = self.schedule.due(number);
        self.received.fetch_add(1, Ordering::Relaxed);
        if self.extent.measures(due) {
            let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
            latencies.record(start.elapsed().saturating_sub(due));
        }
    }
}

/// Finds the numbers of records in an answer that comes in pieces.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Gives the number of each record whose line is complete; how many they were.
    fn push(&mut self, chunk: &[u8], mut found: impl FnMut(u64)) -> Result<u64> {
        self.rest.extend_from_slice(chunk);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            if self.rest.len() > MAX_LINE {
                bail!("a line of more than {MAX_LINE} bytes");
            }
            return Ok(0);
        };
        let mut count = 0;
        for line in self.rest[..end].split(|byte| *byte == b'\n') {
            if let Some(number) = number(line) {
                found(number);
                count += 1;
            }
        }
        self.rest.drain(..=end);
        Ok(count)
    }
}

fn number(line: &[u8]) -> Option<u64> {
    let at = line.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
    let digits = line[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&line[at..at + digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn records_are_found_however_the_stream_is_cut() {
        let text = "retry: 1000\n\n: waiting\n\nevent: record\nid: x\ndata: {\"partition\":0,\"value\":{\"n\":7,\"p\":\"\"}}\n\n\
                    {\"partition\":0,\"value\":{\"n\":123,\"p\":\"\"}}\nevent: ping\ndata: {\"next_offset\":9}\n";
        for size in [1, 5, 64, 1000] {
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            let count: u64 = text.as_bytes().chunks(size).map(|c| lines.push(c, |n| found.push(n)).unwrap()).sum();
            assert_eq!((count, &found[..]), (2, &[7, 123][..]), "{size}");
        }
    }
}
