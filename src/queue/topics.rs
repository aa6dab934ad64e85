//! Topics: create, describe, list, alter, delete, undelete. A change is the catalog's, and visible once every shard of the topic knows it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::route::views;
use super::{Queue, SettingsPatch, partition_not_found};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::failpoint;
use crate::model::catalog::CATALOG_SHARD;
use crate::model::topic::{MAX_PARTITIONS, check_name};
use crate::model::{Answer, Control, NamedSettings, NodeId, ShardId, Topic, TopicDescription, TopicId, TopicSettings};
use crate::shard::Shard;
use crate::state::State;

/// How long a change of a topic waits until every shard knows it; then it takes effect later.
const CHANGE_DEADLINE: Duration = Duration::from_secs(10);

/// A topic changed by somebody else between reading and altering is read again this often.
const ALTER_ATTEMPTS: usize = 8;
/// Topics that one page of a listing may hold.
pub const MAX_TOPICS_PAGE: usize = 1_000;

impl Queue {
    /// Creates `name`, or finds that it exists and agrees with the members of `settings` that `named` marks; the flag
    /// says whether it was created.
    ///
    /// # Errors
    /// `invalid_topic_name`, `invalid_settings`, `topic_exists`, or the log's.
    pub async fn create_topic(
        &self,
        name: &str,
        settings: TopicSettings,
        named: NamedSettings,
    ) -> Result<(TopicDescription, bool)> {
        check_name(name).map_err(|what| Error::invalid("invalid_topic_name", what))?;
        check_settings(&settings)?;
        let id = TopicId(Uuid::new_v4());
        let control = Control::CreateTopic { id, name: name.to_owned(), settings, named };
        let deadline = Instant::now() + CHANGE_DEADLINE;
        let (id, created) = self.change(control, deadline).await?;
        let id = id.ok_or_else(|| Error::internal("apply created a topic without an id"))?;
        Ok((self.changed(id, name).await?, created))
    }

    /// Has the catalog change a topic, and returns once the change is visible: the topic, if apply says which, and whether it is
    /// new.
    async fn change(&self, control: Control, deadline: Instant) -> Result<(Option<TopicId>, bool)> {
        let (index, answer) = self.leader().control(control).await?;
        match answer {
            Answer::Topic { id, created } => Ok((Some(id), created)),
            Answer::TopicPending { id, created, .. } => {
                self.0.shards.tell(id, index, deadline).await?;
                Ok((Some(id), created))
            }
            Answer::Done => Ok((None, false)),
            other => Err(unexpected(&other)),
        }
    }

    /// What a topic is after a change that was answered: whatever goes wrong here, the change was made.
    async fn changed(&self, id: TopicId, name: &str) -> Result<TopicDescription> {
        let described = async {
            failpoint::hit_async("topic.changed").await?;
            self.describe_changed(id, name).await
        };
        described.await.map_err(|error| error.with_outcome(Outcome::Written))
    }

    async fn describe_changed(&self, id: TopicId, name: &str) -> Result<TopicDescription> {
        let look = || self.read(|state| state.topic(id).filter(|topic| topic.deleted_at.is_none()).cloned());
        let topic = match look() {
            Some(topic) => topic,
            // Seconds behind, or another change was faster.
            None => {
                self.linearize().await?;
                look().ok_or_else(|| topic_not_found(name))?
            }
        };
        self.describe_now(&topic).await
    }

    /// Describes a topic; with `topic_id`, only if it still is that one.
    ///
    /// # Errors
    /// `topic_not_found`, `topic_replaced`.
    pub async fn describe_topic(&self, name: &str, topic_id: Option<TopicId>) -> Result<TopicDescription> {
        self.linearize().await?;
        let topic = self.topic(name, topic_id)?;
        self.describe_now(&topic).await
    }

    /// Topics whose names start with `prefix`, after `start_after`, by name, at most `limit` (and at most
    /// [`MAX_TOPICS_PAGE`]); and whether there are more.
    ///
    /// # Errors
    /// The log's.
    pub async fn list_topics(&self, prefix: &str, start_after: &str, limit: usize) -> Result<(Vec<Arc<Topic>>, bool)> {
        self.linearize().await?;
        let view = self.view();
        let mut topics = view.topics(prefix, start_after);
        let page: Vec<Arc<Topic>> = topics.by_ref().take(limit.clamp(1, MAX_TOPICS_PAGE)).cloned().collect();
        Ok((page, topics.next().is_some()))
    }

    /// Changes settings. Growing the partitions needs `rekey`, since it moves keys.
    ///
    /// # Errors
    /// `topic_not_found`, `topic_replaced`, `invalid_settings`, `rekey_required`, or the log's.
    pub async fn alter_topic(
        &self,
        name: &str,
        topic_id: Option<TopicId>,
        patch: SettingsPatch,
    ) -> Result<TopicDescription> {
        let deadline = Instant::now() + CHANGE_DEADLINE;
        self.linearize().await?;
        let mut attempts = 0;
        let id = loop {
            let topic = self.topic(name, topic_id)?;
            // A change that is not visible yet is what this one comes after.
            let wanted = self.read(|state| state.wanted(topic.id).cloned()).unwrap_or(topic);
            let settings = patched(&wanted.settings, &patch)?;
            let control = Control::AlterTopic { id: wanted.id, expected: wanted.settings.clone(), settings };
            attempts += 1;
            match self.change(control, deadline).await {
                Ok(_) => break wanted.id,
                // Somebody else altered it meanwhile: decide again on what it is now.
                Err(error) if error.code() == "topic_exists" && attempts < ALTER_ATTEMPTS => {}
                Err(error) if error.code() == "topic_exists" => {
                    let message = "somebody else kept changing the topic's settings meanwhile";
                    return Err(Error::new(ErrorKind::Conflict, "settings_changed", message));
                }
                Err(error) => return Err(error),
            }
        };
        self.changed(id, name).await
    }

    /// Deletes a topic: its name is free at once, its data stays for the grace period. Answers its id.
    ///
    /// # Errors
    /// `topic_not_found`, `topic_replaced`, or the log's.
    pub async fn delete_topic(&self, name: &str, topic_id: Option<TopicId>) -> Result<TopicId> {
        let deadline = Instant::now() + CHANGE_DEADLINE;
        self.linearize().await?;
        let id = self.topic(name, topic_id)?.id;
        self.change(Control::DeleteTopic { id }, deadline).await?;
        Ok(id)
    }

    /// Brings back the newest deleted topic of that name.
    ///
    /// # Errors
    /// `topic_not_found` if there is none any more, `topic_exists` if the name was taken meanwhile, or the log's.
    pub async fn undelete_topic(&self, name: &str) -> Result<TopicDescription> {
        let deadline = Instant::now() + CHANGE_DEADLINE;
        let (id, _) = self.change(Control::UndeleteTopic { name: name.to_owned() }, deadline).await?;
        match id {
            Some(id) => self.changed(id, name).await,
            None => self.describe_topic(name, None).await.map_err(|error| error.with_outcome(Outcome::Written)),
        }
    }

    /// The live topic of that name.
    pub(super) fn topic(&self, name: &str, topic_id: Option<TopicId>) -> Result<Arc<Topic>> {
        self.read(|state| find(state, name, topic_id).cloned())
    }

    /// The live topic of that name, with `partition` if one is named. One of several nodes may not have heard of it yet: it
    /// looks again once it has all that was committed.
    pub(super) async fn topic_with(
        &self,
        name: &str,
        topic_id: Option<TopicId>,
        partition: Option<u32>,
    ) -> Result<Arc<Topic>> {
        let look = || {
            let topic = self.topic(name, topic_id)?;
            let count = topic.settings.partitions;
            match partition.filter(|partition| *partition >= count) {
                Some(partition) => Err(partition_not_found(&topic.name, partition, count)),
                None => Ok(topic),
            }
        };
        if self.leader().usable().is_err() {
            Box::pin(self.linearize()).await?;
        }
        match look() {
            Err(_) if !self.is_sole_voter() => {
                // Boxed: it is rare, and every produce would carry it around.
                Box::pin(self.linearize()).await?;
                look()
            }
            found => found,
        }
    }

    /// The topic with its partitions as of now.
    async fn describe_now(&self, topic: &Arc<Topic>) -> Result<TopicDescription> {
        let shards = self.shards_of(topic.id)?;
        // That of the catalog is looked at already.
        let others: Vec<&Shard> = shards.iter().copied().filter(|shard| shard.id() != CATALOG_SHARD).collect();
        self.linearize_all(&others).await?;
        self.describe(topic, &views(&shards))
    }

    /// The topic with its partitions as `views` of its shards know them.
    pub(super) fn describe(&self, topic: &Arc<Topic>, views: &[State]) -> Result<TopicDescription> {
        let leader = |shard: ShardId| self.shard(shard).ok()?.leader().node().leadership().borrow().leader;
        let leaders: Vec<(ShardId, Option<NodeId>)> =
            views.iter().map(|view| (view.shard(), leader(view.shard()))).collect();
        let partitions = self.by_partition(topic, views, |view, id| {
            let leader = leaders.iter().find(|(shard, _)| *shard == view.shard()).and_then(|(_, leader)| *leader);
            Some((view.partition(id)?.bounds(), leader))
        });
        let (partitions, leaders) = partitions?.into_iter().unzip();
        Ok(TopicDescription { topic: Arc::clone(topic), partitions, leaders })
    }
}

/// The live topic of that name, if it still has the id that the caller knows.
pub(super) fn find<'a>(state: &'a State, name: &str, topic_id: Option<TopicId>) -> Result<&'a Arc<Topic>> {
    let topic = state.topic_by_name(name).ok_or_else(|| topic_not_found(name))?;
    match topic_id {
        Some(known) if known != topic.id => {
            let message = format!("topic {name} is another one now: it was deleted and created again");
            Err(Error::new(ErrorKind::Conflict, "topic_replaced", message).with_text("topic_id", topic.id.to_string()))
        }
        _ => Ok(topic),
    }
}

pub(super) fn topic_not_found(name: &str) -> Error {
    let message = format!("topic {name} does not exist; create it with: tidelog topic create {name}");
    Error::new(ErrorKind::NotFound, "topic_not_found", message)
}

fn unexpected(answer: &Answer) -> Error {
    Error::internal(format!("apply answered {answer:?} to a command that has no such answer"))
}

fn check_settings(settings: &TopicSettings) -> Result<()> {
    let wrong = |what: &str| Err(Error::invalid("invalid_settings", what));
    if settings.partitions == 0 || settings.partitions > MAX_PARTITIONS {
        return wrong("partitions must be between 1 and 10000");
    }
    if settings.retention_ms == Some(0) {
        return wrong("retention_ms must be above 0, or null to keep records for ever");
    }
    if settings.retention_bytes == Some(0) {
        return wrong("retention_bytes must be above 0, or null for no bound");
    }
    if let Some(archive) = settings.archive_retention_ms {
        if archive == 0 {
            return wrong("archive_retention_ms must be above 0, or null for as long as the log");
        }
        // Reads of the log go to the archive files, so these cannot go first.
        if settings.retention_ms.is_some_and(|log| archive < log) {
            return wrong("archive_retention_ms must not be below retention_ms");
        }
    }
    Ok(())
}

fn patched(current: &TopicSettings, patch: &SettingsPatch) -> Result<TopicSettings> {
    let mut settings = current.clone();
    if let Some(partitions) = patch.partitions {
        if partitions > current.partitions && !patch.rekey {
            let message = "growing the partitions moves keys to other partitions; confirm it with \"rekey\": true";
            return Err(Error::invalid("rekey_required", message));
        }
        settings.partitions = partitions;
    }
    settings.retention_ms = patch.retention_ms.unwrap_or(current.retention_ms);
    settings.retention_bytes = patch.retention_bytes.unwrap_or(current.retention_bytes);
    settings.archive_retention_ms = patch.archive_retention_ms.unwrap_or(current.archive_retention_ms);
    settings.archive_after_ms = patch.archive_after_ms.unwrap_or(current.archive_after_ms);
    settings.compression = patch.compression.unwrap_or(current.compression);
    settings.timestamp_max_ahead_ms = patch.timestamp_max_ahead_ms.unwrap_or(current.timestamp_max_ahead_ms);
    check_settings(&settings)?;
    Ok(settings)
}
