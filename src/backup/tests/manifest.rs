//! The objects of a place with backups and of a bucket that is being restored.

use std::collections::BTreeMap;

use super::super::manifest::{Manifest, Place, Plan, decode, encode};
use super::*;
use crate::model::{CheckpointRef, Incarnation, ObjectId, TopicId};

fn manifest() -> Manifest {
    let reference = |index| CheckpointRef { incarnation: Incarnation(3), index, id: ObjectId(u128::from(index)) };
    let of = ("c-1".to_owned(), 17);
    Manifest::new(ObjectId(9), of, Incarnation(3), NOW, &[reference(40), reference(2)])
}

fn plan() -> Plan {
    let id = |number| TopicId(uuid::Uuid::from_u128(number));
    let topics = BTreeMap::from([(id(1), id(7)), (id(2), id(8))]);
    Plan::new(&manifest(), "c-2".to_owned(), Incarnation(1_027), NOW, topics)
}

#[test]
fn objects_have_the_bytes_that_are_documented() {
    let text = |bytes: bytes::Bytes| {
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        serde_json::to_string(&value["content"]).unwrap()
    };
    let place = encode(&Place::new(ObjectId(4), "c-1".to_owned(), 17)).unwrap();
    assert_eq!(text(place), r#"{"cluster_id":"c-1","created_ms":17,"format":1,"id":"00000000000000000000000004"}"#);
    assert_eq!(
        text(encode(&manifest()).unwrap()),
        concat!(
            r#"{"checkpoints":["shards/00000/checkpoints/0000000003-00000000000000000040-00000000000000000000000018.ckpt","#,
            r#""shards/00001/checkpoints/0000000003-00000000000000000002-00000000000000000000000002.ckpt"],"#,
            r#""cluster_created_ms":17,"cluster_id":"c-1","format":1,"id":"00000000000000000000000009","incarnation":3,"#,
            r#""started_ms":1800000000000}"#
        )
    );
    assert_eq!(
        text(encode(&plan()).unwrap()),
        concat!(
            r#"{"backup":"00000000000000000000000009","cluster_id":"c-2","format":1,"from_cluster":"c-1","incarnation":1027,"#,
            r#""started_ms":1800000000000,"topics":{"00000000-0000-0000-0000-000000000001":"#,
            r#""00000000-0000-0000-0000-000000000007","00000000-0000-0000-0000-000000000002":"#,
            r#""00000000-0000-0000-0000-000000000008"}}"#
        )
    );
}

#[test]
fn cut_and_changed_bytes_are_refused() {
    let whole = encode(&plan()).unwrap();
    assert_eq!(decode::<Plan>(&Key::Restore, &whole).unwrap(), plan());
    for end in 0..whole.len() {
        assert!(decode::<Plan>(&Key::Restore, &whole[..end]).is_err(), "cut at {end}");
    }
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.to_vec();
            bytes[at] ^= 1 << bit;
            match decode::<Plan>(&Key::Restore, &bytes) {
                // White space for other white space.
                Ok(decoded) => assert_eq!(decoded, plan(), "bit {bit} of byte {at}"),
                Err(error) => assert_eq!(error.code(), "corrupt"),
            }
        }
    }
}

#[test]
fn an_object_of_a_later_format_is_told_from_damage() {
    let bytes = br#"{"content":{"format":2,"whatever":true},"crc32c":1}"#;
    let error = decode::<Manifest>(&Key::Backup(ObjectId(9)), bytes).unwrap_err();
    assert!(error.message().contains("format 2"), "{error}");
}

#[test]
fn a_manifest_names_a_checkpoint_of_each_shard() {
    let manifest = manifest();
    let shards: Vec<u32> = manifest.checkpoints().unwrap().iter().map(|(shard, _)| shard.0).collect();
    assert_eq!(shards, [0, 1]);
    let mut swapped = manifest;
    swapped.checkpoints.swap(0, 1);
    assert_eq!(swapped.checkpoints().unwrap_err().code(), "corrupt");
}
