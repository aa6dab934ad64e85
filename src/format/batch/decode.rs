//! Reading stored batches.

use std::ops::Range;

use bytes::Bytes;

use super::compress;
use super::error::BatchError;
use super::header::{self, BatchHeader, HEADER_LEN};
use super::records::{RecordView, Records};
use crate::error::{Error, Result};
use crate::model::producer::advance_sequence;
use crate::model::{Header, Offset, Record, StoredBatch, StoredRecord, Triple};

/// A batch whose CRC was verified, with its records uncompressed.
#[derive(Debug, Clone)]
pub struct OpenBatch {
    header: BatchHeader,
    records: Bytes,
}

impl OpenBatch {
    /// Verifies length and CRC of `bytes`, which hold exactly one batch, and uncompresses its records.
    pub(super) fn new(bytes: &Bytes) -> Result<Self, BatchError> {
        let header = header::verified(bytes)?;
        let records = compress::unpack(header.codec, bytes.slice(HEADER_LEN..))?;
        Ok(Self { header, records })
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Bytes of the records, uncompressed: what they cost in memory.
    #[must_use]
    pub fn records_len(&self) -> usize {
        self.records.len()
    }

    /// The records, borrowed.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        Records::new(&self.header, &self.records)
    }

    /// The triple of the record with number `index`.
    #[must_use]
    pub fn triple_of(&self, index: u32) -> Option<Triple> {
        self.header.triple.map(|triple| Triple { sequence: advance_sequence(triple.sequence, index), ..triple })
    }

    /// A record of its own of `view`, which is one of [`OpenBatch::records`]: its bytes are slices of this batch's.
    #[must_use]
    pub fn to_record(&self, view: &RecordView<'_>) -> Record {
        let owned = |slice: &[u8]| self.records.slice_ref(slice);
        Record {
            timestamp: view.timestamp,
            key: view.key.map(owned),
            value: view.value.map(owned),
            headers: view
                .headers
                .map(|header| Header { name: header.name.to_owned(), value: header.value.map(owned) })
                .collect(),
        }
    }
}

/// Verifies the CRC of a stored batch and uncompresses its records, to be read one by one. A small batch may hold up to
/// [`MAX_RECORDS_BYTES`](super::MAX_RECORDS_BYTES): charge [`OpenBatch::records_len`] to what bounds the reader.
///
/// # Errors
/// `corrupt` if the bytes are not the batch they should be.
pub fn open(batch: &StoredBatch) -> Result<OpenBatch> {
    let open = OpenBatch::new(&batch.bytes).map_err(BatchError::into_corrupt)?;
    expect_place(&open.header, batch)?;
    Ok(open)
}

/// Verifies length and CRC of a stored batch without looking at its records.
///
/// # Errors
/// As [`open`].
pub fn verify(batch: &StoredBatch) -> Result<()> {
    let header = header::verified(&batch.bytes).map_err(BatchError::into_corrupt)?;
    expect_place(&header, batch)
}

fn expect_place(header: &BatchHeader, batch: &StoredBatch) -> Result<()> {
    let stored = header.base_offset == 0 && header.leader_epoch == 0;
    if stored && header.count == batch.count && header.max_timestamp == batch.max_timestamp {
        return Ok(());
    }
    Err(Error::corrupt("a stored record batch is not the one that its place names"))
}

/// All records of a stored batch, with their offsets. Keys and values are slices of the batch or of its uncompressed
/// records.
///
/// # Errors
/// As [`open`].
pub fn decode(batch: &StoredBatch) -> Result<Vec<StoredRecord>> {
    decode_within(batch, batch.base_offset..batch.end_offset())
}

/// The records of a stored batch whose offsets are in `offsets`: the others cost no memory, and those after it no time.
///
/// # Errors
/// As [`open`].
pub fn decode_within(batch: &StoredBatch, offsets: Range<Offset>) -> Result<Vec<StoredRecord>> {
    let open = open(batch)?;
    let within = offsets.start.max(batch.base_offset)..offsets.end.min(batch.end_offset());
    let mut records = Vec::with_capacity(within.end.saturating_sub(within.start) as usize);
    for view in open.records() {
        let view = view.map_err(BatchError::into_corrupt)?;
        let offset = batch.base_offset + u64::from(view.index);
        if offset >= within.end {
            break;
        }
        if offset >= within.start {
            records.push(StoredRecord {
                offset,
                append_time: batch.append_time,
                triple: open.triple_of(view.index),
                record: open.to_record(&view),
            });
        }
    }
    Ok(records)
}
