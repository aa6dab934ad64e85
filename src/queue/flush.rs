//! Flushing a topic on request, and listing its archive.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::Queue;
use super::route::views;
use crate::error::Result;
use crate::model::{
    ArchiveFile, ArchiveListing, Bounds, FlushProgress, ListedFile, LogIndex, Offset, Place, TopicId, TopicPartition,
};
use crate::shard::Shard;
use crate::state::State;
use crate::store::keys::{ArchiveKey, Key};

/// Archive files that one page of a listing may hold.
pub const MAX_FILES_PAGE: usize = 1_000;

impl Queue {
    /// Flushes (and archives) all that is below the high watermarks now, waiting at most `wait`.
    ///
    /// # Errors
    /// `topic_not_found`, `topic_replaced`, or the log's. A bucket that is away is no error: the progress says how far it got.
    pub async fn flush_topic(
        &self,
        name: &str,
        topic_id: Option<TopicId>,
        archive: bool,
        wait: Duration,
    ) -> Result<FlushProgress> {
        let deadline = Instant::now() + wait;
        self.linearize().await?;
        let topic = self.topic(name, topic_id)?;
        let shards = self.shards_of(topic.id)?;
        self.linearize_all(&shards).await?;
        let views = views(&shards);
        let targets =
            self.by_partition(&topic, &views, |view, id| Some(view.partition(id)?.bounds().high_watermark))?;
        let parts = shards.iter().zip(&views).map(|(shard, view)| Part {
            shard,
            applied: view.applied(),
            targets: (0..)
                .zip(&targets)
                .filter_map(|(partition, target)| {
                    view.partition(TopicPartition::new(topic.id, partition)).map(|_| (partition, *target))
                })
                .collect(),
        });
        join_all(parts.map(|part| part.flush(topic.id, archive, deadline))).await;
        let topic = self.topic(name, Some(topic.id))?;
        let topic = self.describe(&topic, &self::views(&shards))?;
        let reached = |bounds: &Bounds| if archive { bounds.archived } else { bounds.flushed };
        let done = topic.partitions.iter().zip(&targets).all(|(bounds, target)| reached(bounds) >= *target);
        Ok(FlushProgress { done, topic, targets })
    }

    /// Lists archive files after key `start_after`, at most `limit`, whose newest record is at least `min_timestamp`; by
    /// key within one append day, days in order. One consistent version of each shard; costs O(files of the topic).
    ///
    /// # Errors
    /// `topic_not_found`, `topic_replaced`.
    pub async fn archive_files(
        &self,
        name: &str,
        topic_id: Option<TopicId>,
        start_after: &str,
        limit: usize,
        min_timestamp: Option<i64>,
    ) -> Result<ArchiveListing> {
        self.linearize().await?;
        let topic = self.topic(name, topic_id)?;
        let shards = self.shards_of(topic.id)?;
        self.linearize_all(&shards).await?;
        let views = views(&shards);
        let listed = |view: &State, file: &ArchiveFile| {
            let key = Key::Archive(ArchiveKey {
                namespace: topic.namespace.clone(),
                topic: topic.name.clone(),
                topic_id: topic.id,
                day: file.day,
                shard: view.shard(),
                id: file.id,
            });
            let key = key.to_string();
            let url = self.bucket().url_of(&key);
            ListedFile { file: file.clone(), key, url, partitions: Vec::new() }
        };
        let late = |file: &ArchiveFile| min_timestamp.is_none_or(|least| file.max_timestamp >= least);
        let mut files: Vec<ListedFile> = Vec::new();
        for view in &views {
            let live = view.files_of(topic.id, None).map(|live| &live.file).filter(|file| late(file));
            files.extend(live.map(|file| listed(view, file)).filter(|listed| listed.key.as_str() > start_after));
        }
        files.sort_unstable_by(|left, right| left.key.cmp(&right.key));
        let has_more = files.len() > limit.clamp(1, MAX_FILES_PAGE);
        files.truncate(limit.clamp(1, MAX_FILES_PAGE));
        views.iter().for_each(|view| add_partitions(view, topic.id, &mut files));
        let archived = self.by_partition(&topic, &views, |view, id| {
            let partition = view.partition(id)?;
            Some((partition.archive_start(), partition.bounds().archived))
        })?;
        let grace = u64::try_from(self.config().gc.grace.as_millis()).unwrap_or(u64::MAX);
        let valid_until_ms = self.clock().wall().saturating_add(grace);
        Ok(ArchiveListing { files, has_more, archived, valid_until_ms })
    }
}

/// What of a flush is one shard's.
struct Part<'a> {
    shard: &'a Shard,
    applied: LogIndex,
    /// Its partitions and how far they are to be flushed.
    targets: Vec<(u32, Offset)>,
}

impl Part<'_> {
    /// Returns once it is done, or at the deadline.
    async fn flush(self, topic: TopicId, archive: bool, deadline: Instant) {
        if archive {
            self.shard.request_archive(topic, self.targets.clone());
        }
        let flushed = tokio::time::timeout_at(deadline, self.shard.flush().flushed(self.applied)).await;
        if matches!(flushed, Ok(Ok(()))) && archive {
            self.wait_archived(topic, deadline).await;
        }
    }

    async fn wait_archived(&self, topic: TopicId, deadline: Instant) {
        let node = self.shard.leader().node();
        let mut applied = node.applied();
        loop {
            let done = node.with_state(|state| {
                self.targets.iter().all(|(partition, target)| {
                    let partition = state.partition(TopicPartition::new(topic, *partition));
                    partition.is_none_or(|partition| partition.bounds().archived >= *target)
                })
            });
            if done {
                return;
            }
            match tokio::time::timeout_at(deadline, applied.changed()).await {
                Ok(Ok(())) => {}
                _ => return,
            }
        }
    }
}

/// Says which live ranges of `view` are in each of `files`.
fn add_partitions(view: &State, topic: TopicId, files: &mut [ListedFile]) {
    let index: std::collections::HashMap<_, _> =
        files.iter().enumerate().map(|(at, listed)| (listed.file.id, at)).collect();
    for partition in view.partitions_of(topic) {
        let archive_start = partition.archive_start();
        for range in partition.ranges().iter() {
            if let Place::Archive { file } = range.place
                && let Some(at) = index.get(&file)
            {
                let start = range.start.max(archive_start);
                files[*at].partitions.push((partition.id().partition, start, range.end));
            }
        }
    }
}
