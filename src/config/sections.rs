//! The sections of the configuration: plain values, each documented with unit and meaning. Defaults are in
//! `defaults.rs`, rules between settings in `validate.rs`.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::access::ListenerTls;
use super::units;

/// `[http]`: the gateway's listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Address and port to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Origins that a browser may call from, such as `https://console.example`; empty turns CORS off.
    pub cors_origins: Vec<String>,
    /// Largest request body in bytes, after decompression.
    #[serde(with = "units::size")]
    pub max_body: u64,
    /// Bytes that the bodies of all requests may hold at once; more wait, then get `overloaded`.
    #[serde(with = "units::size")]
    pub body_memory: u64,
    /// Open connections; more wait in the listen queue.
    pub max_connections: u32,
    /// Streams of server-sent events that may be open at once.
    pub max_followers: u32,
    /// How long a client may take to send its request's head, and to send on a stalled body.
    #[serde(with = "units::duration")]
    pub read_timeout: Duration,
    /// How long a client may leave an answer unread; then its connection is closed. Two seconds while others
    /// wait for `fetch.memory`.
    #[serde(with = "units::duration")]
    pub write_timeout: Duration,
    /// About how long a connection is kept, give or take a fifth, so that load balancers spread connections anew; it ends
    /// between two requests. 0 keeps connections for ever.
    #[serde(with = "units::duration")]
    pub max_connection_age: Duration,
    /// Listen beyond loopback, for clients or for operators, without TLS or without tokens.
    pub insecure: bool,
    /// TLS of this listener.
    pub tls: ListenerTls,
}

/// `[store]`: calls to the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// How long one attempt of a call may take.
    #[serde(with = "units::duration")]
    pub attempt_timeout: Duration,
    /// How long a call is tried again, the pauses between the attempts included.
    #[serde(with = "units::duration")]
    pub deadline: Duration,
    /// Calls in flight to the bucket at once for each kind of work: flushes, conversions, reads, garbage collection, the rest.
    pub concurrency: u32,
    /// What becomes of a start whose bucket refuses what the process has to do with it.
    pub probe: StartProbe,
    /// Of the reads of blocks at most so many per cent are asked a second time when the answer is late; 0: none.
    pub hedge_percent: u32,
    /// Whether objects are written with a SHA-256 that the store checks and keeps.
    pub checksums: bool,
    /// Storage class of archive files in S3, by its name there.
    pub archive_class: String,
}

/// What is done about a bucket that does not let a process do what it has to, when the process starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartProbe {
    /// The start ends with an error that says what is wrong.
    Refuse,
    /// The log says what is wrong.
    Warn,
    /// Nothing is tried.
    Off,
}

/// `[flush]`: tail to segments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flush {
    /// Bytes of tail that cause a flush; more than twice as many are shared out evenly over segments of at least this size.
    #[serde(with = "units::size")]
    pub bytes: u64,
    /// Age of the oldest tail record that causes a flush.
    #[serde(with = "units::duration")]
    pub interval: Duration,
    /// Age of a change of metadata alone that causes a checkpoint.
    #[serde(with = "units::duration")]
    pub metadata_interval: Duration,
    /// The least time between two checkpoints, from begin to begin.
    #[serde(with = "units::duration")]
    pub checkpoint_gap: Duration,
    /// Segments uploaded at once.
    pub uploads: u32,
    /// A flush that has not been committed after this is given up and made anew, so that its objects may be
    /// collected.
    #[serde(with = "units::duration")]
    pub deadline: Duration,
}

/// `[wal]`: the Raft log on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wal {
    /// Bytes of log above which appends are refused until a flush drained it.
    #[serde(with = "units::size")]
    pub budget: u64,
    /// Flushed bytes of log that are kept for followers that lag. Not set, it is 1 GiB (a quarter of `wal.budget` if that is
    /// less) while there are followers, and nothing for a sole voter.
    #[serde(with = "units::optional_size", skip_serializing_if = "Option::is_none")]
    pub keep: Option<u64>,
    /// Bytes at which a file of the log is ended. Purged log is given up a file at a time.
    #[serde(with = "units::size")]
    pub file_size: u64,
    /// Bytes of files that are kept ready for the log beside `budget`, recycled or filled with zeros: overwriting a file is
    /// faster than growing one. Given back when the disk runs low; 0 keeps none.
    #[serde(with = "units::size")]
    pub spare: u64,
    /// Free bytes of the disk below which appends are refused.
    #[serde(with = "units::size")]
    pub min_free: u64,
    /// Free share of the disk in percent below which appends are refused, at most `budget`; the larger of both counts.
    pub min_free_percent: u8,
    /// Bytes of the budget that only control commands may use, so that a flush can always drain the log.
    #[serde(with = "units::size")]
    pub reserve: u64,
}

/// `[tail]`: batches that are not flushed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tail {
    /// Bytes of recent log entries kept in memory.
    #[serde(with = "units::size")]
    pub memory: u64,
}

/// `[cache]`: blocks of segments and archive files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// Bytes in memory.
    #[serde(with = "units::size")]
    pub memory: u64,
    /// Bytes on disk; 0 keeps the cache in memory only.
    #[serde(with = "units::size")]
    pub disk: u64,
}

/// `[fetch]`: reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fetch {
    /// Bytes that pages may hold from their making until they are sent; pages out of the bucket at most three quarters of it.
    #[serde(with = "units::size")]
    pub memory: u64,
    /// How long a fetch plan is used before it is made again; bounds how long a replaced object is read.
    #[serde(with = "units::duration")]
    pub deadline: Duration,
    /// How long a read waits for one part of an object of the bucket, attempts made anew included; then it is `unavailable`.
    #[serde(with = "units::duration")]
    pub bucket_deadline: Duration,
    /// How long a gateway that keeps no log reads what it knows of a shard after its last contact with it; then it answers
    /// `unavailable` until it has contact again.
    #[serde(with = "units::duration")]
    pub view_age: Duration,
}

/// `[produce]`: admission and batching.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Produce {
    /// Bytes of records that may wait for or be in Raft at once; more get `overloaded`.
    #[serde(with = "units::size")]
    pub memory: u64,
    /// Proposals in flight for a shard.
    pub in_flight: u32,
    /// Largest Raft entry; a request with more for one partition is refused.
    #[serde(with = "units::size")]
    pub entry: u64,
}

/// `[gc]`: deleting objects that nothing names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gc {
    /// Whether objects are deleted at all.
    pub enabled: bool,
    /// How long an object that is not named yet, or no longer, is kept.
    #[serde(with = "units::duration")]
    pub grace: Duration,
    /// Time between two runs.
    #[serde(with = "units::duration")]
    pub interval: Duration,
    /// Objects that a run lists at most besides checkpoints; the next one goes on where it ended.
    pub list_limit: u64,
}

/// `[archive]`: segments to Parquet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Archive {
    /// Whether this process converts segments; a cluster may leave that to `tidelog compact`.
    pub enabled: bool,
    /// Time between two looks for work.
    #[serde(with = "units::duration")]
    pub interval: Duration,
    /// Every segment is archived within this, however long its topics' `archive_after_ms`.
    #[serde(with = "units::duration")]
    pub max_age: Duration,
    /// Bytes at which a file is ended.
    #[serde(with = "units::size")]
    pub file_size: u64,
    /// Jobs converted at once.
    pub workers: u32,
    /// Bytes of segments that one job takes.
    #[serde(with = "units::size")]
    pub job_size: u64,
    /// How long a claim holds without being extended.
    #[serde(with = "units::duration")]
    pub claim: Duration,
    /// A job that has not been committed after this is given up, so that its files may be collected.
    #[serde(with = "units::duration")]
    pub deadline: Duration,
}

/// `[retention]`: trimming by age and size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Time between two checks.
    #[serde(with = "units::duration")]
    pub interval: Duration,
}

/// `[producer]`: idempotent producers. Replicated: a leader whose settings differ from the shard's proposes its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Producer {
    /// A producer of a partition that has been idle for longer is forgotten.
    #[serde(with = "units::duration")]
    pub expiry: Duration,
    /// Producers remembered for a partition; the longest idle goes first.
    pub per_partition: u32,
}

/// `[idempotency]`: requests under an `Idempotency-Key`. Replicated like `[producer]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Idempotency {
    /// How long a key is remembered.
    #[serde(with = "units::duration")]
    pub window: Duration,
    /// Keys remembered in a shard; the oldest goes first.
    pub keys: u32,
}

/// `[topic]`: the catalog. Replicated like `[producer]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicRules {
    /// How long a deleted topic can be undeleted.
    #[serde(with = "units::duration")]
    pub delete_grace: Duration,
}

/// `[raft]`: elections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Raft {
    /// Shortest election timeout; the longest is twice that.
    #[serde(with = "units::duration")]
    pub election_min: Duration,
    /// Time between two heartbeats.
    #[serde(with = "units::duration")]
    pub heartbeat: Duration,
    /// Largest gap between wall time and log time that a sole voter believes; larger ones are slewed.
    #[serde(with = "units::duration")]
    pub clock_jump: Duration,
}

/// `[shutdown]`: what SIGTERM does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// Time between turning not ready and closing the listener: more than a load balancer needs to see it.
    #[serde(with = "units::duration")]
    pub drain_delay: Duration,
    /// The process ends within this, clean or not.
    #[serde(with = "units::duration")]
    pub deadline: Duration,
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[log]`: log lines and the access log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `text` or `json`.
    pub format: LogFormat,
    /// Filter in the syntax of `RUST_LOG`, which wins over it.
    pub filter: String,
    /// A request that took longer is always logged.
    #[serde(with = "units::duration")]
    pub slow_request: Duration,
    /// Share of successful requests that are logged, 0 to 1.
    pub sample: f64,
}

/// `[metrics]`: bounds on series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Topics with series of their own, the busiest ones; the rest share `other`.
    pub topics: u32,
}
