//! Backups of a shard in memory over the real formats, and buckets made of them, with an end at each write.
#![allow(clippy::unwrap_used, clippy::panic)]

mod manifest;
mod restore;
pub(super) mod store;
mod take;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::memory::InMemory;

use self::store::Fragile;
use super::pace::Progress;
use super::{Options, Restored, Taken};
use crate::checkpoints;
use crate::checkpoints::tests::{SHARD, Shard, records_of};
use crate::error::Result;
use crate::format::archive::ArchiveReader;
use crate::model::{Place, StoredRecord, TopicPartition, TopicSettings};
use crate::state::State;
use crate::store::Bucket;
use crate::store::keys::Key;
use crate::verify;

pub(super) const NOW: u64 = 1_800_000_000_000;

pub(super) fn options() -> Options {
    // One after the other, so that the n-th write is the same one each time.
    Options { parallel: 1, patience: Duration::ZERO, ..Options::default() }
}

pub(super) async fn take(from: &Bucket, to: &Bucket) -> Result<Taken> {
    super::take(from, to, &options(), NOW, &Progress::default()).await
}

async fn restore(from: &Bucket, to: &Bucket) -> Result<Restored> {
    super::restore(from, to, None, (&options(), NOW), &Progress::default()).await
}

/// A cluster's bucket with two topics, one of several partitions, in archive files and segments; index parts, older
/// checkpoints.
pub(super) async fn populated() -> (Shard, Arc<InMemory>) {
    let objects = Arc::new(InMemory::new());
    let shard = Shard::new(Fragile::whole(&objects)).await;
    founded(&shard.bucket).await;
    let flights = shard.create("flights", TopicSettings { partitions: 3, ..TopicSettings::default() });
    let weather = shard.create("weather", TopicSettings::default());
    for round in 0..7 {
        for partition in 0..3 {
            shard.append(TopicPartition::new(flights, partition), 20 + round);
        }
        shard.append(TopicPartition::new(weather, 0), 10 + round);
        shard.advance(1_000);
        shard.flush(true).await;
        if round == 2 {
            shard.archive(flights).await;
            shard.flush(true).await;
        }
    }
    (shard, objects)
}

/// Puts `cluster.json` and the first incarnation as a node does.
async fn founded(bucket: &Bucket) {
    use crate::checkpoints::lives::{ClusterFile, IncarnationFile, create_cluster, create_incarnation};
    bucket.delete(vec![Key::Cluster.to_string()]).await.unwrap();
    create_cluster(bucket, &ClusterFile::new("the-old-cluster".to_owned(), 1)).await.unwrap();
    let first = crate::model::Incarnation(1);
    bucket.delete(vec![Key::Incarnation(first).to_string()]).await.unwrap();
    create_incarnation(bucket, &IncarnationFile::new(first, uuid::Uuid::from_u128(1), 1, false)).await.unwrap();
}

/// The keys of all objects.
pub(super) async fn keys(bucket: &Bucket) -> Vec<String> {
    let mut keys: Vec<String> = bucket.list("").map_ok(|object| object.key).try_collect().await.unwrap();
    keys.sort();
    keys
}

/// Every readable record by topic name and partition, as the newest checkpoint of the first shard has them.
pub(super) async fn contents(bucket: &Bucket) -> BTreeMap<(String, u32), Vec<StoredRecord>> {
    let newest = checkpoints::list(bucket, SHARD).await.unwrap()[0];
    let loaded = checkpoints::load(bucket, SHARD, newest).await.unwrap();
    let parts = loaded.parts.iter().map(|(_, _, part)| part.clone()).collect();
    let state = State::restore(loaded.checkpoint.clone(), parts, loaded.ranges.clone()).unwrap();
    let mut contents = BTreeMap::new();
    for record in &loaded.checkpoint.topics {
        for partition in 0..record.topic.settings.partitions {
            let id = TopicPartition::new(record.topic.id, partition);
            let place = state.partition(id).unwrap();
            let mut records = Vec::new();
            for range in place.ranges().iter() {
                let held = held(bucket, &loaded.checkpoint, range.place, id).await;
                records.extend(
                    held.into_iter().filter(|record| {
                        (range.start.max(place.bounds().log_start)..range.end).contains(&record.offset)
                    }),
                );
            }
            contents.insert((record.topic.name.clone(), partition), records);
        }
    }
    contents
}

/// The records of a partition in an object.
async fn held(
    bucket: &Bucket,
    checkpoint: &crate::model::Checkpoint,
    place: Place,
    partition: TopicPartition,
) -> Vec<StoredRecord> {
    match place {
        Place::Segment { id, .. } => {
            let object = bucket.get(&Key::Segment(SHARD, id).to_string(), u64::MAX).await.unwrap();
            let all = records_of(id, &object);
            all.into_iter().filter(|(of, _)| *of == partition).map(|(_, record)| record).collect()
        }
        Place::Archive { file } => {
            let file = checkpoint.archive_files.iter().find(|known| known.id == file).unwrap();
            let key = checkpoints::archive_key(checkpoint, file).unwrap().to_string();
            let object = bucket.get(&key, u64::MAX).await.unwrap();
            let reader = ArchiveReader::open(file, object.slice(file.footer_start as usize..)).unwrap();
            let groups = reader.groups().iter().enumerate().filter(|(_, group)| group.partition == partition.partition);
            let decoded = groups.flat_map(|(index, group)| {
                let bytes = object.slice(group.position as usize..(group.position + group.bytes) as usize);
                reader.records(index, bytes, group.start..group.end).unwrap()
            });
            decoded.collect()
        }
    }
}

pub(super) async fn verified(bucket: &Bucket) -> verify::Report {
    let options = verify::Options { parallel: 2, rate: None, patience: Duration::ZERO };
    verify::verify(bucket, &options, std::sync::Arc::new(|_| {})).await.unwrap()
}
