//! The footer: what a segment holds and where.

use serde::{Deserialize, Serialize};

use super::block::physical_len;
use super::{FOOTER_MAGIC, FRAME_HEADER_LEN, HEADER_LEN, INDEX_INTERVAL_BYTES, VERSION};
use crate::error::{Error, Result};
use crate::model::{
    LogTime, ObjectId, Offset, SegmentInfo, SegmentRange, StoredBatch, Topic, TopicId, TopicPartition, TopicSettings,
};

/// Bytes at the end of the object from which [`Footer::len`] tells where the footer begins.
pub const TRAILER_LEN: usize = 20;

/// The footer of a segment, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    info: SegmentInfo,
    pub(super) body: Body,
}

/// What is encoded. Field order is the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Body {
    pub(super) min_append_time: LogTime,
    pub(super) max_append_time: LogTime,
    /// By topic id.
    pub(super) topics: Vec<SegmentTopic>,
    /// By partition, contiguous in positions.
    pub(super) partitions: Vec<PartitionIndex>,
}

/// A topic as it was when the segment was written: what starting from the bucket alone, and people, need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentTopic {
    /// Its id.
    pub id: TopicId,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its settings.
    pub settings: TopicSettings,
    /// When it was created.
    pub created_at: LogTime,
}

impl SegmentTopic {
    pub(super) fn of(topic: &Topic) -> Self {
        Self {
            id: topic.id,
            namespace: topic.namespace.clone(),
            name: topic.name.clone(),
            settings: topic.settings.clone(),
            created_at: topic.created_at,
        }
    }
}

/// The batches of one partition, with a sparse index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionIndex {
    /// What there is of the partition.
    pub range: SegmentRange,
    /// One entry for each interval of about [`INDEX_INTERVAL_BYTES`]; empty if there is only one interval.
    pub index: Vec<IndexEntry>,
}

/// An interval of whole frames of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// Base offset of its first frame, less the start of the range.
    pub offset: u64,
    /// Position of its first frame, less the position of the range.
    pub position: u64,
    /// The largest record timestamp in it.
    pub max_timestamp: i64,
}

/// A frame boundary: where reading may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seek {
    /// Base offset of the frame.
    pub offset: Offset,
    /// Its logical position in the segment.
    pub position: u64,
}

impl Footer {
    /// Decodes the footer of segment `id`: the bytes of the object from [`SegmentInfo::footer_start`] to its end.
    ///
    /// # Errors
    /// `corrupt` if they are not that.
    pub fn decode(id: ObjectId, bytes: &[u8]) -> Result<Self> {
        let damaged = || Error::corrupt(format!("the footer of segment {id} is damaged"));
        if Self::len(bytes)? != bytes.len() as u64 {
            return Err(damaged());
        }
        let (body, trailer) = bytes.split_last_chunk::<TRAILER_LEN>().ok_or_else(damaged)?;
        if trailer[8..12] != crc(id, body, &trailer[..8]).to_le_bytes() {
            return Err(damaged());
        }
        let Ok((body, [])) = postcard::take_from_bytes::<Body>(body) else { return Err(damaged()) };
        let logical_end = body.check().ok_or_else(damaged)?;
        Ok(Self::new(id, body, logical_end, bytes.len() as u64))
    }

    pub(super) fn new(id: ObjectId, body: Body, logical_end: u64, footer_len: u64) -> Self {
        let footer_start = physical_len(logical_end);
        let info = SegmentInfo {
            id,
            bytes: footer_start + footer_len,
            footer_start,
            min_append_time: body.min_append_time,
            max_append_time: body.max_append_time,
        };
        Self { info, body }
    }

    /// The length of the footer, trailer included, of a segment that ends with `tail`, which has at least [`TRAILER_LEN`]
    /// bytes.
    ///
    /// # Errors
    /// `corrupt` if `tail` is not the end of a segment of a known version.
    pub fn len(tail: &[u8]) -> Result<u64> {
        let trailer: &[u8; TRAILER_LEN] =
            tail.last_chunk().ok_or_else(|| Error::corrupt("a segment is shorter than its trailer"))?;
        let [l0, l1, l2, l3, v0, v1, 0, 0, _, _, _, _, magic @ ..] = *trailer else {
            return Err(Error::corrupt("the trailer of a segment is damaged"));
        };
        if magic != FOOTER_MAGIC {
            return Err(Error::corrupt("the object is not a segment"));
        }
        let version = u16::from_le_bytes([v0, v1]);
        if version != VERSION {
            return Err(Error::corrupt(format!("segment version {version} is not known to this build")));
        }
        Ok(u64::from(u32::from_le_bytes([l0, l1, l2, l3])) + TRAILER_LEN as u64)
    }

    /// The footer, encoded, of the same segment with other ids of its topics; `renamed` keeps their order, since it is the order of
    /// the frames.
    ///
    /// # Errors
    /// What `renamed` says; `corrupt` if the order is another one.
    pub fn renamed(&self, mut renamed: impl FnMut(TopicId) -> Result<TopicId>) -> Result<Vec<u8>> {
        let mut body = self.body.clone();
        for topic in &mut body.topics {
            topic.id = renamed(topic.id)?;
        }
        for partition in &mut body.partitions {
            partition.range.partition.topic = renamed(partition.range.partition.topic)?;
        }
        if body.check().is_none() {
            return Err(Error::corrupt(format!(
                "the new ids of the topics in segment {} are in another order",
                self.info.id
            )));
        }
        body.encode(self.info.id)
    }

    /// The segment as a whole.
    #[must_use]
    pub const fn info(&self) -> &SegmentInfo {
        &self.info
    }

    /// The topics of which it holds batches, by id.
    #[must_use]
    pub fn topics(&self) -> &[SegmentTopic] {
        &self.body.topics
    }

    /// The partitions of which it holds batches, in order, contiguous in positions.
    #[must_use]
    pub fn partitions(&self) -> &[PartitionIndex] {
        &self.body.partitions
    }

    /// The ranges of the partitions, in order.
    pub fn ranges(&self) -> impl Iterator<Item = &SegmentRange> {
        self.body.partitions.iter().map(|partition| &partition.range)
    }

    /// What there is of `partition`.
    #[must_use]
    pub fn range(&self, partition: TopicPartition) -> Option<&SegmentRange> {
        self.partition(partition).map(|found| &found.range)
    }

    /// Where to begin reading for `offset`: the last indexed frame that begins at or below it. `None` if the segment does
    /// not hold it.
    #[must_use]
    pub fn position_of(&self, partition: TopicPartition, offset: Offset) -> Option<Seek> {
        let PartitionIndex { range, index } = self.partition(partition)?;
        let within = offset.checked_sub(range.start).filter(|_| offset < range.end)?;
        let after = index.partition_point(|entry| entry.offset <= within);
        Some(seek(range, after.checked_sub(1).map(|at| &index[at])))
    }

    /// Where to begin reading for the lowest offset whose timestamp is at least `timestamp`: the first interval that has
    /// such a record. `None` if there is none in the segment.
    #[must_use]
    pub fn position_of_timestamp(&self, partition: TopicPartition, timestamp: i64) -> Option<Seek> {
        let PartitionIndex { range, index } = self.partition(partition)?;
        (range.max_timestamp >= timestamp)
            .then(|| seek(range, index.iter().find(|entry| entry.max_timestamp >= timestamp)))
    }

    fn partition(&self, partition: TopicPartition) -> Option<&PartitionIndex> {
        let at = self.body.partitions.binary_search_by_key(&partition, |found| found.range.partition).ok()?;
        self.body.partitions.get(at)
    }
}

fn seek(range: &SegmentRange, entry: Option<&IndexEntry>) -> Seek {
    let (offset, position) = entry.map_or((0, 0), |entry| (entry.offset, entry.position));
    Seek { offset: range.start + offset, position: range.position + position }
}

impl Body {
    /// The encoded footer, trailer included.
    pub(super) fn encode(&self, id: ObjectId) -> Result<Vec<u8>> {
        let failed = |error| Error::internal("a segment footer cannot be encoded").with_source(error);
        let mut out = postcard::to_allocvec(self).map_err(failed)?;
        let len = u32::try_from(out.len()).map_err(|_| Error::internal("a segment footer is above 4 GiB"))?;
        let mut trailer = [0; TRAILER_LEN];
        trailer[..4].copy_from_slice(&len.to_le_bytes());
        trailer[4..6].copy_from_slice(&VERSION.to_le_bytes());
        let crc = crc(id, &out, &trailer[..8]);
        trailer[8..12].copy_from_slice(&crc.to_le_bytes());
        trailer[12..].copy_from_slice(&FOOTER_MAGIC);
        out.extend_from_slice(&trailer);
        Ok(out)
    }

    /// Whether the body is consistent in itself; the end of the logical bytes if it is. Readers rely on this: their
    /// arithmetic on ranges and entries cannot overflow afterwards.
    fn check(&self) -> Option<u64> {
        let topics_sorted = self.topics.is_sorted_by(|a, b| a.id < b.id);
        let partitions_sorted = self.partitions.is_sorted_by(|a, b| a.range.partition < b.range.partition);
        if !topics_sorted || !partitions_sorted || self.partitions.is_empty() {
            return None;
        }
        self.partitions.iter().try_fold(HEADER_LEN as u64, |position, partition| {
            let range = &partition.range;
            let known = self.topics.binary_search_by_key(&range.partition.topic, |topic| topic.id).is_ok();
            let end = position.checked_add(range.len)?;
            let fits = range.position == position && range.start < range.end && end < 1 << 40;
            (known && fits && partition.check_index()).then_some(end)
        })
    }
}

impl PartitionIndex {
    fn check_index(&self) -> bool {
        let Some(first) = self.index.first() else { return true };
        let PartitionIndex { range, index } = self;
        first.offset == 0
            && first.position == 0
            && index.is_sorted_by(|a, b| a.offset < b.offset && a.position < b.position)
            && index.iter().all(|entry| entry.offset < range.end - range.start && entry.position < range.len)
            && index.iter().map(|entry| entry.max_timestamp).max() == Some(range.max_timestamp)
    }
}

/// Collects the range and the index of one partition, frame by frame.
#[derive(Debug)]
pub(super) struct RangeBuilder {
    range: SegmentRange,
    index: Vec<IndexEntry>,
}

impl RangeBuilder {
    pub(super) const fn new(partition: TopicPartition, position: u64, first: &StoredBatch) -> Self {
        let range = SegmentRange {
            partition,
            start: first.base_offset,
            end: first.base_offset,
            position,
            len: 0,
            max_timestamp: first.max_timestamp,
            min_append_time: first.append_time,
            max_append_time: first.append_time,
        };
        Self { range, index: Vec::new() }
    }

    pub(super) const fn range(&self) -> &SegmentRange {
        &self.range
    }

    /// Adds the next batch of the partition.
    pub(super) fn add(&mut self, batch: &StoredBatch) {
        let range = &mut self.range;
        match self.index.last_mut() {
            Some(last) if range.len - last.position < INDEX_INTERVAL_BYTES => {
                last.max_timestamp = last.max_timestamp.max(batch.max_timestamp);
            }
            _ => self.index.push(IndexEntry {
                offset: range.end - range.start,
                position: range.len,
                max_timestamp: batch.max_timestamp,
            }),
        }
        range.end = batch.end_offset();
        range.len += (FRAME_HEADER_LEN + batch.bytes.len()) as u64;
        range.max_timestamp = range.max_timestamp.max(batch.max_timestamp);
        range.min_append_time = range.min_append_time.min(batch.append_time);
        range.max_append_time = range.max_append_time.max(batch.append_time);
    }

    pub(super) fn finish(mut self) -> PartitionIndex {
        if self.index.len() == 1 {
            self.index = Vec::new();
        }
        PartitionIndex { range: self.range, index: self.index }
    }
}

fn crc(id: ObjectId, body: &[u8], lengths: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&id.0.to_be_bytes()), body);
    crc32c::crc32c_append(crc, lengths)
}
