//! The order in which a job reads its segments, and the blocks in that order, fetched ahead.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use tidelog::archive::{ClaimedJob, ClaimedSegment};
use tidelog::error::{Error, Result};
use tidelog::format::segment::{block_bytes, blocks, verify_block};
use tidelog::model::SegmentRange;
use tidelog::store::Bucket;
use tidelog::store::keys::Key;
use tokio_util::task::AbortOnDropHandle;

/// Blocks (1 MiB each) being fetched or waiting to be read.
const BLOCKS_AHEAD: usize = 16;

/// A range to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// Which segment of the job.
    pub(crate) segment: usize,
    /// What of it.
    pub(crate) range: SegmentRange,
}

/// The ranges of a job in the order of the archive: by partition, then offset. Within each segment that order is the
/// segment's own, so each segment is read forwards.
pub(crate) fn steps(job: &ClaimedJob) -> Vec<Step> {
    let ranges = job.segments.iter().enumerate();
    let mut steps: Vec<Step> = ranges
        .flat_map(|(segment, claimed)| claimed.ranges.iter().map(move |range| Step { segment, range: *range }))
        .collect();
    steps.sort_by_key(|step| (step.range.partition, step.range.start));
    steps
}

/// Each block that the steps need, in the order in which they first need it: neighbouring ranges share blocks.
fn schedule(steps: &[Step], segments: usize) -> Vec<(usize, u32)> {
    let mut last: Vec<Option<u32>> = vec![None; segments];
    let mut order = Vec::new();
    for Step { segment, range } in steps {
        for block in blocks(range.position, range.position.saturating_add(range.len)) {
            if last[*segment] != Some(block) {
                last[*segment] = Some(block);
                order.push((*segment, block));
            }
        }
    }
    order
}

/// The verified blocks of a job, each fetched once. Keeps the newest block of each segment.
pub(crate) struct Blocks {
    ahead: BoxStream<'static, Result<(usize, u32, Bytes)>>,
    current: Vec<Option<(u32, Bytes)>>,
}

impl Blocks {
    /// Begins to fetch what `steps` need, once it is polled.
    pub(crate) fn new(bucket: Bucket, job: &ClaimedJob, steps: &[Step]) -> Self {
        let order = schedule(steps, job.segments.len());
        let shard = job.job.shard;
        let segments: Arc<[ClaimedSegment]> = job.segments.clone().into();
        let fetch = move |(segment, block): (usize, u32)| {
            let (bucket, claimed) = (bucket.clone(), segments[segment].info);
            // A task of its own: it goes on while the reader waits for the encoder.
            let task = AbortOnDropHandle::new(tokio::spawn(async move {
                let key = Key::Segment(shard, claimed.id).to_string();
                let bytes = bucket.get_range(&key, block_bytes(block, claimed.footer_start)).await?;
                verify_block(claimed.id, block, &bytes)
            }));
            async move {
                let block_bytes =
                    task.await.map_err(|error| Error::internal("a read broke off").with_source(error))??;
                Ok((segment, block, block_bytes))
            }
        };
        Self {
            ahead: futures::stream::iter(order).map(fetch).buffered(BLOCKS_AHEAD).boxed(),
            current: vec![None; job.segments.len()],
        }
    }

    /// The logical bytes of a block. Blocks have to be asked for in the order of the steps.
    pub(crate) async fn get(&mut self, segment: usize, block: u32) -> Result<Bytes> {
        if let Some((current, bytes)) = &self.current[segment]
            && *current == block
        {
            return Ok(bytes.clone());
        }
        match self.ahead.next().await.transpose()? {
            Some((found, number, bytes)) if (found, number) == (segment, block) => {
                self.current[segment] = Some((block, bytes.clone()));
                Ok(bytes)
            }
            _ => Err(Error::internal(format!("block {block} of segment {segment} of the job was not expected"))),
        }
    }
}
