//! The lowest offset whose timestamp is at least a given one, exactly, although timestamps are not monotonic.
//!
//! Every tier says of each piece the largest timestamp in it: ranges, batches, index intervals and row groups without
//! one that is large enough are skipped unread. What is left is read in offset order, and the first hit is the answer.

use super::objects::Failure;
use super::pieces::{Pieces, tail_batch};
use super::source::Source;
use crate::error::{Error, Result};
use crate::format::batch;
use crate::format::segment::{FrameReader, Seek};
use crate::model::{ObjectId, Offset, Place, StoredBatch, TailRef};
use crate::state::PartitionState;

impl<S: Source> Pieces<'_, S> {
    /// The lowest readable offset of `partition` whose timestamp is at least `timestamp`; `None` if there is none yet.
    pub(super) async fn locate(&self, partition: &PartitionState, timestamp: i64) -> Result<Option<Offset>, Failure> {
        let from = partition.bounds().log_start;
        let late = |max_timestamp| max_timestamp >= timestamp;
        for range in partition.ranges().iter_from(from).filter(|range| late(range.max_timestamp)) {
            let found = match range.place {
                Place::Segment { id, .. } => self.locate_in_segment(id, from, timestamp).await?,
                Place::Archive { file } => {
                    self.locate_in_archive(file, from.max(range.start), range.end, timestamp).await?
                }
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        for place in partition.tail_from(from).filter(|place| late(place.max_timestamp)) {
            let found = self.locate_in_tail(place, from, timestamp).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    async fn locate_in_tail(&self, place: &TailRef, from: Offset, timestamp: i64) -> Result<Option<Offset>, Failure> {
        let index = place.log_index;
        let gone = || Failure::Gone(Error::internal(format!("the log has no entry {index} that the tail names")));
        let entry = self.source.read_entry(index).await?.ok_or_else(gone)?;
        Ok(locate_in_batch(&tail_batch(place, &entry)?, from, timestamp)?)
    }

    async fn locate_in_segment(&self, id: ObjectId, from: Offset, timestamp: i64) -> Result<Option<Offset>, Failure> {
        let unnamed = || Error::internal(format!("segment {id} has a live range and is not live"));
        let info = &self.view.segment(id).ok_or_else(unnamed)?.info;
        let footer = self.objects.footer(info).await?;
        let lacks = || Error::corrupt(format!("segment {id} lacks {}", self.partition));
        let range = footer.range(self.partition).ok_or_else(lacks)?;
        let Some(by_time) = footer.position_of_timestamp(self.partition, timestamp) else { return Ok(None) };
        // What is below the log start is no answer, however late.
        let by_start = footer.position_of(self.partition, from);
        let seek: Seek = by_start.filter(|by_start| by_start.offset > by_time.offset).unwrap_or(by_time);
        let mut reader = FrameReader::new(range, seek);
        loop {
            match reader.next()? {
                Some(batch) => {
                    if batch.max_timestamp >= timestamp
                        && let Some(offset) = locate_in_batch(&batch, from, timestamp)?
                    {
                        return Ok(Some(offset));
                    }
                }
                None => match reader.needs() {
                    Some(index) => reader.feed(&self.objects.block(info, index, &(index..index)).await?)?,
                    None => return Ok(None),
                },
            }
        }
    }

    async fn locate_in_archive(
        &self,
        file: ObjectId,
        from: Offset,
        to: Offset,
        timestamp: i64,
    ) -> Result<Option<Offset>, Failure> {
        let object = self.archive_object(file)?;
        let reader = self.objects.archive(&object).await?;
        let Some(first) = reader.group_at(self.partition.partition, from) else { return Ok(None) };
        let groups = reader.groups().iter().enumerate().skip(first);
        let ours = groups.take_while(|(_, group)| group.partition == self.partition.partition && group.start < to);
        for (index, _) in ours.filter(|(_, group)| group.max_timestamp >= timestamp) {
            let found = self.objects.offset_of_timestamp(&object, &reader, index, (from, timestamp)).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

/// The lowest offset in `batch` at or above `from` whose timestamp is at least `timestamp`.
fn locate_in_batch(stored: &StoredBatch, from: Offset, timestamp: i64) -> Result<Option<Offset>> {
    let open = batch::open(stored)?;
    for record in open.records() {
        let record = record.map_err(batch::BatchError::into_corrupt)?;
        let offset = stored.base_offset + u64::from(record.index);
        if offset >= from && record.timestamp >= timestamp {
            return Ok(Some(offset));
        }
    }
    Ok(None)
}
