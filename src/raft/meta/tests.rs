//! The local files: what is written is read, what was damaged is refused.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use uuid::Uuid;

use super::*;
use crate::model::{Incarnation, TopicId, TopicPartition};
use crate::raft::types::{Member, Membership};

fn pointer() -> PointerLayout {
    let member = Member { address: "a:1".to_owned(), directory: Uuid::from_u128(9) };
    let membership = Membership::new(vec![[1].into()], BTreeMap::from([(1, member)])).unwrap();
    PointerLayout {
        reference: CheckpointRef { incarnation: Incarnation(2), index: 300, id: ObjectId(5) },
        term: 7,
        membership_at: Some((6, 4)),
        membership: encode_membership(&membership).unwrap().to_vec(),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[test]
fn a_pointer_is_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let meta = MetaDir::new(dir.path().to_owned());
    assert_eq!(meta.pointer().unwrap(), None);
    meta.write(POINTER, &frame(POINTER_MAGIC, &pointer()).unwrap()).unwrap();
    let read = meta.pointer().unwrap().unwrap();
    assert_eq!((read.reference.index, read.last), (300, log_id(7, 300)));
    assert_eq!(read.membership.log_id(), &Some(log_id(6, 4)));
    assert_eq!(read.membership.voter_ids().collect::<Vec<_>>(), [1]);
}

#[test]
fn the_layouts_are_the_documented_ones() {
    let bytes = frame(POINTER_MAGIC, &pointer()).unwrap();
    assert_eq!(hex(&bytes[..8]), "544c47504f494e54");
    assert_eq!(
        hex(&bytes[8..bytes.len() - 4]),
        "010002ac0205070106041a010101010103613a311000000000000000000000000000000009"
    );
    let ranges: Vec<crate::model::SegmentRange> = vec![crate::model::SegmentRange {
        partition: TopicPartition::new(TopicId(Uuid::from_u128(1)), 2),
        start: 3,
        end: 4,
        position: 5,
        len: 6,
        max_timestamp: 7,
        min_append_time: 8,
        max_append_time: 9,
    }];
    let bytes = frame(RANGES_MAGIC, &ranges).unwrap();
    assert_eq!(hex(&bytes[..8]), "544c4752414e4745");
    assert_eq!(
        hex(&bytes[8..bytes.len() - 4]),
        "01000110000000000000000000000000000000010203040506 0e0809".replace(' ', "")
    );
}

#[test]
fn every_truncation_and_every_flipped_bit_is_refused() {
    let whole = frame(POINTER_MAGIC, &pointer()).unwrap();
    for len in 0..whole.len() {
        assert!(unframe::<PointerLayout>(&whole[..len], POINTER_MAGIC).is_err(), "{len} bytes");
    }
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(unframe::<PointerLayout>(&flipped, POINTER_MAGIC).is_err(), "bit {bit}");
    }
    assert!(unframe::<PointerLayout>(&whole, RANGES_MAGIC).is_err());
    let mut longer = whole[..whole.len() - 4].to_vec();
    longer.push(0);
    let checksum = crc32c::crc32c(&longer);
    longer.extend(checksum.to_le_bytes());
    assert!(unframe::<PointerLayout>(&longer, POINTER_MAGIC).is_err(), "a whole pointer and one byte more");
}
