//! Flushes, archive jobs, trims and condemned floors: what is declined, and what is named afterwards.

use super::super::{PartitionState, State};
use super::history::check_invariants;
use super::world::{NO_JOB, World};
use crate::model::{Answer, CheckpointRef, Control, LogStart, ObjectId, Offset, Place, Rejection, TopicPartition};

fn setup() -> (World, TopicPartition) {
    let mut world = World::new();
    let topic = world.create("t", 2);
    (world, TopicPartition::new(topic, 0))
}

/// A shard whose partition has `flushes` segments of two records each.
fn flushed(flushes: usize) -> (World, TopicPartition) {
    let (mut world, at) = setup();
    for _ in 0..flushes {
        world.time += 10;
        world.append(at, 2);
        assert_eq!(world.flush(), Answer::Done);
    }
    (world, at)
}

impl World {
    fn segment_ids(&self) -> Vec<ObjectId> {
        self.state.segments().map(|segment| segment.info.id).collect()
    }

    /// (start, end, whether archived) of everything stored.
    fn stored(&self, at: TopicPartition) -> Vec<(Offset, Offset, bool)> {
        let ranges = self.state.partition(at).unwrap().ranges().iter();
        ranges.map(|range| (range.start, range.end, matches!(range.place, Place::Archive { .. }))).collect()
    }

    fn bounds(&self, at: TopicPartition) -> [Offset; 4] {
        let bounds = self.state.partition(at).unwrap().bounds();
        [bounds.log_start, bounds.archived, bounds.flushed, bounds.high_watermark]
    }
}

#[test]
fn a_partition_copies_less_than_a_kibibyte() {
    assert!(std::mem::size_of::<PartitionState>() <= 1024, "{}", std::mem::size_of::<PartitionState>());
}

#[test]
fn a_flush_moves_the_tail_at_or_below_its_index_and_nothing_else() {
    let (mut world, at) = setup();
    world.append(at, 2);
    let cut = world.cut(1);
    world.append(at, 3);
    assert_eq!(world.commit(cut), Answer::Done);
    assert_eq!(world.bounds(at), [0, 0, 2, 5]);
    assert_eq!(world.stored(at), [(0, 2, false)]);
    let partition = world.state.partition(at).unwrap();
    assert_eq!(partition.tail().iter().map(|batch| batch.base_offset).collect::<Vec<_>>(), [2]);
    assert_eq!(world.state.tail_bytes(), 300 + 128);
    assert_eq!(world.state.flushed_index(), 2);
}

#[test]
fn of_two_flushes_of_the_same_tail_the_first_wins() {
    let (mut world, at) = setup();
    world.append(at, 2);
    let (first, second) = (world.cut(1), world.cut(1));
    world.append(at, 1);
    let third = world.cut(1);
    let again = first.flushed.clone();
    assert_eq!(world.commit(first), Answer::Done);
    assert_eq!(world.commit(second), Answer::Rejected(Rejection::StaleFlush { current: 2 }));
    assert_eq!(world.commit(third), Answer::Rejected(Rejection::StaleFlush { current: 2 }));
    let hash = world.state.partition(at).map(|partition| partition.ranges().len());
    assert_eq!(world.control(again), Answer::Done, "the same flush again, as in a replay");
    assert_eq!(world.state.partition(at).map(|partition| partition.ranges().len()), hash);
    assert_eq!(world.segment_ids().len(), 1);
}

#[test]
fn a_flush_that_is_not_exactly_the_tail_is_declined() {
    let (mut world, at) = setup();
    world.append(at, 2);
    world.append(TopicPartition::new(at.topic, 1), 2);
    let good = world.cut(0).flushed;
    let stale = Answer::Rejected(Rejection::StaleFlush { current: 0 });
    let mut broken: Vec<Control> = Vec::new();
    for change in 0..7 {
        let mut flush = good.clone();
        if let Control::Flushed { index, ranges, checkpoint, segments, .. } = &mut flush {
            match change {
                0 => ranges[0][0].end += 1,
                1 => ranges[0][0].start += 1,
                2 => drop(ranges.pop()),
                3 => ranges.iter_mut().for_each(Vec::clear),
                4 => checkpoint.index += 1,
                5 => {
                    *index += 100;
                    checkpoint.index += 100;
                }
                _ => segments.push(segments[0]),
            }
        }
        broken.push(flush);
    }
    for flush in broken {
        assert_eq!(world.control(flush), stale);
    }
    assert_eq!(world.control(good), Answer::Done);
}

#[test]
fn what_was_trimmed_between_cut_and_command_is_not_registered() {
    let (mut world, at) = setup();
    world.append(at, 2);
    world.append(at, 2);
    let cut = world.cut(1);
    world.append(at, 4);
    world.control(Control::trim(vec![(at, 6), (at, 1)]));
    assert_eq!(world.bounds(at), [6, 6, 6, 8]);
    assert_eq!(world.commit(cut), Answer::Done);
    assert_eq!((world.stored(at), world.segment_ids()), (vec![], vec![]));
    assert_eq!(world.flush(), Answer::Done);
    assert_eq!(world.stored(at), [(4, 8, false)], "the batch is whole, its first half is not readable");
    world.control(Control::trim(vec![(at, 100)]));
    assert_eq!(world.bounds(at), [8; 4], "a log start stays at or below the high watermark");
    assert_eq!(world.segment_ids(), []);
    for kept in &world.kept {
        world.check_replay(kept);
    }
}

#[test]
fn a_closed_shard_is_not_trimmed_so_that_its_clean_checkpoint_has_the_log_starts_that_readers_saw() {
    let (mut world, at) = flushed(2);
    world.control(Control::trim(vec![(at, 1)]));
    world.control(Control::Close);
    world.flush();
    let clean = world.newest_checkpoint();
    assert!(clean.is_clean());
    let start = world.bounds(at)[0];
    assert_eq!(start, 1);
    assert_eq!(world.control(Control::trim(vec![(at, start + 1)])), Answer::Done);
    assert_eq!(world.bounds(at)[0], start);
    let restored = world.restore_from(clean).unwrap();
    assert_eq!(restored.partition(at).unwrap().bounds(), world.state.partition(at).unwrap().bounds());
    world.control(Control::Reopen { incarnation: crate::model::Incarnation(1) });
    world.control(Control::trim(vec![(at, start + 1)]));
    assert_eq!(world.bounds(at)[0], start + 1);
}

/// Moves the log start of `at`, and the archive start.
fn trim(world: &mut World, at: TopicPartition, log_start: Offset, archive_start: Offset) {
    let start = LogStart { partition: at, log_start, archive_start };
    assert_eq!(world.control(Control::Trim { starts: vec![start] }), Answer::Done);
    check_invariants(&world.state);
}

#[test]
fn archive_files_outlive_the_log_as_far_as_they_are_told_to() {
    let (mut world, at) = flushed(8);
    // Three files of two segments each; the last two segments are not archived.
    for _ in 0..3 {
        let (job, view) = world.claim(0, 2, 1_000).unwrap();
        assert_eq!(world.archive(&job, &view), Answer::Done);
    }
    let files = [(0, 4, true), (4, 8, true), (8, 12, true)];
    let segments = [(12, 14, false), (14, 16, false)];
    let bytes = |state: &State| state.partition(at).map(|found| (found.stored_bytes(), found.kept_bytes())).unwrap();
    let all = bytes(&world.state).0;
    trim(&mut world, at, 8, 0);
    assert_eq!(world.bounds(at), [8, 12, 16, 16]);
    assert_eq!((world.stored(at), world.state.file_count()), ([&files[..], &segments[..]].concat(), 3));
    let (stored, kept) = bytes(&world.state);
    assert!(stored + kept == all && kept > 0);
    let objects = world.state.objects().count();

    // A file goes when nothing of it is kept; its offsets may be trimmed in between, and twice.
    trim(&mut world, at, 8, 3);
    trim(&mut world, at, 5, 2);
    assert_eq!((world.state.file_count(), world.state.partition(at).unwrap().archive_start()), (3, 3));
    trim(&mut world, at, 8, 4);
    assert_eq!((world.stored(at), world.state.file_count()), ([&files[1..], &segments[..]].concat(), 2));
    assert_eq!(world.state.objects().count(), objects - 1);
    trim(&mut world, at, 8, 100);
    assert_eq!(world.state.partition(at).unwrap().archive_start(), 8, "at most the log start");
    assert_eq!((world.state.file_count(), bytes(&world.state).1), (1, 0));
    world.flush();
    for kept in &world.kept {
        world.check_replay(kept);
    }
}

#[test]
fn what_is_kept_has_no_gap_up_to_what_is_read() {
    // Of six segments two are archived, or all.
    for archived in [2, 6] {
        let (mut world, at) = flushed(6);
        let (job, view) = world.claim(0, archived, 1_000).unwrap();
        assert_eq!(world.archive(&job, &view), Answer::Done);
        trim(&mut world, at, 4, 0);
        assert_eq!(world.stored(at)[0].0, 0, "all up to the log start is archived");
        // What is trimmed is still in the tail here: a state restored from the checkpoint has it in a segment.
        world.append(at, 2);
        world.append(at, 2);
        let cut = world.cut(0);
        trim(&mut world, at, if archived == 2 { 5 } else { 14 }, 0);
        assert_eq!(world.commit(cut), Answer::Done);
        let first = if archived == 2 { (4, 6, false) } else { (14, 16, false) };
        assert_eq!((world.stored(at)[0], world.state.file_count()), (first, 0));
        world.flush();
        for kept in &world.kept {
            world.check_replay(kept);
        }
    }
}

#[test]
fn a_removed_topic_takes_the_files_that_outlived_its_log() {
    let (mut world, at) = flushed(2);
    let (job, view) = world.claim(0, 2, 1_000).unwrap();
    assert_eq!(world.archive(&job, &view), Answer::Done);
    trim(&mut world, at, 4, 0);
    assert_eq!((world.bounds(at), world.state.file_count()), ([4; 4], 1));
    world.control(Control::DeleteTopic { id: at.topic });
    world.time += 1 + world.state.limits().topic_delete_grace_ms;
    world.control(Control::Tick);
    world.control(Control::RemoveTopics { ids: vec![at.topic] });
    assert!(world.state.topic(at.topic).is_none());
    assert_eq!(world.state.file_count(), 0);
    world.flush();
    for kept in &world.kept {
        world.check_replay(kept);
    }
}

#[test]
fn archiving_replaces_segments_by_files_also_in_the_middle() {
    let (mut world, at) = flushed(6);
    let (early, early_view) = world.claim(0, 2, 1_000).unwrap();
    let (middle, middle_view) = world.claim(1, 2, 1_000).unwrap();
    let ids = world.segment_ids();
    assert_eq!((early.segments.clone(), middle.segments.clone()), (ids[..2].to_vec(), ids[3..5].to_vec()));
    assert_eq!(world.archive(&middle, &middle_view), Answer::Done);
    assert_eq!(world.stored(at), [(0, 2, false), (2, 4, false), (4, 6, false), (6, 10, true), (10, 12, false)]);
    assert_eq!(world.bounds(at), [0, 0, 12, 12]);
    world.control(Control::trim(vec![(at, 3)]));
    assert_eq!(world.archive(&early, &early_view), Answer::Done, "clipped to the log start");
    assert_eq!(world.stored(at), [(0, 4, true), (4, 6, false), (6, 10, true), (10, 12, false)]);
    assert_eq!(world.bounds(at), [3, 4, 12, 12]);
    assert_eq!(world.segment_ids(), [ids[2], ids[5]]);
    let (rest, view) = world.claim(0, 1, 1_000).unwrap();
    assert_eq!(world.archive(&rest, &view), Answer::Done);
    assert_eq!(world.bounds(at), [3, 10, 12, 12], "archived below 10 without a gap now");
    assert_eq!(world.state.files_of(at.topic, None).count(), 3);
    assert_eq!(world.archive(&rest, &view), Answer::Rejected(Rejection::StaleJob), "done already");
}

#[test]
fn an_archive_that_is_not_exactly_what_is_live_is_declined() {
    let (mut world, at) = flushed(4);
    world.append(TopicPartition::new(at.topic, 1), 2);
    world.flush();
    let (job, view) = world.claim(1, 10, 1_000).unwrap();
    world.archive(&job, &view);
    let Some(crate::model::LoggedCommand { command: crate::model::Command::Control(good), .. }) = world.log.pop()
    else {
        panic!("an archive was the last command")
    };
    // The same claim once more, on a shard where it was not archived yet.
    let (mut world, _) = flushed(4);
    world.append(TopicPartition::new(at.topic, 1), 2);
    world.flush();
    let (_, _) = world.claim(1, 10, 1_000).unwrap();
    for change in 0..7 {
        let mut archived = good.clone();
        if let Control::Archived { job, files, ranges } = &mut archived {
            match change {
                0 => *job = NO_JOB,
                1 => drop(ranges.pop()),
                2 => ranges[0].start += 1,
                3 => ranges[0].end -= 1,
                4 => files[0].topic = crate::model::TopicId(uuid::Uuid::nil()),
                5 => ranges[0].start -= 1,
                _ => ranges.push(ranges[0]),
            }
        }
        assert_eq!(world.control(archived), Answer::Rejected(Rejection::StaleJob), "change {change}");
    }
    assert_eq!(world.control(good), Answer::Done);
}

#[test]
fn a_claim_holds_until_its_deadline() {
    let (mut world, at) = flushed(3);
    let (job, view) = world.claim(0, 2, 100).unwrap();
    let ids = world.segment_ids();
    let overlap = Control::ClaimArchive { worker: "x".into(), hold_ms: u64::MAX, segments: ids[1..].to_vec() };
    assert_eq!(world.control(overlap.clone()), Answer::Rejected(Rejection::StaleJob));
    world.time += 100;
    assert_eq!(world.control(Control::ExtendArchive { job: job.id, hold_ms: 50 }), Answer::Job(job.id));
    world.time += 50;
    assert_eq!(world.control(overlap.clone()), Answer::Rejected(Rejection::StaleJob), "the last moment");
    world.time += 1;
    let late = world.control(Control::ExtendArchive { job: job.id, hold_ms: 50 });
    assert_eq!(late, Answer::Rejected(Rejection::StaleJob));
    assert_eq!(world.archive(&job, &view), Answer::Rejected(Rejection::StaleJob));
    let Answer::Job(second) = world.control(overlap.clone()) else { panic!("free again") };
    assert!(second > job.id && world.state.jobs().count() == 1);
    assert_eq!(world.control(Control::AbandonArchive { job: second }), Answer::Done);
    assert!(matches!(world.control(overlap), Answer::Job(_)), "given back");
    assert_eq!(world.bounds(at), [0, 0, 6, 6]);
}

/// A node whose clock is a year ahead may make a claim, and must not hold what it claimed for a year.
#[test]
fn a_claim_ends_by_the_log_s_time_whatever_the_clock_of_whoever_made_it() {
    let (mut world, _) = flushed(2);
    let (job, _) = world.claim(0, 1, 100).unwrap();
    assert_eq!(job.deadline, world.state.log_time() + 100);
    world.time += 40;
    assert_eq!(world.control(Control::ExtendArchive { job: job.id, hold_ms: 100 }), Answer::Job(job.id));
    assert_eq!(world.state.job(job.id).unwrap().deadline, job.deadline + 40);
    let (longest, _) = world.claim(0, 1, u64::MAX).unwrap();
    assert_eq!(longest.deadline, u64::MAX, "no overflow");
}

#[test]
fn nothing_condemned_becomes_live_and_what_is_live_stays() {
    let (mut world, at) = flushed(2);
    let (job, view) = world.claim(0, 1, 10_000).unwrap();
    world.append(at, 1);
    let cut = world.cut(1);
    world.time += 1_000;
    world.control(Control::Condemn { floor: ObjectId::floor(world.time) });
    world.control(Control::Condemn { floor: ObjectId(0) });
    assert_eq!(world.state.condemned(), ObjectId::floor(world.time), "a floor only rises");
    assert_eq!(world.commit(cut), Answer::Rejected(Rejection::Condemned));
    assert_eq!(world.segment_ids().len(), 2);
    world.time -= 500;
    assert_eq!(world.archive(&job, &view), Answer::Rejected(Rejection::Condemned));
    world.time += 500;
    assert_eq!(world.archive(&job, &view), Answer::Done, "written anew above the floor");
    assert_eq!(world.flush(), Answer::Done);
}

#[test]
fn log_time_never_runs_backwards() {
    let (mut world, at) = setup();
    world.time += 1_000;
    world.control(Control::Tick);
    let newest = world.time;
    world.time -= 500;
    world.append(at, 1);
    assert_eq!(world.state.log_time(), newest);
    assert_eq!(world.state.partition(at).unwrap().tail()[0].append_time, newest);
}

#[test]
fn a_checkpoint_is_only_made_of_its_own_view() {
    let (mut world, at) = setup();
    world.append(at, 1);
    let good = world.cut(1).flushed;
    assert!(world.state.checkpoint(&good).is_ok());
    assert!(world.state.checkpoint(&Control::Tick).is_err());
    let mut other = good.clone();
    if let Control::Flushed { checkpoint, .. } = &mut other {
        *checkpoint = CheckpointRef { index: 1, ..*checkpoint };
    }
    assert!(world.state.checkpoint(&other).is_err());
    world.append(at, 1);
    assert!(world.state.checkpoint(&good).is_err(), "the view moved on");
}
