//! Record batches, version 2 of Kafka's format, as they are stored: base offset 0, zstd or not compressed.

use super::{Found, rest_of};
use crate::history::{Record, Stamped};

const HEAD: usize = 61;

/// The records of a batch whose first one is at `base`.
pub(super) fn records(bytes: &[u8], base: u64) -> Result<Vec<Found>, String> {
    let (head, payload) = bytes.split_at_checked(HEAD).ok_or("a batch is shorter than its header")?;
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let long = |at: usize| i64::from(word(at)) << 32 | i64::from(word(at + 4));
    if head[16] != 2 || word(8) as usize != bytes.len() - 12 || crc32c::crc32c(&bytes[21..]) != word(17) {
        return Err("a batch has a wrong length, version or checksum".to_owned());
    }
    if long(0) != 0 {
        return Err("a stored batch has a base offset".to_owned());
    }
    let content = match head[22] & 7 {
        0 => payload.to_vec(),
        4 => zstd::decode_all(payload).map_err(|error| format!("a batch does not inflate: {error}"))?,
        codec => return Err(format!("a batch has codec {codec}, which no client of the simulation uses")),
    };
    let (count, first) = (word(57), long(27));
    let (producer, epoch, sequence) = (long(43), u16::from_be_bytes([head[51], head[52]]), word(53));
    let mut reader = Reader(&content);
    let mut all = Vec::new();
    for place in 0..count {
        let mut record = reader.record(first).ok_or("a batch ends within a record")?;
        record.offset = base + u64::from(place);
        record.stamp = u64::try_from(producer).ok().map(|producer| Stamped {
            producer,
            epoch,
            sequence: sequence.wrapping_add(place) & 0x7fff_ffff,
        });
        all.push(record);
    }
    if reader.0.is_empty() { Ok(all) } else { Err("a batch has more than its records".to_owned()) }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn record(&mut self, first: i64) -> Option<Found> {
        self.varint()?;
        self.take(1)?;
        let timestamp = first + self.varint()?;
        self.varint()?;
        let key = self.bytes()?;
        let value = self.bytes()?;
        let count = self.varint()?;
        let mut headers = Vec::new();
        for _ in 0..count {
            let name = String::from_utf8(self.bytes()??.to_vec()).ok()?;
            headers.push((name, self.bytes()?.map(<[u8]>::to_vec)));
        }
        let value = String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        let record = Record { value, rest: rest_of(key, &headers, timestamp) };
        Some(Found { offset: 0, record, stamp: None })
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// Zigzag, seven bits a byte, least significant first.
    fn varint(&mut self) -> Option<i64> {
        let mut bits = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            bits |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some((bits >> 1).cast_signed() ^ -(bits & 1).cast_signed());
            }
        }
        None
    }

    /// Bytes with their length before them; the inner `None` is null.
    #[allow(clippy::option_option, reason = "the outer one is the end of the batch")]
    fn bytes(&mut self) -> Option<Option<&'a [u8]>> {
        match usize::try_from(self.varint()?) {
            Ok(length) => self.take(length).map(Some),
            Err(_) => Some(None),
        }
    }
}
