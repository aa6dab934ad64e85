//! What a run tells while it goes on and at its end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use tidelog_api::produce::ProduceResponse;

use super::cut::Cut;
use super::send::Sender;
use crate::args::ProduceArgs;
use crate::input::Extent;
use crate::output::{self, grouped};

const REDRAWS_PER_SECOND: u8 = 8;

/// What was acknowledged.
#[derive(Debug, Clone, Default)]
pub(super) struct Sent {
    /// Records acknowledged by this run.
    pub records: u64,
    /// Bytes of requests that carried them.
    pub bytes: u64,
    /// Rows that an earlier run had written.
    pub skipped: u64,
    /// Requests whose first attempt had been written although its answer got lost.
    pub duplicates: u64,
    /// By partition: records, first and last offset.
    pub partitions: BTreeMap<u32, (u64, Option<u64>, Option<u64>)>,
}

/// A bar on standard error if that is a terminal, and the counts for the summary.
pub(super) struct Progress {
    bar: ProgressBar,
    extent: Extent,
    read: Arc<AtomicU64>,
    sent: Mutex<Sent>,
}

impl Progress {
    pub(super) fn new(extent: Extent, read: Arc<AtomicU64>, quiet: bool) -> Self {
        let target =
            if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND) };
        let (len, template) = match extent {
            Extent::Bytes(len) => (Some(len), "{bar:30} {percent:>3}%  {msg}  {elapsed} elapsed, {eta} left"),
            Extent::Rows(len) => (Some(len), "{bar:30} {percent:>3}%  {msg}  {elapsed} elapsed, {eta} left"),
            Extent::Unknown => (None, "{spinner} {msg}  {elapsed} elapsed"),
        };
        let bar = ProgressBar::with_draw_target(len, target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, extent, read, sent: Mutex::default() }
    }

    /// A batch was acknowledged.
    pub(super) fn acknowledged(&self, cut: &Cut, answer: &ProduceResponse) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.records += u64::from(cut.batch.count);
        sent.bytes += cut.batch.lines.len() as u64;
        sent.duplicates += u64::from(answer.duplicate);
        let places = answer.records.as_deref().unwrap_or_default();
        let partition = sent.partitions.entry(cut.partition).or_default();
        partition.0 += u64::from(cut.batch.count);
        partition.1 = partition.1.or(places.first().map(|place| place.offset));
        partition.2 = places.last().map(|place| place.offset).or(partition.2);
        self.draw(&sent);
    }

    /// So many rows were left out by now.
    pub(super) fn skipped(&self, count: u64) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.skipped = count;
        self.draw(&sent);
    }

    fn draw(&self, sent: &Sent) {
        let seconds = self.bar.elapsed().as_secs_f64().max(0.001);
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            clippy::cast_possible_truncation,
            reason = "a rate"
        )]
        let rate = (sent.records as f64 / seconds) as u64;
        self.bar.set_message(format!("{} records, {}/s", grouped(sent.records + sent.skipped), grouped(rate)));
        self.bar.set_position(match self.extent {
            Extent::Rows(_) => sent.records + sent.skipped,
            Extent::Bytes(_) | Extent::Unknown => self.read.load(Ordering::Relaxed),
        });
    }

    /// Removes the bar.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// The counts.
    pub(super) fn sent(&self) -> Sent {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Prints the one line, or the one object, that says what was done.
pub(super) fn summary(args: &ProduceArgs, sent: &Sent, sender: &Sender, elapsed: Duration) -> Result<()> {
    let seconds = elapsed.as_secs_f64();
    if args.remote.json {
        let partitions: Vec<_> = sent
            .partitions
            .iter()
            .map(|(partition, (records, first, last))| {
                json!({"partition": partition, "records": records, "first_offset": first, "last_offset": last})
            })
            .collect();
        let producer = sender.producer().map(|(id, epoch)| json!({"producer_id": id, "epoch": epoch}));
        return output::json(&json!({
            "topic": args.topic, "records": sent.records, "skipped": sent.skipped, "bytes": sent.bytes,
            "duplicate_requests": sent.duplicates, "seconds": seconds, "producer": producer, "partitions": partitions,
        }));
    }
    #[allow(clippy::cast_precision_loss, clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "a rate")]
    let rate = (sent.records as f64 / seconds.max(0.001)) as u64;
    let skipped = if sent.skipped > 0 || args.resume {
        format!(" after {} of an earlier run", grouped(sent.skipped))
    } else {
        String::new()
    };
    output::line(&format!(
        "produced {} records to {}{skipped} in {seconds:.1} s ({}/s)",
        grouped(sent.records),
        args.topic,
        grouped(rate)
    ))
}
