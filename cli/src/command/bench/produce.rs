//! `tidelog bench produce`.

use std::sync::OnceLock;

use anyhow::Result;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use hyper::Uri;
use serde_json::json;
use tidelog_api::topics::SettingsRequest;
use tidelog_client::Client;

use super::args::{CompressionArg, Load, ProduceBench, Sink};
use super::body::Bodies;
use super::drive::{self, Job, Observe};
use super::observe::Observer;
use super::pace::{Extent, Schedule};
use super::report::{Figures, Report, parameters};
use super::tally::Tally;
use super::wire::Target;
use super::{DEFAULT_DURATION, block_on};
use crate::args::Remote;
use crate::command::connect;

/// Topics that are created at the same time.
const ENSURED_AT_ONCE: usize = 16;

/// Measures, prints, and fails if a request failed.
pub(super) fn run(args: &ProduceBench) -> Result<()> {
    let target = Target::of(&args.remote)?;
    let bodies = Bodies::new(&args.load)?;
    let uris = block_on(prepare(&args.remote, &args.sink, args.topics, args.load.compression))?;
    let mut observer = Observer::new(&args.watch, &args.remote)?;
    let tally = send(&target, &args.load, &bodies, &uris, &mut observer)?;
    let mut parameters = parameters(&args.load, &bodies);
    parameters["topic"] = json!(args.sink.topic);
    parameters["topics"] = json!(args.topics);
    parameters["partitions"] = json!(uris.len() / args.topics as usize);
    parameters["acks"] = json!(args.sink.acks.as_str());
    let each = (bodies.records, bodies.value_bytes);
    let report = Report {
        bench: "produce",
        version: env!("CARGO_PKG_VERSION"),
        parameters,
        figures: Figures::new(&tally, args.load.warm_up, each, &observer),
        end_to_end: None,
        server: observer.server(),
        metrics: observer.grown(),
    };
    report.print(args.remote.json)?;
    report.verdict(args.sink.allow_errors)
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
        start: &OnceLock::new(),
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

/// Creates what is missing; the addresses of all partitions of `topics` topics.
pub(super) async fn prepare(
    remote: &Remote,
    sink: &Sink,
    topics: u32,
    compression: Option<CompressionArg>,
) -> Result<Vec<Uri>> {
    let client = connect(remote)?;
    let settings = settings(sink.partitions, compression)?;
    let names = (0..topics).map(|number| match topics {
        1 => sink.topic.clone(),
        _ => format!("{}-{number:05}", sink.topic),
    });
    let ensured = stream::iter(names).map(|name| ensure(&client, name, &settings)).buffered(ENSURED_AT_ONCE);
    let partitions: Vec<(String, u32)> = ensured.try_collect().await?;
    // A partition of each topic, then the next one of each: a topic's partitions are written evenly over time.
    let most = partitions.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let pairs = (0..most).flat_map(|partition| {
        partitions.iter().filter(move |(_, count)| partition < *count).map(move |(name, _)| (name, partition))
    });
    let acks = sink.acks.as_str();
    let uri = |(name, partition): (&String, u32)| {
        Ok(format!("/v1/topics/{name}/partitions/{partition}/records?acks={acks}").parse()?)
    };
    pairs.map(uri).collect()
}

/// The topic and how many partitions it has, after creating it if there is none of that name.
async fn ensure(client: &Client, name: String, settings: &SettingsRequest) -> Result<(String, u32)> {
    let topic = match client.describe_topic(&name).await {
        Err(error) if error.code() == Some("topic_not_found") => client.create_topic(&name, settings).await?.0,
        found => found?,
    };
    Ok((name, topic.settings.partitions))
}

fn settings(partitions: u32, compression: Option<CompressionArg>) -> Result<SettingsRequest> {
    let mut settings = json!({ "partitions": partitions });
    if let Some(compression) = compression {
        settings["compression"] = json!(compression);
    }
    Ok(serde_json::from_value(settings)?)
}
