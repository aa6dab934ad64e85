//! The state against a naive model of what clients were promised: plain vectors, searched from end to end.

use proptest::collection::vec;
use proptest::prelude::*;

use super::world::{World, batch};
use crate::model::checkpoint::REMEMBERED_BATCHES;
use crate::model::{
    Answer, Append, Appended, BatchOutcome, Command, Control, IdempotencyKey, Keyed, LogIndex, ProducerId, Rejection,
    TopicId, TopicPartition, Triple,
};

/// A batch that was written.
#[derive(Debug, Clone)]
struct Written {
    append: Append,
    base_offset: u64,
    log_index: LogIndex,
    time: u64,
}

impl Written {
    fn again(&self) -> Appended {
        let (base_offset, log_index) = (self.base_offset, self.log_index);
        Appended { base_offset, count: self.append.info.count, duplicate: true, log_index }
    }
}

/// Where and when an entry is applied; keys count since `since`.
#[derive(Debug, Clone, Copy)]
struct At {
    log_index: LogIndex,
    time: u64,
    since: u64,
}

/// All that was ever written to a partition.
#[derive(Debug, Default)]
struct NaivePartition {
    written: Vec<Written>,
    log_start: u64,
}

impl NaivePartition {
    fn end(&self) -> u64 {
        self.written.iter().map(|written| u64::from(written.append.info.count)).sum()
    }

    fn by_producer(&self, id: ProducerId) -> impl DoubleEndedIterator<Item = (&Triple, &Written)> {
        let all = self.written.iter().filter_map(|written| Some((written.append.triple.as_ref()?, written)));
        all.filter(move |(triple, _)| triple.id == id)
    }

    fn check_triple(&self, append: &Append, triple: &Triple) -> Result<Option<Appended>, Rejection> {
        let Some(epoch) = self.by_producer(triple.id).map(|(known, _)| known.epoch).max() else {
            return if triple.sequence == 0 { Ok(None) } else { Err(Rejection::UnknownProducer) };
        };
        if triple.epoch < epoch {
            return Err(Rejection::ProducerFenced { current: epoch });
        }
        let same: Vec<(&Triple, &Written)> =
            self.by_producer(triple.id).filter(|(known, _)| known.epoch == triple.epoch).collect();
        let expected = same.iter().map(|(_, written)| written.append.info.count).sum();
        if triple.sequence == expected {
            return Ok(None);
        }
        let remembered = &same[same.len().saturating_sub(REMEMBERED_BATCHES)..];
        if let Some((_, first)) = remembered.iter().find(|(known, _)| known.sequence == triple.sequence) {
            let same = first.append.info.count == append.info.count && first.append.digest == append.digest;
            return if same { Ok(Some(first.again())) } else { Err(Rejection::SequenceReused) };
        }
        if triple.sequence > expected || triple.epoch > epoch {
            return Err(Rejection::SequenceGap { expected });
        }
        let oldest = remembered.first().map_or(0, |(known, _)| known.sequence);
        if triple.sequence + append.info.count <= oldest {
            Err(Rejection::DuplicateSequence)
        } else {
            Err(Rejection::SequenceReused)
        }
    }

    /// The first use of the append's key here since `since`.
    fn under_key(&self, append: &Append, since: u64) -> Option<&Written> {
        let key = append.idempotency?.key;
        let under = |written: &&Written| {
            written.append.idempotency.is_some_and(|used| used.key == key) && written.time >= since
        };
        self.written.iter().find(under)
    }

    /// `begun` is a part of the same request that was written to any partition, or of another under the same key.
    fn check_key(
        &self,
        append: &Append,
        begun: Option<&Append>,
        partitions: u32,
        since: u64,
    ) -> Result<Option<Appended>, Rejection> {
        let Some(keyed) = append.idempotency else { return Ok(None) };
        if begun.is_some_and(|begun| begun.digest != append.digest) {
            return Err(Rejection::IdempotencyKeyReused);
        }
        if let Some(first) = self.under_key(append, since).filter(|first| first.append.idempotency == Some(keyed)) {
            return Ok(Some(first.again()));
        }
        let among = begun.and_then(|begun| begun.idempotency).map_or(partitions, |begun| begun.among);
        if keyed.among != 0 && keyed.among != among { Err(Rejection::AssignedAmongOthers) } else { Ok(None) }
    }

    fn append(&mut self, append: &Append, begun: Option<&Append>, partitions: u32, at: At) -> BatchOutcome {
        let At { log_index, time, since } = at;
        if let Some(triple) = &append.triple
            && let Some(first) = self.check_triple(append, triple)?
        {
            return Ok(first);
        }
        if let Some(first) = self.check_key(append, begun, partitions, since)? {
            return Ok(first);
        }
        let base_offset = self.end();
        if append.expected_offset.is_some_and(|expected| expected != base_offset) {
            return Err(Rejection::OffsetMismatch { actual: base_offset });
        }
        self.written.push(Written { append: append.clone(), base_offset, log_index, time });
        Ok(Appended { base_offset, count: append.info.count, duplicate: false, log_index })
    }
}

const PARTITIONS: u32 = 3;
/// To which the topic may grow.
const MOST_PARTITIONS: u32 = 5;

/// A batch that is often in order, sometimes not, made of small numbers so that they meet.
fn any_append(topic: TopicId) -> impl Strategy<Value = Append> {
    let triple = prop::option::of((0..3u64, 0..2u16, 0..14u32));
    let key = prop::option::weighted(0.3, (0..4u128, prop::sample::select(vec![0, 3, 4, 5])));
    let expected = prop::option::weighted(0.1, 0..20u64);
    (0..PARTITIONS, 1..3u32, 0..2u128, triple, key, expected).prop_map(
        move |(partition, count, digest, triple, key, expected)| Append {
            triple: triple.map(|(id, epoch, sequence)| Triple { id: ProducerId(id), epoch, sequence }),
            idempotency: key.map(|(key, among)| Keyed { key: IdempotencyKey(key), among, begun: false }),
            // The digest covers whether the route named a partition.
            digest: digest * 2 + u128::from(key.is_some_and(|(_, among)| among == 0)),
            expected_offset: expected,
            ..batch(TopicPartition::new(topic, partition), count)
        },
    )
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<Append>),
    /// The batch the producer would send next, whatever its random sequence says.
    InOrder(Append),
    Flush,
    Archive(usize, usize),
    Trim(u32, u64),
    Grow,
    Wait(u64),
}

fn any_step(topic: TopicId) -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => vec(any_append(topic), 1..4).prop_map(Step::Append),
        6 => any_append(topic).prop_map(Step::InOrder),
        2 => Just(Step::Flush),
        1 => (0..3usize, 1..4usize).prop_map(|(skip, count)| Step::Archive(skip, count)),
        1 => (0..PARTITIONS, 0..30u64).prop_map(|(partition, start)| Step::Trim(partition, start)),
        1 => (0..400_000u64).prop_map(Step::Wait),
        1 => Just(Step::Grow),
    ]
}

fn topic() -> TopicId {
    TopicId(uuid::Uuid::from_u128(1000))
}

struct Pair {
    world: World,
    naive: Vec<NaivePartition>,
}

impl Pair {
    fn append(&mut self, batches: Vec<Append>) {
        let (index, time) = (self.world.log.len() as u64 + 1, self.world.time);
        let since = time - self.world.state.limits().idempotency_window_ms;
        let expected: Vec<BatchOutcome> = batches
            .iter()
            .map(|append| {
                let begun = self.naive.iter().find_map(|naive| naive.under_key(append, since)).cloned();
                let partitions = self.naive.len() as u32;
                let naive = &mut self.naive[append.partition.partition as usize];
                let at = At { log_index: index, time, since };
                naive.append(append, begun.as_ref().map(|begun| &begun.append), partitions, at)
            })
            .collect();
        let answer = self.world.apply(Command::Append(batches)).answer;
        assert_eq!(answer, Answer::Appended(expected));
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append(batches) => self.append(batches),
            Step::InOrder(mut append) => {
                let partition = &self.naive[append.partition.partition as usize];
                if let Some(triple) = &mut append.triple {
                    let epoch = partition.by_producer(triple.id).map(|(known, _)| known.epoch).max();
                    triple.epoch = epoch.unwrap_or(triple.epoch);
                    let same = partition.by_producer(triple.id).filter(|(known, _)| known.epoch == triple.epoch);
                    triple.sequence = same.map(|(_, written)| written.append.info.count).sum();
                }
                self.append(vec![append]);
            }
            Step::Flush => {
                self.world.flush();
            }
            Step::Archive(skip, count) => {
                if let Some((job, view)) = self.world.claim(skip, count, u64::MAX) {
                    assert_eq!(self.world.archive(&job, &view), Answer::Done);
                }
            }
            Step::Trim(partition, start) => {
                let naive = &mut self.naive[partition as usize];
                naive.log_start = naive.log_start.max(start.min(naive.end()));
                let starts = vec![(TopicPartition::new(topic(), partition), start)];
                self.world.control(Control::trim(starts));
            }
            Step::Wait(millis) => self.world.time += millis,
            Step::Grow if self.naive.len() < MOST_PARTITIONS as usize => {
                self.world.grow(topic(), self.naive.len() as u32 + 1);
                self.naive.push(NaivePartition::default());
            }
            Step::Grow => {}
        }
    }

    /// Every batch that is readable is named exactly once, in order, by what is stored and the tail.
    fn check(&self) {
        for (number, naive) in (0..).zip(&self.naive) {
            let partition = self.world.state.partition(TopicPartition::new(topic(), number)).unwrap();
            let bounds = partition.bounds();
            assert_eq!((bounds.log_start, bounds.high_watermark), (naive.log_start, naive.end()));
            for written in &naive.written {
                let (start, end) = (written.base_offset, written.base_offset + u64::from(written.append.info.count));
                let stored = partition.ranges().iter().filter(|range| range.start <= start && end <= range.end).count();
                let tail = partition.tail().iter().filter(|batch| batch.base_offset == start).count();
                let wanted = usize::from(end > naive.log_start);
                assert!(stored + tail == wanted || (wanted == 0 && stored + tail == 1), "batch at {start}");
                if let Some(batch) = partition.tail().iter().find(|batch| batch.base_offset == start) {
                    assert_eq!((batch.log_index, batch.append_time), (written.log_index, written.time));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn answers_and_offsets_are_those_of_a_naive_model(steps in vec(any_step(topic()), 1..60)) {
        let mut world = World::new();
        assert_eq!(world.create("t", PARTITIONS), topic());
        let naive = (0..PARTITIONS).map(|_| NaivePartition::default()).collect();
        let mut pair = Pair { world, naive };
        for step in steps {
            pair.step(step);
            pair.check();
        }
    }
}
