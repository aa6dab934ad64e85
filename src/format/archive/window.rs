//! A fetched byte range of a file as Parquet's reader wants it: random access to the whole file, of which only the
//! range is there. Whatever lies outside is an error, never a panic.

use bytes::{Buf, Bytes};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

/// Bytes `[start, start + bytes.len())` of a file of `file_len` bytes.
#[derive(Clone)]
pub(super) struct Window {
    pub(super) file_len: u64,
    pub(super) start: u64,
    pub(super) bytes: Bytes,
}

impl Window {
    fn tail_at(&self, position: u64) -> Result<Bytes> {
        position
            .checked_sub(self.start)
            .and_then(|skip| usize::try_from(skip).ok())
            .filter(|skip| *skip <= self.bytes.len())
            .map(|skip| self.bytes.slice(skip..))
            .ok_or_else(|| outside(position))
    }
}

fn outside(position: u64) -> ParquetError {
    ParquetError::EOF(format!("byte {position} lies outside the fetched range"))
}

impl Length for Window {
    fn len(&self) -> u64 {
        self.file_len
    }
}

impl ChunkReader for Window {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(self.tail_at(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let mut bytes = self.tail_at(start)?;
        if length > bytes.len() {
            return Err(outside(start.saturating_add(length as u64)));
        }
        bytes.truncate(length);
        Ok(bytes)
    }
}
