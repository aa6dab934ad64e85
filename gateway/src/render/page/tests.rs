#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bytes::Bytes;
use tidelog::format::batch::{decode, encode, header};
use tidelog::model::{
    Bounds, Compression, Header, ProducerId, Record, StoredBatch, Topic, TopicId, TopicSettings, Triple,
};
use tidelog_api::fetch::{FetchResponse, FetchedRecord};
use uuid::Uuid;

use super::super::batch::batches;
use super::*;

fn record(number: u64) -> Record {
    Record {
        timestamp: 1_700_000_000_000 + number.cast_signed(),
        key: Some(Bytes::from(format!("k{number}"))),
        value: Some(Bytes::from(format!("{{\"n\":\n{number}}}"))),
        headers: vec![Header { name: "h".to_owned(), value: None }],
    }
}

fn batch(base: u64, count: u64, triple: Option<Triple>) -> StoredBatch {
    let records: Vec<Record> = (base..base + count).map(record).collect();
    let encoded = encode(&records, Compression::Zstd, triple).unwrap();
    let info = encoded.info;
    StoredBatch {
        base_offset: base,
        count: info.count,
        max_timestamp: info.max_timestamp,
        append_time: 5,
        bytes: encoded.bytes,
    }
}

fn page(start: u64, next_offset: u64, chunks: Vec<Chunk>) -> FetchPage {
    let topic = Topic {
        id: TopicId(Uuid::from_u128(1)),
        name: "t".to_owned(),
        namespace: "default".to_owned(),
        settings: TopicSettings::default(),
        created_at: 0,
        deleted_at: None,
    };
    let bounds = Bounds { log_start: 1, flushed: 5, archived: 2, high_watermark: 100 };
    FetchPage { topic: Arc::new(topic), start, next_offset, chunks, bounds, hold: tidelog::model::Hold::default() }
}

/// Offsets 0 to 9 in a batch, 10 to 19 from the archive, 20 to 29 in a batch.
fn mixed(start: u64, next: u64) -> FetchPage {
    let archived = decode(&batch(10, 10, None)).unwrap();
    let chunks = vec![Chunk::Batch(batch(0, 10, None)), Chunk::Records(archived), Chunk::Batch(batch(20, 10, None))];
    page(start, next, chunks)
}

#[test]
fn a_page_reads_back_clipped_with_its_bounds() {
    let (body, next) = json_body(&mixed(3, 25), 2, Shape::Mixed, true).unwrap();
    let read: FetchResponse = serde_json::from_str(&body).unwrap();
    assert_eq!((next, read.next_offset), (25, 25));
    assert_eq!(read.records.iter().map(|record| record.offset).collect::<Vec<_>>(), (3..25).collect::<Vec<_>>());
    assert!(read.records.iter().all(|record| record.partition == 2));
    assert_eq!(read.records[9].value.as_ref().unwrap().get(), "{\"n\": 12}");
    let bounds = read.bounds.unwrap();
    assert_eq!((bounds.log_start_offset, bounds.flushed_offset), (1, 5));
    assert_eq!((bounds.high_watermark, bounds.last_stable_offset), (100, 100));
    let (body, _) = json_body(&mixed(3, 25), 2, Shape::Mixed, false).unwrap();
    assert_eq!(serde_json::from_str::<FetchResponse>(&body).unwrap().bounds, None);
}

#[test]
fn an_empty_page_is_a_body_too() {
    let (body, next) = json_body(&page(7, 7, Vec::new()), 0, Shape::Json, true).unwrap();
    let read: FetchResponse = serde_json::from_str(&body).unwrap();
    assert_eq!((next, read.next_offset, read.records.len()), (7, 7, 0));
}

/// All pieces of a page.
fn pieces(page: &FetchPage, shape: Shape) -> Vec<String> {
    let (mut pieces, mut at) = (Vec::new(), Some((0, 0)));
    while let Some(place) = at {
        let (text, next) = ndjson_lines(page, place, 0, shape).unwrap();
        pieces.push(text);
        at = next;
    }
    pieces
}

#[test]
fn every_chunk_is_lines() {
    let pieces = pieces(&mixed(3, 25), Shape::Mixed);
    assert_eq!(pieces.len(), 1, "small chunks come together");
    let lines = pieces.concat();
    let offsets: Vec<u64> =
        lines.lines().map(|line| serde_json::from_str::<FetchedRecord>(line).unwrap().offset).collect();
    assert_eq!(offsets, (3..25).collect::<Vec<_>>());
}

/// A batch of 8 records at offset 40 that is small as long as it is packed: 1 MiB each, and six times that as JSON.
fn packed() -> StoredBatch {
    let mut large = record(0);
    large.value = Some(Bytes::from(vec![b'\x01'; 1 << 20]));
    let encoded = encode(&vec![large; 8], Compression::Zstd, None).unwrap();
    StoredBatch {
        base_offset: 40,
        count: 8,
        max_timestamp: encoded.info.max_timestamp,
        append_time: 0,
        bytes: encoded.bytes,
    }
}

#[test]
fn a_packed_batch_becomes_lines_a_piece_at_a_time() {
    let chunks = vec![Chunk::Batch(packed()), Chunk::Batch(batch(48, 1, None))];
    let pieces = pieces(&page(41, 49, chunks), Shape::Text);
    assert!(pieces.len() == 8 && pieces.iter().all(|text| text.len() < MAX_PIECE + (7 << 20)), "{}", pieces.len());
    let lines = pieces.concat();
    let offsets = lines.lines().map(|line| serde_json::from_str::<FetchedRecord>(line).unwrap().offset);
    assert_eq!(offsets.collect::<Vec<_>>(), (41..49).collect::<Vec<_>>());
}

#[test]
fn a_page_that_grows_too_long_is_cut_between_records() {
    // 32 MiB are passed with the sixth record.
    let (body, next) = json_body(&page(40, 48, vec![Chunk::Batch(packed())]), 0, Shape::Text, true).unwrap();
    let read: FetchResponse = serde_json::from_str(&body).unwrap();
    assert_eq!((next, read.next_offset, read.records.len()), (46, 46, 6));
}

#[test]
fn damaged_batches_are_errors() {
    let mut stored = batch(0, 3, None);
    let mut bytes = stored.bytes.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    stored.bytes = Bytes::from(bytes);
    let error = json_body(&page(0, 3, vec![Chunk::Batch(stored)]), 0, Shape::Mixed, true).unwrap_err();
    assert_eq!(error.code(), "corrupt");
}

#[test]
fn raw_batches_carry_their_offsets_and_archived_records_their_triples() {
    let triple = Triple { id: ProducerId(9), epoch: 2, sequence: u32::MAX >> 1 };
    let mut archived = decode(&batch(10, 5, Some(triple))).unwrap();
    archived.extend(decode(&batch(15, 5, None)).unwrap());
    let (pieces, next) =
        batches(&page(3, 18, vec![Chunk::Batch(batch(0, 10, None)), Chunk::Records(archived)])).unwrap();
    let mut bytes = Bytes::from(pieces.concat());
    let mut seen = Vec::new();
    while !bytes.is_empty() {
        let header = header(&bytes).unwrap();
        let batch = bytes.split_to(header.len as usize);
        assert!(batch.len() == header.len as usize);
        seen.push((header.base_offset, header.count, header.triple));
    }
    assert_eq!(seen, [(0, 10, None), (10, 5, Some(triple)), (15, 5, None)]);
    assert_eq!(next, 20);
}
