//! The engine from end to end in one process: produce, flush, fetch, restart, start from the bucket.
#![allow(clippy::unwrap_used)]

mod cluster;
mod group;
mod shards;
#[cfg(feature = "simulation")]
mod simulated;

use std::path::Path;
use std::time::Duration;

use super::{Options, Queue, records};
use crate::clock::Clock;
use crate::config::Config;
use crate::model::{
    Acks, FetchFrom, FetchRequest, NamedSettings, Payload, ProduceRequest, Produced, Record, RecordOutcome,
    StoredRecord, TopicSettings,
};

const LONG: Duration = Duration::from_secs(60);

fn config(dir: &Path) -> Config {
    let mut config = Config { data_dir: dir.to_owned(), ..Config::default() };
    // Else all of this fails on a machine whose disk is nearly full.
    (config.wal.min_free, config.wal.min_free_percent) = (64 << 20, 0);
    config.cache.disk = 0;
    config.cache.memory = 16 << 20;
    // Flushes happen when a test asks for them.
    config.flush.interval = Duration::from_secs(3600);
    config.flush.checkpoint_gap = Duration::ZERO;
    config
}

async fn open(dir: &Path, restore: bool) -> crate::error::Result<Queue> {
    Queue::open(Options { config: config(dir), clock: Clock::system(), restore }).await
}

fn request(values: &[&str], acks: Acks) -> ProduceRequest {
    let record = |value: &&str| {
        let value = Some(bytes::Bytes::copy_from_slice(value.as_bytes()));
        (None, Record { timestamp: 1_700_000_000_000, value, ..Record::default() })
    };
    ProduceRequest {
        topic: "t".to_owned(),
        topic_id: None,
        partition: Some(0),
        payload: Payload::Records(values.iter().map(record).collect()),
        acks,
        timeout: LONG,
        triple: None,
        idempotency_key: None,
        expected_offset: None,
        now: crate::clock::Clock::system().wall(),
    }
}

async fn produce(queue: &Queue, values: &[&str], acks: Acks) -> Produced {
    let produced = queue.produce(request(values, acks)).await.unwrap();
    assert!(produced.failures.is_empty(), "{:?}", produced.failures);
    assert!(produced.flush_failure.is_none(), "{:?}", produced.flush_failure);
    produced
}

#[tokio::test]
async fn a_clock_that_is_set_back_while_a_request_is_read_does_not_refuse_it() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path(), false).await.unwrap();
    queue.create_topic("t", TopicSettings::default(), NamedSettings::default()).await.unwrap();
    // Stamped by a clock that was a year ahead when the request came, and is right by now.
    let now = Clock::system().wall() + 365 * 24 * 3_600_000;
    let record = Record { timestamp: now.cast_signed(), value: Some("v".into()), ..Record::default() };
    let request = ProduceRequest { payload: Payload::Records(vec![(None, record)]), now, ..request(&[], Acks::Quorum) };
    assert!(queue.produce(request).await.unwrap().failures.is_empty());
    queue.close().await.unwrap();
}

/// What begins at `from` in the topic `t`.
fn page_from(from: FetchFrom) -> FetchRequest {
    FetchRequest {
        topic: "t".to_owned(),
        topic_id: None,
        partition: 0,
        from,
        end: None,
        max_records: 100,
        max_bytes: 1 << 20,
        wait: Duration::ZERO,
    }
}

async fn all(queue: &Queue) -> Vec<StoredRecord> {
    let mut found = Vec::new();
    let mut from = FetchFrom::Earliest;
    loop {
        let page = queue.fetch(page_from(from)).await.unwrap();
        found.extend(records(&page).unwrap());
        if page.next_offset == page.bounds.high_watermark {
            return found;
        }
        from = FetchFrom::Offset(page.next_offset);
    }
}

fn values(records: &[StoredRecord]) -> Vec<String> {
    records.iter().map(|stored| String::from_utf8(stored.record.value.clone().unwrap().to_vec()).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_vanished_from_an_opened_directory_is_not_taken_for_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path(), false).await.unwrap();
    queue.create_topic("t", TopicSettings::default(), NamedSettings::default()).await.unwrap();
    produce(&queue, &["a"], Acks::Quorum).await;
    queue.shutdown().await;
    drop(queue);
    std::fs::remove_dir_all(dir.path().join("wal/shard-00000")).unwrap();
    assert_eq!(open(dir.path(), false).await.unwrap_err().code(), "unclean_bucket");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_the_same_from_tail_and_segment_and_after_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path(), false).await.unwrap();
    let (_, created) = queue.create_topic("t", TopicSettings::default(), NamedSettings::default()).await.unwrap();
    assert!(created);
    let produced = produce(&queue, &["a", "b", "c"], Acks::Quorum).await;
    assert_eq!(produced.records[2], RecordOutcome::Written { partition: 0, offset: 2 });
    let tail = all(&queue).await;
    assert_eq!(values(&tail), ["a", "b", "c"]);
    let progress = queue.flush_topic("t", None, false, LONG).await.unwrap();
    assert!(progress.done);
    assert_eq!(all(&queue).await, tail);
    produce(&queue, &["d"], Acks::Quorum).await;
    produce(&queue, &["e"], Acks::Object).await;
    let hash = queue.state_hashes();
    queue.shutdown().await;
    drop(queue);

    // From the write-ahead log: an unclean stop.
    let queue = open(dir.path(), false).await.unwrap();
    let applied = queue.state_hashes()[0].1;
    assert!(applied >= hash[0].1);
    assert_eq!(values(&all(&queue).await), ["a", "b", "c", "d", "e"]);
    produce(&queue, &["f"], Acks::Quorum).await;
    queue.shutdown().await;
    drop(queue);

    // The log is gone and the stop was not clean.
    std::fs::rename(dir.path().join("wal"), dir.path().join("wal-away")).unwrap();
    let error = open(dir.path(), false).await.unwrap_err();
    assert_eq!(error.code(), "unclean_bucket");
    let queue = open(dir.path(), true).await.unwrap();
    assert_eq!(values(&all(&queue).await), ["a", "b", "c", "d", "e"], "f was never flushed");
    produce(&queue, &["g"], Acks::Quorum).await;
    queue.close().await.unwrap();
    queue.shutdown().await;
    drop(queue);

    // The log is gone after a clean stop.
    std::fs::remove_dir_all(dir.path().join("wal")).unwrap();
    let queue = open(dir.path(), false).await.unwrap();
    assert_eq!(values(&all(&queue).await), ["a", "b", "c", "d", "e", "g"]);
    produce(&queue, &["h"], Acks::Quorum).await;
    queue.close().await.unwrap();
    queue.shutdown().await;
    drop(queue);

    // A clean stop and a start on the log: what follows must not hide behind the clean checkpoint.
    let queue = open(dir.path(), false).await.unwrap();
    produce(&queue, &["i"], Acks::Quorum).await;
    queue.shutdown().await;
    drop(queue);
    std::fs::remove_dir_all(dir.path().join("wal")).unwrap();
    assert_eq!(open(dir.path(), false).await.unwrap_err().code(), "unclean_bucket");
}
