//! `tidelog compact`: a compactor in a process of its own, over the server's HTTP API.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;
use tidelog::checkpoints::{self, lives};
use tidelog::config::{Config, Log, LogFormat, Sources, StartProbe};
use tidelog::error::{Error, ErrorKind};
use tidelog::queue::{ClaimedJob, CompletedJob, JobRef};
use tidelog::store::{Bucket, Usage};
use tidelog_client::Client;
use tidelog_compactor::{Jobs, Worker};
use tokio_util::sync::CancellationToken;

use super::connect;
use super::serve::{logging, signals::Signals};
use crate::args::{self, CompactArgs};
use crate::output;

/// How long a start waits for the bucket's answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two attempts to learn whether the bucket is the server's.
const PAUSE: Duration = Duration::from_secs(5);

/// Works until a signal, or with `--once` until nothing is left.
pub(super) async fn run(args: CompactArgs) -> Result<()> {
    let config = Config::load(&Sources::from_process())?;
    let format = args.log_format.map_or(config.log.format, |format| match format {
        args::LogFormat::Text => LogFormat::Text,
        args::LogFormat::Json => LogFormat::Json,
    });
    logging::start(&Log { format, ..config.log.clone() })?;
    let client = connect(&args.remote)?;
    let url = match args.bucket {
        Some(url) => url,
        None => client.status().await?.bucket.url,
    };
    let bucket = Bucket::open(&url, &config.store).with_context(|| format!("cannot open the bucket {url}"))?;
    probe(&bucket, config.store.probe).await?;
    let mut signals = Signals::new()?;
    tokio::select! {
        same = refuse_other_bucket(&client, &bucket, args.once) => same?,
        name = signals.next() => bail!("ended by {name} before the server and the bucket had answered"),
    }
    let name = format!("compact-{}", std::process::id());
    let worker = Worker::new(RemoteJobs(client), bucket, name, config.archive.interval);
    let shutdown = CancellationToken::new();
    if args.once {
        return once(&worker, &shutdown, signals, args.remote.json).await;
    }
    if args.remote.json {
        output::json(&json!({"bucket": url, "server": args.remote.server}))?;
    } else {
        output::line(&format!("compacting {url} for {}", args.remote.server))?;
    }
    let work = tokio::spawn(worker.run(shutdown.clone()));
    let name = signals.next().await;
    tracing::info!(signal = name, "ending");
    shutdown.cancel();
    signals.end_at_next();
    work.await.context("the worker broke off")
}

/// Whether the bucket lets a compactor do its work; one that is away is waited for by the jobs themselves.
async fn probe(bucket: &Bucket, mode: StartProbe) -> Result<()> {
    if mode == StartProbe::Off {
        return Ok(());
    }
    match tokio::time::timeout(PATIENCE, bucket.probe_for(Usage::Converts)).await {
        Ok(Err(unusable)) if unusable.refused && mode == StartProbe::Refuse => return Err(unusable.into()),
        Ok(Err(unusable)) => tracing::warn!("{unusable}: starting all the same"),
        Err(_) => tracing::warn!(bucket = bucket.url(), "the bucket does not answer yet"),
        Ok(Ok(())) => {}
    }
    Ok(())
}

/// Waits until server and bucket have answered, unless `once`; an error if the bucket is another one than the server's.
///
/// The server believes a compactor that a file is there, and deletes the segments in time: a compactor that wrote into a copy of
/// the bucket would lose what it converted. A copy of the life that still goes on cannot be told from the bucket itself.
async fn refuse_other_bucket(client: &Client, bucket: &Bucket, once: bool) -> Result<()> {
    loop {
        match difference(client, bucket).await {
            Ok(None) => return Ok(()),
            Ok(Some(difference)) => bail!(
                "{} is another bucket than the server's, perhaps a copy of it: {difference}. What was converted into it the \
                 server would miss",
                bucket.url()
            ),
            Err(error) if once || !is_transient(&error) => return Err(error),
            Err(error) => tracing::warn!("is this the server's bucket? {error:#}: asking again"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// In what the bucket differs from what the server says of its own.
async fn difference(client: &Client, bucket: &Bucket) -> Result<Option<String>> {
    let status = client.status().await.context("the server does not say which bucket it has")?;
    let cluster = lives::founded(bucket).await.context("the bucket does not say which cluster it is of")?;
    let Some(cluster) = cluster else { return Ok(Some("it has no cluster".to_owned())) };
    if cluster.cluster_id != status.cluster_id {
        return Ok(Some(format!("it is of cluster {}, and the server of {}", cluster.cluster_id, status.cluster_id)));
    }
    let newest = checkpoints::incarnations(bucket).await.context("the bucket does not list the cluster's lives")?;
    let newest = newest.last().map_or(0, |newest| newest.0);
    let incarnation = status.incarnation;
    Ok((newest != incarnation).then(|| {
        format!("the newest life of the cluster in it is incarnation {newest}, and the server's is {incarnation}")
    }))
}

/// Whether it may be over when it is asked again.
fn is_transient(error: &anyhow::Error) -> bool {
    match (error.downcast_ref::<tidelog_client::Error>(), error.downcast_ref::<Error>()) {
        (Some(error), _) => error.retryable(),
        (_, Some(error)) => error.kind() == ErrorKind::Unavailable,
        (None, None) => false,
    }
}

/// Does what is due. A signal ends it: the job in hand is given back.
async fn once(
    worker: &Worker<RemoteJobs>,
    shutdown: &CancellationToken,
    mut signals: Signals,
    as_json: bool,
) -> Result<()> {
    let mut work = pin!(async {
        let mut count = 0_u64;
        while worker.work_once(shutdown).await? {
            count += 1;
        }
        Ok::<_, Error>(count)
    });
    let name = tokio::select! {
        done = &mut work => {
            let jobs = done?;
            return match as_json {
                true => output::json(&json!({"jobs": jobs})),
                false => output::line(&format!("{jobs} archive jobs done, nothing is due")),
            };
        }
        name = signals.next() => name,
    };
    shutdown.cancel();
    signals.end_at_next();
    // That it was not done is said below.
    let _ = work.await;
    bail!("ended by {name} before everything was done that is due")
}

/// The jobs of a server.
#[derive(Clone)]
struct RemoteJobs(Client);

impl Jobs for RemoteJobs {
    async fn claim(&self, worker: &str) -> tidelog::error::Result<Option<ClaimedJob>> {
        self.0.claim_archive_job(worker).await.map_err(engine_error)
    }

    async fn extend(&self, job: JobRef) -> tidelog::error::Result<()> {
        self.0.extend_archive_job(&job).await.map_err(engine_error)
    }

    async fn complete(&self, done: CompletedJob) -> tidelog::error::Result<()> {
        self.0.complete_archive_job(&done).await.map_err(engine_error)
    }

    async fn abandon(&self, job: JobRef, reason: &str) -> tidelog::error::Result<()> {
        self.0.abandon_archive_job(job, reason).await.map_err(engine_error)
    }

    async fn wait(&self, at_most: Duration) {
        tokio::time::sleep(at_most).await;
    }
}

/// The error that the engine would have given; the worker looks at the code `stale_job` alone.
fn engine_error(error: tidelog_client::Error) -> Error {
    let message = error.to_string();
    let known = match error.code() {
        Some("stale_job") => Error::new(ErrorKind::Conflict, "stale_job", message),
        _ => Error::unavailable(message),
    };
    known.with_source(error)
}

#[cfg(test)]
#[path = "compact_tests.rs"]
mod tests;
