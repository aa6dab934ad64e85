//! A cluster of real processes: three voters on one bucket, whose nodes are killed, stopped, cut off, wiped, replaced and
//! upgraded under load. Every acknowledged record is there once, at its offset, whatever node is asked.

mod basics;
mod behind;
mod cut;
mod dev;
mod gateways;
mod hand_over;
mod identity;
mod kill;
mod membership;
mod rolling;
mod shards;
mod stop;

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::load::Load;
use crate::support::readers::Readers;
use crate::support::server::Settings;

const PARTITIONS: u64 = 3;

/// Small flushes, so that seconds of load go through every step of a flush and purge.
fn busy() -> Settings {
    Settings::default()
        .set("flush.bytes", "64KiB")
        .set("flush.interval", "200ms")
        .set("flush.checkpoint_gap", "50ms")
        .set("archive.interval", "500ms")
}

/// A cluster with a topic, producers that retry, and readers.
struct Busy {
    cluster: Cluster,
    load: Load,
    readers: Readers,
}

impl Busy {
    async fn start(settings: Settings) -> Self {
        let cluster = Cluster::start_with(3, settings).await;
        let http = cluster.http();
        http.create_topic("t", &json!({"partitions": PARTITIONS, "archive_after_ms": 0})).await;
        let load = Load::new(&http, "t", PARTITIONS).await;
        let readers = Readers::start(&http, "t", PARTITIONS);
        Self { cluster, load, readers }
    }

    /// Once so many records more are acknowledged; the producers have to run.
    async fn more(history: &crate::support::history::History, records: usize) {
        let enough = history.count() + records;
        eventually("the load", || async { (history.count() >= enough).then_some(()) }).await;
    }

    /// Every node has everything, in the same state, and the readers saw nothing else.
    async fn check(self) -> Cluster {
        let Self { cluster, load, readers } = self;
        cluster.converge().await;
        load.repeat().await;
        for node in cluster.running() {
            load.check(&cluster.http_of(node), "t").await;
        }
        assert!(readers.count() > 0, "the readers read nothing");
        readers.check(&cluster.http_of(cluster.leader().await), "t").await;
        cluster.converge().await;
        cluster
    }
}

/// Waits that long, for a fault that has to last a time.
async fn lasting(time: Duration) {
    let end = Instant::now() + time;
    eventually("the end of a fault", || async { (Instant::now() >= end).then_some(()) }).await;
}
