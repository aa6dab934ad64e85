//! Blocks: the unit of checksums, of reads and of the cache.

use std::ops::Range;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::model::ObjectId;

/// Bytes of a block in the object; the last one of a segment is shorter.
pub const BLOCK_BYTES: usize = 1 << 20;
/// Logical bytes in a whole block.
pub const PAYLOAD_BYTES: usize = BLOCK_BYTES - CRC_LEN;

const CRC_LEN: usize = 4;
const BLOCK: u64 = BLOCK_BYTES as u64;
const PAYLOAD: u64 = PAYLOAD_BYTES as u64;

/// The number of the block that holds the logical byte at `position`.
#[must_use]
pub const fn block_of(position: u64) -> u32 {
    (position / PAYLOAD) as u32
}

/// The numbers of the blocks that hold the logical bytes `[position, end)`.
#[must_use]
pub const fn blocks(position: u64, end: u64) -> Range<u32> {
    let first = block_of(position);
    if position >= end { first..first } else { first..block_of(end - 1) + 1 }
}

/// The number of blocks of a segment whose footer begins at `footer_start`.
#[must_use]
pub const fn block_count(footer_start: u64) -> u32 {
    footer_start.div_ceil(BLOCK) as u32
}

/// The bytes of the object that block `index` takes, in a segment whose footer begins at `footer_start`; empty if it has
/// no such block.
#[must_use]
pub fn block_bytes(index: u32, footer_start: u64) -> Range<u64> {
    let start = u64::from(index) * BLOCK;
    start.min(footer_start)..(start + BLOCK).min(footer_start)
}

/// Bytes that `logical` bytes take in the object, checksums included.
pub(super) const fn physical_len(logical: u64) -> u64 {
    logical + logical.div_ceil(PAYLOAD) * CRC_LEN as u64
}

/// Checks the checksum of block `index` of segment `id` and returns its logical bytes, which share the block's memory.
///
/// # Errors
/// `corrupt` if these are not the bytes that were written as this block.
pub fn verify_block(id: ObjectId, index: u32, block: &Bytes) -> Result<Bytes> {
    let damaged = || Error::corrupt(format!("block {index} of segment {id} is damaged"));
    let payload_len = block.len().checked_sub(CRC_LEN).filter(|len| *len <= PAYLOAD_BYTES).ok_or_else(damaged)?;
    let payload = block.slice(..payload_len);
    if block[payload_len..] == crc(id, index, &payload).to_le_bytes() { Ok(payload) } else { Err(damaged()) }
}

/// Appends the checksum to the logical bytes of block `index`.
pub(super) fn seal(id: ObjectId, index: u32, mut payload: Vec<u8>) -> Bytes {
    let crc = crc(id, index, &payload);
    payload.extend_from_slice(&crc.to_le_bytes());
    payload.into()
}

fn crc(id: ObjectId, index: u32, payload: &[u8]) -> u32 {
    let seed = crc32c::crc32c_append(crc32c::crc32c(&id.0.to_be_bytes()), &index.to_le_bytes());
    crc32c::crc32c_append(seed, payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_logical_ranges() {
        assert_eq!(blocks(0, 1), 0..1);
        assert_eq!(blocks(0, PAYLOAD), 0..1);
        assert_eq!(blocks(0, PAYLOAD + 1), 0..2);
        assert_eq!(blocks(PAYLOAD - 1, PAYLOAD + 1), 0..2);
        assert_eq!(blocks(PAYLOAD, 3 * PAYLOAD), 1..3);
        assert!(blocks(5, 5).is_empty());
    }

    #[test]
    fn the_last_block_is_short_and_none_follows() {
        let footer_start = physical_len(2 * PAYLOAD + 10);
        assert_eq!(footer_start, 2 * BLOCK + 14);
        assert_eq!(block_count(footer_start), 3);
        assert_eq!(block_bytes(1, footer_start), BLOCK..2 * BLOCK);
        assert_eq!(block_bytes(2, footer_start), 2 * BLOCK..2 * BLOCK + 14);
        assert!(block_bytes(3, footer_start).is_empty());
        assert_eq!(block_count(physical_len(2 * PAYLOAD)), 2);
        assert_eq!(block_count(0), 0);
    }
}
