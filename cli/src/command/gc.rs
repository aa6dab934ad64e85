//! `tidelog gc --dry-run`: what the garbage collection would delete, told from the bucket itself; no server is asked.
//!
//! There is no other form of it: the leaders of a cluster delete, each of its shard, since they alone know what is named
//! now and which checkpoints their members would start from.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use chrono::DateTime;
use clap::Args;
use serde::Serialize;
use tidelog::config::Config;
use tidelog::queue::garbage::{self, Fate, Judged, Survey};
use tidelog::store::Bucket;

use crate::args::parse_duration;
use crate::exit::usage;
use crate::output::{self, Out, Table, grouped};
use crate::progress::Bar;

/// Objects between two redraws of the progress.
const SHOWN_EVERY: u64 = 256;

/// Arguments of `gc`.
#[derive(Debug, Args)]
pub(crate) struct GcArgs {
    /// The bucket [default: the directory ./tidelog-data/bucket]
    #[arg(long, value_name = "URL")]
    pub bucket: Option<String>,
    /// Delete nothing, only say what would be deleted, and why
    #[arg(long)]
    pub dry_run: bool,
    /// The cluster's gc.grace
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = parse_duration)]
    pub grace: Duration,
    /// Print the key of every object that would be deleted
    #[arg(long, conflicts_with = "json")]
    pub keys: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The report as JSON.
#[derive(Serialize)]
struct Report<'a> {
    bucket: &'a str,
    /// All that would be deleted.
    objects: u64,
    bytes: u64,
    shards: &'a [Survey],
}

/// Surveys the bucket and prints what was found.
pub(super) async fn run(args: &GcArgs) -> Result<()> {
    if !args.dry_run {
        return Err(usage(
            "nothing is deleted from here: the cluster does that by itself (gc.enabled, tidelog admin pause|resume gc); \
             --dry-run says what it would delete",
        ));
    }
    let config = Config { bucket: args.bucket.clone(), ..Config::default() };
    let bucket = Bucket::open_existing(&config.bucket_url()?, &config.store)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let bar = Bar::new(args.keys);
    let (mut seen, mut failed, mut out) = (0_u64, Ok(()), Out::new());
    let each = |judged: Judged<'_>| {
        seen += 1;
        if seen % SHOWN_EVERY == 1 {
            bar.show(0, 0, format!("{} objects", grouped(seen)));
        }
        if args.keys && judged.fate.goes() && failed.is_ok() {
            failed = out.line(&format!("{}\t{}\t{}", judged.object.key, judged.object.bytes, judged.fate.reason()));
        }
    };
    let surveyed = garbage::survey(&bucket, now, args.grace, each).await;
    drop(bar);
    let shards = surveyed.context("the bucket cannot be surveyed")?;
    failed?;
    if args.keys {
        return out.finish();
    }
    drop(out);
    let (objects, bytes) = total(&shards);
    if args.json {
        return output::json(&Report { bucket: bucket.url(), objects, bytes, shards: &shards });
    }
    print(bucket.url(), &shards)
}

/// What would be deleted.
fn total(shards: &[Survey]) -> (u64, u64) {
    let goes = shards.iter().flat_map(|shard| &shard.groups).filter(|group| group.deleted);
    goes.fold((0, 0), |sum, group| (sum.0 + group.objects, sum.1 + group.bytes))
}

fn print(bucket: &str, shards: &[Survey]) -> Result<()> {
    let mut out = Out::new();
    for shard in shards {
        match &shard.checkpoint {
            Some(checkpoint) => {
                let floor = i64::try_from(shard.floor_ms).ok().and_then(DateTime::from_timestamp_millis);
                let floor =
                    floor.map_or_else(String::new, |floor| format!(", older than {}", floor.format("%F %T UTC")));
                out.line(&format!("shard {}: as of {checkpoint}{floor}", shard.shard))?;
            }
            None => out.line(&format!("shard {}: no whole checkpoint, so nothing is deleted", shard.shard))?,
        }
    }
    let mut piles: BTreeMap<(bool, &str, Fate), (u64, u64)> = BTreeMap::new();
    for group in shards.iter().flat_map(|shard| &shard.groups) {
        let (objects, bytes) = piles.entry((!group.deleted, group.kind, group.fate)).or_default();
        *objects += group.objects;
        *bytes += group.bytes;
    }
    let mut table = Table::new(&["", "KIND", "OBJECTS", "BYTES", "REASON"]);
    for ((stays, kind, fate), (objects, bytes)) in piles {
        let what = if stays { "stays" } else { "goes" };
        let (objects, bytes) = (grouped(objects), grouped(bytes));
        table.row([what, kind, objects.as_str(), bytes.as_str(), fate.reason()]);
    }
    out.table(&table)?;
    let (objects, bytes) = total(shards);
    let sum = format!("{} objects with {} bytes would be deleted from {bucket}", grouped(objects), grouped(bytes));
    out.line(&sum)?;
    out.finish()
}
