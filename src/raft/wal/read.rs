//! Reading the log: by openraft for applying and replicating, and by fetches whose batches left the tail cache.
//!
//! Reads are limited in bytes, and what is in no cache is read one entry at a time on a blocking thread without holding
//! the log's lock: a reader of old entries is never in the way of an append.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use futures::Stream;
use openraft::storage::RaftLogReader;
use openraft::{Entry, OptionalSend};

use super::codec::{WalLogId, WalPayload, invalid};
use super::frame::{self, Record};
use super::log::{OnDisk, Source};
use super::store::Shared;
use crate::blocking;
use crate::disk::File;
use crate::raft::types::{LogEntry, TypeConfig, Vote};

/// Payload bytes that one read returns at most, its first entry excepted.
pub(crate) const READ_BYTES: u64 = 4 * 1024 * 1024;

/// Reads a shard's log; clones share it.
#[derive(Clone)]
pub(crate) struct LogReader {
    pub(super) shared: Arc<Shared>,
}

impl LogReader {
    /// Entry `index`; `None` if the log does not have it, or has it no more.
    pub(crate) async fn entry(&self, index: u64) -> io::Result<Option<(WalLogId, WalPayload)>> {
        if let Some(found) = self.shared.tail.get(index) {
            return Ok(Some(found));
        }
        match self.core().source(index)? {
            None => Ok(None),
            Some(Source::Memory(id, payload)) => Ok(Some((id, payload))),
            Some(Source::Disk(at)) => {
                let read = blocking::spawn(move || read_entry(&at, index)).await;
                match read.map_err(io::Error::other)? {
                    Ok(found) => Ok(Some(found)),
                    // The file went with a purge between the two steps, or holds another part of the log now.
                    Err(_) if self.core().read(|tip| Ok(tip.place(index).is_none()))? => Ok(None),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Entries from `start` on, before `end`, of at most [`READ_BYTES`] together, but at least one if there is one.
    pub(crate) async fn entries(&self, start: u64, end: u64) -> io::Result<Vec<LogEntry>> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        for index in start..end {
            let Some((id, payload)) = self.entry(index).await? else { break };
            bytes += payload.charge();
            if bytes > READ_BYTES && !entries.is_empty() {
                break;
            }
            entries.push(Entry { log_id: id.into(), payload: payload.try_into()? });
        }
        Ok(entries)
    }
}

fn read_entry(at: &OnDisk, index: u64) -> io::Result<(WalLogId, WalPayload)> {
    let mut bytes = vec![0; at.len as usize];
    File::open(&at.path)?.read_exact_at(&mut bytes, at.at)?;
    let damaged = |why: String| invalid(format!("entry {index} in {} at byte {}: {why}", at.path.display(), at.at));
    match frame::read(bytes.into(), at.chain, at.offset) {
        Ok(Record::Entry(id, payload)) if id.index == index => Ok((id, payload)),
        Ok(_) => Err(damaged("another record is there".to_owned())),
        Err(error) => Err(damaged(error.to_string())),
    }
}

/// `[start, end)` of a range of indices.
fn half_open<R: RangeBounds<u64>>(range: &R) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<TypeConfig> for LogReader {
    /// All of the range: openraft asks for 64 entries at most, and only at start-up for more than a few.
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<LogEntry>, io::Error> {
        let (start, end) = half_open(&range);
        // A range may begin before the log does.
        let start = start.max(self.core().read(|tip| Ok(tip.first_index()))?.unwrap_or(start));
        let mut entries: Vec<LogEntry> = Vec::new();
        while start + (entries.len() as u64) < end {
            let more = self.entries(start + entries.len() as u64, end).await?;
            if more.is_empty() {
                break;
            }
            entries.extend(more);
        }
        Ok(entries)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.core().read(|tip| Ok(tip.state().vote.map(|vote| vote.0)))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<LogEntry>, io::Error> {
        self.entries(start, end).await
    }

    /// A few megabytes at a time, whatever the range: the default would hold all of it in memory.
    async fn entries_stream<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> impl Stream<Item = Result<LogEntry, io::Error>> + OptionalSend {
        let (start, end) = half_open(&range);
        let reader = self.clone();
        futures::stream::try_unfold((reader, VecDeque::new(), start), move |(reader, mut ready, next)| async move {
            if next >= end {
                return Ok(None);
            }
            if ready.is_empty() {
                ready = reader.entries(next, end).await?.into();
            }
            match ready.pop_front() {
                Some(entry) => Ok(Some((entry, (reader, ready, next + 1)))),
                None if reader.core().read(|tip| Ok(tip.state().last))?.is_none_or(|last| last.index < next) => {
                    Ok(None)
                }
                // Ending here would leave a committed entry out.
                None => Err(invalid(format!("entry {next} is not in the log"))),
            }
        })
    }
}
