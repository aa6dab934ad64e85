//! A shard in memory over a real bucket: applies commands, flushes and archives with the real formats. For the
//! tests of `gc`, `verify` and `backup`.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;

use super::{Missing, lives};
use crate::error::{Error, ErrorKind};
use crate::format::archive::{ArchiveWriter, FinishedArchive, append_day};
use crate::format::batch;
use crate::format::checkpoint::{encode_checkpoint, encode_part};
use crate::format::segment::SegmentWriter;
use crate::model::{
    Answer, Append, CheckpointRef, Command, Compression, Control, Incarnation, IndexPartRef, LogIndex, LogTime,
    LoggedCommand, NamedSettings, ObjectId, Record, ShardId, StoredBatch, StoredRecord, Topic, TopicId, TopicPartition,
    TopicSettings, Triple,
};
use crate::state::State;
use crate::store::Bucket;
use crate::store::keys::{ArchiveKey, Key};

pub(crate) const SHARD: ShardId = ShardId(0);
/// Noon of a day, so that a test decides when the day ends.
pub(crate) const START: LogTime = 1_700_049_600_000;

pub(crate) struct Shard {
    pub(crate) bucket: Bucket,
    inner: Mutex<Inner>,
}

struct Inner {
    state: State,
    next: LogIndex,
    time: LogTime,
    objects: u128,
    batches: HashMap<LogIndex, Bytes>,
}

impl Shard {
    pub(crate) async fn new(bucket: Bucket) -> Self {
        lives::create_cluster(&bucket, &lives::ClusterFile::new("c".to_owned(), 1)).await.unwrap();
        bucket.put(&Key::Incarnation(Incarnation(1)).to_string(), vec![Bytes::from_static(b"{}")]).await.unwrap();
        let state = State::new(SHARD, Incarnation(1));
        let inner = Inner { state, next: 1, time: START, objects: 0, batches: HashMap::new() };
        Self { bucket, inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub(crate) fn state(&self) -> State {
        self.inner().state.clone()
    }

    pub(crate) fn time(&self) -> LogTime {
        self.inner().time
    }

    pub(crate) fn advance(&self, millis: u64) {
        self.inner().time += millis;
    }

    pub(crate) fn object(&self) -> ObjectId {
        let mut inner = self.inner();
        inner.objects += 1;
        ObjectId::from_parts(inner.time, inner.objects)
    }

    pub(crate) fn apply(&self, command: Command) -> Answer {
        let mut inner = self.inner();
        let entry = LoggedCommand { log_time: inner.time, command };
        let index = inner.next;
        inner.next += 1;
        inner.state.apply(index, &entry).answer
    }

    pub(crate) fn control(&self, control: Control) -> Answer {
        self.apply(Command::Control(control))
    }

    pub(crate) fn create(&self, name: &str, settings: TopicSettings) -> TopicId {
        let id = TopicId(uuid::Uuid::from_u128(self.object().0));
        let named = NamedSettings::default();
        self.control(Control::CreateTopic { id, name: name.to_owned(), settings, named });
        id
    }

    /// Appends a batch of `count` records.
    pub(crate) fn append(&self, partition: TopicPartition, count: usize) {
        self.append_as(partition, count, None);
    }

    /// The same as a producer.
    pub(crate) fn append_as(&self, partition: TopicPartition, count: usize, triple: Option<Triple>) {
        let record = |at: usize| Record {
            timestamp: i64::try_from(self.time()).unwrap(),
            key: None,
            value: Some(Bytes::from(format!("record {at} {}", "x".repeat(500)))),
            headers: Vec::new(),
        };
        let records: Vec<Record> = (0..count).map(record).collect();
        let encoded = batch::encode(&records, Compression::None, triple).unwrap();
        let next = self.inner().next;
        self.inner().batches.insert(next, encoded.bytes.clone());
        let append = Append {
            partition,
            batch: encoded.bytes,
            position: 0,
            info: encoded.info,
            triple,
            idempotency: None,
            digest: 0,
            expected_offset: None,
        };
        self.apply(Command::Append(vec![append]));
    }

    /// Writes a flush of all there is, one segment; proposes it unless it is to be left in the middle.
    pub(crate) async fn flush(&self, commit: bool) -> CheckpointRef {
        let view = self.state();
        let mut writer = SegmentWriter::new(self.object());
        let mut partitions: Vec<_> = view.unflushed().cloned().collect();
        partitions.sort_by_key(|partition| partition.id());
        for partition in partitions {
            let topic = view.topic(partition.id().topic).unwrap();
            for batch in partition.tail() {
                let stored = StoredBatch {
                    base_offset: batch.base_offset,
                    count: batch.count,
                    max_timestamp: batch.max_timestamp,
                    append_time: batch.append_time,
                    bytes: self.inner().batches[&batch.log_index].clone(),
                };
                writer.push(topic, partition.id().partition, &stored).unwrap();
            }
        }
        let (mut segments, mut ranges) = (Vec::new(), Vec::new());
        if !writer.is_empty() {
            let finished = writer.finish().unwrap();
            self.put(&Key::Segment(SHARD, finished.info.id), finished.bytes).await;
            segments.push(finished.info);
            ranges.push(finished.ranges);
        }
        let index = view.applied();
        let part = |part| IndexPartRef { part, id: self.object(), written_at: index };
        let parts: Vec<IndexPartRef> = view.parts_to_write(segments.len()).into_iter().map(part).collect();
        let checkpoint = CheckpointRef { incarnation: view.incarnation(), index, id: self.object() };
        let ids: Vec<ObjectId> = parts.iter().map(|part| part.id).collect();
        let previous = view.flushed_index();
        let flushed = Control::Flushed { previous, index, segments, ranges, checkpoint, parts };
        let (contents, parts) = view.checkpoint(&flushed).unwrap();
        for (id, part) in ids.into_iter().zip(&parts) {
            self.put(&Key::IndexPart(SHARD, id), vec![encode_part(part).unwrap()]).await;
        }
        self.put(&Key::Checkpoint(SHARD, checkpoint), vec![encode_checkpoint(&contents).unwrap()]).await;
        if commit {
            assert_eq!(self.control(flushed), Answer::Done);
        }
        checkpoint
    }

    /// Archives all live segments, which are of one day, into one file a topic; gives the key of that of `topic`.
    pub(crate) async fn archive(&self, topic: TopicId) -> Key {
        let view = self.state();
        let segments: Vec<ObjectId> = view.segments().map(|segment| segment.info.id).collect();
        let claim = Control::ClaimArchive { worker: "test".to_owned(), hold_ms: 1_000_000, segments: segments.clone() };
        let Answer::Job(job) = self.control(claim) else { unreachable!("the claim was declined") };
        let mut stored: BTreeMap<TopicId, Vec<(u32, StoredRecord)>> = BTreeMap::new();
        for segment in &segments {
            let object = self.bucket.get(&Key::Segment(SHARD, *segment).to_string(), u64::MAX).await.unwrap();
            for (partition, record) in records_of(*segment, &object) {
                stored.entry(partition.topic).or_default().push((partition.partition, record));
            }
        }
        let (mut files, mut ranges, mut keys) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (id, mut records) in stored {
            records.sort_by_key(|(partition, record)| (*partition, record.offset));
            let (key, finished) = self.archive_file(view.topic(id).unwrap(), &records);
            self.put(&key, vec![finished.bytes]).await;
            files.push(finished.file);
            ranges.extend(finished.ranges);
            keys.insert(id, key);
        }
        let archived = Control::Archived { job, files, ranges };
        assert_eq!(self.control(archived), Answer::Done);
        keys.remove(&topic).unwrap()
    }

    fn archive_file(&self, topic: &Topic, records: &[(u32, StoredRecord)]) -> (Key, FinishedArchive) {
        let (day, id) = (append_day(self.time()), self.object());
        let mut writer = ArchiveWriter::new(id, topic, day).unwrap();
        for (partition, record) in records {
            writer.push(*partition, record).unwrap();
        }
        let key = Key::Archive(ArchiveKey {
            namespace: topic.namespace.clone(),
            topic: topic.name.clone(),
            topic_id: topic.id,
            day,
            shard: SHARD,
            id,
        });
        (key, writer.finish().unwrap())
    }

    async fn put(&self, key: &Key, parts: Vec<Bytes>) {
        self.bucket.put(&key.to_string(), parts).await.unwrap();
    }
}

/// All records of a segment with their partitions.
pub(crate) fn records_of(id: ObjectId, object: &Bytes) -> Vec<(TopicPartition, StoredRecord)> {
    use crate::format::segment::{Footer, FrameReader, Seek, block_bytes, verify, verify_block};
    let (footer, _): (Footer, u64) = verify(id, object).unwrap();
    let mut records = Vec::new();
    for range in footer.ranges() {
        let mut reader = FrameReader::new(range, Seek { offset: range.start, position: range.position });
        while let Some(index) = reader.needs() {
            let place = block_bytes(index, footer.info().footer_start);
            let block = object.slice(place.start as usize..place.end as usize);
            reader.feed(&verify_block(id, index, &block).unwrap()).unwrap();
            while let Some(batch) = reader.next().unwrap() {
                records.extend(batch::decode(&batch).unwrap().into_iter().map(|r| (range.partition, r)));
            }
        }
    }
    records
}

#[test]
fn missing_files_are_told_by_their_names() {
    let (part, segment) = (ObjectId(1), ObjectId(2));
    let error = |files: &str| Error::new(ErrorKind::Conflict, "missing_files", "x").with_text("files", files);
    let missing = Missing::of(&error(&format!("{part}.idx {segment}.ranges"))).unwrap();
    assert_eq!((missing.parts, missing.ranges), (vec![part], vec![segment]));
    for strange in ["", "x.idx", "00000000000000000000000001.ckpt"] {
        assert!(Missing::of(&error(strange)).is_err(), "{strange:?}");
    }
    assert!(Missing::of(&Error::internal("no details")).is_err());
}
