//! Flushing a topic on request, and listing its archive.

use std::time::Duration;

use tokio::time::Instant;

use super::Queue;
use super::topics::find;
use crate::error::Result;
use crate::model::{ArchiveListing, Bounds, FlushProgress, ListedFile, Offset, Place, TopicId};
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
        let view = self.view();
        let topic = find(&view, name, topic_id)?;
        let id = topic.id;
        let targets: Vec<Offset> = view.partitions_of(id).map(|partition| partition.bounds().high_watermark).collect();
        if archive {
            self.0.shard.request_archive(id, (0..).zip(targets.iter().copied()).collect());
        }
        let flushed = tokio::time::timeout_at(deadline, self.flusher().flushed(view.applied())).await;
        if matches!(flushed, Ok(Ok(()))) && archive {
            self.wait_archived(id, &targets, deadline).await;
        }
        self.read(|state| {
            let topic = self.description(state, find(state, name, Some(id))?);
            let reached = |bounds: &Bounds| if archive { bounds.archived } else { bounds.flushed };
            let done = topic.partitions.iter().zip(&targets).all(|(bounds, target)| reached(bounds) >= *target);
            Ok(FlushProgress { done, topic, targets })
        })
    }

    async fn wait_archived(&self, topic: TopicId, targets: &[Offset], deadline: Instant) {
        let mut applied = self.leader().node().applied();
        loop {
            let done = self.read(|state| {
                let mut partitions = state.partitions_of(topic).zip(targets);
                partitions.all(|(partition, target)| partition.bounds().archived >= *target)
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

    /// Lists archive files after key `start_after`, at most `limit`, whose newest record is at least `min_timestamp`; by
    /// key within one append day, days in order. One consistent version; costs O(files of the topic).
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
        let view = self.view();
        let topic = find(&view, name, topic_id)?;
        let mut files: Vec<ListedFile> = view
            .files_of(topic.id, None)
            .filter(|live| min_timestamp.is_none_or(|least| live.file.max_timestamp >= least))
            .map(|live| {
                let key = Key::Archive(ArchiveKey {
                    namespace: topic.namespace.clone(),
                    topic: topic.name.clone(),
                    topic_id: topic.id,
                    day: live.file.day,
                    shard: view.shard(),
                    id: live.file.id,
                });
                let key = key.to_string();
                let url = self.bucket().url_of(&key);
                ListedFile { file: live.file.clone(), key, url, partitions: Vec::new() }
            })
            .filter(|listed| listed.key.as_str() > start_after)
            .collect();
        files.sort_unstable_by(|left, right| left.key.cmp(&right.key));
        let has_more = files.len() > limit.clamp(1, MAX_FILES_PAGE);
        files.truncate(limit.clamp(1, MAX_FILES_PAGE));
        add_partitions(&view, topic.id, &mut files);
        let archived = view.partitions_of(topic.id).map(|partition| partition.bounds().archived).collect();
        let grace = u64::try_from(self.config().gc.grace.as_millis()).unwrap_or(u64::MAX);
        let valid_until_ms = self.clock().wall().saturating_add(grace);
        Ok(ArchiveListing { files, has_more, archived, valid_until_ms })
    }
}

/// Says which live ranges are in each of `files`.
fn add_partitions(view: &State, topic: TopicId, files: &mut [ListedFile]) {
    let index: std::collections::HashMap<_, _> =
        files.iter().enumerate().map(|(at, listed)| (listed.file.id, at)).collect();
    for partition in view.partitions_of(topic) {
        let log_start = partition.bounds().log_start;
        for range in partition.ranges().iter() {
            if let Place::Archive { file } = range.place
                && let Some(at) = index.get(&file)
            {
                let start = range.start.max(log_start);
                files[*at].partitions.push((partition.id().partition, start, range.end));
            }
        }
    }
}
