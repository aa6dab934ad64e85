//! `tidelog produce`: rows of the input to records of a topic, each written once whatever breaks.
//!
//! ```text
//! input ── one blocking thread ──► batches by partition ── at most 32 MiB ──► one request at a time for each partition
//!          parse, choose partition     (cut.rs)                                  (send.rs)
//! ```
//!
//! The command chooses partitions itself, because a producer's sequence belongs to a partition: by the key as Kafka's
//! clients do, else in turn by row number. So the n-th record of a partition is the same in every run over the same input,
//! its sequence is n, and `--resume` has only to ask how far each partition came and to leave that many of its rows out.

mod cut;
mod identity;
mod progress;
mod send;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Result, anyhow, bail};
use tidelog_api::ErrorCode;
use tidelog_api::producers::ProducerPartition;
use tidelog_api::topics::{TopicDescription, ValueFormat};
use tidelog_client::{Acks, Client, Producer, Topic};

use self::cut::Cutter;
use self::progress::Progress;
use self::send::Sender;
use super::connect;
use super::topic::parse_settings;
use crate::args::{AcksArg, ProduceArgs};
use crate::exit::{note, usage};
use crate::input::{self, Extent, Format};
use crate::output::grouped;

/// Reads, sends, and says what was done.
pub(super) async fn run(args: &ProduceArgs) -> Result<()> {
    let format = check_usage(args)?;
    let client = connect(&args.remote)?;
    if args.create {
        create(&client, args, format).await?;
    }
    let (topic, description) = client.topic(&args.topic).await?;
    check_partition(args, &description)?;
    let input = input::open(args.file.as_deref(), format, args.key_field.as_deref())?;
    let partitions = description.settings.partitions;
    let name = identity::producer_name(args, format, &description)?;
    let sender = Arc::new(open_sender(&client, args, topic, name.as_deref()).await?);

    let started = Instant::now();
    let interactive = input.extent == Extent::Unknown;
    let extent = match (input.extent, args.limit) {
        (Extent::Rows(rows), Some(limit)) => Extent::Rows(rows.min(limit)),
        (extent, _) => extent,
    };
    let progress = Progress::new(extent, Arc::clone(&input.read), args.remote.json);
    let stop = Arc::new(AtomicBool::new(false));
    let cutter = Cutter::new(partitions, args.partition, sender.written(), args.limit);
    let cutter = cutter.ending_with(sender.resumed_after().await?);
    let batches = cut::spawn(input.rows, cutter, interactive, Arc::clone(&stop));
    let result = send::drive(&sender, batches, &progress).await;
    // Whoever reads the input may be in the middle of it.
    stop.store(true, Ordering::Relaxed);
    progress.finish();
    let sent = progress.sent();
    if let Err(error) = result {
        return Err(explain(error, &sent, name.is_some()));
    }
    progress::summary(args, &sent, &sender, started.elapsed())
}

fn check_usage(args: &ProduceArgs) -> Result<Format> {
    let by_extension = args.file.as_deref().and_then(Format::of);
    let format = args.format.or(by_extension).unwrap_or(Format::Lines);
    if let Some(field) = args.key_field.as_deref().filter(|_| !format.has_fields()) {
        return Err(usage(format!("--key-field {field}: lines have no fields, name another --format")));
    }
    if args.resume && args.file.is_none() && args.producer.is_none() {
        return Err(usage("--resume without --file needs --producer: standard input has no name"));
    }
    if args.acks == AcksArg::None && (args.resume || args.producer.is_some()) {
        return Err(usage("--acks none promises nothing, so there is nothing to resume and no producer to name"));
    }
    Ok(format)
}

/// Creates the topic unless it is there; one that is there has to have the settings that were asked for.
async fn create(client: &Client, args: &ProduceArgs, format: Format) -> Result<()> {
    let mut settings = parse_settings(args.partitions, &args.settings)?;
    // Rows with fields are JSON objects. What nobody asked for is not asked of a topic that exists.
    if format.has_fields() && settings.value_format.is_none() {
        match client.topic(&args.topic).await {
            Err(error) if error.is(ErrorCode::TopicNotFound) => settings.value_format = Some(Some(ValueFormat::Json)),
            found => drop(found?),
        }
    }
    let (description, created) = client.create_topic(&args.topic, &settings).await?;
    if created {
        note(&format!("created topic {} (partitions: {})", args.topic, description.settings.partitions));
    }
    Ok(())
}

fn check_partition(args: &ProduceArgs, description: &TopicDescription) -> Result<()> {
    let count = description.settings.partitions;
    match args.partition {
        Some(partition) if partition >= count => {
            bail!("topic {} has no partition {partition}, it has {count}", args.topic)
        }
        _ => Ok(()),
    }
}

/// Registers the producer, or takes up the one that `--resume` names.
async fn open_sender(client: &Client, args: &ProduceArgs, topic: Topic, name: Option<&str>) -> Result<Sender> {
    let acks = match args.acks {
        AcksArg::None => return Ok(Sender::plain(topic)),
        AcksArg::Quorum => Acks::Quorum,
        AcksArg::Object => Acks::Object,
    };
    let topic_name = args.topic.as_str();
    let Some(name) = name.filter(|_| args.resume) else {
        return Ok(Sender::idempotent(register(client, topic, topic_name, name).await?, acks));
    };
    let producer = Producer::resume(topic.clone(), name).await.map_err(|error| match error.code() {
        Some("producer_not_found") => nothing_to_resume(topic_name),
        _ => error.into(),
    })?;
    if producer.written().is_empty() {
        let state = topic.producer_state(producer.id()).await?;
        return Err(superseded(topic_name, &state.partitions, producer.epoch()));
    }
    Ok(Sender::idempotent(producer, acks))
}

/// Begins a run anew, which an earlier one cannot be resumed after.
async fn register(client: &Client, topic: Topic, topic_name: &str, name: Option<&str>) -> Result<Producer> {
    // Before the epoch is raised, while an earlier run can still be resumed. Nothing else depends on it, so it need not succeed.
    let is_known = match name {
        Some(name) => client.find_producer(name).await.is_ok(),
        None => false,
    };
    let again = || {
        note(&format!(
            "note: this was produced to {topic_name} before and is now appended again; --resume continues an interrupted run"
        ));
    };
    if is_known {
        again();
    }
    let producer = Producer::register(topic, name).await?;
    if producer.epoch() > 0 && !is_known {
        again();
    }
    Ok(producer)
}

/// Why a producer under whose newest epoch nothing was written cannot be resumed: its partitions may remember an older one.
fn superseded(topic: &str, partitions: &[ProducerPartition], epoch: u16) -> anyhow::Error {
    let older = partitions.iter().filter(|partition| partition.epoch < epoch);
    let records: u64 = older.map(|partition| u64::from(partition.last_sequence) + 1).sum();
    if records == 0 {
        return nothing_to_resume(topic);
    }
    anyhow!(
        "an earlier run wrote {} records to {topic}; it was superseded by a later run without --resume, which wrote none, and \
         cannot be resumed any more: produce without --resume to append the input from its beginning",
        grouped(records)
    )
}

fn nothing_to_resume(topic: &str) -> anyhow::Error {
    anyhow!(
        "there is nothing to resume: no run with this input, these options and the topic's present partitions has \
         written to {topic}; produce without --resume"
    )
}

/// Adds what a person can do about it.
fn explain(error: anyhow::Error, sent: &progress::Sent, named: bool) -> anyhow::Error {
    let collided = error.downcast_ref::<tidelog_client::Error>().and_then(tidelog_client::Error::code);
    match collided {
        Some("producer_fenced") => error.context("a later run of this producer has taken over"),
        Some("sequence_reused" | "sequence_gap" | "duplicate_sequence") => {
            error.context("another run of this producer is writing, or the input is not what it was")
        }
        _ if named && sent.records + sent.skipped > 0 => error.context(format!(
            "{} records were written before this; the same command with --resume continues",
            sent.records + sent.skipped
        )),
        _ => error,
    }
}
