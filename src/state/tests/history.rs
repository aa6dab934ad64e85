//! Random histories: `checkpoint(F) + replay (F, G] == live at G` for every checkpoint and every G, and the invariants of
//! every state on the way.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::State;
use super::world::{Cut, START, World, batch};
use crate::model::{
    Answer, Append, Command, Control, IdempotencyKey, Incarnation, Job, Keyed, Limits, LogStart, ObjectId, Place,
    ProducerId, TopicId, TopicPartition, Triple,
};

/// One step: what to do and three numbers to decide how.
type Step = (u8, u32, u32, u32);

struct History {
    world: World,
    cuts: Vec<Cut>,
    jobs: Vec<(Job, State)>,
    topics: Vec<TopicId>,
    sent: Vec<Append>,
    /// Trims after which archive files outlived the log.
    outlived: usize,
}

impl History {
    fn new() -> Self {
        Self {
            world: World::new(),
            cuts: Vec::new(),
            jobs: Vec::new(),
            topics: Vec::new(),
            sent: Vec::new(),
            outlived: 0,
        }
    }

    fn partition(&self, a: u32, b: u32) -> TopicPartition {
        let topic = self.topics.get(a as usize % self.topics.len().max(1)).copied();
        TopicPartition::new(topic.unwrap_or(TopicId(uuid::Uuid::nil())), b % 4)
    }

    /// A batch under a triple that is often right, sometimes a gap or of another epoch, or under a key; or one of the
    /// last ones again.
    fn batch(&mut self, a: u32, b: u32, c: u32) -> Append {
        if c.is_multiple_of(5) && !self.sent.is_empty() {
            let back = 1 + b as usize % self.sent.len().min(20);
            return self.sent[self.sent.len() - back].clone();
        }
        let mut append = batch(self.partition(a, b), 1 + c % 3);
        append.digest = u128::from(c % 2);
        if a.is_multiple_of(2) {
            let id = ProducerId((1 << 40) | u64::from(b % 5));
            let known = self.world.state.partition(append.partition).and_then(|p| p.producers().position(id));
            let next = known.and_then(|known| known.last_sequence).map_or(0, |last| last + 1);
            let (epoch, sequence) = match c % 9 {
                0 => (known.map_or(0, |known| known.epoch) + 1, 0),
                1 => (0, next),
                2 => (known.map_or(0, |known| known.epoch), next.saturating_sub(1 + c % 20)),
                3 => (known.map_or(0, |known| known.epoch), next + 1),
                _ => (known.map_or(0, |known| known.epoch), next),
            };
            append.triple = Some(Triple { id, epoch, sequence });
        }
        if b.is_multiple_of(3) {
            // A key is a hash within its topic, and the digest covers whether the route named a partition.
            let among = c / 7 % 4;
            append.digest = append.digest * 2 + u128::from(among == 0);
            let key = IdempotencyKey(append.partition.topic.0.as_u128() ^ u128::from(c % 7));
            append.idempotency = Some(Keyed { key, among, begun: false });
        }
        if c.is_multiple_of(11) {
            append.expected_offset = Some(u64::from(b % 50));
        }
        self.sent.push(append.clone());
        append
    }

    fn step(&mut self, (kind, a, b, c): Step) {
        self.world.time += u64::from(c % 1_000);
        match kind % 24 {
            0..=7 => {
                let batches =
                    (0..1 + a % 4).map(|n| self.batch(a.wrapping_add(n), b.wrapping_mul(n + 1), c ^ n)).collect();
                self.world.apply(Command::Append(batches));
            }
            8 | 9 => {
                let id = self.world.create(&format!("t{}", a % 4), 1 + b % 4);
                if !self.topics.contains(&id) {
                    self.topics.push(id);
                }
            }
            10..=12 => {
                let cut = self.world.cut(a);
                self.cuts.push(cut);
            }
            13..=15 if !self.cuts.is_empty() => {
                let cut = self.cuts.remove(a as usize % self.cuts.len());
                self.world.commit(cut);
            }
            16 => {
                let hold_ms = u64::from(b % 20_000);
                self.jobs.extend(self.world.claim(a as usize % 3, 1 + b as usize % 4, hold_ms));
            }
            17 if !self.jobs.is_empty() => {
                let (job, view) = self.jobs.remove(a as usize % self.jobs.len());
                let view = if b.is_multiple_of(2) { view } else { self.world.state.clone() };
                self.world.archive(&job, &view);
            }
            18 => {
                let id = self.partition(a, b);
                let bounds = self.world.state.partition(id).map(|partition| partition.bounds()).unwrap_or_default();
                // Where archive files may outlive the log is at or below what is archived.
                let (end, back) = match c % 2 {
                    0 => (bounds.high_watermark, c % 12),
                    _ => (bounds.archived, c % 3),
                };
                let log_start = end.saturating_sub(u64::from(back));
                let archive_start = log_start.saturating_sub(u64::from(a % 30));
                let start = LogStart { partition: id, log_start, archive_start };
                let other = LogStart::of_all(self.partition(b, c), 1);
                self.world.control(Control::Trim { starts: vec![start, other] });
                let kept = self.world.state.partition(id).map_or(0, |partition| partition.kept_bytes());
                self.outlived += usize::from(kept > 0);
            }
            _ => self.rare_step(kind, a, b, c),
        }
    }

    fn rare_step(&mut self, kind: u8, a: u32, b: u32, c: u32) {
        let id = self.partition(a, b).topic;
        let control = match (kind % 24, c % 4) {
            (19, 0) => Control::DeleteTopic { id },
            (19, 1) => Control::UndeleteTopic { name: format!("t{}", a % 4) },
            (19, _) => {
                self.world.time += u64::from(b % 90_000);
                Control::RemoveTopics { ids: self.topics.clone() }
            }
            (20, 0 | 1) => match self.world.state.topic(id) {
                Some(topic) => {
                    let expected = topic.settings.clone();
                    let mut settings = expected.clone();
                    settings.partitions = (settings.partitions + a % 2).min(4);
                    settings.retention_ms = Some(u64::from(b));
                    Control::AlterTopic { id, expected, settings }
                }
                None => Control::Tick,
            },
            (20, _) => Control::RegisterProducer { name: (!b.is_multiple_of(4)).then(|| format!("p{}", a % 3)) },
            (21, 0) => {
                Control::Condemn { floor: ObjectId::floor(self.world.time.saturating_sub(u64::from(b % 3_000))) }
            }
            (21, 1) => Control::SetLimits(Limits {
                producer_expiry_ms: 1 + u64::from(a % 30_000),
                producers_per_partition: 1 + b % 4,
                idempotency_window_ms: 1 + u64::from(b % 10_000),
                idempotency_keys: 1 + a % 6,
                topic_delete_grace_ms: u64::from(a % 2_000),
            }),
            (21, _) => Control::AbandonArchive { job: self.job(a) },
            (22, 0) if a.is_multiple_of(3) => Control::Close,
            (22, 1) if a.is_multiple_of(3) => Control::Unseal,
            (22, 1) if a.is_multiple_of(5) => Control::RaiseVersion { version: a % 2 },
            (22, _) => Control::Reopen { incarnation: Incarnation(1 + u64::from(b % 3)) },
            (23, 0 | 1) => Control::ExtendArchive { job: self.job(a), hold_ms: u64::from(b) },
            _ => Control::Tick,
        };
        self.world.control(control);
    }

    fn job(&self, a: u32) -> crate::model::JobId {
        self.jobs.get(a as usize % self.jobs.len().max(1)).map_or(super::world::NO_JOB, |(job, _)| job.id)
    }
}

/// What holds for every state.
pub(super) fn check_invariants(state: &State) {
    let mut tail_bytes = 0;
    let mut tails = Vec::new();
    for partition in state.partitions() {
        let bounds = partition.bounds();
        let archive_start = partition.archive_start();
        assert!(archive_start <= bounds.log_start);
        assert!(bounds.log_start <= bounds.archived && bounds.archived <= bounds.flushed);
        assert!(bounds.flushed <= bounds.high_watermark);
        let mut at = None;
        for range in partition.ranges().iter() {
            assert!(range.start < range.end);
            assert!(at.is_none_or(|at| at == range.start), "a gap in {}", partition.id());
            at = Some(range.end);
            match range.place {
                Place::Segment { id, .. } => {
                    assert!(range.end > bounds.log_start && state.segment(id).is_some());
                }
                Place::Archive { file } => {
                    assert!(range.end > archive_start && state.file(partition.id().topic, file).is_some());
                }
            }
        }
        for batch in partition.tail() {
            assert!(at.is_none_or(|at| at == batch.base_offset), "a gap in the tail of {}", partition.id());
            assert!(batch.log_index > state.flushed_index() && batch.end_offset() > bounds.log_start);
            at = Some(batch.end_offset());
        }
        assert!(at.is_none_or(|at| at == bounds.high_watermark));
        let first = partition.ranges().first().map(|range| range.start);
        let first = first.or_else(|| partition.tail().front().map(|batch| batch.base_offset));
        assert!(
            first.unwrap_or(bounds.high_watermark)
                <= if partition.ranges().is_empty() { bounds.log_start } else { archive_start },
            "the log start of {} is lost",
            partition.id()
        );
        let readable = partition.ranges().iter().filter(|range| range.end > bounds.log_start);
        assert_eq!(partition.stored_bytes(), readable.map(|range| range.bytes).sum::<u64>());
        let kept = partition.ranges().iter().filter(|range| range.end <= bounds.log_start);
        assert_eq!(partition.kept_bytes(), kept.map(|range| range.bytes).sum::<u64>());
        tail_bytes += partition.tail_bytes();
        if !partition.tail().is_empty() {
            tails.push(partition.slot());
        }
        for offset in (bounds.log_start..bounds.high_watermark).step_by(3) {
            let in_range = partition.ranges().iter_from(offset).next().filter(|range| range.start <= offset);
            let in_tail = partition.tail_from(offset).next().filter(|batch| batch.base_offset <= offset);
            assert!(in_range.is_some() != in_tail.is_some(), "offset {offset} of {}", partition.id());
        }
    }
    assert_eq!(state.tail_bytes(), tail_bytes);
    assert_eq!(state.unflushed().map(|partition| partition.slot()).collect::<Vec<_>>(), tails);
    for segment in state.segments() {
        let ranges = state.live_ranges(&[segment.info.id]);
        assert_eq!(ranges.len(), segment.live_ranges as usize, "live ranges of {}", segment.info.id);
    }
}

fn run(steps: &[Step]) -> History {
    let mut history = History::new();
    history.topics.push(history.world.create("t0", 3));
    // What comes after it is in another index part.
    history.world.create("filler", 254);
    for step in steps {
        history.step(*step);
        check_invariants(&history.world.state);
    }
    for kept in &history.world.kept {
        history.world.check_replay(kept);
    }
    history
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn a_checkpoint_and_the_log_after_it_are_the_live_state(
        steps in vec((any::<u8>(), any::<u32>(), any::<u32>(), any::<u32>()), 1..120)
    ) {
        run(&steps);
    }
}

/// Long enough that index parts are rewritten because too many segments are newer; and proof that the random histories
/// reach what they are meant to reach.
#[test]
fn long_histories_rewrite_index_parts_and_archive_in_the_middle() {
    let mut number = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        (number >> 16) as u32
    };
    let (mut flushes, mut archived, mut duplicates, mut parts, mut kept) = (0, 0, 0, 0, 0);
    for _ in 0..6 {
        let steps: Vec<Step> = (0..500).map(|_| (random() as u8, random(), random(), random())).collect();
        let History { world, outlived, .. } = run(&steps);
        flushes += world.kept.len();
        kept += outlived;
        for (entry, answer) in world.log.iter().zip(&world.answers) {
            match (&entry.command, answer) {
                (Command::Control(Control::Archived { .. }), Answer::Done) => archived += 1,
                (_, Answer::Appended(outcomes)) => {
                    duplicates += outcomes.iter().flatten().filter(|appended| appended.duplicate).count();
                }
                (Command::Control(Control::Flushed { parts: written, .. }), Answer::Done) => parts += written.len(),
                _ => {}
            }
        }
        assert!(world.time > START);
    }
    assert!(
        flushes > 100 && archived > 20 && duplicates > 20 && parts > 20 && kept > 2,
        "{flushes} {archived} {duplicates} {parts} {kept}"
    );
}
