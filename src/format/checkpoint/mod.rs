//! The byte frames of checkpoints and index parts.
//!
//! Both are `magic (8) | version u16 | zero u16 | content length u32 | stored length u32 | zstd of postcard | CRC-32C u32`,
//! little endian; the checksum covers everything before it. Decoding checks length and checksum before it trusts any
//! field, and never inflates beyond the content length, nor that beyond [`MAX_CONTENT`].

mod part;
#[cfg(test)]
mod tests;

use std::io::Read;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::part::WirePart;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Checkpoint, IndexPart};

/// The largest content of a frame before compression, in bytes.
pub const MAX_CONTENT: u32 = 1 << 30;
/// The version that this program writes, and the newest that it reads.
pub const VERSION: u16 = 1;

const HEADER_LEN: usize = 20;
const CRC_LEN: usize = 4;
/// Fast enough for the flush path; higher levels gain little on varints and hashes.
const ZSTD_LEVEL: i32 = 1;

/// One kind of frame.
struct Frame {
    magic: [u8; 8],
    what: &'static str,
}

const CHECKPOINT: Frame = Frame { magic: *b"TIDECKPT", what: "checkpoint" };
const PART: Frame = Frame { magic: *b"TIDEINDX", what: "index part" };

/// The bytes of a checkpoint object.
///
/// # Errors
/// `internal` if the content is above [`MAX_CONTENT`].
pub fn encode_checkpoint(checkpoint: &Checkpoint) -> Result<Bytes> {
    CHECKPOINT.encode(checkpoint)
}

/// The checkpoint in `bytes`.
///
/// # Errors
/// `corrupt` for anything but the bytes that were written, `unknown_version` if a newer program wrote them.
pub fn decode_checkpoint(bytes: &[u8]) -> Result<Checkpoint> {
    CHECKPOINT.decode(bytes)
}

/// The bytes of an index part object.
///
/// # Errors
/// `internal` if the content is above [`MAX_CONTENT`].
pub fn encode_part(part: &IndexPart) -> Result<Bytes> {
    PART.encode(&WirePart::from(part))
}

/// The index part in `bytes`.
///
/// # Errors
/// `corrupt` for anything but the bytes that were written, `unknown_version` if a newer program wrote them.
pub fn decode_part(bytes: &[u8]) -> Result<IndexPart> {
    PART.decode::<WirePart>(bytes)?.into_part().ok_or_else(|| PART.damaged("its content is not valid"))
}

impl Frame {
    fn encode(&self, value: &impl Serialize) -> Result<Bytes> {
        let unencodable = |what: &'static str| Error::internal(format!("the {} {what}", self.what));
        let content =
            postcard::to_stdvec(value).map_err(|error| unencodable("cannot be encoded").with_source(error))?;
        let content_len = u32::try_from(content.len()).ok().filter(|len| *len <= MAX_CONTENT);
        let content_len = content_len.ok_or_else(|| unencodable("is too large"))?;
        let stored = zstd::bulk::compress(&content, ZSTD_LEVEL)
            .map_err(|error| unencodable("cannot be compressed").with_source(error))?;
        let stored_len = u32::try_from(stored.len()).map_err(|_| unencodable("is too large"))?;
        let mut frame = Vec::with_capacity(HEADER_LEN + stored.len() + CRC_LEN);
        frame.extend_from_slice(&self.magic);
        frame.extend_from_slice(&VERSION.to_le_bytes());
        frame.extend_from_slice(&[0; 2]);
        frame.extend_from_slice(&content_len.to_le_bytes());
        frame.extend_from_slice(&stored_len.to_le_bytes());
        frame.extend_from_slice(&stored);
        frame.extend_from_slice(&crc32c::crc32c(&frame).to_le_bytes());
        Ok(frame.into())
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T> {
        let (frame, crc) = bytes.split_last_chunk::<CRC_LEN>().ok_or_else(|| self.damaged("it is cut short"))?;
        let (header, stored) =
            frame.split_first_chunk::<HEADER_LEN>().ok_or_else(|| self.damaged("it is cut short"))?;
        if crc32c::crc32c(frame) != u32::from_le_bytes(*crc) {
            return Err(self.damaged("its checksum does not match"));
        }
        if header[..8] != self.magic {
            return Err(self.damaged("it is another kind of object"));
        }
        let version = u16::from_le_bytes([header[8], header[9]]);
        if version != VERSION {
            let message = format!("the {} has version {version}, this program knows {VERSION}", self.what);
            return Err(Error::new(ErrorKind::Internal, "unknown_version", message));
        }
        let length = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (content_len, stored_len) = (length(12), length(16));
        if header[10..12] != [0; 2] || content_len > MAX_CONTENT || stored_len as usize != stored.len() {
            return Err(self.damaged("its header is not valid"));
        }
        let content = inflate(stored, content_len).map_err(|error| self.damaged("its content").with_source(error))?;
        match postcard::take_from_bytes(&content) {
            Ok((value, [])) if content.len() == content_len as usize => Ok(value),
            _ => Err(self.damaged("its content is not valid")),
        }
    }

    fn damaged(&self, how: &str) -> Error {
        Error::corrupt(format!("the {} is damaged: {how}", self.what))
    }
}

/// What `stored` inflates to, at most one byte more than `len`; memory is taken as the bytes come.
fn inflate(stored: &[u8], len: u32) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    zstd::stream::read::Decoder::new(stored)?.take(u64::from(len) + 1).read_to_end(&mut content)?;
    Ok(content)
}
