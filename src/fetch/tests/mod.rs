//! Fetch over a real state, a bucket in memory and a log that is a map: every tier, every change under a reader's feet.

#![allow(clippy::unwrap_used)]

mod faults;
mod positions;
mod random;
mod tiers;
mod waiting;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use uuid::Uuid;

use super::{Fetcher, Growth, Source};
use crate::cache::BlockCache;
use crate::config;
use crate::error::{Error, Result};
use crate::format::archive::{ArchiveWriter, append_day};
use crate::format::segment::SegmentWriter;
use crate::format::{batch, command};
use crate::model::{
    Answer, Append, CheckpointRef, Chunk, Command, Compression, Control, FetchFrom, FetchPage, FetchRequest,
    Incarnation, LogIndex, LoggedCommand, NamedSettings, ObjectId, Offset, Record, ShardId, StoredBatch, StoredRecord,
    Topic, TopicId, TopicPartition, TopicSettings, Triple,
};
use crate::state::State;
use crate::store::Bucket;
use crate::store::keys::{ArchiveKey, Key};

const SHARD: ShardId = ShardId(0);
const PARTITIONS: u32 = 3;

/// A shard without Raft.
#[derive(Clone)]
struct Shard(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    log: Mutex<BTreeMap<LogIndex, Bytes>>,
    applied: watch::Sender<LogIndex>,
    /// Views that readers get before the current one: a state that has moved on since.
    old_views: Mutex<VecDeque<State>>,
    linearized: watch::Sender<u32>,
    /// Nobody leads.
    leaderless: std::sync::atomic::AtomicBool,
    /// The view is too old to be read.
    outdated: std::sync::atomic::AtomicBool,
}

struct Applied(watch::Receiver<LogIndex>);

impl Growth for Applied {
    async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Source for Shard {
    type Growth = Applied;

    fn view(&self) -> State {
        let old = self.0.old_views.lock().unwrap().pop_front();
        old.unwrap_or_else(|| self.state())
    }

    async fn read_entry(&self, index: LogIndex) -> Result<Option<Bytes>> {
        tokio::task::yield_now().await;
        Ok(self.0.log.lock().unwrap().get(&index).cloned())
    }

    fn usable(&self) -> Result<()> {
        if self.0.outdated.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Error::unavailable("no contact for a while"));
        }
        Ok(())
    }

    async fn linearize(&self) -> Result<()> {
        if self.0.leaderless.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Error::unavailable("there is no leader"));
        }
        self.0.linearized.send_modify(|count| *count += 1);
        Ok(())
    }

    fn watch_growth(&self, _partitions: &[TopicPartition]) -> Result<Applied> {
        let mut applied = self.0.applied.subscribe();
        applied.mark_unchanged();
        Ok(Applied(applied))
    }
}

impl Shard {
    fn state(&self) -> State {
        self.0.state.lock().unwrap().clone()
    }
}

/// A shard with one topic, its bucket and a fetcher, and what was written as the truth to compare with.
struct World {
    shard: Shard,
    bucket: Bucket,
    fetcher: Fetcher<Shard>,
    topic: Arc<Topic>,
    log_time: u64,
    written: Vec<Vec<StoredRecord>>,
    objects: u128,
    /// Index of the previous flush.
    flushed: LogIndex,
}

impl World {
    async fn new() -> Self {
        let inner = Inner {
            state: Mutex::new(State::new(SHARD, Incarnation(1))),
            log: Mutex::default(),
            applied: watch::Sender::new(0),
            old_views: Mutex::default(),
            linearized: watch::Sender::new(0),
            leaderless: std::sync::atomic::AtomicBool::new(false),
            outdated: std::sync::atomic::AtomicBool::new(false),
        };
        let shard = Shard(Arc::new(inner));
        let bucket = Bucket::memory();
        let cache = BlockCache::memory(64 << 20).await;
        let options = config::Fetch { memory: 64 << 20, ..config::Fetch::default() };
        let fetcher = Fetcher::new(shard.clone(), bucket.clone(), cache, options);
        let topic_id = TopicId(Uuid::from_u128(9));
        let settings = TopicSettings { partitions: PARTITIONS, ..TopicSettings::default() };
        let mut world = Self {
            shard,
            bucket,
            fetcher,
            topic: Arc::new(Topic {
                id: topic_id,
                name: "flights".into(),
                namespace: "default".into(),
                settings: settings.clone(),
                created_at: 0,
                deleted_at: None,
            }),
            log_time: 1_700_000_000_000,
            written: vec![Vec::new(); PARTITIONS as usize],
            objects: 0,
            flushed: 0,
        };
        let named = NamedSettings::default();
        world.control(Control::CreateTopic { id: topic_id, name: "flights".into(), settings, named });
        world.topic = Arc::clone(world.shard.state().topic(topic_id).unwrap());
        world
    }

    fn partition(&self, partition: u32) -> TopicPartition {
        TopicPartition::new(self.topic.id, partition)
    }

    fn apply(&mut self, command: Command) -> Answer {
        let logged = LoggedCommand { log_time: self.log_time, command };
        let entry = command::encode(&logged).unwrap();
        let mut state = self.shard.0.state.lock().unwrap();
        let index = state.applied() + 1;
        let answer = state.apply(index, &command::decode(&entry).unwrap()).answer;
        drop(state);
        self.shard.0.log.lock().unwrap().insert(index, entry);
        self.shard.0.applied.send_replace(index);
        answer
    }

    fn control(&mut self, control: Control) -> Answer {
        let answer = self.apply(Command::Control(control));
        assert!(!matches!(answer, Answer::Rejected(_)), "{answer:?}");
        answer
    }

    /// Appends one batch for each of `batches` in one entry.
    fn append(&mut self, batches: &[(u32, Vec<Record>)]) {
        self.append_as(batches, None);
    }

    fn append_as(&mut self, batches: &[(u32, Vec<Record>)], triple: Option<Triple>) {
        let appends = batches.iter().map(|(partition, records)| {
            let encoded = batch::encode(records, Compression::Zstd, triple).unwrap();
            Append {
                partition: self.partition(*partition),
                batch: encoded.bytes,
                position: 0,
                info: encoded.info,
                triple,
                idempotency: None,
                digest: 0,
                expected_offset: None,
            }
        });
        let appends = appends.collect();
        let Answer::Appended(outcomes) = self.apply(Command::Append(appends)) else { unreachable!() };
        for ((partition, records), outcome) in batches.iter().zip(outcomes) {
            let written = &mut self.written[*partition as usize];
            assert_eq!(outcome.unwrap().base_offset, written.len() as Offset);
            for (place, record) in records.iter().enumerate() {
                let triple = triple.map(|first| Triple { sequence: first.sequence + place as u32, ..first });
                let offset = written.len() as Offset;
                written.push(StoredRecord { offset, append_time: self.log_time, triple, record: record.clone() });
            }
        }
    }

    fn object(&mut self) -> ObjectId {
        self.objects += 1;
        ObjectId::from_parts(self.log_time, self.objects)
    }

    /// Moves the whole tail into one segment and purges the log.
    async fn flush(&mut self) {
        let state = self.shard.state();
        let id = self.object();
        let mut writer = SegmentWriter::new(id);
        for partition in state.partitions_of(self.topic.id) {
            for place in partition.tail() {
                let entry = self.shard.0.log.lock().unwrap()[&place.log_index].clone();
                let stored = StoredBatch {
                    base_offset: place.base_offset,
                    count: place.count,
                    max_timestamp: place.max_timestamp,
                    append_time: place.append_time,
                    bytes: entry.slice(place.position as usize..(place.position + place.len) as usize),
                };
                writer.push(&self.topic, partition.id().partition, &stored).unwrap();
            }
        }
        if writer.is_empty() {
            return;
        }
        let finished = writer.finish().unwrap();
        self.bucket.put(&Key::Segment(SHARD, id).to_string(), finished.bytes).await.unwrap();
        let index = state.applied();
        let checkpoint = CheckpointRef { incarnation: Incarnation(1), index, id: self.object() };
        self.control(Control::Flushed {
            previous: self.flushed,
            index,
            segments: vec![finished.info],
            ranges: vec![finished.ranges],
            checkpoint,
            parts: Vec::new(),
        });
        self.flushed = index;
        self.shard.0.log.lock().unwrap().retain(|entry, _| *entry > index);
    }

    fn segments(&self) -> Vec<ObjectId> {
        self.shard.state().segments().map(|segment| segment.info.id).collect()
    }

    /// Moves all segments into archive files, one a day, and deletes them.
    async fn archive(&mut self) {
        let segments = self.segments();
        if segments.is_empty() {
            return;
        }
        let claim = Control::ClaimArchive { worker: "w".into(), hold_ms: u64::MAX, segments: segments.clone() };
        let Answer::Job(job) = self.control(claim) else { unreachable!() };
        let live = self.shard.state().live_ranges(&segments);
        let records: Vec<(u32, &StoredRecord)> = live
            .iter()
            .flat_map(|range| {
                let partition = range.partition.partition;
                self.written[partition as usize][range.start as usize..range.end as usize]
                    .iter()
                    .map(move |record| (partition, record))
            })
            .collect();
        let mut writers: BTreeMap<u32, ArchiveWriter> = BTreeMap::new();
        for (number, (partition, record)) in records.into_iter().enumerate() {
            let day = append_day(record.append_time);
            let id = ObjectId::from_parts(self.log_time, 1 << 40 | self.objects << 20 | u128::from(day % 4_096));
            let writer = writers.entry(day).or_insert_with(|| ArchiveWriter::new(id, &self.topic, day).unwrap());
            writer.push(partition, record).unwrap();
            if number % 7 == 6 {
                writer.cut().unwrap();
            }
        }
        self.objects += 1;
        let (mut files, mut ranges) = (Vec::new(), Vec::new());
        for mut writer in writers.into_values() {
            let head = writer.take_bytes();
            let finished = writer.finish().unwrap();
            let key = self.archive_key(finished.file.id, finished.file.day);
            self.bucket.put(&key, vec![head, finished.bytes]).await.unwrap();
            files.push(finished.file);
            ranges.extend(finished.ranges);
        }
        ranges.sort_by_key(|range| (range.partition, range.start));
        self.control(Control::Archived { job, files, ranges });
        let keys = segments.into_iter().map(|id| Key::Segment(SHARD, id).to_string()).collect();
        self.bucket.delete(keys).await.unwrap();
    }

    fn archive_key(&self, id: ObjectId, day: u32) -> String {
        let (namespace, topic) = (self.topic.namespace.clone(), self.topic.name.clone());
        Key::Archive(ArchiveKey { namespace, topic, topic_id: self.topic.id, day, shard: SHARD, id }).to_string()
    }

    fn trim(&mut self, partition: u32, start: Offset) {
        let starts = vec![(self.partition(partition), start)];
        self.control(Control::trim(starts));
    }

    /// A request for everything of a partition.
    fn request(&self, partition: u32, from: FetchFrom) -> FetchRequest {
        FetchRequest {
            topic: self.topic.name.clone(),
            topic_id: None,
            partition,
            from,
            end: None,
            max_records: 100_000,
            max_bytes: 16 << 20,
            wait: Duration::ZERO,
        }
    }

    async fn fetch(&self, request: &FetchRequest) -> Result<FetchPage> {
        self.fetcher.fetch(&self.topic, request).await
    }

    /// The records of one page.
    async fn records(&self, partition: u32, from: FetchFrom) -> Vec<StoredRecord> {
        super::records(&self.fetch(&self.request(partition, from)).await.unwrap()).unwrap()
    }

    /// Code and bounds of a refused fetch.
    async fn refused(&self, request: &FetchRequest) -> (&'static str, Vec<u64>) {
        let error: Error = self.fetch(request).await.unwrap_err();
        let numbers = error.details().iter().filter_map(|(_, detail)| match detail {
            crate::error::Detail::Number(number) => Some(*number),
            crate::error::Detail::Text(_) => None,
        });
        (error.code(), numbers.collect())
    }
}

fn record(timestamp: i64, value: &str) -> Record {
    Record { timestamp, value: Some(Bytes::from(value.to_owned())), ..Record::default() }
}

/// Records with these numbers as values.
fn numbered(numbers: std::ops::Range<u64>) -> Vec<Record> {
    numbers.map(|number| record(number as i64, &number.to_string())).collect()
}

fn values(records: &[StoredRecord]) -> Vec<u64> {
    let number = |stored: &StoredRecord| std::str::from_utf8(stored.record.value.as_ref().unwrap()).unwrap().parse();
    records.iter().map(|stored| number(stored).unwrap()).collect()
}
