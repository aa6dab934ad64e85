//! Segments: blocks with a checksum each, frames of batches, and the footer that says where partitions begin.

use std::collections::HashMap;

use serde::Deserialize;
use tidelog::model::{ObjectId, SegmentRange, TopicId, TopicPartition, TopicSettings};

use super::{Found, batch};

const BLOCK: usize = 1 << 20;
const CRC: usize = 4;
const HEADER: usize = 32;
const FRAME_HEAD: usize = 20;
const TRAILER: usize = 20;

/// What the footer has in front of its trailer.
#[derive(Debug, Deserialize)]
struct Body {
    _min_append_time: u64,
    _max_append_time: u64,
    _topics: Vec<(TopicId, String, String, TopicSettings, u64)>,
    partitions: Vec<(SegmentRange, Vec<(u64, u64, i64)>)>,
}

/// A segment with all its checksums verified.
pub(super) struct Segment {
    logical: Vec<u8>,
    ranges: HashMap<TopicPartition, SegmentRange>,
}

impl Segment {
    pub(super) fn open(id: ObjectId, object: &[u8]) -> Result<Self, String> {
        let wrong = |how: &str| format!("segment {id}: {how}");
        let (_, trailer) = object.split_last_chunk::<TRAILER>().ok_or_else(|| wrong("it is too short"))?;
        let word = |at: usize| u32::from_le_bytes([trailer[at], trailer[at + 1], trailer[at + 2], trailer[at + 3]]);
        if &trailer[12..] != b"TIDELFTR" {
            return Err(wrong("it does not end as one"));
        }
        let blocks_end =
            object.len().checked_sub(TRAILER + word(0) as usize).ok_or_else(|| wrong("it is too short"))?;
        let (blocks, body) = (&object[..blocks_end], &object[blocks_end..object.len() - TRAILER]);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&id.0.to_be_bytes()), body);
        if crc32c::crc32c_append(crc, &trailer[..8]) != word(8) {
            return Err(wrong("the checksum of its footer is wrong"));
        }
        let body: Body = match postcard::take_from_bytes(body) {
            Ok((body, [])) => body,
            _ => return Err(wrong("its footer is not one")),
        };
        let mut logical = Vec::new();
        for (number, block) in (0_u32..).zip(blocks.chunks(BLOCK)) {
            let (payload, crc) = block.split_last_chunk::<CRC>().ok_or_else(|| wrong("a block is too short"))?;
            let seed = crc32c::crc32c_append(crc32c::crc32c(&id.0.to_be_bytes()), &number.to_le_bytes());
            if crc32c::crc32c_append(seed, payload) != u32::from_le_bytes(*crc) {
                return Err(wrong(&format!("the checksum of block {number} is wrong")));
            }
            logical.extend_from_slice(payload);
        }
        if logical.get(..8) != Some(b"TIDELSEG") || logical.get(16..HEADER) != Some(&id.0.to_be_bytes()) {
            return Err(wrong("its header is another one's"));
        }
        Ok(Self { logical, ranges: body.partitions.into_iter().map(|(range, _)| (range.partition, range)).collect() })
    }

    /// What the footer says of a partition.
    pub(super) fn range(&self, partition: TopicPartition) -> Option<&SegmentRange> {
        self.ranges.get(&partition)
    }

    /// Every partition that is in it.
    pub(super) fn ranges(&self) -> impl Iterator<Item = &SegmentRange> {
        self.ranges.values()
    }

    /// The records of a partition from `[start, end)`, which begins at the frame at `position`.
    pub(super) fn records(&self, position: u64, start: u64, end: u64) -> Result<Vec<Found>, String> {
        let (mut at, mut next, mut all) = (position as usize, start, Vec::new());
        while next < end {
            let head = self.logical.get(at..at + FRAME_HEAD).ok_or("a frame is beyond the end")?;
            let (base, length) = (u64::from_le_bytes(array(&head[..8])), u32::from_le_bytes(array(&head[16..])));
            if base != next {
                return Err(format!("a frame begins at offset {base}, not {next}"));
            }
            at += FRAME_HEAD;
            let bytes = self.logical.get(at..at + length as usize).ok_or("a batch is beyond the end")?;
            let records = batch::records(bytes, base)?;
            next += records.len() as u64;
            at += length as usize;
            all.extend(records);
        }
        if next == end { Ok(all) } else { Err(format!("a batch ends at offset {next}, the range at {end}")) }
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}
