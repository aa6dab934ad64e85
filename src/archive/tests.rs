//! The survey over a real state: which runs it finds, what a worker is told, and how the state fences.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use bytes::Bytes;
use uuid::Uuid;

use super::Requests;
use super::survey;
use crate::config;
use crate::format::archive::append_day;
use crate::model::command::NamedSettings;
use crate::model::{
    Answer, Append, ArchiveFile, ArchiveRange, BatchInfo, CheckpointRef, Command, Control, Incarnation, JobId,
    LogIndex, LogTime, LoggedCommand, ObjectId, Rejection, SegmentInfo, SegmentRange, ShardId, TopicId, TopicPartition,
    TopicSettings,
};
use crate::state::State;

const START: LogTime = 1_700_000_000_000;

struct World {
    state: State,
    index: LogIndex,
    now: LogTime,
}

impl World {
    fn new() -> Self {
        Self { state: State::new(ShardId(0), Incarnation(1)), index: 0, now: START }
    }

    fn apply(&mut self, command: Command) -> Answer {
        self.index += 1;
        self.state.apply(self.index, &LoggedCommand { log_time: self.now, command }).answer
    }

    fn control(&mut self, control: Control) -> Answer {
        self.apply(Command::Control(control))
    }

    fn topic(&mut self, number: u128, archive_after_ms: u64) -> TopicId {
        let id = TopicId(Uuid::from_u128(number));
        let settings = TopicSettings { partitions: 2, archive_after_ms, ..TopicSettings::default() };
        let name = format!("topic-{number}");
        self.control(Control::CreateTopic { id, name, settings, named: NamedSettings::default() });
        id
    }

    fn append(&mut self, topic: TopicId, partition: u32, count: u32) {
        let batch = Bytes::from_static(&[0; 100]);
        let info = BatchInfo { count, len: 100, max_timestamp: 9 };
        let partition = TopicPartition::new(topic, partition);
        let (position, digest) = (0, 0);
        let append =
            Append { partition, batch, position, info, triple: None, idempotency: None, digest, expected_offset: None };
        assert!(matches!(self.apply(Command::Append(vec![append])), Answer::Appended(done) if done[0].is_ok()));
    }

    /// Flushes all tails into one segment.
    fn flush(&mut self) -> ObjectId {
        let id = ObjectId::from_parts(self.now, u128::from(self.index));
        let mut position = 32;
        let mut ranges = Vec::new();
        for partition in self.state.unflushed() {
            let tail = partition.tail();
            let (first, last) = (tail.front().unwrap(), tail.last().unwrap());
            ranges.push(SegmentRange {
                partition: partition.id(),
                start: first.base_offset,
                end: last.end_offset(),
                position,
                len: 120,
                max_timestamp: 9,
                min_append_time: first.append_time,
                max_append_time: last.append_time,
            });
            position += 120;
        }
        ranges.sort_by_key(|range| range.partition);
        let info = SegmentInfo {
            id,
            bytes: position + 100,
            footer_start: position,
            min_append_time: ranges.iter().map(|range| range.min_append_time).min().unwrap(),
            max_append_time: ranges.iter().map(|range| range.max_append_time).max().unwrap(),
        };
        let index = self.index;
        let checkpoint = CheckpointRef { incarnation: Incarnation(1), index, id };
        let previous = self.state.flushed_index();
        let (segments, ranges, parts) = (vec![info], vec![ranges], Vec::new());
        let answer = self.control(Control::Flushed { previous, index, segments, ranges, checkpoint, parts });
        assert_eq!(answer, Answer::Done);
        id
    }

    fn next_run(&self, requests: &Requests) -> Vec<ObjectId> {
        survey::next_run(&self.state, &config::Archive::default(), self.now, &requests.open(&self.state))
    }

    fn claim(&mut self, segments: &[ObjectId], hold_ms: u64) -> Answer {
        self.control(Control::ClaimArchive { worker: "test".to_owned(), hold_ms, segments: segments.to_vec() })
    }

    /// What a worker would hand in for `job`, one file for each topic.
    fn archived(&self, job: JobId) -> Control {
        let segments = self.state.job(job).unwrap().segments.clone();
        let (claimed, topics) = survey::claimed(&self.state, &segments).unwrap();
        let file_of = |topic: TopicId| ObjectId::from_parts(self.now, u128::from(job.0) << 64 | topic.0.as_u128());
        let files = topics.iter().map(|topic| ArchiveFile {
            id: file_of(topic.id),
            topic: topic.id,
            day: append_day(START),
            rows: 1,
            bytes: 1_000,
            footer_start: 900,
            footer_crc32c: 0,
            min_timestamp: 9,
            max_timestamp: 9,
        });
        let ranges = claimed.iter().flat_map(|segment| &segment.ranges).map(|range| ArchiveRange {
            partition: range.partition,
            start: range.start,
            end: range.end,
            file: file_of(range.partition.topic),
            bytes: 10,
            max_timestamp: range.max_timestamp,
            min_append_time: range.min_append_time,
            max_append_time: range.max_append_time,
        });
        Control::Archived { job, files: files.collect(), ranges: ranges.collect() }
    }
}

fn job_of(answer: &Answer) -> JobId {
    match answer {
        Answer::Job(job) => *job,
        other => panic!("not claimed: {other:?}"),
    }
}

#[test]
fn due_segments_are_found_described_and_replaced() {
    let mut world = World::new();
    let (fast, slow) = (world.topic(1, 60_000), world.topic(2, 3_600_000));
    world.append(fast, 0, 5);
    world.append(fast, 1, 2);
    let first = world.flush();
    world.now += 30_000;
    world.append(fast, 0, 3);
    let second = world.flush();
    world.append(fast, 0, 1);
    world.append(slow, 0, 1);
    world.flush();
    let none = Requests::default();
    assert!(world.next_run(&none).is_empty());
    world.now = START + 60_000;
    let run = world.next_run(&none);
    assert_eq!(run, [first, second]);

    let job = job_of(&world.claim(&run, 120_000));
    let (segments, topics) = survey::claimed(&world.state, &run).unwrap();
    assert_eq!(topics.iter().map(|topic| topic.id).collect::<Vec<_>>(), [fast]);
    let ranges = |segment: usize| -> Vec<_> {
        segments[segment].ranges.iter().map(|range| (range.partition.partition, range.start, range.end)).collect()
    };
    assert_eq!((ranges(0), ranges(1)), (vec![(0, 0, 5), (1, 0, 2)], vec![(0, 5, 8)]));
    assert_eq!(segments[0].ranges[0].position, 32);

    assert!(world.next_run(&none).is_empty(), "the run is held");
    assert_eq!(world.control(world.archived(job)), Answer::Done);
    assert_eq!(world.state.partition(TopicPartition::new(fast, 0)).unwrap().bounds().archived, 8);
    assert!(survey::claimed(&world.state, &run).is_none(), "the segments are gone");
}

#[test]
fn only_one_of_two_claims_and_only_the_newest_holder_wins() {
    let mut world = World::new();
    let topic = world.topic(1, 0);
    world.append(topic, 0, 5);
    world.flush();
    let none = Requests::default();
    let run = world.next_run(&none);
    let first = job_of(&world.claim(&run, 120_000));
    assert_eq!(world.claim(&run, 120_000), Answer::Rejected(Rejection::StaleJob));
    let late = world.archived(first);
    world.now += 120_001;
    world.control(Control::Tick);
    assert_eq!(world.next_run(&none), run, "the first claim has expired");
    let second = job_of(&world.claim(&run, 120_000));
    assert_eq!(world.control(late), Answer::Rejected(Rejection::StaleJob));
    assert_eq!(world.control(Control::ExtendArchive { job: first, hold_ms: 1 }), Answer::Rejected(Rejection::StaleJob));
    assert_eq!(world.control(world.archived(second)), Answer::Done);
    assert_eq!(world.state.files().count(), 1);
}

#[test]
fn a_request_is_open_until_it_is_archived() {
    let mut world = World::new();
    let (topic, other) = (world.topic(1, u64::MAX), world.topic(2, u64::MAX));
    let requests = Requests::default();
    requests.request(topic, [(0, 0), (1, 0)]);
    assert!(requests.open(&world.state).is_empty(), "nothing is nothing to archive");
    world.append(topic, 0, 5);
    world.append(other, 0, 5);
    requests.request(topic, [(0, 5), (1, 0)]);
    assert_eq!(requests.open(&world.state), BTreeSet::from([topic]));
    assert!(world.next_run(&requests).is_empty(), "not flushed yet");
    world.flush();
    let run = world.next_run(&requests);
    assert_eq!(run.len(), 1);
    let job = job_of(&world.claim(&run, 120_000));
    assert_eq!(world.control(world.archived(job)), Answer::Done);
    assert!(requests.open(&world.state).is_empty());
    requests.request(TopicId(Uuid::from_u128(99)), [(0, 5)]);
    assert!(requests.open(&world.state).is_empty(), "a topic that is gone is nothing to wait for");
}
