//! The layout of the log's records.

use std::collections::BTreeMap;

use proptest::prelude::*;
use raft_log::codeq::{Decode, Encode};
use raft_log::{RaftLogAction, RaftLogRecord, WALRecord};

use super::*;
use crate::raft::types::{Member, Membership, Vote};
use crate::raft::wal::codec::{WalTypes, WalVote};
use crate::raft::wal::mark::SyncMark;

type Record = RaftLogRecord<WalTypes>;

fn encode(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode(&mut bytes).unwrap();
    bytes
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn append(payload: WalPayload) -> Record {
    WALRecord::Action(RaftLogAction::Append(WalLogId { term: 2, index: 3 }, payload))
}

/// Kind, then 16 bytes of log id, then the payload, then a CRC-32 in 8 bytes.
#[test]
fn the_layouts_are_the_documented_ones() {
    let id = "00000000000000020000000000000003";
    let golden = [
        (append(WalPayload::Blank), format!("00000001{id}00")),
        (append(WalPayload::Command(Bytes::from_static(b"hi"))), format!("00000001{id}01000000026869")),
        (append(WalPayload::Membership(Bytes::from_static(b"m"))), format!("00000001{id}02000000016d")),
        (
            WALRecord::Action(RaftLogAction::SaveVote(WalVote(Vote::new_committed(5, 6)))),
            "000000000000000000000005000000000000000601".to_owned(),
        ),
        (WALRecord::Action(RaftLogAction::PurgeUpto(WalLogId { term: 2, index: 3 })), format!("00000004{id}")),
    ];
    for (record, expected) in golden {
        let bytes = encode(&record);
        let (covered, checksum) = bytes.split_last_chunk::<8>().unwrap();
        assert_eq!(hex(covered), expected);
        assert_eq!(checksum[..4], [0; 4]);
        assert_eq!(Record::decode(&bytes[..]).unwrap(), record);
    }
    let mark = SyncMark { directory: Uuid::from_u128(7), position: 8, synced: 9 };
    let mut bytes = Vec::new();
    mark.encode(&mut bytes).unwrap();
    assert_eq!(hex(&bytes), "010000000000000000000000000000000700000000000000080000000000000009");
    assert_eq!(SyncMark::decode(&bytes[..]).unwrap(), mark);
}

#[test]
fn every_truncation_and_every_flipped_bit_is_refused() {
    let bytes = encode(&append(WalPayload::Command(Bytes::from_static(b"a command"))));
    for len in 0..bytes.len() {
        assert!(Record::decode(&bytes[..len]).is_err(), "{len} bytes");
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Record::decode(&flipped[..]).is_err(), "bit {bit}");
    }
}

#[test]
fn a_length_that_lies_takes_no_memory() {
    // Half a gigabyte, says the length.
    let bytes = [1, 0x20, 0, 0, 0, 1, 2, 3];
    assert!(WalPayload::decode(&bytes[..]).is_err());
}

#[test]
fn a_membership_is_what_was_written() {
    let member = |id: u64| (id, Member { address: format!("h{id}:1"), directory: Uuid::from_u128(id.into()) });
    let joint = Membership::new(vec![[1, 2].into(), [2, 3].into()], BTreeMap::from([1, 2, 3, 4].map(member))).unwrap();
    for membership in [joint, Membership::default()] {
        let bytes = encode_membership(&membership).unwrap();
        assert_eq!(decode_membership(&bytes).unwrap(), membership);
    }
}

proptest! {
    #[test]
    fn records_are_what_was_written(term: u64, index: u64, command: Vec<u8>, node: u64, committed: bool) {
        let id = WalLogId { term, index };
        let vote = if committed { Vote::new_committed(term, node) } else { Vote::new(term, node) };
        for action in [
            RaftLogAction::Append(id, WalPayload::Command(command.into())),
            RaftLogAction::SaveVote(WalVote(vote)),
            RaftLogAction::Commit(id),
        ] {
            let record: Record = WALRecord::Action(action);
            prop_assert_eq!(Record::decode(&encode(&record)[..]).unwrap(), record);
        }
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes: Vec<u8>) {
        let _ = Record::decode(&bytes[..]);
        let _ = WalPayload::decode(&bytes[..]);
        let _ = decode_membership(&bytes);
    }
}
