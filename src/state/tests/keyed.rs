//! Requests under idempotency keys while a topic of several shards grows: a model of gateways with old views, of coordinators that
//! stop half way, and of retries that arrive late. No record of a request is ever written twice.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::State;
use super::cluster::Cluster;
use super::world::batch;
use crate::model::{Answer, Append, Command, IdempotencyKey, Keyed, Rejection, ShardId, TopicId, TopicPartition};

const RECORDS: u32 = 6;

/// One step: what to do and two numbers to decide how.
type Step = (u8, u32, u32);

/// The part of a request for one partition, on its way.
#[derive(Clone)]
struct Part {
    shard: ShardId,
    request: u32,
    records: Vec<u32>,
    append: Append,
}

struct Race {
    cluster: Cluster,
    topic: TopicId,
    /// What gateways may still go by.
    views: Vec<State>,
    parts: Vec<Part>,
    /// Request and record to how often it was written.
    written: BTreeMap<(u32, u32), u32>,
    acknowledged: BTreeSet<(u32, u32)>,
    declined: usize,
    followed: usize,
}

/// Where a record goes: as a gateway hashes its key.
fn partition_of(record: u32, among: u32) -> u32 {
    record.wrapping_mul(2_654_435_761) % among
}

impl Race {
    fn new() -> Self {
        let mut cluster = Cluster::new(3);
        let (topic, _) = cluster.create("t", 2);
        cluster.converge();
        let views = vec![cluster.catalog_state().clone()];
        let (written, acknowledged) = (BTreeMap::new(), BTreeSet::new());
        Self { cluster, topic, views, parts: Vec::new(), written, acknowledged, declined: 0, followed: 0 }
    }

    fn key(&self, request: u32) -> IdempotencyKey {
        IdempotencyKey(self.topic.0.as_u128() ^ u128::from(request))
    }

    /// A gateway assigns a request by a view that may be old. If that view shows that the topic has grown, it first asks every
    /// shard of the topic, as it is now, whether a part was written.
    fn attempt(&mut self, request: u32, view: &State) {
        let key = self.key(request);
        let visible = view.topic(self.topic).unwrap().settings.partitions;
        let ask = if view.has_grown(self.topic) { view.shards_of(self.topic) } else { Vec::new() };
        let begun = ask.iter().find_map(|shard| self.cluster.state(*shard).assigned_among(key));
        let among = begun.unwrap_or(visible);
        if among > view.wanted(self.topic).unwrap().settings.partitions {
            // The view is older than what was found: the gateway has to look again.
            return;
        }
        let mut records: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for record in 0..RECORDS {
            records.entry(partition_of(record, among)).or_default().push(record);
        }
        for (partition, records) in records {
            let at = TopicPartition::new(self.topic, partition);
            let idempotency = Some(Keyed { key, among, begun: begun.is_some() });
            let append = Append { idempotency, digest: 7, ..batch(at, records.len() as u32) };
            self.parts.push(Part { shard: view.shard_of(at).unwrap(), request, records, append });
        }
    }

    fn deliver(&mut self, nth: usize) {
        let part = self.parts.swap_remove(nth);
        let (shard, among) = (part.shard, part.append.idempotency.map_or(0, |keyed| keyed.among));
        let total = self.cluster.state(shard).wanted(self.topic).map_or(0, |topic| topic.settings.partitions);
        let answer = self.cluster.apply(shard, Command::Append(vec![part.append])).answer;
        let Answer::Appended(outcomes) = answer else { panic!("{answer:?}") };
        match &outcomes[0] {
            Ok(appended) => {
                for record in &part.records {
                    self.acknowledged.insert((part.request, *record));
                    *self.written.entry((part.request, *record)).or_default() += u32::from(!appended.duplicate);
                }
                self.followed += usize::from(!appended.duplicate && among != total);
            }
            Err(Rejection::AssignedAmongOthers) => self.declined += 1,
            Err(other) => panic!("{other:?}"),
        }
    }

    fn step(&mut self, (kind, a, b): Step) {
        match kind % 12 {
            0..=2 => {
                // Mostly an old view of late, sometimes any.
                let back = if b.is_multiple_of(4) { b as usize % self.views.len() } else { b as usize % 2 };
                let view = self.views[self.views.len() - 1 - back.min(self.views.len() - 1)].clone();
                self.attempt(a % 4, &view);
            }
            3..=6 if !self.parts.is_empty() => self.deliver(a as usize % self.parts.len()),
            7 if !self.parts.is_empty() => {
                let lost = a as usize % self.parts.len();
                self.parts.swap_remove(lost);
            }
            8 if b.is_multiple_of(3) => {
                let partitions = self.cluster.catalog_state().wanted(self.topic).unwrap().settings.partitions;
                self.cluster.grow(self.topic, (partitions + 1 + a % 2).min(9));
                if let Some(sync) = self.cluster.catalog_state().pending_sync(self.topic) {
                    self.cluster.begin(sync);
                }
            }
            9 | 10 if !self.cluster.flying.is_empty() => {
                let nth = a as usize % self.cluster.flying.len();
                self.cluster.deliver(nth, false);
            }
            11 => {
                for run in self.cluster.runs.keys().copied().collect::<Vec<_>>() {
                    self.cluster.finish(run);
                }
                if self.cluster.runs.is_empty() {
                    self.cluster
                        .catalog_state()
                        .pending_sync(self.topic)
                        .into_iter()
                        .for_each(|sync| self.cluster.begin(sync));
                }
            }
            _ => {}
        }
        self.views.push(self.cluster.catalog_state().clone());
        assert!(self.written.values().all(|times| *times <= 1), "{:?}", self.written);
    }

    /// Everything heals: every request can be completed, and each of its records is there once.
    fn finish(&mut self) {
        self.cluster.converge();
        let begun: BTreeSet<u32> = self.written.keys().map(|(request, _)| *request).collect();
        for request in begun {
            let view = self.cluster.catalog_state().clone();
            self.parts.clear();
            self.attempt(request, &view);
            while !self.parts.is_empty() {
                self.deliver(0);
            }
            for record in 0..RECORDS {
                assert_eq!(self.written.get(&(request, record)), Some(&1), "record {record} of {request}");
            }
        }
    }
}

fn run(steps: &[Step]) -> Race {
    let mut race = Race::new();
    steps.iter().for_each(|step| race.step(*step));
    race.finish();
    race
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn a_growing_topic_takes_each_record_under_a_key_once(steps in vec((any::<u8>(), any::<u32>(), any::<u32>()), 1..150)) {
        run(&steps);
    }
}

/// Proof that the random races reach what they are meant to reach.
#[test]
fn races_decline_old_assignments_and_follow_begun_ones() {
    let mut number = 0x1234_5678_9abc_def1_u64;
    let mut random = move || {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        (number >> 16) as u32
    };
    let (mut declined, mut followed) = (0, 0);
    for _ in 0..20 {
        let steps: Vec<Step> = (0..200).map(|_| (random() as u8, random(), random())).collect();
        let race = run(&steps);
        declined += race.declined;
        followed += race.followed;
    }
    assert!(declined > 20 && followed > 20, "{declined} {followed}");
}
