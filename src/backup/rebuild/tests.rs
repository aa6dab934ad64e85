//! Buckets whose checkpoints are lost.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use object_store::memory::InMemory;

use super::super::tests::store::Fragile;
use super::super::tests::{NOW, contents, keys, options, populated, verified};
use super::*;
use crate::checkpoints::tests::{SHARD, Shard};
use crate::model::{TopicPartition, TopicSettings};

async fn proposed(bucket: &Bucket, anyway: bool) -> Result<Proposal> {
    propose(bucket, anyway, (&options(), NOW), &Progress::default()).await
}

async fn rebuilt(bucket: &Bucket) -> Report {
    let proposal = proposed(bucket, false).await.unwrap();
    proposal.write(bucket).await.unwrap();
    proposal.report
}

async fn lose(bucket: &Bucket, endings: &[&str]) {
    let lost = keys(bucket).await.into_iter().filter(|key| endings.iter().any(|ending| key.ends_with(ending)));
    bucket.delete(lost.collect()).await.unwrap();
}

#[tokio::test]
async fn a_bucket_without_checkpoints_has_all_its_records_again() {
    let (shard, _objects) = populated().await;
    let bucket = &shard.bucket;
    let expected = contents(bucket).await;
    assert_eq!(proposed(bucket, false).await.unwrap_err().code(), "checkpoints_usable");
    lose(bucket, &[".ckpt", ".idx"]).await;
    let before = keys(bucket).await;
    let proposal = proposed(bucket, false).await.unwrap();
    assert_eq!(keys(bucket).await, before, "a proposal writes nothing");
    proposal.write(bucket).await.unwrap();
    assert_eq!(contents(bucket).await, expected);
    let found = verified(bucket).await;
    assert_eq!((found.problems.as_slice(), found.incarnation), (&[][..], Some(2)));
    assert!(found.shards[0].clean, "a node starts from it");
    let report = proposal.report;
    // The three segments that were archived are still there.
    assert_eq!((report.shards[0].segments, report.shards[0].archive_files, report.shards[0].unused), (4, 2, 3));
    assert_eq!((report.left_out.as_slice(), report.unreadable.as_slice()), (&[][..], &[][..]));
    let topics: Vec<_> = report.topics.iter().map(|topic| (topic.name.as_str(), topic.partitions)).collect();
    assert_eq!(topics, [("flights", 3), ("weather", 1)]);
    let records: u64 = report.topics.iter().map(|topic| topic.records).sum();
    assert_eq!(records, expected.values().map(|records| records.len() as u64).sum::<u64>());
}

#[tokio::test]
async fn a_bucket_of_archive_files_alone_is_readable_again() {
    let (shard, _objects) = populated().await;
    shard.archive(shard.state().topic_by_name("flights").unwrap().id).await;
    shard.flush(true).await;
    let expected = contents(&shard.bucket).await;
    lose(&shard.bucket, &[".ckpt", ".idx", ".seg", "json"]).await;
    let report = rebuilt(&shard.bucket).await;
    assert_eq!(contents(&shard.bucket).await, expected);
    assert_eq!(verified(&shard.bucket).await.problems, []);
    assert!(report.topics.iter().all(|topic| !topic.settings_known));
    assert_eq!(report.incarnation, 1_024, "above any life that there may have been");
}

#[tokio::test]
async fn a_rebuild_that_ends_at_any_write_is_done_by_the_next() {
    let (shard, _objects) = populated().await;
    let expected = contents(&shard.bucket).await;
    lose(&shard.bucket, &[".ckpt", ".idx", "cluster.json"]).await;
    for last_is_done in [false, true] {
        for writes in 0.. {
            let (bucket, is_done) = broken_off(&shard.bucket, writes, last_is_done).await;
            assert_eq!(contents(&bucket).await, expected, "{writes} writes");
            assert_eq!(verified(&bucket).await.problems, [], "{writes} writes");
            assert!(lives::founded(&bucket).await.unwrap().is_some(), "{writes} writes");
            if is_done {
                assert!(writes > 3, "{writes} writes");
                break;
            }
        }
    }
}

/// A copy of `from` of which a rebuild ended at a write, with a second one after it; whether the first was whole.
async fn broken_off(from: &Bucket, writes: u64, last_is_done: bool) -> (Bucket, bool) {
    let objects = Arc::new(InMemory::new());
    let bucket = Fragile::whole(&objects);
    for key in keys(from).await {
        let bytes = from.get(&key, u64::MAX).await.unwrap();
        bucket.put(&key, vec![bytes]).await.unwrap();
    }
    let broken = Fragile::ending_after(&objects, writes, last_is_done).bucket();
    let ended = proposed(&bucket, false).await.unwrap().write(&broken).await;
    if ended.is_err() {
        match proposed(&bucket, false).await {
            Ok(proposal) => proposal.write(&bucket).await.unwrap(),
            // It broke off after its last write.
            Err(error) => assert_eq!((error.code(), last_is_done), ("checkpoints_usable", true), "{writes} writes"),
        }
    }
    (bucket, ended.is_ok())
}

#[tokio::test]
async fn a_rebuild_of_one_lost_shard_that_ends_at_any_write_leaves_no_mixture_of_lives() {
    let (zero, _objects) = populated().await;
    let bucket = &zero.bucket;
    // Other topics than those of the first shard.
    let (one, _others) = populated_later().await;
    for key in keys(&one.bucket).await.into_iter().filter(|key| key.ends_with(".seg")) {
        let bytes = one.bucket.get(&key, u64::MAX).await.unwrap();
        bucket.put(&key.replace("shards/00000", "shards/00001"), vec![bytes]).await.unwrap();
    }
    let report = rebuilt(bucket).await;
    assert_eq!((report.shards.len(), report.shards[1].partitions), (2, 1));
    assert_eq!(proposed(bucket, false).await.unwrap_err().code(), "checkpoints_usable");
    let lost = checkpoints::list(bucket, ShardId(1)).await.unwrap();
    let lost = lost.into_iter().map(|reference| Key::Checkpoint(ShardId(1), reference).to_string());
    bucket.delete(lost.collect()).await.unwrap();
    for last_is_done in [false, true] {
        for writes in 0.. {
            let (bucket, is_done) = broken_off(bucket, writes, last_is_done).await;
            assert_eq!(verified(&bucket).await.problems, [], "{writes} writes");
            let mut lives = Vec::new();
            for shard in [ShardId(0), ShardId(1)] {
                lives.push(newest_usable(&bucket, shard).await.unwrap());
            }
            let newest = checkpoints::incarnations(&bucket).await.unwrap().last().copied();
            assert_eq!(lives, [newest, newest], "{writes} writes");
            if is_done {
                assert!(writes > 4, "{writes} writes");
                break;
            }
        }
    }
}

/// A bucket of one topic, later than that of [`populated`].
async fn populated_later() -> (Shard, Arc<InMemory>) {
    let objects = Arc::new(InMemory::new());
    let shard = Shard::new(Fragile::whole(&objects)).await;
    shard.advance(100_000);
    let trains = shard.create("trains", TopicSettings::default());
    for _ in 0..2 {
        shard.append(TopicPartition::new(trains, 0), 5);
        shard.advance(1_000);
        shard.flush(true).await;
    }
    (shard, objects)
}

#[tokio::test]
async fn whole_checkpoints_that_no_start_can_use_since_cluster_json_is_lost_are_no_reason_to_refuse() {
    for lost in [&["cluster.json"][..], &["json"]] {
        let (shard, _objects) = populated().await;
        let expected = contents(&shard.bucket).await;
        lose(&shard.bucket, lost).await;
        rebuilt(&shard.bucket).await;
        assert_eq!(contents(&shard.bucket).await, expected);
        let found = verified(&shard.bucket).await;
        assert_eq!(found.problems, []);
        assert!(found.shards[0].clean, "a node starts from it");
    }
}

#[tokio::test]
async fn what_cannot_be_read_and_what_lies_before_a_gap_is_told() {
    let (shard, _objects) = populated().await;
    let bucket = &shard.bucket;
    let mut expected = contents(bucket).await;
    let live: Vec<_> = shard.state().segments().map(|segment| segment.info).collect();
    lose(bucket, &[".ckpt", ".idx"]).await;
    // The second of the four live segments: what comes before it is cut off.
    let damaged = Key::Segment(SHARD, live[1].id).to_string();
    let whole = bucket.get(&damaged, u64::MAX).await.unwrap();
    let mut bytes = whole.to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    bucket.put(&damaged, vec![bytes.into()]).await.unwrap();
    let report = rebuilt(bucket).await;
    assert_eq!(report.unreadable.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), [damaged.as_str()]);
    assert_eq!(report.left_out.len(), 4, "of each partition: {:?}", report.left_out);
    let state = shard.state();
    for ((topic, partition), records) in &mut expected {
        let id = TopicPartition::new(state.topic_by_name(topic).unwrap().id, *partition);
        let ranges: Vec<_> = state.partition(id).unwrap().ranges().iter().collect();
        let kept_from = ranges[ranges.len() - 2].start;
        records.retain(|record| record.offset >= kept_from);
        let told = report.left_out.iter().find(|left_out| left_out.partition == id.to_string()).unwrap();
        assert_eq!((told.from, told.to), (0, ranges[ranges.len() - 3].start));
    }
    assert_eq!(contents(bucket).await, expected);
    assert_eq!(verified(bucket).await.problems, []);
    bucket.put(&damaged, vec![whole]).await.unwrap();
}

#[tokio::test]
async fn of_two_topics_with_one_name_the_later_one_has_it() {
    let (shard, _objects) = populated().await;
    let old = shard.state().topic_by_name("weather").unwrap().id;
    shard.control(crate::model::Control::DeleteTopic { id: old });
    shard.advance(1_000);
    let new = shard.create("weather", TopicSettings::default());
    shard.append(TopicPartition::new(new, 0), 3);
    shard.flush(true).await;
    lose(&shard.bucket, &[".ckpt", ".idx"]).await;
    let report = rebuilt(&shard.bucket).await;
    let of = |id: String| report.topics.iter().find(|topic| topic.topic_id == id).unwrap();
    assert_eq!((of(new.to_string()).deleted, of(new.to_string()).records), (false, 3));
    assert!(of(old.to_string()).deleted);
    assert_eq!(verified(&shard.bucket).await.problems, []);
}

#[tokio::test]
async fn there_has_to_be_something() {
    let bucket = Bucket::memory();
    assert_eq!(proposed(&bucket, false).await.unwrap_err().code(), "nothing_to_rebuild");
    let place = Bucket::memory();
    let (shard, _objects) = populated().await;
    super::super::tests::take(&shard.bucket, &place).await.unwrap();
    assert_eq!(proposed(&place, true).await.unwrap_err().code(), "bucket_is_backup");
}
