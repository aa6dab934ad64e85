//! Sync marks: what the WAL says of itself about what had reached the disk.
//!
//! Nothing in raft-log tells a torn write that was never acknowledged from bytes that rotted after they were. A mark
//! does: written at the start of a write group, and again without a sync when entries were committed, it says that
//! everything below a WAL offset was synced. A bad record at or above the newest mark is a torn tail and is cut; one
//! below it is corruption.

use std::io::{self, Read, Write};

use raft_log::codeq::{Decode, Encode};
use uuid::Uuid;

use super::codec::{invalid, read_u8, read_u64};

const VERSION: u8 = 1;

/// A statement of the WAL of `directory`, made at WAL offset `position`: all below `synced` was on disk.
///
/// Directory and position are there so that no bytes which a client sent can pass for a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SyncMark {
    pub(crate) directory: Uuid,
    pub(crate) position: u64,
    pub(crate) synced: u64,
}

impl Encode for SyncMark {
    fn encode<W: Write>(&self, mut w: W) -> io::Result<usize> {
        w.write_all(&[VERSION])?;
        w.write_all(self.directory.as_bytes())?;
        w.write_all(&self.position.to_be_bytes())?;
        w.write_all(&self.synced.to_be_bytes())?;
        Ok(33)
    }
}

impl Decode for SyncMark {
    fn decode<R: Read>(mut r: R) -> io::Result<Self> {
        let version = read_u8(&mut r)?;
        if version != VERSION {
            return Err(invalid(format!("unknown version {version} of a sync mark")));
        }
        let mut directory = [0; 16];
        r.read_exact(&mut directory)?;
        Ok(Self { directory: Uuid::from_bytes(directory), position: read_u64(&mut r)?, synced: read_u64(&mut r)? })
    }
}
