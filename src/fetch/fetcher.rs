//! Answers fetches of one shard: where to begin, how long to wait, and the pieces of the page.
//!
//! A view of the state is the plan's ground truth. What was replaced while its pieces were read (an entry purged after a
//! flush, an object deleted after it was archived) is planned again with a fresh view, a bounded number of times. A page
//! that has at least one record is answered as far as it got; what stopped it is met again by the next one.

use std::sync::Arc;

use ::metrics::{counter, histogram};
use futures::StreamExt;
use futures::stream;
use tokio::time::{Instant, timeout_at};

use super::ahead::Ahead;
use super::memory::PageMemory;
use super::objects::{Failure, Objects};
use super::page::{PageBuilder, stored_bytes};
use super::pieces::{PieceRead, Pieces};
use super::plan::{Source as Tier, Wanted, plan};
use super::source::Source;
use super::wait::wait_until;
use crate::cache::BlockCache;
use crate::config;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::{Direction, FETCH_REPLANS, FETCH_SECONDS, topic_traffic};
use crate::model::{Bounds, Chunk, FetchFrom, FetchPage, FetchRequest, Hold, Offset, Topic, TopicPartition};
use crate::raft::Handle;
use crate::state::{PartitionState, State};
use crate::store::Bucket;

/// Times that a page is planned before the failure is believed.
const PLANS: u32 = 4;
/// Pieces of a page that are read at a time: small ones lie in many objects.
const PIECES: usize = 8;

/// Reads the partitions of one shard; clones share caches and budgets.
pub struct Fetcher<S: Source = Handle>(Arc<Inner<S>>);

struct Inner<S> {
    source: S,
    objects: Objects,
    ahead: Arc<Ahead>,
    options: config::Fetch,
    memory: Arc<PageMemory>,
}

impl<S: Source> Clone for Fetcher<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Source> std::fmt::Debug for Fetcher<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("options", &self.0.options).finish_non_exhaustive()
    }
}

/// How often a page was planned, and whether the last time was with the newest state.
#[derive(Default)]
struct Plans {
    made: u32,
    newest: bool,
}

/// Why a page was not read at a view.
enum Miss {
    /// The start is above the high watermark.
    Above(Bounds),
    Failure(Failure),
}

impl<E: Into<Failure>> From<E> for Miss {
    fn from(error: E) -> Self {
        Self::Failure(error.into())
    }
}

impl<S: Source> Fetcher<S> {
    /// A fetcher of the shard of `source`.
    #[must_use]
    pub fn new(source: S, bucket: Bucket, cache: BlockCache, options: config::Fetch) -> Self {
        let shard = source.view().shard();
        Self(Arc::new(Inner {
            source,
            objects: Objects::new(bucket, cache, shard, options.bucket_deadline),
            ahead: Arc::new(Ahead::new()),
            memory: Arc::new(PageMemory::new(options.memory)),
            options,
        }))
    }

    /// A fetcher of another shard that shares the cache and the budgets of this one.
    #[must_use]
    pub fn beside(&self, source: S) -> Self {
        let shard = source.view().shard();
        Self(Arc::new(Inner {
            source,
            objects: self.0.objects.of_shard(shard),
            ahead: Arc::clone(&self.0.ahead),
            memory: Arc::clone(&self.0.memory),
            options: self.0.options.clone(),
        }))
    }

    /// Whether pages wait for memory that others hold.
    #[must_use]
    pub fn is_memory_scarce(&self) -> bool {
        self.0.memory.is_scarce()
    }

    /// Bytes of the memory of pages in use, and the budget.
    #[must_use]
    pub fn memory_usage(&self) -> (u64, u64) {
        self.0.memory.usage()
    }

    /// Holds `bytes` of the memory of pages for an answer that is longer than its pages account for.
    ///
    /// # Errors
    /// `overloaded` if others hold on to theirs for too long.
    pub async fn hold_answer(&self, bytes: u64) -> Result<Hold> {
        self.0.memory.hold(bytes).await
    }

    /// Reads a page of one partition of `topic`, waiting up to `request.wait` for the first record.
    ///
    /// # Errors
    /// `offset_expired` and `offset_out_of_range` with the bounds in their details, `topic_not_found`,
    /// `partition_not_found`, `invalid_parameter` for a range that is not flushed yet; `corrupt`; `unavailable`.
    pub async fn fetch(&self, topic: &Arc<Topic>, request: &FetchRequest) -> Result<FetchPage> {
        let partition = TopicPartition::new(topic.id, request.partition);
        let deadline = Instant::now() + request.wait;
        self.0.source.usable()?;
        let start = self.start(topic, partition, request).await?;
        let page = self.page(topic, partition, request, start).await?;
        if page.next_offset > page.start || request.wait.is_zero() || request.end.is_some() {
            return Ok(page);
        }
        let ready = |view: &State| look(view, partition).is_none_or(|found| found.bounds().high_watermark > page.start);
        wait_until(&self.0.source, &[partition], deadline, ready).await?;
        self.0.source.usable()?;
        // A `latest` that was resolved stays where it was.
        self.page(topic, partition, request, page.start).await
    }

    /// Returns once one of `positions` has a record at or after its offset, `done` holds (looked at about once a second),
    /// or `deadline` is over.
    ///
    /// # Errors
    /// `overloaded` if too many wait.
    pub async fn wait_for_data(
        &self,
        positions: &[(TopicPartition, Offset)],
        deadline: Instant,
        done: impl Fn(&State) -> bool + Send,
    ) -> Result<()> {
        let partitions: Vec<TopicPartition> = positions.iter().map(|(partition, _)| *partition).collect();
        let grown = move |view: &State| {
            let above = |(partition, offset): &(TopicPartition, Offset)| {
                look(view, *partition).is_none_or(|found| found.bounds().high_watermark > *offset)
            };
            positions.iter().any(above)
        };
        wait_until(&self.0.source, &partitions, deadline, move |view: &State| done(view) || grown(view)).await
    }

    /// The offset at which the request begins.
    async fn start(&self, topic: &Arc<Topic>, partition: TopicPartition, request: &FetchRequest) -> Result<Offset> {
        let view = self.0.source.view();
        let bounds = existing(&view, topic, partition)?.bounds();
        match request.from {
            FetchFrom::Offset(offset) => Ok(offset),
            _ if request.end.is_some() => {
                Err(invalid("offset", "a range that ends needs the offset at which it begins"))
            }
            FetchFrom::Earliest => Ok(bounds.log_start),
            FetchFrom::Latest => Ok(bounds.high_watermark),
            FetchFrom::Tail(count) => Ok(bounds.high_watermark.saturating_sub(count).max(bounds.log_start)),
            FetchFrom::Timestamp(timestamp) => {
                let give_up = Instant::now() + self.0.options.deadline;
                timeout_at(give_up, self.locate(topic, partition, timestamp)).await.unwrap_or_else(|_| Err(too_long()))
            }
        }
    }

    /// The lowest offset whose timestamp is at least `timestamp`, or the high watermark.
    async fn locate(&self, topic: &Arc<Topic>, partition: TopicPartition, timestamp: i64) -> Result<Offset> {
        let mut plans = Plans::default();
        loop {
            let view = self.0.source.view();
            let found = existing(&view, topic, partition)?;
            match self.pieces(&view, topic, partition, false).locate(found, timestamp).await {
                Ok(offset) => return Ok(offset.unwrap_or(found.bounds().high_watermark)),
                Err(failure) => self.again(failure, &mut plans).await?,
            }
        }
    }

    /// Reads the page that begins at `start`, which is empty if there is nothing yet.
    async fn page(
        &self,
        topic: &Arc<Topic>,
        partition: TopicPartition,
        request: &FetchRequest,
        start: Offset,
    ) -> Result<FetchPage> {
        let mut plans = Plans::default();
        let mut linearized = false;
        loop {
            let view = self.0.source.view();
            let above = match self.attempt(&view, topic, partition, (request, start)).await {
                Ok(page) => return Ok(page),
                Err(Miss::Failure(failure)) => {
                    self.again(failure, &mut plans).await?;
                    continue;
                }
                Err(Miss::Above(bounds)) => bounds,
            };
            if linearized {
                return Err(beyond(start, request.end, above));
            }
            // This node may be behind: only a linearizable look proves that there is no such offset.
            self.0.source.linearize().await?;
            linearized = true;
        }
    }

    /// Whether to plan again after `failure`. What is gone is `corrupt` only if the newest state names it: if nobody says which
    /// that is, it may have been replaced.
    async fn again(&self, failure: Failure, plans: &mut Plans) -> Result<()> {
        plans.made += 1;
        match failure {
            Failure::Gone(error) if plans.made < PLANS => {
                tracing::debug!(%error, "what was planned is gone, planning again");
                counter!(FETCH_REPLANS).increment(1);
                let linearized = self.0.source.linearize().await;
                plans.newest = linearized.is_ok();
                // Without a leader this node's own progress has to do, where it makes any.
                linearized.or_else(|_| self.0.source.usable())
            }
            Failure::Gone(error) if plans.newest => {
                let message = format!("{error}, and the newest state names it");
                Err(Error::corrupt(message).with_source(error))
            }
            Failure::Gone(error) => {
                let message = format!("{error}, and the shard has no leader that says whether it was replaced");
                Err(Error::unavailable(message).with_source(error))
            }
            Failure::Failed(error) => Err(error),
        }
    }

    async fn attempt(
        &self,
        view: &State,
        topic: &Arc<Topic>,
        partition: TopicPartition,
        (request, start): (&FetchRequest, Offset),
    ) -> Result<FetchPage, Miss> {
        let found = existing(view, topic, partition)?;
        let bounds = found.bounds();
        let start = match request.from {
            FetchFrom::Offset(_) if start < bounds.log_start => return Err(expired(start, bounds).into()),
            // What was resolved before a trim goes on at the log start.
            _ => start.max(bounds.log_start),
        };
        let end = request.end.unwrap_or(bounds.high_watermark);
        if start > bounds.high_watermark || request.end.is_some_and(|end| end > bounds.flushed) {
            return Err(Miss::Above(bounds));
        }
        if start > end {
            return Err(invalid("end", "the range ends before it begins").into());
        }
        let topic = view.topic(topic.id).unwrap_or(topic);
        let page = |(next_offset, chunks), hold| FetchPage {
            topic: Arc::clone(topic),
            start,
            next_offset,
            chunks,
            bounds,
            hold,
        };
        if start == end {
            return Ok(page((start, Vec::new()), Hold::default()));
        }
        let wanted =
            Wanted { start, end, max_records: request.max_records as u64, max_bytes: request.max_bytes as u64 };
        let follows = self.0.ahead.follows(partition, start);
        let (full, hold) = self.read(&self.pieces(view, topic, partition, follows), found, wanted).await?;
        topic_traffic(&topic.name, Direction::Fetched, full.0 - start, stored_bytes(&full.1));
        if full.0 < end {
            self.read_ahead(topic, partition, start, full.0);
        }
        Ok(page(full, hold))
    }

    /// Reads what `wanted` asks for: where it ends and its chunks, at least one.
    async fn read(
        &self,
        pieces: &Pieces<'_, S>,
        found: &PartitionState,
        wanted: Wanted,
    ) -> Result<((Offset, Vec<Chunk>), Hold), Failure> {
        let plan = plan(found, wanted);
        let from_bucket = plan.iter().any(|piece| !matches!(piece.source, Tier::Tail(_)));
        let share = self.0.memory.reserve(wanted.max_bytes, from_bucket).await?;
        let begun = Instant::now();
        let give_up = begun + self.0.options.deadline;
        let end = wanted.end.min(wanted.start.saturating_add(wanted.max_records.max(1)));
        let mut builder = PageBuilder::new(wanted.start, end, usize::try_from(wanted.max_bytes).unwrap_or(usize::MAX));
        let mut reads = stream::iter(plan)
            .map(|piece| async move {
                let read = pieces.read(&piece).await;
                (piece, read)
            })
            .buffered(PIECES);
        let mut failure = None;
        while failure.is_none() && !builder.is_full() {
            let Ok(next) = timeout_at(give_up, reads.next()).await else {
                failure = Some(too_long().into());
                break;
            };
            let Some((piece, read)) = next else { break };
            let PieceRead { chunks, failure: stopped } = read;
            for chunk in chunks {
                if !builder.is_full() {
                    builder.push(chunk)?;
                }
            }
            // Never jump over what a piece did not give.
            if stopped.is_none() && builder.next_offset() < piece.to {
                break;
            }
            failure = stopped;
        }
        histogram!(FETCH_SECONDS).record(begun.elapsed());
        if builder.is_empty() {
            let gap = || Error::internal(format!("no tier has offset {} of {}", wanted.start, pieces.partition));
            return Err(failure.unwrap_or_else(|| gap().into()));
        }
        let full = builder.finish();
        let hold = self.0.memory.keep(share, stored_bytes(&full.1)).await?;
        Ok((full, hold))
    }

    fn read_ahead(&self, topic: &Arc<Topic>, partition: TopicPartition, start: Offset, next: Offset) {
        let Some((bytes, permit)) = self.0.ahead.note(partition, start, next) else { return };
        let (fetcher, topic) = (self.clone(), Arc::clone(topic));
        let give_up = Instant::now() + self.0.options.deadline;
        tokio::spawn(async move {
            let view = fetcher.0.source.view();
            let _ = timeout_at(give_up, fetcher.pieces(&view, &topic, partition, true).warm(next, bytes)).await;
            drop(permit);
        });
    }

    fn pieces<'a>(
        &'a self,
        view: &'a State,
        topic: &'a Arc<Topic>,
        partition: TopicPartition,
        follows: bool,
    ) -> Pieces<'a, S> {
        Pieces { source: &self.0.source, objects: &self.0.objects, view, topic, partition, follows }
    }
}

/// The partition, if its topic is live.
fn look(view: &State, partition: TopicPartition) -> Option<&Arc<PartitionState>> {
    view.topic(partition.topic).filter(|topic| topic.deleted_at.is_none())?;
    view.partition(partition)
}

fn existing<'a>(view: &'a State, topic: &Topic, partition: TopicPartition) -> Result<&'a Arc<PartitionState>> {
    look(view, partition).ok_or_else(|| match view.topic(topic.id).filter(|topic| topic.deleted_at.is_none()) {
        None => Error::new(ErrorKind::NotFound, "topic_not_found", format!("topic {} does not exist", topic.name)),
        Some(topic) => {
            let (name, count) = (&topic.name, topic.settings.partitions);
            let message = format!("topic {name} has no partition {}, it has {count}", partition.partition);
            Error::new(ErrorKind::NotFound, "partition_not_found", message)
        }
    })
}

fn too_long() -> Error {
    Error::unavailable("reading took longer than fetch.deadline")
}

fn with_bounds(error: Error, bounds: Bounds) -> Error {
    error.with_number("log_start_offset", bounds.log_start).with_number("high_watermark", bounds.high_watermark)
}

fn expired(start: Offset, bounds: Bounds) -> Error {
    let message = format!("offset {start} was trimmed, the log starts at {}", bounds.log_start);
    with_bounds(Error::new(ErrorKind::OutOfRange, "offset_expired", message), bounds)
}

/// The error for a start above the high watermark or an end above the flushed offset.
fn beyond(start: Offset, end: Option<Offset>, bounds: Bounds) -> Error {
    let high_watermark = bounds.high_watermark;
    if start > high_watermark {
        let message = format!("offset {start} is above the high watermark {high_watermark}");
        return with_bounds(Error::new(ErrorKind::OutOfRange, "offset_out_of_range", message), bounds);
    }
    let message = format!("{} is above the flushed offset {}", end.unwrap_or_default(), bounds.flushed);
    with_bounds(invalid("end", &message), bounds).with_number("flushed_offset", bounds.flushed)
}

fn invalid(parameter: &'static str, message: &str) -> Error {
    Error::invalid("invalid_parameter", message).with_text("parameter", parameter)
}
