//! Operation of one server: status, metrics, jobs, log level, stop. What changes something is for the server that is asked now
//! and for no other.

use std::time::Duration;

use reqwest::Method;
use tidelog_api::status::{JobPaused, LogLevel, Status, Stopped};

use crate::call::{Call, Safety};
use crate::client::Client;
use crate::error::Result;

/// Closing flushes everything that is only in the log, and after an outage of the bucket that may be gigabytes. The server
/// goes on without end while the bucket is away: somebody who waits for that should hear so at last.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(15 * 60);

impl Client {
    /// What operators want to know.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn status(&self) -> Result<Status> {
        Call::new(self, Method::GET, &["v1", "status"], Safety::Repeatable)?.send_for(self).await
    }

    /// What operators want to know, with the hash of each shard's state, for which the server reads all of it.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn status_with_hash(&self) -> Result<Status> {
        let call = Call::new(self, Method::GET, &["v1", "status"], Safety::Repeatable)?;
        call.query("state_hash", true).send_for(self).await
    }

    /// The metrics as Prometheus reads them.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn metrics(&self) -> Result<String> {
        let sent = Call::new(self, Method::GET, &["metrics"], Safety::Repeatable)?.send(self).await?;
        sent.response.text().await.map_err(|source| self.broken(sent.server, source))
    }

    /// Whether the server says that it is ready; asked once.
    ///
    /// # Errors
    /// It is not, or cannot be reached.
    pub async fn ready(&self) -> Result<()> {
        Call::new(self, Method::GET, &["readyz"], Safety::Once)?.pinned(self).send(self).await.map(drop)
    }

    /// The settings in force, without secrets, as the server's configuration has them.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn settings(&self) -> Result<serde_json::Value> {
        Call::new(self, Method::GET, &["v1", "admin", "settings"], Safety::Repeatable)?.send_for(self).await
    }

    /// Pauses or resumes a background job: `flush`, `archive` or `gc`.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn set_paused(&self, job: &str, paused: bool) -> Result<JobPaused> {
        let verb = format!("{job}:{}", if paused { "pause" } else { "resume" });
        let call = Call::new(self, Method::POST, &["v1", "admin", "jobs", &verb], Safety::Repeatable)?;
        call.pinned(self).send_for(self).await
    }

    /// Changes what the server logs; the filter is as in `RUST_LOG`.
    ///
    /// # Errors
    /// The filter cannot be parsed.
    pub async fn set_log_level(&self, filter: &str) -> Result<LogLevel> {
        let body = LogLevel { filter: filter.to_owned() };
        Call::new(self, Method::PUT, &["v1", "admin", "log-level"], Safety::Repeatable)?
            .json(&body)?
            .pinned(self)
            .send_for(self)
            .await
    }

    /// Closes the server for appends, flushes everything and ends the process; waits a quarter of an hour for it. The server
    /// does all of it even if the caller goes away meanwhile.
    ///
    /// # Errors
    /// It could not be closed; it goes on running then. After one whose outcome is unknown it may still be closing, and ends
    /// when it has: see [`crate::Error::outcome`].
    pub async fn stop(&self) -> Result<Stopped> {
        let call = Call::new(self, Method::POST, &["v1", "admin", "stop"], Safety::Once)?;
        call.pinned(self).patient(self, STOP_TIMEOUT)?.send_for(self).await
    }
}
