//! The rules of a catalog of several shards.

use super::cluster::{Cluster, settings};
use super::world::{World, batch, outcome};
use crate::model::catalog::MAX_SHARDS;
use crate::model::{
    Answer, Command, Control, Incarnation, Limits, NodeId, PartitionRun, PlacementRun, Rejection, Revision, ShardId,
    Topic, TopicId, TopicPartition, TopicSettings, TopicSync,
};

fn pending(cluster: &Cluster, id: TopicId) -> TopicSync {
    cluster.catalog_state().pending_sync(id).unwrap()
}

fn names(cluster: &Cluster) -> Vec<String> {
    cluster.catalog_state().topics("", "").map(|topic| topic.name.clone()).collect()
}

/// A topic of several shards that all of them know.
fn created(cluster: &mut Cluster, name: &str, partitions: u32) -> TopicId {
    let (id, answer) = cluster.create(name, partitions);
    assert!(matches!(answer, Answer::TopicPending { created: true, .. }), "{answer:?}");
    cluster.converge();
    assert!(cluster.catalog_state().topic_by_name(name).is_some());
    id
}

fn append(cluster: &mut Cluster, topic: TopicId, partition: u32) -> Result<(u64, bool), Rejection> {
    let at = TopicPartition::new(topic, partition);
    let shard = cluster.catalog_state().shard_of(at).unwrap();
    outcome(&cluster.apply(shard, Command::Append(vec![batch(at, 1)])).answer)
}

#[test]
fn shards_are_added_and_never_removed() {
    let mut world = World::new();
    let set = |count: u64| Control::SetShards { founders: (1..=count).map(NodeId).collect() };
    assert_eq!(world.state.shard_count(), 1);
    assert_eq!(world.control(set(0)), Answer::Rejected(Rejection::ShardsShrink { current: 1 }));
    assert_eq!(world.control(set(3)), Answer::Done);
    assert_eq!(world.control(set(2)), Answer::Rejected(Rejection::ShardsShrink { current: 3 }));
    let others = Control::SetShards { founders: vec![NodeId(7); 4] };
    assert_eq!(world.control(others), Answer::Done);
    assert_eq!(world.state.founders(), [NodeId(1), NodeId(2), NodeId(3), NodeId(7)], "who founded a shard stays");
    let limit = MAX_SHARDS;
    assert_eq!(world.control(set(u64::from(limit) + 1)), Answer::Rejected(Rejection::TooManyShards { limit }));
    world.control(Control::Close);
    assert_eq!(world.control(set(5)), Answer::Rejected(Rejection::Closed));
}

#[test]
fn each_command_is_for_its_shards() {
    let mut cluster = Cluster::new(2);
    let (id, _) = cluster.create("t", 2);
    let sync = pending(&cluster, id);
    let (shard, command) = sync.commands().next().unwrap();
    assert_eq!(cluster.catalog(command), Answer::Rejected(Rejection::OtherShard));
    for control in [
        Control::DeleteTopic { id },
        Control::RemoveTopics { ids: vec![id] },
        Control::RegisterProducer { name: None },
        sync.synced(),
        Control::SetShards { founders: vec![NodeId(1)] },
    ] {
        assert_eq!(cluster.control(shard, control), Answer::Rejected(Rejection::OtherShard));
    }
}

#[test]
fn a_topic_is_visible_once_every_shard_knows_it() {
    let mut cluster = Cluster::new(3);
    let (id, answer) = cluster.create("t", 4);
    let Answer::TopicPending { revision, .. } = answer else { panic!("{answer:?}") };
    assert_eq!(names(&cluster), Vec::<String>::new());
    assert!(cluster.catalog_state().topic(id).is_none() && cluster.catalog_state().wanted(id).is_some());
    let again = cluster.create("t", 4).1;
    assert_eq!(again, Answer::TopicPending { id, created: false, revision }, "the name is taken, and not visible yet");
    assert_eq!(cluster.create("t", 5).1, Answer::Rejected(Rejection::TopicExists));

    let sync = pending(&cluster, id);
    assert_eq!(sync.revision, revision);
    cluster.begin(sync.clone());
    cluster.deliver(0, false);
    assert_eq!(
        cluster.catalog_state().unsynced(9),
        std::slice::from_ref(&sync),
        "a shard knowing it changes nothing here"
    );
    cluster.deliver(0, false);
    assert_eq!(cluster.catalog(sync.synced()), Answer::Done);
    assert_eq!(names(&cluster), ["t"]);
    assert_eq!(cluster.catalog(sync.synced()), Answer::Done, "twice");
    assert!(cluster.catalog_state().unsynced(9).is_empty());
    assert_eq!(cluster.create("t", 4).1, Answer::Topic { id, created: false });
    for partition in 0..4 {
        assert_eq!(append(&mut cluster, id, partition), Ok((0, false)));
    }
    cluster.check_converged();
}

#[test]
fn a_topic_in_shard_0_alone_changes_at_once() {
    let mut cluster = Cluster::new(3);
    let (id, answer) = cluster.create("t", 1);
    assert_eq!(answer, Answer::Topic { id, created: true });
    assert_eq!(cluster.catalog_state().shards_of(id), [ShardId(0)]);
    assert!(cluster.catalog_state().pending_sync(id).is_none() && !cluster.catalog_state().has_grown(id));
    let grown = cluster.grow(id, 2);
    assert!(matches!(grown, Answer::TopicPending { created: false, .. }), "the new one is elsewhere: {grown:?}");
    assert_eq!(cluster.catalog_state().topic(id).unwrap().settings.partitions, 1);
    assert_eq!(cluster.catalog_state().wanted(id).unwrap().settings.partitions, 2);
    cluster.converge();
    assert_eq!(cluster.catalog_state().topic(id).unwrap().settings.partitions, 2);
    assert!(cluster.catalog_state().has_grown(id));
    cluster.check_converged();
}

#[test]
fn partitions_go_to_the_least_loaded_in_few_runs() {
    let mut cluster = Cluster::new(3);
    let run = |first, shard| PlacementRun { first, shard: ShardId(shard) };
    let first = created(&mut cluster, "t1", 7);
    assert_eq!(cluster.catalog_state().placement(first), [run(0, 0), run(3, 1), run(5, 2)]);
    let second = created(&mut cluster, "t2", 4);
    assert_eq!(cluster.catalog_state().placement(second), [run(0, 0), run(1, 1), run(3, 2)], "4, 4 and 3 by now");
    cluster.grow(first, 8);
    cluster.grow(first, 10);
    let placement = [run(0, 0), run(3, 1), run(5, 2), run(8, 0), run(9, 1)];
    assert_eq!(cluster.catalog_state().placement(first), placement);
    cluster.converge();
    cluster.check_converged();
    let runs = pending_runs(&mut cluster, first);
    assert_eq!(runs, [PartitionRun { first: 3, count: 2 }, PartitionRun { first: 9, count: 1 }]);
}

/// What shard 1 is told to have.
fn pending_runs(cluster: &mut Cluster, id: TopicId) -> Vec<PartitionRun> {
    cluster.catalog(Control::DeleteTopic { id });
    pending(cluster, id).holdings.remove(0).runs
}

#[test]
fn equal_topics_are_spread_evenly() {
    for shards in [2, 3, 5, 64] {
        let mut cluster = Cluster::new(shards);
        for number in 0..40 {
            cluster.create(&format!("t{number}"), 3);
        }
        cluster.converge();
        let counts: Vec<usize> = cluster.worlds.iter().map(|world| world.state.partition_count()).collect();
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(most - least <= 1, "{counts:?}");
    }
}

#[test]
fn a_deletion_hides_at_once_and_comes_back_when_every_shard_knows() {
    let mut cluster = Cluster::new(2);
    let id = created(&mut cluster, "t", 2);
    append(&mut cluster, id, 1).unwrap();
    let answer = cluster.catalog(Control::DeleteTopic { id });
    assert!(matches!(answer, Answer::TopicPending { .. }), "{answer:?}");
    assert_eq!(names(&cluster), Vec::<String>::new());
    assert!(cluster.catalog_state().topic(id).unwrap().deleted_at.is_some());
    assert_eq!(append(&mut cluster, id, 0), Err(Rejection::TopicNotFound), "shard 0 goes by it");
    assert_eq!(append(&mut cluster, id, 1), Ok((1, false)), "shard 1 has not heard of it");
    cluster.converge();
    assert_eq!(append(&mut cluster, id, 1), Err(Rejection::TopicNotFound));
    let other = created(&mut cluster, "t", 2);
    let undelete = || Control::UndeleteTopic { name: "t".into() };
    assert_eq!(cluster.catalog(undelete()), Answer::Rejected(Rejection::TopicExists));
    cluster.catalog(Control::DeleteTopic { id: other });
    cluster.wait(1);
    // The newer one, whose deletion nobody has heard of yet.
    assert!(matches!(cluster.catalog(undelete()), Answer::TopicPending { id, .. } if id == other));
    assert_eq!(names(&cluster), Vec::<String>::new(), "not before every shard knows");
    cluster.converge();
    assert_eq!(names(&cluster), ["t"]);
    cluster.check_visible();
}

#[test]
fn a_late_or_repeated_command_changes_nothing() {
    let mut cluster = Cluster::new(2);
    let (id, _) = cluster.create("t", 2);
    let first = pending(&cluster, id);
    cluster.grow(id, 4);
    let second = pending(&cluster, id);
    assert!(second.revision > first.revision);
    let (shard, old) = first.commands().next().unwrap();
    let (_, new) = second.commands().next().unwrap();
    assert_eq!(cluster.control(shard, new.clone()), Answer::Done);
    let hash = cluster.state(shard).hash();
    assert_eq!(cluster.control(shard, old), Answer::Done);
    assert_eq!(cluster.control(shard, new), Answer::Done);
    assert_eq!(cluster.state(shard).hash(), hash);
    let revision = second.revision;
    let superseded = Answer::TopicPending { id, created: false, revision };
    assert_eq!(cluster.catalog(first.synced()), superseded, "it says which one counts");
    assert_eq!(names(&cluster), Vec::<String>::new());
    cluster.catalog(second.synced());
    assert_eq!(cluster.catalog(first.synced()), Answer::Done, "the newer one is known");
    cluster.check_converged();
}

#[test]
fn a_topic_is_forgotten_everywhere_in_bounded_steps() {
    let mut cluster = Cluster::new(2);
    let id = created(&mut cluster, "t", 200);
    for shard in [ShardId(0), ShardId(1)] {
        let mine: Vec<TopicPartition> = cluster.state(shard).partitions_of(id).map(|found| found.id()).collect();
        for _ in 0..200 {
            let batches = mine.iter().map(|partition| batch(*partition, 1)).collect();
            cluster.apply(shard, Command::Append(batches));
        }
    }
    cluster.catalog(Control::SetLimits(Limits { topic_delete_grace_ms: 0, ..Limits::default() }));
    cluster.catalog(Control::DeleteTopic { id });
    cluster.wait(1);
    cluster.catalog(Control::RemoveTopics { ids: vec![id] });
    assert!(cluster.catalog_state().deleted_topics().next().is_none(), "it does not come back");
    assert_eq!(cluster.catalog(Control::UndeleteTopic { name: "t".into() }), Answer::Rejected(Rejection::NotDeleted));
    let sync = pending(&cluster, id);
    let revision = sync.revision;
    cluster.catalog(Control::RemoveTopics { ids: vec![id] });
    assert_eq!(pending(&cluster, id).revision, revision, "once is enough");
    let (shard, command) = sync.commands().next().unwrap();
    assert_eq!(cluster.control(shard, command.clone()), Answer::More, "20,000 references are more than one step");
    assert!(cluster.state(shard).wanted(id).is_some());
    assert_eq!(cluster.control(shard, command.clone()), Answer::Done);
    assert!(cluster.state(shard).wanted(id).is_none() && cluster.state(shard).partition_count() == 0);
    assert_eq!(cluster.control(shard, command), Answer::Done);
    assert_eq!(cluster.catalog(sync.synced()), Answer::More);
    assert_eq!(cluster.catalog(sync.synced()), Answer::Done);
    assert!(cluster.catalog_state().wanted(id).is_none() && cluster.catalog_state().partition_count() == 0);
    let next = created(&mut cluster, "next", 2);
    assert_eq!(cluster.catalog_state().shards_of(next), [ShardId(0), ShardId(1)], "its partitions no longer count");
}

#[test]
fn what_a_shard_has_forgotten_does_not_come_back() {
    let mut cluster = Cluster::new(2);
    let (id, _) = cluster.create("t", 2);
    let creation = pending(&cluster, id);
    cluster.converge();
    let (other, _) = cluster.create("other", 2);
    let pending_other = pending(&cluster, other);
    cluster.catalog(Control::SetLimits(Limits { topic_delete_grace_ms: 0, ..Limits::default() }));
    cluster.catalog(Control::DeleteTopic { id });
    cluster.wait(1);
    cluster.catalog(Control::RemoveTopics { ids: vec![id] });
    let removal = pending(&cluster, id);
    let (shard, command) = removal.commands().next().unwrap();
    assert_eq!(cluster.control(shard, command), Answer::Done);
    let (_, late) = creation.commands().next().unwrap();
    assert_eq!(cluster.control(shard, late), Answer::Rejected(Rejection::StaleSync));
    // An older change that the shard has not heard of looks the same; told again it is taken.
    let (_, overtaken) = pending_other.commands().next().unwrap();
    assert_eq!(cluster.control(shard, overtaken), Answer::Rejected(Rejection::StaleSync));
    let revision = pending_other.revision;
    let answer = cluster.catalog(Control::RenewTopic { id: other, revision });
    let renewed = pending(&cluster, other);
    assert_eq!(answer, Answer::TopicPending { id: other, created: false, revision: renewed.revision });
    assert_eq!(cluster.catalog(Control::RenewTopic { id: other, revision }), answer, "twice");
    let (_, command) = renewed.commands().next().unwrap();
    assert_eq!(cluster.control(shard, command), Answer::Done);
    cluster.converge();
    cluster.check_converged();
    assert_eq!(names(&cluster), ["other"]);
}

#[test]
fn a_closed_shard_takes_no_change_of_a_topic() {
    let mut cluster = Cluster::new(2);
    let (id, _) = cluster.create("t", 2);
    let sync = pending(&cluster, id);
    let (shard, command) = sync.commands().next().unwrap();
    cluster.control(shard, Control::Close);
    assert_eq!(cluster.control(shard, command.clone()), Answer::Rejected(Rejection::Closed));
    cluster.control(shard, Control::Reopen { incarnation: Incarnation(1) });
    assert_eq!(cluster.control(shard, command), Answer::Done);
    cluster.catalog(Control::Close);
    for control in [sync.synced(), Control::RenewTopic { id, revision: sync.revision }, Control::DeleteTopic { id }] {
        assert_eq!(cluster.catalog(control), Answer::Rejected(Rejection::Closed));
    }
    cluster.catalog(Control::Reopen { incarnation: Incarnation(1) });
    assert!(!cluster.catalog_state().is_adopting(), "the same life goes on");
    cluster.converge();
    assert_eq!(names(&cluster), ["t"]);
}

#[test]
fn whatever_a_shard_is_told_it_keeps_each_partition_once() {
    let mut world = World::of(ShardId(1));
    let topic = |partitions| Topic {
        id: TopicId(uuid::Uuid::from_u128(4)),
        name: "t".into(),
        namespace: "default".into(),
        settings: settings(partitions),
        created_at: 1,
        deleted_at: None,
    };
    let run = |first, count| PartitionRun { first, count };
    let mut index = 0;
    let mut sync = |world: &mut World, runs| {
        index += 1;
        let revision = Revision { incarnation: Incarnation(1), index };
        world.control(Control::SyncTopic { topic: topic(9), removed: false, revision, runs })
    };
    assert_eq!(sync(&mut world, vec![run(4, 2)]), Answer::Done);
    assert_eq!(sync(&mut world, vec![run(0, 1), run(3, 4), run(4, 2), run(1, 1)]), Answer::Done);
    assert_eq!(sync(&mut world, vec![run(u32::MAX, u32::MAX), run(9, 0)]), Answer::Done);
    let here: Vec<u32> = world.state.partitions_of(topic(9).id).map(|partition| partition.id().partition).collect();
    assert_eq!(here, [0, 3, 4, 5, 6], "what is told out of order is not there");
    for partition in [0, 3, 4, 5, 6] {
        let at = TopicPartition::new(topic(9).id, partition);
        assert_eq!(world.state.partition(at).unwrap().id(), at);
    }
    world.flush();
    world.append(TopicPartition::new(topic(9).id, 5), 1);
    world.flush();
    world.kept.iter().for_each(|kept| world.check_replay(kept));
}

#[test]
fn producers_with_a_name_are_remembered_whichever_shard_they_write_to() {
    let mut cluster = Cluster::new(2);
    let register = || Control::RegisterProducer { name: Some("p".into()) };
    let Answer::Producer { id, epoch: 0 } = cluster.catalog(register()) else { panic!() };
    cluster.wait(2 * Limits::default().producer_expiry_ms);
    cluster.catalog(Control::Tick);
    assert_eq!(cluster.catalog_state().producer_by_name("p"), Some((id, 0)));
    assert_eq!(cluster.catalog(register()), Answer::Producer { id, epoch: 1 });
}

#[test]
fn settings_are_based_on_what_is_wanted() {
    let mut cluster = Cluster::new(2);
    let id = created(&mut cluster, "t", 2);
    let retaining = |ms| TopicSettings { retention_ms: Some(ms), ..settings(2) };
    let alter = |expected, settings| Control::AlterTopic { id, expected, settings };
    assert!(matches!(cluster.catalog(alter(settings(2), retaining(5))), Answer::TopicPending { .. }));
    let stale = cluster.catalog(alter(settings(2), retaining(6)));
    assert_eq!(stale, Answer::Rejected(Rejection::TopicExists), "what is visible is no longer what is wanted");
    assert!(matches!(cluster.catalog(alter(retaining(5), retaining(6))), Answer::TopicPending { .. }));
    assert_eq!(cluster.catalog_state().topic(id).unwrap().settings, settings(2));
    cluster.converge();
    assert_eq!(cluster.catalog_state().topic(id).unwrap().settings, retaining(6));
    assert!(!cluster.catalog_state().has_grown(id));
}
