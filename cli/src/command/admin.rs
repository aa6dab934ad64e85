//! `tidelog admin`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tidelog_api::cluster::Cluster;
use tidelog_api::status::Status;
use tidelog_client::Client;

use super::{cluster, connect, connect_for};
use crate::args::{AdminCommand, AdminRemote, JobArg, Remote};
use crate::output::{self, Out, Table, grouped};

/// Topics that a support bundle describes.
const MAX_BUNDLED_TOPICS: usize = 1_000;
/// How long the members are asked for: a cluster without a leader has a status all the same, and it is wanted then.
const MEMBERS_DEADLINE: Duration = Duration::from_secs(3);

/// Runs one of the commands for operators.
pub(super) async fn run(command: AdminCommand) -> Result<()> {
    match command {
        AdminCommand::Stop { remote } => stop(&remote).await,
        AdminCommand::Pause { remote, job } => set_paused(&remote, job, true).await,
        AdminCommand::Resume { remote, job } => set_paused(&remote, job, false).await,
        AdminCommand::Status { remote } => status(&remote).await,
        AdminCommand::AddNode { remote, node, address, patience } => {
            cluster::add(&remote, node, &address, patience.timeout).await
        }
        AdminCommand::RemoveNode { remote, node, patience } => cluster::remove(&remote, node, patience.timeout).await,
        AdminCommand::ReplaceNode { remote, node, by, address, patience } => {
            cluster::replace(&remote, node, (by, &address), patience.timeout).await
        }
        AdminCommand::TransferLeader { remote, to, patience } => cluster::transfer(&remote, to, patience.timeout).await,
        AdminCommand::Drain { remote } => cluster::drain(&remote).await,
        AdminCommand::LogLevel { remote, filter } => {
            let level = connect(&remote)?.set_log_level(&filter).await?;
            if remote.json { output::json(&level) } else { output::line(&format!("logging {}", level.filter)) }
        }
        AdminCommand::SupportBundle { remote, server, output } => {
            let clients = Remote { server, credentials: remote.credentials.clone(), json: remote.json };
            support_bundle(&remote, &clients, output.as_deref()).await
        }
    }
}

/// The server as it sees itself, and the cluster as its leader does, if there is one.
async fn status(remote: &AdminRemote) -> Result<()> {
    let status = connect(remote)?.status().await?;
    let members = connect_for(remote, MEMBERS_DEADLINE)?.cluster().await;
    if remote.json {
        let mut all = serde_json::to_value(&status)?;
        if let Value::Object(all) = &mut all {
            all.insert("cluster".to_owned(), part(members));
        }
        return output::json(&all);
    }
    print_status(&status, members)
}

async fn stop(remote: &AdminRemote) -> Result<()> {
    cluster::check_single(remote)?;
    let stopped = connect(remote)?.stop().await?;
    if remote.json {
        output::json(&stopped)?;
    }
    if !stopped.clean {
        bail!(
            "the server stops, but what it acknowledged last is only in its write-ahead log: keep its data directory"
        );
    }
    if remote.json { Ok(()) } else { output::line("the server stops; everything is in the bucket") }
}

async fn set_paused(remote: &AdminRemote, job: JobArg, paused: bool) -> Result<()> {
    let answer = connect(remote)?.set_paused(job.as_str(), paused).await?;
    if remote.json {
        return output::json(&answer);
    }
    output::line(&format!("{} is {}", answer.job, if answer.paused { "paused" } else { "running" }))
}

fn print_status(status: &Status, members: tidelog_client::Result<Cluster>) -> Result<()> {
    let mut out = Out::new();
    out.line(&format!("tidelog {}, node {}, roles {}", status.version, status.node_id, status.roles.join(", ")))?;
    out.line(&format!("cluster {}, incarnation {}", status.cluster_id, status.incarnation))?;
    if status.closed {
        out.line("closed: no appends are taken")?;
    }
    let health = match (&status.bucket.last_error, status.bucket.healthy) {
        (_, true) => "reachable".to_owned(),
        (Some(error), false) => format!("failing: {error}"),
        (None, false) => "not reached yet".to_owned(),
    };
    out.line(&format!("bucket {}, {health}", status.bucket.url))?;
    out.line("")?;
    match members {
        Ok(members) => {
            out.table(&cluster::members(&members))?;
            out.line("")?;
            out.table(&cluster::shards(&members))?;
        }
        Err(error) => out.line(&format!("members not known: {error}"))?,
    }
    for table in [shards(status), budgets(status), jobs(status)] {
        out.line("")?;
        out.table(&table)?;
    }
    out.finish()
}

fn shards(status: &Status) -> Table {
    let mut table =
        Table::new(&["SHARD HERE", "LEADER", "TERM", "APPLIED", "FLUSHED", "PARTITIONS", "SEGMENTS", "FILES"]);
    for shard in &status.shards {
        let leader = shard.leader.map_or_else(|| "none".to_owned(), |node| node.to_string());
        let numbers = [shard.term, shard.applied, shard.flushed, shard.partitions, shard.segments, shard.archive_files];
        table.row([shard.shard.to_string(), leader].into_iter().chain(numbers.map(|number| number.to_string())));
    }
    table
}

fn budgets(status: &Status) -> Table {
    let mut table = Table::new(&["BUDGET", "USED", "LIMIT"]);
    for budget in &status.budgets {
        table.row([budget.name.clone(), grouped(budget.used_bytes), grouped(budget.limit_bytes)]);
    }
    table
}

fn jobs(status: &Status) -> Table {
    let mut table = Table::new(&["JOB", "STATE", "LAST SUCCESS", "LAST ERROR"]);
    for job in &status.jobs {
        let success = job.last_success_ms.and_then(|millis| i64::try_from(millis).ok());
        let success = success.and_then(chrono::DateTime::from_timestamp_millis);
        table.row([
            job.name.clone(),
            if job.paused { "paused" } else { "running" }.to_owned(),
            success.map_or_else(|| "never".to_owned(), |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string()),
            job.last_error.clone().unwrap_or_default(),
        ]);
    }
    table
}

/// Everything a stranger needs to judge a server, from routes that show neither credentials nor keys nor values.
async fn support_bundle(remote: &AdminRemote, clients: &Remote, path: Option<&Path>) -> Result<()> {
    let client = connect(remote)?;
    let members = connect_for(remote, MEMBERS_DEADLINE)?.cluster().await;
    let bundle = json!({
        "tidelog": env!("CARGO_PKG_VERSION"),
        "made_at": chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        "status": part(client.status_with_hash().await),
        "cluster": part(members),
        "settings": part(client.settings().await),
        "topics": topics(&connect(clients)?).await,
        "metrics": part(client.metrics().await),
    });
    let mut text = serde_json::to_vec_pretty(&bundle)?;
    text.push(b'\n');
    match path {
        Some(path) => std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display())),
        None => {
            let mut out = Out::new();
            out.write(&text)?;
            out.finish()
        }
    }
}

/// A part that could not be had says why: a bundle is wanted most when something is broken.
fn part(answer: tidelog_client::Result<impl serde::Serialize>) -> Value {
    match answer {
        Ok(value) => serde_json::to_value(value).unwrap_or(Value::Null),
        Err(error) => json!({ "failed": error.to_string() }),
    }
}

async fn topics(client: &Client) -> Value {
    let list = match client.list_topics("").await {
        Ok(list) => list,
        Err(error) => return json!({ "failed": error.to_string() }),
    };
    let mut descriptions = Vec::new();
    for topic in list.iter().take(MAX_BUNDLED_TOPICS) {
        descriptions.push(part(client.describe_topic(&topic.name).await));
    }
    json!({ "count": list.len(), "described": descriptions })
}
