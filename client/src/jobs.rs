//! Archive jobs, for a compactor that runs alone. What a job is, is the engine's: it passes through as the caller's types.

use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidelog_api::jobs::{Abandon, Claim};

use crate::call::{Call, Safety};
use crate::client::Client;
use crate::error::Result;

impl Client {
    /// Claims the next archive job; `None` if nothing is due. A claim whose answer got lost ends at its deadline.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn claim_archive_job<J: DeserializeOwned>(&self, worker: &str) -> Result<Option<J>> {
        self.jobs_call("claim", &Claim { worker: worker.to_owned() }, Safety::Once).await
    }

    /// Moves the deadline of a claim on by its length.
    ///
    /// # Errors
    /// `stale_job`
    pub async fn extend_archive_job(&self, job: &impl Serialize) -> Result<()> {
        self.jobs_call("extend", job, Safety::Repeatable).await
    }

    /// Puts the files of a job in the place of its segments, all or nothing.
    ///
    /// # Errors
    /// `stale_job`
    pub async fn complete_archive_job(&self, done: &impl Serialize) -> Result<()> {
        self.jobs_call("complete", done, Safety::Once).await
    }

    /// Gives a job back and says why.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn abandon_archive_job(&self, job: impl Serialize, reason: &str) -> Result<()> {
        self.jobs_call("abandon", &Abandon { job, reason: reason.to_owned() }, Safety::Repeatable).await
    }

    async fn jobs_call<T: DeserializeOwned>(&self, verb: &str, body: &impl Serialize, safety: Safety) -> Result<T> {
        let path = format!("archive-jobs:{verb}");
        Call::new(self, Method::POST, &["v1", &path], safety)?.json(body)?.send_for(self).await
    }
}
