//! Conversion and the worker, over a bucket in memory and a queue of our own that fences as the state does.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use proptest::prelude::*;
use tidelog::archive::{ClaimedJob, ClaimedSegment, CompletedJob, JobRef};
use tidelog::error::{Error, ErrorKind, Result};
use tidelog::format::archive::{ArchiveReader, DAY_MS, append_day};
use tidelog::format::batch;
use tidelog::format::segment::SegmentWriter;
use tidelog::model::{
    ArchiveFile, Compression, Header, JobId, ObjectId, Offset, ProducerId, Record, ShardId, StoredBatch, StoredRecord,
    Topic, TopicId, TopicPartition, TopicSettings, Triple, ValueFormat,
};
use tidelog::store::Bucket;
use tidelog::store::keys::{ArchiveKey, Key};
use tokio_util::sync::CancellationToken;

use crate::{Jobs, Worker, convert};

const SHARD: ShardId = ShardId(0);
const START: u64 = 20_000 * DAY_MS;
const FILE_BYTES: u64 = 128 << 20;

type Written = BTreeMap<TopicPartition, Vec<StoredRecord>>;

fn topic(number: u128, value_format: ValueFormat) -> Topic {
    Topic {
        id: TopicId(uuid::Uuid::from_u128(number)),
        name: format!("topic-{number}"),
        namespace: "default".to_owned(),
        settings: TopicSettings { partitions: 8, value_format, ..TopicSettings::default() },
        created_at: START,
        deleted_at: None,
    }
}

fn topics() -> Vec<Topic> {
    vec![topic(1, ValueFormat::Bytes), topic(2, ValueFormat::Json)]
}

/// Batches of one segment to be: topic, partition, records, how long after the last one.
type Plan = Vec<(usize, u32, Vec<Record>, u64)>;

/// Segments in a bucket, and what was written into them.
struct Source {
    bucket: Bucket,
    job: ClaimedJob,
    written: Written,
}

async fn source(segments: Vec<Plan>) -> Source {
    let (bucket, topics) = (Bucket::memory(), topics());
    let mut written = Written::new();
    let mut next: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
    let mut claimed = Vec::new();
    let mut now = START;
    for (number, plan) in segments.into_iter().enumerate() {
        let mut batches: Vec<(usize, u32, StoredBatch)> = Vec::new();
        for (topic, partition, records, pause) in plan {
            now += pause;
            let triple = (partition % 2 == 1).then_some(Triple { id: ProducerId(7), epoch: 1, sequence: u32::MAX / 2 });
            let encoded = batch::encode(&records, Compression::Zstd, triple).unwrap();
            let place = TopicPartition::new(topics[topic].id, partition);
            let base_offset = next.entry(place).or_insert(u64::from(partition) * 100);
            let batch = StoredBatch {
                base_offset: *base_offset,
                count: encoded.info.count,
                max_timestamp: encoded.info.max_timestamp,
                append_time: now,
                bytes: encoded.bytes,
            };
            *base_offset = batch.end_offset();
            written.entry(place).or_default().extend(batch::decode(&batch).unwrap());
            batches.push((topic, partition, batch));
        }
        batches.sort_by_key(|(topic, partition, batch)| (*topic, *partition, batch.base_offset));
        let mut writer = SegmentWriter::new(ObjectId::from_parts(now, number as u128));
        for (topic, partition, batch) in &batches {
            writer.push(&topics[*topic], *partition, batch).unwrap();
        }
        let segment = writer.finish().unwrap();
        bucket.put(&Key::Segment(SHARD, segment.info.id).to_string(), segment.bytes).await.unwrap();
        claimed.push(ClaimedSegment { info: segment.info, ranges: segment.ranges });
    }
    let job = ClaimedJob {
        job: JobRef { shard: SHARD, job: JobId(1) },
        log_time: now,
        claim_ms: 120_000,
        deadline_ms: 840_000,
        file_bytes: FILE_BYTES,
        topics,
        segments: claimed,
    };
    Source { bucket, job, written }
}

fn record(value: impl Into<Bytes>) -> Record {
    Record { timestamp: 5, key: Some(Bytes::from_static(b"k")), value: Some(value.into()), headers: Vec::new() }
}

fn key_of(file: &ArchiveFile) -> String {
    let topics = topics();
    let topic = topics.iter().find(|topic| topic.id == file.topic).unwrap();
    Key::Archive(ArchiveKey {
        namespace: topic.namespace.clone(),
        topic: topic.name.clone(),
        topic_id: topic.id,
        day: file.day,
        shard: SHARD,
        id: file.id,
    })
    .to_string()
}

/// Everything in the files, read as a fetch does: footer, then row groups.
async fn read_back(bucket: &Bucket, files: &[ArchiveFile]) -> Written {
    let mut all = Written::new();
    for file in files {
        let key = key_of(file);
        assert_eq!(bucket.head(&key).await.unwrap(), file.bytes);
        let footer = bucket.get_range(&key, file.footer_start..file.bytes).await.unwrap();
        let reader = ArchiveReader::open(file, footer).unwrap();
        for (index, group) in reader.groups().iter().enumerate() {
            let bytes = bucket.get_range(&key, group.position..group.position + group.bytes).await.unwrap();
            let records = reader.records(index, bytes, 0..Offset::MAX).unwrap();
            assert!(records.iter().all(|record| append_day(record.append_time) == file.day));
            all.entry(TopicPartition::new(file.topic, group.partition)).or_default().extend(records);
        }
    }
    all.values_mut().for_each(|records| records.sort_by_key(|record| record.offset));
    all
}

async fn archive_keys(bucket: &Bucket) -> Vec<String> {
    bucket.list("archive").map(|listed| listed.unwrap().key).collect().await
}

fn opaque() -> impl Strategy<Value = Option<Bytes>> {
    prop_oneof![
        Just(None),
        Just(Some(Bytes::new())),
        Just(Some(Bytes::from_static(b"null"))),
        "[a-z]{1,9}".prop_map(|text| Some(text.into())),
    ]
}

fn any_record() -> impl Strategy<Value = Record> {
    let headers = proptest::collection::vec(("[ab]?", opaque()).prop_map(|(name, value)| Header { name, value }), 0..3);
    (0..9i64, opaque(), opaque(), headers).prop_map(|(timestamp, key, value, headers)| Record {
        timestamp,
        key,
        value,
        headers,
    })
}

fn segments() -> impl Strategy<Value = Vec<Plan>> {
    // A pause of a day or more makes another file.
    let pause = prop_oneof![9 => 0..1_000u64, 1 => Just(DAY_MS)];
    let batch = (0..2usize, 0..3u32, proptest::collection::vec(any_record(), 1..5), pause);
    proptest::collection::vec(proptest::collection::vec(batch, 1..8), 1..4)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn records_survive_segment_and_parquet(segments in segments()) {
        block_on(async {
            let source = source(segments).await;
            let done = convert(&source.bucket, &source.job).await.unwrap();
            prop_assert_eq!(read_back(&source.bucket, &done.files).await, source.written);
            let days = done.files.iter().map(|file| (file.topic, file.day)).collect::<std::collections::BTreeSet<_>>();
            prop_assert_eq!(days.len(), done.files.len(), "one file for each topic and day");
            prop_assert!(done.files.iter().all(|file| file.id.time() == source.job.log_time));
            Ok(())
        })?;
    }
}

/// Ranges that cross blocks and share them, files that are cut by size.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_ranges_are_read_once_and_files_end_at_their_size() {
    let noise = |seed: u64| -> Vec<u8> {
        let mut state = seed;
        let step = |state: &mut u64| {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*state >> 56) as u8
        };
        (0..700_000).map(|_| step(&mut state)).collect()
    };
    let plan = |number: u64| -> Plan {
        (0..6).map(|batch| (0, batch % 3, vec![record(noise(number * 10 + u64::from(batch) + 1))], 1)).collect()
    };
    let mut source = source((0..3).map(plan).collect()).await;
    source.job.file_bytes = 4 << 20;
    let done = convert(&source.bucket, &source.job).await.unwrap();
    assert!(done.files.len() > 1, "{} files", done.files.len());
    assert_eq!(read_back(&source.bucket, &done.files).await, source.written);
}

#[tokio::test]
async fn a_damaged_segment_stops_the_job_and_completes_no_file_of_it() {
    let source = source(vec![vec![(0, 0, vec![record("a")], 1)], vec![(0, 0, vec![record("b")], 1)]]).await;
    let key = Key::Segment(SHARD, source.job.segments[1].info.id).to_string();
    let mut bytes = source.bucket.get(&key, u64::MAX).await.unwrap().to_vec();
    bytes[40] ^= 1;
    source.bucket.put(&key, vec![bytes.into()]).await.unwrap();
    assert_eq!(convert(&source.bucket, &source.job).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(archive_keys(&source.bucket).await.is_empty());
}

#[tokio::test]
async fn a_value_that_is_no_text_stops_the_job() {
    let source = source(vec![vec![(1, 0, vec![record(vec![0xff, 0xfe])], 1)]]).await;
    assert_eq!(convert(&source.bucket, &source.job).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(archive_keys(&source.bucket).await.is_empty());
}

/// Jobs over one run of segments, fenced by number as in the state.
#[derive(Clone, Default)]
struct Table(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    run: Option<ClaimedJob>,
    claims: u64,
    holder: Option<JobId>,
    done: Vec<CompletedJob>,
    abandoned: Vec<String>,
    fail_completion: bool,
    complete_unanswered: bool,
}

impl Table {
    fn of(job: &ClaimedJob) -> Self {
        Self(Arc::new(Mutex::new(Inner { run: Some(job.clone()), ..Inner::default() })))
    }

    /// What the deadline does.
    fn expire(&self) {
        self.0.lock().unwrap().holder = None;
    }
}

fn stale() -> Error {
    Error::new(ErrorKind::Conflict, "stale_job", "the archive job is stale")
}

impl Jobs for Table {
    async fn claim(&self, _worker: &str) -> Result<Option<ClaimedJob>> {
        let mut inner = self.0.lock().unwrap();
        if inner.holder.is_some() {
            return Ok(None);
        }
        let Some(mut job) = inner.run.clone() else { return Ok(None) };
        inner.claims += 1;
        job.job.job = JobId(inner.claims);
        inner.holder = Some(job.job.job);
        Ok(Some(job))
    }

    async fn extend(&self, job: JobRef) -> Result<()> {
        if self.0.lock().unwrap().holder == Some(job.job) { Ok(()) } else { Err(stale()) }
    }

    async fn complete(&self, done: CompletedJob) -> Result<()> {
        let mut inner = self.0.lock().unwrap();
        if std::mem::take(&mut inner.fail_completion) {
            return Err(Error::unavailable("no leader"));
        }
        if inner.holder != Some(done.job.job) {
            return Err(stale());
        }
        inner.holder = None;
        inner.run = None;
        inner.done.push(done);
        if inner.complete_unanswered { Err(Error::unavailable("the answer was lost")) } else { Ok(()) }
    }

    async fn abandon(&self, job: JobRef, reason: &str) -> Result<()> {
        let mut inner = self.0.lock().unwrap();
        inner.abandoned.push(reason.to_owned());
        if inner.holder == Some(job.job) {
            inner.holder = None;
        }
        Ok(())
    }
}

async fn small() -> (Source, Table) {
    let source = source(vec![vec![(0, 0, vec![record("a")], 1), (1, 1, vec![record("{}")], 1)]]).await;
    let table = Table::of(&source.job);
    (source, table)
}

fn worker(source: &Source, table: &Table) -> Worker<Table> {
    Worker::new(table.clone(), source.bucket.clone(), "test", Duration::from_millis(1))
}

#[tokio::test]
async fn two_workers_do_a_run_once() {
    let (source, table) = small().await;
    let (one, two) = (worker(&source, &table), worker(&source, &table));
    let running = CancellationToken::new();
    let (first, second) = tokio::join!(one.work_once(&running), two.work_once(&running));
    assert_eq!((first.unwrap(), second.unwrap()), (true, false));
    assert!(!one.work_once(&running).await.unwrap());
    let inner = table.0.lock().unwrap();
    assert_eq!((inner.done.len(), inner.claims), (1, 1));
}

#[tokio::test]
async fn a_worker_whose_claim_expired_is_declined_and_its_files_are_named_by_nobody() {
    let (source, table) = small().await;
    let late = table.claim("late").await.unwrap().unwrap();
    let late_files = convert(&source.bucket, &late).await.unwrap();
    table.expire();
    assert!(worker(&source, &table).work_once(&CancellationToken::new()).await.unwrap());
    assert_eq!(table.complete(late_files.clone()).await.unwrap_err().code(), "stale_job");
    let done = table.0.lock().unwrap().done.clone();
    assert_eq!(done.len(), 1);
    assert_eq!(read_back(&source.bucket, &done[0].files).await, source.written);
    assert!(late_files.files.iter().all(|late| done[0].files.iter().all(|file| file.id != late.id)));
    assert_eq!(archive_keys(&source.bucket).await.len(), done[0].files.len() + late_files.files.len());
}

#[tokio::test]
async fn a_job_that_could_not_be_handed_in_is_given_back_and_done_again() {
    let (source, table) = small().await;
    table.0.lock().unwrap().fail_completion = true;
    let (worker, running) = (worker(&source, &table), CancellationToken::new());
    worker.work_once(&running).await.unwrap_err();
    assert_eq!(table.0.lock().unwrap().abandoned, ["no leader"]);
    assert!(worker.work_once(&running).await.unwrap());
    let done = table.0.lock().unwrap().done.clone();
    assert_eq!(read_back(&source.bucket, &done[0].files).await, source.written);
}

#[tokio::test]
async fn a_completion_whose_answer_was_lost_stays_complete() {
    let (source, table) = small().await;
    table.0.lock().unwrap().complete_unanswered = true;
    let (worker, running) = (worker(&source, &table), CancellationToken::new());
    worker.work_once(&running).await.unwrap_err();
    assert!(!worker.work_once(&running).await.unwrap(), "nothing is left to do");
    let done = table.0.lock().unwrap().done.clone();
    assert_eq!(done.len(), 1);
    assert_eq!(read_back(&source.bucket, &done[0].files).await, source.written);
}

#[tokio::test]
async fn a_missing_segment_gives_the_job_back() {
    let (source, table) = small().await;
    source.bucket.delete(vec![Key::Segment(SHARD, source.job.segments[0].info.id).to_string()]).await.unwrap();
    worker(&source, &table).work_once(&CancellationToken::new()).await.unwrap_err();
    let inner = table.0.lock().unwrap();
    assert_eq!((inner.abandoned.len(), inner.holder), (1, None));
    assert!(inner.run.is_some());
}

#[tokio::test]
async fn a_worker_ends_when_it_is_told_to() {
    let (source, table) = small().await;
    let running = CancellationToken::new();
    let task = tokio::spawn(worker(&source, &table).run(running.clone()));
    while table.0.lock().unwrap().done.is_empty() {
        tokio::task::yield_now().await;
    }
    running.cancel();
    task.await.unwrap();
}

/// Jobs travel as JSON between processes.
#[tokio::test]
async fn jobs_survive_json() {
    let (source, _) = small().await;
    let done = convert(&source.bucket, &source.job).await.unwrap();
    let job: ClaimedJob = serde_json::from_str(&serde_json::to_string(&source.job).unwrap()).unwrap();
    assert_eq!(job, source.job);
    assert_eq!(serde_json::from_str::<CompletedJob>(&serde_json::to_string(&done).unwrap()).unwrap(), done);
}
