//! Segments: immutable objects of the bucket with batches of many partitions of one shard.
//!
//! ```text
//! object   blocks | footer
//! block    up to 1 MiB - 4 of the logical bytes | CRC-32C u32 LE over segment id, block number and those bytes
//! logical  header: magic, version, segment id | frames, sorted by (topic, partition, offset)
//! frame    base offset u64 LE | append time u64 LE | batch length u32 LE | batch
//! footer   postcard: topics, ranges, sparse indexes | trailer: length, version, CRC-32C, magic
//! ```
//!
//! Positions are logical: they count no block checksums. Only the last block is short, so that the block of a position is
//! a division. The checksums cover the segment's id and the block's number as well, so a block read or cached under
//! another's name is refused.
//!
//! [`SegmentWriter`] builds an object block by block and hands it out as a list of chunks. A reader needs the
//! [`Footer`], asks it for a [`Seek`], and feeds [`FrameReader`] with verified blocks one at a time; nobody holds a whole
//! object. [`SegmentVerifier`] checks all of one.
//!
//! Not here: which batches go into a segment, the names of objects, reading and caching.

mod block;
mod footer;
mod frame;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

pub use block::{BLOCK_BYTES, PAYLOAD_BYTES, block_bytes, block_count, block_of, blocks, verify_block};
pub use footer::{Footer, IndexEntry, PartitionIndex, Seek, SegmentTopic, TRAILER_LEN};
pub use frame::FrameReader;
pub use verify::{SegmentVerifier, verify};
pub use writer::{FinishedSegment, SegmentWriter, TARGET_BYTES};

/// Logical bytes of a partition between two entries of its sparse index.
pub const INDEX_INTERVAL_BYTES: u64 = 64 << 10;

const VERSION: u16 = 1;
const HEADER_MAGIC: [u8; 8] = *b"TIDELSEG";
const FOOTER_MAGIC: [u8; 8] = *b"TIDELFTR";
/// Logical bytes of the header: magic, version u16, six zero bytes, segment id.
const HEADER_LEN: usize = 32;
/// Bytes of a frame before its batch.
const FRAME_HEADER_LEN: usize = 20;
