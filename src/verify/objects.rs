//! Reads segments and archive files whole, a few MiB at a time, and checks them against what the checkpoint says.
//!
//! Each object is a task of its own, so that checksums and decoding use as many cores as objects are read at once; how
//! many that are bounds the memory.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::meter::Meter;
use super::ranges::Placed;
use super::{ByObject, Problem, noted};
use crate::checkpoints;
use crate::error::{Error, Result};
use crate::format::archive::ArchiveReader;
use crate::format::segment::{Footer, SegmentVerifier, block_bytes, block_count};
use crate::model::{ArchiveFile, Checkpoint, Place, SegmentInfo};
use crate::store::Bucket;
use crate::store::keys::Key;

/// Blocks of a segment that are read with one call.
const BLOCKS_PER_CALL: u32 = 4;

/// Objects that were whole, and their bytes.
type Read = (u64, u64);

/// What all objects are read with.
#[derive(Clone)]
pub(super) struct Reading {
    pub(super) bucket: Bucket,
    pub(super) meter: Arc<Meter>,
    /// Objects read at once.
    pub(super) parallel: usize,
}

/// An object that is being read; it counts as done with when this is dropped, however much of it was read.
struct Object {
    reading: Reading,
    key: String,
    left: u64,
}

impl Object {
    async fn range(&mut self, range: Range<u64>) -> Result<Bytes> {
        let bytes = range.end.saturating_sub(range.start);
        self.reading.meter.admit(bytes).await;
        let read = self.reading.bucket.get_range(&self.key, range).await?;
        self.reading.meter.read(bytes);
        self.left = self.left.saturating_sub(bytes);
        Ok(read)
    }

    async fn has_length(&self, expected: u64) -> Result<()> {
        let bytes = self.reading.bucket.head(&self.key).await?;
        if bytes == expected {
            return Ok(());
        }
        Err(Error::corrupt(format!("has {bytes} bytes, the checkpoint says {expected}")))
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        self.reading.meter.pass(self.left);
        self.reading.meter.object();
    }
}

/// Verifies the live segments. Takes what is expected of them.
pub(super) async fn segments(
    reading: &Reading,
    checkpoint: &Checkpoint,
    expected: &mut ByObject,
    problems: &mut Vec<Problem>,
) -> Result<Read> {
    let shard = checkpoint.shard;
    let work = checkpoint.segments.iter().map(|record| {
        let info = record.info;
        let expected = expected.remove(&info.id).unwrap_or_default();
        let key = Key::Segment(shard, info.id);
        let object = Object { reading: reading.clone(), key: key.to_string(), left: info.bytes };
        (key, info.bytes, segment(object, info, expected))
    });
    gather(work, reading.parallel, problems).await
}

/// Verifies the live archive files. Takes what is expected of them.
pub(super) async fn archive_files(
    reading: &Reading,
    checkpoint: &Checkpoint,
    expected: &mut ByObject,
    problems: &mut Vec<Problem>,
) -> Result<Read> {
    let mut work = Vec::new();
    for file in &checkpoint.archive_files {
        let Some(key) = checkpoints::archive_key(checkpoint, file) else {
            problems.push(Problem::new(format!("archive file {}", file.id), "is of a topic that does not exist"));
            reading.meter.pass(file.bytes);
            reading.meter.object();
            continue;
        };
        let expected = expected.remove(&file.id).unwrap_or_default();
        let object = Object { reading: reading.clone(), key: key.to_string(), left: file.bytes };
        work.push((key, file.bytes, archive_file(object, file.clone(), expected)));
    }
    gather(work.into_iter(), reading.parallel, problems).await
}

/// Runs what verifies objects, `parallel` at once. What was begun ends with this.
async fn gather<F>(
    mut work: impl Iterator<Item = (Key, u64, F)>,
    parallel: usize,
    problems: &mut Vec<Problem>,
) -> Result<Read>
where
    F: Future<Output = Result<Vec<String>>> + Send + 'static,
{
    let (mut objects, mut bytes) = (0, 0);
    let mut running = JoinSet::new();
    loop {
        while running.len() < parallel.max(1)
            && let Some((key, len, verifying)) = work.next()
        {
            running.spawn(async move { (key, len, verifying.await) });
        }
        let Some(verified) = running.join_next().await else { return Ok((objects, bytes)) };
        let (key, len, result) =
            verified.map_err(|error| Error::internal("a verification broke off").with_source(error))?;
        if let Some(contradictions) = noted(result, &key, problems)? {
            problems.extend(contradictions.into_iter().map(|what| Problem::new(&key, what)));
            objects += 1;
            bytes += len;
        }
    }
}

/// Verifies one segment; what it answers are contradictions to the checkpoint.
async fn segment(mut object: Object, info: SegmentInfo, expected: Vec<Placed>) -> Result<Vec<String>> {
    object.has_length(info.bytes).await?;
    let footer = object.range(info.footer_start..info.bytes).await?;
    let footer = Footer::decode(info.id, &footer)?;
    if *footer.info() != info {
        return Err(Error::corrupt("its footer is not that of the checkpoint's segment"));
    }
    let mut verifier = SegmentVerifier::new(&footer);
    let blocks = block_count(info.footer_start);
    for first in (0..blocks).step_by(BLOCKS_PER_CALL as usize) {
        let last = (first + BLOCKS_PER_CALL).min(blocks) - 1;
        let start = block_bytes(first, info.footer_start).start;
        let bytes = object.range(start..block_bytes(last, info.footer_start).end).await?;
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
async fn archive_file(mut object: Object, file: ArchiveFile, expected: Vec<Placed>) -> Result<Vec<String>> {
    object.has_length(file.bytes).await?;
    let footer = object.range(file.footer_start..file.bytes).await?;
    let reader = Arc::new(ArchiveReader::open(&file, footer)?);
    for (index, group) in reader.groups().iter().enumerate() {
        let bytes = object.range(group.position..group.position + group.bytes).await?;
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
