//! The processes of a run, and its clients: a cluster with its compactor, four producers, three consumers.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use tokio::task::JoinHandle;

use super::compactor::Compactor;
use super::consume::{self, Consumer};
use super::journal::Journal;
use super::produce::{self, Producer};
use super::support::cluster::Cluster;
use super::support::eventually;
use super::support::http::Http;
use super::support::operators;
use super::support::server::Settings;
use super::{PARTITIONS, TOPIC};

/// The number of the first gateway in the harness; of its own it has none.
const GATEWAY: u64 = 1_001;

/// What nodes that vote do besides; the seed decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Roles {
    /// Nothing: clients reach the gateways alone, and operators all nodes.
    Wal,
    /// They serve clients as well.
    GatewayWal,
}

impl Roles {
    /// Half of the seeds each.
    pub(crate) const fn of(seed: u64) -> Self {
        if seed.is_multiple_of(2) { Self::Wal } else { Self::GatewayWal }
    }

    /// As `--roles` has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Wal => "wal",
            Self::GatewayWal => "gateway,wal",
        }
    }
}

/// What a fault needs.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) compactor: Compactor,
    pub(crate) journal: Arc<Journal>,
    pub(crate) random: StdRng,
    /// Nodes that vote.
    pub(crate) voters: BTreeSet<u64>,
    /// What they do from their next start on.
    pub(crate) roles: Roles,
    /// What clients talk to: processes that keep no log.
    pub(crate) gateways: Vec<u64>,
    /// Nodes that started although a bit of their log was flipped: they may find that later, and end.
    pub(crate) flipped: BTreeSet<u64>,
    next_node: u64,
    producing: Arc<AtomicBool>,
    producers: Vec<JoinHandle<Producer>>,
    idle: Vec<Producer>,
    consuming: Arc<AtomicBool>,
    consumers: Vec<JoinHandle<Consumer>>,
}

/// Flushes, archive jobs, purges and collections within seconds, so that the faults meet each of their steps.
fn settings() -> Settings {
    Settings::default()
        .set("cluster.balance_after", "3s")
        .set("flush.bytes", "128KiB")
        .set("flush.interval", "300ms")
        .set("flush.checkpoint_gap", "100ms")
        .set("flush.deadline", "10s")
        .set("store.attempt_timeout", "2s")
        .set("store.deadline", "5s")
        .set("fetch.deadline", "10s")
        .set("fetch.bucket_deadline", "4s")
        .set("fetch.view_age", "10s")
        .set("archive.claim", "10s")
        .set("archive.deadline", "10s")
        .set("gc.grace", "45s")
        .set("gc.interval", "3s")
        .set("wal.file_size", "256KiB")
        .set("wal.keep", "256KiB")
        .set("wal.spare", "2MiB")
}

impl World {
    /// Everything started and under load, with this many voters, which have these roles, and gateways. `seed` decides what the
    /// producers send and what the faults do.
    pub(crate) async fn start(voters: u64, gateways: u64, roles: Roles, seed: u64) -> Self {
        let gateways: Vec<u64> = (GATEWAY..GATEWAY + gateways).collect();
        let mut cluster = Cluster::place_all(voters, &gateways, settings()).await;
        (1..=voters).for_each(|voter| take(&mut cluster, voter, roles));
        (1..=voters).chain(gateways.iter().copied()).for_each(|node| cluster.spawn(node));
        cluster.all_ready().await;
        let http = Http::over(gateways.iter().map(|gateway| cluster.url(*gateway)).collect());
        http.create_topic(TOPIC, &json!({"partitions": PARTITIONS, "archive_after_ms": 0})).await;
        let journal = Arc::new(Journal::new());
        let producers = produce::four(&http, TOPIC, &journal, seed).await;
        let consuming = Arc::new(AtomicBool::new(false));
        let consumers = consume::three(&http, TOPIC, &journal).into_iter();
        let consumers = consumers.map(|consumer| tokio::spawn(consumer.run(Arc::clone(&consuming)))).collect();
        let servers: Vec<String> = gateways.iter().map(|gateway| cluster.url(*gateway)).collect();
        Self {
            compactor: Compactor::start(&servers.join(",")),
            journal,
            random: StdRng::seed_from_u64(seed),
            voters: (1..=voters).collect(),
            roles,
            gateways,
            flipped: BTreeSet::new(),
            next_node: voters + 1,
            producing: Arc::default(),
            producers: Vec::new(),
            idle: producers,
            consuming,
            consumers,
            cluster,
        }
    }

    /// The producers begin, or go on.
    pub(crate) fn produce(&mut self) {
        self.journal.idle();
        self.producing = Arc::new(AtomicBool::new(false));
        for producer in self.idle.drain(..) {
            self.producers.push(tokio::spawn(producer.run(Arc::clone(&self.producing))));
        }
    }

    /// The producers end; every request is answered or given up then.
    pub(crate) async fn stop_producing(&mut self) {
        self.producing.store(true, Ordering::Relaxed);
        for producer in self.producers.drain(..) {
            self.idle.push(producer.await.unwrap());
        }
    }

    /// Sends the last requests of each producer again, and what must be refused: whether a fault makes a server refuse something
    /// is chance, and a promise that was never tested is not kept.
    pub(crate) async fn repeat(&mut self) {
        for producer in &mut self.idle {
            producer.refused().await;
            producer.repeat().await;
            producer.repeat().await;
        }
    }

    /// The consumers read up to the end, and end.
    pub(crate) async fn stop_consuming(&mut self) {
        let described = self.cluster.http_of(self.open()[0]).get(&format!("/v1/topics/{TOPIC}")).await.expect(200);
        let end = |partition: u32| described["partitions"][partition as usize]["high_watermark"].as_u64().unwrap();
        let ends: Vec<u64> = (0..PARTITIONS).map(end).collect();
        let all: u64 = ends.iter().sum();
        eventually("the consumers to read everything", || async {
            (0..self.consumers.len()).all(|consumer| self.journal.read_by(consumer) >= all).then_some(())
        })
        .await;
        self.consuming.store(true, Ordering::Relaxed);
        for consumer in self.consumers.drain(..) {
            let consumer = consumer.await.unwrap();
            assert_eq!(consumer.positions(), ends, "{consumer:?}");
        }
    }

    /// Once so many more records are acknowledged; the clients must not have ended meanwhile.
    pub(crate) async fn more(&self, records: u64) {
        let enough = self.journal.count() + records;
        eventually("the load", || async {
            assert!(!self.consumers.iter().any(JoinHandle::is_finished), "a consumer has ended");
            (self.journal.count() >= enough).then_some(())
        })
        .await;
    }

    /// The number of a node that never was.
    pub(crate) fn new_node(&mut self) -> u64 {
        self.next_node += 1;
        self.next_node - 1
    }

    /// Voters and gateways.
    pub(crate) fn nodes(&self) -> Vec<u64> {
        self.voters.iter().chain(&self.gateways).copied().collect()
    }

    /// Those that clients reach.
    pub(crate) fn open(&self) -> Vec<u64> {
        match self.roles {
            Roles::Wal => self.gateways.clone(),
            Roles::GatewayWal => self.nodes(),
        }
    }

    /// A voter has the roles of all of them when it is started the next time; it does not run.
    pub(crate) fn take_roles(&mut self, voter: u64) {
        take(&mut self.cluster, voter, self.roles);
    }

    /// All voters but this one.
    pub(crate) fn other_voters(&self, node: u64) -> Vec<u64> {
        self.voters.iter().copied().filter(|other| *other != node).collect()
    }

    /// Who leads one of the shards.
    pub(crate) async fn leader(&mut self) -> u64 {
        let leaders = self.cluster.led(|leaders| !leaders.contains(&0)).await;
        self.one_of(&leaders)
    }

    /// One of these.
    pub(crate) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.random.random_range(0..all.len())]
    }

    /// A voter that does not lead one of the shards, at least.
    pub(crate) async fn follower(&mut self) -> u64 {
        let leader = self.leader().await;
        self.one_of(&self.other_voters(leader))
    }

    /// Writes all logs where they outlive the run.
    pub(crate) fn write_logs(&self, directory: &Path) {
        std::fs::create_dir_all(directory).unwrap();
        for node in &self.nodes() {
            std::fs::write(directory.join(format!("node-{node}.log")), self.cluster.log(*node)).unwrap();
        }
        std::fs::write(directory.join("compactor.log"), self.compactor.log()).unwrap();
    }
}

fn take(cluster: &mut Cluster, voter: u64, roles: Roles) {
    cluster.set_roles(voter, roles.name());
    operators::alone(&cluster.url(voter), roles == Roles::Wal);
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{}", std::process::id()));
            self.write_logs(&directory);
            eprintln!("the logs are in {}, everything else in {}", directory.display(), self.cluster.keep().display());
        }
    }
}

/// Waits that long, for a fault that has to last a time.
pub(crate) async fn lasting(time: Duration) {
    tokio::time::sleep(time).await;
}
