//! Positions in many partitions of one topic: where a reader of all of them is, and one round of reading on.
//!
//! Invariants: positions ascend by partition; a position moves only over records that were handed out; what one round
//! reads is bounded by its budget, one record beyond it at most. There is no order between partitions.

mod selection;

use std::time::Duration;

use futures::StreamExt as _;
use tidelog::error::{Error, ErrorKind};
use tidelog::model::{Bounds, FetchFrom, FetchPage, FetchRequest, TopicDescription, TopicId};
use tidelog::queue::{Queue, partition_not_found};
use tidelog_api::limits::MAX_CURSOR_PARTITIONS;
use tidelog_api::{Cursor, ErrorCode};

pub(crate) use self::selection::Selection;
use crate::app::App;
use crate::consistency::Consistency;
use crate::error::{ApiError, Result};
use crate::render::page::stored_bytes;

/// Partitions whose first offsets are looked up at once.
const LOOKUPS: usize = 16;

/// Where a reader begins.
#[derive(Debug, Clone)]
pub(crate) enum Start {
    /// At one place in each of some partitions.
    At(FetchFrom, Selection),
    /// Where an earlier one stopped.
    Cursor(Cursor),
}

/// What one round may read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
}

/// A reader of some or all partitions of a topic.
#[derive(Debug, Clone)]
pub(crate) struct Walk {
    topic: String,
    topic_id: TopicId,
    incarnation: u64,
    all: bool,
    consistency: Consistency,
    /// Partition and next offset, ascending.
    positions: Vec<(u32, u64)>,
    /// Of every partition of the topic, as of the last look.
    bounds: Vec<Bounds>,
}

impl Walk {
    /// Begins to read. The positions are within the bounds of their partitions; that they are not is said
    /// only after a linearizable read.
    pub(crate) async fn begin(
        app: &App,
        topic: &str,
        topic_id: Option<TopicId>,
        (start, consistency): (&Start, Consistency),
    ) -> Result<Self> {
        let described = describe(app.queue(), topic, topic_id, consistency).await?;
        let topic_id = described.topic.id;
        let count = described.partitions.len();
        let mut walk = Self {
            topic: topic.to_owned(),
            topic_id,
            incarnation: app.incarnation(),
            all: false,
            consistency,
            positions: Vec::new(),
            bounds: described.partitions,
        };
        match start {
            Start::Cursor(cursor) => {
                if cursor.topic_id != topic_id.0 || cursor.incarnation != walk.incarnation {
                    let message = "the cursor is of another topic or of an earlier life of the cluster";
                    return Err(ApiError::new(ErrorCode::InvalidCursor, message));
                }
                walk.all = cursor.all;
                walk.positions.clone_from(&cursor.positions);
            }
            Start::At(from, selection) => {
                walk.all = selection.is_all();
                let partitions = selection.partitions(count)?;
                walk.positions = walk.resolve(app.queue(), *from, partitions).await?;
            }
        }
        walk.join_new()?;
        walk.verify(app.queue()).await?;
        Ok(walk)
    }

    /// The offsets at which `from` begins.
    async fn resolve(&self, queue: &Queue, from: FetchFrom, partitions: Vec<u32>) -> Result<Vec<(u32, u64)>> {
        let lookups = partitions.into_iter().map(|partition| self.first_offset(queue, from, partition));
        let found: Vec<Result<(u32, u64)>> = futures::stream::iter(lookups).buffered(LOOKUPS).collect().await;
        found.into_iter().collect()
    }

    async fn first_offset(&self, queue: &Queue, from: FetchFrom, partition: u32) -> Result<(u32, u64)> {
        let count = u32::try_from(self.bounds.len()).unwrap_or(u32::MAX);
        let bounds =
            self.bounds.get(partition as usize).ok_or_else(|| partition_not_found(&self.topic, partition, count))?;
        let offset = match from {
            FetchFrom::Offset(offset) => offset,
            FetchFrom::Earliest => bounds.log_start,
            FetchFrom::Latest => bounds.high_watermark,
            FetchFrom::Timestamp(_) | FetchFrom::Tail(_) => {
                let request = self.request(partition, from, Budget { records: 1, bytes: 1 });
                self.consistency.fetch(queue, request).await?.start
            }
        };
        Ok((partition, offset))
    }

    fn request(&self, partition: u32, from: FetchFrom, budget: Budget) -> FetchRequest {
        FetchRequest {
            topic: self.topic.clone(),
            topic_id: Some(self.topic_id),
            partition,
            from,
            end: None,
            max_records: budget.records,
            max_bytes: budget.bytes,
            wait: Duration::ZERO,
        }
    }

    /// Takes up partitions that the topic got since.
    fn join_new(&mut self) -> Result<()> {
        let count = self.bounds.len();
        if self.all && count > MAX_CURSOR_PARTITIONS {
            return Err(selection::too_many(count));
        }
        if self.all {
            let known = self.positions.last().map_or(0, |(partition, _)| *partition as usize + 1);
            self.positions.extend((known..count).filter_map(|partition| Some((u32::try_from(partition).ok()?, 0))));
        }
        Ok(())
    }

    /// Checks the positions against the bounds.
    fn check(&self) -> Result<()> {
        let mut trimmed = false;
        for (partition, offset) in &self.positions {
            let bounds = self.bounds_of(*partition).ok_or_else(|| {
                partition_not_found(&self.topic, *partition, u32::try_from(self.bounds.len()).unwrap_or(u32::MAX))
            })?;
            if *offset > bounds.high_watermark {
                return Err(out_of_range(*partition, *offset, &bounds));
            }
            trimmed |= *offset < bounds.log_start;
        }
        if trimmed { Err(self.expired()) } else { Ok(()) }
    }

    /// 410, with the cursor that continues at the log starts.
    fn expired(&self) -> ApiError {
        let mut walk = self.clone();
        for (partition, offset) in &mut walk.positions {
            *offset = (*offset).max(self.bounds_of(*partition).map_or(0, |bounds| bounds.log_start));
        }
        let message = "records at the cursor were trimmed; details.cursor continues at the log start";
        let error = ApiError::new(ErrorCode::OffsetExpired, message).with("cursor", walk.cursor());
        match (self.positions.as_slice(), walk.positions.as_slice()) {
            ([(_, offset)], [(_, log_start)]) => error.with("offset", *offset).with("log_start_offset", *log_start),
            _ => error,
        }
    }

    fn bounds_of(&self, partition: u32) -> Option<Bounds> {
        self.bounds.get(partition as usize).copied()
    }

    /// Looks at the bounds again, and at new partitions.
    pub(crate) async fn look(&mut self, queue: &Queue) -> Result<()> {
        self.bounds = describe(queue, &self.topic, Some(self.topic_id), self.consistency).await?.partitions;
        self.join_new()?;
        self.verify(queue).await
    }

    /// Checks the positions, those that this node does not know by what the leader knows.
    async fn verify(&mut self, queue: &Queue) -> Result<()> {
        match self.check() {
            Err(_) if self.consistency == Consistency::Any => {
                let described = describe(queue, &self.topic, Some(self.topic_id), Consistency::Linearizable);
                self.bounds = described.await?.partitions;
                self.join_new()?;
                self.check()
            }
            checked => checked,
        }
    }

    /// Reads on in every partition that has more, in turn and in equal shares. The positions do not move: see
    /// [`Walk::advance`].
    pub(crate) async fn round(&mut self, app: &App, budget: Budget) -> Result<Vec<(u32, FetchPage)>> {
        self.look(app.queue()).await?;
        let mut pages = Vec::new();
        let mut left = budget;
        let mut next = self.positions.clone();
        // Whoever begins last time is not first again, so that a small budget starves nobody.
        let rotation = app.rotate() % next.len().max(1);
        next.rotate_left(rotation);
        let has_more = |(partition, offset): &(u32, u64)| {
            self.bounds_of(*partition).is_some_and(|bounds| *offset < bounds.high_watermark)
        };
        loop {
            next.retain(has_more);
            let open = next.len();
            if open == 0 {
                return Ok(pages);
            }
            let share = Budget { records: (left.records / open).max(1), bytes: (left.bytes / open).max(1) };
            for (partition, offset) in &mut next {
                if left.records == 0 || left.bytes == 0 {
                    return Ok(pages);
                }
                let from = FetchFrom::Offset(*offset);
                let part = Budget { records: share.records.min(left.records), bytes: share.bytes.min(left.bytes) };
                let page = match self.consistency.fetch(app.queue(), self.request(*partition, from, part)).await {
                    // It holds memory already: better a short answer than many readers that wait for each other.
                    Err(error) if error.kind() == ErrorKind::Overloaded && !pages.is_empty() => return Ok(pages),
                    page => page?,
                };
                let count = usize::try_from(page.next_offset - page.start).unwrap_or(usize::MAX);
                left.records = left.records.saturating_sub(count);
                left.bytes = left.bytes.saturating_sub(stored_bytes(&page));
                if count == 0 {
                    // Trimmed or closed meanwhile: the next round looks again.
                    return Ok(pages);
                }
                *offset = page.next_offset;
                pages.push((*partition, page));
            }
        }
    }

    /// The records of `partition` below `next` were handed out.
    pub(crate) fn advance(&mut self, partition: u32, next: u64) {
        if let Some(at) = self.index_of(partition) {
            self.positions[at].1 = self.positions[at].1.max(next);
        }
    }

    /// Where `partition` is read on; `None` if it is not followed.
    pub(crate) fn position(&self, partition: u32) -> Option<u64> {
        self.index_of(partition).map(|at| self.positions[at].1)
    }

    /// The records of `partition` from `position` on were not handed out after all.
    pub(crate) fn go_back(&mut self, partition: u32, position: Option<u64>) {
        if let (Some(at), Some(position)) = (self.index_of(partition), position) {
            self.positions[at].1 = position;
        }
    }

    fn index_of(&self, partition: u32) -> Option<usize> {
        self.positions.binary_search_by_key(&partition, |(partition, _)| *partition).ok()
    }

    /// The cursor of where it is.
    pub(crate) fn cursor(&self) -> String {
        let positions = self.positions.clone();
        Cursor { topic_id: self.topic_id.0, incarnation: self.incarnation, all: self.all, positions }.to_string()
    }

    pub(crate) fn topic_id(&self) -> TopicId {
        self.topic_id
    }

    /// Position and bounds of each partition followed.
    pub(crate) fn places(&self) -> impl Iterator<Item = (u32, u64, Bounds)> {
        self.positions
            .iter()
            .map(|(partition, offset)| (*partition, *offset, self.bounds_of(*partition).unwrap_or_default()))
    }

    /// Returns once there may be more to read, or `wait` is over.
    pub(crate) async fn wait(&self, queue: &Queue, wait: Duration) {
        // A reader of chosen partitions does not care for new ones.
        let known = if self.all { u32::try_from(self.bounds.len()).unwrap_or(u32::MAX) } else { u32::MAX };
        if queue.wait_for_data(self.topic_id, &self.positions, known, wait).await.is_err() {
            // Too many wait already: this reader polls instead of failing.
            tokio::time::sleep(wait.min(POLL_PAUSE)).await;
        }
    }
}

/// How often a reader looks that could not subscribe.
const POLL_PAUSE: Duration = Duration::from_millis(250);

async fn describe(
    queue: &Queue,
    topic: &str,
    topic_id: Option<TopicId>,
    consistency: Consistency,
) -> Result<TopicDescription> {
    consistency.describe(queue, topic, topic_id).await.map_err(|error| ApiError::from(error).about_topic(topic))
}

fn out_of_range(partition: u32, offset: u64, bounds: &Bounds) -> ApiError {
    let message = format!("offset {offset} of partition {partition} is above the high watermark");
    let error = Error::new(ErrorKind::OutOfRange, "offset_out_of_range", message);
    let error = error.with_number("log_start_offset", bounds.log_start);
    error.with_number("high_watermark", bounds.high_watermark).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use uuid::Uuid;

    use super::*;

    fn walk(all: bool, positions: &[(u32, u64)], bounds: &[(u64, u64)]) -> Walk {
        let bounds = bounds.iter().map(|(log_start, high_watermark)| Bounds {
            log_start: *log_start,
            high_watermark: *high_watermark,
            ..Bounds::default()
        });
        Walk {
            topic: "t".to_owned(),
            topic_id: TopicId(Uuid::from_u128(7)),
            incarnation: 1,
            all,
            consistency: Consistency::Linearizable,
            positions: positions.to_vec(),
            bounds: bounds.collect(),
        }
    }

    #[test]
    fn new_partitions_join_at_zero_if_all_are_followed() {
        let mut all = walk(true, &[(0, 5)], &[(0, 9), (0, 3), (0, 0)]);
        all.join_new().unwrap();
        assert_eq!(all.positions, [(0, 5), (1, 0), (2, 0)]);
        let mut some = walk(false, &[(1, 5)], &[(0, 9), (0, 9), (0, 0)]);
        some.join_new().unwrap();
        assert_eq!(some.positions, [(1, 5)]);
        let mut many = walk(true, &[], &[(0, 0); 257]);
        assert_eq!(many.join_new().unwrap_err().code(), ErrorCode::TooManyPartitions);
    }

    #[test]
    fn a_trimmed_position_gets_the_cursor_that_continues() {
        let error = walk(false, &[(0, 5), (1, 2)], &[(7, 9), (0, 3)]).check().unwrap_err();
        assert_eq!(error.code(), ErrorCode::OffsetExpired);
        let cursor: Cursor = error.details()["cursor"].as_str().unwrap().parse().unwrap();
        assert_eq!(cursor.positions, [(0, 7), (1, 2)]);
    }

    #[test]
    fn positions_beyond_the_watermark_or_the_topic_are_refused() {
        assert!(walk(false, &[(0, 9)], &[(7, 9)]).check().is_ok());
        assert_eq!(walk(false, &[(0, 10)], &[(7, 9)]).check().unwrap_err().code(), ErrorCode::OffsetOutOfRange);
        assert_eq!(walk(false, &[(3, 0)], &[(0, 9)]).check().unwrap_err().code(), ErrorCode::PartitionNotFound);
    }

    #[test]
    fn positions_only_move_on() {
        let mut walk = walk(false, &[(0, 5), (4, 2)], &[(0, 9); 5]);
        walk.advance(4, 7);
        walk.advance(4, 6);
        walk.advance(3, 9);
        assert_eq!(walk.positions, [(0, 5), (4, 7)]);
    }
}
