//! Fetch, and waiting for what is to be fetched.

use std::time::Duration;

use tokio::time::Instant;

use super::Queue;
use crate::error::Result;
use crate::model::{FetchFrom, FetchPage, FetchRequest, Offset, Topic, TopicId, TopicPartition};

impl Queue {
    /// Reads a page of one partition, waiting up to `request.wait` for its first record.
    ///
    /// # Errors
    /// `topic_not_found`, `topic_replaced`, `partition_not_found`; `offset_expired` and `offset_out_of_range` with the bounds
    /// in their details; `corrupt`, `unavailable`, `overloaded`.
    pub async fn fetch(&self, request: FetchRequest) -> Result<FetchPage> {
        let topic = self.topic_with(&request.topic, request.topic_id, Some(request.partition)).await?;
        if !self.is_sole_voter() && self.may_reach_the_end(&topic, &request) {
            self.linearize().await?;
        }
        self.0.fetcher.fetch(&topic, &request).await
    }

    /// Whether the answer depends on what was committed last, which another node may know better: a page that ends at the high
    /// watermark says that there is nothing more. Below the one that this node knows nothing ever changes.
    fn may_reach_the_end(&self, topic: &Topic, request: &FetchRequest) -> bool {
        let FetchFrom::Offset(offset) = request.from else { return true };
        let partition = TopicPartition::new(topic.id, request.partition);
        self.read(|state| {
            state.partition(partition).is_none_or(|found| match request.end {
                Some(end) => found.bounds().flushed < end,
                None => found.bounds().high_watermark <= offset.saturating_add(request.max_records as u64),
            })
        })
    }

    /// Whether pages wait for memory that others hold until they are sent.
    #[must_use]
    pub fn is_page_memory_scarce(&self) -> bool {
        self.0.fetcher.is_memory_scarce()
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
        let positions: Vec<(TopicPartition, Offset)> =
            positions.iter().map(|(partition, offset)| (TopicPartition::new(topic, *partition), *offset)).collect();
        let changed = move |view: &crate::state::State| {
            view.topic(topic)
                .is_none_or(|topic| topic.deleted_at.is_some() || topic.settings.partitions > known_partitions)
        };
        self.0.fetcher.wait_for_data(&positions, Instant::now() + wait, changed).await
    }
}
