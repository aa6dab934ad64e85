//! What is sent is what arrives, and nothing that arrives can do harm.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use openraft::storage::SnapshotMeta;
use openraft::{Entry, EntryPayload};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::format::command::MAX_COMMAND_BYTES;
use crate::model::{Answer, CheckpointRef, Incarnation, NodeId, ObjectId};
use crate::raft::types::{EncodedCommand, LogEntry, Member, Membership, StoredMembership, TypeConfig};

type Append = AppendEntriesRequest<TypeConfig>;

fn concat(frames: &[Bytes]) -> Bytes {
    Bytes::from(frames.concat())
}

fn membership() -> Membership {
    let member = |port: u32| Member { address: format!("host:{port}"), directory: Uuid::from_u128(port.into()) };
    let nodes = BTreeMap::from([(1, member(1)), (2, member(2)), (3, member(3))]);
    Membership::new(vec![[1, 2].into(), [2, 3].into()], nodes).unwrap()
}

fn payload(kind: u8, len: usize) -> EntryPayload<EncodedCommand, u64, Member> {
    match kind {
        0 => EntryPayload::Blank,
        1 => EntryPayload::Membership(membership()),
        _ => EntryPayload::Normal(EncodedCommand(Bytes::from(vec![kind; len]))),
    }
}

/// Entries that follow each other, of terms that do not fall.
fn append(previous: Option<(u64, u64)>, entries: &[(u64, u8, usize)]) -> Append {
    let first = previous.map_or(0, |(_, index)| index + 1);
    let mut term = previous.map_or(0, |(term, _)| term);
    let mut list: Vec<LogEntry> = Vec::new();
    for ((rise, kind, len), index) in entries.iter().zip(first..) {
        term += rise;
        list.push(Entry { log_id: log_id(term, index), payload: payload(*kind, *len) });
    }
    Append {
        vote: Vote::new_committed(term + 1, 7),
        prev_log_id: previous.map(|(term, index)| log_id(term, index)),
        entries: list,
        leader_commit: previous.map(|(term, index)| log_id(term, index)),
    }
}

fn same(left: &Append, right: &Append) -> bool {
    left.vote == right.vote
        && left.prev_log_id == right.prev_log_id
        && left.entries == right.entries
        && left.leader_commit == right.leader_commit
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

proptest! {
    #[test]
    fn entries_arrive_as_they_were_sent(
        previous in proptest::option::of((0..9_u64, 0..1_000_u64)),
        entries in proptest::collection::vec((0..3_u64, 0..5_u8, 0..9_000_usize), 0..12),
    ) {
        let request = append(previous, &entries);
        let body = concat(&encode_append(&request).unwrap());
        prop_assert!(same(&decode_append(&body).unwrap(), &request));
        // Every truncation is refused.
        for len in (0..body.len()).step_by(1 + body.len() / 300) {
            prop_assert!(decode_append(&body.slice(..len)).is_err());
        }
        prop_assert!(decode_append(&concat(&[body, Bytes::from_static(b"x")])).is_err());
    }

    #[test]
    fn nothing_that_arrives_panics(kind in 0..12_u8, bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let bytes = Bytes::from(bytes);
        match kind {
            0 => drop(decode_append(&bytes)),
            1 => drop(decode_append_answer(&bytes, false)),
            2 => drop(decode_vote(&bytes)),
            3 => drop(decode_vote_answer(&bytes)),
            4 => drop(decode_transfer(&bytes)),
            5 => drop(decode_snapshot(&bytes)),
            6 => drop(decode_snapshot_answer(&bytes)),
            7 => drop(decode_proposed(&bytes)),
            8 => drop(decode_read_index(&bytes)),
            9 => drop(decode_piece_asked(&bytes)),
            10 => drop(decode_piece(&bytes)),
            _ => drop(decode_status(&bytes)),
        }
    }

    #[test]
    fn flipped_bits_of_a_request_do_no_harm(bit in 0..4_000_usize) {
        let request = append(Some((1, 5)), &[(0, 2, 40), (1, 1, 0), (0, 0, 0), (1, 3, 5_000)]);
        let mut bytes = encode_append(&request).unwrap().concat();
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(decoded) = decode_append(&Bytes::from(bytes)) {
            // What openraft asserts holds all the same.
            let first = decoded.prev_log_id.map_or(0, |id| id.index + 1);
            for (entry, index) in decoded.entries.iter().zip(first..) {
                prop_assert_eq!(entry.log_id.index, index);
                prop_assert!(term_of(&entry.log_id) <= decoded.vote.leader_id.term);
            }
        }
    }
}

#[test]
fn large_payloads_are_not_copied() {
    let request = append(Some((1, 5)), &[(0, 2, 100), (0, 3, 100_000), (0, 4, 10)]);
    let frames = encode_append(&request).unwrap();
    let EntryPayload::Normal(sent) = &request.entries[1].payload else { panic!("it is a command") };
    assert!(frames.iter().any(|frame| frame.as_ptr() == sent.0.as_ptr()), "the payload is a frame as it is");
    assert_eq!(frames.len(), 3, "small ones are put together");
    let body = concat(&frames);
    let received = decode_append(&body).unwrap();
    let EntryPayload::Normal(command) = &received.entries[1].payload else { panic!("it is a command") };
    assert!(body.as_ptr_range().contains(&command.0.as_ptr()), "the payload is a slice of the body");
}

#[test]
fn what_openraft_would_assert_is_refused() {
    let whole = append(Some((3, 5)), &[(0, 2, 10), (0, 2, 10)]);
    let refused = |change: fn(&mut Append)| {
        let mut request = whole.clone();
        change(&mut request);
        decode_append(&concat(&encode_append(&request).unwrap())).unwrap_err()
    };
    // A candidate, entries of a later term than their leader's, of an earlier one than what precedes them, and the same of
    // what precedes them. An index out of line cannot even be said.
    for error in [
        refused(|request| request.vote = Vote::new(9, 7)),
        refused(|request| request.vote = Vote::new_committed(2, 7)),
        refused(|request| request.entries[1].log_id = log_id(2, 7)),
        refused(|request| request.prev_log_id = Some(log_id(8, 5))),
        refused(|request| request.prev_log_id = Some(log_id(3, u64::MAX))),
        refused(|request| request.entries[0].payload = payload(9, MAX_COMMAND_BYTES + 1)),
    ] {
        assert_eq!(error.code(), "peer_message");
    }
    assert!(decode_append_answer(&encode_append_answer(&AppendEntriesResponse::Conflict).unwrap(), false).is_err());
}

fn named() -> NamedSnapshot {
    let reference = CheckpointRef { incarnation: Incarnation(2), index: 300, id: ObjectId(5) };
    let last_membership = StoredMembership::new(Some(log_id(6, 4)), membership());
    let meta = SnapshotMeta { last_log_id: Some(log_id(7, 300)), last_membership };
    NamedSnapshot { vote: Vote::new_committed(8, 2), meta, reference }
}

#[test]
fn every_call_arrives_as_it_was_sent() {
    for answer in [
        AppendEntriesResponse::Success,
        AppendEntriesResponse::PartialSuccess(Some(log_id(1, 2))),
        AppendEntriesResponse::PartialSuccess(None),
        AppendEntriesResponse::Conflict,
        AppendEntriesResponse::HigherVote(Vote::new(3, 4)),
    ] {
        assert_eq!(decode_append_answer(&encode_append_answer(&answer).unwrap(), true).unwrap(), answer);
    }
    let mut asked = VoteRequest::<TypeConfig>::new(Vote::new(3, 4), Some(log_id(2, 9)));
    asked.leadership_transfer = true;
    assert_eq!(decode_vote(&encode_vote(&asked).unwrap()).unwrap(), asked);
    asked.vote = Vote::new_committed(3, 4);
    assert!(decode_vote(&encode_vote(&asked).unwrap()).is_err(), "a leader does not ask for votes");
    let answer = VoteResponse::<TypeConfig>::new(Vote::new_committed(3, 4), None, true);
    assert_eq!(decode_vote_answer(&encode_vote_answer(&answer).unwrap()).unwrap(), answer);
    let transfer = TransferLeaderRequest::<TypeConfig>::new(Vote::new_committed(3, 4), 5, Some(log_id(2, 9)));
    assert_eq!(decode_transfer(&encode_transfer(&transfer).unwrap()).unwrap(), transfer);
    let installed = SnapshotResponse::<TypeConfig>::new(Vote::new_committed(3, 4));
    assert_eq!(decode_snapshot_answer(&encode_snapshot_answer(&installed).unwrap()).unwrap(), installed);
    for answer in [Proposed::Applied(7, Answer::Done), Proposed::NotLeader(Some(NodeId(3))), Proposed::Unknown] {
        assert_eq!(decode_proposed(&encode_proposed(&answer).unwrap()).unwrap(), answer);
    }
    for answer in [Ok(7), Err(None), Err(Some(NodeId(3)))] {
        assert_eq!(decode_read_index(&encode_read_index(&answer).unwrap()).unwrap(), answer);
    }
    let asked = PieceAsked { file: CheckpointFile::Ranges(ObjectId(9)), offset: 1 << 40 };
    assert_eq!(decode_piece_asked(&encode_piece_asked(&asked).unwrap()).unwrap(), asked);
    let piece = decode_piece(&concat(&encode_piece(9, Bytes::from_static(b"abc")))).unwrap();
    assert_eq!(piece, (9, Bytes::from_static(b"abc")));
    assert!(decode_piece(&concat(&encode_piece(2, Bytes::from_static(b"abc")))).is_err(), "longer than its file");
    let held =
        |node: u64| Held { node: NodeId(node), directory: Uuid::from_u128(node.into()), last: log_id(node, 1 << 40) };
    let all: Vec<Held> = (1..=7).map(held).collect();
    assert_eq!(decode_held(&encode_held(&all).unwrap()).unwrap(), all);
    let many: Vec<Held> = (1..=1_000).map(held).collect();
    assert!(decode_held(&encode_held(&many).unwrap()).unwrap().len() < 100, "no group has so many");
    assert!(decode_held(&[0xff; 5_000]).is_err());
    let status = PeerStatus {
        node: NodeId(1),
        directory: Uuid::from_u128(2),
        applied: 3,
        last_log: 4,
        checkpoint: Some(named().reference),
        wall_ms: 5,
        version: "6".to_owned(),
        newest: 7,
    };
    let said = encode_status(&status).unwrap();
    assert_eq!(decode_status(&said).unwrap(), status);
    assert_eq!(decode_status(&[&said[..], b"more, of a newer build"].concat()).unwrap(), status);
    (0..said.len()).for_each(|len| assert!(decode_status(&said[..len]).is_err(), "{len} bytes"));
}

#[test]
fn a_checkpoint_is_named_as_it_is_or_refused() {
    let sent = named();
    let got = decode_snapshot(&encode_snapshot(&sent).unwrap()).unwrap();
    assert_eq!((got.vote, got.reference, &got.meta), (sent.vote, sent.reference, &sent.meta));
    let refused = |change: fn(&mut NamedSnapshot)| {
        let mut changed = named();
        change(&mut changed);
        decode_snapshot(&encode_snapshot(&changed).unwrap()).unwrap_err().code()
    };
    assert_eq!(refused(|named| named.vote = Vote::new_committed(6, 2)), "peer_message");
    assert_eq!(refused(|named| named.vote = Vote::new(8, 2)), "peer_message");
    assert_eq!(refused(|named| named.reference.index = 299), "peer_message");
    assert_eq!(
        refused(|named| named.meta.last_membership = StoredMembership::new(Some(log_id(7, 301)), membership())),
        "peer_message"
    );
}

#[test]
fn the_layouts_are_the_documented_ones() {
    let request = append(Some((1, 5)), &[(0, 2, 3), (2, 0, 0)]);
    let body = concat(&encode_append(&request).unwrap());
    assert_eq!(
        hex(&body),
        "10000000".to_owned() + "040701" + "010105" + "010105" + "02" + "010103" + "030000" + "020202"
    );
    assert_eq!(hex(&encode_append_answer(&AppendEntriesResponse::Success).unwrap()), "00");
    let vote = VoteRequest::<TypeConfig>::new(Vote::new(3, 4), Some(log_id(2, 9)));
    assert_eq!(hex(&encode_vote(&vote).unwrap()), "030400".to_owned() + "010209" + "00");
    assert_eq!(hex(&encode_read_index(&Ok(300)).unwrap()), "00ac02");
    assert_eq!(hex(&concat(&encode_piece(9, Bytes::from_static(b"ab")))), "0900000000000000".to_owned() + "6162");
}
