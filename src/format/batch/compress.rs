//! Compression of a batch's records; decompression is bounded by [`MAX_RECORDS_BYTES`].

use std::cell::RefCell;
use std::io::{self, Read};

use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe;

use super::MAX_RECORDS_BYTES;
use super::error::BatchError;
use super::header::Codec;
use crate::error::{Error, Result};

/// Zstandard's fastest regular level: the batches are compressed on the way to an acknowledgement.
const ZSTD_LEVEL: i32 = 1;
/// Records below this are stored plain without trying.
const MIN_PACK_BYTES: usize = 128;
/// Log 2 of the largest window that a streamed frame may ask memory for: that of [`MAX_RECORDS_BYTES`].
const MAX_WINDOW_LOG: u32 = 24;

/// A reused compression context with its output buffer.
#[derive(Default)]
pub(super) struct Packer {
    zstd: Option<Compressor<'static>>,
    /// Never shrunk, so that it is zeroed once and not for each batch.
    packed: Vec<u8>,
}

impl Packer {
    /// Compresses what follows the first `head` bytes of `plain`. The answer has room for as many in front; `None` if it
    /// would not be smaller.
    pub(super) fn pack(&mut self, plain: &[u8], head: usize) -> Result<Option<&mut [u8]>> {
        let records = &plain[head..];
        if records.len() < MIN_PACK_BYTES {
            return Ok(None);
        }
        let failed = |error: io::Error| Error::internal("zstd cannot compress a record batch").with_source(error);
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            empty => empty.insert(Compressor::new(ZSTD_LEVEL).map_err(failed)?),
        };
        let bound = head + zstd_safe::compress_bound(records.len());
        if self.packed.len() < bound {
            self.packed.resize(bound, 0);
        }
        let len = zstd.compress_to_buffer(records, &mut self.packed[head..bound]).map_err(failed)?;
        Ok((len < records.len()).then(|| &mut self.packed[..head + len]))
    }
}

/// The uncompressed records: `packed` itself if they are plain.
pub(super) fn unpack(codec: Codec, packed: Bytes) -> Result<Bytes, BatchError> {
    match codec {
        Codec::None if packed.len() > MAX_RECORDS_BYTES => Err(BatchError::TooLarge(MAX_RECORDS_BYTES)),
        Codec::None => Ok(packed),
        Codec::Gzip => read_bounded(flate2::bufread::MultiGzDecoder::new(&packed[..]), packed.len()),
        Codec::Zstd => unpack_zstd(&packed),
    }
}

thread_local! {
    /// A context is 150 KiB, which would cost more than the content of a small batch.
    static UNPACKER: RefCell<Decompressor<'static>> = RefCell::default();
}

/// Our encoder and most others write the content size into the frame; those that stream do not.
fn unpack_zstd(packed: &[u8]) -> Result<Bytes, BatchError> {
    match zstd_safe::get_frame_content_size(packed) {
        Err(_) => Err(BatchError::Compressed),
        Ok(Some(len)) if len > MAX_RECORDS_BYTES as u64 => Err(BatchError::TooLarge(MAX_RECORDS_BYTES)),
        Ok(Some(len)) => {
            // Bounded just above. Frames that follow the first find no room and are refused.
            let records = UNPACKER.with_borrow_mut(|unpacker| unpacker.decompress(packed, len as usize));
            let records = records.map_err(|_| BatchError::Compressed)?;
            if records.len() as u64 == len { Ok(records.into()) } else { Err(BatchError::Compressed) }
        }
        Ok(None) => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(|_| BatchError::Compressed)?;
            decoder.window_log_max(MAX_WINDOW_LOG).map_err(|_| BatchError::Compressed)?;
            read_bounded(decoder, packed.len())
        }
    }
}

fn read_bounded(source: impl Read, packed_len: usize) -> Result<Bytes, BatchError> {
    // The usual factor of text; what is missing grows as it arrives.
    let mut records = Vec::with_capacity((4 * packed_len).min(MAX_RECORDS_BYTES + 1));
    let mut source = source.take(MAX_RECORDS_BYTES as u64 + 1);
    source.read_to_end(&mut records).map_err(|_| BatchError::Compressed)?;
    if records.len() > MAX_RECORDS_BYTES { Err(BatchError::TooLarge(MAX_RECORDS_BYTES)) } else { Ok(records.into()) }
}
