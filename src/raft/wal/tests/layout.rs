//! The layout of the log's files.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::raft::types::{Member, Membership, Vote};
use crate::raft::wal::codec::{Fields, WalVote};
use crate::raft::wal::frame::{HEAD_BYTES, Head, Record, build, read};
use crate::raft::wal::mark::SyncMark;
use crate::raft::wal::state::LogState;

const CHAIN: u32 = 0x0102_0304;
const OFFSET: u64 = 0x1122;

/// The frame of a record, with its body.
fn encode(record: &Record) -> Bytes {
    let mut frame = Vec::new();
    build(record, CHAIN, OFFSET, &mut frame).unwrap();
    frame.extend(record.body().into_iter().flatten());
    frame.into()
}

fn decode(bytes: Bytes) -> std::io::Result<Record> {
    read(bytes, CHAIN, OFFSET)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

const ID: WalLogId = WalLogId { term: 2, index: 3 };

fn records() -> Vec<Record> {
    vec![
        Record::Entry(ID, WalPayload::Blank),
        Record::Entry(ID, WalPayload::Command(Bytes::from_static(b"hi"))),
        Record::Entry(ID, WalPayload::Membership(Bytes::from_static(b"m"))),
        Record::Vote(WalVote(Vote::new_committed(5, 6))),
        Record::Commit(ID),
        Record::Truncate(None),
        Record::Truncate(Some(ID)),
        Record::Purge(ID),
        Record::Mark(SyncMark { directory: Uuid::from_u128(7), position: 8, synced: 9 }),
        Record::Open([0xab; 16]),
    ]
}

/// `length u32 | kind u8 | WAL offset u64 | CRC-32C u32 | payload`.
#[test]
fn the_layouts_are_the_documented_ones() {
    let id = "02000000000000000300000000000000";
    let payloads = [
        (1, format!("{id}00"), "c2c4c7bd"),
        (1, format!("{id}016869"), "25ea170c"),
        (1, format!("{id}026d"), "6e8c3400"),
        (2, "0500000000000000060000000000000001".to_owned(), "c7bcfc89"),
        (3, id.to_owned(), "b3b95f19"),
        (4, "00".repeat(17), "66e4b580"),
        (4, format!("01{id}"), "5dd2e1e5"),
        (5, id.to_owned(), "fd00e5fd"),
        (
            6,
            format!("{}{}0800000000000000090000000000000017ff7b4f", hex(b"TLGSYNCD"), "00".repeat(15) + "07"),
            "8ca6877a",
        ),
        (7, "ab".repeat(16), "8851e1a9"),
    ];
    for (record, (kind, payload, crc)) in records().into_iter().zip(payloads) {
        let bytes = encode(&record);
        let len = u8::try_from(payload.len() / 2).unwrap();
        assert_eq!(hex(&bytes), format!("{len:02x}000000{kind:02x}2211000000000000{crc}{payload}"));
        assert_eq!(decode(bytes).unwrap(), record);
    }
}

#[test]
fn the_header_is_the_documented_one() {
    let header = FileHeader {
        directory: Uuid::from_u128(7),
        sequence: 8,
        start: 9,
        chain: CHAIN,
        recycled: true,
        state: LogState {
            vote: Some(WalVote(Vote::new_committed(5, 6))),
            last: Some(ID),
            committed: None,
            purged: Some(WalLogId { term: 1, index: 1 }),
        },
    };
    let bytes = header.encode();
    let fields = [
        &hex(b"TLGWALOG"),
        "01000100",
        "04030201",
        "00000000000000000000000000000007",
        "08000000000000000900000000000000",
        "010500000000000000060000000000000001",
        "0102000000000000000300000000000000",
        &"00".repeat(17),
        "0101000000000000000100000000000000",
    ]
    .concat();
    let (fields_end, crc_at) = (fields.len() / 2, HEADER_BYTES - 4);
    assert_eq!(hex(&bytes[..fields_end]), fields);
    assert!(bytes[fields_end..crc_at].iter().all(|byte| *byte == 0));
    assert_eq!(hex(&bytes[crc_at..]), "15134d45");
    let bytes: &[u8; HEADER_BYTES] = bytes[..].try_into().unwrap();
    assert_eq!(FileHeader::decode(bytes).unwrap(), Ok(header));
    for bit in 0..HEADER_BYTES * 8 {
        let mut flipped = *bytes;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(FileHeader::decode(&flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn every_truncation_and_every_flipped_bit_of_a_frame_is_refused() {
    for record in records() {
        let bytes = encode(&record);
        for len in 0..bytes.len() {
            assert!(decode(bytes.slice(..len)).is_err(), "{record:?}, {len} bytes");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(flipped.into()).is_err(), "{record:?}, bit {bit}");
        }
        // Elsewhere, or behind something else, it is not the same frame.
        assert!(read(bytes.clone(), CHAIN, OFFSET + 1).is_err());
        assert!(read(bytes, CHAIN ^ 1, OFFSET).is_err());
    }
}

#[test]
fn a_length_that_lies_takes_no_memory() {
    // Half a gigabyte, says the length; and 65 bytes where there are never more than 64.
    for (kind, len) in [(1, 0x2000_0000), (2, 65)] {
        let head = Head { len, kind, offset: OFFSET, crc: 0 };
        assert!(head.check(OFFSET, u64::MAX).is_err());
    }
    let head = Head { len: 100, kind: 1, offset: OFFSET, crc: 0 };
    assert!(head.check(OFFSET, 100).is_ok());
    assert!(head.check(OFFSET, 99).is_err(), "more than the file has");
    let zeros = Head::decode(&[0; HEAD_BYTES]).unwrap();
    assert!(zeros.check(0, u64::MAX).is_err(), "zeros are no frame");
}

#[test]
fn a_mark_is_found_wherever_it_is_and_only_where_it_says() {
    let (position, start) = (1_100_000, 500_000);
    let mut mark = Vec::new();
    SyncMark { directory: DIRECTORY, position, synced: 600_000 }.encode(&mut mark);
    let at = usize::try_from(position - start).unwrap() + HEADER_BYTES + HEAD_BYTES;
    let dir = tempfile::tempdir().unwrap();
    let file = crate::disk::OpenOptions::new().read(true).write(true).create(true).open(dir.path().join("f")).unwrap();
    let search = |from, directory, begins: u64| mark::search(&file, from, directory, |start| start == begins).unwrap();
    // Around the border of what is searched at once too.
    for from in [0, at, at - 1, at - 256 * 1024 + 20, at - 256 * 1024 + 43, at - 256 * 1024 + 44] {
        let mut bytes = vec![0; at];
        bytes.extend(&mark);
        bytes.extend([0; 5000]);
        file.write_all_at(&bytes, 0).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
        let from = u64::try_from(from.min(at)).unwrap();
        let found = search(from, DIRECTORY, start);
        assert_eq!((found.synced, found.used), (600_000, (at + mark.len()) as u64), "from {from}");
        assert_eq!(search(from, DIRECTORY, start + 1).synced, 0);
        assert_eq!(search(from, Uuid::nil(), start).synced, 0);
    }
    assert_eq!(search(at as u64 + 1, DIRECTORY, start).synced, 0);
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
        for record in [
            Record::Entry(id, WalPayload::Command(command.into())),
            Record::Vote(WalVote(vote)),
            Record::Truncate(committed.then_some(id)),
        ] {
            prop_assert_eq!(decode(encode(&record)).unwrap(), record);
        }
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(kind: u8, bytes: Vec<u8>) {
        let _ = Record::decode(kind, &Bytes::from(bytes.clone()));
        let _ = LogState::decode(&mut Fields(&bytes));
        let _ = decode_membership(&bytes);
        let _ = decode(bytes.into());
    }
}
