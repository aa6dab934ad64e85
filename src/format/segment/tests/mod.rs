//! Tests of segments, by subject.
#![allow(clippy::unwrap_used)]

mod damage;
mod golden;
mod lookup;
mod round_trip;

use bytes::Bytes;
use uuid::Uuid;

use super::*;
use crate::error::Result;
use crate::format::batch;
use crate::model::{
    Compression, ObjectId, Offset, Record, SegmentRange, StoredBatch, Topic, TopicId, TopicPartition, TopicSettings,
};

pub(super) const ID: ObjectId = ObjectId::from_parts(1_700_000_000_000, 0xabc);

pub(super) fn topic(n: u128) -> Topic {
    Topic {
        id: TopicId(Uuid::from_u128(n)),
        name: format!("topic-{n}"),
        namespace: "default".to_owned(),
        settings: TopicSettings::default(),
        created_at: 1,
        deleted_at: None,
    }
}

/// A batch of `timestamps.len()` records with values of `value_len` bytes that do not compress.
pub(super) fn batch_of(base_offset: Offset, timestamps: &[i64], value_len: usize) -> StoredBatch {
    let record = |timestamp: &i64| Record {
        timestamp: *timestamp,
        key: None,
        value: Some((0..value_len).map(|at| (at.wrapping_mul(at) >> 3) as u8 ^ base_offset as u8).collect()),
        headers: Vec::new(),
    };
    let records: Vec<Record> = timestamps.iter().map(record).collect();
    let encoded = batch::encode(&records, Compression::None, None).unwrap();
    StoredBatch {
        base_offset,
        count: encoded.info.count,
        max_timestamp: encoded.info.max_timestamp,
        append_time: 1000 + base_offset,
        bytes: encoded.bytes,
    }
}

/// Batches by topic number and partition, sorted.
pub(super) type Content = Vec<(u128, u32, Vec<StoredBatch>)>;

pub(super) fn write(content: &Content) -> FinishedSegment {
    let mut writer = SegmentWriter::new(ID);
    for (n, partition, batches) in content {
        for batch in batches {
            writer.push(&topic(*n), *partition, batch).unwrap();
        }
    }
    let len = writer.len();
    let segment = writer.finish().unwrap();
    assert_eq!(segment.info.footer_start, len);
    segment
}

pub(super) fn object(segment: &FinishedSegment) -> Bytes {
    segment.bytes.concat().into()
}

pub(super) fn footer_of(object: &Bytes) -> Footer {
    let len = Footer::len(object).unwrap() as usize;
    Footer::decode(ID, &object[object.len() - len..]).unwrap()
}

/// Two small partitions of a topic and one of another.
pub(super) fn small() -> Content {
    vec![
        (1, 0, vec![batch_of(5, &[10, 30], 3), batch_of(7, &[20], 2)]),
        (1, 2, vec![batch_of(0, &[40], 0)]),
        (2, 0, vec![batch_of(9, &[1], 9)]),
    ]
}

/// More than three blocks, with batches over borders and one larger than a block.
pub(super) fn large() -> Content {
    let many = |start: u64| (0..40).map(|n| batch_of(start + n, &[n as i64], 30_000)).collect();
    vec![(1, 0, many(100)), (1, 1, vec![batch_of(3, &[7], PAYLOAD_BYTES + 9)]), (2, 3, many(0))]
}

/// All batches of `partition` from `seek` on, block by block.
pub(super) fn read(object: &Bytes, partition: TopicPartition, seek: Seek) -> Result<Vec<StoredBatch>> {
    let footer = footer_of(object);
    let mut reader = FrameReader::new(footer.range(partition).unwrap(), seek);
    let mut batches = Vec::new();
    loop {
        match reader.next()? {
            Some(batch) => batches.push(batch),
            None => match reader.needs() {
                Some(index) => reader.feed(&payload(object, &footer, index)?)?,
                None => return Ok(batches),
            },
        }
    }
}

pub(super) fn payload(object: &Bytes, footer: &Footer, index: u32) -> Result<Bytes> {
    let range = block_bytes(index, footer.info().footer_start);
    verify_block(ID, index, &object.slice(range.start as usize..range.end as usize))
}

pub(super) const fn partition(n: u128, partition: u32) -> TopicPartition {
    TopicPartition::new(TopicId(Uuid::from_u128(n)), partition)
}
