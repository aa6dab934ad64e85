//! Reading the log: by openraft for applying and replicating, and by fetches whose batches left the tail cache.
//!
//! Reads are limited in bytes, and what is in no cache is read on a blocking thread without holding the log's lock: a reader
//! of old entries is never in the way of an append. Neighbouring entries are read from their file at once, each verified.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;
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
        Ok(self.stretch(index, index.saturating_add(1), 0).await?.pop_front())
    }

    /// Entries from `start` on, before `end`, of at most [`READ_BYTES`] together, but at least one if there is one.
    pub(crate) async fn entries(&self, start: u64, end: u64) -> io::Result<Vec<LogEntry>> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut ready = VecDeque::new();
        for index in start..end {
            if ready.is_empty() {
                match self.stretch(index, end, READ_BYTES.saturating_sub(bytes)).await {
                    Ok(stretch) => ready = stretch,
                    // Whoever asks for this one is told; those before it are whole.
                    Err(_) if !entries.is_empty() => break,
                    Err(error) => return Err(error),
                }
            }
            let Some((id, payload)) = ready.pop_front() else { break };
            bytes += payload.charge();
            if bytes > READ_BYTES && !entries.is_empty() {
                break;
            }
            entries.push(Entry { log_id: id.into(), payload: payload.try_into()? });
        }
        Ok(entries)
    }

    /// Entry `index`, if the log has it, and as many of those that follow it before `end` as are had at the same price: of
    /// `bytes` together.
    async fn stretch(&self, index: u64, end: u64, bytes: u64) -> io::Result<VecDeque<(WalLogId, WalPayload)>> {
        if let Some(found) = self.shared.tail.get(index) {
            return Ok(VecDeque::from([found]));
        }
        // What the cache has is had from there.
        let end = self.shared.tail.first().filter(|first| *first > index).map_or(end, |first| first.min(end));
        match self.core().source(index, end, bytes)? {
            None => Ok(VecDeque::new()),
            Some(Source::Memory(id, payload)) => Ok(VecDeque::from([(id, payload)])),
            Some(Source::Disk(at)) => {
                let read = blocking::spawn(move || read_entries(&at)).await;
                match read.map_err(io::Error::other)? {
                    Ok(found) => Ok(found),
                    // The file went with a purge between the two steps, or holds another part of the log now.
                    Err(_) if self.core().read(|tip| Ok(tip.place(index).is_none()))? => Ok(VecDeque::new()),
                    Err(error) => Err(error),
                }
            }
        }
    }
}

/// Reads the entries at `at`, all of them or those before one that is damaged; an error if that is the first.
fn read_entries(at: &OnDisk) -> io::Result<VecDeque<(WalLogId, WalPayload)>> {
    let mut entries = VecDeque::with_capacity(at.places.len());
    let (Some(first), Some(last)) = (at.places.first(), at.places.last()) else { return Ok(entries) };
    let len = last.offset + u64::from(last.len) - first.offset;
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    File::open(&at.path)?.read_exact_at(&mut bytes, at.at(first.offset))?;
    let bytes = Bytes::from(bytes);
    for (place, index) in at.places.iter().zip(at.first..) {
        let begin = usize::try_from(place.offset - first.offset).map_err(io::Error::other)?;
        let frame = bytes.slice(begin..begin + place.len as usize);
        let why = match frame::read(frame, place.chain, place.offset) {
            Ok(Record::Entry(id, payload)) if id.index == index => {
                entries.push_back((id, payload));
                continue;
            }
            Ok(_) => "another record is there".to_owned(),
            Err(error) => error.to_string(),
        };
        if entries.is_empty() {
            let (path, at) = (at.path.display(), at.at(place.offset));
            return Err(invalid(format!("entry {index} in {path} at byte {at}: {why}")));
        }
        break;
    }
    Ok(entries)
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
