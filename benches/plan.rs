//! The fetch plan over a partition with a long history: its cost has to follow the page, not the partition.
//!
//! One partition with a segment for every ten seconds of a month, and a tail of 10,000 batches.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tidelog::fetch::plan::{Wanted, plan};
use tidelog::model::{
    Append, BatchInfo, CheckpointRef, Command, Control, Incarnation, LoggedCommand, NamedSettings, ObjectId,
    SegmentInfo, SegmentRange, ShardId, TopicId, TopicPartition, TopicSettings,
};
use tidelog::state::State;

const SEGMENTS: u64 = 30 * 8_640;
const TAIL: u64 = 10_000;
const RECORDS: u32 = 100;
const BATCH_BYTES: u32 = 10_000;

const PARTITION: TopicPartition = TopicPartition::new(TopicId(uuid::Uuid::from_u128(7)), 0);

struct Shard {
    state: State,
    index: u64,
    flushed: u64,
}

impl Shard {
    fn apply(&mut self, command: Command) {
        self.index += 1;
        self.state.apply(self.index, &LoggedCommand { log_time: 1_700_000_000_000 + self.index, command });
    }

    fn append(&mut self) {
        self.apply(Command::Append(vec![Append {
            partition: PARTITION,
            batch: Bytes::new(),
            position: 0,
            info: BatchInfo { count: RECORDS, len: BATCH_BYTES, max_timestamp: 0 },
            triple: None,
            idempotency: None,
            digest: 0,
            expected_offset: None,
        }]));
    }

    fn flush(&mut self) {
        let id = ObjectId(u128::from(self.index));
        let (previous, index) = (self.flushed, self.index);
        let time = self.state.log_time();
        let Some(end) = self.state.partition(PARTITION).map(|found| found.bounds().high_watermark) else { return };
        let range = SegmentRange {
            partition: PARTITION,
            start: end - u64::from(RECORDS),
            end,
            position: 32,
            len: u64::from(BATCH_BYTES),
            max_timestamp: 0,
            min_append_time: time,
            max_append_time: time,
        };
        let segment = SegmentInfo { id, bytes: 1, footer_start: 0, min_append_time: time, max_append_time: time };
        self.apply(Command::Control(Control::Flushed {
            previous,
            index,
            segments: vec![segment],
            ranges: vec![vec![range]],
            checkpoint: CheckpointRef { incarnation: Incarnation(1), index, id },
            parts: Vec::new(),
        }));
        self.flushed = index;
    }
}

fn history() -> State {
    let mut shard = Shard { state: State::new(ShardId(0), Incarnation(1)), index: 0, flushed: 0 };
    shard.apply(Command::Control(Control::CreateTopic {
        id: PARTITION.topic,
        name: "plan".into(),
        settings: TopicSettings::default(),
        named: NamedSettings::default(),
    }));
    for _ in 0..SEGMENTS {
        shard.append();
        shard.flush();
    }
    for _ in 0..TAIL {
        shard.append();
    }
    shard.state
}

fn plans(criterion: &mut Criterion) {
    let state = history();
    let Some(partition) = state.partition(PARTITION) else { return };
    let bounds = partition.bounds();
    assert_eq!(bounds.high_watermark, (SEGMENTS + TAIL) * u64::from(RECORDS), "the history was declined");
    let mut group = criterion.benchmark_group("fetch_plan");
    for (name, start) in [
        ("earliest", bounds.log_start),
        ("middle", bounds.flushed / 2 + 50),
        ("border", bounds.flushed - 50),
        ("tail", bounds.high_watermark - 50_050),
    ] {
        for max_records in [1, 1_000, 10_000] {
            let wanted = Wanted { start, end: bounds.high_watermark, max_records, max_bytes: 16 << 20 };
            group.bench_with_input(BenchmarkId::new(name, max_records), &wanted, |bencher, wanted| {
                bencher.iter(|| plan(black_box(partition), black_box(*wanted)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, plans);
criterion_main!(benches);
