//! What goes in comes out.

use super::*;
use crate::model::producer::advance_sequence;

proptest! {
    #[test]
    fn any_records(
        records in prop::collection::vec(any_record(), 1..40),
        compression in any_compression(),
        triple in any_triple(),
    ) {
        let batch = encode(&records, compression, triple).unwrap();
        prop_assert_eq!(batch.info.len as usize, batch.bytes.len());
        let bound: usize = records.iter().map(max_encoded_len).sum();
        prop_assert!(batch.bytes.len() <= HEADER_LEN + bound);

        let checked = check(&batch.bytes, triple, &CheckLimits::default()).unwrap();
        prop_assert_eq!(&checked.bytes, &batch.bytes);
        prop_assert_eq!(checked.info, batch.info);
        prop_assert_eq!(Some(checked.min_timestamp), records.iter().map(|record| record.timestamp).min());
        prop_assert_eq!(checked.info.max_timestamp, records.iter().map(|record| record.timestamp).max().unwrap());
        let payloads: Vec<usize> = checked.records().map(|record| record.payload_len()).collect();
        prop_assert_eq!(payloads, records.iter().map(Record::payload_len).collect::<Vec<_>>());

        let decoded = decode(&stored(&batch)).unwrap();
        prop_assert_eq!(decoded.len(), records.len());
        for (index, (decoded, record)) in decoded.into_iter().zip(&records).enumerate() {
            prop_assert_eq!(decoded.offset, 1000 + index as u64);
            prop_assert_eq!(decoded.append_time, 55);
            let expected = triple.map(|t| Triple { sequence: advance_sequence(t.sequence, index as u32), ..t });
            prop_assert_eq!(decoded.triple, expected);
            prop_assert_eq!(&decoded.record, record);
        }
    }
}

#[test]
fn null_empty_and_repeats_survive() {
    for compression in [Compression::None, Compression::Zstd] {
        let records = odd_records();
        let batch = encode(&records, compression, Some(TRIPLE)).unwrap();
        let decoded = decode(&stored(&batch)).unwrap();
        let back: Vec<Record> = decoded.iter().map(|decoded| decoded.record.clone()).collect();
        assert_eq!(back, records);
        let sequences: Vec<u32> = decoded.iter().map(|decoded| decoded.triple.unwrap().sequence).collect();
        assert_eq!(sequences, [(1 << 31) - 2, (1 << 31) - 1, 0, 1, 2]);
    }
}

#[test]
fn a_part_of_a_batch_is_decoded() {
    let batch = stored(&encode(&odd_records(), Compression::Zstd, Some(TRIPLE)).unwrap());
    let all = decode(&batch).unwrap();
    for (offsets, expected) in [
        (1001..1003, 1..3),
        (0..1002, 0..2),
        (1004..u64::MAX, 4..5),
        (0..u64::MAX, 0..5),
        (0..1000, 0..0),
        (1005..2000, 0..0),
        (1003..1003, 0..0),
    ] {
        assert_eq!(decode_within(&batch, offsets).unwrap(), all[expected]);
    }
}

#[test]
fn an_uncompressed_batch_is_decoded_without_copying() {
    let batch = encode(&odd_records(), Compression::None, None).unwrap();
    let decoded = decode(&stored(&batch)).unwrap();
    let value = decoded[0].record.value.as_ref().unwrap();
    assert!(batch.bytes.as_ptr_range().contains(&value.as_ptr()));
}

#[test]
fn what_does_not_shrink_is_stored_plain() {
    let noise: Vec<u8> =
        (0..4096u32).flat_map(|i| i.wrapping_mul(2_654_435_761).rotate_left(i).to_le_bytes()).collect();
    let noise = xxhash_stream(&noise);
    let plain = encode([&record(0, None, Some(&noise))], Compression::None, None).unwrap();
    let zstd = encode([&record(0, None, Some(&noise))], Compression::Zstd, None).unwrap();
    assert_eq!(zstd, plain);
    let text = "abcdefgh".repeat(1000);
    let zstd = encode([&record(0, None, Some(text.as_bytes()))], Compression::Zstd, None).unwrap();
    assert_eq!(header(&zstd.bytes).unwrap().codec, Codec::Zstd);
    assert!(zstd.bytes.len() < 200);
}

/// Bytes without structure.
fn xxhash_stream(seed: &[u8]) -> Vec<u8> {
    (0..1000u64).flat_map(|i| xxhash_rust::xxh3::xxh3_64_with_seed(seed, i).to_le_bytes()).collect()
}

#[test]
fn records_of_several_requests_merge() {
    let requests = [odd_records(), odd_records()];
    let merged = encode(requests.iter().flatten(), Compression::Zstd, None).unwrap();
    let one: Vec<Record> = requests.concat();
    assert_eq!(merged, encode(&one, Compression::Zstd, None).unwrap());
}

#[test]
fn limits_of_the_encoder() {
    assert_eq!(encode([], Compression::None, None).unwrap_err().code(), "internal");
    let epoch = Triple { epoch: 1 << 15, ..TRIPLE };
    assert_eq!(encode(&odd_records(), Compression::None, Some(epoch)).unwrap_err().code(), "invalid_producer_epoch");
    let big = record(0, None, Some(&vec![7; MAX_RECORDS_BYTES / 16]));
    assert_eq!(encode(vec![&big; 16], Compression::Zstd, None).unwrap_err().code(), "batch_too_large");
    let batch = encode(vec![&big; 15], Compression::Zstd, None).unwrap();
    assert_eq!(decode(&stored(&batch)).unwrap().len(), 15);
    let small = record(0, None, None);
    let most = encode(vec![&small; MAX_BATCH_RECORDS as usize], Compression::Zstd, None).unwrap();
    assert_eq!(decode(&stored(&most)).unwrap().len(), MAX_BATCH_RECORDS as usize);
    let more = encode(vec![&small; MAX_BATCH_RECORDS as usize + 1], Compression::Zstd, None);
    assert_eq!(more.unwrap_err().code(), "batch_too_large");
    let apart = [record(i64::MIN, None, None), record(i64::MAX, None, None)];
    assert_eq!(encode(&apart, Compression::None, None).unwrap_err().code(), "invalid_timestamp");
}

#[test]
fn placing_changes_the_place_only() {
    let batch = encode(&odd_records(), Compression::None, Some(TRIPLE)).unwrap();
    let (head, rest) = placed(&batch.bytes, 42, 7);
    let whole: Bytes = [head, rest].concat().into();
    let placed = header(&whole).unwrap();
    assert_eq!((placed.base_offset, placed.leader_epoch), (42, 7));
    assert_eq!(placed, BatchHeader { base_offset: 42, leader_epoch: 7, ..header(&batch.bytes).unwrap() });
    assert_eq!(whole[16..], batch.bytes[16..]);
    assert_eq!(super::super::header::normalise(&whole), batch.bytes);
}
