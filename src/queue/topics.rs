//! Topics: create, describe, list, alter, delete, undelete.

use std::sync::Arc;

use uuid::Uuid;

use super::{Queue, SettingsPatch, partition_not_found};
use crate::error::{Error, ErrorKind, Result};
use crate::model::topic::{MAX_PARTITIONS, check_name};
use crate::model::{Answer, Control, NamedSettings, Topic, TopicDescription, TopicId, TopicSettings};
use crate::state::State;

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
        match self.leader().control(control).await?.1 {
            Answer::Topic { id, created } => {
                let description = self.read(|state| state.topic(id).map(|topic| self.description(state, topic)));
                Ok((description.ok_or_else(|| topic_not_found(name))?, created))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Describes a topic; with `topic_id`, only if it still is that one.
    ///
    /// # Errors
    /// `topic_not_found`, `topic_replaced`.
    pub async fn describe_topic(&self, name: &str, topic_id: Option<TopicId>) -> Result<TopicDescription> {
        self.linearize().await?;
        self.read(|state| Ok(self.description(state, find(state, name, topic_id)?)))
    }

    /// Topics whose names start with `prefix`, after `start_after`, by name, at most `limit` (and at most
    /// [`MAX_TOPICS_PAGE`]); and whether there are more.
    ///
    /// # Errors
    /// The log's.
    pub async fn list_topics(
        &self,
        prefix: &str,
        start_after: &str,
        limit: usize,
    ) -> Result<(Vec<TopicDescription>, bool)> {
        self.linearize().await?;
        let view = self.view();
        let mut topics = view.topics(prefix, start_after);
        let page: Vec<_> =
            topics.by_ref().take(limit.clamp(1, MAX_TOPICS_PAGE)).map(|topic| self.description(&view, topic)).collect();
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
        self.linearize().await?;
        let mut attempts = 0;
        loop {
            let topic = self.topic(name, topic_id)?;
            let settings = patched(&topic.settings, &patch)?;
            let control = Control::AlterTopic { id: topic.id, expected: topic.settings.clone(), settings };
            attempts += 1;
            match self.leader().control(control).await {
                Ok(_) => break,
                // Somebody else altered it meanwhile: decide again on what it is now.
                Err(error) if error.code() == "topic_exists" && attempts < ALTER_ATTEMPTS => {}
                Err(error) if error.code() == "topic_exists" => {
                    let message = "somebody else kept changing the topic's settings meanwhile";
                    return Err(Error::new(ErrorKind::Conflict, "settings_changed", message));
                }
                Err(error) => return Err(error),
            }
        }
        self.read(|state| Ok(self.description(state, find(state, name, topic_id)?)))
    }

    /// Deletes a topic: its name is free at once, its data stays for the grace period. Answers its id.
    ///
    /// # Errors
    /// `topic_not_found`, `topic_replaced`, or the log's.
    pub async fn delete_topic(&self, name: &str, topic_id: Option<TopicId>) -> Result<TopicId> {
        self.linearize().await?;
        let id = self.topic(name, topic_id)?.id;
        self.leader().control(Control::DeleteTopic { id }).await?;
        Ok(id)
    }

    /// Brings back the newest deleted topic of that name.
    ///
    /// # Errors
    /// `topic_not_found` if there is none any more, `topic_exists` if the name was taken meanwhile, or the log's.
    pub async fn undelete_topic(&self, name: &str) -> Result<TopicDescription> {
        self.leader().control(Control::UndeleteTopic { name: name.to_owned() }).await?;
        self.read(|state| Ok(self.description(state, find(state, name, None)?)))
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
        match look() {
            Err(_) if !self.is_sole_voter() => {
                // Boxed: it is rare, and every produce would carry it around.
                Box::pin(self.linearize()).await?;
                look()
            }
            found => found,
        }
    }

    pub(super) fn description(&self, state: &State, topic: &Arc<Topic>) -> TopicDescription {
        let partitions = state.partitions_of(topic.id).map(|partition| partition.bounds()).collect();
        TopicDescription { topic: Arc::clone(topic), partitions, leader: self.leader().node().status().leader }
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
    settings.archive_after_ms = patch.archive_after_ms.unwrap_or(current.archive_after_ms);
    settings.compression = patch.compression.unwrap_or(current.compression);
    settings.timestamp_max_ahead_ms = patch.timestamp_max_ahead_ms.unwrap_or(current.timestamp_max_ahead_ms);
    check_settings(&settings)?;
    Ok(settings)
}
