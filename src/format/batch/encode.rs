//! Encoding records into a batch.

use std::cell::RefCell;

use bytes::Bytes;

use super::compress::Packer;
use super::header::{self, BatchHeader, Codec, HEADER_LEN};
use super::{MAX_BATCH_RECORDS, MAX_RECORDS_BYTES, varint};
use crate::error::{Error, Result};
use crate::model::{BatchInfo, Compression, Record, Triple};

/// Scratch space above this is given back after use, so that one large batch does not stay with every thread.
const KEPT_SCRATCH_BYTES: usize = 8 << 20;

/// A batch as it is stored: base offset 0, leader epoch 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedBatch {
    /// The batch.
    pub bytes: Bytes,
    /// What the state keeps of it.
    pub info: BatchInfo,
}

#[derive(Default)]
struct Scratch {
    /// Header and uncompressed records.
    plain: Vec<u8>,
    packer: Packer,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Bytes that `record` takes in a batch at most, before compression: what a merger adds up to stay within its target
/// and [`MAX_RECORDS_BYTES`].
#[must_use]
pub fn max_encoded_len(record: &Record) -> usize {
    // Length 5, attributes 1, timestamp delta 10, offset delta 5, lengths of key, value and headers 5 each; a header
    // has two lengths.
    record.payload_len() + 36 + 10 * record.headers.len()
}

/// Encodes `records`, in order, as one batch under `triple` (whose sequence is of the first record). Records whose
/// compressed form is no smaller are stored plain. Works in scratch space of the thread and allocates once, for the result.
///
/// # Errors
/// `Invalid` if there are more records or bytes than [`MAX_BATCH_RECORDS`] or [`MAX_RECORDS_BYTES`], or the producer
/// epoch is above 32,767, which Kafka's format cannot hold; `Internal` if there is no record.
pub fn encode<'a, I>(records: I, compression: Compression, triple: Option<Triple>) -> Result<EncodedBatch>
where
    I: IntoIterator<Item = &'a Record>,
{
    if triple.is_some_and(|triple| triple.epoch > i16::MAX as u16) {
        return Err(Error::invalid("invalid_producer_epoch", "a producer epoch is at most 32767"));
    }
    SCRATCH.with_borrow_mut(|scratch| {
        let result = encode_in(scratch, records.into_iter(), compression, triple);
        if scratch.plain.capacity() > KEPT_SCRATCH_BYTES {
            *scratch = Scratch::default();
        }
        result
    })
}

fn encode_in<'a>(
    scratch: &mut Scratch,
    records: impl Iterator<Item = &'a Record>,
    compression: Compression,
    triple: Option<Triple>,
) -> Result<EncodedBatch> {
    let Scratch { plain, packer } = scratch;
    let summary = put_records(plain, records)?;
    let packed = match compression {
        Compression::Zstd => packer.pack(plain, HEADER_LEN)?,
        Compression::None => None,
    };
    let (batch, codec) = match packed {
        Some(packed) => (packed, Codec::Zstd),
        None => (&mut plain[..], Codec::None),
    };
    let mut header = BatchHeader {
        base_offset: 0,
        // At most MAX_RECORDS_BYTES and a header.
        len: batch.len() as u32,
        leader_epoch: 0,
        crc: 0,
        codec,
        base_timestamp: summary.base_timestamp,
        max_timestamp: summary.max_timestamp,
        triple,
        count: summary.count,
    };
    batch[..HEADER_LEN].copy_from_slice(&header.to_bytes());
    header.crc = header::crc_of(batch);
    batch[..HEADER_LEN].copy_from_slice(&header.to_bytes());
    Ok(EncodedBatch { bytes: Bytes::copy_from_slice(batch), info: header.info() })
}

struct Summary {
    count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
}

/// Fills `out` with room for a header and the encoded records.
fn put_records<'a>(out: &mut Vec<u8>, records: impl Iterator<Item = &'a Record>) -> Result<Summary> {
    out.clear();
    out.resize(HEADER_LEN, 0);
    let mut records = records.peekable();
    let first = records.peek().ok_or_else(|| Error::internal("a batch of no records cannot be encoded"))?;
    let mut summary = Summary { count: 0, base_timestamp: first.timestamp, max_timestamp: first.timestamp };
    for record in records {
        put_record(out, record, &summary)?;
        summary.count += 1;
        summary.max_timestamp = summary.max_timestamp.max(record.timestamp);
        if summary.count > MAX_BATCH_RECORDS || out.len() - HEADER_LEN > MAX_RECORDS_BYTES {
            return Err(Error::invalid(
                "batch_too_large",
                format!("a batch has at most {MAX_BATCH_RECORDS} records and {MAX_RECORDS_BYTES} bytes"),
            ));
        }
    }
    Ok(summary)
}

fn put_record(out: &mut Vec<u8>, record: &Record, so_far: &Summary) -> Result<()> {
    let timestamp_delta = record
        .timestamp
        .checked_sub(so_far.base_timestamp)
        .ok_or_else(|| Error::invalid("invalid_timestamp", "the timestamps of the records are too far apart"))?;
    let offset_delta = i64::from(so_far.count);
    varint::put(out, record_len(record, timestamp_delta, offset_delta) as i64);
    out.push(0);
    varint::put(out, timestamp_delta);
    varint::put(out, offset_delta);
    put_slice(out, record.key.as_deref());
    put_slice(out, record.value.as_deref());
    varint::put(out, record.headers.len() as i64);
    for header in &record.headers {
        put_slice(out, Some(header.name.as_bytes()));
        put_slice(out, header.value.as_deref());
    }
    Ok(())
}

/// Bytes of a record after its length.
fn record_len(record: &Record, timestamp_delta: i64, offset_delta: i64) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|header| slice_len(Some(header.name.as_bytes())) + slice_len(header.value.as_deref()))
        .sum();
    1 + varint::len(timestamp_delta)
        + varint::len(offset_delta)
        + slice_len(record.key.as_deref())
        + slice_len(record.value.as_deref())
        + varint::len(record.headers.len() as i64)
        + headers
}

fn slice_len(slice: Option<&[u8]>) -> usize {
    slice.map_or(1, |slice| varint::len(slice.len() as i64) + slice.len())
}

fn put_slice(out: &mut Vec<u8>, slice: Option<&[u8]>) {
    match slice {
        None => varint::put(out, -1),
        Some(slice) => {
            varint::put(out, slice.len() as i64);
            out.extend_from_slice(slice);
        }
    }
}
