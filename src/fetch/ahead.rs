//! Reading ahead for sequential readers: who goes on exactly where an earlier page ended gets the next blocks into the
//! cache while it is busy with this one. Bounded in memory, in pages at a time and in bytes for each.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use futures::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pieces::{Pieces, along};
use super::plan::{Piece, Source as Tier, Wanted, plan};
use super::source::Source;
use crate::format::segment;
use crate::model::{Offset, TopicPartition};

/// Pages whose ends are remembered.
const REMEMBERED: usize = 4_096;
/// Readers for whom is read ahead at a time.
const READERS: usize = 4;
/// Bytes that are read ahead: from the first to the last, doubled with every page that follows.
const AHEAD_BYTES: (u64, u64) = (1 << 20, 4 << 20);
/// Parts fetched at a time for one reader.
const PARTS: usize = 2;

type End = (TopicPartition, Offset);

/// Remembers where pages ended.
#[derive(Debug)]
pub(super) struct Ahead {
    ends: Mutex<Ends>,
    slots: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Ends {
    /// For each end how far to read ahead of the page that begins there.
    bytes: HashMap<End, u64>,
    order: VecDeque<End>,
}

impl Ahead {
    pub(super) fn new() -> Self {
        Self { ends: Mutex::default(), slots: Arc::new(Semaphore::new(READERS)) }
    }

    /// Notes a page `[start, next)` that was full. If it went on where another ended, and not too many read ahead already,
    /// the answer is how many bytes to read ahead from `next` on.
    pub(super) fn note(
        &self,
        partition: TopicPartition,
        start: Offset,
        next: Offset,
    ) -> Option<(u64, OwnedSemaphorePermit)> {
        let mut ends = self.lock();
        let known = ends.bytes.remove(&(partition, start));
        let following = known.map_or(AHEAD_BYTES.0, |bytes| (bytes * 2).min(AHEAD_BYTES.1));
        if ends.bytes.insert((partition, next), following).is_none() {
            ends.order.push_back((partition, next));
        }
        // Ends that a reader has taken up leave the map at once and the order here.
        while ends.order.len() > REMEMBERED {
            let Some(oldest) = ends.order.pop_front() else { break };
            ends.bytes.remove(&oldest);
        }
        drop(ends);
        let permit = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        Some((known?, permit))
    }

    /// Whether a page that begins at `start` goes on where another ended.
    pub(super) fn follows(&self, partition: TopicPartition, start: Offset) -> bool {
        self.lock().bytes.contains_key(&(partition, start))
    }

    fn lock(&self) -> MutexGuard<'_, Ends> {
        // Hints only.
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Source> Pieces<'_, S> {
    /// Brings what holds `bytes` from `next` on into the cache. The tail is in memory or on the local disk anyway.
    pub(super) async fn warm(&self, next: Offset, bytes: u64) {
        let Some(partition) = self.view.partition(self.partition) else { return };
        let end = partition.bounds().flushed;
        let pieces = plan(partition, Wanted { start: next, end, max_records: u64::MAX, max_bytes: bytes });
        // A failure is met again, and answered, when the page is read.
        stream::iter(pieces)
            .map(|piece| async move { self.warm_piece(&piece).await })
            .buffered(PARTS)
            .for_each(|_| async {})
            .await;
    }

    async fn warm_piece(&self, piece: &Piece) -> Option<()> {
        match &piece.source {
            Tier::Tail(_) => {}
            Tier::Segment(id) => {
                let info = &self.view.segment(*id)?.info;
                let footer = self.objects.footer(info).await.ok()?;
                let seek = footer.position_of(self.partition, piece.from)?;
                let range = footer.range(self.partition)?;
                let end = seek.position.saturating_add(piece.budget).min(range.position + range.len);
                for index in segment::blocks(seek.position, end) {
                    self.objects.block(info, index, &along(index, range, info)).await.ok()?;
                }
            }
            Tier::Archive(file) => {
                let object = self.archive_object(*file).ok()?;
                let reader = self.objects.archive(&object).await.ok()?;
                let group = reader.group_at(self.partition.partition, piece.from)?;
                self.objects.warm_group(&object, &reader, group).await;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use uuid::Uuid;

    use super::*;
    use crate::model::TopicId;

    const PARTITION: TopicPartition = TopicPartition::new(TopicId(Uuid::from_u128(1)), 0);

    fn noted(ahead: &Ahead, start: Offset, next: Offset) -> Option<u64> {
        ahead.note(PARTITION, start, next).map(|(bytes, _)| bytes)
    }

    #[test]
    fn only_who_goes_on_where_a_page_ended_is_read_ahead_for() {
        let ahead = Ahead::new();
        assert_eq!(noted(&ahead, 0, 10), None, "the first page");
        assert_eq!(noted(&ahead, 50, 60), None, "a jump");
        assert_eq!(noted(&ahead, 10, 20), Some(AHEAD_BYTES.0));
        assert_eq!(noted(&ahead, 20, 30), Some(AHEAD_BYTES.0 * 2));
        assert_eq!(noted(&ahead, 30, 40), Some(AHEAD_BYTES.1));
        assert_eq!(noted(&ahead, 40, 50), Some(AHEAD_BYTES.1), "the most");
        assert_eq!(noted(&ahead, 20, 30), None, "an end is taken up once");
    }

    #[test]
    fn memory_and_readers_are_bounded() {
        let ahead = Ahead::new();
        for page in 0..3 * REMEMBERED as u64 {
            ahead.note(PARTITION, page * 10, page * 10 + 1);
        }
        let ends = ahead.lock();
        assert!(ends.bytes.len() <= REMEMBERED && ends.order.len() <= REMEMBERED);
        drop(ends);
        for page in 0..10 {
            noted(&ahead, page * 100, page * 100 + 1);
        }
        let held: Vec<_> = (0..10).filter_map(|page| ahead.note(PARTITION, page * 100 + 1, page * 100 + 2)).collect();
        assert_eq!(held.len(), READERS);
    }
}
