//! The rules of the catalog.

use super::super::MAX_SHARD_PARTITIONS;
use super::world::{World, batch, outcome};
use crate::model::{
    Answer, Command, Control, Limits, NamedObject, NamedSettings, Rejection, TopicId, TopicPartition, TopicSettings,
    ValueFormat,
};

fn id(number: u128) -> TopicId {
    TopicId(uuid::Uuid::from_u128(number))
}

fn create(number: u128, name: &str, settings: TopicSettings, named: NamedSettings) -> Control {
    Control::CreateTopic { id: id(number), name: name.into(), settings, named }
}

fn settings(partitions: u32) -> TopicSettings {
    TopicSettings { partitions, ..TopicSettings::default() }
}

#[test]
fn creating_again_agrees_in_what_it_names() {
    let mut world = World::new();
    let all = NamedSettings { partitions: true, retention_ms: true, ..NamedSettings::default() };
    let first = world.control(create(1, "t", settings(2), all));
    assert_eq!(first, Answer::Topic { id: id(1), created: true });
    let again = world.control(create(2, "t", settings(2), all));
    assert_eq!(again, Answer::Topic { id: id(1), created: false });
    assert_eq!(world.control(create(3, "t", settings(3), all)), Answer::Rejected(Rejection::TopicExists));
    let unnamed = world.control(create(4, "t", settings(3), NamedSettings::default()));
    assert_eq!(unnamed, Answer::Topic { id: id(1), created: false }, "the partitions were not named");
    assert_eq!(world.control(create(1, "u", settings(1), all)), Answer::Rejected(Rejection::TopicExists), "a used id");
    for (partitions, limit) in [(0, 10_000), (10_001, 10_000)] {
        let answer = world.control(create(9, "u", settings(partitions), all));
        assert_eq!(answer, Answer::Rejected(Rejection::TooManyPartitions { limit }));
    }
}

#[test]
fn a_shard_holds_a_bounded_number_of_partitions() {
    let mut world = World::new();
    for number in 1..=3 {
        let answer = world.control(create(number, &format!("t{number}"), settings(10_000), NamedSettings::default()));
        assert_eq!(answer, Answer::Topic { id: id(number), created: true });
    }
    let answer = world.control(create(4, "t4", settings(10_000), NamedSettings::default()));
    assert_eq!(answer, Answer::Rejected(Rejection::TooManyPartitions { limit: MAX_SHARD_PARTITIONS }));
    assert!(world.state.topic_by_name("t4").is_none() && world.state.partitions().count() == 30_000);
}

#[test]
fn settings_change_only_from_what_was_seen_and_partitions_only_grow() {
    let mut world = World::new();
    world.create("other", 1);
    let topic = world.create("t", 1);
    world.create("another", 1);
    let alter =
        |expected: TopicSettings, settings: TopicSettings| Control::AlterTopic { id: topic, expected, settings };
    assert_eq!(world.control(alter(settings(2), settings(3))), Answer::Rejected(Rejection::TopicExists));
    let json = TopicSettings { value_format: ValueFormat::Json, ..settings(1) };
    assert_eq!(world.control(alter(settings(1), json)), Answer::Rejected(Rejection::TopicExists));
    world.time += 5;
    assert_eq!(world.control(alter(settings(1), settings(3))), Answer::Topic { id: topic, created: false });
    let shrink = world.control(alter(settings(3), settings(2)));
    assert_eq!(shrink, Answer::Rejected(Rejection::PartitionsShrink { current: 3 }));
    for partition in 0..3 {
        let at = TopicPartition::new(topic, partition);
        assert_eq!(outcome(&world.append(at, 1)), Ok((0, false)));
        assert_eq!(world.state.partition(at).unwrap().id(), at);
    }
    let slots: Vec<u32> = world.state.partitions_of(topic).map(|partition| partition.slot()).collect();
    assert_eq!(slots, [1, 3, 4], "slots are never given out twice");
}

#[test]
fn a_deleted_topic_comes_back_within_its_grace_with_its_data() {
    let mut world = World::new();
    let topic = world.create("t", 1);
    let at = TopicPartition::new(topic, 0);
    world.append(at, 3);
    assert_eq!(world.control(Control::DeleteTopic { id: topic }), Answer::Done);
    assert_eq!(outcome(&world.append(at, 1)), Err(Rejection::TopicNotFound));
    assert_eq!(world.control(Control::DeleteTopic { id: topic }), Answer::Rejected(Rejection::TopicNotFound));
    assert!(world.state.topic_by_name("t").is_none());
    world.flush();
    assert_eq!(world.state.partition(at).unwrap().bounds().flushed, 3, "its tail is flushed all the same");

    let second = world.create("t", 1);
    assert_ne!(second, topic, "the name was free");
    let undelete = || Control::UndeleteTopic { name: "t".into() };
    assert_eq!(world.control(undelete()), Answer::Rejected(Rejection::TopicExists));
    world.time += 1;
    world.control(Control::DeleteTopic { id: second });
    assert_eq!(world.control(undelete()), Answer::Topic { id: second, created: false }, "the newest of the name");
    world.control(Control::DeleteTopic { id: second });
    world.time += Limits::default().topic_delete_grace_ms;
    assert_eq!(world.control(undelete()), Answer::Topic { id: second, created: false }, "the last moment");
    world.control(Control::DeleteTopic { id: second });
    world.time += 1;
    world.control(Control::Tick);
    assert!(world.state.grace_is_over(world.state.topic(topic).unwrap().deleted_at.unwrap()));
    assert_eq!(world.control(Control::RemoveTopics { ids: vec![topic, second] }), Answer::Done);
    assert!(world.state.topic(topic).is_none() && world.state.partition(at).is_none());
    assert!(world.state.topic(second).is_some(), "its grace is not over");
    assert_eq!(world.state.segments().count(), 0, "nothing is live in it any more");
    assert!(world.state.objects().all(|object| matches!(object, NamedObject::Checkpoint(_))));
}

#[test]
fn removing_takes_bounded_steps() {
    let mut world = World::new();
    let topic = world.create("t", 200);
    for _ in 0..100 {
        let batches = (0..200).map(|partition| batch(TopicPartition::new(topic, partition), 1)).collect();
        world.apply(Command::Append(batches));
    }
    world.control(Control::SetLimits(Limits { topic_delete_grace_ms: 0, ..Limits::default() }));
    world.control(Control::DeleteTopic { id: topic });
    world.time += 1;
    let remove = || Control::RemoveTopics { ids: vec![topic] };
    world.control(remove());
    assert!(world.state.topic(topic).is_some(), "20,000 references are more than one step");
    assert!(world.state.tail_bytes() < 20_000 * 228);
    world.control(remove());
    assert!(world.state.topic(topic).is_none() && world.state.tail_bytes() == 0);
    assert_eq!((world.state.partitions().count(), world.state.unflushed().count()), (0, 0));
}

#[test]
fn listing_pages_by_name_within_a_prefix() {
    let mut world = World::new();
    for name in ["b2", "a1", "b1", "b3", "c"] {
        world.create(name, 1);
    }
    let list = |world: &World, prefix: &str, after: &str| -> Vec<String> {
        world.state.topics(prefix, after).map(|topic| topic.name.clone()).collect()
    };
    assert_eq!(list(&world, "", ""), ["a1", "b1", "b2", "b3", "c"]);
    assert_eq!(list(&world, "b", ""), ["b1", "b2", "b3"]);
    assert_eq!(list(&world, "b", "b1"), ["b2", "b3"]);
    assert_eq!(list(&world, "b", "b1x"), ["b2", "b3"]);
    assert_eq!(list(&world, "b", "a"), ["b1", "b2", "b3"]);
    assert_eq!(list(&world, "b", "zz"), Vec::<String>::new());
    assert_eq!(list(&world, "b1", "b1"), Vec::<String>::new());
}
