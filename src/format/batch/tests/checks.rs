//! What `check` refuses although the bytes are a batch.

use super::*;
use crate::error::Error;

fn refused(batch: &Bytes) -> Error {
    check(batch, None, &CheckLimits::default()).unwrap_err()
}

fn patched(at: usize, bytes: &[u8]) -> Bytes {
    let mut batch = encode(&odd_records(), Compression::None, None).unwrap().bytes.to_vec();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    reseal(batch)
}

#[test]
fn fields_of_the_header() {
    for (at, bytes, what) in [
        (0, &[0u8, 0, 0, 0, 0, 0, 0, 1][..], "baseOffset is 1"),
        (16, &[1], "magic 1"),
        (21, &[0, 1 << 3], "log-append-time"),
        (21, &[0, 1 << 4], "transactional"),
        (21, &[0, 1 << 5], "control"),
        (21, &[0, 1 << 6], "delete-horizon"),
        (21, &[0, 1 << 7], "reserved"),
        (21, &[1, 0], "reserved"),
        (21, &[0, 2], "snappy"),
        (21, &[0, 3], "lz4"),
        (21, &[0, 5], "unknown"),
        (21, &[0, 4], "damaged"),
        (23, &[0, 0, 0, 5], "lastOffsetDelta is 5, expected 4"),
        (35, &[0, 0, 0, 0, 0, 0, 0, 9], "maxTimestamp is 9"),
        (43, &[0; 8], "producerEpoch"),
        (43, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe], "producerId is -2"),
        (51, &[0, 1], "producerEpoch is 1, expected -1"),
        (53, &[0, 0, 0, 1], "baseSequence is 1, expected -1"),
        (57, &[0, 0, 0, 0], "0 records"),
        (57, &[0xff; 4], "-1 records"),
    ] {
        let error = refused(&patched(at, bytes));
        assert_eq!(error.code(), "invalid_batch", "{error}");
        assert!(error.message().contains(what), "{error} / {what}");
    }
}

#[test]
fn the_count_is_true() {
    for count in [4i32, 6] {
        let mut batch = encode(&odd_records(), Compression::None, None).unwrap().bytes.to_vec();
        batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        batch[57..61].copy_from_slice(&count.to_be_bytes());
        assert_eq!(refused(&reseal(batch)).code(), "invalid_batch");
    }
}

#[test]
fn producer_fields_agree_with_the_request() {
    let plain = encode(&odd_records(), Compression::None, None).unwrap().bytes;
    let idempotent = encode(&odd_records(), Compression::None, Some(TRIPLE)).unwrap().bytes;
    let limits = CheckLimits::default();
    assert!(check(&plain, None, &limits).is_ok());
    assert!(check(&idempotent, Some(TRIPLE), &limits).is_ok());
    for (batch, triple) in [
        (&plain, Some(TRIPLE)),
        (&idempotent, None),
        (&idempotent, Some(Triple { sequence: 0, ..TRIPLE })),
        (&idempotent, Some(Triple { epoch: 4, ..TRIPLE })),
        (&idempotent, Some(Triple { id: ProducerId(7), ..TRIPLE })),
    ] {
        assert_eq!(check(batch, triple, &limits).unwrap_err().code(), "invalid_batch");
    }
}

#[test]
fn limits_name_themselves_and_the_record() {
    let records = odd_records();
    let batch = encode(&records, Compression::Zstd, None).unwrap().bytes;
    let code = |limits| {
        let error = check(&batch, None, &limits).unwrap_err();
        let record = error.details().iter().find(|(name, _)| *name == "index").map(|(_, value)| value.clone());
        (error.code(), record)
    };
    let limits = CheckLimits::default();
    let number = |n| Some(crate::error::Detail::Number(n));
    assert_eq!(code(CheckLimits { records: 4, ..limits }), ("too_many_records", None));
    assert_eq!(code(CheckLimits { headers: 4, ..limits }), ("invalid_batch", number(0)));
    assert_eq!(code(CheckLimits { record_bytes: 6, ..limits }), ("record_too_large", number(0)));
    assert_eq!(code(CheckLimits { max_timestamp: 1_700_000_000_123, ..limits }), ("invalid_batch", number(4)));
    let largest = records.iter().map(Record::payload_len).max().unwrap();
    let exact = CheckLimits { records: 5, headers: 5, record_bytes: largest, max_timestamp: 1_700_000_000_124 };
    assert!(check(&batch, None, &exact).is_ok());
    let negative = encode(&[record(-1, None, None)], Compression::None, None).unwrap().bytes;
    assert!(refused(&negative).message().contains("timestamp"));
}

/// One record, as its fields after the length.
fn of_record(fields: &[u8]) -> Bytes {
    let mut records = vec![2 * fields.len() as u8];
    records.extend_from_slice(fields);
    let header = BatchHeader {
        len: (HEADER_LEN + records.len()) as u32,
        count: 1,
        base_timestamp: 0,
        max_timestamp: 0,
        ..header(&encode(&odd_records(), Compression::None, None).unwrap().bytes).unwrap()
    };
    reseal([&header.to_bytes()[..], &records].concat())
}

#[test]
fn fields_of_a_record() {
    // Attributes, timestamp delta, offset delta, null key, null value, no headers.
    assert!(check(&of_record(&[0, 0, 0, 1, 1, 0]), None, &CheckLimits::default()).is_ok());
    for (fields, what) in [
        (&[0u8, 0, 2, 1, 1, 0][..], "offset delta is 1"),
        (&[0, 0, 0, 3, 1, 0], "length"),
        (&[0, 0, 0, 4, 1, 0], "varint"),
        (&[0, 0, 0, 1, 1, 0, 0], "length"),
        (&[0, 0, 0, 1, 1], "varint"),
        (&[0, 0, 0, 1, 1, 1], "length"),
        (&[0, 0, 0, 1, 1, 2, 1, 1], "header name"),
        (&[0, 0, 0, 1, 1, 2, 2, 0xff, 1], "header name"),
        (&[0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0xf], "varint"),
        (&[], "length"),
    ] {
        let error = refused(&of_record(fields));
        assert_eq!(error.code(), "invalid_batch");
        assert!(error.message().starts_with("record 0: ") && error.message().contains(what), "{error} / {what}");
    }
}
