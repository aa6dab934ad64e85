//! `tidelog verify`: reads the bucket itself; no server is asked.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytesize::ByteSize;
use clap::Args;
use tidelog::config::Config;
use tidelog::store::Bucket;
use tidelog::verify::{self, Options, Progress, Report, ShardReport};

use super::cost::parse_rate;
use crate::output::{self, Out, grouped};
use crate::progress::Bar;

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The bucket [default: the directory ./tidelog-data/bucket]
    #[arg(long, value_name = "URL")]
    pub bucket: Option<String>,
    /// Objects read at once; each takes some MiB of memory and a core
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub parallel: u16,
    /// Read no faster than this on average, such as 50MB/s [default: as fast as the bucket and the cores are]
    #[arg(long, value_name = "SIZE/s", value_parser = parse_rate)]
    pub rate: Option<ByteSize>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Verifies the bucket, prints what was found, and fails if anything is wrong.
pub(super) async fn run(args: &VerifyArgs) -> Result<()> {
    let config = Config { bucket: args.bucket.clone(), ..Config::default() };
    let bucket = Bucket::open_existing(&config.bucket_url()?, &config.store)?;
    let rate = args.rate.map(|rate| rate.as_u64());
    let options = Options { parallel: usize::from(args.parallel), rate, ..Options::default() };
    let bar = Arc::new(Bar::new(false));
    bar.show(0, 0, "listing");
    let shown = Arc::clone(&bar);
    let watch = Arc::new(move |progress: Progress| {
        let objects = format!("{} of {} objects", grouped(progress.objects), grouped(progress.total_objects));
        shown.show(progress.bytes, progress.total_bytes, objects);
    });
    let report = verify::verify(&bucket, &options, watch).await.context("the bucket cannot be verified");
    drop(bar);
    let report = report?;
    if args.json {
        output::json(&report)?
    } else {
        print(&report)?
    }
    match report.problems.len() {
        0 => Ok(()),
        1 => bail!("1 problem was found in {}", report.bucket),
        problems => bail!("{problems} problems were found in {}", report.bucket),
    }
}

fn print(report: &Report) -> Result<()> {
    let mut out = Out::new();
    let incarnation = report.incarnation.map_or_else(|| "none".to_owned(), |number| number.to_string());
    out.line(&format!("{}, incarnation {incarnation}", report.bucket))?;
    for shard in &report.shards {
        print_shard(&mut out, shard)?;
    }
    if report.foreign_objects > 0 {
        out.line(&format!("{} objects are not Tidelog's", grouped(report.foreign_objects)))?;
    }
    for problem in &report.problems {
        out.line(&format!("PROBLEM {}: {}", problem.place, problem.what))?;
    }
    match (report.is_ok(), report.shards.is_empty()) {
        (true, true) => out.line("there is no checkpoint yet, and nothing that one could name")?,
        (true, false) => out.line("all of it is whole")?,
        (false, _) => {}
    }
    out.finish()
}

fn print_shard(out: &mut Out, shard: &ShardReport) -> Result<()> {
    let Some(checkpoint) = &shard.checkpoint else { return out.line(&format!("shard {}: no checkpoint", shard.shard)) };
    let clean = if shard.clean { ", clean" } else { "" };
    out.line(&format!("shard {}: {checkpoint}{clean}", shard.shard))?;
    let objects = |count: u64, bytes: u64, what: &str| format!("  {} {what}, {} bytes", grouped(count), grouped(bytes));
    out.line(&format!("  {} records in {} partitions", grouped(shard.records), grouped(shard.partitions)))?;
    out.line(&objects(shard.segments, shard.segment_bytes, "segments"))?;
    out.line(&objects(shard.archive_files, shard.archive_bytes, "archive files"))?;
    out.line(&format!("  {} index parts", grouped(shard.index_parts)))?;
    out.line(&objects(shard.orphans, shard.orphan_bytes, "objects that this checkpoint does not name"))
}
