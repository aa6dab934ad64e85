//! Verifying a whole segment: every byte, every record, and that the footer says what the blocks hold.

use bytes::Bytes;

use super::HEADER_LEN;
use super::block::{block_bytes, block_count, verify_block};
use super::footer::{Footer, PartitionIndex, RangeBuilder, Seek};
use super::frame::FrameReader;
use super::writer::header;
use crate::error::{Error, Result};
use crate::format::batch;
use crate::model::{ObjectId, StoredBatch};

/// Verifies a segment block by block, so that only one has to be in memory.
#[derive(Debug)]
pub struct SegmentVerifier<'a> {
    footer: &'a Footer,
    next_block: u32,
    partitions: std::slice::Iter<'a, PartitionIndex>,
    current: Option<Current<'a>>,
    records: u64,
}

#[derive(Debug)]
struct Current<'a> {
    expected: &'a PartitionIndex,
    reader: FrameReader,
    seen: Option<RangeBuilder>,
}

impl<'a> SegmentVerifier<'a> {
    /// Verifies the segment with this footer.
    #[must_use]
    pub fn new(footer: &'a Footer) -> Self {
        Self { footer, next_block: 0, partitions: footer.partitions().iter(), current: None, records: 0 }
    }

    /// Takes the bytes of the next block as they are in the object.
    ///
    /// # Errors
    /// `corrupt`, with what is wrong.
    pub fn block(&mut self, block: &Bytes) -> Result<()> {
        let id = self.footer.info().id;
        let index = self.next_block;
        let expected = block_bytes(index, self.footer.info().footer_start);
        if block.len() as u64 != expected.end - expected.start {
            return Err(Error::corrupt(format!("block {index} of segment {id} has the wrong length")));
        }
        let payload = verify_block(id, index, block)?;
        if index == 0 && payload.get(..HEADER_LEN) != Some(&header(id)[..]) {
            return Err(Error::corrupt(format!("the header of segment {id} is wrong")));
        }
        self.next_block += 1;
        self.frames(index, &payload)
    }

    /// Ends the verification and returns the number of records.
    ///
    /// # Errors
    /// `corrupt` if blocks are missing.
    pub fn finish(self) -> Result<u64> {
        let whole = self.next_block == block_count(self.footer.info().footer_start);
        if whole && self.current.is_none() && self.partitions.len() == 0 {
            return Ok(self.records);
        }
        Err(Error::corrupt(format!("segment {} is not whole", self.footer.info().id)))
    }

    /// Reads all frames that end in block `index`.
    fn frames(&mut self, index: u32, payload: &Bytes) -> Result<()> {
        loop {
            let mut current = match self.current.take() {
                Some(current) => current,
                None => match self.partitions.next() {
                    Some(expected) => Current::new(expected),
                    None => return Ok(()),
                },
            };
            if current.reader.needs() == Some(index) {
                current.reader.feed(payload)?;
            }
            while let Some(batch) = current.reader.next()? {
                self.records += u64::from(batch.count);
                current.add(&batch)?;
            }
            if current.reader.needs().is_some() {
                self.current = Some(current);
                return Ok(());
            }
            current.finish()?;
        }
    }
}

impl<'a> Current<'a> {
    fn new(expected: &'a PartitionIndex) -> Self {
        let range = &expected.range;
        let reader = FrameReader::new(range, Seek { offset: range.start, position: range.position });
        Self { expected, reader, seen: None }
    }

    fn add(&mut self, batch: &StoredBatch) -> Result<()> {
        let open = batch::open(batch)?;
        let mut max_timestamp = i64::MIN;
        for record in open.records() {
            let record = record.map_err(batch::BatchError::into_corrupt)?;
            max_timestamp = max_timestamp.max(record.timestamp);
        }
        if max_timestamp != batch.max_timestamp {
            return Err(Error::corrupt("the largest timestamp of a batch is not that of its records"));
        }
        let range = &self.expected.range;
        self.seen.get_or_insert_with(|| RangeBuilder::new(range.partition, range.position, batch)).add(batch);
        Ok(())
    }

    fn finish(self) -> Result<()> {
        if self.seen.map(RangeBuilder::finish).as_ref() == Some(self.expected) {
            return Ok(());
        }
        Err(Error::corrupt(format!("the footer does not describe what is stored of {}", self.expected.range.partition)))
    }
}

/// Verifies a whole object that is in memory; returns its footer and the number of its records.
///
/// # Errors
/// `corrupt`, with what is wrong.
pub fn verify(id: ObjectId, object: &Bytes) -> Result<(Footer, u64)> {
    let footer_start = (object.len() as u64).checked_sub(Footer::len(object)?);
    let footer_start =
        footer_start.ok_or_else(|| Error::corrupt(format!("segment {id} is shorter than its footer")))?;
    let footer = Footer::decode(id, &object[footer_start as usize..])?;
    if footer.info().footer_start != footer_start {
        return Err(Error::corrupt(format!("the blocks of segment {id} have the wrong length")));
    }
    let mut verifier = SegmentVerifier::new(&footer);
    for index in 0..block_count(footer_start) {
        let range = block_bytes(index, footer_start);
        verifier.block(&object.slice(range.start as usize..range.end as usize))?;
    }
    let records = verifier.finish()?;
    Ok((footer, records))
}
