//! A cluster of real processes on one local bucket, with a network between them that can be cut.
//!
//! Each node has its own directory and fixed ports, so that it can be killed, stopped, cut off and started again. Its peers
//! reach it through a proxy ([`Net`]), whose address is the one that the cluster knows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use futures::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::binary::{command, text};
use super::http::Http;
use super::net::Net;
use super::operators;
use super::server::{Settings, copy_lines, fixed_address};
use super::{DEADLINE, POLL, eventually};

/// The longest election timeout of a node of [`Cluster::start`], twice the shortest: it decides when a leader is given up.
pub(crate) const MAX_ELECTION_MS: u64 = 2_000;
/// The gateway of a benchmark, among the processes; it has no number of its own.
pub(crate) const GATEWAY: u64 = 11;

/// Nodes and what is between them; all of them are killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    dir: TempDir,
    settings: Settings,
    /// `cluster.nodes` of a first start.
    first: String,
    nodes: BTreeMap<u64, Node>,
    /// None if the nodes reach each other without a proxy between them.
    net: Option<Net>,
}

/// A node, whether it runs or not.
#[derive(Debug)]
struct Node {
    listen: String,
    /// Where operators reach it.
    admin: String,
    /// Where its peer listener is, and where its peers reach it; of a gateway neither.
    peer: Option<(String, SocketAddr)>,
    /// What it does, if not everything.
    roles: Option<&'static str>,
    /// Of this node alone.
    own: Settings,
    process: Option<Process>,
    log: Arc<Mutex<String>>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    /// Copies what it logs until it has ended.
    reader: JoinHandle<()>,
    /// Between SIGSTOP and SIGCONT.
    stopped: bool,
}

impl Cluster {
    /// Three nodes that are ready.
    pub(crate) async fn start() -> Self {
        Self::start_with(3, Settings::default()).await
    }

    /// Nodes 1 to `count`, all with these settings.
    pub(crate) async fn start_with(count: u64, settings: Settings) -> Self {
        Self::placed(count, settings).await.started().await
    }

    /// The same without a proxy before each peer listener: for measurements. Nothing can be cut.
    pub(crate) async fn start_direct(count: u64, settings: Settings) -> Self {
        Self::placed_over(None, count, settings).await.started().await
    }

    async fn started(mut self) -> Self {
        let nodes: Vec<u64> = self.nodes.keys().copied().collect();
        // The first one waits for the others.
        nodes.into_iter().for_each(|node| self.spawn(node));
        self.all_ready().await;
        self
    }

    /// Nodes 1 to `count`, and none of them is started.
    pub(crate) async fn placed(count: u64, settings: Settings) -> Self {
        Self::placed_over(Some(Net::new()), count, settings).await
    }

    async fn placed_over(net: Option<Net>, count: u64, settings: Settings) -> Self {
        let settings = settings.set("raft.election_min", "1s").set("raft.heartbeat", "200ms");
        // Where a test has put a leadership it stays, unless the test says otherwise.
        let settings = Settings::default().set("cluster.balance_after", "0s").and(settings);
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = Self { dir, settings, first: String::new(), nodes: BTreeMap::new(), net };
        for node in 1..=count {
            cluster.place(node).await;
        }
        cluster.name_first();
        cluster
    }

    /// Gives a node its ports; it is not started.
    pub(crate) async fn place(&mut self, node: u64) {
        let (listen, admin, peer) = (fixed_address(), fixed_address(), fixed_address());
        operators::remember(&format!("http://{listen}"), &format!("http://{admin}"));
        let target = peer.parse().unwrap();
        let address = match &self.net {
            Some(net) => net.proxy(node, target).await,
            None => target,
        };
        let peer = Some((peer, address));
        self.nodes.insert(
            node,
            Node { listen, admin, peer, roles: None, own: Settings::default(), process: None, log: Arc::default() },
        );
    }

    /// Nodes 1 to `count` and gateways, with nobody started.
    pub(crate) async fn place_all(count: u64, gateways: &[u64], settings: Settings) -> Self {
        let mut cluster = Self::placed(count, settings).await;
        gateways.iter().for_each(|gateway| cluster.place_gateway(*gateway, "gateway"));
        cluster
    }

    /// Gives a process its port that keeps no log; it is not started. It has a number here, and none of its own.
    pub(crate) fn place_gateway(&mut self, id: u64, roles: &'static str) {
        let (listen, admin) = (fixed_address(), fixed_address());
        operators::remember(&format!("http://{listen}"), &format!("http://{admin}"));
        let node = Node {
            listen,
            admin,
            peer: None,
            roles: Some(roles),
            own: Settings::default(),
            process: None,
            log: Arc::default(),
        };
        self.nodes.insert(id, node);
    }

    /// Places [`GATEWAY`] and starts it.
    pub(crate) async fn start_gateway(&mut self) {
        self.place_gateway(GATEWAY, "gateway");
        self.spawn(GATEWAY);
        self.ready(GATEWAY).await;
    }

    /// What a node does when it is started the next time.
    pub(crate) fn set_roles(&mut self, id: u64, roles: &'static str) {
        self.nodes.get_mut(&id).unwrap().roles = Some(roles);
    }

    /// Those that were placed are the first nodes.
    fn name_first(&mut self) {
        let named = self.nodes.iter().filter_map(|(id, node)| Some(format!("{id}={}", node.peer.as_ref()?.1)));
        self.first = named.collect::<Vec<_>>().join(",");
    }

    /// Gives `new` a peer port of its own and the other ports of `old`, which is gone for ever: another machine behind the same
    /// name. It is not started.
    pub(crate) async fn place_for(&mut self, new: u64, old: u64) {
        self.place(new).await;
        let gone = self.nodes.remove(&old).unwrap();
        assert!(gone.process.is_none(), "node {old} runs");
        let node = self.nodes.get_mut(&new).unwrap();
        (node.listen, node.admin, node.log) = (gone.listen, gone.admin, gone.log);
        // Whoever is started from now on is told of it.
        self.name_first();
    }

    /// Gives a node settings of its own beside those of all, from its next start on.
    pub(crate) fn set_for(&mut self, node: u64, settings: Settings) {
        self.nodes.get_mut(&node).unwrap().own = settings;
    }

    /// Starts a node that does not run.
    pub(crate) fn spawn(&mut self, node: u64) {
        self.spawn_on(node, &self.bucket());
    }

    /// The same on another bucket.
    pub(crate) fn spawn_on(&mut self, id: u64, bucket: &Path) {
        let bucket = format!("file://{}", text(bucket));
        let data = self.data(id);
        let node = self.nodes.get_mut(&id).unwrap();
        assert!(node.process.is_none(), "node {id} runs already");
        let number = id.to_string();
        let mut serve = command(&["serve", "--listen", &node.listen, "--admin-listen", &node.admin]);
        serve.args(["--cluster", &self.first, "--bucket", &bucket, "--data-dir", text(&data)]);
        if let Some((peer, address)) = &node.peer {
            serve.args(["--node-id", &number, "--peer-listen", peer]);
            serve.env("TIDELOG__PEER__ADVERTISE", address.to_string());
        }
        if let Some(roles) = node.roles {
            serve.args(["--roles", roles]);
        }
        self.settings.apply(&mut serve);
        node.own.apply(&mut serve);
        let mut child = serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (stderr, log) = (child.stderr.take().unwrap(), Arc::clone(&node.log));
        let reader = std::thread::spawn(move || copy_lines(stderr, &log));
        if let Some(net) = &self.net {
            net.runs(child.id(), id);
        }
        node.process = Some(Process { child, reader, stopped: false });
    }

    /// Starts a node and waits until it is ready.
    pub(crate) async fn restart(&mut self, node: u64) {
        self.spawn(node);
        self.ready(node).await;
    }

    /// Waits until every running node is ready.
    pub(crate) async fn all_ready(&mut self) {
        for node in self.running() {
            self.ready(node).await;
        }
    }

    /// Waits until a node is ready; it must not end meanwhile.
    pub(crate) async fn ready(&mut self, node: u64) {
        if let Some(status) = self.ready_or_ended(node).await {
            panic!("node {node} has ended: {status}\n{}", self.log(node));
        }
    }

    /// Waits until a node is ready, or has ended instead.
    pub(crate) async fn ready_or_ended(&mut self, node: u64) -> Option<ExitStatus> {
        let http = self.http_of(node);
        let begun = Instant::now();
        while http.try_get("/readyz").await.is_none_or(|answer| answer.status != 200) {
            if let Some(status) = self.has_ended(node) {
                return Some(status);
            }
            assert!(begun.elapsed() < DEADLINE, "node {node} is not ready:\n{}", self.log(node));
            tokio::time::sleep(POLL).await;
        }
        None
    }

    /// `kill -9`
    pub(crate) fn kill(&mut self, node: u64) {
        let mut process = self.nodes.get_mut(&node).unwrap().process.take().unwrap();
        process.child.kill().unwrap();
        process.child.wait().unwrap();
        process.reader.join().unwrap();
    }

    /// SIGTERM, and its end.
    pub(crate) async fn terminate(&mut self, node: u64) -> ExitStatus {
        self.signal(node, Signal::TERM);
        self.ended(node).await
    }

    /// Waits for a node to end by itself.
    pub(crate) async fn ended(&mut self, node: u64) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.has_ended(node) {
                return status;
            }
            assert!(begun.elapsed() < DEADLINE, "node {node} does not end:\n{}", self.log(node));
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until all nodes but one, or all, have ended by themselves.
    pub(crate) async fn all_but_one_ended(&mut self) {
        let begun = Instant::now();
        loop {
            let running = self.running();
            if running.len() <= 1 {
                return;
            }
            for node in running {
                self.has_ended(node);
            }
            assert!(begun.elapsed() < DEADLINE, "{:?} do not end", self.running());
            tokio::time::sleep(POLL).await;
        }
    }

    /// How a node ended, if it has; all that it logged is in its log then.
    fn has_ended(&mut self, node: u64) -> Option<ExitStatus> {
        let status = self.process(node).child.try_wait().unwrap()?;
        let process = self.nodes.get_mut(&node).unwrap().process.take().unwrap();
        process.reader.join().unwrap();
        Some(status)
    }

    /// SIGSTOP: it does nothing and keeps its connections.
    pub(crate) fn pause(&mut self, node: u64) {
        self.signal(node, Signal::STOP);
        self.process(node).stopped = true;
    }

    /// SIGCONT
    pub(crate) fn resume(&mut self, node: u64) {
        self.signal(node, Signal::CONT);
        self.process(node).stopped = false;
    }

    /// Sends a signal to a node.
    pub(crate) fn signal(&mut self, node: u64, signal: Signal) {
        kill_process(Pid::from_child(&self.process(node).child), signal).unwrap();
    }

    fn process(&mut self, node: u64) -> &mut Process {
        self.nodes.get_mut(&node).unwrap().process.as_mut().unwrap_or_else(|| panic!("node {node} does not run"))
    }

    /// Deletes what a node had on its disk.
    pub(crate) fn wipe(&mut self, node: u64) {
        assert!(self.nodes[&node].process.is_none(), "node {node} runs");
        std::fs::remove_dir_all(self.data(node)).unwrap();
    }

    /// The links between the nodes.
    pub(crate) fn net(&self) -> &Net {
        self.net.as_ref().expect("a cluster with proxies")
    }

    /// The process of a node that runs.
    pub(crate) fn process_id(&self, node: u64) -> u32 {
        self.nodes[&node].process.as_ref().unwrap_or_else(|| panic!("node {node} does not run")).child.id()
    }

    /// Nodes that run and are not stopped.
    pub(crate) fn running(&self) -> Vec<u64> {
        let runs = |node: &Node| node.process.as_ref().is_some_and(|process| !process.stopped);
        self.nodes.iter().filter(|(_, node)| runs(node)).map(|(id, _)| *id).collect()
    }

    /// All nodes but this one, whether they run or not.
    pub(crate) fn others(&self, node: u64) -> Vec<u64> {
        self.nodes.keys().copied().filter(|other| *other != node).collect()
    }

    /// `http://127.0.0.1:…`
    pub(crate) fn url(&self, node: u64) -> String {
        format!("http://{}", self.nodes[&node].listen)
    }

    /// The URLs of all nodes, separated by commas.
    pub(crate) fn urls(&self) -> String {
        self.nodes.keys().map(|node| self.url(*node)).collect::<Vec<_>>().join(",")
    }

    /// Where the peers of a node reach it.
    pub(crate) fn address(&self, node: u64) -> String {
        self.nodes[&node].peer.as_ref().unwrap().1.to_string()
    }

    /// Whether a node keeps a log.
    pub(crate) fn keeps_log(&self, node: u64) -> bool {
        self.nodes[&node].peer.is_some()
    }

    /// Requests to one of all nodes.
    pub(crate) fn http(&self) -> Http {
        Http::over(self.nodes.keys().map(|node| self.url(*node)).collect())
    }

    /// Requests to a node.
    pub(crate) fn http_of(&self, node: u64) -> Http {
        Http::over(vec![self.url(node)])
    }

    /// What a node logged since it was placed.
    pub(crate) fn log(&self, node: u64) -> String {
        self.nodes[&node].log.lock().unwrap().clone()
    }

    /// The bucket that all share.
    pub(crate) fn bucket(&self) -> PathBuf {
        self.dir.path().join("bucket")
    }

    /// Leaves everything on the disk when it is dropped.
    pub(crate) fn keep(&mut self) -> &Path {
        self.dir.disable_cleanup(true);
        self.dir.path()
    }

    /// Directory of a node.
    pub(crate) fn data(&self, node: u64) -> PathBuf {
        self.dir.path().join(format!("node-{node}"))
    }

    /// Directory of a node's write-ahead log.
    pub(crate) fn wal(&self, node: u64) -> PathBuf {
        self.data(node).join("wal")
    }

    /// What a node says of the first shard, which has the catalog, if it answers.
    pub(crate) async fn shard(&self, node: u64) -> Option<Value> {
        self.shards(node).await.map(|mut shards| shards.swap_remove(0))
    }

    /// What a node says of all shards, if it answers.
    pub(crate) async fn shards(&self, node: u64) -> Option<Vec<Value>> {
        let answer = self.http_of(node).try_get("/v1/status").await?;
        (answer.status == 200).then(|| answer.json()["shards"].as_array().unwrap().clone())
    }

    /// Who leads each shard, once all running nodes agree on it and it is `wanted`.
    pub(crate) async fn led(&self, wanted: impl Fn(&[u64]) -> bool) -> Vec<u64> {
        let nodes = self.running();
        eventually("all shards to be led as wanted", || async {
            let seen = join_all(nodes.iter().map(|node| self.shards(*node))).await;
            let leaders = |shards: &Vec<Value>| shards.iter().map(|shard| shard["leader"].as_u64()).collect();
            let seen: Vec<Vec<u64>> =
                seen.iter().map(|shards| shards.as_ref().and_then(leaders)).collect::<Option<_>>()?;
            seen.iter().all(|leaders| *leaders == seen[0] && wanted(leaders)).then(|| seen[0].clone())
        })
        .await
    }

    /// The running node that leads in the newest term, once there is one.
    pub(crate) async fn leader(&self) -> u64 {
        self.leader_but(0).await
    }

    /// The same, once it is not this one.
    pub(crate) async fn leader_but(&self, not: u64) -> u64 {
        let nodes = self.running();
        eventually("a leader", || async {
            let shards = join_all(nodes.iter().map(|node| self.shard(*node))).await;
            let claims = nodes.iter().zip(&shards).filter_map(|(node, shard)| {
                let shard = shard.as_ref()?;
                (shard["leader"] == *node).then(|| (shard["term"].as_u64().unwrap(), *node))
            });
            claims.max().map(|(_, leader)| leader).filter(|leader| *leader != not)
        })
        .await
    }

    /// A running node that does not lead.
    pub(crate) async fn follower(&self) -> u64 {
        let leader = self.leader().await;
        self.running().into_iter().find(|node| *node != leader && self.keeps_log(*node)).unwrap()
    }

    /// The members as the cluster's leader sees them, asked through any node.
    pub(crate) async fn members(&self) -> Value {
        let http = self.http();
        eventually("the members", || async {
            let answer = http.try_get("/v1/admin/cluster").await.filter(|answer| answer.status == 200);
            if answer.is_none() {
                http.turn();
            }
            answer.map(|answer| answer.json())
        })
        .await
    }

    /// Waits until all running nodes have applied the same entries of every shard. Their states must then be the same.
    pub(crate) async fn converge(&self) {
        let nodes = self.running();
        let applied = |states: &States| -> Vec<u64> { states.iter().map(|(applied, _)| *applied).collect() };
        let hashes = eventually("the same applied indexes everywhere", || async {
            let states = join_all(nodes.iter().map(|node| self.states(*node))).await;
            let states: Option<Vec<States>> = states.into_iter().collect();
            states.filter(|states| states.iter().all(|state| applied(state) == applied(&states[0])))
        })
        .await;
        assert!(hashes.iter().all(|state| *state == hashes[0]), "the states differ: {nodes:?} {hashes:?}");
    }

    /// What a node has applied of each shard, and the hash of its state there.
    async fn states(&self, node: u64) -> Option<States> {
        let answer = self.http_of(node).try_get("/v1/status?state_hash=true").await?;
        let status = (answer.status == 200).then(|| answer.json())?;
        let state = |shard: &Value| Some((shard["applied"].as_u64()?, shard["state_hash"].as_str()?.to_owned()));
        status["shards"].as_array()?.iter().map(state).collect()
    }
}

/// By shard: what was applied, and the hash of the state.
type States = Vec<(u64, String)>;

impl Drop for Cluster {
    fn drop(&mut self) {
        for (id, node) in &mut self.nodes {
            if let Some(process) = &mut node.process {
                // It may have ended already; one that is stopped is killed as well.
                let _ = process.child.kill();
                let _ = process.child.wait();
            }
            if std::thread::panicking() {
                let log = node.log.lock().unwrap();
                let lines: Vec<&str> = log.lines().collect();
                eprintln!("--- end of the log of node {id}\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
            }
        }
    }
}
