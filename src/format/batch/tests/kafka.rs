//! Against `kafka-protocol`, an independent implementation. Its records keep headers in a map, so repeats are left out.

use std::collections::BTreeMap;

use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as theirs;
use kafka_protocol::records::{RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

use super::*;

fn without_repeats(mut record: Record) -> Record {
    let unique: BTreeMap<String, Option<Bytes>> =
        record.headers.into_iter().map(|header| (header.name, header.value)).collect();
    record.headers = unique.into_iter().map(|(name, value)| Header { name, value }).collect();
    record
}

fn to_theirs(index: usize, record: &Record, triple: Option<Triple>) -> theirs::Record {
    theirs::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: theirs::NO_PARTITION_LEADER_EPOCH,
        producer_id: triple.map_or(-1, |triple| triple.id.0 as i64),
        producer_epoch: triple.map_or(-1, |triple| triple.epoch as i16),
        timestamp_type: TimestampType::Creation,
        offset: index as i64,
        sequence: triple.map_or(-1, |triple| triple.sequence as i32).wrapping_add(index as i32),
        timestamp: record.timestamp,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.iter().map(|h| (StrBytes::from_string(h.name.clone()), h.value.clone())).collect(),
    }
}

fn from_theirs(record: &theirs::Record) -> Record {
    Record {
        timestamp: record.timestamp,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record
            .headers
            .iter()
            .map(|(name, value)| Header { name: name.to_string(), value: value.clone() })
            .collect(),
    }
}

fn any_codec() -> impl Strategy<Value = theirs::Compression> {
    prop_oneof![Just(theirs::Compression::None), Just(theirs::Compression::Gzip), Just(theirs::Compression::Zstd)]
}

fn any_records() -> impl Strategy<Value = Vec<Record>> {
    prop::collection::vec(any_record().prop_map(without_repeats), 1..20)
}

fn encode_theirs(records: &[theirs::Record], compression: theirs::Compression) -> Bytes {
    let mut out = bytes::BytesMut::new();
    RecordBatchEncoder::encode(&mut out, records, &RecordEncodeOptions { version: 2, compression }).unwrap();
    out.freeze()
}

/// Far enough from the end that their arithmetic without modulus agrees with ours.
fn small_sequence(triple: Option<Triple>) -> Option<Triple> {
    triple.map(|triple| Triple { sequence: triple.sequence / 2, ..triple })
}

proptest! {
    #[test]
    fn they_read_what_we_write(records in any_records(), compression in any_compression(), triple in any_triple()) {
        let triple = small_sequence(triple);
        let batch = encode(&records, compression, triple).unwrap();
        let (head, rest) = placed(&batch.bytes, 500, 9);
        let set = RecordBatchDecoder::decode(&mut Bytes::from([head, rest].concat())).unwrap();
        prop_assert_eq!(set.records.iter().map(from_theirs).collect::<Vec<_>>(), records);
        for (index, record) in set.records.iter().enumerate() {
            prop_assert_eq!(record.offset, 500 + index as i64);
            prop_assert_eq!(record.partition_leader_epoch, 9);
            prop_assert_eq!(record.producer_id, triple.map_or(-1, |triple| triple.id.0 as i64));
            if let Some(triple) = triple {
                prop_assert_eq!(record.sequence as u32, triple.sequence + index as u32);
            }
        }
    }

    #[test]
    fn we_read_what_they_write(records in any_records(), codec in any_codec(), triple in any_triple()) {
        let triple = small_sequence(triple);
        let sent: Vec<_> = records.iter().enumerate().map(|(at, record)| {
            let mut record = to_theirs(at, record, triple);
            // Without a producer every record of theirs has the same sequence only if it moves with the offset.
            if triple.is_none() { record.sequence = at as i32 - 1; }
            record
        }).collect();
        let batch = encode_theirs(&sent, codec);
        let checked = check(&batch, triple, &CheckLimits::default()).unwrap();
        prop_assert_eq!(checked.header().leader_epoch, -1);
        prop_assert_eq!(header(&checked.bytes).unwrap().leader_epoch, 0);
        let place = stored(&EncodedBatch { bytes: checked.bytes.clone(), info: checked.info });
        let decoded = decode(&place).unwrap();
        prop_assert_eq!(decoded.into_iter().map(|stored| stored.record).collect::<Vec<_>>(), records);
    }
}

#[test]
fn other_codecs_are_refused_by_name() {
    for (codec, name) in [(theirs::Compression::Snappy, "snappy"), (theirs::Compression::Lz4, "lz4")] {
        let batch = encode_theirs(&[to_theirs(0, &record(1, None, Some(b"v")), None)], codec);
        let error = check(&batch, None, &CheckLimits::default()).unwrap_err();
        assert_eq!(error.code(), "invalid_batch");
        assert!(error.message().contains(name), "{error}");
    }
}
