//! `tidelog consume`: records to standard output as lines.
//!
//! Partitions are read by a few tasks at once, each page by page; the command itself writes. Without `--follow` it stops at
//! the high watermarks it saw at its start. With it, one task for each partition waits for what comes, and another looks for
//! partitions that were added, which are read from their beginning. There is no order between partitions.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tidelog_api::ErrorCode;
use tidelog_api::fetch::FetchedRecord;
use tidelog_api::limits::MAX_FETCH_RECORDS;
use tidelog_api::topics::{PartitionDescription, TopicDescription};
use tidelog_client::{FetchStart, Page, Records, Topic};
use tokio::sync::mpsc;

use super::connect;
use crate::args::{ConsumeArgs, ConsumeOutput};
use crate::exit::{note, usage};
use crate::output::Out;
use crate::start::Start;

/// Partitions read at once when there is an end; each holds a page of a few megabytes.
const READERS: usize = 4;
/// Partitions that can be followed at once: each waits in a request of its own.
const MAX_FOLLOWED: usize = 256;
const TOO_MANY: &str = "and at most 256 can be followed at once: name one with --partition";
const FOLLOW_WAIT: Duration = Duration::from_secs(30);
/// Time between two looks for partitions that were added.
const GROWTH_INTERVAL: Duration = Duration::from_secs(2);
/// A server that has records below the watermark sends one within this.
const WAIT: Duration = Duration::from_secs(1);
/// Pages without any progress below the watermark before the server is not believed any more.
const MAX_EMPTY_PAGES: u32 = 30;

/// Reads and prints.
pub(super) async fn run(args: &ConsumeArgs) -> Result<()> {
    if matches!(args.from, Start::Offset(_)) && args.partition.is_none() {
        return Err(usage("--from with an offset needs --partition: offsets are those of one partition"));
    }
    let client = connect(&args.remote)?;
    let (topic, description) = client.topic(&args.topic).await?;
    let lanes = lanes(args, &description)?;
    let readers = if args.follow { lanes.len() } else { READERS.min(lanes.len()) };
    let lanes = Arc::new(Mutex::new(VecDeque::from(lanes)));
    let (sender, pages) = mpsc::channel(readers.max(1));
    for _ in 0..readers {
        let (topic, lanes, sender) = (topic.clone(), Arc::clone(&lanes), sender.clone());
        tokio::spawn(async move { read_lanes(&topic, &lanes, &sender).await });
    }
    if args.follow && args.partition.is_none() {
        tokio::spawn(follow_growth(topic, description.settings.partitions, sender));
    } else {
        drop(sender);
    }
    print_pages(args, pages).await
}

/// What is read of one partition.
#[derive(Debug, Clone, Copy)]
struct Lane {
    partition: u32,
    start: FetchStart,
    /// Exclusive; `None` follows.
    end: Option<u64>,
    /// The start was named by whoever calls, and may be still to come.
    awaited: bool,
}

fn lanes(args: &ConsumeArgs, description: &TopicDescription) -> Result<Vec<Lane>> {
    let wanted = |partition: &&PartitionDescription| args.partition.is_none_or(|only| only == partition.partition);
    let lanes: Vec<Lane> = description
        .partitions
        .iter()
        .filter(wanted)
        .map(|partition| Lane {
            partition: partition.partition,
            start: fetch_start(args.from, partition),
            end: (!args.follow).then_some(partition.high_watermark),
            awaited: args.follow && matches!(args.from, Start::Offset(_)),
        })
        .collect();
    if let (Some(partition), true) = (args.partition, lanes.is_empty()) {
        bail!("topic {} has no partition {partition}, it has {}", args.topic, description.partitions.len());
    }
    // It would be an empty answer to a wrong question; a follower waits for it.
    if let (Start::Offset(offset), [Lane { end: Some(end), .. }]) = (args.from, lanes.as_slice())
        && offset > *end
    {
        bail!("offset {offset} is above the high watermark {end} of partition {}", args.partition.unwrap_or_default());
    }
    if args.follow && lanes.len() > MAX_FOLLOWED {
        bail!("the topic has {} partitions, {TOO_MANY}", lanes.len());
    }
    Ok(lanes)
}

fn fetch_start(start: Start, partition: &PartitionDescription) -> FetchStart {
    match start {
        Start::Earliest => FetchStart::Offset(partition.log_start_offset),
        Start::Latest => FetchStart::Offset(partition.high_watermark),
        Start::Offset(offset) => FetchStart::Offset(offset),
        Start::Time(time) => FetchStart::Timestamp(time),
        Start::Ago(ago) => FetchStart::Timestamp((chrono::Utc::now().timestamp_millis() - ago).max(0)),
    }
}

type PageSender = mpsc::Sender<Result<Page>>;

/// Reads one partition after the other; ends early when the receiver is gone.
async fn read_lanes(topic: &Topic, lanes: &Mutex<VecDeque<Lane>>, pages: &PageSender) {
    loop {
        let next = lanes.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(lane) = next else { return };
        match read_lane(topic, lane, pages).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                let error = error.context(format!("partition {}", lane.partition));
                // A closed channel means that the command is over: nobody wants the error.
                let _ = pages.send(Err(error)).await;
                return;
            }
        }
    }
}

/// Follows the partitions above the first `known` from their beginning, as they are added. The topic's readers notice
/// for themselves when there is something to say about the server.
async fn follow_growth(topic: Topic, mut known: u32, pages: PageSender) {
    while !pages.is_closed() {
        tokio::time::sleep(GROWTH_INTERVAL).await;
        let Ok(description) = topic.describe().await else { continue };
        let partitions = description.settings.partitions;
        if partitions as usize > MAX_FOLLOWED {
            let _ = pages.send(Err(anyhow!("the topic has {partitions} partitions by now, {TOO_MANY}"))).await;
            return;
        }
        for partition in known..partitions {
            note(&format!("note: partition {partition} was added, following it too"));
            let lane = Lane { partition, start: FetchStart::Earliest, end: None, awaited: false };
            let (topic, pages) = (topic.clone(), pages.clone());
            let lanes = Mutex::new(VecDeque::from([lane]));
            tokio::spawn(async move { read_lanes(&topic, &lanes, &pages).await });
        }
        known = known.max(partitions);
    }
}

/// Waits until the high watermark of a partition that is followed reaches the offset to begin at; records below it are
/// nobody's business.
async fn until_reached(topic: &Topic, partition: u32, offset: u64, mut watermark: u64) -> Result<()> {
    while watermark < offset {
        // Answered at once if the watermark has moved since.
        let page = topic.fetch(partition, FetchStart::Offset(watermark), 1, FOLLOW_WAIT).await?;
        watermark = page.bounds.map_or(watermark, |bounds| bounds.high_watermark);
    }
    Ok(())
}

/// Reads a partition to its end; `false` if nobody takes the pages any more.
async fn read_lane(topic: &Topic, lane: Lane, pages: &PageSender) -> Result<bool> {
    let wait = if lane.end.is_some() { WAIT } else { FOLLOW_WAIT };
    let mut records = topic.records(lane.partition, lane.start).waiting(wait);
    let mut empty = 0;
    let mut awaited = lane.awaited;
    loop {
        if let (Some(end), Some(position)) = (lane.end, records.position()) {
            if position >= end {
                return Ok(true);
            }
            records.set_max_records(usize::try_from(end - position).unwrap_or(MAX_FETCH_RECORDS));
        }
        let before = records.position();
        let mut page = match records.next_page().await {
            Ok(page) => page,
            Err(error) if error.is(ErrorCode::OffsetExpired) => {
                records = after_trim(topic, lane, &error)?.waiting(wait);
                continue;
            }
            // What was there is gone: to wait for the offset would be to leave out the records that take the place of those.
            Err(error) if error.is(ErrorCode::OffsetOutOfRange) && lane.end.is_none() && !awaited => {
                return Err(got_shorter(before, bound(&error, "high_watermark")?));
            }
            // A follower may begin at an offset that is still to come.
            Err(error) if error.is(ErrorCode::OffsetOutOfRange) && lane.end.is_none() => {
                let watermark = bound(&error, "high_watermark")?;
                until_reached(topic, lane.partition, before.unwrap_or(watermark), watermark).await?;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        awaited = false;
        empty = if before == Some(page.next_offset) && lane.end.is_some() { empty + 1 } else { 0 };
        if empty > MAX_EMPTY_PAGES {
            bail!("the server has records up to its high watermark but sends none from offset {}", page.next_offset);
        }
        if let Some(end) = lane.end.filter(|end| page.next_offset > *end) {
            page = clip(&page, end)?;
        }
        if !page.lines.is_empty() && pages.send(Ok(page)).await.is_err() {
            return Ok(false);
        }
    }
}

/// That the log ends before what was read of it: a start from the bucket with `--restore` does that.
fn got_shorter(next: Option<u64>, watermark: u64) -> anyhow::Error {
    let next = next.map_or_else(|| "the offset to go on at".to_owned(), |next| format!("offset {next}"));
    anyhow!(
        "the log got shorter: {next}, the next one to read, is above its high watermark {watermark}. Records from there on are \
         gone, as after a start from the bucket with --restore, and others take their offsets: --from {watermark} reads those"
    )
}

/// Goes on at the log start after retention trimmed what was to be read next, and says so.
fn after_trim(topic: &Topic, lane: Lane, error: &tidelog_client::Error) -> Result<Records> {
    let start = bound(error, "log_start_offset")?;
    note(&format!("note: partition {} was trimmed, going on at its log start offset {start}", lane.partition));
    Ok(topic.records(lane.partition, FetchStart::Offset(start)))
}

/// A bound that the error names; the error itself if it does not.
fn bound(error: &tidelog_client::Error, name: &str) -> Result<u64> {
    error.details().and_then(|details| details.get(name)?.as_u64()).ok_or_else(|| anyhow!("{error}"))
}

/// The lines of a page below `end`.
fn clip(page: &Page, end: u64) -> Result<Page> {
    #[derive(Deserialize)]
    struct Line {
        offset: u64,
    }
    let mut len = 0;
    for line in page.lines() {
        let Line { offset } = serde_json::from_slice(line).context("a line of the answer is no record")?;
        if offset >= end {
            break;
        }
        len += line.len() + 1;
    }
    Ok(Page { lines: page.lines.slice(..len), next_offset: end, high_watermark: page.high_watermark })
}

async fn print_pages(args: &ConsumeArgs, mut pages: mpsc::Receiver<Result<Page>>) -> Result<()> {
    let mut out = Out::new();
    let mut left = args.limit.unwrap_or(u64::MAX);
    while left > 0 {
        let Some(page) = pages.recv().await else { break };
        let page = page?;
        match (args.output, args.limit) {
            // The lines are passed on as they came: nothing is parsed.
            (ConsumeOutput::Json, None) => out.write(&page.lines)?,
            (output, _) => left -= print_lines(&mut out, &page, output, left)?,
        }
        if args.follow {
            out.flush()?;
        }
    }
    out.finish()
}

/// Prints at most `left` records of a page and says how many.
fn print_lines(out: &mut Out, page: &Page, output: ConsumeOutput, left: u64) -> Result<u64> {
    let mut count = 0;
    for line in page.lines().take(usize::try_from(left).unwrap_or(usize::MAX)) {
        match output {
            ConsumeOutput::Json => out.write(line)?,
            ConsumeOutput::Value => print_value(out, line)?,
        }
        out.write(b"\n")?;
        count += 1;
    }
    Ok(count)
}

/// Prints the value of a record; the null value is an empty line.
fn print_value(out: &mut Out, line: &[u8]) -> Result<()> {
    let record: FetchedRecord = serde_json::from_slice(line).context("a line of the answer is no record")?;
    match (record.value, record.text, record.base64) {
        (Some(json), ..) if json.get() != "null" => out.write(json.get().as_bytes()),
        (_, Some(text), _) => out.write(text.as_bytes()),
        (_, _, Some(base64)) => out.write(&STANDARD.decode(base64).context("a value is no base64")?),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "consume_tests.rs"]
mod tests;
