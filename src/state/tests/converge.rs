//! Random changes of topics over several shards, told by coordinators that die between any two steps: what users see is always
//! there, no partition is in two shards, and once everything was told every shard has what is wanted. Now and then all shards
//! start from checkpoints of different moments.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::cluster::Cluster;
use super::history::check_invariants;
use super::world::{World, batch, outcome};
use crate::model::{Answer, Command, Control, Limits, NodeId, Rejection, ShardId, TopicId, TopicPartition};

const MOST_SHARDS: usize = 5;

/// One step: what to do and three numbers to decide how.
type Step = (u8, u32, u32, u32);

/// A topic as users were told.
#[derive(Debug, Clone)]
struct Naive {
    id: TopicId,
    name: String,
    partitions: u32,
    deleted_at: Option<u64>,
    removed: bool,
}

struct History {
    cluster: Cluster,
    naive: Vec<Naive>,
    /// Records acknowledged.
    written: BTreeMap<TopicPartition, u64>,
    /// The shards came from different moments, and not everything was told again since.
    restored: bool,
    acknowledged: usize,
    declined: usize,
    flushes: usize,
    removed: usize,
    restarts: usize,
}

impl History {
    fn new(shards: u32) -> Self {
        let mut cluster = Cluster::new(shards);
        for shard in (0..shards).map(ShardId) {
            cluster.control(shard, Control::SetLimits(Limits { topic_delete_grace_ms: 500, ..Limits::default() }));
        }
        Self {
            cluster,
            naive: Vec::new(),
            written: BTreeMap::new(),
            restored: false,
            acknowledged: 0,
            declined: 0,
            flushes: 0,
            removed: 0,
            restarts: 0,
        }
    }

    fn live(&mut self, name: &str) -> Option<&mut Naive> {
        self.naive.iter_mut().find(|topic| topic.name == name && topic.deleted_at.is_none())
    }

    fn step(&mut self, (kind, a, b, c): Step) {
        self.cluster.wait(u64::from(c % 200));
        match kind % 26 {
            0..=2 => self.create(&format!("t{}", a % 5), 1 + b % 7),
            3..=6 => self.change(kind % 26, a, b),
            7..=10 => {
                let unsynced = self.cluster.catalog_state().unsynced(3);
                if let Some(sync) = unsynced.get(a as usize % unsynced.len().max(1)) {
                    self.cluster.begin(sync.clone());
                }
            }
            11..=16 if !self.cluster.flying.is_empty() => {
                let nth = a as usize % self.cluster.flying.len();
                let answer = self.cluster.deliver(nth, b.is_multiple_of(3));
                self.declined += usize::from(answer == Answer::Rejected(Rejection::StaleSync));
            }
            17 | 18 => {
                let runs: Vec<u64> = self.cluster.runs.keys().copied().collect();
                if let Some(run) = runs.get(a as usize % runs.len().max(1)) {
                    self.cluster.finish(*run);
                }
            }
            19 if c.is_multiple_of(2) => self.cluster.crash(),
            19 => self.cluster.flying.truncate(a as usize % 4),
            20..=22 => self.append(a, b),
            23 | 24 => {
                let nth = a as usize % self.cluster.worlds.len();
                self.flushes += usize::from(self.cluster.worlds[nth].flush() == Answer::Done);
            }
            _ => self.rare_step(a, b, c),
        }
    }

    fn create(&mut self, name: &str, partitions: u32) {
        let existing = self.live(name).cloned();
        let (new, answer) = self.cluster.create(name, partitions);
        match (existing, answer) {
            (Some(known), Answer::Topic { id, created } | Answer::TopicPending { id, created, .. }) => {
                assert_eq!((id, created, partitions), (known.id, false, known.partitions));
            }
            (Some(known), Answer::Rejected(Rejection::TopicExists)) => assert_ne!(partitions, known.partitions),
            (None, Answer::Topic { id, created } | Answer::TopicPending { id, created, .. }) => {
                assert_eq!((id, created), (new, true));
                self.naive.push(Naive { id, name: name.to_owned(), partitions, deleted_at: None, removed: false });
            }
            other => panic!("{other:?}"),
        }
    }

    fn change(&mut self, kind: u8, a: u32, b: u32) {
        let name = format!("t{}", a % 5);
        let now = self.cluster.worlds[0].time;
        match kind {
            3 => {
                let Some(topic) = self.live(&name) else { return };
                topic.partitions += b % 4;
                let (id, partitions) = (topic.id, topic.partitions);
                let answer = self.cluster.grow(id, partitions);
                assert!(matches!(answer, Answer::Topic { .. } | Answer::TopicPending { .. }), "{answer:?}");
            }
            4 => {
                let Some(topic) = self.live(&name) else { return };
                topic.deleted_at = Some(now);
                let id = topic.id;
                let answer = self.cluster.catalog(Control::DeleteTopic { id });
                assert!(matches!(answer, Answer::Done | Answer::TopicPending { .. }), "{answer:?}");
                assert!(self.cluster.catalog_state().topic_by_name(&name).is_none());
            }
            5 => {
                let taken = self.live(&name).is_some();
                let deleted = self.naive.iter_mut().filter(|topic| topic.name == name && !topic.removed);
                let newest =
                    deleted.filter(|topic| topic.deleted_at.is_some()).max_by_key(|topic| (topic.deleted_at, topic.id));
                let answer = self.cluster.catalog(Control::UndeleteTopic { name });
                let over = |at: Option<u64>| at.is_some_and(|at| at + 500 < now);
                match newest.filter(|topic| !over(topic.deleted_at)) {
                    Some(topic) if !taken => {
                        topic.deleted_at = None;
                        assert!(matches!(answer, Answer::Topic { .. } | Answer::TopicPending { .. }), "{answer:?}");
                    }
                    Some(_) => assert_eq!(answer, Answer::Rejected(Rejection::TopicExists)),
                    None => assert_eq!(answer, Answer::Rejected(Rejection::NotDeleted)),
                }
            }
            _ => {
                let ids = self.naive.iter().map(|topic| topic.id).collect();
                self.cluster.catalog(Control::RemoveTopics { ids });
                for topic in self.naive.iter_mut().filter(|topic| topic.deleted_at.is_some_and(|at| at + 500 < now)) {
                    self.removed += usize::from(!topic.removed);
                    topic.removed = true;
                }
            }
        }
    }

    /// A record for any partition that users see.
    fn append(&mut self, a: u32, b: u32) {
        let topics: Vec<(TopicId, u32)> = {
            let catalog = self.cluster.catalog_state();
            catalog.topics("", "").map(|topic| (topic.id, topic.settings.partitions)).collect()
        };
        let Some((topic, partitions)) = topics.get(a as usize % topics.len().max(1)) else { return };
        let at = TopicPartition::new(*topic, b % partitions);
        let shard = self.cluster.catalog_state().shard_of(at).unwrap();
        let answer = outcome(&self.cluster.apply(shard, Command::Append(vec![batch(at, 1)])).answer);
        if !self.restored {
            let written = self.written.entry(at).or_default();
            assert_eq!(answer, Ok((*written, false)), "{at} in shard {shard}");
            *written += 1;
            self.acknowledged += 1;
        }
    }

    fn rare_step(&mut self, a: u32, b: u32, c: u32) {
        let shards = self.cluster.worlds.len();
        if c.is_multiple_of(6) && shards < MOST_SHARDS && !self.restored {
            self.cluster.worlds.push(World::of(ShardId(shards as u32)));
            let time = self.cluster.worlds[0].time;
            self.cluster.worlds[shards].time = time;
            let founders = (1..=shards as u64 + 1).map(NodeId).collect();
            self.cluster.catalog(Control::SetShards { founders });
            if self.cluster.catalog_state().is_adopting() {
                self.cluster.adopt();
            }
        } else if c % 6 == 1 {
            let pick = |(nth, world): (usize, &World)| {
                let choice = (a >> (3 * nth)) as usize % (world.kept.len() + 1);
                choice.checked_sub(1)
            };
            let from: Vec<Option<usize>> = self.cluster.worlds.iter().enumerate().map(pick).collect();
            self.cluster.restart(&from, false);
            let declined = self.cluster.create("new", 1).1;
            assert_eq!(declined, Answer::Rejected(Rejection::Adopting));
            assert!(self.cluster.catalog_state().unsynced(1).is_empty(), "the others first");
            self.cluster.check_owners();
            self.cluster.adopt();
            let limits = Control::SetLimits(Limits { topic_delete_grace_ms: 500, ..Limits::default() });
            self.cluster.catalog(limits);
            self.restored = true;
            self.restarts += 1;
            self.learn();
        } else if b.is_multiple_of(2) {
            self.cluster.converge();
        }
    }

    /// What users are told after a start from the bucket.
    fn learn(&mut self) {
        self.written.clear();
        let catalog = self.cluster.catalog_state();
        let naive = |id: TopicId, removed: bool| {
            let topic = catalog.wanted(id)?;
            let (name, deleted_at) = (topic.name.clone(), topic.deleted_at);
            Some(Naive { id, name, partitions: topic.settings.partitions, deleted_at, removed })
        };
        let known: Vec<(TopicId, bool)> = catalog.topics.iter().map(|(id, entry)| (*id, entry.removed)).collect();
        self.naive = known.into_iter().filter_map(|(id, removed)| naive(id, removed)).collect();
    }

    fn check(&mut self) {
        self.cluster.check_owners();
        if self.restored && self.cluster.catalog_state().unsynced(1).is_empty() {
            self.restored = false;
            for world in &self.cluster.worlds {
                for partition in world.state.partitions() {
                    self.written.insert(partition.id(), partition.bounds().high_watermark);
                }
            }
        }
        if !self.restored {
            self.cluster.check_visible();
        }
        self.cluster.worlds.iter().for_each(|world| check_invariants(&world.state));
    }

    /// Tells everything, lets what was on its way before arrive after it, then compares with what users were told.
    fn finish(&mut self) {
        let late = std::mem::take(&mut self.cluster.flying);
        self.cluster.converge();
        for (_, shard, control) in late {
            let answer = self.cluster.control(shard, control);
            assert!(matches!(answer, Answer::Done | Answer::Rejected(Rejection::StaleSync)), "{answer:?}");
        }
        self.check();
        self.cluster.check_converged();
        let catalog = self.cluster.catalog_state();
        for topic in &self.naive {
            let found = catalog.wanted(topic.id);
            assert_eq!(found.is_none(), topic.removed, "{topic:?}");
            let Some(found) = found else { continue };
            assert_eq!(
                (found.settings.partitions, found.deleted_at),
                (topic.partitions, topic.deleted_at),
                "{topic:?}"
            );
            let visible = catalog.topic_by_name(&topic.name).is_some_and(|visible| visible.id == topic.id);
            assert_eq!(visible, topic.deleted_at.is_none());
        }
        for world in &self.cluster.worlds {
            world.kept.iter().for_each(|kept| world.check_replay(kept));
        }
    }
}

fn run(shards: u32, steps: &[Step]) -> History {
    let mut history = History::new(shards);
    for step in steps {
        history.step(*step);
        history.check();
    }
    history.finish();
    history
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn shards_converge_whatever_is_lost(
        shards in 2..4u32, steps in vec((any::<u8>(), any::<u32>(), any::<u32>(), any::<u32>()), 1..120)
    ) {
        run(shards, &steps);
    }
}

/// Proof that the random histories reach what they are meant to reach.
#[test]
fn random_histories_write_to_grown_topics_and_overtake_removals() {
    let mut number = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        (number >> 16) as u32
    };
    let mut reached = [0; 5];
    for shards in [2, 3, 3, 4] {
        let steps: Vec<Step> = (0..700).map(|_| (random() as u8, random(), random(), random())).collect();
        let history = run(shards, &steps);
        assert!(history.cluster.worlds.len() == MOST_SHARDS);
        let History { acknowledged, declined, flushes, removed, restarts, .. } = history;
        for (sum, count) in reached.iter_mut().zip([acknowledged, declined, flushes, removed, restarts]) {
            *sum += count;
        }
    }
    let [acknowledged, declined, flushes, removed, restarts] = reached;
    assert!(acknowledged > 100 && declined > 0 && flushes > 50 && removed > 5 && restarts > 5, "{reached:?}");
}
