//! Several nodes in one process: loopback peer listeners, a directory each, one bucket.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::super::{Options, Queue};
use super::{LONG, all, values};
use crate::clock::Clock;
use crate::config::{Config, NodeChoice};
use crate::error::{Error, Result};
use crate::model::{NamedSettings, NodeId, ShardId, TopicSettings};
use crate::shard::Shard;

/// Nodes of one cluster; those that run are in `queues`.
pub(super) struct Group {
    dir: tempfile::TempDir,
    ports: BTreeMap<u64, u16>,
    /// The numbers of `cluster.nodes`.
    first: Vec<u64>,
    pub(super) queues: BTreeMap<u64, Queue>,
    /// Bytes of flushed log that are kept.
    pub(super) keep: u64,
    pub(super) balance_after: Duration,
    /// `cluster.shards`
    pub(super) shards: Option<u32>,
}

impl Group {
    /// The nodes 1 to `count`, none of which runs yet.
    pub(super) fn new(count: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (ports, queues) = (BTreeMap::new(), BTreeMap::new());
        let mut group = Self {
            dir,
            ports,
            first: (1..=count).collect(),
            queues,
            keep: 64 << 20,
            balance_after: Duration::ZERO,
            shards: None,
        };
        (1..=count).for_each(|node| group.listen(node));
        group
    }

    /// As [`Group::new`], and all of them run and have a leader of every shard, and there is a topic `t`.
    pub(super) async fn started(count: u64) -> Self {
        let mut group = Self::new(count);
        group.open_all().await;
        group.ready().await;
        let leader = group.leader().await;
        let topic = group.queue(leader).create_topic("t", TopicSettings::default(), NamedSettings::default());
        assert!(topic.await.unwrap().1);
        group
    }

    /// A port for a node. Nobody else in this process gets it: the system hands out others for a while.
    pub(super) fn listen(&mut self, node: u64) {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        self.ports.insert(node, free.local_addr().unwrap().port());
    }

    pub(super) fn address(&self, node: u64) -> String {
        format!("127.0.0.1:{}", self.ports[&node])
    }

    pub(super) fn data_dir(&self, node: u64) -> PathBuf {
        self.dir.path().join(format!("node-{node}"))
    }

    pub(super) fn config(&self, node: u64) -> Config {
        let mut config = super::config(&self.data_dir(node));
        config.bucket = Some(format!("file://{}", self.dir.path().join("bucket").display()));
        config.peer.listen = Some(self.address(node).parse().unwrap());
        let nodes = self.first.iter().map(|id| format!("{id}={}", self.address(*id)).parse().unwrap());
        config.cluster.nodes = nodes.collect();
        config.cluster.node_id = Some(NodeChoice::Id(node));
        config.cluster.shards = self.shards;
        // Where a test wants leaderships it says so.
        config.cluster.balance_after = self.balance_after;
        config.raft.election_min = Duration::from_millis(800);
        config.raft.heartbeat = Duration::from_millis(160);
        config.gc.interval = Duration::from_millis(300);
        config.wal.file_size = 64 << 10;
        config.wal.keep = Some(self.keep);
        config.validate().unwrap();
        config
    }

    pub(super) async fn open_with(config: Config) -> Result<Queue> {
        Queue::open(Options { config, clock: Clock::system(), restore: false }).await
    }

    pub(super) async fn try_open(&self, node: u64) -> Result<Queue> {
        let opening = tokio::time::timeout(LONG, Self::open_with(self.config(node))).await;
        opening.unwrap_or_else(|_| Err(Error::unavailable("it did not open")))
    }

    pub(super) async fn open(&mut self, node: u64) {
        let queue = self.try_open(node).await.unwrap();
        self.queues.insert(node, queue);
    }

    /// Opens all first nodes at once.
    pub(super) async fn open_all(&mut self) {
        let opened = join_all(self.first.iter().map(|node| self.try_open(*node))).await;
        let opened = self.first.iter().copied().zip(opened.into_iter().map(Result::unwrap));
        self.queues.extend(opened);
    }

    /// Waits until all nodes that run have reached a leader of every shard.
    pub(super) async fn ready(&self) {
        until("all nodes are ready", || async { self.queues.values().all(Queue::is_ready).then_some(()) }).await;
    }

    pub(super) async fn stop(&mut self, node: u64) {
        self.queues.remove(&node).unwrap().shutdown().await;
    }

    pub(super) fn queue(&self, node: u64) -> &Queue {
        &self.queues[&node]
    }

    /// Any node that runs and is not `node`.
    pub(super) fn other_than(&self, node: u64) -> u64 {
        *self.queues.keys().find(|other| **other != node).unwrap()
    }

    /// The leader, once all nodes that run agree on it.
    pub(super) async fn leader(&self) -> u64 {
        let agreed = || async {
            let leaders: Vec<_> = self.queues.values().map(|queue| queue.leader().node().status().leader).collect();
            let leader = leaders[0].filter(|leader| leaders.iter().all(|other| *other == Some(*leader)))?;
            let leads = self.queues.get(&leader.0)?.leader().node().leadership().borrow().is_leader;
            leads.then_some(leader.0)
        };
        until("the nodes agree on a leader", agreed).await
    }

    /// Waits until all nodes that run have applied the same entries; their states are the same then.
    pub(super) async fn same_states(&self) {
        let same = || async {
            let hashes: Vec<_> = self.queues.values().map(Queue::state_hashes).collect();
            let applied = |hashes: &[(ShardId, u64, u128)]| -> Vec<_> {
                hashes.iter().map(|(shard, applied, _)| (*shard, *applied)).collect()
            };
            let at_once = hashes.iter().all(|hash| applied(hash) == applied(&hashes[0]));
            at_once.then(|| assert!(hashes.iter().all(|hash| *hash == hashes[0]), "states differ: {hashes:?}"))
        };
        until("all nodes have applied the same", same).await;
    }

    /// Waits until the flushed checkpoints are on the disks of all nodes that run.
    pub(super) async fn adopted(&self) {
        let adopted = || async {
            let behind = |shard: &Shard| {
                let flushed = shard.leader().node().with_state(|state| state.flushed_index());
                flushed > 0 && shard.leader().node().status().checkpoint != Some(flushed)
            };
            let any_behind = |queue: &Queue| queue.0.shards.iter().any(behind);
            (!self.queues.values().any(any_behind)).then_some(())
        };
        until("all nodes hold the newest checkpoint", adopted).await;
    }

    /// What every node that runs reads, which is the same.
    pub(super) async fn read(&self) -> Vec<String> {
        let mut read: Option<Vec<String>> = None;
        for (node, queue) in &self.queues {
            let values = values(&all(queue).await);
            assert_eq!(read.get_or_insert_with(|| values.clone()), &values, "node {node} reads something else");
        }
        read.unwrap()
    }

    pub(super) async fn add(&self, by: u64, node: u64) -> Result<()> {
        self.queue(by).add_node(NodeId(node), self.address(node)).await.map(drop)
    }

    /// The voters, as the leader says.
    pub(super) async fn voters(&self) -> Vec<u64> {
        let leader = self.leader().await;
        let status = self.queue(leader).cluster().await.unwrap();
        status.members.iter().filter(|member| member.voter).map(|member| member.node.0).collect()
    }
}

/// Waits until `found` finds something.
pub(super) async fn until<T, F: Future<Output = Option<T>>>(what: &str, found: impl Fn() -> F) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(Instant::now() < deadline, "it never came that {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
