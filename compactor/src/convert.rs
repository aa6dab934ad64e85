//! One job from claim to files.

use tidelog::archive::{ClaimedJob, CompletedJob};
use tidelog::error::{Error, Result};
use tidelog::format::segment::{FrameReader, Seek};
use tidelog::model::{Offset, StoredBatch, TopicPartition};
use tidelog::store::Bucket;
use tokio::sync::mpsc;

use crate::blocks::{Blocks, Step, steps};
use crate::encode::{Encoder, Work};

/// Batches travel to the encoder in messages of about this many bytes.
const MESSAGE_BYTES: usize = 1 << 20;
/// Messages waiting for the encoder.
const MESSAGES: usize = 4;

/// Reads the job's ranges, each block once, and writes its files; all of them are in the bucket when this returns. The
/// files hold exactly the ranges of the job. Dropped or failed, files that were uploaded stay behind, whole and unnamed.
///
/// # Errors
/// `corrupt` if a segment is not what its checksums say, or whatever the bucket says.
pub async fn convert(bucket: &Bucket, job: &ClaimedJob) -> Result<CompletedJob> {
    let (work, queue) = mpsc::channel(MESSAGES);
    let encoder = Encoder::new(bucket.clone(), job.clone());
    let encoding = tidelog::blocking::spawn_future(encoder.run(queue));
    let (read, encoded) = tokio::join!(read(bucket, job, work), encoding);
    let encoded = encoded.map_err(|error| Error::internal("the encoder broke off").with_source(error))?;
    let (files, ranges) = match (read, encoded) {
        (Ok(()), encoded) => encoded?,
        // A side stops because the other one did; what is returned is the cause.
        (Err(Stop::Failed(error)), _) => return Err(error),
        (Err(Stop::EncoderGone), encoded) => {
            return Err(encoded.err().unwrap_or_else(|| Error::internal("the encoder stopped early")));
        }
    };
    let done = CompletedJob { job: job.job, files, ranges };
    check(job, &done)?;
    Ok(done)
}

/// Why the reader stopped.
enum Stop {
    Failed(Error),
    EncoderGone,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

async fn read(bucket: &Bucket, job: &ClaimedJob, work: mpsc::Sender<Work>) -> Result<(), Stop> {
    let steps = steps(job);
    let mut blocks = Blocks::new(bucket.clone(), job, &steps);
    let mut message = Message::default();
    for Step { segment, range } in &steps {
        let mut frames = FrameReader::new(range, Seek { offset: range.start, position: range.position });
        if message.partition != Some(range.partition) {
            message.send(&work).await?;
            message.partition = Some(range.partition);
        }
        loop {
            match (frames.next()?, frames.needs()) {
                (Some(batch), _) => {
                    message.push(batch);
                    if message.bytes >= MESSAGE_BYTES {
                        message.send(&work).await?;
                    }
                }
                (None, Some(block)) => frames.feed(&blocks.get(*segment, block).await?)?,
                (None, None) => break,
            }
        }
    }
    message.send(&work).await?;
    work.send(Work::Done).await.map_err(|_| Stop::EncoderGone)
}

/// Batches of one partition on their way to the encoder.
#[derive(Default)]
struct Message {
    partition: Option<TopicPartition>,
    batches: Vec<StoredBatch>,
    bytes: usize,
}

impl Message {
    fn push(&mut self, batch: StoredBatch) {
        self.bytes += batch.bytes.len();
        self.batches.push(batch);
    }

    async fn send(&mut self, work: &mpsc::Sender<Work>) -> Result<(), Stop> {
        let batches = std::mem::take(&mut self.batches);
        self.bytes = 0;
        match self.partition {
            Some(partition) if !batches.is_empty() => {
                work.send(Work::Batches(partition, batches)).await.map_err(|_| Stop::EncoderGone)
            }
            _ => Ok(()),
        }
    }
}

/// The files must hold exactly what the job's segments do: `apply` would decline anything else, and this says it sooner.
fn check(job: &ClaimedJob, done: &CompletedJob) -> Result<()> {
    let claimed = job.segments.iter().flat_map(|segment| &segment.ranges);
    let claimed = merged(claimed.map(|range| (range.partition, range.start, range.end)).collect());
    let made = merged(done.ranges.iter().map(|range| (range.partition, range.start, range.end)).collect());
    if claimed == made {
        Ok(())
    } else {
        Err(Error::internal("the archive files do not hold what the job's segments do"))
    }
}

/// Joins ranges that continue one another.
fn merged(mut ranges: Vec<(TopicPartition, Offset, Offset)>) -> Vec<(TopicPartition, Offset, Offset)> {
    ranges.sort_unstable();
    let mut joined: Vec<(TopicPartition, Offset, Offset)> = Vec::with_capacity(ranges.len());
    for (partition, start, end) in ranges {
        match joined.last_mut() {
            Some(last) if (last.0, last.2) == (partition, start) => last.2 = end,
            _ => joined.push((partition, start, end)),
        }
    }
    joined
}
