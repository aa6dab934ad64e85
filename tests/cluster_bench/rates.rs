//! How much three nodes take, against one node in the same run.

use serde_json::Value;

use super::support::binary::bench;
use super::support::cluster::{Cluster, GATEWAY};
use super::support::server::{Server, Settings};
use super::support::table::{Table, Target};

/// Seconds of each load.
const SECONDS: u64 = 10;

/// 64 connections, one record of 256 bytes each.
pub(crate) async fn many(table: &mut Table) {
    let load = ["--connections", "64", "--record-size", "256", "--content-type", "json"];
    measure(table, "many", &load, ("requests_per_second", "requests/s"), 0.4).await;
}

/// Record batches of 1 MiB.
pub(crate) async fn large(table: &mut Table) {
    let load = ["--connections", "4", "--record-size", "1KiB", "--request-bytes", "1MiB"];
    let load = [&load[..], &["--content-type", "record-batches"]].concat();
    measure(table, "large", &load, ("value_mb_per_second", "MB/s"), 0.3).await;
}

/// What `tidelog bench produce` reports.
pub(crate) fn produce(server: &str, args: &[&str]) -> Value {
    bench(server, &[&["produce"], args].concat())
}

async fn measure(table: &mut Table, line: &str, load: &[&str], (figure, unit): (&str, &str), least: f64) {
    let duration = format!("{}s", table.scaled(SECONDS));
    let load = [load, &["--warm-up", "2s", "--duration", &duration]].concat();
    let one = Server::start().await;
    let rate = |report: &Value| report[figure].as_f64().unwrap();
    let alone = rate(&produce(one.url(), &load));
    drop(one);
    let mut cluster = Cluster::start_direct(3, Settings::default()).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    for (node, way) in [(leader, "the leader"), (follower, "another node"), (GATEWAY, "a gateway")] {
        // So that it costs nothing before.
        if node == GATEWAY {
            cluster.start_gateway().await;
        }
        let report = produce(&cluster.url(node), &load);
        let latency = &report["latency"]["p50_us"];
        let measured = format!("by way of {way} {:.0} {unit}, p50 {latency} us", rate(&report));
        let beside = format!("one node {alone:.0} {unit}");
        table.line(line, &measured, &beside, (rate(&report) / alone, Target::AtLeast(least)));
    }
}
