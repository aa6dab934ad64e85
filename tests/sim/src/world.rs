//! All machines, the network, the bucket and the clients, and the time that passes for them.
//!
//! One step is one millisecond: what is due happens, then every machine has its time in turn, then the clients. What faults
//! do to the world is in `faults`, what operators do that takes several steps in `errands`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidelog::config::{self, ClusterNode, Config, NodeChoice, Role};
use tidelog::queue::Surroundings;
use tidelog::store::Bucket;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::clients::{Desk, EPOCH};
use crate::errands::Errand;
use crate::faults::Undo;
use crate::history::{Millis, Sample};
use crate::machine::Machine;
use crate::net::Net;
use crate::profile::{Knobs, Profile};
use crate::random::Rng;
use crate::store::Shared;
use crate::trace::Trace;
use crate::web::Web;

const MIB: u64 = 1 << 20;

/// What the seed decides of a cluster beside its profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// `cluster.shards`.
    pub shards: u32,
    /// Processes that keep no log.
    pub gateways: u64,
}

impl Shape {
    /// One to three shards; a third of all clusters have a gateway of their own.
    #[must_use]
    pub fn new(rng: &mut Rng) -> Self {
        Self { shards: *rng.pick(&[1, 2, 3]), gateways: *rng.pick(&[0, 0, 1]) }
    }
}

/// Between two hashes of a state, milliseconds.
const SAMPLES: Millis = 20;
/// The number of the first gateway: nodes never get so far.
const GATEWAYS: u64 = 1_000;

/// See the module.
pub struct World {
    /// What it is like.
    pub profile: Profile,
    /// What else.
    pub shape: Shape,
    /// Hashes of states so far.
    pub samples: Vec<Sample>,
    /// What happened.
    pub trace: Trace,
    /// Between nodes.
    pub net: Net,
    /// The bucket.
    pub store: Shared,
    /// What clients have.
    pub desk: Desk,
    /// By number, those too that were taken out.
    pub machines: BTreeMap<u64, Machine>,
    /// Milliseconds since the beginning.
    pub now: Millis,
    /// For faults.
    pub rng: Rng,
    /// What went wrong that no history shows.
    pub problems: Vec<String>,
    /// Why processes ended by themselves, the last time of each.
    pub ends: BTreeMap<u64, String>,
    /// What operators are doing.
    pub errand: Option<Errand>,
    pub(crate) undo: BTreeMap<Millis, Vec<Undo>>,
    /// No machine had this number.
    pub(crate) next_id: u64,
    clients: Clients,
}

/// The runtime of everything that is no node.
struct Clients {
    runtime: Runtime,
    begun: Instant,
}

/// Where a node's peers reach it.
#[must_use]
pub fn address(id: u64) -> String {
    format!("node-{id}:7072")
}

impl World {
    /// The world of a seed: machines that are about to start, and no clients yet.
    ///
    /// # Panics
    /// If the system has no room for a runtime.
    #[must_use]
    pub fn new(rng: &Rng, profile: Profile, shape: Shape, trace: Trace) -> Self {
        let runtime = match Builder::new_current_thread().enable_time().start_paused(true).build() {
            Ok(runtime) => runtime,
            Err(error) => panic!("no runtime: {error}"),
        };
        let begun = runtime.block_on(async { Instant::now() });
        let web = Web::new(rng.fork("web"), trace.clone());
        web.set_loss(profile.knobs.answers_lost);
        let store = Shared::new(rng.fork("bucket"), trace.clone());
        let net = Net::new(rng.fork("net"), trace.clone());
        let desk = Desk::new(web, store.clone(), trace.clone());
        let nodes = profile.knobs.nodes;
        let mut world = Self {
            profile,
            shape,
            samples: Vec::new(),
            trace,
            net,
            store,
            desk,
            machines: BTreeMap::new(),
            now: 0,
            rng: rng.fork("world"),
            problems: Vec::new(),
            ends: BTreeMap::new(),
            errand: None,
            undo: BTreeMap::new(),
            next_id: nodes + 1,
            clients: Clients { runtime, begun },
        };
        let first: Vec<ClusterNode> = (1..=nodes).map(|id| ClusterNode { id, address: address(id) }).collect();
        for id in 1..=nodes {
            world.add_machine(id, first.clone());
        }
        for id in (GATEWAYS..).take(usize::try_from(shape.gateways).unwrap_or(0)) {
            world.add_machine(id, first.clone());
        }
        world.calm();
        world
    }

    /// A machine that starts at once.
    pub(crate) fn add_machine(&mut self, id: u64, nodes: Vec<ClusterNode>) {
        let mut config = config(id, &self.profile.knobs, nodes);
        config.cluster.shards = Some(self.shape.shards);
        if id >= GATEWAYS {
            config.cluster.roles.retain(|role| *role != Role::Wal);
            (config.cluster.node_id, config.peer.listen, config.peer.advertise) = (None, None, None);
        }
        let mut machine = Machine::new(id, config, EPOCH + self.now);
        machine.starts_at = Some(self.now + self.rng.below(50));
        machine.disk.set_sync_delay(Duration::from_millis(self.profile.knobs.sync_delay));
        self.machines.insert(id, machine);
    }

    /// Network and bucket as they are when nothing is wrong.
    pub(crate) fn calm(&self) {
        let Knobs { bucket_delay: delay, put_delay, refused, .. } = self.profile.knobs;
        self.net.change(|rules| *rules = crate::net::Rules { delay: 2, stragglers: 10, refused, ..Default::default() });
        self.store.change(|rules| *rules = crate::store::Rules { delay, put_delay, ..Default::default() });
    }

    /// Begins a task beside the nodes.
    pub fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.clients.runtime.spawn(task)
    }

    /// What a task answered that is over.
    ///
    /// # Panics
    /// If it is not over, or panicked.
    pub fn take<T>(&self, task: JoinHandle<T>) -> T {
        assert!(task.is_finished(), "the task is not over");
        match self.clients.runtime.block_on(task) {
            Ok(answer) => answer,
            Err(error) => panic!("a task of the simulation broke off: {error}"),
        }
    }

    /// A millisecond passes.
    pub fn step(&mut self) {
        self.now += 1;
        self.trace.at(self.now);
        self.undo_due();
        self.run_errand();
        let ids: Vec<u64> = self.machines.keys().copied().collect();
        for id in ids {
            self.step_machine(id);
            if self.now.is_multiple_of(SAMPLES) {
                self.sample(id);
            }
        }
        let until = self.clients.begun + Duration::from_millis(self.now);
        self.clients.runtime.block_on(async { tokio::time::sleep_until(until).await });
    }

    fn step_machine(&mut self, id: u64) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(&id).filter(|machine| !machine.is_retired) else { return };
        let is_stopped = machine.paused_until.is_some_and(|until| now < until);
        let is_off = !machine.is_on() && machine.starts_at.is_none_or(|at| now < at);
        if is_stopped || is_off {
            return machine.skip(1);
        }
        if !machine.is_on() {
            self.start(id);
        }
        self.run_machine(id);
    }

    fn start(&mut self, id: u64) {
        let bucket = Bucket::decorated(self.store.of(id), "memory://simulated", &store_settings(&self.profile.knobs));
        let surroundings = Surroundings { bucket, wire: Arc::new(self.net.clone()) };
        let told = self.told(id);
        let Some(machine) = self.machines.get_mut(&id) else { return };
        if machine.is_gateway() {
            // Whoever starts it knows who there is.
            machine.config.cluster.nodes = told;
        }
        machine.start(surroundings);
        self.trace.count("start", id);
    }

    fn run_machine(&mut self, id: u64) {
        let (now, web) = (self.now, self.desk.web.clone());
        let Some(machine) = self.machines.get_mut(&id) else { return };
        machine.tick(1);
        let (died, gateway) = {
            let mut room = machine.room();
            // Once: it serves from then on.
            (room.died.clone(), room.gateway.take())
        };
        if let Some(why) = died {
            let why: String = why.chars().take(300).collect();
            self.trace.count("process ended", format_args!("{id} {why}"));
            self.ends.insert(id, why);
            machine.kill();
            machine.starts_at = Some(now + 100 + self.rng.below(400));
            web.set(id, None);
        } else if let (Some(gateway), Some(runtime)) = (gateway, machine.handle()) {
            web.set(id, Some((gateway, runtime)));
        }
    }

    /// Steps until `done` says so or `millis` are over; whether it did.
    pub fn until(&mut self, millis: Millis, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + millis;
        while self.now < end {
            self.step();
            if done(self) {
                return true;
            }
        }
        false
    }

    /// The machines that take part.
    pub fn processes(&self) -> impl Iterator<Item = &Machine> {
        self.machines.values().filter(|machine| !machine.is_retired)
    }

    /// Those that keep the log.
    pub fn members(&self) -> impl Iterator<Item = &Machine> {
        self.processes().filter(|machine| !machine.is_gateway())
    }

    /// Who leads shard 0.
    #[must_use]
    pub fn leader(&self) -> Option<u64> {
        self.leader_of(0)
    }

    /// Who leads a shard, as it says itself: the one with the highest term.
    #[must_use]
    pub fn leader_of(&self, shard: u32) -> Option<u64> {
        let leads = |machine: &Machine| {
            let status = machine.queue()?.status();
            let found = status.shards.iter().find(|found| found.shard == shard)?;
            (found.leader == Some(machine.id)).then_some((found.term, machine.id))
        };
        self.members().filter_map(leads).max().map(|(_, id)| id)
    }

    /// Takes the hashes of the states of a process that have changed since it was last looked at.
    pub(crate) fn sample(&mut self, id: u64) {
        let Some(machine) = self.machines.get_mut(&id) else { return };
        let Some(queue) = machine.queue() else { return };
        let (incarnation, at, sampled) = (queue.incarnation(), self.now, &mut machine.sampled);
        let hashes = queue.state_hashes_where(|shard, applied| sampled.get(&shard.0) != Some(&applied));
        if hashes.is_empty() {
            return;
        }
        let status = queue.status();
        for (shard, applied, hash) in hashes {
            sampled.insert(shard.0, applied);
            let known = status.shards.iter().find(|known| (known.shard, known.applied) == (shard.0, applied));
            let Some(flushed) = known.map(|known| known.flushed) else { continue };
            self.samples.push(Sample { incarnation, shard: shard.0, applied, flushed, node: id, at, hash });
        }
    }
}

/// What a flush, a read or all tries of a call to the bucket may take.
fn deadline(knobs: &Knobs) -> Duration {
    // The grace period is more than four times that.
    Duration::from_millis(knobs.deadline.unwrap_or(knobs.grace.max(8_000) / 5))
}

fn store_settings(knobs: &Knobs) -> config::Store {
    let deadline = deadline(knobs);
    config::Store { attempt_timeout: deadline / 2, deadline, ..config::Store::default() }
}

fn config(id: u64, knobs: &Knobs, nodes: Vec<ClusterNode>) -> Config {
    let ms = Duration::from_millis;
    let mut config = Config { data_dir: format!("/simulated/node-{id}").into(), ..Config::default() };
    config.bucket = Some("memory://simulated".to_owned());
    config.cluster.node_id = Some(NodeChoice::Id(id));
    config.cluster.nodes = nodes;
    let port = 7_000 + u16::try_from(id).unwrap_or(u16::MAX);
    config.peer.listen = Some(([127, 0, 0, 1], port).into());
    config.peer.advertise = Some(address(id));
    config.http.listen = ([127, 0, 0, 1], 7_070).into();
    config.store = store_settings(knobs);
    config.flush.interval = ms(knobs.flush);
    config.flush.checkpoint_gap = ms(knobs.flush / 4);
    config.flush.metadata_interval = ms(knobs.flush * 2);
    config.flush.deadline = deadline(knobs);
    config.wal.file_size = 128 << 10;
    config.wal.keep = Some(knobs.keep);
    (config.wal.budget, config.wal.reserve, config.wal.spare) = (64 * MIB, MIB, 256 << 10);
    (config.wal.min_free, config.wal.min_free_percent) = (64 << 10, 0);
    (config.cache.memory, config.cache.disk) = (MIB, 0);
    (config.tail.memory, config.produce.memory, config.fetch.memory) = (MIB, 8 * MIB, 8 * MIB);
    config.fetch.deadline = deadline(knobs);
    config.fetch.bucket_deadline = deadline(knobs) / 2;
    config.fetch.view_age = ms(knobs.grace / 5);
    (config.gc.grace, config.gc.interval) = (ms(knobs.grace), ms(knobs.grace / 4));
    config.gc.list_limit = knobs.listed;
    config.archive.enabled = knobs.archive;
    (config.archive.interval, config.archive.max_age) = (ms(500), ms(10_000));
    config.archive.deadline = deadline(knobs);
    config.archive.claim = ms(2_000);
    config.retention.interval = ms(700);
    config
}
