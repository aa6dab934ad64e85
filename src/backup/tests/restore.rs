//! Buckets made of backups.

use super::super::manifest as manifests;
use super::store::Fragile;
use super::*;
use crate::checkpoints::lives;
use crate::model::{CheckpointRef, Incarnation, ProducerId};

/// A backup of a populated cluster, and what it holds.
async fn backed_up() -> (Bucket, BTreeMap<(String, u32), Vec<StoredRecord>>) {
    let (shard, _objects) = populated().await;
    let place = Bucket::memory();
    take(&shard.bucket, &place).await.unwrap();
    (place, contents(&shard.bucket).await)
}

async fn newest(bucket: &Bucket) -> CheckpointRef {
    checkpoints::list(bucket, SHARD).await.unwrap()[0]
}

#[tokio::test]
async fn a_restored_bucket_has_the_same_records_of_other_topics() {
    let (place, expected) = backed_up().await;
    let bucket = Bucket::memory();
    let restored = restore(&place, &bucket).await.unwrap();
    assert_eq!(contents(&bucket).await, expected);
    let report = verified(&bucket).await;
    assert_eq!((report.problems.as_slice(), report.shards[0].orphans, report.foreign_objects), (&[][..], 0, 0));
    assert!(report.shards[0].clean, "a node starts from it as after a clean stop");
    assert_eq!(report.incarnation, Some(1 + 1_024));
    assert_eq!(report.shards[0].records, restored.records);
    let names: Vec<&str> = restored.topics.iter().map(|topic| topic.name.as_str()).collect();
    assert_eq!(names, ["flights", "weather"]);
    assert!(restored.topics.iter().all(|topic| topic.id != topic.old_id));
    assert_ne!(restored.cluster_id, "the-old-cluster");
    assert_eq!(lives::cluster(&bucket).await.unwrap().unwrap().cluster_id, restored.cluster_id);
    // Nothing says the old ids any more.
    for key in keys(&bucket).await.iter().filter(|key| !key.ends_with("restore.json")) {
        let bytes = bucket.get(key, u64::MAX).await.unwrap();
        for topic in &restored.topics {
            let id: uuid::Uuid = topic.old_id.parse().unwrap();
            let has = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
            assert!(!has(id.as_bytes()) && !has(topic.old_id.as_bytes()) && !key.contains(&topic.old_id), "{key}");
        }
    }
    let again = restore(&place, &bucket).await.unwrap();
    assert!(again.was_done && again.cluster_id == restored.cluster_id);
}

#[tokio::test]
async fn a_restore_that_ends_at_any_write_goes_on() {
    let (place, expected) = backed_up().await;
    for last_is_done in [false, true] {
        let mut writes = 0;
        loop {
            let objects = Arc::new(InMemory::new());
            let broken = Fragile::ending_after(&objects, writes, last_is_done).bucket();
            let bucket = Fragile::whole(&objects);
            let ended = restore(&place, &broken).await;
            let begun = lives::founded(&bucket).await.unwrap().is_some();
            let is_empty = keys(&bucket).await.is_empty();
            if !begun && !is_empty {
                let refused = lives::cluster(&bucket).await.unwrap_err();
                assert_eq!(refused.code(), "restore_unfinished", "{writes} writes");
            }
            if begun {
                assert_eq!(contents(&bucket).await, expected, "{writes} writes");
            }
            let plan = manifests::plan(&bucket).await.unwrap();
            let restored = restore(&place, &bucket).await.unwrap();
            assert!(plan.is_none_or(|plan| plan.cluster_id == restored.cluster_id), "{writes} writes");
            assert_eq!(restored.was_done, begun, "{writes} writes");
            let report = verified(&bucket).await;
            assert_eq!((report.problems.as_slice(), report.shards[0].orphans), (&[][..], 0), "{writes} writes");
            assert_eq!(contents(&bucket).await, expected, "{writes} writes");
            if ended.is_ok() {
                assert!(writes > 8, "a restore is more than {writes} writes");
                break;
            }
            writes += 1;
        }
    }
}

#[tokio::test]
async fn a_bucket_that_is_not_this_restores_own_is_refused() {
    let (shard, _objects) = populated().await;
    let place = Bucket::memory();
    take(&shard.bucket, &place).await.unwrap();
    let code = |restored: Result<Restored>| restored.unwrap_err().code();
    assert_eq!(code(restore(&place, &shard.bucket).await), "bucket_not_empty");
    assert_eq!(code(restore(&place, &place).await), "bucket_not_empty");
    assert_eq!(code(restore(&shard.bucket, &Bucket::memory()).await), "not_a_backup_place");

    // Begun with the older of two backups: it goes on with that one, and with no other.
    let objects = Arc::new(InMemory::new());
    restore(&place, &Fragile::ending_after(&objects, 3, true).bucket()).await.unwrap_err();
    let bucket = Fragile::whole(&objects);
    let older = manifests::plan(&bucket).await.unwrap().unwrap().backup();
    super::super::take(&shard.bucket, &place, &options(), NOW + 1, &Progress::default()).await.unwrap();
    let newer = *manifests::list(&place).await.unwrap().last().unwrap();
    assert_ne!(older, newer);
    let how = (&options(), NOW);
    let other = super::super::restore(&place, &bucket, Some(newer), how, &Progress::default()).await;
    assert_eq!(code(other), "restore_of_another_backup");
    assert_eq!(restore(&place, &bucket).await.unwrap().backup, older.to_string());

    // Somebody founded a cluster in it meanwhile.
    let objects = Arc::new(InMemory::new());
    restore(&place, &Fragile::ending_after(&objects, 3, true).bucket()).await.unwrap_err();
    let bucket = Fragile::whole(&objects);
    lives::create_cluster(&bucket, &lives::ClusterFile::new("squatter".to_owned(), 1)).await.unwrap();
    assert_eq!(code(restore(&place, &bucket).await), "bucket_not_empty");
}

#[tokio::test]
async fn damage_in_a_backup_is_told_and_not_restored() {
    let (place, _) = backed_up().await;
    for ending in [".seg", ".parquet", ".idx", ".ckpt"] {
        let key = keys(&place).await.into_iter().find(|key| key.ends_with(ending)).unwrap();
        let whole = place.get(&key, u64::MAX).await.unwrap();
        let mut bytes = whole.to_vec();
        bytes[whole.len() / 3] ^= 1;
        place.put(&key, vec![bytes.into()]).await.unwrap();
        let bucket = Bucket::memory();
        let error = restore(&place, &bucket).await.unwrap_err();
        assert_eq!(error.code(), "corrupt", "{key}: {error}");
        assert!(lives::founded(&bucket).await.unwrap().is_none());
        place.put(&key, vec![whole]).await.unwrap();
        // The same call, once the object is whole again.
        restore(&place, &bucket).await.unwrap();
    }
}

#[tokio::test]
async fn producers_of_the_old_cluster_are_fenced_and_know_how_far_they_got() {
    let (shard, _objects) = populated().await;
    let topic = shard.state().topic_by_name("flights").unwrap().id;
    let name = Some("loader".to_owned());
    let crate::model::Answer::Producer { id, epoch } = shard.control(crate::model::Control::RegisterProducer { name })
    else {
        panic!("no producer")
    };
    shard.append_as(TopicPartition::new(topic, 0), 4, Some(crate::model::Triple { id, epoch, sequence: 0 }));
    shard.flush(true).await;
    let place = Bucket::memory();
    take(&shard.bucket, &place).await.unwrap();
    let bucket = Bucket::memory();
    restore(&place, &bucket).await.unwrap();
    let (new, _) = checkpoints::load_alone(&bucket, SHARD, newest(&bucket).await).await.unwrap();
    let [producer] = new.producers.as_slice() else { panic!("{:?}", new.producers) };
    assert_eq!((producer.id, producer.epoch, producer.written), (id, epoch + 1, 4));
    let [known] = new.names.as_slice() else { panic!("{:?}", new.names) };
    assert_eq!((known.id, known.epoch), (id, epoch + 1));
    // What the next life hands out is none of what the old cluster does for a long while.
    let next = Incarnation(new.incarnation.0 + 1).0 << 40;
    assert!(ProducerId(next) > ProducerId((1 + 1_000) << 40));
    assert!(new.closed && new.jobs.is_empty());
}
