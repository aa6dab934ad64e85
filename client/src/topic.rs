//! One topic, by its id.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use tidelog_api::archive::{ArchiveFile, ArchiveListing};
use tidelog_api::producers::ProducerState;
use tidelog_api::topics::{FlushReport, SettingsRequest, TopicDeleted, TopicDescription};
use uuid::Uuid;

use crate::call::{Call, Safety};
use crate::client::Client;
use crate::error::Result;

/// How long one request of a flush waits; several make up a longer wait.
const FLUSH_STEP: Duration = Duration::from_secs(10);

/// A topic as it was found under its name. Every request sends its id: should the name come to mean another topic, the
/// answer is `topic_replaced`.
#[derive(Debug, Clone)]
pub struct Topic {
    client: Client,
    name: Arc<str>,
    id: Uuid,
}

impl Topic {
    pub(crate) fn new(client: Client, description: &TopicDescription) -> Self {
        Self { client, name: description.name.as_str().into(), id: description.topic_id }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// A call below `/v1/topics/{name}`, with the id.
    pub(crate) fn call(&self, method: Method, rest: &[&str], safety: Safety) -> Result<Call> {
        let path = [&["v1", "topics", &*self.name], rest].concat();
        Ok(Call::new(&self.client, method, &path, safety)?.query("topic_id", self.id))
    }

    /// Its settings and partitions now.
    ///
    /// # Errors
    /// `topic_not_found`, `topic_replaced`
    pub async fn describe(&self) -> Result<TopicDescription> {
        self.call(Method::GET, &[], Safety::Repeatable)?.send_for(&self.client).await
    }

    /// Changes settings.
    ///
    /// # Errors
    /// `rekey_required`, `invalid_settings`
    pub async fn alter(&self, settings: &SettingsRequest) -> Result<TopicDescription> {
        self.call(Method::PATCH, &[], Safety::Repeatable)?.json(settings)?.send_for(&self.client).await
    }

    /// Deletes it: its name is free at once, its data stays for the grace period.
    ///
    /// # Errors
    /// `topic_not_found`, `topic_replaced`
    pub async fn delete(&self) -> Result<TopicDeleted> {
        self.call(Method::DELETE, &[], Safety::Once)?.send_for(&self.client).await
    }

    /// Flushes all that is below the high watermarks now and, if asked, archives it; waits up to `timeout`, after which
    /// the last report has `done: false`.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn flush(&self, archive: bool, timeout: Duration) -> Result<FlushReport> {
        let deadline = Instant::now() + timeout;
        let verb = format!("{}:flush", self.name);
        let mut first: Option<FlushReport> = None;
        loop {
            let wait = FLUSH_STEP.min(deadline.saturating_duration_since(Instant::now()));
            let call = Call::new(&self.client, Method::POST, &["v1", "topics", &verb], Safety::Repeatable)?
                .query("topic_id", self.id)
                .query("archive", archive)
                .query("wait_ms", wait.as_millis());
            let report: FlushReport = call.send_for(&self.client).await?;
            // The targets of the first request count: a topic that is written to has new ones for ever.
            let first = first.get_or_insert_with(|| report.clone());
            let reached = first.partitions.iter().zip(&report.partitions).all(|(first, now)| {
                first.target <= if archive { now.archived_offset.min(now.flushed_offset) } else { now.flushed_offset }
            });
            let done = report.done || (reached && first.partitions.len() <= report.partitions.len());
            if done || Instant::now() >= deadline {
                return Ok(FlushReport { done, ..report });
            }
        }
    }

    /// All its live archive files, by key.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn archive_files(&self) -> Result<Vec<ArchiveFile>> {
        let mut files: Vec<ArchiveFile> = Vec::new();
        loop {
            let after = files.last().map(|file| file.key.clone());
            let call = self.call(Method::GET, &["archive"], Safety::Repeatable)?.query_if("start_after", after);
            let page: ArchiveListing = call.send_for(&self.client).await?;
            let stuck = page.files.is_empty();
            files.extend(page.files);
            if !page.has_more || stuck {
                return Ok(files);
            }
        }
    }

    /// What its partitions remember of a producer.
    ///
    /// # Errors
    /// `producer_not_found`
    pub async fn producer_state(&self, producer_id: u64) -> Result<ProducerState> {
        let id = producer_id.to_string();
        let call = Call::new(&self.client, Method::GET, &["v1", "producers", &id], Safety::Repeatable)?;
        call.query("topic", &*self.name).query("topic_id", self.id).send_for(&self.client).await
    }
}
