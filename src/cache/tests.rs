#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use proptest::prelude::*;

use super::{Block, BlockCache, BlockKey, BlockKind, Code};
use crate::error::{Error, ErrorKind};
use crate::model::ObjectId;

const MIB: u64 = 1 << 20;

fn key(index: u64) -> BlockKey {
    BlockKey { object: ObjectId(7), kind: BlockKind::SegmentBlock, index }
}

fn content(index: u64) -> Bytes {
    Bytes::from(vec![u8::try_from(index % 251).unwrap(); 256 << 10])
}

/// Counts how often it fetches.
#[derive(Clone, Default)]
struct Origin(Arc<AtomicUsize>);

impl Origin {
    async fn read(&self, cache: &BlockCache, index: u64) -> Bytes {
        let origin = self.clone();
        let fetch = move || {
            let origin = origin.clone();
            async move {
                origin.0.fetch_add(1, Ordering::Relaxed);
                // Others get a chance to ask meanwhile.
                tokio::task::yield_now().await;
                Ok(content(index))
            }
        };
        cache.get_or_fetch(key(index), fetch).await.unwrap()
    }

    fn fetches(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_block_is_fetched_once_however_many_ask() {
    let cache = BlockCache::memory(64 * MIB).await;
    let origin = Origin::default();
    let readers = (0..50).map(|_| {
        let (cache, origin) = (cache.clone(), origin.clone());
        tokio::spawn(async move { origin.read(&cache, 3).await })
    });
    for reader in readers.collect::<Vec<_>>() {
        assert_eq!(reader.await.unwrap(), content(3));
    }
    assert_eq!(origin.fetches(), 1);
    assert!(cache.contains(&key(3)) && !cache.contains(&key(4)));
}

#[tokio::test]
async fn an_error_reaches_every_waiter_and_is_not_cached() {
    let cache = BlockCache::memory(64 * MIB).await;
    let fail = || async { Err(Error::corrupt("block 1 failed its checksum")) };
    let (first, second) = tokio::join!(cache.get_or_fetch(key(1), fail), cache.get_or_fetch(key(1), fail));
    for error in [first.unwrap_err(), second.unwrap_err()] {
        assert_eq!((error.kind(), error.code()), (ErrorKind::Corrupt, "corrupt"));
        assert_eq!(error.message(), "block 1 failed its checksum");
    }
    assert_eq!(Origin::default().read(&cache, 1).await, content(1));
}

#[tokio::test]
async fn memory_stays_within_its_budget() {
    let cache = BlockCache::memory(8 * MIB).await;
    let origin = Origin::default();
    for index in 0..200 {
        origin.read(&cache, index).await;
    }
    assert!(cache.memory_usage() <= usize::try_from(8 * MIB).unwrap());
}

#[tokio::test]
async fn blocks_survive_a_restart_on_disk_and_flipped_bits_are_fetched_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache");
    let origin = Origin::default();
    let cache = BlockCache::open(8 * MIB, 128 * MIB, &path).await;
    for index in 0..100 {
        origin.read(&cache, index).await;
    }
    cache.close().await;
    drop(cache);
    let fetched = origin.fetches();

    let cache = BlockCache::open(8 * MIB, 128 * MIB, &path).await;
    for index in 0..100 {
        assert_eq!(origin.read(&cache, index).await, content(index));
    }
    let again = origin.fetches() - fetched;
    assert!(again < 100, "none of the blocks came from disk");
    cache.close().await;
    drop(cache);

    // Every page of every file gets a flipped bit.
    let mut pending = vec![path.clone()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            } else if entry.file_name() != super::LAYOUT_FILE {
                let mut bytes = std::fs::read(entry.path()).unwrap();
                bytes.iter_mut().step_by(4_096).for_each(|byte| *byte ^= 0x10);
                std::fs::write(entry.path(), bytes).unwrap();
            }
        }
    }
    let cache = BlockCache::open(8 * MIB, 128 * MIB, &path).await;
    for index in 0..100 {
        assert_eq!(origin.read(&cache, index).await, content(index));
    }
    cache.close().await;
}

#[tokio::test]
async fn a_directory_that_is_no_cache_is_discarded() {
    let directory = tempfile::tempdir().unwrap();
    let origin = Origin::default();

    let file = directory.path().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    let cache = BlockCache::open(8 * MIB, 64 * MIB, &file).await;
    assert_eq!(origin.read(&cache, 1).await, content(1));

    let foreign = directory.path().join("foreign");
    std::fs::create_dir_all(foreign.join("blocks")).unwrap();
    std::fs::write(foreign.join("blocks/foyer-storage-direct-fs-00000000"), vec![0xa5; 100_000]).unwrap();
    let cache = BlockCache::open(8 * MIB, 64 * MIB, &foreign).await;
    assert_eq!(origin.read(&cache, 2).await, content(2));

    let resized = directory.path().join("resized");
    for disk in [64 * MIB, 128 * MIB, 64 * MIB] {
        let cache = BlockCache::open(8 * MIB, disk, &resized).await;
        assert_eq!(origin.read(&cache, 3).await, content(3));
        cache.close().await;
    }
}

proptest! {
    #[test]
    fn a_changed_entry_counts_as_absent(bytes in prop::collection::vec(any::<u8>(), 0..200), bit in 0usize..10_000) {
        let block = Block::new(key(1), bytes.into());
        let mut encoded = Vec::new();
        block.encode(&mut encoded).unwrap();
        prop_assert_eq!(encoded.len(), block.estimated_size());
        prop_assert_eq!(Block::decode(&mut encoded.as_slice()).unwrap().bytes, block.bytes);
        for len in 0..encoded.len() {
            prop_assert!(Block::decode(&mut &encoded[..len]).is_err());
        }
        let bit = bit % (encoded.len() * 8);
        encoded[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Block::decode(&mut encoded.as_slice()).is_err());
    }
}
