//! Tests of the frames: golden bytes, round trips, every truncation and every flipped byte.
#![allow(clippy::unwrap_used)]

use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::model::catalog::{PlacedRecord, Visible};
use crate::model::checkpoint::{
    Extent, KeyRecord, NameRecord, PartitionRecord, ProducerRecord, RememberedBatch, SegmentRecord, TopicRecord,
};
use crate::model::{
    ArchiveFile, CheckpointRef, IdempotencyKey, Incarnation, IndexPartRef, Job, JobId, Limits, NodeId, ObjectId, Place,
    PlacementRun, ProducerId, Revision, SegmentInfo, ShardId, StoredRange, Topic, TopicId, TopicSettings,
};

fn object(number: u128) -> ObjectId {
    ObjectId::from_parts(1_700_000_000_000, number)
}

fn sample_checkpoint() -> Checkpoint {
    let topic = TopicId(Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef));
    let remembered = RememberedBatch { sequence: 3, count: 2, base_offset: 5, digest: 9, log_index: 40 };
    Checkpoint {
        self_ref: CheckpointRef { incarnation: Incarnation(1), index: 42, id: object(1) },
        shard: ShardId(0),
        term: 7,
        incarnation: Incarnation(1),
        version: 1,
        log_time: 1_700_000_000_500,
        changed_at: 41,
        closed: true,
        unsealed: true,
        limits: Limits::default(),
        condemned: ObjectId::floor(1_699_999_000_000),
        next_slot: 2,
        founders: vec![NodeId(1), NodeId(3)],
        adopting: true,
        forgotten: Revision { incarnation: Incarnation(1), index: 12 },
        topics: vec![TopicRecord {
            topic: Topic {
                id: topic,
                name: "flights".into(),
                namespace: "default".into(),
                settings: TopicSettings {
                    partitions: 5,
                    retention_ms: Some(60_000),
                    archive_retention_ms: Some(90_000),
                    ..TopicSettings::default()
                },
                created_at: 1_700_000_000_000,
                deleted_at: None,
            },
            extents: vec![Extent { first: 0, count: 2, slot: 0 }],
            revision: Revision { incarnation: Incarnation(1), index: 20 },
            removed: true,
            placed: Some(PlacedRecord {
                runs: vec![PlacementRun { first: 0, shard: ShardId(0) }, PlacementRun { first: 2, shard: ShardId(1) }],
                grown: true,
                visible: Visible::Before(None),
            }),
        }],
        partitions: vec![
            PartitionRecord {
                slot: 0,
                log_start: 3,
                archive_start: 1,
                flushed: 7,
                producers_checked: 1_700_000_000_200,
            },
            PartitionRecord { slot: 1, log_start: 0, archive_start: 0, flushed: 0, producers_checked: 0 },
        ],
        segments: vec![SegmentRecord {
            info: SegmentInfo {
                id: object(2),
                bytes: 1_000,
                footer_start: 900,
                min_append_time: 1_700_000_000_000,
                max_append_time: 1_700_000_000_400,
            },
            flushed_at: 42,
            ordinal: 0,
        }],
        archive_files: vec![ArchiveFile {
            id: object(3),
            topic,
            day: 19_675,
            rows: 4,
            bytes: 4_000,
            footer_start: 3_000,
            footer_crc32c: 0xdead_beef,
            min_timestamp: -1,
            max_timestamp: 1_700_000_000_000,
        }],
        parts: vec![IndexPartRef { part: 0, id: object(4), written_at: 30 }],
        jobs: vec![Job { id: JobId(2), worker: "w".into(), deadline: 1_700_000_060_000, segments: vec![object(2)] }],
        next_job: 2,
        next_producer: 3,
        names: vec![NameRecord { name: "p".into(), id: ProducerId(1 << 40), epoch: 4, last_used: 1_700_000_000_300 }],
        producers: vec![ProducerRecord {
            slot: 0,
            id: ProducerId(1 << 40),
            epoch: 4,
            written: 5,
            last_used: 1_700_000_000_300,
            batches: vec![remembered],
        }],
        keys: vec![KeyRecord {
            slot: 0,
            key: IdempotencyKey(11),
            digest: 12,
            among: 2,
            base_offset: 3,
            count: 1,
            log_index: 39,
            time: 1_700_000_000_250,
        }],
    }
}

fn sample_part() -> IndexPart {
    let range = |start, end, place| StoredRange {
        start,
        end,
        bytes: 100,
        max_timestamp: 1_700_000_000_000,
        min_append_time: 1_700_000_000_000,
        max_append_time: 1_700_000_000_050,
        place,
    };
    let ranges = vec![
        range(0, 5, Place::Archive { file: object(3) }),
        range(5, 6, Place::Segment { id: object(1), position: 8 }),
        range(6, 7, Place::Segment { id: object(2), position: 300 }),
    ];
    IndexPart { part: 1, written_at: 30, partitions: vec![(256, ranges.clone()), (300, ranges[1..].to_vec())] }
}

/// Written by version 1; must be readable for ever. The compressed bytes may differ between releases of zstd, so what is
/// compared is what they mean.
const GOLDEN_CHECKPOINT: &str = include_str!("golden-v1.ckpt.hex");
const GOLDEN_PART: &str = include_str!("golden-v1.idx.hex");

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn golden_bytes_of_version_1_are_read() {
    assert_eq!(decode_checkpoint(&from_hex(GOLDEN_CHECKPOINT)).unwrap(), sample_checkpoint());
    assert_eq!(decode_part(&from_hex(GOLDEN_PART)).unwrap(), sample_part());
}

#[test]
fn the_header_is_as_documented() {
    let bytes = encode_part(&sample_part()).unwrap();
    assert_eq!(bytes[..8], *b"TIDEINDX");
    assert_eq!(bytes[8..12], [1, 0, 0, 0]);
    assert_eq!(u32::from_le_bytes(bytes[16..20].try_into().unwrap()) as usize, bytes.len() - 24);
    let crc = crc32c::crc32c(&bytes[..bytes.len() - 4]);
    assert_eq!(bytes[bytes.len() - 4..], crc.to_le_bytes());
    assert_eq!(encode_checkpoint(&sample_checkpoint()).unwrap()[..8], *b"TIDECKPT");
}

#[test]
fn every_truncation_and_every_flipped_bit_is_refused() {
    let checkpoint = encode_checkpoint(&sample_checkpoint()).unwrap();
    let part = encode_part(&sample_part()).unwrap();
    for len in 0..checkpoint.len() {
        assert!(decode_checkpoint(&checkpoint[..len]).is_err(), "checkpoint of {len} bytes");
    }
    for len in 0..part.len() {
        assert!(decode_part(&part[..len]).is_err(), "part of {len} bytes");
    }
    for at in 0..checkpoint.len() * 8 {
        let mut bytes = checkpoint.to_vec();
        bytes[at / 8] ^= 1 << (at % 8);
        assert_eq!(decode_checkpoint(&bytes).unwrap_err().code(), "corrupt", "bit {at}");
    }
    for at in 0..part.len() * 8 {
        let mut bytes = part.to_vec();
        bytes[at / 8] ^= 1 << (at % 8);
        assert_eq!(decode_part(&bytes).unwrap_err().code(), "corrupt", "bit {at}");
    }
    assert!(decode_part(&[&part[..], &[0]].concat()).is_err());
    assert!(decode_checkpoint(&part).is_err(), "an index part is no checkpoint");
}

/// `bytes` with a checksum that fits them: what a careless or hostile writer could make.
fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - CRC_LEN;
    let crc = crc32c::crc32c(&bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn a_whole_frame_is_not_trusted_either() {
    let part = encode_part(&sample_part()).unwrap().to_vec();
    let mut newer = part.clone();
    newer[8] = 2;
    assert_eq!(decode_part(&resealed(newer)).unwrap_err().code(), "unknown_version");
    for (at, value) in [(10, 1), (15, 0x7f), (12, 0), (16, 0)] {
        let mut bytes = part.clone();
        bytes[at] = value;
        assert_eq!(decode_part(&resealed(bytes)).unwrap_err().code(), "corrupt", "byte {at}");
    }
    // A frame that says it is small and inflates to a lot.
    let bomb = Frame { magic: *b"TIDEINDX", what: "index part" }.encode(&vec![0u8; 50_000_000]).unwrap();
    let mut bomb = bomb.to_vec();
    bomb[12..16].copy_from_slice(&100u32.to_le_bytes());
    assert_eq!(decode_part(&resealed(bomb)).unwrap_err().code(), "corrupt");
}

prop_compose! {
    fn any_range()(
        numbers in any::<[u64; 5]>(), max_timestamp in any::<i64>(), number in 0..9u128, position in any::<u64>(), archived in any::<bool>()
    ) -> StoredRange {
        let [start, end, bytes, min_append_time, max_append_time] = numbers;
        let id = object(number);
        let place = if archived { Place::Archive { file: id } } else { Place::Segment { id, position } };
        StoredRange { start, end, bytes, max_timestamp, min_append_time, max_append_time, place }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn index_parts_round_trip(
        part in any::<u32>(), written_at in any::<u64>(), partitions in vec((any::<u32>(), vec(any_range(), 0..9)), 0..9)
    ) {
        let part = IndexPart { part, written_at, partitions };
        prop_assert_eq!(decode_part(&encode_part(&part).unwrap()).unwrap(), part);
    }

    #[test]
    fn checkpoints_round_trip(
        index in any::<u64>(), slots in vec(any::<[u64; 4]>(), 0..20), closed in any::<bool>(), name in ".{0,20}", digest in any::<u128>()
    ) {
        let mut checkpoint = sample_checkpoint();
        checkpoint.self_ref.index = index;
        checkpoint.closed = closed;
        checkpoint.names[0].name = name;
        checkpoint.keys[0].digest = digest;
        checkpoint.partitions = (0..)
            .zip(slots)
            .map(|(slot, [log_start, archive_start, flushed, producers_checked])| {
                PartitionRecord { slot, log_start, archive_start, flushed, producers_checked }
            })
            .collect();
        prop_assert_eq!(decode_checkpoint(&encode_checkpoint(&checkpoint).unwrap()).unwrap(), checkpoint);
    }

    #[test]
    fn noise_is_refused(content in vec(any::<u8>(), 0..200)) {
        let mut bytes = b"TIDECKPT\x01\x00\x00\x00".to_vec();
        bytes.extend_from_slice(&1_000u32.to_le_bytes());
        bytes.extend_from_slice(&(content.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&content);
        bytes.extend_from_slice(&[0; 4]);
        prop_assert!(decode_checkpoint(&resealed(bytes)).is_err());
    }
}
