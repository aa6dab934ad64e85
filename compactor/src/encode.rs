//! Batches to Parquet: runs on a thread that may take its time over a row group, fed and drained through bounded channels.

use std::collections::BTreeMap;

use tidelog::archive::ClaimedJob;
use tidelog::error::{Error, Result};
use tidelog::format::archive::{ArchiveWriter, FinishedArchive, append_day};
use tidelog::format::batch;
use tidelog::model::{ArchiveFile, ArchiveRange, ObjectId, StoredBatch, StoredRecord, Topic, TopicId, TopicPartition};
use tidelog::store::Bucket;
use tidelog::store::keys::{ArchiveKey, Key};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::upload::{self, Part, Room};

/// Files that are complete but not yet in the bucket; the encoder waits for the oldest one beyond.
const UPLOADS: usize = 4;

/// What the reader sends.
pub(crate) enum Work {
    /// Batches of one partition, in order.
    Batches(TopicPartition, Vec<StoredBatch>),
    /// That was all. Without this nothing is completed.
    Done,
}

/// The files of a job and what is where.
pub(crate) type Encoded = (Vec<ArchiveFile>, Vec<ArchiveRange>);

/// Encodes what the reader sends.
pub(crate) struct Encoder {
    bucket: Bucket,
    room: Room,
    job: ClaimedJob,
    topic: Option<TopicId>,
    /// The open files of `topic` by append day. At most one of them has a row group in progress.
    open: BTreeMap<u32, Open>,
    /// The day whose file has it.
    day: Option<u32>,
    uploads: Vec<JoinHandle<Result<()>>>,
    files: Vec<ArchiveFile>,
    ranges: Vec<ArchiveRange>,
}

struct Open {
    writer: ArchiveWriter,
    parts: mpsc::Sender<Part>,
    upload: JoinHandle<Result<()>>,
}

impl Encoder {
    /// Writes the files of `job` into `bucket`.
    pub(crate) fn new(bucket: Bucket, job: ClaimedJob) -> Self {
        Self {
            bucket,
            room: Room::new(),
            job,
            topic: None,
            open: BTreeMap::new(),
            day: None,
            uploads: Vec::new(),
            files: Vec::new(),
            ranges: Vec::new(),
        }
    }

    /// Encodes until [`Work::Done`]; all files are in the bucket when it returns.
    ///
    /// # Errors
    /// `corrupt` if a batch is damaged, whatever an upload says, or that the reader gave up.
    pub(crate) async fn run(mut self, mut work: mpsc::Receiver<Work>) -> Result<Encoded> {
        loop {
            match work.recv().await {
                Some(Work::Batches(partition, batches)) => {
                    for batch in &batches {
                        self.push(partition, batch).await?;
                    }
                }
                Some(Work::Done) => break,
                None => return Err(Error::unavailable("the reader of the job gave up")),
            }
        }
        self.finish_all().await?;
        for upload in std::mem::take(&mut self.uploads) {
            wait_for(upload).await?;
        }
        self.ranges.sort_by_key(|range| (range.partition, range.start));
        Ok((self.files, self.ranges))
    }

    async fn push(&mut self, partition: TopicPartition, batch: &StoredBatch) -> Result<()> {
        if self.topic != Some(partition.topic) {
            self.finish_all().await?;
            self.topic = Some(partition.topic);
        }
        let day = append_day(batch.append_time);
        if let Some(before) = self.day.replace(day).filter(|before| *before != day)
            && let Some(other) = self.open.get_mut(&before)
        {
            // Frees the rows of the other day's file: one row group in memory is enough.
            other.writer.cut()?;
            self.send_bytes(before).await?;
        }
        if !self.open.contains_key(&day) {
            let open = self.begin(partition.topic, day)?;
            self.open.insert(day, open);
        }
        let Some(Open { writer, .. }) = self.open.get_mut(&day) else { return Err(Error::internal("no open file")) };
        let opened = batch::open(batch)?;
        for view in opened.records() {
            let view = view.map_err(batch::BatchError::into_corrupt)?;
            let record = StoredRecord {
                offset: batch.base_offset + u64::from(view.index),
                append_time: batch.append_time,
                triple: opened.triple_of(view.index),
                record: opened.to_record(&view),
            };
            writer.push(partition.partition, &record)?;
        }
        let full = writer.is_full(self.job.file_bytes);
        self.send_bytes(day).await?;
        if full && let Some(open) = self.open.remove(&day) {
            self.finish(open).await?;
        }
        Ok(())
    }

    fn begin(&self, topic: TopicId, day: u32) -> Result<Open> {
        let topic = self.job.topics.iter().find(|known| known.id == topic);
        let topic: &Topic = topic.ok_or_else(|| Error::internal("the job does not describe one of its topics"))?;
        let id = ObjectId::from_parts(self.job.log_time, rand::random());
        let key = Key::Archive(ArchiveKey {
            namespace: topic.namespace.clone(),
            topic: topic.name.clone(),
            topic_id: topic.id,
            day,
            shard: self.job.job.shard,
            id,
        });
        let writer = ArchiveWriter::new(id, topic, day)?;
        let (parts, upload) = upload::start(self.bucket.clone(), key.to_string());
        Ok(Open { writer, parts, upload })
    }

    /// Hands the row groups of a day's file that have ended to its upload.
    async fn send_bytes(&mut self, day: u32) -> Result<()> {
        let Some(open) = self.open.get_mut(&day) else { return Ok(()) };
        let bytes = open.writer.take_bytes();
        if bytes.is_empty() || open.parts.send(self.room.take(bytes).await?).await.is_ok() {
            return Ok(());
        }
        match self.open.remove(&day) {
            Some(open) => Err(failure_of(open.upload).await),
            None => Ok(()),
        }
    }

    async fn finish_all(&mut self) -> Result<()> {
        self.day = None;
        while let Some((_, open)) = self.open.pop_first() {
            self.finish(open).await?;
        }
        Ok(())
    }

    async fn finish(&mut self, open: Open) -> Result<()> {
        let FinishedArchive { bytes, file, ranges } = open.writer.finish()?;
        let parts = &open.parts;
        let last = self.room.take(bytes).await?;
        let sent = parts.send(last).await.is_ok() && parts.send(Part::End).await.is_ok();
        if !sent {
            return Err(failure_of(open.upload).await);
        }
        self.files.push(file);
        self.ranges.extend(ranges);
        self.uploads.push(open.upload);
        if self.uploads.len() > UPLOADS {
            let oldest = self.uploads.remove(0);
            wait_for(oldest).await?;
        }
        Ok(())
    }
}

/// Why an upload does not take any more.
async fn failure_of(upload: JoinHandle<Result<()>>) -> Error {
    wait_for(upload).await.err().unwrap_or_else(|| Error::internal("an upload ended before its file did"))
}

async fn wait_for(upload: JoinHandle<Result<()>>) -> Result<()> {
    upload.await.map_err(|error| Error::internal("an upload broke off").with_source(error))?
}
