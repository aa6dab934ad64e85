//! Taking backups.

use super::super::manifest as manifests;
use super::store::Fragile;
use super::*;
use crate::store::keys;

#[tokio::test]
async fn a_second_backup_copies_only_what_is_new() {
    let (shard, _objects) = populated().await;
    let place = Bucket::memory();
    let first = take(&shard.bucket, &place).await.unwrap();
    assert_eq!(first.copied, first.total);
    assert_eq!(verified(&place).await.problems, []);
    assert_eq!(contents(&place).await, contents(&shard.bucket).await);

    let again = take(&shard.bucket, &place).await.unwrap();
    assert_eq!((again.copied.objects, again.total), (0, first.total));
    assert_ne!(again.backup, first.backup);

    let topic = shard.state().topic_by_name("flights").unwrap().id;
    shard.append(TopicPartition::new(topic, 1), 5);
    shard.flush(true).await;
    let before = keys(&place).await;
    let third = take(&shard.bucket, &place).await.unwrap();
    assert_eq!(third.copied.objects, 2, "a segment and the checkpoint");
    let new: Vec<String> = keys(&place).await.into_iter().filter(|key| !before.contains(key)).collect();
    let kinds: Vec<_> = new.iter().map(|key| key.rsplit('.').next().unwrap()).collect();
    assert_eq!(kinds, ["json", "ckpt", "seg"]);
    assert_eq!(contents(&place).await, contents(&shard.bucket).await);
    assert_eq!(manifests::list(&place).await.unwrap().len(), 3);
    assert_eq!(verified(&place).await.problems, []);
}

#[tokio::test]
async fn a_backup_that_ends_at_any_write_is_done_by_the_next() {
    let (shard, _objects) = populated().await;
    for last_is_done in [false, true] {
        let mut writes = 0;
        loop {
            let objects = Arc::new(InMemory::new());
            let broken = Fragile::ending_after(&objects, writes, last_is_done).bucket();
            let place = Fragile::whole(&objects);
            let ended = take(&shard.bucket, &broken).await;
            let finished = manifests::list(&place).await.unwrap();
            // What is there is what a whole backup would have; only its manifest makes it one.
            for manifest in &finished {
                assert!(manifests::manifest(&place, *manifest).await.unwrap().checkpoints().is_ok());
                assert_eq!(verified(&place).await.problems, [], "{writes} writes");
            }
            assert!(ended.is_err() || finished.len() == 1, "{writes} writes");
            let there =
                keys(&place).await.iter().filter(|key| key.contains('/') && !key.starts_with("backups")).count();
            let done = take(&shard.bucket, &place).await.unwrap();
            assert_eq!(
                done.copied.objects,
                done.total.objects - there as u64,
                "nothing is copied twice: {writes} writes"
            );
            assert_eq!(verified(&place).await.problems, [], "{writes} writes");
            assert_eq!(contents(&place).await, contents(&shard.bucket).await, "{writes} writes");
            if ended.is_ok() {
                assert!(writes > 8, "a backup is more than {writes} writes");
                break;
            }
            writes += 1;
        }
    }
}

#[tokio::test]
async fn what_was_replaced_and_deleted_meanwhile_is_not_missed() {
    let (shard, objects) = populated().await;
    let old = checkpoints::list(&shard.bucket, SHARD).await.unwrap();
    let replaced: Vec<_> = shard.state().segments().map(|segment| segment.info.id).collect();
    shard.archive(shard.state().topic_by_name("flights").unwrap().id).await;
    shard.flush(true).await;
    // The backup has the older checkpoint in its hands when the garbage goes: it is listed twice before that, for the number of
    // shards and for what it names.
    let listed = checkpoints::list(&shard.bucket, SHARD).await.unwrap();
    let newer = listed.iter().filter(|reference| !old.contains(reference));
    let newer: Vec<String> = newer.map(|reference| Key::Checkpoint(SHARD, *reference).to_string()).collect();
    assert_eq!(newer.len(), 1);
    let source = Fragile::over(&objects);
    source.hide(newer.clone(), 2);
    shard.bucket.delete(replaced.iter().map(|id| Key::Segment(SHARD, *id).to_string()).collect()).await.unwrap();

    let place = Bucket::memory();
    let taken = take(&source.bucket(), &place).await.unwrap();
    assert_eq!((taken.refreshed, taken.shards[0].checkpoint.as_str()), (1, newer[0].as_str()));
    assert_eq!(taken.passed_over, [""; 0]);
    assert_eq!(verified(&place).await.problems, []);
    assert_eq!(contents(&place).await, contents(&shard.bucket).await);
}

#[tokio::test]
async fn a_checkpoint_of_a_flush_that_broke_off_is_passed_over() {
    let (shard, _objects) = populated().await;
    let there = contents(&shard.bucket).await;
    let whole = checkpoints::list(&shard.bucket, SHARD).await.unwrap()[0];
    let segments = keys(&shard.bucket).await;
    shard.append(TopicPartition::new(shard.state().topic_by_name("flights").unwrap().id, 0), 9);
    shard.flush(false).await;
    let new = keys(&shard.bucket).await.into_iter().filter(|key| key.ends_with(".seg") && !segments.contains(key));
    shard.bucket.delete(new.collect()).await.unwrap();

    let place = Bucket::memory();
    let taken = take(&shard.bucket, &place).await.unwrap();
    assert_eq!(taken.shards[0].checkpoint, Key::Checkpoint(SHARD, whole).to_string());
    assert_eq!(taken.passed_over.len(), 1, "{taken:?}");
    assert_eq!(contents(&place).await, there);
}

#[tokio::test]
async fn damage_is_not_copied() {
    let (shard, _objects) = populated().await;
    for ending in [".seg", ".parquet"] {
        let place = Bucket::memory();
        let live: Vec<_> = shard.state().segments().map(|segment| segment.info.id.to_string()).collect();
        let named =
            |key: &String| key.ends_with(ending) && (ending != ".seg" || live.iter().any(|id| key.contains(id)));
        let key = keys(&shard.bucket).await.into_iter().find(named).unwrap();
        let whole = shard.bucket.get(&key, u64::MAX).await.unwrap();
        for at in [0, whole.len() / 2, whole.len() - 30] {
            let mut bytes = whole.to_vec();
            bytes[at] ^= 4;
            shard.bucket.put(&key, vec![bytes.into()]).await.unwrap();
            let error = take(&shard.bucket, &place).await.unwrap_err();
            assert_eq!(error.code(), "corrupt", "byte {at} of {key}: {error}");
            assert!(!place.exists(&key).await.unwrap());
            assert_eq!(manifests::list(&place).await.unwrap(), []);
        }
        shard.bucket.put(&key, vec![whole]).await.unwrap();
        take(&shard.bucket, &place).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_place_holds_is_looked_at_first() {
    let (shard, _objects) = populated().await;
    let code = |taken: Result<Taken>| taken.unwrap_err().code();
    assert_eq!(code(take(&shard.bucket, &shard.bucket).await), "not_a_backup_place");
    let other = Bucket::memory();
    other.put("notes.txt", vec![bytes::Bytes::from_static(b"x")]).await.unwrap();
    assert_eq!(code(take(&shard.bucket, &other).await), "not_a_backup_place");
    assert_eq!(code(take(&Bucket::memory(), &Bucket::memory()).await), "no_cluster");

    let place = Bucket::memory();
    take(&shard.bucket, &place).await.unwrap();
    assert_eq!(code(take(&place, &Bucket::memory()).await), "bucket_is_backup");
    let another = Shard::new(Bucket::memory()).await;
    founded(&another.bucket).await;
    another.bucket.delete(vec![keys::CLUSTER.to_owned()]).await.unwrap();
    let file = checkpoints::lives::ClusterFile::new("another".to_owned(), 1);
    checkpoints::lives::create_cluster(&another.bucket, &file).await.unwrap();
    assert_eq!(code(take(&another.bucket, &place).await), "cluster_mismatch");
}
