//! How long nobody is acknowledged when a leader is killed, when leadership is moved, when a leader is drained.

use std::time::Duration;

use serde_json::json;

use super::load::Load;
use super::support::binary::run;
use super::support::cluster::{Cluster, MAX_ELECTION_MS};
use super::support::eventually;
use super::support::http::Http;
use super::support::server::Settings;
use super::support::table::{Table, Target};

/// How often each is done.
const TIMES: u64 = 20;
/// Requests between two of them.
const BETWEEN: u64 = 500;
/// What a planned change may cost.
const PLANNED_MS: f64 = 300.0;
const TOPIC: &str = "bench";

async fn cluster() -> Cluster {
    let cluster = Cluster::start_direct(3, Settings::default()).await;
    // One partition, so that one leader decides about all of the load.
    cluster.http().create_topic(TOPIC, &json!({"partitions": 1})).await;
    cluster
}

/// Who leads the shard of the partition.
async fn leader(cluster: &Cluster) -> u64 {
    let http = cluster.http();
    eventually("a leader of the partition", || async {
        let answer = http.try_get(&format!("/v1/topics/{TOPIC}")).await.filter(|answer| answer.status == 200);
        if answer.is_none() {
            http.turn();
        }
        answer?.json()["partitions"][0]["leader"].as_u64().filter(|leader| cluster.running().contains(leader))
    })
    .await
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// `kill -9` of the leader.
pub(crate) async fn failover(table: &mut Table) {
    let mut cluster = cluster().await;
    let load = Load::start(&cluster.http(), TOPIC, true);
    let mut pauses = Vec::new();
    for _ in 0..table.scaled(TIMES) {
        load.more(BETWEEN).await;
        let leader = self::leader(&cluster).await;
        load.take();
        cluster.kill(leader);
        load.more(BETWEEN).await;
        pauses.push(load.take().pause);
        cluster.restart(leader).await;
        self::leader(&cluster).await;
    }
    load.stop().await;
    let election = Duration::from_millis(MAX_ELECTION_MS);
    let (p50, worst) = (median(&mut pauses), *pauses.iter().max().unwrap());
    let beside = format!("longest election timeout {} ms", MAX_ELECTION_MS);
    let ratio = |time: Duration| time.as_secs_f64() / election.as_secs_f64();
    let told =
        |name: &str, time| format!("{name} of {} kills {:.0} ms without acknowledgement", pauses.len(), millis(time));
    table.line("failover", &told("p50", p50), &beside, (ratio(p50), Target::AtMost(1.8)));
    // Twice the timeout and a second.
    let most = ratio(2 * election + Duration::from_secs(1));
    table.line("failover", &told("worst", worst), &beside, (ratio(worst), Target::AtMost(most)));
}

/// What a planned change cost, over all times.
struct Planned {
    pauses: Vec<Duration>,
    slowest: Duration,
    failures: Vec<String>,
}

impl Planned {
    fn new() -> Self {
        Self { pauses: Vec::new(), slowest: Duration::ZERO, failures: Vec::new() }
    }

    fn met(&mut self, load: &Load) {
        let met = load.take();
        self.pauses.push(met.pause);
        self.slowest = self.slowest.max(met.slowest);
        self.failures.extend(met.failures);
    }

    fn tell(mut self, table: &mut Table, line: &str) {
        let (p50, worst) = (median(&mut self.pauses), *self.pauses.iter().max().unwrap());
        let measured = format!(
            "longest of {} pauses {:.0} ms, p50 {:.0} ms, slowest request {:.0} ms",
            self.pauses.len(),
            millis(worst),
            millis(p50),
            millis(self.slowest)
        );
        table.line(line, &measured, "300 ms", (millis(worst) / PLANNED_MS, Target::AtMost(1.0)));
        for failure in self.failures.iter().take(3) {
            println!("  {failure}");
        }
        table.line(line, "requests that failed, each sent once", "", (self.failures.len() as f64, Target::AtMost(0.0)));
    }
}

/// `admin transfer-leader`, from node to node.
pub(crate) async fn transfer(table: &mut Table) {
    let cluster = cluster().await;
    let load = Load::start(&cluster.http(), TOPIC, false);
    let mut planned = Planned::new();
    load.more(BETWEEN).await;
    for _ in 0..table.scaled(TIMES) {
        let to = cluster.others(leader(&cluster).await)[0].to_string();
        load.take();
        admin(&cluster.urls(), &["transfer-leader", &to]);
        load.more(BETWEEN).await;
        planned.met(&load);
    }
    load.stop().await;
    planned.tell(table, "transfer");
}

/// `admin drain` of the leader, with the load on the nodes that stay.
pub(crate) async fn drain(table: &mut Table) {
    let mut cluster = cluster().await;
    let mut planned = Planned::new();
    for _ in 0..table.scaled(TIMES / 2) {
        let leader = self::leader(&cluster).await;
        let stay = cluster.others(leader).into_iter().map(|node| cluster.url(node)).collect();
        let load = Load::start(&Http::over(stay), TOPIC, false);
        load.more(BETWEEN).await;
        load.take();
        admin(&cluster.url(leader), &["drain"]);
        let ended = cluster.ended(leader).await;
        assert!(ended.success(), "{ended}\n{}", cluster.log(leader));
        load.more(BETWEEN).await;
        planned.met(&load);
        load.stop().await;
        cluster.restart(leader).await;
    }
    planned.tell(table, "drain");
}

fn admin(servers: &str, args: &[&str]) {
    tokio::task::block_in_place(|| run(servers, &[&["admin"], args].concat())).ok();
}
