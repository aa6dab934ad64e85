//! Blocks of segments on their way out of the bucket, several with one call: a call has its price and its latency whatever it
//! brings.
//!
//! Who asks for a block says which others will be wanted. Those around it that are neither cached nor on their way come with
//! it and go into the cache; who asks for one of them meanwhile waits for the same call. Nothing is verified here: whoever uses
//! a block does that.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::Semaphore;

use crate::cache::{BlockCache, BlockKey, BlockKind};
use crate::error::{Error, Result};
use crate::format::segment::{self, block_bytes};
use crate::model::SegmentInfo;

/// Blocks of one call at most.
const MOST: u32 = 4;
/// Blocks that come together whatever partitions they are of: neighbours of a partition of 1 MiB are read by others about then.
const SHARED: u32 = 2;
/// Calls for several blocks at a time; beyond them a call brings the block that was asked for. Bounds the memory of what is on
/// its way beside the limit on calls.
const CALLS: usize = 16;

/// The blocks that are to come with block `index`, of a segment of `count`, for a reader who goes on over the blocks `own` of its
/// partition. The same for all blocks of a group, so that readers beside each other do not cut each other's calls short.
pub(super) fn along(index: u32, own: &Range<u32>, count: u32) -> Range<u32> {
    let group = |blocks: u32| (index / blocks * blocks, (index / blocks * blocks).saturating_add(blocks));
    let ((start, end), (shared_start, shared_end)) = (group(MOST), group(SHARED));
    start.max(own.start).min(shared_start)..end.min(own.end).max(shared_end).min(count)
}

/// Around `index` within `run`, as far as `wanted` holds, forwards first.
fn widened(index: u32, run: &Range<u32>, wanted: impl Fn(u32) -> bool) -> Range<u32> {
    let (mut start, mut end) = (index, index.saturating_add(1));
    while end < run.end && end - start < MOST && wanted(end) {
        end += 1;
    }
    while start > run.start && end - start < MOST && wanted(start - 1) {
        start -= 1;
    }
    start..end
}

/// What a call gave: the blocks from the first on.
type Given = Shared<BoxFuture<'static, Result<Arc<[Bytes]>, Arc<Error>>>>;

/// A block on its way.
struct Coming {
    given: Given,
    /// Of the call.
    first: u32,
    /// Somebody waits for it, and puts it into the cache himself.
    awaited: bool,
}

/// A segment that is read.
#[derive(Clone)]
pub(super) struct Segment<R> {
    pub(super) info: SegmentInfo,
    pub(super) cache: BlockCache,
    /// Reads a range of the object.
    pub(super) read: R,
}

/// The calls under way.
pub(super) struct Runs {
    coming: Mutex<HashMap<BlockKey, Coming>>,
    calls: Arc<Semaphore>,
}

fn name(info: &SegmentInfo, index: u32) -> BlockKey {
    BlockKey { object: info.id, kind: BlockKind::SegmentBlock, index: u64::from(index) }
}

impl Runs {
    pub(super) fn new() -> Self {
        Self { coming: Mutex::default(), calls: Arc::new(Semaphore::new(CALLS)) }
    }

    /// The bytes of block `index`, which the segment has and nobody has cached; others of `run` come with it.
    ///
    /// # Errors
    /// Kind, code and message of the call's error.
    pub(super) async fn block<R, F>(self: Arc<Self>, from: Segment<R>, index: u32, run: Range<u32>) -> Result<Bytes>
    where
        R: FnOnce(Range<u64>) -> F,
        F: Future<Output = Result<Bytes>> + Send + 'static,
    {
        let (given, first) = self.ask(from, index, &run);
        match given.await {
            Ok(blocks) => {
                let block = blocks.get((index - first) as usize).cloned();
                block.ok_or_else(|| Error::internal(format!("a call did not bring block {index}")))
            }
            Err(error) => Err(Error::new(error.kind(), error.code(), error.message()).with_source(error)),
        }
    }

    /// The call that brings block `index`, and its first block.
    fn ask<R, F>(self: &Arc<Self>, from: Segment<R>, index: u32, run: &Range<u32>) -> (Given, u32)
    where
        R: FnOnce(Range<u64>) -> F,
        F: Future<Output = Result<Bytes>> + Send + 'static,
    {
        let Segment { info, cache, read } = from;
        let mut coming = self.lock();
        if let Some(coming) = coming.get_mut(&name(&info, index)) {
            coming.awaited = true;
            return (coming.given.clone(), coming.first);
        }
        let several = Arc::clone(&self.calls).try_acquire_owned().ok();
        let run = if several.is_some() { run.clone() } else { index..index };
        let blocks = widened(index, &run, |index| {
            let name = name(&info, index);
            !coming.contains_key(&name) && !cache.contains(&name)
        });
        let bytes =
            block_bytes(blocks.start, info.footer_start).start..block_bytes(blocks.end - 1, info.footer_start).end;
        let reading = read(bytes);
        let (runs, of_call) = (Arc::clone(self), blocks.clone());
        let given = async move {
            let given = reading.await.map(|bytes| cut(&of_call, &bytes));
            runs.arrived(&info, &cache, &of_call, given.as_deref().ok());
            drop(several);
            given.map_err(Arc::new)
        };
        let given = given.boxed().shared();
        for block in blocks.clone() {
            let (given, first, awaited) = (given.clone(), blocks.start, block == index);
            coming.insert(name(&info, block), Coming { given, first, awaited });
        }
        (given, blocks.start)
    }

    /// Forgets a call, and keeps what nobody waits for.
    fn arrived(&self, info: &SegmentInfo, cache: &BlockCache, blocks: &Range<u32>, given: Option<&[Bytes]>) {
        let mut coming = self.lock();
        for (place, index) in blocks.clone().enumerate() {
            let name = name(info, index);
            let awaited = coming.remove(&name).is_none_or(|coming| coming.awaited);
            // Before anybody else can ask: he would make a call of his own.
            if let (false, Some(bytes)) = (awaited, given.and_then(|given| given.get(place))) {
                cache.insert(name, bytes.clone());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BlockKey, Coming>> {
        // Whole after every statement.
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Cuts what a call brought into blocks that own their memory.
fn cut(blocks: &Range<u32>, bytes: &Bytes) -> Arc<[Bytes]> {
    if blocks.len() == 1 {
        return Arc::new([bytes.clone()]);
    }
    bytes.chunks(segment::BLOCK_BYTES).map(Bytes::copy_from_slice).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures::future::join_all;
    use tokio::sync::watch;

    use super::*;
    use crate::model::ObjectId;

    const BLOCK: u64 = segment::BLOCK_BYTES as u64;

    /// A segment of ten blocks, the last of which is short, and the calls that were made for it.
    struct World {
        runs: Arc<Runs>,
        cache: BlockCache,
        info: SegmentInfo,
        calls: Mutex<Vec<Range<u64>>>,
        /// Calls are answered once this holds.
        open: watch::Sender<bool>,
        fails: bool,
    }

    impl World {
        async fn new() -> Self {
            let footer_start = 9 * BLOCK + 1_000;
            let info = SegmentInfo {
                id: ObjectId(7),
                bytes: footer_start + 100,
                footer_start,
                min_append_time: 0,
                max_append_time: 0,
            };
            let (runs, cache) = (Arc::new(Runs::new()), BlockCache::memory(64 << 20).await);
            Self { runs, cache, info, calls: Mutex::default(), open: watch::Sender::new(true), fails: false }
        }

        async fn block(&self, index: u32, run: Range<u32>) -> Result<Bytes> {
            let read = |range: Range<u64>| {
                self.calls.lock().unwrap().push(range.clone());
                let (mut open, fails) = (self.open.subscribe(), self.fails);
                async move {
                    let _ = open.wait_for(|open| *open).await;
                    if fails {
                        return Err(Error::unavailable("no answer"));
                    }
                    // Each block holds its number.
                    Ok(range.map(|at| (at / BLOCK) as u8).collect())
                }
            };
            let from = Segment { info: self.info, cache: self.cache.clone(), read };
            Arc::clone(&self.runs).block(from, index, run).await
        }

        /// All of them asked for before any call is answered.
        async fn side_by_side(&self, indexes: &[u32], run: Range<u32>) -> Vec<Result<Bytes>> {
            self.open.send_replace(false);
            let asked = join_all(indexes.iter().map(|index| self.block(*index, run.clone())));
            let opened = async {
                tokio::task::yield_now().await;
                self.open.send_replace(true);
            };
            tokio::join!(asked, opened).0
        }

        /// The first block of each call so far, and the first one after it.
        fn calls(&self) -> Vec<(u64, u64)> {
            let calls = self.calls.lock().unwrap();
            calls.iter().map(|range| (range.start / BLOCK, range.end.div_ceil(BLOCK))).collect()
        }

        fn cached(&self) -> Vec<u32> {
            (0..10).filter(|index| self.cache.contains(&name(&self.info, *index))).collect()
        }
    }

    fn is_block(bytes: &Bytes, index: u8, len: u64) -> bool {
        bytes.len() as u64 == len && bytes.iter().all(|byte| *byte == index)
    }

    #[test]
    fn who_goes_on_gets_a_group_within_its_partition_and_a_pair_in_any_case() {
        assert_eq!(along(0, &(0..10), 10), 0..4);
        assert_eq!(along(5, &(0..10), 10), 4..8);
        assert_eq!(along(9, &(0..10), 10), 8..10, "the segment ends");
        assert_eq!(along(6, &(5..10), 10), 5..8, "the partition begins");
        assert_eq!(along(5, &(5..6), 10), 4..6, "a neighbour of another partition");
        assert_eq!(along(8, &(8..9), 9), 8..9, "there is no neighbour");
    }

    #[tokio::test]
    async fn blocks_beside_the_one_that_is_asked_for_come_with_it_and_are_cached() {
        let world = World::new().await;
        assert!(is_block(&world.block(5, 4..8).await.unwrap(), 5, BLOCK));
        assert_eq!((world.calls(), world.cached()), (vec![(4, 8)], vec![4, 6, 7]), "its asker keeps the one asked for");
        assert!(is_block(&world.block(9, 6..10).await.unwrap(), 9, 1_000));
        assert_eq!(world.calls()[1], (8, 10), "what is cached does not come again");
        // A run of more blocks than a call brings.
        let world = World::new().await;
        world.block(3, 0..10).await.unwrap();
        assert_eq!(world.calls(), [(3, 7)]);
    }

    #[tokio::test]
    async fn who_asks_for_a_block_on_its_way_waits_for_the_same_call() {
        let world = World::new().await;
        let given = world.side_by_side(&[4, 5, 7, 8, 4], 4..8).await;
        for (given, index) in given.into_iter().zip([4, 5, 7, 8, 4]) {
            assert!(is_block(&given.unwrap(), index, BLOCK), "{index}");
        }
        assert_eq!(world.calls(), [(4, 8), (8, 9)]);
        assert_eq!(world.cached(), [6], "the others are kept by who asked for them");
        assert!(world.runs.lock().is_empty());
    }

    #[tokio::test]
    async fn all_who_wait_are_told_of_a_failure_and_nothing_is_kept() {
        let world = World { fails: true, ..World::new().await };
        for given in world.side_by_side(&[0, 1], 0..4).await {
            assert_eq!(given.unwrap_err().code(), "unavailable");
        }
        assert_eq!((world.calls(), world.cached()), (vec![(0, 4)], vec![]));
        assert!(world.runs.lock().is_empty());
    }

    #[tokio::test]
    async fn calls_for_several_blocks_are_bounded() {
        let world = World::new().await;
        let held = Arc::clone(&world.runs.calls).acquire_many_owned(CALLS as u32).await.unwrap();
        world.block(4, 4..8).await.unwrap();
        drop(held);
        world.block(5, 4..8).await.unwrap();
        assert_eq!(world.calls(), [(4, 5), (4, 8)], "block 4 is kept by who asked for it, which is nobody here");
    }
}
