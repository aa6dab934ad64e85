//! Truncated, flipped and made-up bytes.

use super::*;
use crate::error::ErrorKind;

fn samples() -> Vec<EncodedBatch> {
    let text = record(5, Some(b"key"), Some("some text that repeats ".repeat(20).as_bytes()));
    let mut records = odd_records();
    records.push(text);
    vec![encode(&records, Compression::None, Some(TRIPLE)).unwrap(), encode(&records, Compression::Zstd, None).unwrap()]
}

#[test]
fn every_truncation_and_every_addition_is_refused() {
    for batch in samples() {
        for len in 0..batch.bytes.len() {
            let cut = batch.bytes.slice(..len);
            assert!(check(&cut, header(&batch.bytes).unwrap().triple, &CheckLimits::default()).is_err(), "{len}");
            let error = decode(&StoredBatch { bytes: cut, ..stored(&batch) }).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
        let longer: Bytes = [&batch.bytes[..], &[0]].concat().into();
        assert!(decode(&StoredBatch { bytes: longer, ..stored(&batch) }).is_err());
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    for batch in samples() {
        let triple = header(&batch.bytes).unwrap().triple;
        for bit in 0..8 * batch.bytes.len() {
            let mut flipped = batch.bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let flipped = Bytes::from(flipped);
            assert!(decode(&StoredBatch { bytes: flipped.clone(), ..stored(&batch) }).is_err(), "bit {bit}");
            match check(&flipped, triple, &CheckLimits::default()) {
                Err(_) => {}
                // The leader epoch of a client's batch means nothing and is set to 0.
                Ok(checked) => {
                    assert!((96..128).contains(&bit), "bit {bit}");
                    assert_eq!(checked.bytes, batch.bytes);
                }
            }
        }
    }
}

#[test]
fn a_batch_in_the_place_of_another_is_refused() {
    let batch = stored(&samples()[0]);
    assert!(open(&StoredBatch { count: batch.count + 1, ..batch.clone() }).is_err());
    assert!(open(&StoredBatch { max_timestamp: 1, ..batch.clone() }).is_err());
    let (head, rest) = placed(&batch.bytes, 1, 0);
    assert!(open(&StoredBatch { bytes: [head, rest].concat().into(), ..batch }).is_err());
}

#[test]
fn decompression_is_bounded() {
    let batch = encode(&odd_records(), Compression::None, None).unwrap();
    let bomb = vec![0u8; MAX_RECORDS_BYTES + 1];
    let sized = zstd::bulk::compress(&bomb, 1).unwrap();
    let mut streamed = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    std::io::Write::write_all(&mut streamed, &bomb).unwrap();
    let streamed = streamed.finish().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &bomb).unwrap();
    let gzip = gzip.finish().unwrap();
    for (codec, packed) in [(Codec::Zstd, sized), (Codec::Zstd, streamed), (Codec::Gzip, gzip)] {
        let error = check(&with_records(&batch.bytes, codec, &packed), None, &CheckLimits::default()).unwrap_err();
        assert!(error.message().contains("uncompressed"), "{error}");
    }
}

/// The batch with other records under a true length and CRC.
fn with_records(batch: &Bytes, codec: Codec, records: &[u8]) -> Bytes {
    let len = (HEADER_LEN + records.len()) as u32;
    let header = BatchHeader { codec, len, ..header(batch).unwrap() };
    reseal([&header.to_bytes()[..], records].concat())
}

proptest! {
    #[test]
    fn made_up_records_never_panic(records: Vec<u8>, codec in 0..3usize) {
        let batch = encode(&odd_records(), Compression::None, None).unwrap();
        let codec = [Codec::None, Codec::Gzip, Codec::Zstd][codec];
        let _ = check(&with_records(&batch.bytes, codec, &records), None, &CheckLimits::default());
    }

    #[test]
    fn changed_records_under_a_true_crc_never_panic(at in 0usize..1000, byte: u8) {
        let batch = encode(&odd_records(), Compression::None, None).unwrap();
        let mut records = batch.bytes[HEADER_LEN..].to_vec();
        let at = at % records.len();
        records[at] = byte;
        let changed = with_records(&batch.bytes, Codec::None, &records);
        if let Ok(checked) = check(&changed, None, &CheckLimits::default()) {
            prop_assert_eq!(checked.records().count(), 5);
        }
    }

    #[test]
    fn made_up_bytes_never_panic(bytes: Vec<u8>) {
        let _ = header(&bytes);
        let _ = check(&bytes.into(), None, &CheckLimits::default());
    }
}
