//! The state machine at the size of its gate: 10,000 partitions with 360 segments each.
//!
//! `cargo bench -p tidelog --bench state` first checks the gate of the design (a view within 1 ms, a checkpoint object within 1 MiB,
//! no `apply` over 5 ms, each while a view of the state before is held) and exits with 1 if it is missed; then criterion
//! measures the single operations.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BatchSize, Criterion};
use tidelog::format::checkpoint::{encode_checkpoint, encode_part};
use tidelog::model::producer::SEQUENCE_MODULUS;
use tidelog::model::{
    Answer, Append, ArchiveFile, ArchiveRange, BatchInfo, BatchOutcome, CheckpointRef, Command, Control, Incarnation,
    IndexPartRef, LoggedCommand, NamedSettings, ObjectId, ProducerId, SegmentInfo, SegmentRange, ShardId, TailRef,
    TopicId, TopicPartition, TopicSettings, Triple,
};
use tidelog::state::State;

/// The binary's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTITIONS: u32 = 10_000;
const SEGMENTS: u64 = 360;
/// Appends of one entry: as many small batches as a leader would put together.
const ENTRY: usize = 100;
/// What one archive job may name: the largest `Archived` that a leader proposes.
const ARCHIVED_SEGMENTS: usize = (tidelog::archive::plan::MAX_RANGES / PARTITIONS) as usize;
/// Partitions that the retention job trims in one command.
const TRIMMED: u32 = 1_000;

struct Shard {
    state: State,
    index: u64,
    objects: u128,
    topic: TopicId,
}

impl Shard {
    fn new() -> Self {
        let topic = TopicId(uuid::Uuid::from_u128(7));
        let mut shard = Self { state: State::new(ShardId(0), Incarnation(1)), index: 0, objects: 0, topic };
        shard.control(create(topic, "gate"));
        shard
    }

    fn entry(&self, command: Command) -> LoggedCommand {
        LoggedCommand { log_time: 1_700_000_000_000 + self.index * 100, command }
    }

    fn apply(&mut self, command: Command) -> Answer {
        let entry = self.entry(command);
        self.index += 1;
        self.state.apply(self.index, &entry).answer
    }

    fn control(&mut self, control: Control) -> Answer {
        self.apply(Command::Control(control))
    }

    fn object(&mut self) -> ObjectId {
        self.objects += 1;
        // Random bits as real ids have them: they do not compress.
        ObjectId::from_parts(
            1_700_000_000_000 + self.index * 100,
            self.objects.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835),
        )
    }

    /// Appends a batch to every partition.
    fn fill(&mut self) {
        let partitions: Vec<u32> = (0..PARTITIONS).collect();
        for chunk in partitions.chunks(ENTRY) {
            let batches = chunk.iter().map(|partition| append(self.topic, *partition)).collect();
            self.apply(Command::Append(batches));
        }
    }

    /// The command that flushes the whole tail into one segment.
    fn flushed(&mut self) -> Control {
        let mut position = 0;
        let ranges = self
            .state
            .unflushed()
            .flat_map(|partition| partition.tail().iter().map(|batch| (partition.id(), *batch)).collect::<Vec<_>>());
        let ranges: Vec<SegmentRange> = ranges
            .map(|(partition, batch)| {
                position += u64::from(batch.len);
                range(partition, &batch, position - u64::from(batch.len))
            })
            .collect();
        let segment = SegmentInfo {
            id: self.object(),
            bytes: position + 4_096,
            footer_start: position,
            min_append_time: 0,
            max_append_time: 1,
        };
        let index = self.index;
        let parts = self.state.parts_to_write(1);
        let parts = parts.into_iter().map(|part| IndexPartRef { part, id: self.object(), written_at: index }).collect();
        Control::Flushed {
            previous: self.state.flushed_index(),
            index,
            segments: vec![segment],
            ranges: vec![ranges],
            checkpoint: CheckpointRef { incarnation: Incarnation(1), index, id: self.object() },
            parts,
        }
    }

    /// Claims the oldest segments; the command that archives them.
    fn archived(&mut self) -> Control {
        let segments: Vec<ObjectId> =
            self.state.segments().take(ARCHIVED_SEGMENTS).map(|segment| segment.info.id).collect();
        let claim = Control::ClaimArchive { worker: "bench".into(), hold_ms: u64::MAX, segments: segments.clone() };
        let Answer::Job(job) = self.control(claim) else { return Control::Tick };
        let file = self.object();
        let live = self.state.live_ranges(&segments);
        let ranges = live.chunk_by(|left, right| left.partition == right.partition);
        let ranges = ranges.map(|run| archive_range(file, &run[0], &run[run.len() - 1])).collect();
        Control::Archived { job, files: vec![archive_file(file, self.topic)], ranges }
    }
}

fn create(id: TopicId, name: &str) -> Control {
    let settings = TopicSettings { partitions: PARTITIONS, ..TopicSettings::default() };
    Control::CreateTopic { id, name: name.to_owned(), settings, named: NamedSettings::default() }
}

fn append(topic: TopicId, partition: u32) -> Append {
    Append {
        partition: TopicPartition::new(topic, partition),
        batch: Bytes::new(),
        position: 40,
        info: BatchInfo { count: 10, len: 1_600, max_timestamp: 1_700_000_000_000 },
        triple: None,
        idempotency: None,
        digest: 0,
        expected_offset: None,
    }
}

fn range(partition: TopicPartition, batch: &TailRef, position: u64) -> SegmentRange {
    SegmentRange {
        partition,
        start: batch.base_offset,
        end: batch.end_offset(),
        position,
        len: u64::from(batch.len),
        max_timestamp: batch.max_timestamp,
        min_append_time: batch.append_time,
        max_append_time: batch.append_time,
    }
}

fn archive_file(id: ObjectId, topic: TopicId) -> ArchiveFile {
    ArchiveFile {
        id,
        topic,
        day: 19_675,
        rows: 1,
        bytes: 1,
        footer_start: 0,
        footer_crc32c: 0,
        min_timestamp: 0,
        max_timestamp: 1,
    }
}

fn archive_range(file: ObjectId, first: &SegmentRange, last: &SegmentRange) -> ArchiveRange {
    ArchiveRange {
        partition: first.partition,
        start: first.start,
        end: last.end,
        file,
        bytes: first.len,
        max_timestamp: last.max_timestamp,
        min_append_time: first.min_append_time,
        max_append_time: last.max_append_time,
    }
}

/// The median times of applying `command` to copies of the state, each sharing everything with a view that is held.
struct ApplyTime {
    /// With what it touches in the processor's caches, as criterion measures: what the code costs.
    warm: Duration,
    /// After [`evict`]: what a server pays that applied nothing of the kind for seconds.
    cold: Duration,
}

/// Runs before the first that counts: an allocator that was never asked for so much at once needs about thirty.
const WARM_UP: usize = 50;
/// Runs that count.
const RUNS: usize = 31;

fn apply_time(shard: &Shard, command: Command) -> ApplyTime {
    let entry = shard.entry(command);
    let run = |_| {
        let mut state = shard.state.clone();
        let start = Instant::now();
        let applied = state.apply(shard.index + 1, &entry);
        let time = start.elapsed();
        assert!(!matches!(applied.answer, Answer::Rejected(_)), "{:?}", applied.answer);
        time
    };
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    (0..WARM_UP).map(run).for_each(|_| ());
    let warm = median((0..RUNS).map(run).collect());
    let mut others = vec![1; 8 << 20];
    let cold = (0..RUNS).map(|number| {
        evict(&mut others);
        run(number)
    });
    ApplyTime { warm, cold: median(cold.collect()) }
}

/// Writes to 64 MiB of other memory: what was in the second-level cache and in the TLB is out.
fn evict(others: &mut [u64]) {
    others.iter_mut().step_by(8).for_each(|word| *word += 1);
    black_box(others);
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The gate; whether it held so far.
struct Gate(bool);

impl Gate {
    fn check(&mut self, what: &str, measured: f64, limit: f64, unit: &str) {
        let verdict = if measured <= limit { "ok" } else { "MISSED" };
        self.0 &= measured <= limit;
        println!("gate  {what:<48} {measured:>9.3} of {limit} {unit}  {verdict}");
    }

    fn check_apply(&mut self, shard: &Shard, what: &str, command: Command) {
        let ApplyTime { warm, cold } = apply_time(shard, command);
        self.check(&format!("apply {what}"), millis(warm), 5.0, "ms");
        println!("      with cold caches {:>46.3} ms", millis(cold));
    }
}

/// Measures the gate; whether it holds.
fn gate(shard: &mut Shard) -> bool {
    let mut gate = Gate(true);
    let start = Instant::now();
    let view = black_box(shard.state.clone());
    gate.check("view", millis(start.elapsed()), 1.0, "ms");
    drop(view);

    gate.check_apply(shard, "append, one batch", Command::Append(vec![append(shard.topic, 5_000)]));
    let appends = (0..ENTRY as u32).map(|partition| append(shard.topic, partition * 97)).collect();
    gate.check_apply(shard, "append, 100 partitions", Command::Append(appends));
    shard.fill();
    let flushed = shard.flushed();
    gate.check_apply(shard, "flushed, 10,000 partitions", Command::Control(flushed.clone()));
    let start = Instant::now();
    let (checkpoint, parts) = shard.state.checkpoint(&flushed).unwrap_or_else(|error| panic!("{error}"));
    println!("      checkpoint made in {:.1} ms with {} parts", millis(start.elapsed()), parts.len());
    let bytes = encode_checkpoint(&checkpoint).map_or(usize::MAX, |bytes| bytes.len());
    gate.check("checkpoint object", bytes as f64 / 1024.0, 1024.0, "KiB");
    for part in parts.iter().take(1) {
        println!("      index part of {} KiB", encode_part(part).map_or(0, |bytes| bytes.len()) / 1024);
    }
    shard.control(flushed);
    let archived = Command::Control(shard.archived());
    gate.check_apply(shard, "archived, 10,000 partitions, 3 segments", archived);
    let starts = (0..TRIMMED).map(|partition| (TopicPartition::new(shard.topic, partition), 20));
    gate.check_apply(shard, "trim, 1,000 partitions", Command::Control(Control::trim(starts)));
    let other = create(TopicId(uuid::Uuid::from_u128(8)), "other");
    gate.check_apply(shard, "create topic, 10,000 partitions", Command::Control(other));
    gate.0
}

fn measure(shard: &Shard, criterion: &mut Criterion) {
    criterion.bench_function("view", |bencher| bencher.iter(|| black_box(shard.state.clone())));
    let entry = shard.entry(Command::Append(vec![append(shard.topic, 5_000)]));
    criterion.bench_function("append one batch, shared with a view", |bencher| {
        bencher.iter_batched_ref(
            || shard.state.clone(),
            |state| state.apply(shard.index + 1, &entry),
            BatchSize::SmallInput,
        );
    });
    apply_again(criterion, "append one batch", shard, |_| entry.clone());
    let many = Command::Append((0..ENTRY as u32).map(|partition| append(shard.topic, partition * 97)).collect());
    let many = shard.entry(many);
    apply_again(criterion, "append 100 batches of 100 partitions", shard, |_| many.clone());
    apply_again(criterion, "append one batch of an idempotent producer", shard, |count| {
        let batch = append(shard.topic, 5_000);
        let sequence = (count * u64::from(batch.info.count) % u64::from(SEQUENCE_MODULUS)) as u32;
        let triple = Triple { id: ProducerId(1 << 40), epoch: 0, sequence };
        shard.entry(Command::Append(vec![Append { triple: Some(triple), ..batch }]))
    });
}

/// Applies one entry after the other to the same state, as a leader does. Each is made by `entry`, which is given how many
/// were before; making it is not in the time.
fn apply_again(criterion: &mut Criterion, name: &str, shard: &Shard, mut entry: impl FnMut(u64) -> LoggedCommand) {
    let mut state = shard.state.clone();
    let mut count = 0;
    criterion.bench_function(name, |bencher| {
        bencher.iter_batched_ref(
            || {
                count += 1;
                (shard.index + count, entry(count - 1))
            },
            |(index, entry)| {
                let applied = state.apply(*index, entry);
                assert!(was_appended(&applied.answer), "{:?}", applied.answer);
                applied
            },
            BatchSize::SmallInput,
        );
    });
}

fn was_appended(answer: &Answer) -> bool {
    let is_new = |outcome: &BatchOutcome| outcome.as_ref().is_ok_and(|appended| !appended.duplicate);
    matches!(answer, Answer::Appended(outcomes) if outcomes.iter().all(is_new))
}

fn main() -> ExitCode {
    let mut shard = Shard::new();
    let start = Instant::now();
    for _ in 0..SEGMENTS {
        shard.fill();
        let flushed = shard.flushed();
        assert_eq!(shard.control(flushed), Answer::Done);
    }
    println!("{PARTITIONS} partitions with {SEGMENTS} segments made in {:.1} s", start.elapsed().as_secs_f64());
    let holds = gate(&mut shard);
    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    measure(&shard, &mut criterion);
    criterion.final_summary();
    // The figures of an unoptimized build say nothing.
    if holds || cfg!(debug_assertions) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
