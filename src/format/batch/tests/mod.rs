//! Tests of the record batch codec, by subject.
#![allow(clippy::unwrap_used)]

mod checks;
mod damage;
mod golden;
mod kafka;
mod round_trip;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::model::id::MAX_SAFE_INTEGER;
use crate::model::{Compression, Header, ProducerId, Record, StoredBatch, Triple};

pub(super) fn record(timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Record {
    Record {
        timestamp,
        key: key.map(Bytes::copy_from_slice),
        value: value.map(Bytes::copy_from_slice),
        headers: Vec::new(),
    }
}

pub(super) fn header_of(name: &str, value: Option<&[u8]>) -> Header {
    Header { name: name.to_owned(), value: value.map(Bytes::copy_from_slice) }
}

/// Null, empty, the bytes `null` and present; headers with repeats; timestamps that go back.
pub(super) fn odd_records() -> Vec<Record> {
    let mut with_headers = record(1_700_000_000_000, Some(b"k"), Some(b"null"));
    with_headers.headers = vec![
        header_of("b", Some(b"1")),
        header_of("a", None),
        header_of("b", Some(b"")),
        header_of("b", Some(b"1")),
        header_of("", Some(&[0, 255])),
    ];
    vec![
        with_headers,
        record(1_699_999_999_999, None, None),
        record(1_700_000_000_123, Some(b""), Some(b"")),
        record(0, Some(&[0xff; 3]), None),
        record(1_700_000_000_124, None, Some("grüße".as_bytes())),
    ]
}

pub(super) const TRIPLE: Triple = Triple { id: ProducerId((1 << 40) | 7), epoch: 3, sequence: (1 << 31) - 2 };

pub(super) fn stored(batch: &EncodedBatch) -> StoredBatch {
    StoredBatch {
        base_offset: 1000,
        count: batch.info.count,
        max_timestamp: batch.info.max_timestamp,
        append_time: 55,
        bytes: batch.bytes.clone(),
    }
}

/// Sets the CRC right after a change.
pub(super) fn reseal(mut batch: Vec<u8>) -> Bytes {
    let crc = super::header::crc_of(&batch);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

pub(super) fn any_bytes(max: usize) -> impl Strategy<Value = Option<Bytes>> {
    prop_oneof![
        1 => Just(None),
        4 => prop::collection::vec(any::<u8>(), 0..max).prop_map(|bytes| Some(bytes.into())),
        1 => (any::<u8>(), 0..4 * max).prop_map(|(byte, len)| Some(vec![byte; len].into())),
    ]
}

pub(super) fn any_record() -> impl Strategy<Value = Record> {
    let header = ("\\PC{0,8}", any_bytes(20)).prop_map(|(name, value)| Header { name, value });
    let timestamp = prop_oneof![0..=MAX_SAFE_INTEGER as i64, 1_700_000_000_000..1_700_000_100_000i64];
    (timestamp, any_bytes(30), any_bytes(200), prop::collection::vec(header, 0..6))
        .prop_map(|(timestamp, key, value, headers)| Record { timestamp, key, value, headers })
}

pub(super) fn any_triple() -> impl Strategy<Value = Option<Triple>> {
    prop::option::of(
        (0..=MAX_SAFE_INTEGER, 0..=i16::MAX as u16, 0..1u32 << 31).prop_map(|(id, epoch, sequence)| Triple {
            id: ProducerId(id),
            epoch,
            sequence,
        }),
    )
}

pub(super) fn any_compression() -> impl Strategy<Value = Compression> {
    prop_oneof![Just(Compression::None), Just(Compression::Zstd)]
}
