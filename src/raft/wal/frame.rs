//! Frames: one record each, behind a checksum that is chained to the frame before.
//!
//! `length u32 | kind u8 | WAL offset u64 | CRC-32C u32 | payload`, without padding. The checksum covers the checksum of
//! the frame before, length, kind, offset and payload: a verified prefix of the log is a valid log. What an earlier use
//! of the file left behind cannot verify, since its offset is lower; and what a cut left behind cannot either, since each
//! opening of the log writes a frame with a random number first.

use std::io;

use bytes::Bytes;

use super::codec::{Fields, WalLogId, WalPayload, WalVote, encode_option, invalid};
use super::mark::SyncMark;
use crate::format::command::MAX_COMMAND_BYTES;
use crate::planted::{self, Bug};

/// Bytes before the payload.
pub(super) const HEAD_BYTES: usize = 17;
/// Bytes of an entry before its body: log id and kind.
pub(super) const ENTRY_PREFIX_BYTES: usize = 17;
/// Bytes of the payload of any record but an entry, at most.
pub(super) const MAX_SMALL_BYTES: usize = 64;
/// Bytes of a payload, at most.
pub(super) const MAX_PAYLOAD_BYTES: usize = ENTRY_PREFIX_BYTES + MAX_COMMAND_BYTES;

pub(super) const KIND_ENTRY: u8 = 1;
const KIND_VOTE: u8 = 2;
const KIND_COMMIT: u8 = 3;
const KIND_TRUNCATE: u8 = 4;
const KIND_PURGE: u8 = 5;
const KIND_MARK: u8 = 6;
const KIND_OPEN: u8 = 7;

/// What a frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// An entry of the Raft log.
    Entry(WalLogId, WalPayload),
    /// The vote.
    Vote(WalVote),
    /// How far the log is known to be committed.
    Commit(WalLogId),
    /// The entries after this one are gone.
    Truncate(Option<WalLogId>),
    /// The entries up to and with this one are gone.
    Purge(WalLogId),
    /// What had been synced.
    Mark(SyncMark),
    /// The log was opened; a random number.
    Open([u8; 16]),
}

impl Record {
    fn kind(&self) -> u8 {
        match self {
            Self::Entry(..) => KIND_ENTRY,
            Self::Vote(_) => KIND_VOTE,
            Self::Commit(_) => KIND_COMMIT,
            Self::Truncate(_) => KIND_TRUNCATE,
            Self::Purge(_) => KIND_PURGE,
            Self::Mark(_) => KIND_MARK,
            Self::Open(_) => KIND_OPEN,
        }
    }

    /// The part of the payload that is not copied.
    pub(super) fn body(&self) -> Option<&Bytes> {
        if let Self::Entry(_, payload) = self { payload.body() } else { None }
    }

    /// The payload without its body.
    fn encode(&self, into: &mut Vec<u8>) {
        match self {
            Self::Entry(id, payload) => {
                id.encode(into);
                into.push(payload.kind());
            }
            Self::Vote(vote) => vote.encode(into),
            Self::Commit(id) | Self::Purge(id) => id.encode(into),
            Self::Truncate(id) => encode_option(id.as_ref(), WalLogId::BYTES, into, WalLogId::encode),
            Self::Mark(mark) => mark.encode(into),
            Self::Open(nonce) => into.extend(nonce),
        }
    }

    /// Reads the payload of a record of `kind`.
    pub(super) fn decode(kind: u8, payload: &Bytes) -> io::Result<Self> {
        let mut fields = Fields(payload);
        let record = match kind {
            KIND_ENTRY => {
                let (id, kind) = (WalLogId::decode(&mut fields)?, fields.u8()?);
                return Ok(Self::Entry(id, WalPayload::decode(kind, payload.slice(ENTRY_PREFIX_BYTES..))?));
            }
            KIND_VOTE => Self::Vote(WalVote::decode(&mut fields)?),
            KIND_COMMIT => Self::Commit(WalLogId::decode(&mut fields)?),
            KIND_TRUNCATE => Self::Truncate(fields.option(WalLogId::decode)?),
            KIND_PURGE => Self::Purge(WalLogId::decode(&mut fields)?),
            KIND_MARK => Self::Mark(SyncMark::decode(&mut fields)?),
            KIND_OPEN => Self::Open(*fields.array()?),
            other => return Err(invalid(format!("unknown kind of record {other}"))),
        };
        fields.end()?;
        Ok(record)
    }
}

/// What comes before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) len: u32,
    pub(super) kind: u8,
    pub(super) offset: u64,
    pub(super) crc: u32,
}

impl Head {
    pub(super) fn decode(bytes: &[u8; HEAD_BYTES]) -> io::Result<Self> {
        let mut fields = Fields(bytes);
        Ok(Self { len: fields.u32()?, kind: fields.u8()?, offset: fields.u64()?, crc: fields.u32()? })
    }

    /// Whether this may be the head of a frame at WAL offset `offset` where `room` bytes may follow it.
    pub(super) fn check(&self, offset: u64, room: u64) -> io::Result<()> {
        let limit = match self.kind {
            KIND_ENTRY => MAX_PAYLOAD_BYTES,
            KIND_VOTE..=KIND_OPEN => MAX_SMALL_BYTES,
            0 if self.len == 0 && self.offset == 0 && self.crc == 0 => {
                return Err(invalid("nothing is written there".to_owned()));
            }
            other => return Err(invalid(format!("unknown kind of record {other}"))),
        };
        if self.offset != offset {
            return Err(invalid(format!("the frame says that it is at {} of the log, not at {offset}", self.offset)));
        }
        if self.len as usize > limit || u64::from(self.len) > room {
            return Err(invalid(format!("the frame claims {} bytes", self.len)));
        }
        Ok(())
    }

    /// The checksum of the head behind a frame of checksum `chain`; that of the payload continues it.
    pub(super) fn seed(&self, chain: u32) -> u32 {
        let mut covered = [0; HEAD_BYTES];
        covered[..4].copy_from_slice(&chain.to_le_bytes());
        covered[4..8].copy_from_slice(&self.len.to_le_bytes());
        covered[8] = self.kind;
        covered[9..].copy_from_slice(&self.offset.to_le_bytes());
        crc32c::crc32c(&covered)
    }

    /// Whether the checksum is `crc`.
    pub(super) fn verify(&self, crc: u32) -> io::Result<()> {
        if crc == self.crc { Ok(()) } else { Err(invalid("the checksum does not match".to_owned())) }
    }

    fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..4].copy_from_slice(&self.len.to_le_bytes());
        bytes[4] = self.kind;
        bytes[5..13].copy_from_slice(&self.offset.to_le_bytes());
        bytes[13..].copy_from_slice(&self.crc.to_le_bytes());
        bytes
    }
}

/// Replaces `frame` by the frame of `record` at WAL offset `offset` behind checksum `chain`, all but its body. Returns the
/// head.
pub(super) fn build(record: &Record, chain: u32, offset: u64, frame: &mut Vec<u8>) -> io::Result<Head> {
    frame.clear();
    frame.resize(HEAD_BYTES, 0);
    record.encode(frame);
    let body: &[u8] = record.body().map_or(&[], |body| body);
    let len = frame.len() - HEAD_BYTES + body.len();
    if len > MAX_PAYLOAD_BYTES {
        return Err(invalid(format!("a record has {len} bytes, the limit is {MAX_PAYLOAD_BYTES}")));
    }
    let len = u32::try_from(len).map_err(io::Error::other)?;
    let mut head = Head { len, kind: record.kind(), offset, crc: 0 };
    head.crc = crc32c::crc32c_append(crc32c::crc32c_append(head.seed(chain), &frame[HEAD_BYTES..]), body);
    frame[..HEAD_BYTES].copy_from_slice(&head.encode());
    Ok(head)
}

/// Reads the one frame in `bytes`, which has to be at WAL offset `offset` behind checksum `chain`.
pub(super) fn read(bytes: Bytes, chain: u32, offset: u64) -> io::Result<Record> {
    let head = bytes.first_chunk().ok_or_else(|| invalid("the frame ends early".to_owned()))?;
    let head = Head::decode(head)?;
    let payload = bytes.slice(HEAD_BYTES..);
    head.check(offset, payload.len() as u64)?;
    if head.len as usize != payload.len() {
        return Err(invalid(format!("the frame has {} bytes, not {}", head.len, payload.len())));
    }
    if !planted::is(Bug::TornTailAccepted) {
        head.verify(crc32c::crc32c_append(head.seed(chain), &payload))?;
    }
    Record::decode(head.kind, &payload)
}
