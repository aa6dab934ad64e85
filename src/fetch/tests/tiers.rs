//! The same records from every tier, within the limits of a page.

use super::*;
use crate::model::{Header, ProducerId};

/// Null, empty, the four bytes `null`, absent, repeats and order, for key, value and header value.
fn golden() -> Vec<Record> {
    let some = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    let header = |name: &str, value| Header { name: name.into(), value };
    let contents = [None, some(""), some("null"), Some(Bytes::from_static(b"\x00\xff")), some("text")];
    let mut records = Vec::new();
    for key in &contents {
        for value in &contents {
            let headers =
                vec![header("b", key.clone()), header("a", value.clone()), header("b", None), header("", some(""))];
            records.push(Record {
                timestamp: records.len() as i64 * 31 % 7,
                key: key.clone(),
                value: value.clone(),
                headers,
            });
            records.push(Record { timestamp: 5, key: key.clone(), value: value.clone(), headers: Vec::new() });
        }
    }
    records
}

#[tokio::test]
async fn every_tier_gives_the_same_records() {
    let mut world = World::new().await;
    world.append(&[(0, golden()), (1, golden())]);
    let triple = Triple { id: ProducerId(7), epoch: 3, sequence: 0 };
    world.append_as(&[(0, golden())], Some(triple));
    assert_eq!(world.records(0, FetchFrom::Earliest).await, world.written[0], "tail");
    world.flush().await;
    assert_eq!(world.records(0, FetchFrom::Earliest).await, world.written[0], "segment");
    world.archive().await;
    assert_eq!(world.records(0, FetchFrom::Earliest).await, world.written[0], "archive");
    assert_eq!(world.records(1, FetchFrom::Offset(3)).await, world.written[1][3..]);
}

#[tokio::test]
async fn one_page_reaches_over_all_tiers_and_both_ends_are_exact() {
    let mut world = World::new().await;
    for (number, tier) in ["archive", "archive", "segment", "tail"].into_iter().enumerate() {
        let first = number as u64 * 20;
        world.append(&[(0, numbered(first..first + 13)), (1, numbered(0..2)), (0, numbered(first + 13..first + 20))]);
        match tier {
            "archive" => {
                world.flush().await;
                world.archive().await;
            }
            "segment" => world.flush().await,
            _ => {}
        }
    }
    for start in 0..80 {
        let mut request = world.request(0, FetchFrom::Offset(start));
        let page = world.fetch(&request).await.unwrap();
        assert_eq!((page.start, page.next_offset), (start, 80));
        assert_eq!(values(&super::super::records(&page).unwrap()), (start..80).collect::<Vec<_>>());
        request.max_records = 9;
        let page = world.fetch(&request).await.unwrap();
        assert_eq!(page.next_offset, (start + 9).min(80));
        let expected: Vec<u64> = (start..(start + 9).min(80)).collect();
        assert_eq!(values(&super::super::records(&page).unwrap()), expected);
    }
    let bounds = world.fetch(&world.request(0, FetchFrom::Latest)).await.unwrap().bounds;
    assert_eq!((bounds.log_start, bounds.archived, bounds.flushed, bounds.high_watermark), (0, 40, 60, 80));
}

#[tokio::test]
async fn pages_are_bounded_in_bytes_and_always_move_on() {
    let mut world = World::new().await;
    // Not compressible: three batches and a half fill a block, so batches lie over the borders of blocks.
    let large = |seed: u64| {
        let bytes: Vec<u8> = (0..300_000u64)
            .map(|at| (xxhash_rust::xxh3::xxh3_64(&(at + seed * 1_000_000).to_le_bytes())) as u8)
            .collect();
        Record { value: Some(bytes.into()), ..Record::default() }
    };
    for round in 0..3 {
        for seed in 0..8 {
            world.append(&[(0, vec![large(round * 8 + seed)])]);
        }
        match round {
            0 => {
                world.flush().await;
                world.archive().await;
            }
            1 => world.flush().await,
            _ => {}
        }
    }
    for max_bytes in [1, 300_000, 700_000, 1 << 20, 2_500_000, 16 << 20] {
        let (mut next, mut records, mut pages) = (0, Vec::new(), 0);
        while next < 24 {
            let mut request = world.request(0, FetchFrom::Offset(next));
            request.max_bytes = max_bytes;
            let page = world.fetch(&request).await.unwrap();
            assert!(page.next_offset > next, "no progress at {next} with {max_bytes}");
            let got = super::super::records(&page).unwrap();
            let bytes: usize = got.iter().map(|record| record.record.payload_len()).sum();
            assert!(got.len() == 1 || bytes <= max_bytes, "{bytes} of {max_bytes} bytes");
            next = page.next_offset;
            records.extend(got);
            pages += 1;
        }
        assert_eq!(records, world.written[0], "{max_bytes}");
        assert!(max_bytes < 16 << 20 || pages <= 2, "{pages} pages");
    }
}

#[tokio::test]
async fn raw_batches_carry_their_places() {
    let mut world = World::new().await;
    world.append(&[(0, golden())]);
    let triple = Triple { id: ProducerId(7), epoch: 3, sequence: 0 };
    world.append_as(&[(0, golden())], Some(triple));
    let check = |page: &FetchPage, world: &World| {
        let mut next: Offset = 0;
        for (head, rest) in super::super::placed_batches(page).unwrap() {
            let mut bytes = [head, rest].concat();
            let header = batch::header(&bytes).unwrap();
            assert_eq!(header.base_offset, next as i64);
            // Stored batches carry base offset 0; it is outside their CRC.
            bytes[..8].fill(0);
            let bytes = bytes.into();
            let stored = StoredBatch {
                base_offset: next,
                count: header.count,
                max_timestamp: header.max_timestamp,
                append_time: world.log_time,
                bytes,
            };
            let records = batch::decode(&stored).unwrap();
            let end = next + records.len() as Offset;
            assert_eq!(records, world.written[0][next as usize..end as usize]);
            next = end;
        }
        assert_eq!(next, 100);
    };
    let request = world.request(0, FetchFrom::Earliest);
    check(&world.fetch(&request).await.unwrap(), &world);
    world.flush().await;
    world.archive().await;
    let page = world.fetch(&request).await.unwrap();
    assert!(page.chunks.iter().all(|chunk| matches!(chunk, Chunk::Records(_))));
    check(&page, &world);
}
