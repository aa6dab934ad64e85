//! Reads one piece of a plan from the tier that has it.

use std::ops::Range;
use std::sync::Arc;

use ::metrics::counter;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;

use super::objects::{ArchiveObject, Failure, Objects};
use super::plan::{Piece, Source as Tier};
use super::runs;
use super::source::Source;
use crate::error::{Error, Result};
use crate::format::segment::{self, FrameReader};
use crate::metrics::FETCH_PIECES;
use crate::model::{Chunk, LogIndex, ObjectId, SegmentInfo, SegmentRange, StoredBatch, TailRef, Topic, TopicPartition};
use crate::state::State;

/// Log entries and blocks of one piece that are read at a time.
const READ_AHEAD: usize = 4;
/// Ranges of a segment below this are copied out of its blocks, and a batch of the tail is copied if its entry is this many
/// times as long: a page must not keep in memory many times its own bytes.
const COPY_RANGE_BYTES: u64 = 256 << 10;
const COPY_ENTRY_SHARE: usize = 4;

/// Rows of an archive file that are decoded at a time, at least.
const LEAST_ROWS: u64 = 64;

/// What a piece gave: chunks that go on one after another from its first offset, and why there are no more, if that is
/// not because it ended or its budget was reached.
#[derive(Debug, Default)]
pub(super) struct PieceRead {
    pub(super) chunks: Vec<Chunk>,
    pub(super) failure: Option<Failure>,
}

/// What pieces are read with.
pub(super) struct Pieces<'a, S> {
    pub(super) source: &'a S,
    pub(super) objects: &'a Objects,
    pub(super) view: &'a State,
    pub(super) topic: &'a Arc<Topic>,
    pub(super) partition: TopicPartition,
    /// The reader goes on where another page ended, and will go on after this one.
    pub(super) follows: bool,
}

impl<S: Source> Pieces<'_, S> {
    /// Reads `piece`.
    pub(super) async fn read(&self, piece: &Piece) -> PieceRead {
        let mut chunks = Vec::new();
        let (tier, read) = match &piece.source {
            Tier::Tail(refs) => ("tail", self.tail(refs, &mut chunks).await),
            Tier::Segment(id) => ("segment", self.segment(*id, piece, &mut chunks).await),
            Tier::Archive(file) => ("archive", self.archive(*file, piece, &mut chunks).await),
        };
        counter!(FETCH_PIECES, "tier" => tier).increment(1);
        PieceRead { chunks, failure: read.err() }
    }

    async fn tail(&self, refs: &[TailRef], chunks: &mut Vec<Chunk>) -> Result<(), Failure> {
        // Neighbours often share an entry: it is read once.
        let groups = || refs.chunk_by(|one, next| one.log_index == next.log_index);
        let indexes: Vec<LogIndex> = groups().map(|group| group[0].log_index).collect();
        let mut entries =
            stream::iter(indexes).map(|index| async move { self.source.read_entry(index).await }).buffered(READ_AHEAD);
        for group in groups() {
            let index = group[0].log_index;
            let gone = || Failure::Gone(Error::internal(format!("the log has no entry {index} that the tail names")));
            let Some(entry) = entries.next().await else { break };
            let entry = entry?.ok_or_else(gone)?;
            for place in group {
                chunks.push(Chunk::Batch(tail_batch(place, &entry)?));
            }
        }
        Ok(())
    }

    async fn segment(&self, id: ObjectId, piece: &Piece, chunks: &mut Vec<Chunk>) -> Result<(), Failure> {
        let unnamed = || Error::internal(format!("segment {id} has a live range and is not live"));
        let info = &self.view.segment(id).ok_or_else(unnamed)?.info;
        let footer = self.objects.footer(info).await?;
        let lacks = || Error::corrupt(format!("segment {id} lacks offset {} of {}", piece.from, self.partition));
        let range = footer.range(self.partition).ok_or_else(lacks)?;
        let seek = footer.position_of(self.partition, piece.from).ok_or_else(lacks)?;
        // An interval of the index may lie before the first batch that is wanted.
        let wanted = piece.budget.saturating_add(segment::INDEX_INTERVAL_BYTES);
        let end = seek.position.saturating_add(wanted).min(range.position + range.len);
        let wanted = segment::blocks(seek.position, end);
        let block = |index| {
            let run = if self.follows { along(index, range, info) } else { wanted.clone() };
            async move { self.objects.block(info, index, &run).await }
        };
        let mut blocks = stream::iter(wanted.clone()).map(block).buffered(READ_AHEAD);
        let mut reader = FrameReader::new(range, seek);
        let mut bytes = 0;
        while bytes < piece.budget {
            let Some(mut batch) = reader.next()? else {
                let Some(index) = reader.needs() else { break };
                let payload = match blocks.next().await {
                    Some(payload) => payload?,
                    // The last batch goes on beyond what was expected.
                    None => self.objects.block(info, index, &(index..index)).await?,
                };
                reader.feed(&payload)?;
                continue;
            };
            if batch.base_offset >= piece.to {
                break;
            }
            if batch.end_offset() <= piece.from {
                continue;
            }
            bytes += batch.bytes.len() as u64;
            if range.len < COPY_RANGE_BYTES {
                batch.bytes = Bytes::copy_from_slice(&batch.bytes);
            }
            chunks.push(Chunk::Batch(batch));
        }
        Ok(())
    }

    async fn archive(&self, file: ObjectId, piece: &Piece, chunks: &mut Vec<Chunk>) -> Result<(), Failure> {
        let object = self.archive_object(file)?;
        let reader = self.objects.archive(&object).await?;
        let (mut offset, mut bytes) = (piece.from, 0);
        while offset < piece.to && bytes < piece.budget {
            let lacks = || Error::corrupt(format!("archive file {file} lacks offset {offset} of {}", self.partition));
            let group = reader.group_at(self.partition.partition, offset).ok_or_else(lacks)?;
            // Not all that the group has left: a page is an eighth of a group, and what it cannot take would be decoded again.
            let rows = reader.rows_within(group, piece.budget - bytes).max(LEAST_ROWS);
            let end = reader.groups()[group].end.min(piece.to).min(offset.saturating_add(rows));
            let records = self.objects.records(&object, &reader, group, offset..end).await?;
            bytes += records.iter().map(|record| record.record.payload_len() as u64).sum::<u64>();
            chunks.push(Chunk::Records(records));
            offset = end;
        }
        Ok(())
    }

    /// What is needed to read archive file `file`.
    pub(super) fn archive_object(&self, file: ObjectId) -> Result<ArchiveObject> {
        let unnamed = || Error::internal(format!("archive file {file} has a live range and is not live"));
        let live = self.view.file(self.partition.topic, file).ok_or_else(unnamed)?;
        Ok(ArchiveObject { topic: Arc::clone(self.topic), file: live.file.clone() })
    }
}

/// The blocks that are to come with block `index` to a reader who goes on over a partition's `range` of a segment.
pub(super) fn along(index: u32, range: &SegmentRange, info: &SegmentInfo) -> Range<u32> {
    let own = segment::blocks(range.position, range.position.saturating_add(range.len));
    runs::along(index, &own, segment::block_count(info.footer_start))
}

/// The batch that `place` names, out of its entry.
pub(super) fn tail_batch(place: &TailRef, entry: &Bytes) -> Result<StoredBatch> {
    let (start, len) = (place.position as usize, place.len as usize);
    let end = start.checked_add(len).filter(|end| *end <= entry.len());
    let damaged = || Error::corrupt(format!("log entry {} is shorter than the state says", place.log_index));
    let bytes = entry.slice(start..end.ok_or_else(damaged)?);
    let bytes = if len * COPY_ENTRY_SHARE < entry.len() { Bytes::copy_from_slice(&bytes) } else { bytes };
    Ok(StoredBatch {
        base_offset: place.base_offset,
        count: place.count,
        max_timestamp: place.max_timestamp,
        append_time: place.append_time,
        bytes,
    })
}
