//! `tidelog bench consume`: everything that is in a topic at the start, read by several connections.
//!
//! Each connection takes ranges of offsets from a list and reads them page by page. Where there are fewer partitions than
//! connections a partition is cut into as many ranges. Bodies are not looked into: where a page ends is said by a header
//! (NDJSON, batches) or at the end of the body (JSON), and offsets are dense, so the records of a page are a difference.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures::stream::{FuturesUnordered, StreamExt as _};
use hyper::Response;
use hyper::body::Incoming;
use serde::Serialize;
use serde_json::json;
use tidelog_api::{headers, limits};

use super::args::ConsumeBench;
use super::drive::Observe as _;
use super::observe::{Observer, ServerUse};
use super::report::{percentiles, round};
use super::tally::{Latencies, LatencySummary};
use super::wire::{Outcome, Target, Wire};
use super::{OBSERVE_EVERY, block_on};
use crate::command::connect;
use crate::output::{self, Table, grouped};

/// Bytes at the end of a JSON page in which `next_offset` is: the members after `records` are short.
const JSON_TAIL: usize = 512;

/// A range of offsets that is left to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Range {
    partition: u32,
    from: u64,
    end: u64,
}

/// What one reading of the topic gave.
#[derive(Debug, Serialize)]
struct Figures {
    seconds: f64,
    pages: u64,
    records: u64,
    /// Bytes of answers' bodies.
    body_bytes: u64,
    records_per_second: f64,
    body_mb_per_second: f64,
    /// Of a page, to its last byte.
    latency: LatencySummary,
    generator_cpu_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<ServerUse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<std::collections::BTreeMap<&'static str, f64>>,
}

/// Reads, prints, and fails if a page did.
pub(super) fn run(args: &ConsumeBench) -> Result<()> {
    let target = Target::of(&args.remote)?;
    let mut runs = Vec::new();
    let mut count = 0;
    for _ in 0..args.repeat {
        let ranges = block_on(ranges(args))?;
        count = ranges.len();
        let mut observer = Observer::new(&args.watch, &args.remote)?;
        runs.push(read(args, &target, ranges, &mut observer)?);
    }
    let parameters = json!({
        "topic": args.topic,
        "connections": args.connections,
        "ranges": count,
        "format": args.format,
        "page_bytes": args.page_bytes.as_u64(),
        "bytes": args.bytes.map(|bytes| bytes.as_u64()),
        "repeat": args.repeat,
    });
    if args.remote.json {
        let version = env!("CARGO_PKG_VERSION");
        return output::json(&json!({
            "bench": "consume", "version": version, "parameters": parameters, "runs": runs
        }));
    }
    print(&runs)
}

fn print(runs: &[Figures]) -> Result<()> {
    let mut table = Table::new(&["consume", ""]);
    for (number, run) in runs.iter().enumerate() {
        table.row([&format!("run {}", number + 1), ""]);
        table.row(["records", &format!("{} in {:.2} s", grouped(run.records), run.seconds)]);
        table.row(["records/s", &grouped(run.records_per_second as u64)]);
        table.row(["MB/s of bodies", &format!("{:.2}", run.body_mb_per_second)]);
        table.row(["page", &percentiles(&run.latency)]);
        if let Some(server) = &run.server {
            let cpu = format!("{:.2} s of processor time", server.cpu_seconds);
            table.row(["server", &format!("{cpu}, {} MiB resident at most", server.peak_rss_mib)]);
        }
        for (name, value) in run.metrics.iter().flatten() {
            table.row([*name, &grouped(*value as u64)]);
        }
    }
    table.print()
}

/// What is to be read: from log start to high watermark, in at least as many ranges as connections.
async fn ranges(args: &ConsumeBench) -> Result<Vec<Range>> {
    let topic = connect(&args.remote)?.describe_topic(&args.topic).await?;
    let partitions = topic.partitions.iter().map(|partition| Range {
        partition: partition.partition,
        from: partition.log_start_offset,
        end: partition.high_watermark,
    });
    let partitions: Vec<Range> = partitions.filter(|range| range.from < range.end).collect();
    let parts = u64::from(args.connections).div_ceil(partitions.len().max(1) as u64);
    Ok(partitions.iter().flat_map(|range| cut(range, parts)).collect())
}

/// Cuts a range into at most `parts` of about one length.
fn cut(range: &Range, parts: u64) -> Vec<Range> {
    let step = (range.end - range.from).div_ceil(parts).max(1);
    (range.from..range.end)
        .step_by(usize::try_from(step).unwrap_or(usize::MAX))
        .map(|from| Range { partition: range.partition, from, end: range.end.min(from + step) })
        .collect()
}

/// What the connections share; they all are in one task.
struct Reading<'a> {
    args: &'a ConsumeBench,
    target: &'a Target,
    ranges: RefCell<std::vec::IntoIter<Range>>,
    tally: RefCell<Tally>,
    observer: RefCell<&'a mut Observer>,
}

struct Tally {
    latencies: Latencies,
    records: u64,
    bytes: u64,
    looked: Instant,
}

fn read(args: &ConsumeBench, target: &Target, ranges: Vec<Range>, observer: &mut Observer) -> Result<Figures> {
    observer.begin()?;
    let begun = Instant::now();
    let tally = Tally { latencies: Latencies::new()?, records: 0, bytes: 0, looked: begun };
    let reading = Reading {
        args,
        target,
        ranges: RefCell::new(ranges.into_iter()),
        tally: RefCell::new(tally),
        observer: RefCell::new(&mut *observer),
    };
    block_on(async {
        let mut readers: FuturesUnordered<_> = (0..args.connections).map(|_| reading.work()).collect();
        while let Some(result) = readers.next().await {
            result?;
        }
        Ok(())
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let tally = reading.tally.into_inner();
    observer.end()?;
    Ok(Figures {
        seconds: (seconds * 1e6).round() / 1e6,
        pages: tally.latencies.summary().count,
        records: tally.records,
        body_bytes: tally.bytes,
        records_per_second: round(tally.records as f64 / seconds),
        body_mb_per_second: round(tally.bytes as f64 / 1e6 / seconds),
        latency: tally.latencies.summary(),
        generator_cpu_seconds: round(observer.own_cpu_seconds()),
        server: observer.server(),
        metrics: observer.grown(),
    })
}

impl Reading<'_> {
    /// One connection: range after range, page after page.
    async fn work(&self) -> Result<()> {
        let mut wire = Wire::connect(self.target).await?;
        loop {
            let range = self.ranges.borrow_mut().next();
            let Some(mut range) = range else { return Ok(()) };
            while range.from < range.end && !self.has_enough() {
                let begun = Instant::now();
                let (next, bytes) = self.page(&mut wire, &range).await?;
                if next <= range.from {
                    bail!("a page at offset {} of partition {} does not get on", range.from, range.partition);
                }
                self.count(begun.elapsed(), next.min(range.end) - range.from, bytes)?;
                range.from = next;
            }
        }
    }

    fn has_enough(&self) -> bool {
        self.args.bytes.is_some_and(|bytes| self.tally.borrow().bytes >= bytes.as_u64())
    }

    fn count(&self, latency: Duration, records: u64, bytes: u64) -> Result<()> {
        let mut tally = self.tally.borrow_mut();
        tally.latencies.record(latency);
        tally.records += records;
        tally.bytes += bytes;
        if tally.looked.elapsed() >= OBSERVE_EVERY {
            tally.looked = Instant::now();
            self.observer.borrow_mut().look()?;
        }
        Ok(())
    }

    /// Reads a page: where to go on, and the bytes of its body.
    async fn page(&self, wire: &mut Wire, range: &Range) -> Result<(u64, u64)> {
        let uri = format!(
            "/v1/topics/{}/partitions/{}/records?offset={}&max_records={}&max_bytes={}",
            self.args.topic,
            range.partition,
            range.from,
            limits::MAX_FETCH_RECORDS.min(usize::try_from(range.end - range.from).unwrap_or(usize::MAX)),
            self.args.page_bytes.as_u64(),
        );
        let mut response = wire.begin(self.target.get(uri.parse()?, self.args.format.media_type())).await?;
        if !response.status().is_success() {
            let Outcome::Refused(code) = wire.refused(response).await? else { bail!("a page failed") };
            bail!("a page at offset {} of partition {} was refused: {code}", range.from, range.partition);
        }
        let announced = next_offset(&response);
        let mut tail = Vec::with_capacity(2 * JSON_TAIL);
        let mut len = 0;
        while let Some(chunk) = wire.chunk(&mut response).await? {
            len += chunk.len() as u64;
            keep_tail(&mut tail, &chunk);
        }
        let next = announced.or_else(|| next_offset_in(&tail)).context("a page does not say where it ends")?;
        Ok((next, len))
    }
}

/// What NDJSON and batches say in a header.
fn next_offset(response: &Response<Incoming>) -> Option<u64> {
    response.headers().get(headers::NEXT_OFFSET)?.to_str().ok()?.parse().ok()
}

/// Keeps the last bytes of a body.
fn keep_tail(tail: &mut Vec<u8>, chunk: &[u8]) {
    tail.extend_from_slice(&chunk[chunk.len().saturating_sub(JSON_TAIL)..]);
    tail.drain(..tail.len().saturating_sub(JSON_TAIL));
}

/// What JSON says after its records.
fn next_offset_in(tail: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"\"next_offset\":";
    let at = tail.windows(NAME.len()).rposition(|window| window == NAME)? + NAME.len();
    let digits = tail[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&tail[at..at + digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_cut_into_ranges_that_cover_it() {
        let range = |from, end| Range { partition: 3, from, end };
        assert_eq!(cut(&range(10, 20), 1), [range(10, 20)]);
        assert_eq!(cut(&range(10, 21), 3), [range(10, 14), range(14, 18), range(18, 21)]);
        assert_eq!(cut(&range(0, 2), 8), [range(0, 1), range(1, 2)]);
    }

    #[test]
    fn the_end_of_a_json_page_is_found_however_its_body_is_cut() {
        let body =
            [vec![b'x'; 5000], br#"],"next_offset":1234,"log_start_offset":0,"high_watermark":9}"#.to_vec()].concat();
        for size in [1, 7, 100, 512, 10_000] {
            let mut tail = Vec::new();
            body.chunks(size).for_each(|chunk| keep_tail(&mut tail, chunk));
            assert_eq!(next_offset_in(&tail), Some(1234), "{size}");
        }
        assert_eq!(next_offset_in(b"nothing"), None);
    }
}
