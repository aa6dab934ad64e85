//! `tidelog rebuild`: says what it would make, and makes it with `--yes`.

use std::num::NonZeroUsize;

use anyhow::{Context, Result, bail};
use clap::Args;
use tidelog::backup::Options;
use tidelog::backup::rebuild::{Report, propose};
use tidelog::config::Config;
use tidelog::store::Bucket;

use super::progress::shown;
use super::{arm_fail_points, now};
use crate::output::{self, Out, Table, grouped};

/// What a rebuild cannot have again, whatever the bucket holds.
const LOST: [&str; 4] = [
    "trims: records that were trimmed are back as far as their objects are still there",
    "deletions: a deleted topic is back, unless a later one has its name",
    "producers and idempotency keys: retries of what was written before are not recognised",
    "topics of which no record was flushed, and settings that were changed since a topic's newest segment",
];
/// Lines of a list that are printed; `--json` has all of them.
const SHOWN: usize = 20;

/// Arguments of `rebuild`.
#[derive(Debug, Args)]
pub(crate) struct RebuildArgs {
    /// The bucket [default: the directory ./tidelog-data/bucket]
    #[arg(long, value_name = "URL")]
    pub bucket: Option<String>,
    /// Write the checkpoints; without it they are only described
    #[arg(long)]
    pub yes: bool,
    /// Also if every shard has a usable checkpoint, which knows more
    #[arg(long)]
    pub ignore_checkpoints: bool,
    /// Objects read at once
    #[arg(long, default_value = "16", value_name = "N")]
    pub parallel: NonZeroUsize,
    /// Draw no progress bar
    #[arg(long)]
    pub quiet: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Describes or rebuilds.
pub(crate) async fn rebuild(args: &RebuildArgs) -> Result<()> {
    let config = Config { bucket: args.bucket.clone(), ..Config::default() };
    arm_fail_points()?;
    let bucket = Bucket::open_existing(&config.bucket_url()?, &config.store)?;
    let options = Options { parallel: args.parallel.get(), ..Options::default() };
    let how = (&options, now());
    let proposal =
        shown(args.quiet, async |progress| propose(&bucket, args.ignore_checkpoints, how, progress).await).await;
    let proposal = proposal.context("the bucket cannot be rebuilt")?;
    if args.json {
        output::json(&proposal.report)?
    } else {
        print(&proposal.report)?
    }
    if !args.yes {
        bail!(
            "nothing was written: stop whatever runs on this bucket, keep a copy of it, and call this again with --yes"
        );
    }
    proposal.write(&bucket).await.context("the checkpoints were not all written; call this again")?;
    if args.json {
        return Ok(());
    }
    output::line(&format!("done; start it with: tidelog serve --bucket {}", proposal.report.bucket))
}

fn print(report: &Report) -> Result<()> {
    let mut out = Out::new();
    out.line(&format!("{}, incarnation {} begins with:", report.bucket, report.incarnation))?;
    for shard in &report.shards {
        let (segments, files) = (grouped(shard.segments), grouped(shard.archive_files));
        let partitions = grouped(shard.partitions);
        out.line(&format!(
            "  shard {}: {partitions} partitions in {segments} segments and {files} archive files",
            shard.shard
        ))?;
        if shard.unused > 0 {
            out.line(&format!("    {} others are garbage, or left out", grouped(shard.unused)))?;
        }
    }
    let mut table = Table::new(&["  TOPIC", "ID", "PARTITIONS", "RECORDS", ""]);
    for topic in &report.topics {
        let notes = match (topic.deleted, topic.settings_known) {
            (true, _) => "deleted: another has its name",
            (false, false) => "settings are the defaults",
            (false, true) => "",
        };
        let (partitions, records) = (topic.partitions.to_string(), grouped(topic.records));
        table.row([format!("  {}", topic.name), topic.topic_id.clone(), partitions, records, notes.to_owned()]);
    }
    out.table(&table)?;
    out.line("what is lost:")?;
    LOST.iter().try_for_each(|what| out.line(&format!("  {what}")))?;
    let left_out = report.left_out.iter();
    let left_out = left_out.map(|gone| format!("{}: offsets {} to {}", gone.partition, gone.from, gone.to));
    list(&mut out, "stored, but left out:", left_out.collect())?;
    let unreadable = report.unreadable.iter().map(|object| format!("{}: {}", object.key, object.what));
    list(&mut out, "unreadable:", unreadable.collect())?;
    out.finish()
}

fn list(out: &mut Out, title: &str, lines: Vec<String>) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    out.line(title)?;
    lines.iter().take(SHOWN).try_for_each(|line| out.line(&format!("  {line}")))?;
    if lines.len() > SHOWN {
        out.line(&format!("  and {} more: --json has them", grouped((lines.len() - SHOWN) as u64)))?;
    }
    Ok(())
}
