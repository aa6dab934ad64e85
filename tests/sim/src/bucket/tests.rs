//! The reader over what a real engine wrote, whole and then damaged; and its own arithmetic.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt as _};
use tidelog::clock::Clock;
use tidelog::config::{self, Config};
use tidelog::model::{Acks, Header, NamedSettings, Payload, ProduceRequest, Record as Sent, TopicSettings};
use tidelog::queue::{Options, Queue};
use tidelog::store::Bucket;

use super::*;

/// All objects of a store.
async fn objects(store: &InMemory) -> Objects {
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
    let mut all = Objects::new();
    for meta in listed {
        let bytes = store.get(&meta.location).await.unwrap().bytes().await.unwrap();
        all.insert(meta.location.to_string(), bytes);
    }
    all
}

/// An engine on a directory of its own and on a store that the test can look into.
struct Engine {
    queue: Queue,
    store: Arc<InMemory>,
    _dir: tempfile::TempDir,
}

impl Engine {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(InMemory::new());
        let mut config = Config { data_dir: dir.path().to_owned(), ..Config::default() };
        (config.cache.disk, config.cache.memory) = (0, 1 << 20);
        config.flush.interval = Duration::from_secs(3600);
        config.flush.checkpoint_gap = Duration::ZERO;
        let bucket = Bucket::decorated(store.clone(), "memory://", &config::Store::default());
        let options = Options { config, clock: Clock::system(), restore: false };
        let queue = Queue::open_with_bucket(options, bucket).await.unwrap();
        let settings = TopicSettings { partitions: 2, ..TopicSettings::default() };
        queue.create_topic("t", settings, NamedSettings::default()).await.unwrap();
        Self { queue, store, _dir: dir }
    }

    /// Two records in one request to a partition.
    async fn produce(&self, partition: u32, values: [&str; 2]) {
        let record = |value: &str| Sent {
            timestamp: self.queue.clock().wall().cast_signed(),
            key: Some("k".into()),
            value: Some(value.to_owned().into()),
            headers: vec![
                Header { name: "h".into(), value: None },
                Header { name: "h".into(), value: Some("v".into()) },
            ],
        };
        let request = ProduceRequest {
            topic: "t".to_owned(),
            topic_id: None,
            partition: Some(partition),
            payload: Payload::Records(values.map(|value| (None, record(value))).into()),
            acks: Acks::Object,
            timeout: Duration::from_secs(30),
            triple: None,
            idempotency_key: None,
            expected_offset: None,
            now: self.queue.clock().wall(),
        };
        let flushing = async {
            let flushed = self.queue.flush_topic("t", None, false, Duration::from_secs(30));
            // The request is written before what it waits for is flushed.
            tokio::task::yield_now().await;
            flushed.await.unwrap();
        };
        let (produced, ()) = tokio::join!(self.queue.produce(request), flushing);
        assert!(produced.unwrap().failures.is_empty());
    }

    async fn archive(&self) {
        let worker = tidelog_compactor::Worker::new(
            self.queue.archive_jobs(),
            self.queue.bucket().clone(),
            "test",
            Duration::from_secs(1),
        );
        let work = async {
            loop {
                worker.work_once(&tokio_util::sync::CancellationToken::new()).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            progress = self.queue.flush_topic("t", None, true, Duration::from_secs(30)) => assert!(progress.unwrap().done),
            () = work => {}
        }
    }
}

fn values(scan: &Scan, partition: u32) -> Vec<&str> {
    let part = &scan.parts[&("t".to_owned(), partition)];
    assert_eq!((part.start, part.end), (0, part.records.len() as u64));
    part.records.iter().map(|(_, record)| record.value.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_engine_wrote_is_read_from_segments_and_from_the_archive() {
    let engine = Engine::open().await;
    engine.produce(0, ["a", "b"]).await;
    engine.produce(1, ["c", "d"]).await;
    let of_segments = scan(&objects(&engine.store).await, &BTreeMap::new());
    assert_eq!(of_segments.problems, [""; 0]);
    assert_eq!((values(&of_segments, 0), values(&of_segments, 1)), (vec!["a", "b"], vec!["c", "d"]));
    engine.archive().await;
    engine.produce(0, ["e", "f"]).await;
    let all = objects(&engine.store).await;
    assert!(all.keys().any(|key| key.starts_with("archive/")), "{:?}", all.keys());
    let of_both = scan(&all, &BTreeMap::new());
    assert_eq!(of_both.problems, [""; 0]);
    assert_eq!((values(&of_both, 0), values(&of_both, 1)), (vec!["a", "b", "e", "f"], vec!["c", "d"]));
    let part = |scan: &Scan, partition| scan.parts[&("t".to_owned(), partition)].clone();
    assert_eq!(part(&of_segments, 1), part(&of_both, 1));
    assert_eq!(part(&of_segments, 0).records, part(&of_both, 0).records[..2]);
    let (index, _) = newest(&all, 0).unwrap();
    assert_eq!(scan(&all, &BTreeMap::from([(0, index)])).problems, [""; 0]);
    assert_eq!(scan(&all, &BTreeMap::from([(0, index + 1)])).problems.len(), 1);
    assert_eq!(flushed(&all)[&("t".to_owned(), 0)], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_any_object_and_objects_that_are_missing_are_problems() {
    let engine = Engine::open().await;
    engine.produce(0, ["a", "b"]).await;
    engine.archive().await;
    engine.produce(1, ["c", "d"]).await;
    let all = objects(&engine.store).await;
    let (index, checkpoint) = newest(&all, 0).unwrap();
    let least = BTreeMap::from([(0, index)]);
    let named = shard::named(&checkpoint);
    assert!(named.len() >= 2, "{named:?}");
    for key in &named {
        let mut damaged = all.clone();
        let mut bytes = damaged[key].to_vec();
        let middle = if key.ends_with(".parquet") { 40 } else { bytes.len() / 2 };
        bytes[middle] ^= 0x10;
        damaged.insert(key.clone(), bytes.into());
        let found = scan(&damaged, &least);
        // Parquet's own readers check no checksum: other records are as good a find as a problem.
        assert!(!found.problems.is_empty() || found.parts != scan(&all, &least).parts, "{key}");
        damaged.remove(key);
        assert!(!scan(&damaged, &least).problems.is_empty(), "{key}");
    }
}

#[test]
fn segments_are_of_no_checkpoint_where_their_shard_has_none_at_all() {
    let keys = [
        "shards/00000/checkpoints/0000000001-00000000000000000007-01HF7YAT00000000000000000A.ckpt",
        "shards/00000/segments/01HF7YAT00000000000000000A.seg",
        "shards/00001/index/01HF7YAT00000000000000000A.idx",
        "shards/00001/segments/01HF7YAT00000000000000000B.seg",
    ];
    let mut objects: Objects = keys.map(|key| (key.to_owned(), bytes::Bytes::new())).into();
    assert_eq!(of_no_checkpoint(&objects), [keys[3]]);
    objects.remove(keys[0]);
    assert_eq!(of_no_checkpoint(&objects), [keys[1], keys[3]]);
}

#[test]
fn days_are_dates() {
    for (days, date) in [(0, (1970, 1, 1)), (59, (1970, 3, 1)), (11_016, (2000, 2, 29)), (20_783, (2026, 11, 26))] {
        assert_eq!(shard::date(days), date);
    }
}

#[test]
fn what_is_told_apart_beside_the_value() {
    let header = |name: &str, value: Option<&str>| (name.to_owned(), value.map(|value| value.as_bytes().to_vec()));
    let all = [
        rest_of(None, &[], 1),
        rest_of(None, &[], 2),
        rest_of(Some(b""), &[], 1),
        rest_of(Some(b"k"), &[], 1),
        rest_of(None, &[header("a", None)], 1),
        rest_of(None, &[header("a", Some(""))], 1),
        rest_of(None, &[header("a", Some("b")), header("a", Some("b"))], 1),
    ];
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
}
