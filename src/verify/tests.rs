#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;

use super::ranges::PartitionRanges;
use super::{Options, Progress, Report, Watch, verify};
use crate::checkpoints::tests::{SHARD, Shard};
use crate::model::{ObjectId, Place, StoredRange, TopicPartition, TopicSettings};
use crate::store::Bucket;
use crate::store::keys::Key;

async fn verified(bucket: &Bucket) -> Report {
    let options = Options { parallel: 2, rate: None, patience: Duration::ZERO };
    verify(bucket, &options, Arc::new(|_| {})).await.unwrap()
}

/// A bucket with an archive file, three segments and an index part, and older checkpoints.
async fn populated() -> Shard {
    let shard = Shard::new(Bucket::memory()).await;
    let topic = shard.create("flights", TopicSettings { partitions: 2, ..TopicSettings::default() });
    for round in 0..6 {
        for partition in 0..2 {
            shard.append(TopicPartition::new(topic, partition), 400 + round);
        }
        shard.advance(1_000);
        shard.flush(true).await;
        if round == 2 {
            shard.archive(topic).await;
            shard.flush(true).await;
        }
    }
    shard
}

#[tokio::test]
async fn a_whole_bucket_verifies_and_is_counted() {
    let shard = populated().await;
    shard.bucket.put("notes.txt", vec![Bytes::from_static(b"hello")]).await.unwrap();
    let report = verified(&shard.bucket).await;
    assert_eq!(report.problems, []);
    assert_eq!((report.incarnation, report.foreign_objects), (Some(1), 1));
    let [found] = report.shards.as_slice() else { panic!("one shard") };
    assert_eq!((found.segments, found.archive_files, found.index_parts, found.partitions), (3, 1, 1, 2));
    assert_eq!(found.records, 2 * (400..406).sum::<u64>());
    assert_eq!(found.orphans, 3 + 6, "archived segments and older checkpoints");
    assert!(serde_json::to_string(&report).unwrap().contains("\"problems\":[]"));
}

#[tokio::test]
async fn what_says_which_cluster_it_is_has_to_be_readable() {
    let shard = populated().await;
    shard.bucket.put("cluster.json", vec![Bytes::from_static(b"{}")]).await.unwrap();
    let report = verified(&shard.bucket).await;
    let [problem] = report.problems.as_slice() else { panic!("{:?}", report.problems) };
    assert_eq!(problem.place, "cluster.json");
}

#[tokio::test]
async fn what_is_read_is_told_and_the_total_is_reached_although_objects_are_missing() {
    let shard = populated().await;
    for missing in [false, true] {
        if missing {
            let files: Vec<_> = shard.bucket.list("archive").try_collect().await.unwrap();
            shard.bucket.delete(files.into_iter().map(|file| file.key).collect()).await.unwrap();
        }
        let told: Arc<Mutex<Vec<Progress>>> = Arc::default();
        let telling = Arc::clone(&told);
        let watch: Watch = Arc::new(move |progress| telling.lock().unwrap().push(progress));
        for parallel in [1, 16] {
            let options = Options { parallel, rate: Some(1 << 40), patience: Duration::ZERO };
            let report = verify(&shard.bucket, &options, Arc::clone(&watch)).await.unwrap();
            assert_eq!(report.is_ok(), !missing);
            let last = *told.lock().unwrap().last().unwrap();
            assert_eq!((last.objects, last.total_objects), (4, 4), "{last:?}");
            assert_eq!(last.bytes, last.total_bytes);
            let found = &report.shards[0];
            assert_eq!(report.bytes_read, found.segment_bytes + found.archive_bytes);
            assert_eq!(report.bytes_read < last.bytes, missing);
        }
    }
}

#[tokio::test]
async fn any_flipped_byte_is_found() {
    let shard = populated().await;
    let report = verified(&shard.bucket).await;
    let named: Vec<String> = {
        let state = shard.state();
        let current = Key::Checkpoint(SHARD, state.checkpoint_ref().unwrap()).to_string();
        assert_eq!(report.shards[0].checkpoint.as_deref(), Some(current.as_str()));
        let objects: std::collections::BTreeSet<ObjectId> = state
            .segments()
            .map(|segment| segment.info.id)
            .chain(state.files().map(|file| file.file.id))
            .chain(state.index_parts().map(|part| part.id))
            .chain([state.checkpoint_ref().unwrap().id])
            .collect();
        let listed: Vec<_> = shard.bucket.list("").map_ok(|listed| listed.key).try_collect().await.unwrap();
        let is_named =
            |key: &String| Key::parse(key).and_then(|key| key.object_id()).is_some_and(|id| objects.contains(&id));
        listed.into_iter().filter(is_named).collect()
    };
    assert_eq!(named.len(), 3 + 1 + 1 + 1);
    for key in named {
        let whole = shard.bucket.get(&key, u64::MAX).await.unwrap();
        for at in (0..whole.len()).step_by(whole.len() / 9 + 1).chain([whole.len() - 1]) {
            let mut bytes = whole.to_vec();
            bytes[at] ^= 0x20;
            shard.bucket.put(&key, vec![bytes.into()]).await.unwrap();
            assert!(!verified(&shard.bucket).await.is_ok(), "byte {at} of {key}");
        }
        shard.bucket.put(&key, vec![whole.slice(..whole.len() - 1)]).await.unwrap();
        assert!(!verified(&shard.bucket).await.is_ok(), "{key} cut short");
        shard.bucket.delete(vec![key.clone()]).await.unwrap();
        // Without the newest checkpoint the one before it is the newest; nothing in a bucket tells that there was another.
        let is_checkpoint = key.ends_with(".ckpt");
        assert!(is_checkpoint || !verified(&shard.bucket).await.is_ok(), "{key} deleted");
        shard.bucket.put(&key, vec![whole]).await.unwrap();
    }
    assert!(verified(&shard.bucket).await.is_ok());
}

#[tokio::test]
async fn an_empty_bucket_is_a_problem() {
    assert_eq!(verified(&Bucket::memory()).await.problems.len(), 1);
}

fn stored(start: u64, end: u64) -> StoredRange {
    let place = Place::Segment { id: ObjectId(1), position: 0 };
    StoredRange { start, end, bytes: 1, max_timestamp: 0, min_append_time: 0, max_append_time: 0, place }
}

/// Log start, flushed offset, ranges, problems.
type Case = (u64, u64, &'static [(u64, u64)], &'static [&'static str]);

#[test]
fn gaps_and_overlaps_are_named() {
    let table: &[Case] = &[
        (0, 0, &[], &[]),
        (5, 5, &[], &[]),
        (0, 9, &[(0, 4), (4, 9)], &[]),
        (2, 9, &[(0, 4), (4, 9)], &[]),
        (0, 9, &[], &["offsets 0 to 9 are in no object"]),
        (0, 9, &[(1, 9)], &["offsets 0 to 1 are in no object"]),
        (0, 9, &[(0, 4), (5, 9)], &["offsets 4 to 5 are in no object"]),
        (0, 9, &[(0, 4), (3, 9)], &["offsets 3 to 4 are in two objects"]),
        (0, 9, &[(0, 9), (2, 4)], &["offsets 2 to 4 are in two objects"]),
        (0, 9, &[(0, 8)], &["offsets 8 to 9 are in no object"]),
        (0, 9, &[(0, 10)], &["offsets up to 10 are stored, but flushed are those up to 9"]),
        (0, 9, &[(0, 4), (4, 4), (4, 9)], &["a range runs from offset 4 to 4"]),
    ];
    for (log_start, flushed, ranges, problems) in table {
        let ranges = ranges.iter().map(|(start, end)| stored(*start, *end)).collect();
        let partition = PartitionRanges { log_start: *log_start, archive_start: *log_start, flushed: *flushed, ranges };
        assert_eq!(partition.problems(), *problems, "{partition:?}");
    }
}
