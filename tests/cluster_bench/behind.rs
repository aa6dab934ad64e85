//! A follower that comes back after a gigabyte was written: how long it takes, and what the producers notice.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::rates::produce;
use super::support::binary::command;
use super::support::cluster::Cluster;
use super::support::http::Http;
use super::support::server::Settings;
use super::support::table::{Table, Target};
use super::support::{DEADLINE, eventually};

/// Megabytes that it misses.
const MISSED: u64 = 1_000;
/// How long the rate is measured before it comes back.
const BEFORE: Duration = Duration::from_secs(10);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Connections of the load that goes on: less than the machine can take, as a cluster that lives has it.
const LOAD: [&str; 8] =
    ["--record-size", "1KiB", "--request-bytes", "64KiB", "--content-type", "record-batches", "--connections", "4"];

/// Killed, a gigabyte, started again under load.
pub(crate) async fn behind(table: &mut Table) {
    let mut cluster = Cluster::start_direct(3, Settings::default()).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let (url, http) = (cluster.url(leader), cluster.http_of(leader));
    produce(&url, &[&LOAD[..], &["--duration", "1s"]].concat());
    cluster.kill(follower);
    let missed = format!("{}MB", table.scaled(MISSED));
    let large = ["--record-size", "1KiB", "--request-bytes", "1MiB", "--content-type", "record-batches"];
    produce(&url, &[&large[..], &["--connections", "4", "--bytes", &missed]].concat());
    let mut load = command(&["bench", "produce", "--duration", "10m"]);
    load.args(LOAD).env("TIDELOG_SERVER", &url).stdout(Stdio::null()).stdin(Stdio::null());
    let mut load = load.spawn().unwrap();
    loads(&cluster, leader).await;
    let before = rate(&http, async { tokio::time::sleep(BEFORE).await }).await;
    let begun = Instant::now();
    cluster.spawn(follower);
    let during = rate(&http, caught_up(&cluster, leader, follower)).await;
    let took = begun.elapsed();
    load.kill().unwrap();
    load.wait().unwrap();
    let measured = format!("{:.1} MB/s while it catches up with {missed} in {:.1} s", during / 1e6, took.as_secs_f64());
    let beside = format!("{:.1} MB/s before", before / 1e6);
    table.line("behind", &measured, &beside, (during / before, Target::AtLeast(0.7)));
}

/// Bytes a second that are acknowledged meanwhile.
async fn rate(http: &Http, meanwhile: impl Future<Output = ()>) -> f64 {
    let (bytes, begun) = (http.metric("tidelog_produce_entry_bytes_sum", &[]).await, Instant::now());
    meanwhile.await;
    (http.metric("tidelog_produce_entry_bytes_sum", &[]).await - bytes) / begun.elapsed().as_secs_f64()
}

/// Returns once the leader takes what the load sends.
async fn loads(cluster: &Cluster, leader: u64) {
    let applied = || async { cluster.shard(leader).await?["applied"].as_u64() };
    let first = eventually("an answer of the leader", applied).await;
    eventually("a record of the load", || async { applied().await.filter(|applied| *applied > first) }).await;
}

/// Until it has applied what its leader had applied at a time after it was started, of every shard: the load is in one of them.
async fn caught_up(cluster: &Cluster, leader: u64, follower: u64) {
    let applied = async |node| -> Option<Vec<u64>> {
        let shards = cluster.shards(node).await?;
        shards.iter().map(|shard| shard["applied"].as_u64()).collect()
    };
    let begun = Instant::now();
    let mut goal = None;
    loop {
        assert!(begun.elapsed() < 10 * DEADLINE, "it does not catch up:\n{}", cluster.log(follower));
        if goal.is_none() {
            goal = applied(leader).await;
        }
        if let (Some(goal), Some(applied)) = (&goal, applied(follower).await)
            && goal.len() == applied.len()
            && goal.iter().zip(&applied).all(|(goal, applied)| applied >= goal)
        {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}
