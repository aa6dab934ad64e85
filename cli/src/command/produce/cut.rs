//! Rows to batches: one blocking thread parses, chooses the partition and leaves out what an earlier run wrote.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tidelog_api::limits::MAX_RECORDS;
use tidelog_client::{Batch, SEQUENCE_MODULUS, partition_of};
use tokio::sync::mpsc;

use crate::input::{Row, RowSource, ValueKind};

/// Bytes at which a batch is sent.
const BATCH_LEN: usize = 1 << 20;
/// Bytes that the unsent batches of all partitions may hold together, about.
const OPEN_LEN: usize = 64 << 20;
/// Rows without a key that go to one partition before the next one's turn. Part of what `identity::VERSION` stands for.
const STICKY_ROWS: u64 = 1_000;
/// How long a row of a pipe waits for others.
const LINGER: Duration = Duration::from_millis(100);
/// Batches between the thread and the sender: the sender has its own, larger bound.
const READY: usize = 4;

/// A batch of one partition.
#[derive(Debug)]
pub(super) struct Cut {
    pub partition: u32,
    pub batch: Batch,
    /// The row of the input that each record came from, from 0.
    pub rows: Vec<u64>,
}

/// What the thread tells the sender.
#[derive(Debug)]
pub(super) enum Step {
    /// The next batch of its partition.
    Batch(Cut),
    /// Rows were left out because an earlier run wrote them; how many in all.
    Skipped(u64),
}

/// The last record that an earlier run wrote to a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Last {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

impl Last {
    /// Whether the row would be written as this record.
    fn is(&self, row: &Row) -> bool {
        let value = match row.kind {
            ValueKind::Json => Some(row.value.trim_ascii()).filter(|value| *value != b"null"),
            ValueKind::Text | ValueKind::Binary => Some(row.value.as_slice()),
        };
        self.key.as_deref() == row.has_key.then_some(row.key.as_bytes()) && self.value.as_deref() == value
    }
}

/// Chooses partitions and fills batches.
pub(super) struct Cutter {
    partitions: u32,
    fixed: Option<u32>,
    /// Rows of each partition that are still to be left out.
    skip: HashMap<u32, u64>,
    /// What the last of those has to be.
    last: HashMap<u32, Last>,
    skipped: u64,
    written: HashMap<u32, u64>,
    open: HashMap<u32, Open>,
    batch_len: usize,
    limit: u64,
    /// Rows seen.
    rows: u64,
    /// Rows without a key seen.
    keyless: u64,
}

#[derive(Default)]
struct Open {
    lines: Vec<u8>,
    rows: Vec<u64>,
}

impl Cutter {
    /// `written`: records of each partition that an earlier run wrote.
    pub(super) fn new(partitions: u32, fixed: Option<u32>, written: HashMap<u32, u64>, limit: Option<u64>) -> Self {
        let batch_len = (OPEN_LEN / partitions.max(1) as usize).clamp(16 << 10, BATCH_LEN);
        Self {
            partitions,
            fixed,
            skip: written.clone(),
            last: HashMap::new(),
            skipped: 0,
            written,
            open: HashMap::new(),
            batch_len,
            limit: limit.unwrap_or(u64::MAX),
            rows: 0,
            keyless: 0,
        }
    }

    /// The last row that is left out of each partition has to be this record, as far as it is known: an input that was changed
    /// before it has others in other places.
    pub(super) fn ending_with(mut self, last: HashMap<u32, Last>) -> Self {
        self.last = last;
        self
    }

    fn is_full(&self) -> bool {
        self.rows >= self.limit
    }

    fn partition(&mut self, row: &Row) -> u32 {
        if let Some(fixed) = self.fixed {
            return fixed;
        }
        if row.has_key {
            return partition_of(row.key.as_bytes(), self.partitions);
        }
        let turn = self.keyless / STICKY_ROWS;
        self.keyless += 1;
        u32::try_from(turn % u64::from(self.partitions)).unwrap_or(0)
    }

    /// Takes a row; gives the batch that it filled.
    fn push(&mut self, row: &Row) -> Result<Option<Cut>> {
        let number = self.rows;
        self.rows += 1;
        let partition = self.partition(row);
        if let Some(left) = self.skip.get_mut(&partition).filter(|left| **left > 0) {
            *left -= 1;
            self.skipped += 1;
            if *left == 0 && self.last.get(&partition).is_some_and(|last| !last.is(row)) {
                bail!(
                    "record {} of the input is not the one that the run to resume wrote: the input has changed since",
                    number + 1
                );
            }
            return Ok(None);
        }
        let written = self.written.entry(partition).or_default();
        *written += 1;
        if *written >= SEQUENCE_MODULUS {
            bail!("partition {partition} would get more records of one run than a producer can count: split the input");
        }
        let open = self.open.entry(partition).or_default();
        push_line(&mut open.lines, row)?;
        open.rows.push(number);
        let full = open.lines.len() >= self.batch_len || open.rows.len() >= MAX_RECORDS;
        Ok(if full { self.take(partition) } else { None })
    }

    fn take(&mut self, partition: u32) -> Option<Cut> {
        let open = self.open.get_mut(&partition).filter(|open| !open.rows.is_empty())?;
        let lines = std::mem::replace(&mut open.lines, Vec::with_capacity(self.batch_len + (self.batch_len >> 3)));
        let rows = std::mem::take(&mut open.rows);
        let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        Some(Cut { partition, batch: Batch { lines: lines.into(), count }, rows })
    }

    fn open_partitions(&self) -> Vec<u32> {
        self.open.iter().filter(|(_, open)| !open.rows.is_empty()).map(|(partition, _)| *partition).collect()
    }

    /// Refuses an input that is shorter than what an earlier run read of it.
    fn finish(&self) -> Result<()> {
        if self.skip.values().any(|left| *left > 0) && !self.is_full() {
            bail!("the input has fewer records than the run to resume has written: it is not the same input");
        }
        Ok(())
    }
}

/// Appends the row as a line of a produce request.
fn push_line(lines: &mut Vec<u8>, row: &Row) -> Result<()> {
    lines.push(b'{');
    if row.has_key {
        lines.extend_from_slice(b"\"key\":");
        serde_json::to_writer(&mut *lines, &row.key)?;
        lines.push(b',');
    }
    match row.kind {
        ValueKind::Json => {
            lines.extend_from_slice(b"\"value\":");
            lines.extend_from_slice(&row.value);
        }
        ValueKind::Text => {
            lines.extend_from_slice(b"\"text\":");
            serde_json::to_writer(&mut *lines, std::str::from_utf8(&row.value)?)?;
        }
        ValueKind::Binary => {
            lines.extend_from_slice(b"\"base64\":\"");
            lines.extend_from_slice(STANDARD.encode(&row.value).as_bytes());
            lines.push(b'"');
        }
    }
    lines.extend_from_slice(b"}\n");
    Ok(())
}

/// Starts the thread. An `interactive` input is not waited for: what has come of it is sent after [`LINGER`].
pub(super) fn spawn(
    mut rows: Box<dyn RowSource>,
    cutter: Cutter,
    interactive: bool,
    stop: Arc<AtomicBool>,
) -> mpsc::Receiver<Result<Step>> {
    let (sender, receiver) = mpsc::channel(READY);
    let cutter = Arc::new(Mutex::new(cutter));
    if interactive {
        tokio::spawn(send_lingering(Arc::clone(&cutter), sender.clone(), Arc::clone(&stop)));
    }
    tokio::task::spawn_blocking(move || {
        let result = read_all(rows.as_mut(), &cutter, &sender, &stop);
        stop.store(true, Ordering::Relaxed);
        if let Err(error) = result {
            // A closed channel means that the sender failed first: its error is the one to report.
            let _ = sender.blocking_send(Err(error));
        }
    });
    receiver
}

type Ready = mpsc::Sender<Result<Step>>;

fn read_all(rows: &mut dyn RowSource, cutter: &Mutex<Cutter>, ready: &Ready, stop: &AtomicBool) -> Result<()> {
    let mut row = Row::default();
    let mut reported = 0;
    while !stop.load(Ordering::Relaxed) && rows.next(&mut row)? {
        // The lock is held while a batch waits for its place, so that batches of a partition stay in order.
        let mut cutter = cutter.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cut) = cutter.push(&row)?
            && ready.blocking_send(Ok(Step::Batch(cut))).is_err()
        {
            return Ok(());
        }
        if cutter.skipped >= reported + STICKY_ROWS {
            reported = cutter.skipped;
            let _ = ready.blocking_send(Ok(Step::Skipped(reported)));
        }
        if cutter.is_full() {
            break;
        }
    }
    let mut cutter = cutter.lock().unwrap_or_else(PoisonError::into_inner);
    cutter.finish()?;
    let _ = ready.blocking_send(Ok(Step::Skipped(cutter.skipped)));
    for partition in cutter.open_partitions() {
        if let Some(cut) = cutter.take(partition)
            && ready.blocking_send(Ok(Step::Batch(cut))).is_err()
        {
            break;
        }
    }
    Ok(())
}

/// Sends what a pipe has given so far, as long as the thread waits for more.
async fn send_lingering(cutter: Arc<Mutex<Cutter>>, ready: Ready, stop: Arc<AtomicBool>) {
    let mut ticks = tokio::time::interval(LINGER);
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        // A held lock means that the thread is at work and fills batches by itself.
        let Ok(mut cutter) = cutter.try_lock() else { continue };
        for partition in cutter.open_partitions() {
            let Ok(place) = ready.try_reserve() else { break };
            if let Some(cut) = cutter.take(partition) {
                place.send(Ok(Step::Batch(cut)));
            }
        }
    }
}

#[cfg(test)]
#[path = "cut_tests.rs"]
mod tests;
