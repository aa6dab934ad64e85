//! Several shards in memory with the messages between them: what the coordinator of topic changes has under way, told in any
//! order, twice, late, or not at all.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Applied, State};
use super::world::World;
use crate::model::{
    Answer, Command, Control, Incarnation, NamedSettings, NodeId, Rejection, ShardId, TopicId, TopicPartition,
    TopicSettings, TopicSync,
};

/// A change that a coordinator is telling the shards.
pub(super) struct Run {
    sync: TopicSync,
    done: BTreeSet<ShardId>,
}

pub(super) struct Cluster {
    pub(super) worlds: Vec<World>,
    pub(super) runs: BTreeMap<u64, Run>,
    /// Commands on their way, with the run that waits for the answer.
    pub(super) flying: Vec<(u64, ShardId, Control)>,
    next_run: u64,
    next_topic: u128,
    incarnation: u64,
}

pub(super) fn settings(partitions: u32) -> TopicSettings {
    TopicSettings { partitions, ..TopicSettings::default() }
}

impl Cluster {
    pub(super) fn new(shards: u32) -> Self {
        let worlds = (0..shards).map(|shard| World::of(ShardId(shard))).collect();
        let (runs, flying) = (BTreeMap::new(), Vec::new());
        let mut cluster = Self { worlds, runs, flying, next_run: 0, next_topic: 1, incarnation: 1 };
        let founders = (1..=u64::from(shards)).map(NodeId).collect();
        assert_eq!(cluster.catalog(Control::SetShards { founders }), Answer::Done);
        cluster
    }

    pub(super) fn state(&self, shard: ShardId) -> &State {
        &self.worlds[shard.0 as usize].state
    }

    pub(super) fn catalog_state(&self) -> &State {
        self.state(ShardId(0))
    }

    pub(super) fn apply(&mut self, shard: ShardId, command: Command) -> Applied {
        self.worlds[shard.0 as usize].apply(command)
    }

    pub(super) fn control(&mut self, shard: ShardId, control: Control) -> Answer {
        self.apply(shard, Command::Control(control)).answer
    }

    pub(super) fn catalog(&mut self, control: Control) -> Answer {
        self.control(ShardId(0), control)
    }

    pub(super) fn wait(&mut self, millis: u64) {
        self.worlds.iter_mut().for_each(|world| world.time += millis);
    }

    pub(super) fn create(&mut self, name: &str, partitions: u32) -> (TopicId, Answer) {
        self.next_topic += 1;
        // Not in the order of creation.
        let id =
            TopicId(uuid::Uuid::from_u128(self.next_topic.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)));
        let named = NamedSettings { partitions: true, ..NamedSettings::default() };
        let create = Control::CreateTopic { id, name: name.to_owned(), settings: settings(partitions), named };
        (id, self.catalog(create))
    }

    pub(super) fn grow(&mut self, id: TopicId, partitions: u32) -> Answer {
        let Some(topic) = self.catalog_state().wanted(id) else { return Answer::Done };
        let expected = topic.settings.clone();
        let settings = TopicSettings { partitions, ..expected.clone() };
        self.catalog(Control::AlterTopic { id, expected, settings })
    }

    /// A coordinator takes up a change: the commands are on their way.
    pub(super) fn begin(&mut self, sync: TopicSync) {
        self.next_run += 1;
        self.flying.extend(sync.commands().map(|(shard, control)| (self.next_run, shard, control)));
        self.runs.insert(self.next_run, Run { sync, done: BTreeSet::new() });
    }

    /// A command arrives; it may be delivered again later.
    pub(super) fn deliver(&mut self, nth: usize, again: bool) -> Answer {
        let (number, shard, control) = self.flying.swap_remove(nth);
        if again {
            self.flying.push((number, shard, control.clone()));
        }
        let answer = self.control(shard, control.clone());
        match (&answer, self.runs.get_mut(&number)) {
            (Answer::Done, Some(run)) => drop(run.done.insert(shard)),
            (Answer::More, Some(_)) => self.flying.push((number, shard, control)),
            (Answer::Rejected(rejection), Some(run)) => {
                assert_eq!(*rejection, Rejection::StaleSync);
                let renew = Control::RenewTopic { id: run.sync.id(), revision: run.sync.revision };
                self.runs.remove(&number);
                self.catalog(renew);
            }
            _ => {}
        }
        answer
    }

    /// Tells shard 0 of a run that every shard has answered.
    pub(super) fn finish(&mut self, number: u64) {
        let Some(run) = self.runs.get(&number) else { return };
        if run.sync.holdings.iter().all(|holding| run.done.contains(&holding.shard)) {
            let synced = run.sync.synced();
            if self.catalog(synced) != Answer::More {
                self.runs.remove(&number);
            }
        }
    }

    /// The leader of shard 0 changes: nobody waits for the answers any more. What is on its way may still arrive.
    pub(super) fn crash(&mut self) {
        self.runs.clear();
    }

    /// Tells every shard everything.
    pub(super) fn converge(&mut self) {
        for _ in 0..1_000 {
            if self.flying.is_empty() && self.catalog_state().unsynced(1).is_empty() {
                return;
            }
            self.runs.clear();
            self.flying.clear();
            for sync in self.catalog_state().unsynced(usize::MAX) {
                self.begin(sync);
            }
            while !self.flying.is_empty() {
                self.deliver(0, false);
            }
            for number in self.runs.keys().copied().collect::<Vec<_>>() {
                self.finish(number);
            }
        }
        panic!("the shards do not converge");
    }

    /// Starts every shard from a checkpoint of its own, or from nothing, in a new incarnation; the catalog learns what the
    /// others have unless `adopt` says not yet.
    pub(super) fn restart(&mut self, from: &[Option<usize>], adopt: bool) {
        self.runs.clear();
        self.flying.clear();
        self.incarnation += 1;
        let incarnation = Incarnation(self.incarnation);
        let founders: Vec<NodeId> = self.catalog_state().founders().to_vec();
        for (world, kept) in self.worlds.iter_mut().zip(from) {
            world.restart(*kept);
            world.control(Control::Reopen { incarnation });
        }
        self.catalog(Control::SetShards { founders });
        if adopt {
            self.adopt();
        }
    }

    pub(super) fn adopt(&mut self) {
        let others: Vec<State> = self.worlds[1..].iter().map(|world| world.state.clone()).collect();
        for control in self.catalog_state().adoptions(&others) {
            let answer = self.catalog(control.clone());
            assert!(matches!(answer, Answer::TopicPending { .. }), "{answer:?} to {control:?}");
            assert_eq!(self.catalog(control), Answer::Done, "twice");
        }
        self.catalog(Control::Adopted { incarnation: Incarnation(self.incarnation) });
    }

    /// No partition is in two shards, and the catalog knows where each is, the other shards' forgotten ones aside.
    pub(super) fn check_owners(&self) {
        let mut owners: BTreeMap<TopicPartition, ShardId> = BTreeMap::new();
        for world in &self.worlds {
            for partition in world.state.partitions() {
                let (id, shard) = (partition.id(), world.state.shard());
                assert_eq!(owners.insert(id, shard), None, "{id} is in two shards");
                if let Some(owner) = self.catalog_state().shard_of(id) {
                    assert_eq!(owner, shard, "{id} is in another shard than the catalog says");
                }
            }
        }
    }

    /// What users see is there.
    pub(super) fn check_visible(&self) {
        for topic in self.catalog_state().topics("", "") {
            for partition in 0..topic.settings.partitions {
                let id = TopicPartition::new(topic.id, partition);
                let shard = self.catalog_state().shard_of(id).unwrap();
                let state = self.state(shard);
                assert!(state.partition(id).is_some(), "{id} is visible and not in shard {shard}");
                assert!(state.wanted(topic.id).unwrap().deleted_at.is_none(), "{id} is visible and deleted in {shard}");
            }
        }
    }

    /// After [`Self::converge`]: every shard has what the catalog wants and nothing else.
    pub(super) fn check_converged(&self) {
        let catalog = self.catalog_state();
        let mut partitions = 0;
        for world in &self.worlds {
            for partition in world.state.partitions() {
                let id = partition.id();
                assert_eq!(catalog.shard_of(id), Some(world.state.shard()), "{id}");
                let (wanted, known) = (catalog.wanted(id.topic).unwrap(), world.state.wanted(id.topic).unwrap());
                assert_eq!(wanted, known, "in shard {}", world.state.shard());
                assert_eq!(catalog.topic(id.topic), Some(wanted), "visible is what is wanted");
                partitions += 1;
            }
        }
        let live = catalog.topics("", "").chain(catalog.deleted_topics());
        assert_eq!(live.map(|topic| topic.settings.partitions).sum::<u32>(), partitions);
    }
}
