//! A shard in memory: applies commands, keeps the log, and plays flusher, compactor and bucket.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::super::{Applied, RestoreError, State};
use crate::format::checkpoint::{decode_checkpoint, decode_part, encode_checkpoint, encode_part};
use crate::model::{
    Answer, Append, ArchiveFile, ArchiveRange, BatchInfo, Checkpoint, CheckpointRef, Command, Control, IdempotencyKey,
    Incarnation, IndexPartRef, Job, JobId, Keyed, LogIndex, LoggedCommand, NamedSettings, ObjectId, Rejection,
    SegmentInfo, SegmentRange, ShardId, TailRef, TopicId, TopicPartition, TopicSettings,
};

/// Where every history begins.
pub(super) const START: u64 = 1_700_000_000_000;

/// A checkpoint whose `Flushed` was accepted.
pub(super) struct Kept {
    /// Index of that `Flushed`.
    pub(super) accepted_at: LogIndex,
    bytes: Bytes,
}

/// A flush between its cut and its command.
pub(super) struct Cut {
    pub(super) flushed: Control,
    checkpoint: Bytes,
    parts: Vec<(ObjectId, Bytes)>,
}

pub(super) struct World {
    pub(super) state: State,
    pub(super) time: u64,
    pub(super) log: Vec<LoggedCommand>,
    pub(super) answers: Vec<Answer>,
    pub(super) hashes: Vec<u128>,
    pub(super) kept: Vec<Kept>,
    parts: HashMap<ObjectId, Bytes>,
    footers: HashMap<ObjectId, Vec<SegmentRange>>,
    objects: u64,
}

impl World {
    pub(super) fn new() -> Self {
        Self::of(ShardId(0))
    }

    pub(super) fn of(shard: ShardId) -> Self {
        let state = State::new(shard, Incarnation(1));
        let hashes = vec![state.hash()];
        Self {
            state,
            time: START,
            log: Vec::new(),
            answers: Vec::new(),
            hashes,
            kept: Vec::new(),
            parts: HashMap::new(),
            footers: HashMap::new(),
            objects: 0,
        }
    }

    /// Applies one command at the next index.
    pub(super) fn apply(&mut self, command: Command) -> Applied {
        let entry = LoggedCommand { log_time: self.time, command };
        let applied = self.state.apply(self.log.len() as u64 + 1, &entry);
        self.log.push(entry);
        self.answers.push(applied.answer.clone());
        self.hashes.push(self.state.hash());
        applied
    }

    pub(super) fn control(&mut self, control: Control) -> Answer {
        self.apply(Command::Control(control)).answer
    }

    pub(super) fn create(&mut self, name: &str, partitions: u32) -> TopicId {
        let id = TopicId(uuid::Uuid::from_u128(self.log.len() as u128 + 1000));
        let settings = TopicSettings { partitions, ..TopicSettings::default() };
        let named = NamedSettings { partitions: true, ..NamedSettings::default() };
        self.control(Control::CreateTopic { id, name: name.to_owned(), settings, named });
        self.state.topic_by_name(name).map_or(id, |topic| topic.id)
    }

    /// Lets a topic grow to `partitions`.
    pub(super) fn grow(&mut self, id: TopicId, partitions: u32) {
        let expected = self.state.topic(id).unwrap().settings.clone();
        let settings = TopicSettings { partitions, ..expected.clone() };
        assert!(matches!(self.control(Control::AlterTopic { id, expected, settings }), Answer::Topic { .. }));
    }

    /// Appends one plain batch.
    pub(super) fn append(&mut self, partition: TopicPartition, count: u32) -> Answer {
        self.apply(Command::Append(vec![batch(partition, count)])).answer
    }

    fn object(&mut self) -> ObjectId {
        self.objects += 1;
        ObjectId::from_parts(self.time, u128::from(self.objects))
    }

    /// Cuts the tail of the state as it is now; `spread` decides where segments end.
    pub(super) fn cut(&mut self, spread: u32) -> Cut {
        let view = self.state.clone();
        let mut tails: Vec<(TopicPartition, Vec<TailRef>)> =
            view.unflushed().map(|partition| (partition.id(), partition.tail().iter().copied().collect())).collect();
        tails.sort_by_key(|(id, _)| *id);
        let mut segments: Vec<Vec<SegmentRange>> = Vec::new();
        let mut left = 0;
        for (nth, (id, batch)) in tails.iter().flat_map(|(id, tail)| tail.iter().map(move |b| (id, b))).enumerate() {
            if left == 0 {
                segments.push(Vec::new());
                left = 1 + (spread as usize).wrapping_mul(nth + 7) % 5;
            }
            left -= 1;
            let Some(segment) = segments.last_mut() else { continue };
            match segment.last_mut().filter(|range| range.partition == *id) {
                Some(range) => extend(range, batch),
                None => {
                    let position = segment.iter().map(|range| range.len).sum();
                    segment.push(range_of(*id, batch, position));
                }
            }
        }
        let infos: Vec<SegmentInfo> = segments.iter().map(|ranges| segment_info(self.object(), ranges)).collect();
        for (info, ranges) in infos.iter().zip(&segments) {
            self.footers.insert(info.id, ranges.clone());
        }
        let index = view.applied();
        let due = view.parts_to_write(infos.len());
        let parts: Vec<IndexPartRef> =
            due.into_iter().map(|part| IndexPartRef { part, id: self.object(), written_at: index }).collect();
        let reference = CheckpointRef { incarnation: view.incarnation(), index, id: self.object() };
        let ids: Vec<ObjectId> = parts.iter().map(|part| part.id).collect();
        let flushed = Control::Flushed {
            previous: view.flushed_index(),
            index,
            segments: infos,
            ranges: segments,
            checkpoint: reference,
            parts,
        };
        match view.checkpoint(&flushed) {
            Ok((checkpoint, contents)) => Cut {
                flushed,
                checkpoint: encode_checkpoint(&checkpoint).unwrap(),
                parts: ids.into_iter().zip(contents.iter().map(|part| encode_part(part).unwrap())).collect(),
            },
            // A flush of what is flushed already; proposing it has to be declined too.
            Err(_) => Cut { flushed, checkpoint: Bytes::new(), parts: Vec::new() },
        }
    }

    /// Proposes a cut; keeps its checkpoint if it was accepted.
    pub(super) fn commit(&mut self, cut: Cut) -> Answer {
        let before = self.state.flushed_index();
        let answer = self.control(cut.flushed);
        if self.state.flushed_index() > before {
            self.parts.extend(cut.parts);
            self.kept.push(Kept { accepted_at: self.state.applied(), bytes: cut.checkpoint });
        }
        answer
    }

    pub(super) fn flush(&mut self) -> Answer {
        let cut = self.cut(3);
        self.commit(cut)
    }

    /// The state at a kept checkpoint.
    pub(super) fn restore(&self, kept: &Kept) -> State {
        self.restore_from(decode_checkpoint(&kept.bytes).unwrap()).unwrap()
    }

    /// The contents of the newest checkpoint.
    pub(super) fn newest_checkpoint(&self) -> Checkpoint {
        decode_checkpoint(&self.kept.last().unwrap().bytes).unwrap()
    }

    /// The state at a checkpoint with the contents of one that was kept, or nearly.
    pub(super) fn restore_from(&self, checkpoint: Checkpoint) -> Result<State, RestoreError> {
        let parts = checkpoint.parts.iter().map(|part| decode_part(&self.parts[&part.id]).unwrap()).collect();
        let needed = checkpoint.footer_segments();
        assert!(needed.len() <= crate::model::checkpoint::MAX_FOOTER_SEGMENTS, "{} footers", needed.len());
        let footers = needed.iter().map(|info| (info.id, self.footers[&info.id].clone())).collect();
        State::restore(checkpoint, parts, footers)
    }

    /// Starts from a kept checkpoint, or from nothing, as if all that came after it had never been.
    pub(super) fn restart(&mut self, kept: Option<usize>) {
        let state = match kept {
            Some(nth) => self.restore(&self.kept[nth]),
            None => State::new(self.state.shard(), Incarnation(1)),
        };
        let applied = state.applied() as usize;
        self.log.truncate(applied);
        self.answers.truncate(applied);
        self.hashes.truncate(applied + 1);
        // No log leads from an older checkpoint to what comes now.
        self.kept.clear();
        self.hashes[applied] = state.hash();
        self.state = state;
    }

    /// Restores a checkpoint and replays the rest of the log: equal at every index after the `Flushed`, answers included.
    pub(super) fn check_replay(&self, kept: &Kept) {
        let mut state = self.restore(kept);
        for index in state.applied() + 1..=self.log.len() as u64 {
            let answer = state.apply(index, &self.log[index as usize - 1]).answer;
            if index == kept.accepted_at {
                assert_eq!(answer, Answer::Done, "a flush replayed on its own checkpoint");
            }
            if index >= kept.accepted_at {
                assert_eq!(answer, self.answers[index as usize - 1], "answer to entry {index}");
                let flushed = state.flushed_index();
                assert_eq!(state.hash(), self.hashes[index as usize], "state at {index}, flushed at {flushed}");
            }
        }
    }

    /// Claims the first `count` live segments from the `skip`th on that nobody holds.
    pub(super) fn claim(&mut self, skip: usize, count: usize, hold_ms: u64) -> Option<(Job, State)> {
        let view = &self.state;
        let free: Vec<ObjectId> = view
            .segments()
            .filter(|s| view.claimed_by(s).is_none())
            .skip(skip)
            .take(count)
            .map(|s| s.info.id)
            .collect();
        let claim = Control::ClaimArchive { worker: "w".into(), hold_ms, segments: free };
        match self.control(claim) {
            Answer::Job(id) => Some((self.state.job(id)?.as_ref().clone(), self.state.clone())),
            _ => None,
        }
    }

    /// Archives what was live in the job's segments when `view` was taken.
    pub(super) fn archive(&mut self, job: &Job, view: &State) -> Answer {
        let mut files: BTreeMap<TopicId, ArchiveFile> = BTreeMap::new();
        let mut ranges: Vec<ArchiveRange> = Vec::new();
        for live in view.live_ranges(&job.segments) {
            let id = self.object();
            let file = files.entry(live.partition.topic).or_insert_with(|| archive_file(id, live.partition.topic));
            match ranges.last_mut().filter(|last| last.partition == live.partition && last.end == live.start) {
                Some(last) => {
                    last.end = live.end;
                    last.bytes += live.len / 2;
                    last.max_append_time = live.max_append_time;
                    last.max_timestamp = last.max_timestamp.max(live.max_timestamp);
                }
                None => ranges.push(archive_range(&live, file.id)),
            }
        }
        self.control(Control::Archived { job: job.id, files: files.into_values().collect(), ranges })
    }
}

/// A plain batch without bytes: the state never looks at them.
pub(super) fn batch(partition: TopicPartition, count: u32) -> Append {
    Append {
        partition,
        batch: Bytes::new(),
        position: 17,
        info: BatchInfo { count, len: 100 * count.min(1_000), max_timestamp: 5 },
        triple: None,
        idempotency: None,
        digest: 0,
        expected_offset: None,
    }
}

/// A request under a key on the route of a partition.
pub(super) fn keyed(key: u128) -> Keyed {
    Keyed { key: IdempotencyKey(key), among: 0, begun: false }
}

/// The only outcome of a one-batch append.
pub(super) fn outcome(answer: &Answer) -> Result<(u64, bool), Rejection> {
    match answer {
        Answer::Appended(outcomes) => outcomes[0].clone().map(|appended| (appended.base_offset, appended.duplicate)),
        other => panic!("not an append: {other:?}"),
    }
}

fn range_of(partition: TopicPartition, batch: &TailRef, position: u64) -> SegmentRange {
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

fn extend(range: &mut SegmentRange, batch: &TailRef) {
    range.end = batch.end_offset();
    range.len += u64::from(batch.len);
    range.max_timestamp = range.max_timestamp.max(batch.max_timestamp);
    range.max_append_time = batch.append_time;
}

fn segment_info(id: ObjectId, ranges: &[SegmentRange]) -> SegmentInfo {
    let bytes: u64 = ranges.iter().map(|range| range.len).sum();
    SegmentInfo {
        id,
        bytes: bytes + 99,
        footer_start: bytes,
        min_append_time: ranges.iter().map(|range| range.min_append_time).min().unwrap_or(0),
        max_append_time: ranges.iter().map(|range| range.max_append_time).max().unwrap_or(0),
    }
}

fn archive_file(id: ObjectId, topic: TopicId) -> ArchiveFile {
    ArchiveFile {
        id,
        topic,
        day: 19_675,
        rows: 1,
        bytes: 1_000,
        footer_start: 900,
        footer_crc32c: 7,
        min_timestamp: 0,
        max_timestamp: 9,
    }
}

fn archive_range(live: &SegmentRange, file: ObjectId) -> ArchiveRange {
    ArchiveRange {
        partition: live.partition,
        start: live.start,
        end: live.end,
        file,
        bytes: live.len / 2,
        max_timestamp: live.max_timestamp,
        min_append_time: live.min_append_time,
        max_append_time: live.max_append_time,
    }
}

/// A job id that was never handed out.
pub(super) const NO_JOB: JobId = JobId(u64::MAX);
