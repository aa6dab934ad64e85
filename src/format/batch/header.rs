//! The 61-byte header of a record batch.

use bytes::{Bytes, BytesMut};

use super::error::BatchError;
use crate::model::{BatchInfo, Offset, ProducerId, Triple};

/// Bytes of the header.
pub const HEADER_LEN: usize = 61;

/// Bytes before those that the length field counts.
const LENGTH_BASE: usize = 12;
/// Where the bytes begin over which the CRC is computed.
const CRC_START: usize = 21;
const MAGIC: i8 = 2;

const CODEC_MASK: i16 = 0b111;
/// The attribute bits besides the codec, and how to name them.
const ATTRIBUTE_BITS: [(i16, &str); 5] = [
    (1 << 3, "log-append-time"),
    (1 << 4, "transactional"),
    (1 << 5, "control"),
    (1 << 6, "delete-horizon"),
    (!0b111_1111, "reserved attribute"),
];

/// Compression of a batch's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Not compressed.
    None,
    /// Gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Codec {
    fn from_attributes(attributes: i16) -> Result<Self, BatchError> {
        match attributes & CODEC_MASK {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Err(BatchError::Codec("snappy")),
            3 => Err(BatchError::Codec("lz4")),
            4 => Ok(Self::Zstd),
            _ => Err(BatchError::Codec("unknown")),
        }
    }

    pub(super) const fn attributes(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Zstd => 4,
        }
    }
}

/// The fields of a header, consistent in themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// 0 in stored batches.
    pub base_offset: i64,
    /// Encoded bytes of the whole batch, header included.
    pub len: u32,
    /// 0 in stored batches; producers send -1 or anything.
    pub leader_epoch: i32,
    /// CRC-32C of everything after it.
    pub crc: u32,
    /// Of the records.
    pub codec: Codec,
    /// The timestamp to which the deltas of the records are added.
    pub base_timestamp: i64,
    /// The largest timestamp of the records.
    pub max_timestamp: i64,
    /// Of an idempotent producer.
    pub triple: Option<Triple>,
    /// Records, at least 1.
    pub count: u32,
}

impl BatchHeader {
    /// What the state keeps of the batch.
    #[must_use]
    pub const fn info(&self) -> BatchInfo {
        BatchInfo { count: self.count, len: self.len, max_timestamp: self.max_timestamp }
    }

    /// The 61 bytes of this header.
    pub(super) fn to_bytes(self) -> [u8; HEADER_LEN] {
        let (id, epoch, sequence) = match self.triple {
            Some(triple) => (triple.id.0 as i64, triple.epoch as i16, triple.sequence as i32),
            None => (-1, -1, -1),
        };
        let mut out = [0; HEADER_LEN];
        out[..8].copy_from_slice(&self.base_offset.to_be_bytes());
        out[8..12].copy_from_slice(&(self.len - LENGTH_BASE as u32).to_be_bytes());
        out[12..16].copy_from_slice(&self.leader_epoch.to_be_bytes());
        out[16] = MAGIC as u8;
        out[17..21].copy_from_slice(&self.crc.to_be_bytes());
        out[21..23].copy_from_slice(&self.codec.attributes().to_be_bytes());
        out[23..27].copy_from_slice(&(self.count - 1).to_be_bytes());
        out[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        out[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        out[43..51].copy_from_slice(&id.to_be_bytes());
        out[51..53].copy_from_slice(&epoch.to_be_bytes());
        out[53..57].copy_from_slice(&sequence.to_be_bytes());
        out[57..61].copy_from_slice(&self.count.to_be_bytes());
        out
    }
}

/// Reads the header at the front of `bytes`, which may hold more or less than the whole batch. Neither the CRC nor the
/// records are looked at.
///
/// # Errors
/// What is wrong with it.
pub fn header(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let fields: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(BatchError::Truncated)?;
    let magic = fields[16] as i8;
    if magic != MAGIC {
        return Err(BatchError::Magic(magic));
    }
    let attributes = i16::from_be_bytes(array(fields, 21));
    if let Some((_, name)) = ATTRIBUTE_BITS.iter().find(|(bit, _)| attributes & bit != 0) {
        return Err(BatchError::Attribute(name));
    }
    let length = i32::from_be_bytes(array(fields, 8));
    let len = u32::try_from(length).ok().and_then(|length| length.checked_add(LENGTH_BASE as u32));
    let len = len.filter(|len| *len as usize >= HEADER_LEN).ok_or(BatchError::Truncated)?;
    let count = i32::from_be_bytes(array(fields, 57));
    let last_offset_delta = i32::from_be_bytes(array(fields, 23));
    if count < 1 || count as u32 > super::MAX_BATCH_RECORDS {
        return Err(BatchError::Count { actual: i64::from(count), limit: super::MAX_BATCH_RECORDS });
    }
    expect_field("lastOffsetDelta", i64::from(last_offset_delta), i64::from(count) - 1)?;
    Ok(BatchHeader {
        base_offset: i64::from_be_bytes(array(fields, 0)),
        len,
        leader_epoch: i32::from_be_bytes(array(fields, 12)),
        crc: u32::from_be_bytes(array(fields, 17)),
        codec: Codec::from_attributes(attributes)?,
        base_timestamp: i64::from_be_bytes(array(fields, 27)),
        max_timestamp: i64::from_be_bytes(array(fields, 35)),
        triple: triple(fields)?,
        count: count as u32,
    })
}

/// All three fields are set, or all are -1.
fn triple(fields: &[u8; HEADER_LEN]) -> Result<Option<Triple>, BatchError> {
    let id = i64::from_be_bytes(array(fields, 43));
    let epoch = i16::from_be_bytes(array(fields, 51));
    let sequence = i32::from_be_bytes(array(fields, 53));
    if id < 0 {
        expect_field("producerId", id, -1)?;
        expect_field("producerEpoch", i64::from(epoch), -1)?;
        expect_field("baseSequence", i64::from(sequence), -1)?;
        return Ok(None);
    }
    let epoch = u16::try_from(epoch);
    let sequence = u32::try_from(sequence);
    match (epoch, sequence) {
        (Ok(epoch), Ok(sequence)) => Ok(Some(Triple { id: ProducerId(id as u64), epoch, sequence })),
        (Err(_), _) => Err(BatchError::Field { field: "producerEpoch", actual: -1, expected: 0 }),
        (_, Err(_)) => Err(BatchError::Field { field: "baseSequence", actual: -1, expected: 0 }),
    }
}

pub(super) fn expect_field(field: &'static str, actual: i64, expected: i64) -> Result<(), BatchError> {
    if actual == expected { Ok(()) } else { Err(BatchError::Field { field, actual, expected }) }
}

fn array<const N: usize>(fields: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&fields[at..at + N]);
    out
}

/// The header of `bytes`, which hold exactly one batch with a true CRC.
pub(super) fn verified(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = header(bytes)?;
    match bytes.len().checked_sub(header.len as usize) {
        None => Err(BatchError::Truncated),
        Some(0) if crc_of(bytes) == header.crc => Ok(header),
        Some(0) => Err(BatchError::Crc),
        Some(more) => Err(BatchError::Trailing(more)),
    }
}

/// The CRC-32C that the header of `batch` should carry; `batch` is at least a header long.
pub(super) fn crc_of(batch: &[u8]) -> u32 {
    crc32c::crc32c(&batch[CRC_START..])
}

/// Splits a stored batch for the way out: a copy of its header with the place set, and the rest, which is shared.
/// Both fields are outside the batch's CRC.
///
/// # Panics
/// If `batch` is shorter than a header: stored batches were checked before they were proposed.
#[must_use]
pub fn placed(batch: &Bytes, base_offset: Offset, leader_epoch: u32) -> (Bytes, Bytes) {
    let mut head = BytesMut::from(&batch[..HEADER_LEN]);
    head[..8].copy_from_slice(&base_offset.to_be_bytes());
    head[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    (head.freeze(), batch.slice(HEADER_LEN..))
}

/// Sets base offset and leader epoch to 0, as stored batches carry them.
pub(super) fn normalise(batch: &Bytes) -> Bytes {
    let mut copy = BytesMut::from(&batch[..]);
    copy[..8].fill(0);
    copy[12..16].fill(0);
    copy.freeze()
}
