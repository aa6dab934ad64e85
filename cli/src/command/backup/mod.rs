//! `tidelog backup`, `restore` and `rebuild`: work on buckets alone; no server is asked.

mod progress;
mod rebuild;

use std::num::NonZeroUsize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use bytesize::ByteSize;
use clap::Args;
use serde_json::json;
use tidelog::backup::{self, Options, Restored, Taken, Volume, manifest};
use tidelog::config::Config;
use tidelog::failpoint;
use tidelog::model::ObjectId;
use tidelog::store::Bucket;

use self::progress::shown;
pub(crate) use self::rebuild::RebuildArgs;
pub(super) use self::rebuild::rebuild;
use super::cost::parse_rate;
use crate::exit::note;
use crate::output::{self, Out, Table, grouped};

/// Arguments of `backup`.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The bucket [default: the directory ./tidelog-data/bucket]
    #[arg(long, value_name = "URL")]
    pub bucket: Option<String>,
    /// Where backups of it are: an empty place, or one with earlier backups of the same cluster
    #[arg(long, value_name = "URL")]
    pub to: String,
    /// List the backups there and take none
    #[arg(long)]
    pub list: bool,
    #[command(flatten)]
    pub how: How,
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// Where the backups are
    #[arg(long, value_name = "URL")]
    pub from: String,
    /// The new bucket: an empty place, or one that an earlier call left unfinished
    #[arg(long, value_name = "URL")]
    pub bucket: String,
    /// The backup [default: the newest, or the one whose restore was not finished]
    #[arg(long, value_name = "ID")]
    pub backup: Option<String>,
    #[command(flatten)]
    pub how: How,
}

/// How both copy.
#[derive(Debug, Args)]
pub(crate) struct How {
    /// Objects copied at once; each takes up to 72 MiB of memory
    #[arg(long, default_value = "4", value_name = "N")]
    pub parallel: NonZeroUsize,
    /// Read no more than this, such as 100MB/s
    #[arg(long, value_name = "SIZE/s", value_parser = parse_rate)]
    pub rate: Option<ByteSize>,
    /// Draw no progress bar
    #[arg(long)]
    pub quiet: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl How {
    fn options(&self) -> Options {
        let bytes_per_second = self.rate.map(|rate| rate.as_u64());
        Options { parallel: self.parallel.get(), bytes_per_second, ..Options::default() }
    }
}

/// Takes a backup, or lists those there are.
pub(super) async fn run(args: &BackupArgs) -> Result<()> {
    let config = Config { bucket: args.bucket.clone(), ..Config::default() };
    if args.list {
        return list(&Bucket::open_existing(&args.to, &config.store)?, args.how.json).await;
    }
    arm_fail_points()?;
    let from = Bucket::open_existing(&config.bucket_url()?, &config.store)?;
    let to = Bucket::open(&args.to, &config.store)?;
    let options = args.how.options();
    let taken = shown(args.how.quiet, async |progress| backup::take(&from, &to, &options, now(), progress).await).await;
    let taken =
        taken.context("the bucket cannot be backed up; what was copied stays, the next attempt goes on from there")?;
    for passed_over in &taken.passed_over {
        note(&format!("WARNING not whole, an older checkpoint was taken instead of {passed_over}"));
    }
    if args.how.json { output::json(&taken) } else { print_taken(&taken) }
}

/// Restores a backup.
pub(super) async fn restore(args: &RestoreArgs) -> Result<()> {
    let config = Config::default();
    arm_fail_points()?;
    let backup = args.backup.as_deref().map(parse_id).transpose()?;
    let from = Bucket::open_existing(&args.from, &config.store)?;
    let to = Bucket::open(&args.bucket, &config.store)?;
    let options = args.how.options();
    let how = (&options, now());
    let restored =
        shown(args.how.quiet, async |progress| backup::restore(&from, &to, backup, how, progress).await).await;
    let restored = restored.context("the backup cannot be restored")?;
    if args.how.json { output::json(&restored) } else { print_restored(&restored) }
}

fn parse_id(text: &str) -> Result<ObjectId> {
    text.parse().map_err(|_| anyhow!("{text:?} is not the id of a backup: `tidelog backup --list` has them"))
}

/// What a test injects; see [`failpoint`].
fn arm_fail_points() -> Result<()> {
    match std::env::var(failpoint::ENVIRONMENT) {
        Ok(text) => failpoint::arm(&text).map_err(|error| anyhow!("{}: {error}", failpoint::ENVIRONMENT)),
        Err(_) => Ok(()),
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

async fn list(place: &Bucket, json: bool) -> Result<()> {
    let mut found = Vec::new();
    for id in manifest::list(place).await? {
        found.push(manifest::manifest(place, id).await?);
    }
    if json {
        let each = found.iter().map(|manifest| json!({"backup": manifest.id().to_string(), "manifest": manifest}));
        return output::json(&each.collect::<Vec<_>>());
    }
    let mut table = Table::new(&["BACKUP", "TAKEN", "CLUSTER", "INCARNATION", "SHARDS"]);
    for manifest in &found {
        let (id, taken) = (manifest.id().to_string(), time(manifest.started_ms));
        let (incarnation, shards) = (manifest.incarnation.to_string(), manifest.checkpoints.len().to_string());
        table.row([id, taken, manifest.cluster_id.clone(), incarnation, shards]);
    }
    table.print()
}

fn print_taken(taken: &Taken) -> Result<()> {
    let mut out = Out::new();
    out.line(&format!("backup {} of {}", taken.backup, taken.bucket))?;
    for shard in &taken.shards {
        let (records, partitions) = (grouped(shard.records), grouped(shard.partitions));
        out.line(&format!("  shard {}: {records} records in {partitions} partitions", shard.shard))?;
        out.line(&format!("    as flushed at {}, {}", time(shard.log_time_ms), shard.checkpoint))?;
    }
    out.line(&format!("  copied {} of {}", volume(taken.copied), volume(taken.total)))?;
    if taken.refreshed > 0 {
        out.line(&format!("  looked for checkpoints {} times more, since objects were replaced", taken.refreshed))?;
    }
    out.finish()
}

fn print_restored(restored: &Restored) -> Result<()> {
    let mut out = Out::new();
    let what = if restored.was_done { "had been restored already" } else { "restored" };
    out.line(&format!("backup {} of {} {what}: {}", restored.backup, time(restored.backup_ms), restored.bucket))?;
    out.line(&format!("  {} records of cluster {}", grouped(restored.records), restored.from_cluster))?;
    if !restored.was_done {
        out.line(&format!("  copied {} of {}", volume(restored.copied), volume(restored.total)))?;
    }
    out.line(&format!("  now cluster {}; its topics are:", restored.cluster_id))?;
    let mut table = Table::new(&["  TOPIC", "WAS", "IS"]);
    for topic in &restored.topics {
        table.row([format!("  {}", topic.name), topic.old_id.clone(), topic.id.clone()]);
    }
    out.table(&table)?;
    out.line(&format!("start it with: tidelog serve --bucket {}", restored.bucket))?;
    out.finish()
}

fn volume(volume: Volume) -> String {
    format!("{} objects, {} bytes", grouped(volume.objects), grouped(volume.bytes))
}

/// A time in milliseconds as people read it; the calendar of that ends with the year 9999.
fn time(millis: u64) -> String {
    let millis = millis.min(253_402_300_799_000);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(millis)).to_string()
}
