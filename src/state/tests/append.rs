//! The rules of `Append`, one by one and in their order.

use super::world::{World, batch, keyed, outcome};
use crate::model::id::MAX_SAFE_INTEGER;
use crate::model::producer::SEQUENCE_MODULUS;
use crate::model::{
    Answer, Append, Command, Control, IdempotencyKey, Keyed, Limits, LoggedCommand, ProducerId, Rejection,
    TopicPartition, Triple,
};

const ID: ProducerId = ProducerId(7);

fn setup() -> (World, TopicPartition) {
    let mut world = World::new();
    let topic = world.create("t", 2);
    (world, TopicPartition::new(topic, 0))
}

fn produced(partition: TopicPartition, epoch: u16, sequence: u32, count: u32) -> Append {
    Append { triple: Some(Triple { id: ID, epoch, sequence }), digest: u128::from(count), ..batch(partition, count) }
}

impl World {
    fn one(&mut self, append: Append) -> Result<(u64, bool), Rejection> {
        outcome(&self.apply(Command::Append(vec![append])).answer)
    }

    fn produce(&mut self, at: TopicPartition, epoch: u16, sequence: u32, count: u32) -> Result<(u64, bool), Rejection> {
        self.one(produced(at, epoch, sequence, count))
    }
}

#[test]
fn offsets_are_dense_and_batches_of_one_command_apply_in_order() {
    let (mut world, at) = setup();
    let other = TopicPartition::new(at.topic, 1);
    let missing = TopicPartition::new(at.topic, 2);
    let batches = vec![
        batch(at, 3),
        batch(missing, 1),
        batch(other, 2),
        batch(at, 1),
        produced(at, 0, 0, 2),
        produced(at, 0, 2, 1),
    ];
    let applied = world.apply(Command::Append(batches));
    let Answer::Appended(outcomes) = applied.answer else { panic!("not an append") };
    let offsets: Vec<_> =
        outcomes.iter().map(|outcome| outcome.as_ref().map(|appended| appended.base_offset)).collect();
    assert_eq!(offsets, [Ok(0), Err(&Rejection::PartitionNotFound), Ok(0), Ok(3), Ok(4), Ok(6)]);
    assert_eq!(applied.grown, [at, other, at]);
    assert!(outcomes.iter().flatten().all(|appended| appended.log_index == 2 && !appended.duplicate));
    assert_eq!(world.state.partition(at).unwrap().bounds().high_watermark, 7);
    assert_eq!(world.state.tail_bytes(), 9 * 100 + 5 * 128);
}

#[test]
fn sequences_follow_kafka() {
    let (mut world, at) = setup();
    assert_eq!(world.produce(at, 0, 5, 1), Err(Rejection::UnknownProducer));
    for (nth, sequence) in [0, 2, 4, 6, 8, 10, 12].into_iter().enumerate() {
        assert_eq!(world.produce(at, 0, sequence, 2), Ok((2 * nth as u64, false)));
    }
    // The last five batches begin at 4; a retry of one of them gets its offsets.
    assert_eq!(world.produce(at, 0, 4, 2), Ok((4, true)));
    assert_eq!(world.produce(at, 0, 12, 2), Ok((12, true)));
    assert_eq!(world.produce(at, 0, 12, 1), Err(Rejection::SequenceReused), "another count");
    assert_eq!(world.produce(at, 0, 2, 2), Err(Rejection::DuplicateSequence));
    assert_eq!(world.produce(at, 0, 0, 4), Err(Rejection::DuplicateSequence), "all of it was written");
    assert_eq!(world.produce(at, 0, 3, 2), Err(Rejection::SequenceReused), "half of it is remembered");
    assert_eq!(world.produce(at, 0, 5, 1), Err(Rejection::SequenceReused), "the middle of a batch");
    assert_eq!(world.produce(at, 0, 15, 1), Err(Rejection::SequenceGap { expected: 14 }));
    assert_eq!(
        world.produce(at, 0, SEQUENCE_MODULUS - 1, 1),
        Err(Rejection::SequenceGap { expected: 14 }),
        "never written"
    );
    let mut other_digest = produced(at, 0, 12, 2);
    other_digest.digest = 99;
    assert_eq!(world.one(other_digest), Err(Rejection::SequenceReused));
    let position = world.state.producer_positions(ID, at.topic);
    assert_eq!(position.len(), 1);
    assert_eq!((position[0].1.last_sequence, position[0].1.last_offset), (Some(13), Some(13)));
}

#[test]
fn sequences_wrap_at_two_to_the_31() {
    let (mut world, at) = setup();
    let half = SEQUENCE_MODULUS / 2;
    assert_eq!(world.produce(at, 0, 0, half), Ok((0, false)));
    assert_eq!(world.produce(at, 0, half, half - 1), Ok((u64::from(half), false)));
    let last = SEQUENCE_MODULUS - 1;
    assert_eq!(world.produce(at, 0, last, 3), Ok((u64::from(last), false)), "its records have 2^31 - 1, 0 and 1");
    assert_eq!(world.produce(at, 0, last, 3), Ok((u64::from(last), true)));
    assert_eq!(world.produce(at, 0, 2, 1), Ok((u64::from(last) + 3, false)));
    assert_eq!(world.produce(at, 0, 2, 1), Ok((u64::from(last) + 3, true)));
    assert_eq!(world.produce(at, 0, 4, 1), Err(Rejection::SequenceGap { expected: 3 }));
}

#[test]
fn a_new_epoch_begins_at_zero_and_fences_the_old() {
    let (mut world, at) = setup();
    assert_eq!(world.produce(at, 1, 0, 2), Ok((0, false)));
    assert_eq!(world.produce(at, 2, 2, 1), Err(Rejection::SequenceGap { expected: 0 }));
    assert_eq!(world.produce(at, 2, 0, 2), Ok((2, false)));
    assert_eq!(
        world.produce(at, 1, 0, 2),
        Err(Rejection::ProducerFenced { current: 2 }),
        "even a retry of what was written"
    );
    assert_eq!(world.produce(at, 2, 0, 2), Ok((2, true)));
}

#[test]
fn registering_a_name_again_fences_at_once() {
    let (mut world, at) = setup();
    let register = |world: &mut World| match world.control(Control::RegisterProducer { name: Some("p".into()) }) {
        Answer::Producer { id, epoch } => (id, epoch),
        other => panic!("{other:?}"),
    };
    let (id, epoch) = register(&mut world);
    assert_eq!((id.0 >> 40, id.0 & 0xff, epoch), (1, 0, 0), "the incarnation is in the id");
    let by = |epoch| Append { triple: Some(Triple { id, epoch, sequence: 0 }), ..batch(at, 1) };
    assert_eq!(world.one(by(0)), Ok((0, false)));
    assert_eq!(register(&mut world), (id, 1));
    assert_eq!(
        world.one(by(0)),
        Err(Rejection::ProducerFenced { current: 1 }),
        "though the partition never saw epoch 1"
    );
    assert_eq!(world.one(by(1)), Ok((1, false)));
    let Answer::Producer { id: fresh, epoch: 0 } = world.control(Control::RegisterProducer { name: None }) else {
        panic!("no id")
    };
    assert_ne!(fresh, id);
}

#[test]
fn a_retry_gets_its_answer_before_anything_newer_is_looked_at() {
    let (mut world, at) = setup();
    let mut conditional = produced(at, 0, 0, 2);
    conditional.expected_offset = Some(0);
    conditional.idempotency = Some(keyed(3));
    assert_eq!(world.one(conditional.clone()), Ok((0, false)));
    assert_eq!(world.one(conditional.clone()), Ok((0, true)), "the next offset is 2 now");
    let mut by_key = conditional.clone();
    by_key.triple = None;
    assert_eq!(world.one(by_key.clone()), Ok((0, true)));
    by_key.digest = 77;
    assert_eq!(world.one(by_key), Err(Rejection::IdempotencyKeyReused));
    let stale = Append { expected_offset: Some(0), ..batch(at, 1) };
    assert_eq!(world.one(stale), Err(Rejection::OffsetMismatch { actual: 2 }));
    world.control(Control::Close);
    assert_eq!(world.one(conditional), Ok((0, true)), "what was written is not denied by a closed shard");
    assert_eq!(world.one(batch(at, 1)), Err(Rejection::Closed));
    world.control(Control::Reopen { incarnation: crate::model::Incarnation(2) });
    assert_eq!(world.one(batch(at, 1)), Ok((2, false)));
    assert_eq!(world.state.incarnation().0, 2);
}

#[test]
fn offsets_stay_below_two_to_the_53() {
    let (mut world, at) = setup();
    let most = u32::MAX;
    let batches = |n: usize| Command::Append((0..n).map(|_| batch(at, most)).collect());
    // 2^21 batches of 2^32 - 1 records: 2^53 - 2^21 offsets.
    let mut index = 1;
    for _ in 0..1 << 9 {
        index += 1;
        world.state.apply(index, &LoggedCommand { log_time: 1, command: batches(1 << 12) });
    }
    let used = world.state.partition(at).unwrap().bounds().high_watermark;
    assert_eq!(used, (1 << 53) - (1 << 21));
    let room = u32::try_from(MAX_SAFE_INTEGER - used).unwrap();
    let mut one = |count| {
        index += 1;
        outcome(
            &world
                .state
                .apply(index, &LoggedCommand { log_time: 1, command: Command::Append(vec![batch(at, count)]) })
                .answer,
        )
    };
    assert_eq!(one(room + 1), Err(Rejection::OffsetsExhausted));
    assert_eq!(one(room), Ok((used, false)));
    assert_eq!(one(1), Err(Rejection::OffsetsExhausted));
}

#[test]
fn idle_producers_are_forgotten_by_log_time_and_by_number() {
    let (mut world, at) = setup();
    world.control(Control::SetLimits(Limits {
        producers_per_partition: 2,
        producer_expiry_ms: 1_000,
        ..Limits::default()
    }));
    let by = |id, sequence| Append { triple: Some(Triple { id: ProducerId(id), epoch: 0, sequence }), ..batch(at, 1) };
    for id in [1, 2] {
        world.time += 1;
        assert!(world.one(by(id, 0)).is_ok());
    }
    world.time += 1;
    assert!(world.one(by(1, 1)).is_ok());
    assert!(world.one(by(3, 0)).is_ok());
    let remembered =
        |world: &World, id| world.state.partition(at).unwrap().producers().position(ProducerId(id)).is_some();
    assert_eq!([1, 2, 3].map(|id| remembered(&world, id)), [true, false, true], "2 was idle for longest");
    assert_eq!(world.one(by(2, 1)), Err(Rejection::UnknownProducer));
    world.time += 1_000;
    assert_eq!(world.one(by(1, 2)).map(|(_, duplicate)| duplicate), Ok(false), "idle for exactly the expiry");
    world.time += 1_001;
    assert_eq!(world.one(by(1, 3)), Err(Rejection::UnknownProducer));
    world.control(Control::Tick);
    assert!(!remembered(&world, 1) && !remembered(&world, 3), "the memory is freed too");
    assert!(world.state.producer_checks.is_empty());
}

#[test]
fn a_key_is_written_where_its_first_part_was_assigned_however_the_topic_grows() {
    let (mut world, at) = setup();
    let count = world.state.topic(at.topic).unwrap().settings.partitions;
    let part = |partition, key, among| Append {
        idempotency: Some(Keyed { key: IdempotencyKey(key), among, begun: false }),
        ..batch(TopicPartition::new(at.topic, partition), 1)
    };
    assert_eq!(world.one(part(0, 1, count)), Ok((0, false)));
    world.grow(at.topic, count + 1);
    world.grow(at.topic, count + 3);
    assert_eq!(world.state.assigned_among(IdempotencyKey(1)), Some(count), "for who assigns the retry");
    assert_eq!(world.one(part(0, 1, count)), Ok((0, true)));
    assert_eq!(world.one(part(1, 1, count + 3)), Err(Rejection::AssignedAmongOthers), "another assignment");
    let same_place = world.one(part(0, 1, count + 3));
    assert_eq!(
        same_place,
        Err(Rejection::AssignedAmongOthers),
        "another part of the request, not the one that is here"
    );
    assert_eq!(world.one(part(1, 1, count)), Ok((0, false)), "the rest of what had begun before the growth");
    let other = Append { digest: 5, ..part(1, 1, count) };
    assert_eq!(world.one(other), Err(Rejection::IdempotencyKeyReused));
    let elsewhere = Append { digest: 5, ..part(2, 1, 0) };
    assert_eq!(world.one(elsewhere), Err(Rejection::IdempotencyKeyReused), "also where the key was not used yet");

    // Assigned before the growth, in the log after it: nothing of it is written under the old assignment.
    assert_eq!(world.one(part(0, 2, count)), Err(Rejection::AssignedAmongOthers));
    assert_eq!(world.state.assigned_among(IdempotencyKey(2)), None);
    assert_eq!(world.one(part(4, 2, count + 3)), Ok((0, false)));
    assert_eq!(world.one(part(0, 2, count)), Err(Rejection::AssignedAmongOthers), "a late first attempt");
    assert_eq!(world.one(part(0, 3, 0)), Ok((1, false)), "a request that names its partition is not assigned");
    assert_eq!(world.state.assigned_among(IdempotencyKey(3)), None);
}

#[test]
fn idempotency_keys_last_for_the_window_unless_too_many_come() {
    let (mut world, at) = setup();
    world.control(Control::SetLimits(Limits { idempotency_keys: 3, idempotency_window_ms: 100, ..Limits::default() }));
    let under = |key| Append { idempotency: Some(keyed(key)), ..batch(at, 1) };
    for key in 0..3 {
        world.time += 10;
        assert_eq!(world.one(under(key)), Ok((key as u64, false)));
    }
    assert_eq!(world.one(under(0)), Ok((0, true)));
    let elsewhere = Append { partition: TopicPartition::new(at.topic, 1), ..under(0) };
    assert_eq!(world.one(elsewhere), Ok((0, false)), "keys are of a partition");
    assert_eq!(world.state.idempotency_keys(), 3);
    assert_eq!(world.state.idempotency_window_ms(), 10, "three keys came within this");
    assert_eq!(world.one(under(0)), Ok((3, false)), "pushed out before its time");
    world.time += 101;
    assert_eq!(world.one(under(2)), Ok((4, false)), "the window is over");
    assert_eq!(world.one(under(2)), Ok((4, true)), "the newer use counts");
    world.control(Control::Tick);
    assert_eq!((world.state.idempotency_keys(), world.state.idempotency_window_ms()), (1, 100));
}
