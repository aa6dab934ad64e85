//! The arguments of `tidelog bench`. What is printed by `--help` is the documentation of the load generator; docs/performance.md
//! says how it measures.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use tidelog_api::headers;

use crate::args::{AcksArg, AdminServer, Remote, parse_duration};

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Write records: with every connection always busy, or at a rate
    Produce(Box<ProduceBench>),
    /// Read all that a topic holds
    Consume(ConsumeBench),
    /// Write at a rate, and measure until consumers that wait have each record
    Latency(Box<LatencyBench>),
    /// Measure what a server, its disk and its bucket can do at best: a handler that does nothing, bare write + fdatasync, bare PUTs
    Baseline(Box<BaselineBench>),
    /// The handler that does nothing, until standard input is closed
    #[command(hide = true)]
    BaselineServer,
}

/// The load: how many requests, how large, for how long.
#[derive(Debug, Clone, Args)]
pub(crate) struct Load {
    /// Connections; each has one request in flight, as HTTP/1.1 has it
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    /// Requests a second over all connections (open loop): latency counts from the time at which a request was due, so
    /// that a stall is seen by every request that it delayed. Without it the loop is closed: the next request follows
    /// the answer
    #[arg(long, value_name = "R", value_parser = parse_rate)]
    pub rate: Option<f64>,
    /// How long to measure [default: 10s, unless --records or --bytes is given]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Stop after this many records (rounded up to whole requests); warm-up not counted
    #[arg(long, value_name = "N")]
    pub records: Option<u64>,
    /// Stop after this many bytes of values (rounded up to whole requests); warm-up not counted
    #[arg(long, value_name = "SIZE")]
    pub bytes: Option<ByteSize>,
    /// Send load for this long before measuring
    #[arg(long, default_value = "0s", value_name = "DURATION", value_parser = parse_duration)]
    pub warm_up: Duration,
    /// Bytes of a value
    #[arg(long, default_value = "256", value_name = "SIZE")]
    pub record_size: ByteSize,
    /// Records of a request
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub batch_size: u32,
    /// Bytes of a request's body instead: as many records as fit
    #[arg(long, value_name = "SIZE", conflicts_with = "batch_size")]
    pub request_bytes: Option<ByteSize>,
    /// How records are sent
    #[arg(long, value_enum, default_value = "json", value_name = "TYPE")]
    pub content_type: ContentType,
    /// Of the topic that is created, and of the record batches that are sent [default: zstd for the topic, none for batches]
    #[arg(long, value_enum, value_name = "CODEC")]
    pub compression: Option<CompressionArg>,
    /// Threads of the generator
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,
}

/// What is observed besides the requests.
#[derive(Debug, Clone, Args)]
pub(crate) struct Watch {
    /// Process of the server: its processor time and resident memory are reported
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// Report how much the server's counters of flushes, bucket calls and log entries grew
    #[arg(long)]
    pub metrics: bool,
    #[command(flatten)]
    pub admin: AdminServer,
}

/// Where records go.
#[derive(Debug, Clone, Args)]
pub(crate) struct Sink {
    /// The topic, created if it is missing
    #[arg(long, default_value = "bench", value_name = "NAME")]
    pub topic: String,
    /// Partitions of a topic that is created; requests take turns over the partitions that there are
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub partitions: u32,
    /// When a record counts as written
    #[arg(long, value_enum, default_value = "quorum")]
    pub acks: AcksArg,
    /// Exit 0 although requests failed
    #[arg(long)]
    pub allow_errors: bool,
}

/// Arguments of `bench produce`.
#[derive(Debug, Args)]
pub(crate) struct ProduceBench {
    #[command(flatten)]
    pub remote: Remote,
    #[command(flatten)]
    pub sink: Sink,
    /// Topics: with more than one a number is put behind the name, and requests take turns over all partitions of all
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub topics: u32,
    #[command(flatten)]
    pub load: Load,
    #[command(flatten)]
    pub watch: Watch,
}

/// Arguments of `bench consume`.
#[derive(Debug, Args)]
pub(crate) struct ConsumeBench {
    #[command(flatten)]
    pub remote: Remote,
    /// The topic
    #[arg(long, default_value = "bench", value_name = "NAME")]
    pub topic: String,
    /// Connections; a topic of fewer partitions is cut into ranges of offsets
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    /// The form of answers
    #[arg(long, value_enum, default_value = "ndjson")]
    pub format: FetchFormat,
    /// Stored bytes of a page
    #[arg(long, default_value = "1MiB", value_name = "SIZE")]
    pub page_bytes: ByteSize,
    /// Stop after this many bytes of answers [default: all that was there at the start]
    #[arg(long, value_name = "SIZE")]
    pub bytes: Option<ByteSize>,
    /// Read it this often, each time measured: the first time what is cold, then what is warm
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeat: u32,
    #[command(flatten)]
    pub watch: Watch,
}

/// Arguments of `bench latency`.
#[derive(Debug, Args)]
pub(crate) struct LatencyBench {
    #[command(flatten)]
    pub remote: Remote,
    #[command(flatten)]
    pub sink: Sink,
    /// Records a second, one a request; latency counts from the time at which a record was due to be sent
    #[arg(long, default_value = "100", value_name = "R", value_parser = parse_rate)]
    pub rate: f64,
    /// How long to measure
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Duration,
    /// Send load for this long before measuring
    #[arg(long, default_value = "0s", value_name = "DURATION", value_parser = parse_duration)]
    pub warm_up: Duration,
    /// Bytes of a value, at least 40
    #[arg(long, default_value = "256", value_name = "SIZE")]
    pub record_size: ByteSize,
    /// Connections that send
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    /// How consumers wait, one for each partition
    #[arg(long, value_enum, default_value = "poll")]
    pub consumers: Consumers,
    #[command(flatten)]
    pub watch: Watch,
}

/// How consumers wait for records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Consumers {
    /// Long polls
    Poll,
    /// Server-sent events
    Sse,
}

/// The form of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FetchFormat {
    /// Record batches
    Batches,
    /// A JSON record a line
    Ndjson,
    /// One JSON body
    Json,
}

impl FetchFormat {
    /// What `Accept` says.
    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Self::Batches => headers::BATCH,
            Self::Ndjson => headers::NDJSON,
            Self::Json => headers::JSON,
        }
    }
}

/// Arguments of `bench baseline`.
#[derive(Debug, Args)]
pub(crate) struct BaselineBench {
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// A directory on the disk whose write + fdatasync is measured; what is written there is removed again
    #[arg(long, default_value = "./tidelog-data", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Write to this bucket too, as large objects as segments and as many at a time as a flush; they are deleted again
    #[arg(long, value_name = "URL")]
    pub bucket: Option<String>,
    /// How long each size is written to the disk, and objects to the bucket
    #[arg(long, default_value = "3s", value_name = "DURATION", value_parser = parse_duration)]
    pub disk_duration: Duration,
    #[command(flatten)]
    pub load: Load,
}

/// How records are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ContentType {
    /// One JSON body of all records
    Json,
    /// A JSON record a line
    Ndjson,
    /// One record batch, encoded beforehand
    RecordBatches,
    /// The body is one value
    OctetStream,
}

/// How batches are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CompressionArg {
    /// Zstandard
    Zstd,
    /// Not at all
    None,
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| format!("{text:?} is not a number of requests a second"))?;
    if rate.is_finite() && (0.001..=1e7).contains(&rate) { Ok(rate) } else { Err("0.001 to 10000000".to_owned()) }
}
