//! The heads of requests and answers: `version u8 | 0 | length u16 | CRC-32C of the head u32 | head in postcard`.
//!
//! The version stands before everything that it may change. A node that does not know a request's version answers in its own,
//! so an answer in a version that the caller does not know is a refusal.

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::failure::Failure;
use super::frame::FrameError;
use crate::model::{Incarnation, NodeId, ShardId};

pub(super) const VERSION: u8 = 1;
pub(super) const PREFIX_BYTES: usize = 8;
pub(super) const MAX_REQUEST_HEAD: usize = 1 << 10;
pub(super) const MAX_ANSWER_HEAD: usize = 32 << 10;

/// A node and the directory by which it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) node: NodeId,
    pub(super) directory: Uuid,
}

/// What comes before a request's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RequestHead {
    pub(super) cluster: String,
    pub(super) incarnation: Incarnation,
    pub(super) from: End,
    /// The directory is nil if the caller does not know it.
    pub(super) to: End,
    pub(super) shard: ShardId,
    pub(super) kind: u8,
    /// How long the caller waits from now on.
    pub(super) deadline_ms: u64,
    pub(super) body: BodyHead,
}

/// What comes before an answer's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AnswerHead {
    /// The request was refused before the handler saw it.
    pub(super) refused: bool,
    pub(super) failure: Option<Failure>,
    pub(super) body: BodyHead,
}

/// What is said of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BodyHead {
    pub(super) bytes: u64,
    /// CRC-32C of all of it: TCP's own is too weak for bytes that are replicated.
    pub(super) checksum: u32,
}

impl BodyHead {
    pub(super) fn of(parts: &[Bytes]) -> Self {
        Self {
            bytes: parts.iter().map(|part| part.len() as u64).sum(),
            checksum: parts.iter().fold(0, |checksum, part| crc32c::crc32c_append(checksum, part)),
        }
    }
}

/// A head with its prefix; `None` if it has more than `most` bytes.
pub(super) fn encode<T: Serialize>(head: &T, most: usize) -> Option<Bytes> {
    let head = postcard::to_stdvec(head).ok().filter(|head| head.len() <= most)?;
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + head.len());
    bytes.put_u8(VERSION);
    bytes.put_u8(0);
    bytes.put_u16_le(u16::try_from(head.len()).ok()?);
    bytes.put_u32_le(crc32c::crc32c(&head));
    bytes.put_slice(&head);
    Some(bytes.freeze())
}

/// Length and checksum of the head that follows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prefix {
    pub(super) length: usize,
    checksum: u32,
}

impl Prefix {
    /// # Errors
    /// Another version, or a head of more than `most` bytes.
    pub(super) fn decode(bytes: &[u8], most: usize) -> Result<Self, FrameError> {
        let &[version, zero, low, high, a, b, c, d] = bytes else { return Err(FrameError::Head) };
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let length = usize::from(u16::from_le_bytes([low, high]));
        if zero != 0 || length > most {
            return Err(FrameError::Head);
        }
        Ok(Self { length, checksum: u32::from_le_bytes([a, b, c, d]) })
    }

    /// The head, which has to fill `bytes`.
    pub(super) fn head<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, FrameError> {
        if crc32c::crc32c(bytes) != self.checksum {
            return Err(FrameError::Head);
        }
        match postcard::take_from_bytes(bytes) {
            Ok((head, [])) => Ok(head),
            _ => Err(FrameError::Head),
        }
    }
}
