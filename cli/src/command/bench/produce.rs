//! `tidelog bench produce`.

use anyhow::Result;
use hyper::Uri;
use serde_json::json;
use tidelog_api::topics::SettingsRequest;
use tidelog_client::Client;

use super::args::{CompressionArg, Load, ProduceBench};
use super::body::Bodies;
use super::drive::{self, Job, Observe};
use super::observe::Observer;
use super::pace::{Extent, Schedule};
use super::report::{Figures, Report, parameters};
use super::tally::Tally;
use super::wire::Target;
use super::{DEFAULT_DURATION, block_on};
use crate::args::AcksArg;
use crate::command::connect;

/// Measures, prints, and fails if a request failed.
pub(super) fn run(args: &ProduceBench) -> Result<()> {
    let target = Target::parse(&args.remote.server)?;
    let bodies = Bodies::new(&args.load)?;
    let uris = block_on(prepare(args))?;
    let mut observer = Observer::new(&args.watch, &args.remote)?;
    let tally = send(&target, &args.load, &bodies, &uris, &mut observer)?;
    let mut parameters = parameters(&args.load, &bodies);
    parameters["topic"] = json!(args.topic);
    parameters["topics"] = json!(args.topics);
    parameters["partitions"] = json!(uris.len() / args.topics as usize);
    parameters["acks"] = json!(acks(args.acks));
    let each = (bodies.records, bodies.value_bytes);
    let report = Report {
        bench: "produce",
        version: env!("CARGO_PKG_VERSION"),
        parameters,
        figures: Figures::new(&tally, args.load.warm_up, each, &observer),
        server: observer.server(),
        metrics: observer.grown(),
    };
    report.print(args.remote.json)?;
    report.verdict(args.watch.allow_errors)
}

/// Sends the load to these addresses in turn.
pub(super) fn send(
    target: &Target,
    load: &Load,
    bodies: &Bodies,
    uris: &[Uri],
    observer: &mut impl Observe,
) -> Result<Tally> {
    let request = |n: u64| target.post(uris[n as usize % uris.len()].clone(), bodies.media_type, bodies.get(n));
    let job = Job {
        target,
        request: &request,
        connections: load.connections,
        threads: load.threads,
        schedule: load.rate.map(Schedule::new),
        extent: extent(load, bodies),
    };
    drive::run(&job, observer)
}

/// When the load ends: at the first of what was asked for.
fn extent(load: &Load, bodies: &Bodies) -> Extent {
    let by_records = load.records.map(|records| records.div_ceil(bodies.records));
    let by_bytes = load.bytes.map(|bytes| bytes.as_u64().div_ceil(bodies.value_bytes));
    let requests = by_records.into_iter().chain(by_bytes).min();
    let duration = load.duration.or(requests.is_none().then_some(DEFAULT_DURATION));
    Extent { warm_up: load.warm_up, duration, requests }
}

/// Creates what is missing; the addresses of all partitions, topic by topic.
async fn prepare(args: &ProduceBench) -> Result<Vec<Uri>> {
    let client = connect(&args.remote)?;
    let mut partitions = Vec::new();
    for number in 0..args.topics {
        let name = if args.topics == 1 { args.topic.clone() } else { format!("{}-{number:05}", args.topic) };
        let count = ensure(&client, &name, args).await?;
        partitions.push((name, count));
    }
    // A partition of each topic, then the next one of each: a topic's partitions are written evenly over time.
    let most = partitions.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let pairs = (0..most).flat_map(|partition| {
        partitions.iter().filter(move |(_, count)| partition < *count).map(move |(name, _)| (name, partition))
    });
    let acks = acks(args.acks);
    let uri = |(name, partition): (&String, u32)| {
        Ok(format!("/v1/topics/{name}/partitions/{partition}/records?acks={acks}").parse()?)
    };
    pairs.map(uri).collect()
}

/// How many partitions the topic has, after creating it if there is none of that name.
async fn ensure(client: &Client, name: &str, args: &ProduceBench) -> Result<u32> {
    let found = match client.describe_topic(name).await {
        Err(error) if error.code() == Some("topic_not_found") => None,
        other => Some(other?),
    };
    let topic = match found {
        Some(topic) => topic,
        None => client.create_topic(name, &settings(args)?).await?.0,
    };
    Ok(topic.settings.partitions)
}

fn settings(args: &ProduceBench) -> Result<SettingsRequest> {
    let compression = args.load.compression.map(|compression| match compression {
        CompressionArg::Zstd => "zstd",
        CompressionArg::None => "none",
    });
    let mut settings = json!({ "partitions": args.partitions });
    if let Some(compression) = compression {
        settings["compression"] = json!(compression);
    }
    Ok(serde_json::from_value(settings)?)
}

const fn acks(acks: AcksArg) -> &'static str {
    match acks {
        AcksArg::Quorum => "quorum",
        AcksArg::Object => "object",
        AcksArg::None => "none",
    }
}
