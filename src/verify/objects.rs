//! Reads segments and archive files whole, a few MiB at a time, and checks them against what the checkpoint says.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;

use super::ranges::Placed;
use super::{ByObject, Problem, noted};
use crate::checkpoints;
use crate::error::{Error, Result};
use crate::format::archive::ArchiveReader;
use crate::format::segment::{Footer, SegmentVerifier, block_bytes, block_count};
use crate::model::{ArchiveFile, Checkpoint, Place, SegmentInfo, ShardId};
use crate::store::Bucket;
use crate::store::keys::Key;

/// Blocks of a segment that are read with one call.
const BLOCKS_PER_CALL: u32 = 4;

/// Objects that were whole, and their bytes.
type Read = (u64, u64);

/// Verifies the live segments.
pub(super) async fn segments(
    bucket: &Bucket,
    checkpoint: &Checkpoint,
    expected: &ByObject,
    parallel: usize,
    problems: &mut Vec<Problem>,
) -> Result<Read> {
    let shard = checkpoint.shard;
    let work = checkpoint.segments.iter().map(|record| {
        let info = record.info;
        let expected = expected.get(&info.id).map_or(&[][..], Vec::as_slice);
        async move { (Key::Segment(shard, info.id), info.bytes, segment(bucket, shard, info, expected).await) }
    });
    gather(work, parallel, problems).await
}

/// Verifies the live archive files.
pub(super) async fn archive_files(
    bucket: &Bucket,
    checkpoint: &Checkpoint,
    expected: &ByObject,
    parallel: usize,
    problems: &mut Vec<Problem>,
) -> Result<Read> {
    let mut work = Vec::new();
    for file in &checkpoint.archive_files {
        let Some(key) = checkpoints::archive_key(checkpoint, file) else {
            problems.push(Problem::new(format!("archive file {}", file.id), "is of a topic that does not exist"));
            continue;
        };
        let expected = expected.get(&file.id).map_or(&[][..], Vec::as_slice);
        work.push(async move {
            let verified = archive_file(bucket, &key.to_string(), file, expected).await;
            (key, file.bytes, verified)
        });
    }
    gather(work.into_iter(), parallel, problems).await
}

async fn gather<F>(work: impl Iterator<Item = F>, parallel: usize, problems: &mut Vec<Problem>) -> Result<Read>
where
    F: Future<Output = (Key, u64, Result<Vec<String>>)>,
{
    let (mut objects, mut bytes) = (0, 0);
    let mut verified = std::pin::pin!(futures::stream::iter(work).buffer_unordered(parallel.max(1)));
    while let Some((key, len, result)) = verified.next().await {
        if let Some(contradictions) = noted(result, &key, problems)? {
            problems.extend(contradictions.into_iter().map(|what| Problem::new(&key, what)));
            objects += 1;
            bytes += len;
        }
    }
    Ok((objects, bytes))
}

/// Verifies one segment; what it answers are contradictions to the checkpoint.
async fn segment(bucket: &Bucket, shard: ShardId, info: SegmentInfo, expected: &[Placed]) -> Result<Vec<String>> {
    let key = Key::Segment(shard, info.id).to_string();
    has_length(bucket, &key, info.bytes).await?;
    let footer = bucket.get_range(&key, info.footer_start..info.bytes).await?;
    let footer = Footer::decode(info.id, &footer)?;
    if *footer.info() != info {
        return Err(Error::corrupt("its footer is not that of the checkpoint's segment"));
    }
    let mut verifier = SegmentVerifier::new(&footer);
    let blocks = block_count(info.footer_start);
    for first in (0..blocks).step_by(BLOCKS_PER_CALL as usize) {
        let last = (first + BLOCKS_PER_CALL).min(blocks) - 1;
        let start = block_bytes(first, info.footer_start).start;
        let bytes = bucket.get_range(&key, start..block_bytes(last, info.footer_start).end).await?;
        for index in first..=last {
            let place = block_bytes(index, info.footer_start);
            let block = bytes.slice((place.start - start) as usize..(place.end - start) as usize);
            // Decompressing four blocks takes tens of milliseconds at most; the reads between them yield.
            verifier.block(&block)?;
            tokio::task::yield_now().await;
        }
    }
    verifier.finish()?;
    Ok(expected.iter().filter(|placed| !is_in(&footer, placed)).map(contradiction).collect())
}

fn is_in(footer: &Footer, placed: &Placed) -> bool {
    let Place::Segment { position, .. } = placed.range.place else { return false };
    footer.range(placed.partition).is_some_and(|range| {
        (range.start, range.end, range.position, range.len)
            == (placed.range.start, placed.range.end, position, placed.range.bytes)
    })
}

fn contradiction(placed: &Placed) -> String {
    let (partition, range) = (placed.partition, placed.range);
    format!("does not hold offsets {} to {} of {partition} as the checkpoint says", range.start, range.end)
}

/// Verifies one archive file.
async fn archive_file(bucket: &Bucket, key: &str, file: &ArchiveFile, expected: &[Placed]) -> Result<Vec<String>> {
    has_length(bucket, key, file.bytes).await?;
    let footer = bucket.get_range(key, file.footer_start..file.bytes).await?;
    let reader = Arc::new(ArchiveReader::open(file, footer)?);
    for (index, group) in reader.groups().iter().enumerate() {
        let bytes = bucket.get_range(key, group.position..group.position + group.bytes).await?;
        decode(Arc::clone(&reader), index, bytes).await?;
    }
    // A range may span row groups, but groups have no gap within a range.
    let holds = |placed: &&Placed| {
        let mut next = placed.range.start;
        for group in reader.groups().iter().filter(|group| group.partition == placed.partition.partition) {
            if group.start <= next && next < group.end {
                next = group.end;
            }
        }
        next >= placed.range.end
    };
    Ok(expected.iter().filter(|placed| !holds(placed)).map(contradiction).collect())
}

/// Decodes all records of a row group, where blocking is allowed.
async fn decode(reader: Arc<ArchiveReader>, index: usize, bytes: Bytes) -> Result<()> {
    let decoded = crate::blocking::spawn(move || {
        let group = reader.groups()[index];
        reader.records(index, bytes, group.start..group.end).map(drop)
    });
    decoded.await.map_err(|error| Error::internal("decoding broke off").with_source(error))?
}

async fn has_length(bucket: &Bucket, key: &str, expected: u64) -> Result<()> {
    let bytes = bucket.head(key).await?;
    if bytes == expected {
        return Ok(());
    }
    Err(Error::corrupt(format!("has {bytes} bytes, the checkpoint says {expected}")))
}
