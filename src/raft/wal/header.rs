//! How a file of the log begins, and what a file is by its beginning.
//!
//! The header is written with the first group of the file, after the file before it was synced whole. So it says, as a
//! mark does, that everything before the file was synced.

use std::io;

use uuid::Uuid;

use super::codec::{Fields, invalid};
use super::mark::read_up_to;
use super::state::LogState;
use crate::disk::File;

/// Bytes of a header; frames never share a sector with it.
pub(super) const HEADER_BYTES: usize = 4096;
const MAGIC: &[u8; 8] = b"TLGWALOG";
const VERSION: u16 = 1;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) directory: Uuid,
    /// The number in the file's name. Another one is that of an earlier use of the file.
    pub(super) sequence: u64,
    /// WAL offset at which the frames begin.
    pub(super) start: u64,
    /// The checksum of the frame before.
    pub(super) chain: u32,
    /// Behind the frames are bytes of an earlier use of the file, not zeros.
    pub(super) recycled: bool,
    /// The log's state at the beginning.
    pub(super) state: LogState,
}

/// What a file is by its beginning.
#[derive(Debug)]
pub(super) enum Beginning {
    /// A file of the log.
    Begun(FileHeader),
    /// Never begun: zeros, or nothing.
    Blank,
    /// Not begun since it was recycled.
    Recycled,
    /// Neither: a header that was torn, or rotted.
    Damaged(io::Error),
}

impl FileHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.push(u8::from(self.recycled));
        bytes.push(0);
        bytes.extend(self.chain.to_le_bytes());
        bytes.extend(self.directory.as_bytes());
        bytes.extend(self.sequence.to_le_bytes());
        bytes.extend(self.start.to_le_bytes());
        self.state.encode(&mut bytes);
        bytes.resize(HEADER_BYTES - 4, 0);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend(crc.to_le_bytes());
        bytes
    }

    /// Reads a header; `Err` with its version if it is whole and of another one.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> io::Result<Result<Self, u16>> {
        let (covered, crc) = bytes.split_at(HEADER_BYTES - 4);
        let mut fields = Fields(covered);
        if fields.array()? != MAGIC {
            return Err(invalid("the file does not begin as one of the log".to_owned()));
        }
        if crc != crc32c::crc32c(covered).to_le_bytes() {
            return Err(invalid("the checksum of the file's header does not match".to_owned()));
        }
        let version = fields.u16()?;
        if version != VERSION {
            return Ok(Err(version));
        }
        let recycled = match fields.array()? {
            [0, 0] => false,
            [1, 0] => true,
            other => return Err(invalid(format!("the file's flags are {other:?}"))),
        };
        let chain = fields.u32()?;
        let (directory, sequence, start) = (fields.uuid()?, fields.u64()?, fields.u64()?);
        Ok(Ok(Self { directory, sequence, start, chain, recycled, state: LogState::decode(&mut fields)? }))
    }
}

/// Reads the beginning of `file`, whose name has number `sequence`, in a log of `directory`.
///
/// # Errors
/// `InvalidData` if the file is whole and not one that this build may touch; what reading fails with.
pub(super) fn beginning(file: &File, sequence: u64, directory: Uuid) -> io::Result<Beginning> {
    let mut bytes = [0; HEADER_BYTES];
    read_up_to(file, &mut bytes, 0)?;
    if bytes == [0; HEADER_BYTES] {
        return Ok(Beginning::Blank);
    }
    let header = match FileHeader::decode(&bytes) {
        Ok(Ok(header)) => header,
        Ok(Err(version)) => {
            return Err(invalid(format!("it has version {version} of the format, this build knows version {VERSION}")));
        }
        Err(damage) => return Ok(Beginning::Damaged(damage)),
    };
    if header.directory != directory {
        return Err(invalid(format!("it belongs to the log of directory {}, not {directory}", header.directory)));
    }
    match header.sequence.cmp(&sequence) {
        std::cmp::Ordering::Equal => Ok(Beginning::Begun(header)),
        std::cmp::Ordering::Less => Ok(Beginning::Recycled),
        // Files are only ever renamed upwards.
        std::cmp::Ordering::Greater => {
            Ok(Beginning::Damaged(invalid(format!("its header is that of file {}", header.sequence))))
        }
    }
}
