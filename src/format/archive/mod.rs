//! The archive file: Parquet that any reader opens, with checksums that ours verifies. The only place of the engine that
//! names arrow and parquet.
//!
//! A file holds the records of one topic and one append day, sorted by (partition, offset). A row group never spans
//! partitions and is small enough to be fetched whole. Row groups tile the file from byte 0 to the footer (a group's
//! bytes include its bloom filter, the first one's the magic number too), each under a CRC-32C that the footer holds;
//! [`ArchiveFile`](crate::model::ArchiveFile) holds the footer's. So every byte is under one checksum, and every byte is
//! checked before it is decoded.
//!
//! No I/O and no async here: the writer hands out bytes, the reader takes fetched ones. See docs/formats.md.

mod check;
mod decode;
mod describe;
mod metadata;
mod properties;
mod reader;
mod rename;
mod rows;
mod schema;
mod window;
mod writer;

#[cfg(test)]
mod tests;

pub use describe::{Described, Undescribed, describe};
pub use metadata::RowGroup;
pub use reader::ArchiveReader;
pub use rename::renamed;
pub use writer::{ArchiveWriter, FinishedArchive};

/// The version this code writes, and the only one it reads.
pub const VERSION: u32 = 1;
/// Key, value and header bytes after which a row group is cut; one record may exceed it.
pub const ROW_GROUP_BYTES: usize = 8 << 20;
/// Rows after which a row group is cut.
pub const ROW_GROUP_ROWS: usize = 64 << 10;
/// Row groups a file may have: its footer is read whole, and each of them costs some 2 KiB there.
pub const MAX_ROW_GROUPS: usize = 1 << 10;
/// Milliseconds of a day of append time.
pub const DAY_MS: u64 = 24 * 3_600_000;

/// The append day (days since 1970-01-01 UTC) that `append_time` falls on.
#[must_use]
pub fn append_day(append_time: crate::model::LogTime) -> u32 {
    u32::try_from(append_time / DAY_MS).unwrap_or(u32::MAX)
}
