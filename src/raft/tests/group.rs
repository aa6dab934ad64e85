//! A group of nodes in one process: real logs in directories of their own, a network in memory that can be cut, slowed and
//! made to lose answers, and a bucket in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use bytes::BytesMut;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::*;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::log_clock::LogClock;

/// How long anything may take to come about, on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(60);
const WEEK_MS: u64 = 7 * 24 * 3_600_000;

/// Waits until `condition` holds.
pub(super) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The directory of a node.
pub(super) fn directory(node: u64) -> Uuid {
    Uuid::from_u128(0xd000 + u128::from(node))
}

/// A node as the membership knows it.
pub(super) fn member(node: u64) -> Member {
    Member { address: format!("mem:{node}"), directory: directory(node) }
}

/// What the network does.
#[derive(Default)]
pub(super) struct Net {
    nodes: Mutex<BTreeMap<u64, RaftNode>>,
    rules: Mutex<Rules>,
    calls: Mutex<BTreeMap<u8, usize>>,
}

#[derive(Default)]
struct Rules {
    /// From, to.
    cut: BTreeSet<(u64, u64)>,
    /// Kinds of calls whose answers are lost.
    unanswered: BTreeSet<u8>,
    /// Nodes that nothing reaches, and no answer either; what they send arrives.
    deaf: BTreeSet<u64>,
    delay: Duration,
    /// Kinds of calls that take so much longer.
    slow: BTreeMap<u8, Duration>,
}

impl Net {
    /// Nothing passes between `node` and the others any more.
    pub(super) fn isolate(&self, node: u64) {
        for other in 0..10 {
            self.cut(node, other);
            self.cut(other, node);
        }
    }

    /// No request of `from` reaches `to` any more; the other way round they do.
    pub(super) fn cut(&self, from: u64, to: u64) {
        self.rules.lock().unwrap().cut.insert((from, to));
    }

    /// Everything passes again.
    pub(super) fn heal(&self) {
        *self.rules.lock().unwrap() = Rules::default();
    }

    /// Everything passes again, as slowly as before.
    pub(super) fn join(&self) {
        self.rules.lock().unwrap().cut.clear();
    }

    /// Nothing that others send reaches `node` any more, no answer either; what it sends arrives.
    pub(super) fn deafen(&self, node: u64) {
        self.rules.lock().unwrap().deaf.insert(node);
    }

    /// Calls of `kind` are handled and their answers lost.
    pub(super) fn lose_answers(&self, kind: u8) {
        self.rules.lock().unwrap().unanswered.insert(kind);
    }

    /// Every call takes so much longer.
    pub(super) fn delay(&self, delay: Duration) {
        self.rules.lock().unwrap().delay = delay;
    }

    /// Every call of `kind` takes so much longer.
    pub(super) fn slow(&self, kind: u8, delay: Duration) {
        self.rules.lock().unwrap().slow.insert(kind, delay);
    }

    /// Calls of `kind` that were handled.
    pub(super) fn calls(&self, kind: u8) -> usize {
        self.calls.lock().unwrap().get(&kind).copied().unwrap_or(0)
    }

    fn is_cut(&self, from: u64, to: u64) -> bool {
        let rules = self.rules.lock().unwrap();
        rules.cut.contains(&(from, to)) || rules.deaf.contains(&to)
    }
}

impl Rules {
    fn delay(&self, kind: u8) -> Duration {
        self.delay + self.slow.get(&kind).copied().unwrap_or_default()
    }

    fn loses_answer(&self, kind: u8, to: u64) -> bool {
        self.unanswered.contains(&kind) || self.deaf.contains(&to)
    }
}

/// The way of one node to the others.
struct Link {
    net: Arc<Net>,
    from: u64,
    directory: Uuid,
}

impl Transport for Link {
    fn call(
        &self,
        target: &PeerAddress,
        kind: u8,
        body: Vec<Bytes>,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let (net, from, directory, target) = (Arc::clone(&self.net), self.from, self.directory, target.clone());
        async move {
            let to = target.node.0;
            let delay = net.rules.lock().unwrap().delay(kind);
            if !delay.is_zero() {
                // A sleep of nothing takes a millisecond.
                tokio::time::sleep(delay).await;
            }
            let node = net.nodes.lock().unwrap().get(&to).cloned();
            let Some(node) = node.filter(|_| !net.is_cut(from, to) && target.address == format!("mem:{to}")) else {
                return Err(TransportError::NotSent(Error::unavailable("refused")));
            };
            if node.inner.directory != target.directory {
                let error = Error::new(ErrorKind::Conflict, "node_identity_mismatch", "another directory");
                return Err(TransportError::NotSent(error));
            }
            *net.calls.lock().unwrap().entry(kind).or_default() += 1;
            let handling = node.handle(NodeId(from), directory, kind, concat(&body));
            let handled = tokio::time::timeout(deadline, handling).await;
            if net.rules.lock().unwrap().loses_answer(kind, from) {
                return Err(TransportError::Unknown(Error::unavailable("reset")));
            }
            match handled {
                Ok(Ok(frames)) => Ok(concat(&frames)),
                Ok(Err(error)) => Err(TransportError::Answered(error)),
                Err(_) => Err(TransportError::Unknown(Error::unavailable("late"))),
            }
        }
        .boxed()
    }
}

fn concat(frames: &[Bytes]) -> Bytes {
    let mut whole = BytesMut::new();
    frames.iter().for_each(|frame| whole.extend_from_slice(frame));
    whole.freeze()
}

/// Checkpoints that were flushed, by name.
#[derive(Default)]
pub(super) struct Checkpoints {
    pub(super) held: Mutex<BTreeMap<CheckpointRef, CheckpointFiles>>,
    pub(super) away: std::sync::atomic::AtomicBool,
    pub(super) fetched: AtomicUsize,
}

impl Checkpoints {
    /// A checkpoint with all that it names: a flush brings only what is new.
    fn get(&self, reference: CheckpointRef) -> Option<CheckpointFiles> {
        let held = self.held.lock().unwrap();
        let mut found = held.get(&reference).cloned()?;
        found.parts = held.values().flat_map(|files| files.parts.clone()).collect();
        found.ranges = held.values().flat_map(|files| files.ranges.clone()).collect();
        Some(found)
    }
}

/// The bucket first, else the leader.
struct Source {
    checkpoints: Arc<Checkpoints>,
    node: OnceLock<RaftNode>,
}

struct SharedSource(Arc<Source>);

impl CheckpointSource for SharedSource {
    fn fetch(&self, reference: CheckpointRef, leader: NodeId) -> BoxFuture<'static, Result<CheckpointFiles>> {
        let source = Arc::clone(&self.0);
        async move {
            if source.checkpoints.away.load(Ordering::Relaxed) {
                // A gateway asks the leader itself.
                let Some(node) = source.node.get() else { return Err(Error::unavailable("the bucket is away")) };
                return node.fetch_checkpoint(reference, leader).await;
            }
            source.checkpoints.fetched.fetch_add(1, Ordering::Relaxed);
            source.checkpoints.get(reference).ok_or_else(|| Error::unavailable("there is no such checkpoint"))
        }
        .boxed()
    }
}

/// What a gateway was told of the nodes.
struct Told(Vec<Voter>);

impl Seeds for Told {
    fn members(&self) -> BoxFuture<'static, Result<Vec<Voter>>> {
        let members = self.0.clone();
        async move { Ok(members) }.boxed()
    }
}

/// The group.
pub(super) struct Group {
    pub(super) net: Arc<Net>,
    pub(super) checkpoints: Arc<Checkpoints>,
    dirs: BTreeMap<u64, TempDir>,
    leaders: BTreeMap<u64, Leader>,
    /// Those of the nodes that ran.
    clocks: BTreeMap<u64, Clock>,
}

impl Group {
    /// Nobody yet.
    pub(super) fn empty() -> Self {
        let (net, checkpoints) = (Arc::default(), Arc::default());
        Self { net, checkpoints, dirs: BTreeMap::new(), leaders: BTreeMap::new(), clocks: BTreeMap::new() }
    }

    /// Nodes 1 to `count`, begun by node 1; waits until one of them leads.
    pub(super) async fn of(count: u64) -> Self {
        let mut group = Self::empty();
        for node in 2..=count {
            group.start(node, Start::Join).await;
        }
        let members = (1..=count).map(|node| (NodeId(node), member(node))).collect();
        group.start(1, Start::New(members)).await;
        group.leader().await;
        group
    }

    /// Starts `node`, in the directory that it had, if any.
    pub(super) async fn start(&mut self, node: u64, start: Start) {
        self.start_as(node, start, directory(node)).await;
    }

    /// The same with another identity.
    pub(super) async fn start_as(&mut self, node: u64, start: Start, directory: Uuid) {
        let dir = self.dirs.entry(node).or_insert_with(|| tempfile::tempdir().unwrap());
        let source = Arc::new(Source { checkpoints: Arc::clone(&self.checkpoints), node: OnceLock::new() });
        let options = RaftOptions {
            node: NodeId(node),
            directory,
            advertise: format!("mem:{node}"),
            transport: Arc::new(Link { net: Arc::clone(&self.net), from: node, directory }),
            checkpoints: Arc::new(SharedSource(Arc::clone(&source))),
            ..options(dir.path(), start)
        };
        let started = RaftNode::start(options).await.unwrap();
        let _ = source.node.set(started.clone());
        let clock = self.clocks.entry(node).or_insert_with(Clock::system).clone();
        let clock = LogClock::new(clock, started.with_state(|state| state.log_time()), WEEK_MS);
        self.net.nodes.lock().unwrap().insert(node, started.clone());
        self.leaders.insert(node, Leader::new(started, Arc::new(clock)));
    }

    /// Ends `node` in order; its directory stays.
    pub(super) async fn stop(&mut self, node: u64) {
        self.net.nodes.lock().unwrap().remove(&node);
        self.leaders.remove(&node).unwrap().node().shutdown().await;
    }

    /// Shows `node` a wall time that is so much later.
    pub(super) fn shift_wall(&self, node: u64, millis: i64) {
        self.clocks[&node].shift_wall(millis);
    }

    /// The directory of `node`.
    pub(super) fn dir(&self, node: u64) -> &Path {
        self.dirs[&node].path()
    }

    /// Gives a stopped node another directory.
    pub(super) fn put(&mut self, node: u64, dir: TempDir) {
        self.dirs.insert(node, dir);
    }

    /// Deletes what a stopped node had.
    pub(super) fn wipe(&mut self, node: u64) {
        self.dirs.remove(&node).unwrap();
    }

    /// One that follows the group and is no member, until it is dropped.
    pub(super) fn remote(&self) -> Remote {
        let directory = Uuid::from_u128(0x9a7e);
        let voter = |node: &u64| Voter {
            node: NodeId(*node),
            directory: super::group::directory(*node),
            address: format!("mem:{node}"),
            voter: true,
        };
        let members: Vec<Voter> = self.leaders.keys().map(voter).collect();
        let source = Source { checkpoints: Arc::clone(&self.checkpoints), node: OnceLock::new() };
        let remote = Remote::new(RemoteOptions {
            shard: SHARD,
            incarnation: Incarnation(1),
            members: members.clone(),
            seeds: Arc::new(Told(members)),
            transport: Arc::new(Link { net: Arc::clone(&self.net), from: 0, directory }),
            checkpoints: Arc::new(SharedSource(Arc::new(source))),
            tail_memory: 1 << 20,
            max_age: Duration::from_secs(30),
            clock: Clock::system(),
        });
        // They end with the runtime of the test.
        tokio::spawn(remote.clone().follow());
        tokio::spawn(remote.clone().stay_in_contact());
        remote
    }

    /// The node `node`.
    pub(super) fn node(&self, node: u64) -> &RaftNode {
        self.leaders[&node].node()
    }

    /// Proposes through `node`.
    pub(super) fn at(&self, node: u64) -> &Leader {
        &self.leaders[&node]
    }

    /// Those that run.
    pub(super) fn running(&self) -> Vec<u64> {
        self.leaders.keys().copied().collect()
    }

    /// The id of the newest leader among those that run, once there is one that may do its work and the others know it.
    pub(super) async fn leader(&self) -> u64 {
        self.leader_among(&self.running()).await
    }

    /// The same among `nodes`.
    pub(super) async fn leader_among(&self, nodes: &[u64]) -> u64 {
        let mut found = 0;
        eventually("a leader that all know", || {
            let seen: Vec<Leadership> = nodes.iter().map(|node| *self.node(*node).leadership().borrow()).collect();
            let Some(leader) = nodes.iter().zip(&seen).find(|(_, seen)| seen.is_leader).map(|(node, _)| *node) else {
                return false;
            };
            found = leader;
            seen.iter().all(|seen| seen.leader == Some(NodeId(leader)))
        })
        .await;
        found
    }

    /// One of the others than `node`.
    pub(super) fn other(&self, node: u64) -> u64 {
        self.running().into_iter().find(|other| *other != node).unwrap()
    }

    /// Waits until all of `nodes` have applied the same, and compares their states.
    pub(super) async fn converge(&self, nodes: &[u64]) {
        let look = |node: &u64| self.node(*node).with_state(|state| (state.applied(), state.hash()));
        eventually("all have applied the same", || {
            let indices: BTreeSet<LogIndex> = nodes.iter().map(|node| look(node).0).collect();
            indices.len() == 1
        })
        .await;
        let states: BTreeSet<_> = nodes.iter().map(look).collect();
        assert_eq!(states.len(), 1, "the replicas differ: {states:?}");
    }

    /// Flushes at the leader `node`, with the checkpoint in the bucket.
    pub(super) async fn flush(&self, node: u64) -> CheckpointFiles {
        let leader = self.node(node);
        let (flushed, files) = flush(leader, leader.status().term);
        self.checkpoints.held.lock().unwrap().insert(files.reference, files.clone());
        leader.stage_checkpoint(&files).await.unwrap();
        let (_, answer) = leader.propose(control(flushed)).await.unwrap();
        assert_eq!(answer, Answer::Done);
        leader.adopt_checkpoint(files.clone()).await.unwrap();
        files
    }

    /// Ends all.
    pub(super) async fn end(mut self) {
        for node in self.running() {
            self.stop(node).await;
        }
    }
}

/// Batches in the tail of the partition at `node`.
pub(super) fn batches(node: &RaftNode) -> u64 {
    node.with_state(|state| state.partition(PARTITION).map_or(0, |partition| partition.bounds().high_watermark))
}

/// Proposes until it is known to be written; only for what may be written twice.
pub(super) async fn write(leader: &Leader, entry: Bytes) -> LogIndex {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match leader.propose(entry.clone()).await {
            Ok((index, _)) => return index,
            Err(error) => assert!(error.outcome() == Outcome::NotWritten && Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
