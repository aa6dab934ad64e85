//! Three whole nodes in one thread under paused time: a runtime, a disk in memory and a place on a wire each.
//!
//! The smallest simulation there is: what it needs of the engine is here, tests/sim has the faults and the checker.

use std::any::Any;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::runtime::Runtime;

use super::super::{Options, Queue, Surroundings};
use super::{all, request, values};
use crate::clock::Clock;
use crate::config::{Config, NodeChoice};
use crate::disk::{Disk, Mount, mount};
use crate::error::{Error, Outcome, Result};
use crate::model::{Acks, LogIndex, NamedSettings, ShardId, TopicSettings};
use crate::peer::{CallError, Receiver, Wire, WireCall};
use crate::store::Bucket;

const NODES: u64 = 3;
/// Ticks within which nodes open: a minute of the simulation's time.
const OPENING: u32 = 60_000;
const TICK: Duration = Duration::from_millis(1);
const START: u64 = 1_700_000_000_000;

/// Delivers every call at once, and remembers them all.
#[derive(Default)]
struct Loopback {
    receivers: Mutex<BTreeMap<String, (u64, Receiver)>>,
    trace: Mutex<DefaultHasher>,
    calls: Mutex<u64>,
}

struct Listening(Arc<Loopback>, String, u64);

impl Drop for Listening {
    fn drop(&mut self) {
        let mut receivers = self.0.receivers.lock().unwrap();
        if receivers.get(&self.1).is_some_and(|(number, _)| *number == self.2) {
            receivers.remove(&self.1);
        }
    }
}

#[derive(Clone)]
struct Line(Arc<Loopback>);

impl Wire for Line {
    fn listen(&self, address: &str, receiver: Receiver) -> Box<dyn Any + Send + Sync> {
        let number = {
            let mut calls = self.0.calls.lock().unwrap();
            *calls += 1;
            *calls
        };
        self.0.receivers.lock().unwrap().insert(address.to_owned(), (number, receiver));
        Box::new(Listening(Arc::clone(&self.0), address.to_owned(), number))
    }

    fn call(&self, call: WireCall) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let line = Arc::clone(&self.0);
        async move {
            {
                let mut trace = line.trace.lock().unwrap();
                trace.write_u64(call.from.node.0 << 32 | call.target.node.0 << 8 | u64::from(call.kind));
                trace.write(&call.body);
                *line.calls.lock().unwrap() += 1;
            }
            let receiver = line.receivers.lock().unwrap().get(&call.target.address).map(|(_, found)| found.clone());
            let Some(receiver) = receiver else { return Err(CallError::NotSent(Error::unavailable("nobody there"))) };
            let late = || Error::unavailable("no answer in time").with_outcome(Outcome::Unknown);
            let answered = tokio::time::timeout(call.deadline, receiver.answer(call)).await;
            answered.unwrap_or_else(|_| Err(CallError::Unknown(late())))
        }
        .boxed()
    }
}

struct Node {
    disk: Disk,
    clock: Clock,
    _mount: Mount,
    running: Option<(Runtime, Queue)>,
}

struct World {
    nodes: BTreeMap<u64, Node>,
    line: Line,
    bucket: Bucket,
    random: StdRng,
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        let node = |number: u64| {
            let disk = Disk::new();
            let mounted = mount(format!("/simulated/{number}"), &disk);
            (number, Node { disk, clock: Clock::manual(START), _mount: mounted, running: None })
        };
        Self {
            nodes: (1..=NODES).map(node).collect(),
            line: Line(Arc::default()),
            bucket: Bucket::memory(),
            random: StdRng::seed_from_u64(seed),
        }
    }

    fn config(number: u64) -> Config {
        let mut config = super::config(format!("/simulated/{number}/data").as_ref());
        config.peer.listen = Some(format!("10.0.0.{number}:7072").parse().unwrap());
        let nodes = (1..=NODES).map(|id| format!("{id}=10.0.0.{id}:7072").parse().unwrap());
        config.cluster.nodes = nodes.collect();
        config.cluster.node_id = Some(NodeChoice::Id(number));
        config.wal.file_size = 64 << 10;
        config.wal.spare = 128 << 10;
        config
    }

    /// Begins to open nodes, all at once, and ticks until they are open.
    fn open(&mut self, numbers: &[u64]) {
        let mut opening = Vec::new();
        for number in numbers {
            let node = self.nodes.get_mut(number).unwrap();
            let options = Options { config: Self::config(*number), clock: node.clock.clone(), restore: false };
            let surroundings = Surroundings { bucket: self.bucket.clone(), wire: Arc::new(self.line.clone()) };
            let runtime = runtime();
            let opened = runtime.spawn(Queue::open_within(options, surroundings));
            opening.push((*number, runtime, opened));
        }
        let mut ticks = 0;
        while opening.iter().any(|(_, _, opened)| !opened.is_finished()) {
            ticks += 1;
            assert!(ticks < OPENING, "the nodes do not open");
            opening.iter().for_each(|(_, runtime, _)| runtime.block_on(async { tokio::time::sleep(TICK).await }));
            self.tick();
        }
        for (number, runtime, opened) in opening {
            let queue = runtime.block_on(opened).unwrap().unwrap();
            self.nodes.get_mut(&number).unwrap().running = Some((runtime, queue));
        }
    }

    fn tick(&self) {
        for node in self.nodes.values() {
            node.clock.advance(1);
            if let Some((runtime, _)) = &node.running {
                runtime.block_on(async { tokio::time::sleep(TICK).await });
            }
        }
    }

    /// Does something with the queue of a node, on its runtime, while all nodes run.
    fn with<T: Send + 'static, F>(&self, number: u64, work: impl FnOnce(Queue) -> F) -> T
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (runtime, queue) = self.nodes[&number].running.as_ref().unwrap();
        let working = runtime.spawn(work(queue.clone()));
        for _ in 0..600_000 {
            if working.is_finished() {
                return runtime.block_on(working).unwrap();
            }
            self.tick();
        }
        panic!("it takes longer than ten minutes");
    }

    fn crash(&mut self, number: u64) {
        let random = &mut self.random;
        let node = self.nodes.get_mut(&number).unwrap();
        node.disk.crash(&mut |below| random.random_range(0..below));
        node.running = None;
    }

    fn run_until(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        for _ in 0..120_000 {
            if done(self) {
                return;
            }
            self.tick();
        }
        panic!("never: {what}");
    }

    fn hashes(&self) -> Vec<Vec<(ShardId, LogIndex, u128)>> {
        self.nodes.values().filter_map(|node| node.running.as_ref()).map(|(_, queue)| queue.state_hashes()).collect()
    }
}

/// One run; its trace and how many calls there were.
fn run(seed: u64) -> (u64, u64) {
    let mut world = World::new(seed);
    world.open(&[1, 2, 3]);
    let topic = |queue: Queue| async move {
        queue.create_topic("t", TopicSettings::default(), NamedSettings::default()).await.map(|(_, new)| new)
    };
    assert!(world.with(1, topic).unwrap());
    let mut sent = Vec::new();
    for round in 0..30 {
        let value = format!("value {round}");
        let node = world.nodes.iter().filter(|(_, node)| node.running.is_some()).map(|(number, _)| *number);
        let node = node.min().unwrap();
        let asked = request(&[&value], Acks::Quorum);
        let produced = world.with(node, |queue| async move { queue.produce(asked).await }).unwrap();
        assert!(produced.failures.is_empty(), "{:?}", produced.failures);
        sent.push(value);
        match round {
            10 => world.crash(1),
            20 => world.open(&[1]),
            25 => {
                let nodes: Vec<u64> = world.nodes.keys().copied().collect();
                nodes.into_iter().for_each(|node| world.crash(node));
                world.open(&[1, 2, 3]);
            }
            _ => {}
        }
    }
    world.run_until("all nodes have the same state", |world| {
        let hashes = world.hashes();
        hashes.iter().all(|hash| *hash == hashes[0])
    });
    for node in 1..=NODES {
        let found = world.with(node, |queue| async move { all(&queue).await });
        assert_eq!(values(&found), sent, "node {node}");
    }
    let trace = world.line.0.trace.lock().unwrap().finish();
    let calls = *world.line.0.calls.lock().unwrap();
    (trace, calls)
}

#[test]
fn three_nodes_run_in_one_thread_and_keep_what_they_acknowledged_over_crashes() {
    let (_, calls) = run(1);
    assert!(calls > 100, "{calls} calls");
}
