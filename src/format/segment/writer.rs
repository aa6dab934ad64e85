//! Building a segment.

use bytes::Bytes;

use super::block::{self, PAYLOAD_BYTES};
use super::footer::{Body, Footer, RangeBuilder, SegmentTopic};
use super::{BLOCK_BYTES, FRAME_HEADER_LEN, HEADER_LEN, HEADER_MAGIC, VERSION};
use crate::error::{Error, Result};
use crate::format::batch;
use crate::model::{LogTime, ObjectId, SegmentInfo, SegmentRange, StoredBatch, Topic, TopicPartition};

/// The size at which a flush begins the next segment.
pub const TARGET_BYTES: u64 = 16 << 20;

/// A segment in the making: takes batches in order and seals blocks as they fill. Each byte is copied once.
#[derive(Debug)]
pub struct SegmentWriter {
    id: ObjectId,
    sealed: Vec<Bytes>,
    /// The logical bytes of the block in the making.
    open: Vec<u8>,
    body: Body,
    range: Option<RangeBuilder>,
}

/// A whole segment.
#[derive(Debug, Clone)]
pub struct FinishedSegment {
    /// The object: its blocks, then its footer.
    pub bytes: Vec<Bytes>,
    /// What the table of live segments keeps.
    pub info: SegmentInfo,
    /// What it holds, by partition.
    pub ranges: Vec<SegmentRange>,
}

impl SegmentWriter {
    /// An empty segment that will be named `id`.
    #[must_use]
    pub fn new(id: ObjectId) -> Self {
        let body =
            Body { min_append_time: LogTime::MAX, max_append_time: 0, topics: Vec::new(), partitions: Vec::new() };
        let mut writer = Self { id, sealed: Vec::new(), open: Vec::new(), body, range: None };
        writer.put(&header(id));
        writer
    }

    /// Bytes of the object so far, without the footer.
    #[must_use]
    pub fn len(&self) -> u64 {
        block::physical_len(self.position())
    }

    /// Whether it holds no batch.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.range.is_none()
    }

    /// Adds the next batch of `partition` of `topic`. Batches come sorted by topic id, partition and offset, and those of
    /// one partition are contiguous. The batch's CRC is verified, so that bad bytes do not spread into the bucket.
    ///
    /// # Errors
    /// `corrupt` if the batch is damaged or not what it is said to be; `internal` if it is out of order.
    pub fn push(&mut self, topic: &Topic, partition: u32, batch: &StoredBatch) -> Result<()> {
        batch::verify(batch)?;
        let partition = TopicPartition::new(topic.id, partition);
        self.turn_to(topic, partition, batch)?;
        let mut frame = [0; FRAME_HEADER_LEN];
        frame[..8].copy_from_slice(&batch.base_offset.to_le_bytes());
        frame[8..16].copy_from_slice(&batch.append_time.to_le_bytes());
        // A verified batch is shorter than 4 GiB: its header says so in 32 bits.
        frame[16..].copy_from_slice(&(batch.bytes.len() as u32).to_le_bytes());
        self.put(&frame);
        self.put(&batch.bytes);
        if let Some(range) = &mut self.range {
            range.add(batch);
        }
        self.body.min_append_time = self.body.min_append_time.min(batch.append_time);
        self.body.max_append_time = self.body.max_append_time.max(batch.append_time);
        Ok(())
    }

    /// Seals the last block and adds the footer.
    ///
    /// # Errors
    /// `internal` if there is no batch.
    pub fn finish(mut self) -> Result<FinishedSegment> {
        let logical_end = self.position();
        let last = self.range.take().ok_or_else(|| Error::internal("a segment of no batches"))?;
        self.body.partitions.push(last.finish());
        if !self.open.is_empty() {
            self.seal_open();
        }
        let footer = Bytes::from(self.body.encode(self.id)?);
        let info = *Footer::new(self.id, self.body.clone(), logical_end, footer.len() as u64).info();
        self.sealed.push(footer);
        let ranges = self.body.partitions.iter().map(|partition| partition.range).collect();
        Ok(FinishedSegment { bytes: self.sealed, info, ranges })
    }

    /// Makes `partition` the current one and checks that `batch` is its next.
    fn turn_to(&mut self, topic: &Topic, partition: TopicPartition, batch: &StoredBatch) -> Result<()> {
        let position = self.position();
        match &self.range {
            Some(current) if current.range().partition == partition => {
                if current.range().end != batch.base_offset {
                    return Err(Error::internal(format!("the batches of {partition} in a segment are not contiguous")));
                }
                return Ok(());
            }
            Some(current) if current.range().partition > partition => {
                return Err(Error::internal("the batches of a segment are not sorted by partition"));
            }
            _ => {}
        }
        let finished = self.range.replace(RangeBuilder::new(partition, position, batch));
        self.body.partitions.extend(finished.map(RangeBuilder::finish));
        if self.body.topics.last().is_none_or(|last| last.id != topic.id) {
            self.body.topics.push(SegmentTopic::of(topic));
        }
        Ok(())
    }

    /// The logical position of the next byte.
    fn position(&self) -> u64 {
        (self.sealed.len() * PAYLOAD_BYTES + self.open.len()) as u64
    }

    fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.open.capacity() == 0 {
                self.open.reserve_exact(BLOCK_BYTES);
            }
            let room = PAYLOAD_BYTES - self.open.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.open.extend_from_slice(now);
            bytes = later;
            if self.open.len() == PAYLOAD_BYTES {
                self.seal_open();
            }
        }
    }

    fn seal_open(&mut self) {
        let index = self.sealed.len() as u32;
        let payload = std::mem::take(&mut self.open);
        self.sealed.push(block::seal(self.id, index, payload));
    }
}

/// The first logical bytes of segment `id`.
pub(super) fn header(id: ObjectId) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(&HEADER_MAGIC);
    header[8..10].copy_from_slice(&VERSION.to_le_bytes());
    header[16..].copy_from_slice(&id.0.to_be_bytes());
    header
}
