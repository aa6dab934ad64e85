//! Ten thousand partitions: what they cost when nobody writes, and when each is written once a second.

use std::time::{Duration, Instant};

use super::rates::produce;
use super::support::cluster::Cluster;
use super::support::http::Http;
use super::support::process::Process;
use super::support::server::Settings;
use super::support::table::Table;

const TOPICS: u64 = 1_000;
/// Partitions of each.
const PARTITIONS: &str = "10";
/// How long each is measured.
const SECONDS: u64 = 60;

/// What all nodes used.
struct Used {
    cpu: Vec<Duration>,
    checkpoints: f64,
    begun: Instant,
}

impl Used {
    async fn now(cluster: &Cluster) -> Self {
        let nodes = cluster.running();
        let cpu = nodes.iter().map(|node| Process::of(cluster.process_id(*node)).processor()).collect();
        let http: Vec<Http> = nodes.iter().map(|node| cluster.http_of(*node)).collect();
        let mut checkpoints = 0.0;
        for http in &http {
            checkpoints += http.metric("tidelog_flush_checkpoint_bytes_total", &[]).await;
        }
        Self { cpu, checkpoints, begun: Instant::now() }
    }

    fn tell(&self, table: &mut Table, since: &Self, cluster: &Cluster, what: &str) {
        let seconds = (self.begun - since.begun).as_secs_f64();
        let cores: Vec<String> = self
            .cpu
            .iter()
            .zip(&since.cpu)
            .map(|(now, before)| format!("{:.3}", (*now - *before).as_secs_f64() / seconds))
            .collect();
        let resident = |node: &u64| (Process::of(cluster.process_id(*node)).resident() >> 20).to_string();
        let resident: Vec<String> = cluster.running().iter().map(resident).collect();
        let measured = format!("{what}: {} cores by node, {} MiB resident", cores.join(" "), resident.join(" "));
        let checkpoints =
            format!("{:.0} kB of checkpoints in {seconds:.0} s", (self.checkpoints - since.checkpoints) / 1e3);
        table.told("idle", &measured, &checkpoints);
    }
}

/// Both.
pub(crate) async fn idle(table: &mut Table) {
    let cluster = Cluster::start_direct(3, Settings::default()).await;
    let url = cluster.url(cluster.leader().await);
    let topics = table.scaled(TOPICS);
    let (count, rate) = (topics.to_string(), (topics * 10).to_string());
    let many = ["--topics", &count, "--partitions", PARTITIONS, "--connections", "64", "--record-size", "256"];
    produce(&url, &[&many[..], &["--records", &rate]].concat());
    let duration = table.scaled(SECONDS);
    let before = Used::now(&cluster).await;
    tokio::time::sleep(Duration::from_secs(duration)).await;
    Used::now(&cluster).await.tell(table, &before, &cluster, &format!("{rate} partitions idle"));
    let before = Used::now(&cluster).await;
    let report = produce(&url, &[&many[..], &["--rate", &rate, "--duration", &format!("{duration}s")]].concat());
    Used::now(&cluster).await.tell(table, &before, &cluster, &format!("{rate} partitions once a second"));
    let (rate, latency) = (&report["requests_per_second"], &report["latency"]);
    table.told("idle", &format!("{rate} requests/s, p50 {} us, p99 {} us", latency["p50_us"], latency["p99_us"]), "");
}
