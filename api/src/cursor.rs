//! Cursors: positions in many partitions of one topic, as an opaque text that a client hands back.
//!
//! Before base64url (no padding), all integers unsigned LEB128 varints:
//!
//! | field | bytes | what |
//! |---|---|---|
//! | version | 1 | 1 |
//! | topic id | 16 | UUID, big endian |
//! | incarnation | varint | life of the cluster that made it; offsets of another may name other records |
//! | flags | 1 | bit 0: follows all partitions, so new ones join at offset 0 |
//! | runs | varint | then, for each run of neighbouring partitions: first partition − end of the run before, and length − 1 |
//! | offsets | varint each | next offset of each partition, in partition order |
//! | check | 4 | FNV-1a (32 bits) of all before, little endian |
//!
//! The check is against garbling, not against forgery: a cursor grants nothing. At most 256 partitions, so a cursor is
//! bounded, and so is the work of reading one. Partitions ascend, so each is there once.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use crate::limits::{MAX_CURSOR_PARTITIONS, MAX_SAFE_INTEGER};

const VERSION: u8 = 1;
const FLAG_ALL: u8 = 1;
const CHECK_LEN: usize = 4;
/// Partitions a topic may have; a cursor that names a later one is garbled.
const MAX_PARTITIONS: u64 = 10_000;
/// Version, topic, incarnation, flags, run count, 256 runs of 2 × 2 bytes, 256 offsets of 8 bytes, check; in base64.
const MAX_TEXT_LEN: usize = (1 + 16 + 10 + 1 + 2 + MAX_CURSOR_PARTITIONS * 12 + CHECK_LEN) * 4 / 3 + 4;

/// Where to go on in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The topic.
    pub topic_id: Uuid,
    /// Life of the cluster on its bucket.
    pub incarnation: u64,
    /// Follows all partitions: new ones join at offset 0.
    pub all: bool,
    /// Partition and next offset; partitions ascend strictly. At most 256.
    pub positions: Vec<(u32, u64)>,
}

/// The text is not a cursor of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor")]
pub struct InvalidCursor;

impl Cursor {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32 + self.positions.len() * 6);
        bytes.push(VERSION);
        bytes.extend_from_slice(self.topic_id.as_bytes());
        put_varint(&mut bytes, self.incarnation);
        bytes.push(if self.all { FLAG_ALL } else { 0 });
        let runs = self.runs();
        put_varint(&mut bytes, runs.len() as u64);
        let mut end = 0;
        for (first, len) in runs {
            put_varint(&mut bytes, u64::from(first - end));
            put_varint(&mut bytes, u64::from(len - 1));
            end = first + len;
        }
        for (_, offset) in &self.positions {
            put_varint(&mut bytes, *offset);
        }
        let check = fnv1a(&bytes);
        bytes.extend_from_slice(&check.to_le_bytes());
        bytes
    }

    /// First partition and length of each run of neighbours.
    fn runs(&self) -> Vec<(u32, u32)> {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for (partition, _) in &self.positions {
            match runs.last_mut() {
                Some((first, len)) if *first + *len == *partition => *len += 1,
                _ => runs.push((*partition, 1)),
            }
        }
        runs
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, check) = bytes.split_at_checked(bytes.len().checked_sub(CHECK_LEN)?)?;
        if fnv1a(body).to_le_bytes() != check {
            return None;
        }
        let mut from = Reader(body);
        if from.byte()? != VERSION {
            return None;
        }
        let topic_id = Uuid::from_slice(from.take(16)?).ok()?;
        let incarnation = from.varint()?;
        let all = match from.byte()? {
            0 => false,
            FLAG_ALL => true,
            _ => return None,
        };
        let mut positions = Vec::new();
        let mut end = 0;
        for run in 0..from.varint()? {
            let gap = from.varint()?;
            let len = from.varint()?.checked_add(1)?;
            // Neighbouring runs would have been one: each cursor has one spelling.
            if run > 0 && gap == 0 {
                return None;
            }
            let first = gap.checked_add(end)?;
            end = first.checked_add(len).filter(|end| *end <= MAX_PARTITIONS)?;
            if positions.len() as u64 + len > MAX_CURSOR_PARTITIONS as u64 {
                return None;
            }
            positions.extend((first..end).filter_map(|partition| Some((u32::try_from(partition).ok()?, 0))));
        }
        for (_, offset) in &mut positions {
            *offset = from.varint().filter(|offset| *offset <= MAX_SAFE_INTEGER)?;
        }
        from.0.is_empty().then_some(Self { topic_id, incarnation, all, positions })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.encode()))
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        if text.len() > MAX_TEXT_LEN {
            return Err(InvalidCursor);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
        Self::decode(&bytes).ok_or(InvalidCursor)
    }
}

fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// At most ten bytes, in the shortest spelling only.
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for place in 0..10 {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if place == 9 && part > 1 {
                return None;
            }
            value |= part << (7 * place);
            if byte & 0x80 == 0 {
                return (byte != 0 || place == 0).then_some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::collection::btree_map;
    use proptest::prelude::*;

    use super::*;

    fn example() -> Cursor {
        Cursor {
            topic_id: Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
            incarnation: 3,
            all: true,
            positions: vec![(0, 5), (1, 0), (7, 300)],
        }
    }

    #[test]
    fn golden_bytes() {
        let text = example().to_string();
        assert_eq!(text, "AQARIjNEVWZ3iJmqu8zd7v8DAQIAAQUABQCsAiPswvM");
        assert_eq!(text.parse(), Ok(example()));
    }

    #[test]
    fn truncated_and_flipped_bytes_are_refused() {
        let bytes = example().encode();
        for len in 0..bytes.len() {
            assert_eq!(Cursor::decode(&bytes[..len]), None, "cut at {len}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Cursor::decode(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn the_largest_cursor_fits_its_own_bound() {
        let positions = (0..MAX_CURSOR_PARTITIONS as u32).map(|n| (n * 39, MAX_SAFE_INTEGER)).collect();
        let cursor = Cursor { positions, incarnation: u64::MAX, ..example() };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
    }

    #[test]
    fn more_partitions_than_the_limit_are_refused() {
        let positions = (0..=MAX_CURSOR_PARTITIONS as u32).map(|n| (n, 0)).collect();
        assert_eq!(Cursor { positions, ..example() }.to_string().parse::<Cursor>(), Err(InvalidCursor));
    }

    proptest! {
        #[test]
        fn round_trip(
            id: u128,
            incarnation: u64,
            all: bool,
            positions in btree_map(0u32..10_000, 0..=MAX_SAFE_INTEGER, 0..MAX_CURSOR_PARTITIONS),
        ) {
            let positions = positions.into_iter().collect();
            let cursor = Cursor { topic_id: Uuid::from_u128(id), incarnation, all, positions };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn any_text_is_read_without_panic(text in "[A-Za-z0-9_-]{0,200}") {
            let _ = text.parse::<Cursor>();
        }
    }
}
