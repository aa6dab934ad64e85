//! Fetch, and waiting for what is to be fetched.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::Queue;
use crate::error::{ErrorKind, Result};
use crate::fetch::Fetcher;
use crate::model::catalog::CATALOG_SHARD;
use crate::model::{FetchFrom, FetchPage, FetchRequest, Hold, Offset, ShardId, Topic, TopicId, TopicPartition};
use crate::shard::Shard;
use crate::state::State;

impl Queue {
    /// Reads a page of one partition, waiting up to `request.wait` for its first record.
    ///
    /// # Errors
    /// `topic_not_found`, `topic_replaced`, `partition_not_found`; `offset_expired` and `offset_out_of_range` with the bounds
    /// in their details; `corrupt`, `unavailable`, `overloaded`.
    pub async fn fetch(&self, request: FetchRequest) -> Result<FetchPage> {
        self.fetch_known(&request, may_reach_the_end).await
    }

    /// Fetches of what this node knows under the name, after a linearizable look at the shard where `at_end` asks for one. That
    /// there is no such topic or partition is said only after one at the catalog and at the shard, whoever asks: the name may be
    /// another topic's by now, and the shard may be behind the catalog.
    pub(super) async fn fetch_known(
        &self,
        request: &FetchRequest,
        at_end: impl Fn(&Shard, &Topic, &FetchRequest) -> bool,
    ) -> Result<FetchPage> {
        let begun = Instant::now();
        let topic = self.topic_with(&request.topic, request.topic_id, Some(request.partition)).await?;
        let shard = self.shard_of(&topic, request.partition)?;
        if !shard.is_sole_voter() && at_end(shard, &topic, request) {
            shard.leader().node().linearize().await?;
        }
        match self.fetcher(shard)?.fetch(&topic, request).await {
            // Boxed: it is rare, and every fetch would carry it around.
            Err(error) if error.kind() == ErrorKind::NotFound && !self.is_sole_voter() => {
                Box::pin(self.fetch_newest(request, begun)).await
            }
            fetched => fetched,
        }
    }

    async fn fetch_newest(&self, request: &FetchRequest, begun: Instant) -> Result<FetchPage> {
        self.linearize().await?;
        let topic = self.topic_with(&request.topic, request.topic_id, Some(request.partition)).await?;
        let shard = self.shard_of(&topic, request.partition)?;
        shard.leader().node().linearize().await?;
        // It waits no longer than it was to.
        let wait = request.wait.saturating_sub(begun.elapsed());
        self.fetcher(shard)?.fetch(&topic, &FetchRequest { wait, ..request.clone() }).await
    }

    /// Whether pages wait for memory that others hold until they are sent.
    #[must_use]
    pub fn is_page_memory_scarce(&self) -> bool {
        // All share one budget.
        self.0.fetchers.get(CATALOG_SHARD).is_some_and(Fetcher::is_memory_scarce)
    }

    /// Bytes of the memory of pages in use, and the budget, which all shards share.
    pub(super) fn fetch_memory(&self) -> (u64, u64) {
        let fetcher = self.fetcher(self.0.shards.zero());
        fetcher.map_or((0, self.config().fetch.memory), |fetcher| fetcher.memory_usage())
    }

    /// Holds `bytes` of the memory of pages for an answer that is longer than its pages account for, which is twice their
    /// stored bytes.
    ///
    /// # Errors
    /// `overloaded` if others hold on to theirs for too long.
    pub async fn hold_answer(&self, bytes: u64) -> Result<Hold> {
        // All share one budget.
        self.fetcher(self.0.shards.zero())?.hold_answer(bytes).await
    }

    /// Returns once one of `positions` (partition, offset) of the topic has a record at or after its offset, the topic has
    /// more than `known_partitions` partitions, is gone, or `wait` is over.
    ///
    /// # Errors
    /// `overloaded` if too many wait.
    pub async fn wait_for_data(
        &self,
        topic: TopicId,
        positions: &[(u32, Offset)],
        known_partitions: u32,
        wait: Duration,
    ) -> Result<()> {
        let changed = |view: &State| {
            view.topic(topic)
                .is_none_or(|topic| topic.deleted_at.is_some() || topic.settings.partitions > known_partitions)
        };
        let deadline = Instant::now() + wait;
        self.leader().usable()?;
        let mut by_shard = self.by_shard(topic, positions)?;
        if let [(shard, positions)] = by_shard.as_slice()
            && shard.id() == CATALOG_SHARD
        {
            return self.fetcher(shard)?.wait_for_data(positions, deadline, changed).await;
        }
        if by_shard.is_empty() {
            // Nothing but a change of the topic ends it.
            by_shard.push((self.0.shards.zero(), Vec::new()));
        }
        // Whichever has something first; what the catalog says of the topic each of them looks at as well.
        let waits = by_shard.iter().map(|(shard, positions)| async move {
            let done = |_: &State| self.read(changed);
            self.fetcher(shard)?.wait_for_data(positions, deadline, done).await
        });
        let mut waits: FuturesUnordered<_> = waits.collect();
        waits.next().await.unwrap_or(Ok(()))
    }

    /// The positions of each shard that has any; those of partitions that are nowhere are left out.
    fn by_shard(&self, topic: TopicId, positions: &[(u32, Offset)]) -> Result<Vec<(&Shard, Positions)>> {
        let mut by_shard: BTreeMap<ShardId, Positions> = BTreeMap::new();
        let single = self.0.shards.is_single();
        for (partition, offset) in positions {
            let partition = TopicPartition::new(topic, *partition);
            let shard = if single { Some(CATALOG_SHARD) } else { self.read(|state| state.shard_of(partition)) };
            if let Some(shard) = shard {
                by_shard.entry(shard).or_default().push((partition, *offset));
            }
        }
        by_shard.into_iter().map(|(shard, positions)| Ok((self.shard(shard)?, positions))).collect()
    }
}

type Positions = Vec<(TopicPartition, Offset)>;

/// Whether the answer depends on what was committed last, which another node may know better: a page that ends at the high
/// watermark says that there is nothing more. Below the one that this node knows nothing ever changes.
fn may_reach_the_end(shard: &Shard, topic: &Topic, request: &FetchRequest) -> bool {
    let FetchFrom::Offset(offset) = request.from else { return true };
    let partition = TopicPartition::new(topic.id, request.partition);
    shard.leader().node().with_state(|state| {
        state.partition(partition).is_none_or(|found| match request.end {
            Some(end) => found.bounds().flushed < end,
            None => found.bounds().high_watermark <= offset.saturating_add(request.max_records as u64),
        })
    })
}
