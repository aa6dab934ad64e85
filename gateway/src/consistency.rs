//! `?consistency=`: whether a read asks the leader what was committed last, or answers what its own node knows.

use std::sync::Arc;

use tidelog::error::Result;
use tidelog::model::{FetchPage, FetchRequest, Topic, TopicDescription, TopicId};
use tidelog::queue::Queue;

use crate::error::{ApiError, Result as ApiResult};
use crate::params::Params;

/// How new an answer has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Consistency {
    /// As new as the newest acknowledged record.
    #[default]
    Linearizable,
    /// What the node knows: it may be behind, and needs no leader.
    Any,
}

impl Consistency {
    /// Takes the parameter; absent means linearizable.
    pub(crate) fn take(params: &mut Params) -> ApiResult<Self> {
        match params.text("consistency").as_deref() {
            None | Some("linearizable") => Ok(Self::Linearizable),
            Some("any") => Ok(Self::Any),
            Some(_) => Err(ApiError::parameter("consistency", "the parameter consistency is linearizable or any")),
        }
    }

    /// Fetches a page of one partition.
    pub(crate) async fn fetch(self, queue: &Queue, request: FetchRequest) -> Result<FetchPage> {
        match self {
            Self::Linearizable => queue.fetch(request).await,
            Self::Any => queue.fetch_any(request).await,
        }
    }

    /// Describes a topic.
    pub(crate) async fn describe(self, queue: &Queue, name: &str, id: Option<TopicId>) -> Result<TopicDescription> {
        match self {
            Self::Linearizable => queue.describe_topic(name, id).await,
            Self::Any => queue.describe_topic_any(name, id).await,
        }
    }

    /// Topics by name; and whether there are more.
    pub(crate) async fn list(
        self,
        queue: &Queue,
        (prefix, start_after): (&str, &str),
        limit: usize,
    ) -> Result<(Vec<Arc<Topic>>, bool)> {
        match self {
            Self::Linearizable => queue.list_topics(prefix, start_after, limit).await,
            Self::Any => queue.list_topics_any(prefix, start_after, limit),
        }
    }
}
