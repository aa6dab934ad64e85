//! One seed from beginning to end: start, faults under load, heal, converge, check.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tidelog::queue::ShardStatus;
use tokio::task::JoinHandle;

use crate::bucket;
use crate::checker::{self, Verdict, Violation};
use crate::clients::{self, EPOCH, Kind, Producer, settings};
use crate::history::{End, History, Millis, Outcome, Part, Record, Replica, Scan};
use crate::machine::Machine;
use crate::plan::Plan;
use crate::profile::Profile;
use crate::random::Rng;
use crate::trace::Trace;
use crate::world::{Shape, World};

/// How long clients may take to end, and the final scan.
const ENDS: Millis = 60_000;
/// Topics of every run, with partitions.
const TOPICS: [(&str, u32); 2] = [("t", 3), ("r", 2)];

/// What came of a seed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Hash of all that happened.
    pub hash: u64,
    /// How much that was.
    pub events: u64,
    /// Requests of clients.
    pub requests: u64,
    /// Records that were acknowledged.
    pub acknowledged: u64,
    /// Calls between nodes.
    pub calls: u64,
    /// How often promises were held against something.
    pub evaluated: u64,
    /// Simulated milliseconds.
    pub time: Millis,
    /// Faults and other things by kind.
    pub counts: BTreeMap<String, u64>,
    /// What went wrong.
    pub failures: Vec<String>,
}

/// Runs a seed in this thread, which [`crate::entropy::enter`] was called for.
#[must_use]
pub fn run(seed: u64, profile: &Profile, print: bool) -> Report {
    let rng = Rng::new(seed);
    let mut shape = rng.fork("shape");
    let mut profile = profile.clone();
    if profile.name == "mixed" {
        vary(&mut shape, &mut profile);
    }
    let plan = Plan::new(&mut rng.fork("plan"), &profile);
    let trace = Trace::new(print);
    let aimed = profile.cluster.map(|(shards, gateways)| Shape { shards, gateways });
    let cluster = aimed.unwrap_or_else(|| Shape::new(&mut rng.fork("cluster")));
    let mut world = World::new(&rng, profile, cluster, trace.clone());
    let mut failures = Vec::new();
    let verdict = match story(&mut world, &rng, plan) {
        Ok(verdict) => verdict,
        Err(why) => {
            failures.push(why);
            Verdict::default()
        }
    };
    failures.extend(verdict.violations.iter().map(Violation::to_string));
    failures.append(&mut world.problems);
    let history = world.desk.history();
    let acknowledged = history.sends.iter().filter(|send| is_acknowledged(send)).map(|send| send.records.len() as u64);
    Report {
        seed,
        hash: trace.hash(),
        events: trace.events(),
        requests: world.desk.web.requests(),
        acknowledged: acknowledged.sum(),
        calls: world.net.calls(),
        evaluated: verdict.evaluated,
        time: world.now,
        counts: trace.counts().into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect(),
        failures,
    }
}

fn is_acknowledged(send: &crate::history::Send) -> bool {
    send.attempts.iter().any(|attempt| matches!(attempt.outcome, crate::history::Outcome::Written(..)))
}

/// Seeds of the mixed profile differ in more than their faults.
fn vary(rng: &mut Rng, profile: &mut Profile) {
    let knobs = &mut profile.knobs;
    knobs.nodes = *rng.pick(&[3, 3, 3, 5]);
    knobs.flush = *rng.pick(&[400, 1_500, 4_000]);
    knobs.keep = *rng.pick(&[0, 32 << 10, 1 << 20]);
    knobs.grace = *rng.pick(&[3_000, 20_000]);
    knobs.listed = *rng.pick(&[7, 100_000]);
    knobs.object = *rng.pick(&[0, 100, 400]);
    knobs.rest = *rng.pick(&[20, 80, 200]);
    knobs.retention = *rng.pick(&[None, Some(4_000), Some(15_000)]);
    knobs.archive_retention =
        knobs.retention.and_then(|log| *rng.pick(&[None, Some(log), Some(3 * log), Some(600_000)]));
    knobs.answers_lost = *rng.pick(&[0, 10, 100]);
    knobs.bucket_delay = *rng.pick(&[2, 20, 200]);
    knobs.sync_delay = *rng.pick(&[0, 1, 5]);
}

fn story(world: &mut World, rng: &Rng, plan: Plan) -> Result<Verdict, String> {
    begin(world, rng)?;
    let clients = load(world, rng);
    let mut faults = plan.faults.into_iter().peekable();
    let began = world.now;
    while world.now < began + plan.heals_at {
        while let Some((_, fault)) = faults.next_if(|(at, _)| began + *at <= world.now) {
            world.inflict(fault);
        }
        world.step();
    }
    world.heal();
    let well = converge(world, "after the faults").and_then(|()| {
        world.desk.stop();
        finish(world, clients)?;
        fresh_writes(world, rng)
    });
    if let Err(why) = well {
        // What can be read all the same may tell why.
        world.desk.stop();
        world.problems.push(why);
        return Ok(check_what_is_left(world, rng));
    }
    Ok(check(world, rng))
}

/// The cluster is there, with its topics.
fn begin(world: &mut World, rng: &Rng) -> Result<(), String> {
    let led = |world: &World| (0..world.shape.shards).all(|shard| world.leader_of(shard).is_some());
    if !world.until(30_000, |world| world.now % 20 == 0 && led(world)) {
        return Err("a shard has no leader in the beginning".to_owned());
    }
    let (log, archive) = (world.profile.knobs.retention, world.profile.knobs.archive_retention);
    let (desk, mut rng) = (world.desk.clone(), rng.fork("topics"));
    let creating = world.spawn(async move {
        let mut created = true;
        for (topic, partitions) in TOPICS {
            let retention = if topic == "r" { (log, archive) } else { (None, None) };
            created &= desk.create(&mut rng, topic, settings(partitions, retention), 50).await;
        }
        created
    });
    if world.until(30_000, |_| creating.is_finished()) && world.take(creating) {
        Ok(())
    } else {
        Err("the topics were not created in the beginning".to_owned())
    }
}

/// Producers of every kind, a reader for each partition, an operator.
fn load(world: &World, rng: &Rng) -> Vec<JoinHandle<()>> {
    let knobs = world.profile.knobs.clone();
    let kinds = [Kind::Triple, Kind::Triple, Kind::Key, Kind::Plain, Kind::Plain, Kind::Conditional, Kind::Careless];
    let mut tasks = Vec::new();
    for (me, kind) in (0_u32..).zip(kinds) {
        // A condition holds only where nobody else writes.
        let topic = match kind {
            Kind::Conditional => ("r", 2),
            Kind::Triple if me == 1 => ("r", 1),
            _ => ("t", 3),
        };
        let producer = Producer::new(world.desk.clone(), rng.fork(&format!("producer {me}")), (me, kind), topic);
        tasks.push(world.spawn(producer.with(knobs.object, knobs.rest).run()));
    }
    for (topic, partitions) in TOPICS {
        for partition in 0..partitions {
            let part: Part = (topic.to_owned(), partition);
            let rng = rng.fork(&format!("reader {topic} {partition}"));
            tasks.push(world.spawn(clients::reader(world.desk.clone(), rng, part)));
        }
    }
    let topics = TOPICS.map(|(topic, _)| topic.to_owned()).to_vec();
    tasks.push(world.spawn(clients::operator(world.desk.clone(), rng.fork("operator"), (topics, knobs.operate))));
    tasks
}

fn finish(world: &mut World, clients: Vec<JoinHandle<()>>) -> Result<(), String> {
    if !world.until(ENDS, |_| clients.iter().all(JoinHandle::is_finished)) {
        return Err("clients did not end: a request is not answered".to_owned());
    }
    clients.into_iter().for_each(|client| world.take(client));
    Ok(())
}

/// Of each shard one leader that all know and the members that there are, and no errand left.
fn converge(world: &mut World, when: &str) -> Result<(), String> {
    let mut last = String::new();
    let converged = world.until(world.profile.converges, |world| {
        if world.now % 50 != 0 {
            return false;
        }
        match unlike(world) {
            Some(how) => {
                last = how;
                false
            }
            None => true,
        }
    });
    if converged { Ok(()) } else { Err(format!("not converged {when}: {last}")) }
}

/// How the nodes are not of one mind; `None` if they are.
fn unlike(world: &World) -> Option<String> {
    if let Some(errand) = &world.errand {
        return Some(format!("an operator is still at it: {}", errand.name()));
    }
    let members: BTreeSet<u64> = world.members().map(|machine| machine.id).collect();
    let mut leaders: BTreeMap<u32, Option<u64>> = BTreeMap::new();
    for machine in world.processes() {
        let (id, Some(queue)) = (machine.id, machine.queue()) else {
            return Some(format!("process {} does not serve", machine.id));
        };
        let shards = queue.status().shards;
        if shards.len() != world.shape.shards as usize {
            return Some(format!("process {id} has {} shards", shards.len()));
        }
        for ShardStatus { shard, leader, members: voters, .. } in shards {
            let known = *leaders.entry(shard).or_insert(leader);
            if leader.is_none() || known != leader {
                return Some(format!("process {id} takes {leader:?} for the leader of {shard}, another one {known:?}"));
            }
            let voters: BTreeSet<u64> = voters.iter().filter(|one| one.voter).map(|one| one.node.0).collect();
            if leader == Some(id) && voters != members {
                return Some(format!("the voters of shard {shard} are {voters:?}, not {members:?}"));
            }
        }
    }
    let deposed = leaders.iter().find(|(shard, leader)| world.leader_of(**shard) != **leader);
    deposed.map(|(shard, leader)| format!("{leader:?} does not know that it leads shard {shard}"))
}

/// All replicas have applied the same, and it is flushed.
fn settled(world: &World) -> Option<String> {
    let mut applied: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for machine in world.processes() {
        let Some(queue) = machine.queue() else { return Some(format!("process {} does not serve", machine.id)) };
        for shard in queue.status().shards {
            let now = (shard.applied, shard.flushed);
            let first = *applied.entry(shard.shard).or_insert(now);
            if first != now {
                return Some(format!("shard {}: node {} is at {now:?}, another at {first:?}", shard.shard, machine.id));
            }
        }
    }
    None
}

/// Whether some shard has not been told yet what the catalog wants.
fn has_pending_topics(world: &World) -> bool {
    let mut shards = world.processes().filter_map(Machine::queue).flat_map(|queue| queue.status().shards);
    shards.any(|shard| shard.pending_topics > 0)
}

/// Every partition takes a record again, and what is there can be flushed.
fn fresh_writes(world: &mut World, rng: &Rng) -> Result<(), String> {
    let mut writes = Vec::new();
    let mut me = 100;
    for (topic, partitions) in TOPICS {
        for partition in 0..partitions {
            me += partitions - me % partitions + partition;
            let rng = rng.fork(&format!("fresh {topic} {partition}"));
            let producer = Producer::new(world.desk.clone(), rng, (me, Kind::Plain), (topic, partitions));
            writes.push(world.spawn(producer.once(200)));
        }
    }
    if !world.until(ENDS, |_| writes.iter().all(JoinHandle::is_finished)) {
        return Err(format!("fresh writes are not answered: {}", failing(world)));
    }
    if !writes.into_iter().all(|write| world.take(write)) {
        return Err(format!("fresh writes are not acknowledged: {}", failing(world)));
    }
    let (desk, mut rng) = (world.desk.clone(), rng.fork("flush"));
    let topics = TOPICS.map(|(topic, _)| topic.to_owned()).to_vec();
    let archive = world.profile.knobs.archive;
    let flushing = world.spawn(async move { clients::flush_all(&desk, &mut rng, &topics, archive).await });
    if world.until(2 * ENDS, |_| flushing.is_finished()) && world.take(flushing) {
        Ok(())
    } else {
        Err(format!("what is there cannot be flushed and archived: {}", failing(world)))
    }
}

/// What the nodes say that goes wrong, and why some ended.
fn failing(world: &World) -> String {
    let jobs = world.members().filter_map(Machine::queue).flat_map(|queue| queue.status().jobs);
    let errors = jobs.filter_map(|job| Some(format!("{}: {}", job.name, job.last_error?)));
    let ends = world.ends.iter().map(|(id, why)| format!("node {id} ended: {why}"));
    let errors: BTreeSet<String> = errors.chain(ends).collect();
    errors.into_iter().collect::<Vec<_>>().join("; ")
}

/// What HTTP has of everything.
fn scan(world: &mut World, rng: &Rng) -> Scan {
    let (desk, mut rng) = (world.desk.clone(), rng.fork("scan"));
    let scanning = world.spawn(async move { clients::scan(&desk, &mut rng).await });
    if world.until(ENDS, |_| scanning.is_finished()) {
        return world.take(scanning);
    }
    Scan { problems: vec!["the final scan did not come to an end".to_owned()], ..Scan::default() }
}

/// The checker over what is to be had of a cluster that did not get well.
fn check_what_is_left(world: &mut World, rng: &Rng) -> Verdict {
    let http = scan(world, rng);
    if !http.problems.is_empty() {
        world.problems.extend(http.problems);
        return Verdict::default();
    }
    let end = End { http, time: world.now, ..End::default() };
    checker::check(&world.desk.history(), &end)
}

/// How often the final scans are made, at most.
const SCANS: usize = 3;

/// The final scans, the replicas, and the checker over everything.
fn check(world: &mut World, rng: &Rng) -> Verdict {
    // Or a topic that nobody answered for appears between the scans.
    if !world.until(ENDS, |world| world.now % 10 == 0 && !has_pending_topics(world)) {
        world.problems.push("a change of a topic does not take effect".to_owned());
    }
    let mut end = scans(world, rng);
    for _ in 1..SCANS {
        if !appeared_between(&world.desk.history(), &end) {
            break;
        }
        end = scans(world, rng);
    }
    end.samples = std::mem::take(&mut world.samples);
    end.time = world.now;
    let history = world.desk.history();
    checker::check(&history, &end)
}

/// What HTTP has, and then what the replicas and the bucket have once all of it is there.
fn scans(world: &mut World, rng: &Rng) -> End {
    let mut end = End { http: scan(world, rng), ..End::default() };
    let mut last = None;
    let settled = world.until(ENDS, |world| {
        world.now % 10 == 0 && {
            last = settled(world);
            last.is_none()
        }
    });
    if !settled {
        world.problems.push(format!("replicas did not settle: {}", last.unwrap_or_default()));
    }
    let mut flushed = BTreeMap::new();
    for machine in world.processes() {
        let Some(queue) = machine.queue() else { continue };
        for shard in queue.status_with_hash().shards {
            let log_time = i64::try_from(shard.log_time_ms).unwrap_or(i64::MAX) - EPOCH.cast_signed();
            let least: &mut u64 = flushed.entry(shard.shard).or_insert(shard.flushed);
            *least = (*least).min(shard.flushed);
            end.replicas.push(Replica {
                node: machine.id,
                shard: shard.shard,
                applied: shard.applied,
                hash: shard.state_hash.unwrap_or_default(),
                log_time,
            });
        }
    }
    end.bucket = bucket::scan(&world.store.objects(), &flushed);
    end
}

/// Whether records that nobody was promised, which a server may still write long after it answered, became visible after the scan
/// over HTTP. What was promised has to be in the first one.
fn appeared_between(history: &History, end: &End) -> bool {
    let is_open = |record: &Record| {
        let send = history.sends.iter().find(|send| send.records.iter().any(|sent| sent.value == record.value));
        send.is_some_and(|send| {
            send.attempts.iter().all(|attempt| matches!(attempt.outcome, Outcome::Accepted | Outcome::Unknown))
        })
    };
    let mut beyond = end.bucket.parts.iter().flat_map(|(part, stored)| {
        let read = end.http.parts.get(part).map_or(0, |read| read.end);
        stored.records.iter().filter(move |(offset, _)| *offset >= read)
    });
    let mut is_any = false;
    beyond.all(|(_, record)| {
        is_any = true;
        is_open(record)
    }) && is_any
}

/// Runs a seed in a thread of its own, and says how long that took.
#[must_use]
pub fn run_alone(seed: u64, profile: &Profile, print: bool) -> (Report, Duration) {
    let begun = Instant::now();
    let profile = profile.clone();
    let report = crate::entropy::in_thread(seed, move || {
        crate::bugs::plant();
        run(seed, &profile, print)
    });
    let report = report.unwrap_or_else(|panic| {
        let why = panic.downcast_ref::<String>().cloned();
        let why = why.or_else(|| panic.downcast_ref::<&str>().map(|why| (*why).to_owned()));
        Report { seed, failures: vec![format!("panicked: {}", why.unwrap_or_default())], ..Report::default() }
    });
    (report, begun.elapsed())
}
