//! Reads of what this node itself knows (`?consistency=any`): no leader is asked, so they go on without one and may be behind. What
//! they show was committed: a state has applied nothing else.
//!
//! That something does not exist is said only after a linearizable look all the same: what is behind cannot know it.

use super::{MAX_TOPICS_PAGE, Queue};
use crate::error::Result;
use crate::model::{FetchPage, FetchRequest, TopicDescription, TopicId};

impl Queue {
    /// As [`Queue::fetch`], up to the high watermark that this node knows.
    ///
    /// # Errors
    /// Those of [`Queue::fetch`].
    pub async fn fetch_any(&self, request: FetchRequest) -> Result<FetchPage> {
        let topic = self.topic_with(&request.topic, request.topic_id, Some(request.partition)).await?;
        self.0.fetcher.fetch(&topic, &request).await
    }

    /// As [`Queue::describe_topic`], as this node knows it.
    ///
    /// # Errors
    /// Those of [`Queue::describe_topic`].
    pub async fn describe_topic_any(&self, name: &str, topic_id: Option<TopicId>) -> Result<TopicDescription> {
        let topic = self.topic_with(name, topic_id, None).await?;
        // With the settings that go with its partitions.
        Ok(self.read(|state| self.description(state, state.topic(topic.id).unwrap_or(&topic))))
    }

    /// As [`Queue::list_topics`], as this node knows them.
    #[must_use]
    pub fn list_topics_any(&self, prefix: &str, start_after: &str, limit: usize) -> (Vec<TopicDescription>, bool) {
        let view = self.view();
        let mut topics = view.topics(prefix, start_after);
        let limit = limit.clamp(1, MAX_TOPICS_PAGE);
        let page = topics.by_ref().take(limit).map(|topic| self.description(&view, topic)).collect();
        (page, topics.next().is_some())
    }
}
