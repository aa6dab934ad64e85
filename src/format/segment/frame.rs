//! Reading frames from blocks that arrive one at a time.

use bytes::{Bytes, BytesMut};

use super::FRAME_HEADER_LEN;
use super::block::{PAYLOAD_BYTES, block_of};
use super::footer::Seek;
use crate::error::{Error, Result};
use crate::format::batch;
use crate::model::{LogTime, Offset, SegmentRange, StoredBatch};

/// Iterates over the batches of one range of a segment.
///
/// ```text
/// loop { match reader.next()? { Some(batch) => …, None => match reader.needs() {
///     Some(block) => reader.feed(verified block)?, None => break } } }
/// ```
/// Batches within one block are slices of it, and keep it in memory; one that goes over a border is copied.
#[derive(Debug)]
pub struct FrameReader {
    /// The next logical byte that is neither in `carry` nor returned.
    position: u64,
    end: u64,
    next_offset: Offset,
    end_offset: Offset,
    /// What is left of the block fed last.
    block: Bytes,
    /// The front of a frame that goes on in the next block.
    carry: BytesMut,
}

impl FrameReader {
    /// Reads `range` from `seek` on, which the footer gave for this range.
    #[must_use]
    pub fn new(range: &SegmentRange, seek: Seek) -> Self {
        Self {
            position: seek.position,
            end: range.position + range.len,
            next_offset: seek.offset,
            end_offset: range.end,
            block: Bytes::new(),
            carry: BytesMut::new(),
        }
    }

    /// The number of the block to feed next; `None` once the range was read, or while fed bytes remain.
    #[must_use]
    pub fn needs(&self) -> Option<u32> {
        (self.block.is_empty() && self.position < self.end).then(|| block_of(self.position))
    }

    /// Takes the verified logical bytes of the block that [`FrameReader::needs`] names.
    ///
    /// # Errors
    /// `corrupt` if the block is shorter than the footer says.
    pub fn feed(&mut self, payload: &Bytes) -> Result<()> {
        let skip = (self.position % PAYLOAD_BYTES as u64) as usize;
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        if payload.len() <= skip {
            return Err(Error::corrupt("a block of a segment is shorter than its footer says"));
        }
        self.block = payload.slice(skip..payload.len().min(skip.saturating_add(left)));
        Ok(())
    }

    /// The next batch; `None` if another block is needed or the range was read.
    ///
    /// # Errors
    /// `corrupt` if the bytes are not the frames that the footer promises.
    #[allow(clippy::should_implement_trait, reason = "an iterator that goes on after None would be misread")]
    pub fn next(&mut self) -> Result<Option<StoredBatch>> {
        let Some(frame) = self.take_frame()? else {
            let whole = self.carry.is_empty() && self.next_offset == self.end_offset;
            return if self.position < self.end || whole { Ok(None) } else { Err(unpromised()) };
        };
        let batch = parse(&frame).ok_or_else(unpromised)?;
        let end = batch.base_offset.checked_add(u64::from(batch.count));
        if batch.base_offset != self.next_offset || end.is_none_or(|end| end > self.end_offset) {
            return Err(unpromised());
        }
        self.next_offset = batch.end_offset();
        Ok(Some(batch))
    }

    /// The bytes of the next frame, once all of them were fed.
    fn take_frame(&mut self) -> Result<Option<Bytes>> {
        if self.carry.is_empty() {
            // The usual case: the frame lies within the block.
            if let Some(len) = self.frame_len(&self.block)?
                && len <= self.block.len()
            {
                self.position += len as u64;
                return Ok(Some(self.block.split_to(len)));
            }
        }
        self.carry_up_to(FRAME_HEADER_LEN);
        let Some(len) = self.frame_len(&self.carry)? else { return Ok(None) };
        self.carry_up_to(len);
        Ok((self.carry.len() == len).then(|| std::mem::take(&mut self.carry).freeze()))
    }

    /// Moves bytes of the block into `carry` until it has `len`, as far as there are any.
    fn carry_up_to(&mut self, len: usize) {
        let more = len.saturating_sub(self.carry.len()).min(self.block.len());
        self.carry.extend_from_slice(&self.block.split_to(more));
        self.position += more as u64;
    }

    /// The length of the frame that `front` begins, if its header is there. The frame ends within the range.
    fn frame_len(&self, front: &[u8]) -> Result<Option<usize>> {
        let Some(header) = front.first_chunk::<FRAME_HEADER_LEN>() else { return Ok(None) };
        let [.., l0, l1, l2, l3] = *header;
        let len = FRAME_HEADER_LEN as u64 + u64::from(u32::from_le_bytes([l0, l1, l2, l3]));
        let left = self.end - self.position + self.carry.len() as u64;
        if len <= left { Ok(usize::try_from(len).ok()) } else { Err(unpromised()) }
    }
}

fn parse(frame: &Bytes) -> Option<StoredBatch> {
    let (offset, rest) = frame.split_first_chunk()?;
    let (append_time, _) = rest.split_first_chunk()?;
    let bytes = frame.slice(FRAME_HEADER_LEN..);
    let header = batch::header(&bytes).ok()?;
    (header.len as usize == bytes.len()).then_some(StoredBatch {
        base_offset: Offset::from_le_bytes(*offset),
        count: header.count,
        max_timestamp: header.max_timestamp,
        append_time: LogTime::from_le_bytes(*append_time),
        bytes,
    })
}

fn unpromised() -> Error {
    Error::corrupt("a segment does not hold the batches that its footer names")
}
