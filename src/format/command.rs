//! The encoded form of a [`LoggedCommand`]: the payload of one Raft entry.
//!
//! ```text
//! version u8 = 1 | kind u8 | log time u64 LE | body
//! Append  (kind 1): header length u32 LE | header: postcard of the appends without their bytes | the batches, in order
//! Control (kind 2): postcard of the control command
//! ```
//!
//! The batches are copied once when an entry is encoded and never when it is decoded: they are slices of the entry, and
//! [`Append::position`] says where. There is no checksum here: the Raft log has one over the entry.
//!
//! The head of an entry is all of it but the batches: what `apply` reads, for those that follow a log without keeping it.
//!
//! An unknown version or kind is an error of its own, [`UNKNOWN_COMMAND`]: a node that cannot apply what the others
//! apply has to stop, while damaged bytes can be repaired from a peer.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::model::{
    Append, BatchInfo, Command, Control, Keyed, LogTime, LoggedCommand, Offset, TopicPartition, Triple,
};

/// Code of the error for a version or kind that this build does not know.
pub const UNKNOWN_COMMAND: &str = "unknown_command";

/// Bytes that an encoded command may have. Appends stay far below (4 MiB an entry); a `Flushed` of many partitions is
/// the largest.
pub const MAX_COMMAND_BYTES: usize = 64 << 20;

const VERSION: u8 = 1;
const KIND_APPEND: u8 = 1;
const KIND_CONTROL: u8 = 2;
/// Variants of [`Control`] that this build knows; postcard numbers them from 0.
const CONTROL_VARIANTS: u32 = 25;
/// After version and kind.
const LOG_TIME_AT: usize = 2;
/// Version, kind and log time.
const PREFIX_LEN: usize = 10;
/// Where the header of an append begins: after the prefix and its length.
const HEADER_AT: usize = PREFIX_LEN + size_of::<u32>();

/// An [`Append`] without its bytes; their length is in `info`. Field order is the format.
#[derive(Serialize, Deserialize)]
struct AppendHeader {
    partition: TopicPartition,
    info: BatchInfo,
    triple: Option<Triple>,
    idempotency: Option<Keyed>,
    digest: u128,
    expected_offset: Option<Offset>,
}

/// Encodes a command for the log.
///
/// # Errors
/// `Invalid` under `command_too_large` above [`MAX_COMMAND_BYTES`]; `Internal` if a batch's length is not what its
/// info says.
pub fn encode(logged: &LoggedCommand) -> Result<Bytes> {
    let out = match &logged.command {
        Command::Append(appends) => encode_append(logged.log_time, appends)?,
        Command::Control(control) => {
            postcard::to_extend(control, prefix(KIND_CONTROL, logged.log_time, 64)).map_err(unencodable)?
        }
    };
    if out.len() > MAX_COMMAND_BYTES {
        return Err(too_large(out.len()));
    }
    Ok(out.into())
}

/// Decodes a command. The batches of an append are slices of `bytes`.
///
/// # Errors
/// [`UNKNOWN_COMMAND`] for a version or kind of a newer build; `corrupt` for anything else that is not a whole command.
pub fn decode(bytes: &Bytes) -> Result<LoggedCommand> {
    decode_with(bytes, decode_append)
}

/// The head of an encoded command: of an append all but the batches, of anything else all of it. A slice of `bytes`.
///
/// # Errors
/// `corrupt` for what is too short to be a command; a version or kind of a newer build passes as it is.
pub fn head(bytes: &Bytes) -> Result<Bytes> {
    if bytes.get(..LOG_TIME_AT) != Some(&[VERSION, KIND_APPEND]) {
        return Ok(bytes.clone());
    }
    let header = append_header(bytes).ok_or_else(|| Error::corrupt("a log entry is not a command"))?;
    Ok(bytes.slice(..HEADER_AT + header.len()))
}

/// Decodes the head of a command: the batches of an append are empty, and all else is as in the whole one.
///
/// # Errors
/// As [`decode`].
pub fn decode_head(bytes: &Bytes) -> Result<LoggedCommand> {
    decode_with(bytes, decode_append_head)
}

fn decode_with(bytes: &Bytes, append: impl FnOnce(&Bytes) -> Option<Command>) -> Result<LoggedCommand> {
    let damaged = || Error::corrupt("a log entry is not a command");
    if bytes.len() > MAX_COMMAND_BYTES {
        return Err(damaged());
    }
    let (prefix, body) = bytes.split_first_chunk::<PREFIX_LEN>().ok_or_else(damaged)?;
    let [version, kind, log_time @ ..] = *prefix;
    let log_time = LogTime::from_le_bytes(log_time);
    let command = match (version, kind) {
        (VERSION, KIND_APPEND) => append(bytes),
        (VERSION, KIND_CONTROL) => {
            let variant = postcard::take_from_bytes::<u32>(body).map_or(0, |(variant, _)| variant);
            if variant >= CONTROL_VARIANTS {
                return Err(unknown(format!("control command {variant}")));
            }
            exactly::<Control>(body).map(Command::Control)
        }
        _ => return Err(unknown(format!("version {version} and kind {kind}"))),
    };
    Ok(LoggedCommand { log_time, command: command.ok_or_else(damaged)? })
}

/// Replaces the log time of an encoded command; what is too short to be one stays as it is.
pub fn restamp(bytes: &mut [u8], log_time: LogTime) {
    if let Some(place) = bytes.get_mut(LOG_TIME_AT..PREFIX_LEN) {
        place.copy_from_slice(&log_time.to_le_bytes());
    }
}

fn prefix(kind: u8, log_time: LogTime, more: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(PREFIX_LEN + more);
    out.extend_from_slice(&[VERSION, kind]);
    out.extend_from_slice(&log_time.to_le_bytes());
    out
}

fn encode_append(log_time: LogTime, appends: &[Append]) -> Result<Vec<u8>> {
    let headers: Vec<AppendHeader> = appends.iter().map(AppendHeader::of).collect();
    let header = postcard::to_allocvec(&headers).map_err(unencodable)?;
    let batches: usize = appends.iter().map(|append| append.batch.len()).sum();
    let total = PREFIX_LEN + size_of::<u32>() + header.len() + batches;
    if total > MAX_COMMAND_BYTES {
        return Err(too_large(total));
    }
    let mut out = prefix(KIND_APPEND, log_time, total - PREFIX_LEN);
    out.extend_from_slice(&(header.len() as u32).to_le_bytes());
    out.extend_from_slice(&header);
    for append in appends {
        if append.batch.len() != append.info.len as usize {
            return Err(Error::internal("a batch to be logged does not have the length that its info says"));
        }
        out.extend_from_slice(&append.batch);
    }
    Ok(out)
}

/// The header of an append, without its length.
fn append_header(bytes: &Bytes) -> Option<&[u8]> {
    let (header_len, rest) = bytes.get(PREFIX_LEN..)?.split_first_chunk()?;
    rest.get(..u32::from_le_bytes(*header_len) as usize)
}

fn decode_append(bytes: &Bytes) -> Option<Command> {
    let header = append_header(bytes)?;
    let headers: Vec<AppendHeader> = exactly(header)?;
    let mut position = HEADER_AT + header.len();
    let mut appends = Vec::with_capacity(headers.len());
    for header in headers {
        let end = position.checked_add(header.info.len as usize).filter(|end| *end <= bytes.len())?;
        // Fits: the whole command is at most MAX_COMMAND_BYTES.
        appends.push(header.with_batch(bytes.slice(position..end), position as u32));
        position = end;
    }
    (position == bytes.len()).then_some(Command::Append(appends))
}

fn decode_append_head(bytes: &Bytes) -> Option<Command> {
    let header = append_header(bytes)?;
    let headers: Vec<AppendHeader> = exactly(header)?;
    let mut position = HEADER_AT + header.len();
    if position != bytes.len() {
        return None;
    }
    let mut appends = Vec::with_capacity(headers.len());
    for header in headers {
        let end = position.checked_add(header.info.len as usize).filter(|end| *end <= MAX_COMMAND_BYTES)?;
        // Fits, as above.
        appends.push(header.with_batch(Bytes::new(), position as u32));
        position = end;
    }
    Some(Command::Append(appends))
}

/// One postcard value that takes all of `bytes`.
fn exactly<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}

impl AppendHeader {
    fn of(append: &Append) -> Self {
        Self {
            partition: append.partition,
            info: append.info,
            triple: append.triple,
            idempotency: append.idempotency,
            digest: append.digest,
            expected_offset: append.expected_offset,
        }
    }

    fn with_batch(self, batch: Bytes, position: u32) -> Append {
        Append {
            partition: self.partition,
            batch,
            position,
            info: self.info,
            triple: self.triple,
            idempotency: self.idempotency,
            digest: self.digest,
            expected_offset: self.expected_offset,
        }
    }
}

fn unknown(what: String) -> Error {
    let message = format!("a log entry has {what}, which this build does not know");
    Error::new(ErrorKind::Internal, UNKNOWN_COMMAND, message)
}

fn too_large(len: usize) -> Error {
    Error::invalid("command_too_large", format!("a command of {len} bytes is above {MAX_COMMAND_BYTES}"))
}

fn unencodable(error: postcard::Error) -> Error {
    Error::internal("a command cannot be encoded").with_source(error)
}

#[cfg(test)]
mod tests;
