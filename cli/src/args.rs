//! The command line as it is typed. What the arguments mean is decided where they are used; clap itself answers
//! usage errors with exit code 2.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::command::{BackupArgs, BenchCommand, CostArgs, GcArgs, RebuildArgs, RestoreArgs, TokenCommand, VerifyArgs};
use crate::input::Format;
pub(crate) use crate::remote::{AdminRemote, AdminServer, Remote};
use crate::start::Start;

/// A message queue whose database is an object-storage bucket.
#[derive(Debug, Parser)]
#[command(name = "tidelog", version, about, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server: gateway, log and compactor in one process
    Serve(Box<ServeArgs>),
    /// Run only a compactor, against a server
    Compact(CompactArgs),
    /// Create, list, describe and change topics
    #[command(subcommand)]
    Topic(TopicCommand),
    /// Make tokens for the clients of a server
    #[command(subcommand)]
    Token(TokenCommand),
    /// Write records from standard input or a file
    Produce(Box<ProduceArgs>),
    /// Read records to standard output
    Consume(ConsumeArgs),
    /// Read every object that the newest checkpoint names and check it
    Verify(VerifyArgs),
    /// Say what the garbage collection would delete
    Gc(GcArgs),
    /// Copy the state of a cluster and its records from its bucket elsewhere; only what is not there yet
    Backup(BackupArgs),
    /// Make a new bucket, of a new cluster, out of a backup
    Restore(RestoreArgs),
    /// Make checkpoints of nothing but segments and archive files, when those there were are lost
    Rebuild(RebuildArgs),
    /// Check whether a bucket can be used
    #[command(subcommand)]
    Bucket(BucketCommand),
    /// Ask a server once whether it is ready, for health checks: exit code 0 if it is
    Ready {
        #[command(flatten)]
        remote: Remote,
    },
    /// Measure a server, and what its machine can do at best
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Estimate what a cluster costs on AWS; no server is asked
    Cost(Box<CostArgs>),
    /// Operate a running server or cluster
    #[command(subcommand)]
    Admin(AdminCommand),
    /// Try a cluster: several nodes on this machine with one bucket, until Ctrl-C
    DevCluster(DevClusterArgs),
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Settings as TOML; TIDELOG__SECTION__KEY in the environment and the flags below win over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to listen on [default: 127.0.0.1:7070]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Address for operators: admin commands and metrics; none turns it off [default: 127.0.0.1:7071]
    #[arg(long, value_name = "ADDR|none")]
    pub admin_listen: Option<String>,
    /// Listen beyond loopback without TLS or without tokens: whoever reaches the ports may do everything
    #[arg(long)]
    pub insecure: bool,
    /// Directory of the write-ahead log, the cache and, without --bucket, the bucket [default: ./tidelog-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The bucket: file:///…, memory:///, s3://, gs:// or az://bucket/prefix [default: the directory bucket/ in the data directory]
    #[arg(long, value_name = "URL")]
    pub bucket: Option<String>,
    /// This node's number in the cluster, never one that another node had; auto takes the next that is free [default: 1]
    #[arg(long, value_name = "N|auto")]
    pub node_id: Option<String>,
    /// Address for the other nodes of the cluster; without it the node is a cluster of its own
    #[arg(long, value_name = "ADDR")]
    pub peer_listen: Option<SocketAddr>,
    /// The nodes with which the cluster begins, or some that a new node or a gateway asks: 1=host:port,2=host:port,3=host:port. A
    /// node that was started before knows better
    #[arg(long, value_name = "NODES")]
    pub cluster: Option<String>,
    /// What this process does, separated by commas: gateway, wal, compactor. Without wal it keeps no log and follows the nodes of
    /// --cluster; without gateway no client reaches it [default: all three]
    #[arg(long, value_name = "ROLES")]
    pub roles: Option<String>,
    /// Form of the log lines on standard error
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Start from the bucket although the cluster on it was not stopped cleanly: acknowledged records after its newest
    /// checkpoint are given up
    #[arg(long)]
    pub restore: bool,
    /// Print the settings in force as TOML, and exit
    #[arg(long)]
    pub print_config: bool,
    /// Check the settings, and exit
    #[arg(long)]
    pub check_config: bool,
    /// End as by SIGTERM once standard input ends: whoever started this process is gone
    #[arg(long, hide = true)]
    pub until_stdin_closes: bool,
}

/// Arguments of `dev-cluster`.
#[derive(Debug, Args)]
pub(crate) struct DevClusterArgs {
    /// How many nodes [default: 3, or as many as the directory has]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=5), value_name = "N")]
    pub nodes: Option<u16>,
    /// How many gateways besides, which keep no log; their ports follow those of the nodes
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=16), value_name = "N")]
    pub gateways: u16,
    /// Port of the first node's clients; node n has this + 10 (n - 1), that + 1 for operators and that + 5 for the other nodes
    /// [default: 7070, or as in the directory]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=65_000), value_name = "PORT")]
    pub base_port: Option<u16>,
    /// Directory of everything, to be started again with [default: a new one, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// The word of the setting `log.format`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Arguments of `compact`.
#[derive(Debug, Args)]
pub(crate) struct CompactArgs {
    #[command(flatten)]
    pub remote: Remote,
    /// The bucket of the cluster [default: the one that the server names]
    #[arg(long, value_name = "URL")]
    pub bucket: Option<String>,
    /// Form of the log lines on standard error [default: that of the setting log.format]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Exit once there is nothing left to archive
    #[arg(long)]
    pub once: bool,
}

/// The commands about topics.
#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// Create a topic, or find that it exists with these settings
    Create {
        #[command(flatten)]
        remote: Remote,
        /// Its name
        topic: String,
        /// Partitions [default: 1]
        #[arg(long, value_name = "N")]
        partitions: Option<u32>,
        /// A setting, such as value_format=json or retention_ms=86400000; may be repeated
        #[arg(long = "set", value_name = "KEY=VALUE")]
        settings: Vec<String>,
    },
    /// List topics
    List {
        #[command(flatten)]
        remote: Remote,
        /// Only names that start with this
        #[arg(long, default_value = "")]
        prefix: String,
    },
    /// Show a topic's settings and partitions
    Describe {
        #[command(flatten)]
        remote: Remote,
        /// Its name
        topic: String,
    },
    /// Change settings; `null` sets the default
    Alter {
        #[command(flatten)]
        remote: Remote,
        /// Its name
        topic: String,
        /// New number of partitions; it can only grow, and needs --rekey
        #[arg(long, value_name = "N")]
        partitions: Option<u32>,
        /// A setting; may be repeated
        #[arg(long = "set", value_name = "KEY=VALUE")]
        settings: Vec<String>,
        /// Confirm that keys move to other partitions
        #[arg(long)]
        rekey: bool,
    },
    /// Delete a topic; it can be undeleted for a day
    Delete {
        #[command(flatten)]
        remote: Remote,
        /// Its name
        topic: String,
    },
    /// Bring back a deleted topic
    Undelete {
        #[command(flatten)]
        remote: Remote,
        /// Its name
        topic: String,
    },
    /// Write everything acknowledged so far to the bucket, and wait for it
    Flush {
        #[command(flatten)]
        remote: Remote,
        /// Its name
        topic: String,
        /// Wait until it is in Parquet files too
        #[arg(long)]
        archive: bool,
        /// How long to wait
        #[arg(long, default_value = "10m", value_parser = parse_duration, value_name = "DURATION")]
        timeout: Duration,
    },
}

/// Arguments of `produce`.
#[derive(Debug, Args)]
pub(crate) struct ProduceArgs {
    #[command(flatten)]
    pub remote: Remote,
    /// The topic
    pub topic: String,
    /// Read this file instead of standard input
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How the input is cut into records [default: by the file's extension, else lines]
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// The field of the value that becomes the key
    #[arg(long, value_name = "NAME")]
    pub key_field: Option<String>,
    /// Write everything to this partition [default: by the key, else in turn]
    #[arg(long, value_name = "P")]
    pub partition: Option<u32>,
    /// When a record counts as written
    #[arg(long, value_enum, default_value = "quorum")]
    pub acks: AcksArg,
    /// Create the topic if it does not exist; one that exists has to agree with --partitions and --set. A topic created for
    /// NDJSON, JSON, CSV or Parquet has value_format=json unless --set names another
    #[arg(long)]
    pub create: bool,
    /// Partitions of the topic that --create creates
    #[arg(long, value_name = "N", requires = "create")]
    pub partitions: Option<u32>,
    /// A setting of the topic that --create creates, such as retention_ms=86400000; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "create")]
    pub settings: Vec<String>,
    /// Name of the producer [default: made of the topic and the file's path]
    #[arg(long, value_name = "NAME")]
    pub producer: Option<String>,
    /// Continue where the producer of this name stopped; the input has to begin with what it had then. Noticed is an input
    /// that is shorter, and one whose last record that each partition got is another
    #[arg(long)]
    pub resume: bool,
    /// Stop after this many records of the input
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
}

/// The levels of acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AcksArg {
    /// Synced to disk on a majority of voters
    Quorum,
    /// In the bucket
    Object,
    /// No promise
    None,
}

impl AcksArg {
    /// The word of the API.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Object => "object",
            Self::None => "none",
        }
    }
}

/// Arguments of `consume`.
#[derive(Debug, Args)]
pub(crate) struct ConsumeArgs {
    #[command(flatten)]
    pub remote: Remote,
    /// The topic
    pub topic: String,
    /// Read only this partition
    #[arg(long, value_name = "P")]
    pub partition: Option<u32>,
    /// Where to begin: earliest, latest, an offset (needs --partition), an RFC 3339 time, or a time ago such as -15m
    #[arg(long, default_value = "earliest", allow_hyphen_values = true, value_name = "START")]
    pub from: Start,
    /// Wait for new records, and for an offset that is still to come, instead of stopping at the watermarks seen at the
    /// start; partitions that are added meanwhile are read from their beginning
    #[arg(long)]
    pub follow: bool,
    /// Stop after this many records
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// What a line holds
    #[arg(long, value_enum, default_value = "json")]
    pub output: ConsumeOutput,
}

/// What `consume` prints of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConsumeOutput {
    /// The record as JSON, with its place
    Json,
    /// Only the value, as its bytes
    Value,
}

/// The subcommands of `bucket`.
#[derive(Debug, Subcommand)]
pub(crate) enum BucketCommand {
    /// Write, read, list and delete an object, say what is wrong, and time calls
    Check(BucketCheckArgs),
}

/// Arguments of `bucket check`.
#[derive(Debug, Args)]
pub(crate) struct BucketCheckArgs {
    /// The bucket [default: the directory ./tidelog-data/bucket]
    #[arg(long, value_name = "URL")]
    pub bucket: Option<String>,
    /// Only say whether it can be used
    #[arg(long)]
    pub quick: bool,
    /// Ask again for so long if it cannot be used yet: a bucket that is just being made
    #[arg(long, default_value = "0s", value_parser = parse_duration, value_name = "DURATION")]
    pub wait: Duration,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The commands for operators.
#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Stop the server cleanly: no record after it, everything in the bucket
    Stop {
        #[command(flatten)]
        remote: AdminRemote,
    },
    /// Pause a background job
    Pause {
        #[command(flatten)]
        remote: AdminRemote,
        /// The job
        job: JobArg,
    },
    /// Resume a background job
    Resume {
        #[command(flatten)]
        remote: AdminRemote,
        /// The job
        job: JobArg,
    },
    /// Show the state of the server and the members of its cluster
    Status {
        #[command(flatten)]
        remote: AdminRemote,
    },
    /// Take a running node into the cluster, and wait until it votes
    AddNode {
        #[command(flatten)]
        remote: AdminRemote,
        /// Its number
        node: u64,
        /// host:port of its peer listener
        address: String,
        #[command(flatten)]
        patience: Patience,
    },
    /// Take a node out of the cluster; its number is not used again
    RemoveNode {
        #[command(flatten)]
        remote: AdminRemote,
        /// Its number
        node: u64,
        #[command(flatten)]
        patience: Patience,
    },
    /// Take a running node into the cluster in the place of another one
    ReplaceNode {
        #[command(flatten)]
        remote: AdminRemote,
        /// The number of the node that leaves
        node: u64,
        /// The number of the node that comes
        by: u64,
        /// host:port of its peer listener
        address: String,
        #[command(flatten)]
        patience: Patience,
    },
    /// Have another node lead
    TransferLeader {
        #[command(flatten)]
        remote: AdminRemote,
        /// The number of the node [default: the one that is furthest]
        to: Option<u64>,
        #[command(flatten)]
        patience: Patience,
    },
    /// Have this one server give its leadership away and end; the cluster goes on without it
    Drain {
        #[command(flatten)]
        remote: AdminRemote,
    },
    /// Change what the server logs, until it restarts
    LogLevel {
        #[command(flatten)]
        remote: AdminRemote,
        /// A filter such as `debug` or `info,tidelog=debug`
        filter: String,
    },
    /// Collect status, settings, metrics and topics in one JSON file, without secrets, keys or values
    SupportBundle {
        #[command(flatten)]
        remote: AdminRemote,
        /// URL of the server's listener for clients, for the topics
        #[arg(long, env = "TIDELOG_SERVER", default_value = "http://127.0.0.1:7070", value_name = "URL[,URL]")]
        server: String,
        /// Where to write it [default: standard output]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// How long a change of the cluster is tried; each of them may be repeated.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Patience {
    /// How long to wait; a change that was begun goes on all the same
    #[arg(long, default_value = "10m", value_parser = parse_duration, value_name = "DURATION")]
    pub timeout: Duration,
}

/// Background jobs by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum JobArg {
    /// Tail to segments
    Flush,
    /// Segments to Parquet
    Archive,
    /// Deleting what nothing names
    Gc,
}

impl JobArg {
    /// The name in the API.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Flush => "flush",
            Self::Archive => "archive",
            Self::Gc => "gc",
        }
    }
}

pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}: write a duration such as 30s"))
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }
}
