//! Kafka record batches, format v2 (magic 2): encoded once at the edge, the same bytes in log, memory and segment.
//!
//! Invariants: a stored batch carries base offset 0 and leader epoch 0 (both outside its CRC) and is never patched;
//! [`placed`] makes a copy of the header for the way out. What [`encode`] makes and [`check`] accepts, [`decode()`] reads:
//! all three share [`MAX_RECORDS_BYTES`] and [`MAX_BATCH_RECORDS`].
//!
//! The codec is our own because the order and the repeats of headers have to survive, and because decoding borrows: the
//! keys and values of an uncompressed batch are slices of its bytes.
//!
//! Not here: what a topic allows (value format, timestamps ahead of the clock) and which partition a record belongs to.

mod check;
mod compress;
mod decode;
mod encode;
mod error;
mod header;
mod records;
#[cfg(test)]
mod tests;
mod varint;

pub use check::{CheckLimits, CheckedBatch, check};
pub use decode::{OpenBatch, decode, decode_within, open, verify};
pub use encode::{EncodedBatch, encode, max_encoded_len};
pub use error::{BatchError, RecordProblem};
pub use header::{BatchHeader, Codec, HEADER_LEN, header, placed};
pub use records::{HeaderView, Headers, RecordView, Records};

/// Bytes of a batch's records, uncompressed. Larger than any request, so that only a decompression bomb meets it.
pub const MAX_RECORDS_BYTES: usize = 16 << 20;

/// Records a batch may hold, merged requests included; bounds what decoding a batch allocates. An entry of 4 MiB as
/// [`max_encoded_len`] counts never has more.
pub const MAX_BATCH_RECORDS: u32 = 1 << 17;
