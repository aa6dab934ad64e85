//! Reads of what this node itself knows (`?consistency=any`): no leader is asked, so they go on without one and may be behind. What
//! they show was committed: a state has applied nothing else.
//!
//! That something does not exist is said only after a linearizable look all the same: what is behind cannot know it.

use std::sync::Arc;

use super::route::views;
use super::{MAX_TOPICS_PAGE, Queue};
use crate::error::Result;
use crate::model::{FetchPage, FetchRequest, Topic, TopicDescription, TopicId};

impl Queue {
    /// As [`Queue::fetch`], up to the high watermark that this node knows.
    ///
    /// # Errors
    /// Those of [`Queue::fetch`].
    pub async fn fetch_any(&self, request: FetchRequest) -> Result<FetchPage> {
        self.fetch_known(&request, |_, _, _| false).await
    }

    /// As [`Queue::describe_topic`], as this node knows it.
    ///
    /// # Errors
    /// Those of [`Queue::describe_topic`].
    pub async fn describe_topic_any(&self, name: &str, topic_id: Option<TopicId>) -> Result<TopicDescription> {
        let topic = self.topic_with(name, topic_id, None).await?;
        let shards = self.shards_of(topic.id)?;
        if shards.iter().any(|shard| shard.leader().usable().is_err()) {
            return self.describe_topic(name, topic_id).await;
        }
        match self.describe(&topic, &views(&shards)) {
            // A shard is further behind than the catalog.
            Err(_) => self.describe_topic(name, topic_id).await,
            described => described,
        }
    }

    /// As [`Queue::list_topics`], as this node knows them.
    ///
    /// # Errors
    /// `unavailable` on a gateway that has had no contact for too long.
    pub fn list_topics_any(&self, prefix: &str, start_after: &str, limit: usize) -> Result<(Vec<Arc<Topic>>, bool)> {
        self.leader().usable()?;
        let view = self.view();
        let mut topics = view.topics(prefix, start_after);
        let page = topics.by_ref().take(limit.clamp(1, MAX_TOPICS_PAGE)).cloned().collect();
        Ok((page, topics.next().is_some()))
    }
}
