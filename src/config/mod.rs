//! Settings: one TOML file, the environment (`TIDELOG__SECTION__KEY`), a few flags; the later wins.
//!
//! Sizes and durations take human units (`16MiB`, `10s`). Unknown keys are refused wherever they come from, and every
//! problem is reported at once, each with its origin. What [`Config::to_toml`] prints parses back to the same value.
//! This module knows nothing of the rest of the engine.

mod access;
mod cluster;
mod cost;
mod defaults;
mod load;
mod peer;
mod sections;
#[cfg(test)]
mod tests;
mod units;
mod validate;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use access::{Admin, Auth, ListenerTls};
pub use cluster::{Cluster, ClusterNode, NodeChoice, Role};
pub use cost::Cost;
pub use load::{ConfigError, Sources};
pub use peer::{Peer, PeerTls, is_host_and_port};
pub use sections::{
    Archive, Cache, Fetch, Flush, Gc, Http, Idempotency, Log, LogFormat, Metrics, Produce, Producer, Raft, Retention,
    Shutdown, StartProbe, Store, Tail, TopicRules, Wal,
};

/// All settings of a process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Directory of `wal/`, `cache/` and, without `bucket`, of the bucket itself.
    pub data_dir: PathBuf,
    /// Where the bucket is: `file:///…`, `memory:///`, `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`; `bucket/` in `data_dir` if not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// The gateway's listener.
    pub http: Http,
    /// The listener for operators.
    pub admin: Admin,
    /// Who may call either listener.
    pub auth: Auth,
    /// Calls to the bucket.
    pub store: Store,
    /// Tail to segments.
    pub flush: Flush,
    /// The Raft log on disk.
    pub wal: Wal,
    /// Batches that are not flushed.
    pub tail: Tail,
    /// Blocks of segments and archive files.
    pub cache: Cache,
    /// Reads.
    pub fetch: Fetch,
    /// Admission and batching.
    pub produce: Produce,
    /// Deleting objects that nothing names.
    pub gc: Gc,
    /// Segments to Parquet.
    pub archive: Archive,
    /// Trimming by age and size.
    pub retention: Retention,
    /// Idempotent producers.
    pub producer: Producer,
    /// Requests under an `Idempotency-Key`.
    pub idempotency: Idempotency,
    /// The catalog.
    pub topic: TopicRules,
    /// Elections.
    pub raft: Raft,
    /// This node and the first ones.
    pub cluster: Cluster,
    /// How nodes reach each other.
    pub peer: Peer,
    /// What SIGTERM does.
    pub shutdown: Shutdown,
    /// Log lines and the access log.
    pub log: Log,
    /// Bounds on series.
    pub metrics: Metrics,
    /// What calls and bytes cost.
    pub cost: Cost,
}

impl Config {
    /// Defaults, then the file, the environment and the flags of `sources`, then [`Config::validate`].
    ///
    /// # Errors
    /// Every problem found, in one error.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let config = load::load(sources)?;
        config.validate()?;
        Ok(config)
    }

    /// All settings as TOML, defaults included; parses back to the same value.
    #[must_use]
    pub fn to_toml(&self) -> String {
        // Plain values with text keys: nothing here can fail to be written as TOML.
        toml::to_string(self).unwrap_or_else(|error| format!("# {error}\n"))
    }

    /// The settings as they may be shown to others: a bucket's URL without user, password and query, where somebody may have
    /// put credentials. All other credentials come from the environment and are no settings.
    #[must_use]
    pub fn without_secrets(&self) -> Self {
        Self { bucket: self.bucket.as_deref().map(without_credentials), ..self.clone() }
    }

    /// The bucket's URL: `bucket`, or the directory beside the WAL.
    ///
    /// # Errors
    /// If the data directory's absolute path cannot be told, or is no text.
    pub fn bucket_url(&self) -> Result<String, ConfigError> {
        if let Some(url) = &self.bucket {
            return Ok(url.clone());
        }
        let path = std::path::absolute(self.data_dir.join("bucket"))
            .map_err(|error| ConfigError::one(format!("data_dir: {error}")))?;
        let path = path.to_str().ok_or_else(|| ConfigError::one("data_dir: the path is not UTF-8".to_owned()))?;
        Ok(file_url(path))
    }

    /// The directory of the Raft log.
    #[must_use]
    pub fn wal_dir(&self) -> PathBuf {
        self.data_dir.join("wal")
    }

    /// The directory of the block cache.
    #[must_use]
    pub fn cache_dir(&self) -> PathBuf {
        self.data_dir.join("cache")
    }
}

/// A URL without what may be credentials.
fn without_credentials(url: &str) -> String {
    const HIDDEN: &str = "REDACTED";
    let (url, query) = url.split_once('?').map_or((url, false), |(url, _)| (url, true));
    let (scheme, place) = url.split_once("://").map_or(("", url), |(scheme, place)| (scheme, place));
    let (authority, path) = place.split_once('/').map_or((place, None), |(authority, path)| (authority, Some(path)));
    let authority = match authority.rsplit_once('@') {
        Some((_, host)) => format!("{HIDDEN}@{host}"),
        None => authority.to_owned(),
    };
    let scheme = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
    let path = path.map_or_else(String::new, |path| format!("/{path}"));
    format!("{scheme}{authority}{path}{}", if query { format!("?{HIDDEN}") } else { String::new() })
}

/// `file://` URL of an absolute path; only what would end or change a URL's path is escaped.
fn file_url(path: &str) -> String {
    let mut url = String::from("file://");
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    url
}

/// Reads `path` for [`Sources::file`].
///
/// # Errors
/// If the file cannot be read.
pub fn read_file(path: &Path) -> Result<(PathBuf, String), ConfigError> {
    std::fs::read_to_string(path)
        .map(|text| (path.to_owned(), text))
        .map_err(|error| ConfigError::one(format!("{}: {error}", path.display())))
}
