//! What leaves the log by age and by size, and what outlives it in the archive.

use super::super::retention::{self, Rise};
use super::{DAY, HOUR, collector, is_whole, listed};
use crate::checkpoints::tests::Shard;
use crate::model::{Control, LogStart, Offset, TopicPartition, TopicSettings};
use crate::store::Bucket;
use crate::store::keys::Key;

const MINUTE: u64 = 60_000;

/// What retention plans at `now`: partition, log start and archive start.
fn plan(shard: &Shard, now: u64) -> Vec<(TopicPartition, Offset, Offset)> {
    let state = shard.state();
    let plan = retention::plan(&state, now, usize::MAX).map(|rise| rise.start);
    plan.map(|LogStart { partition, log_start, archive_start }| (partition, log_start, archive_start)).collect()
}

/// Plans now and applies it; `true` if there was something to do.
fn retain(shard: &Shard) -> bool {
    retain_at_most(shard, usize::MAX) && {
        let left = retention::plan(&shard.state(), shard.time(), usize::MAX).count();
        assert_eq!(left, 0, "what was planned is not planned again");
        true
    }
}

/// The same, with so many ranges passed in each partition at most.
fn retain_at_most(shard: &Shard, ranges: usize) -> bool {
    let rises: Vec<Rise> = retention::plan(&shard.state(), shard.time(), ranges).collect();
    assert!(rises.iter().all(|rise| (1..=ranges.saturating_mul(2)).contains(&rise.ranges)), "{rises:?}");
    let starts: Vec<LogStart> = rises.iter().map(|rise| rise.start).collect();
    let is_due = !starts.is_empty();
    shard.control(Control::Trim { starts });
    is_due
}

/// Log start, archive start and archived offset.
fn starts(shard: &Shard, partition: TopicPartition) -> (Offset, Offset, Offset) {
    let state = shard.state();
    let partition = state.partition(partition).unwrap();
    (partition.bounds().log_start, partition.archive_start(), partition.bounds().archived)
}

#[tokio::test]
async fn retention_trims_whole_ranges_by_age_and_size() {
    let shard = Shard::new(Bucket::memory()).await;
    let by_age = shard.create("age", TopicSettings { retention_ms: Some(HOUR), ..TopicSettings::default() });
    let by_size = shard.create("size", TopicSettings { retention_bytes: Some(15_000), ..TopicSettings::default() });
    let for_ever = shard.create("ever", TopicSettings::default());
    let first = |topic| TopicPartition::new(topic, 0);
    for _ in 0..4 {
        for topic in [by_age, by_size, for_ever] {
            shard.append(first(topic), 10);
        }
        shard.flush(true).await;
        shard.advance(HOUR / 2);
    }
    // Appended two hours, 90 and 60 minutes ago, and half an hour ago; some 5.6 kB each.
    assert_eq!(plan(&shard, shard.time()), [(first(by_age), 20, 20), (first(by_size), 10, 10)]);
    assert!(retain(&shard));
    assert_eq!(plan(&shard, shard.time() + DAY), [(first(by_age), 40, 40)]);
}

#[tokio::test]
async fn a_shorter_retention_takes_effect_over_several_runs_of_bounded_cost() {
    let shard = Shard::new(Bucket::memory()).await;
    let settings = TopicSettings { retention_ms: Some(HOUR), ..TopicSettings::default() };
    let at = TopicPartition::new(shard.create("t", settings), 0);
    for _ in 0..5 {
        shard.append(at, 10);
        shard.flush(true).await;
    }
    shard.advance(2 * HOUR);
    let mut seen = Vec::new();
    while retain_at_most(&shard, 2) {
        seen.push(starts(&shard, at).0);
    }
    assert_eq!(seen, [20, 40, 50]);
}

#[tokio::test]
async fn size_counts_segments_and_archive_alike() {
    let shard = Shard::new(Bucket::memory()).await;
    let settings = TopicSettings { retention_bytes: Some(12_000), ..TopicSettings::default() };
    let at = TopicPartition::new(shard.create("size", settings), 0);
    for round in 0..6 {
        shard.append(at, 10);
        shard.flush(true).await;
        if round < 4 {
            // A file for each segment, so that there is a range for each.
            shard.archive(at.topic).await;
        }
    }
    let state = shard.state();
    let partition = state.partition(at).unwrap();
    let bytes: Vec<u64> = partition.ranges().iter().map(|range| range.bytes).collect();
    assert_eq!((bytes.len(), state.file_count(), state.segment_count()), (6, 4, 2));
    assert_eq!(partition.stored_bytes(), bytes.iter().sum::<u64>());
    // The newest ranges that are at least the retention together, in either kind of object.
    let mut kept = 6;
    while bytes[kept..].iter().sum::<u64>() < 12_000 {
        kept -= 1;
    }
    assert!((1..4).contains(&kept), "the bound is among the files: {bytes:?}");
    assert_eq!(plan(&shard, shard.time()), [(at, kept as u64 * 10, kept as u64 * 10)]);
    assert!(retain(&shard));
    assert_eq!(shard.state().file_count(), 4 - kept);
    assert_eq!(shard.state().partition(at).unwrap().stored_bytes(), bytes[kept..].iter().sum::<u64>());
}

/// A topic whose log keeps an hour and whose archive keeps two days.
fn outliving() -> TopicSettings {
    TopicSettings { retention_ms: Some(HOUR), archive_retention_ms: Some(2 * DAY), ..TopicSettings::default() }
}

#[tokio::test]
async fn archive_files_outlive_the_log_and_go_in_their_time() {
    let shard = Shard::new(Bucket::memory()).await;
    let at = TopicPartition::new(shard.create("t", outliving()), 0);
    let mut files = Vec::new();
    for _ in 0..2 {
        shard.append(at, 10);
        shard.flush(true).await;
        files.push(shard.archive(at.topic).await.to_string());
        shard.advance(10 * MINUTE);
    }
    shard.append(at, 10);
    shard.flush(true).await;
    assert!(!retain(&shard), "all of it is young");
    shard.advance(55 * MINUTE);
    assert!(retain(&shard));
    assert_eq!(starts(&shard, at), (20, 0, 20));
    assert_eq!(shard.state().partition(at).unwrap().ranges().iter().map(|range| range.start).min(), Some(0));

    // For hours checkpoints come and go, and the files stay, since they are named.
    for _ in 0..30 {
        shard.advance(HOUR);
        shard.append(at, 1);
        shard.flush(true).await;
        collector(&shard).run(&shard).await.unwrap();
        assert!(files.iter().all(|file| shard_has(&shard, file)), "{files:?}");
    }
    assert!(is_whole(&shard).await);
    let left = listed(&shard.bucket).await;
    assert!(files.iter().all(|file| left.contains(file)));

    // Two days after the append of the first: it goes, and a week later out of the bucket too.
    shard.advance(16 * HOUR + 50 * MINUTE);
    assert!(retain(&shard));
    assert_eq!(starts(&shard, at), (20, 10, 20), "what is not archived waits in the log");
    assert!(!shard_has(&shard, &files[0]) && shard_has(&shard, &files[1]));
    for _ in 0..16 {
        shard.advance(DAY / 2);
        shard.append(at, 1);
        shard.flush(true).await;
    }
    collector(&shard).run(&shard).await.unwrap();
    let left = listed(&shard.bucket).await;
    assert!(!left.contains(&files[0]) && left.contains(&files[1]));
    assert!(is_whole(&shard).await);
}

fn shard_has(shard: &Shard, file: &str) -> bool {
    let id = Key::parse(file).and_then(|key| key.object_id());
    shard.state().files().any(|live| Some(live.file.id) == id)
}

#[tokio::test]
async fn what_is_not_archived_yet_waits_unless_the_archive_would_not_keep_it_either() {
    let shard = Shard::new(Bucket::memory()).await;
    let at = TopicPartition::new(shard.create("t", outliving()), 0);
    for _ in 0..3 {
        shard.append(at, 10);
        shard.flush(true).await;
        shard.advance(MINUTE);
    }
    shard.advance(2 * HOUR);
    assert!(!retain(&shard), "nobody converts");
    shard.archive(at.topic).await;
    assert!(retain(&shard));
    assert_eq!(starts(&shard, at), (30, 0, 30));
    shard.append(at, 10);
    shard.flush(true).await;
    shard.advance(3 * DAY);
    assert_eq!(plan(&shard, shard.time()), [(at, 40, 40)], "nobody converts for three days");
    assert!(retain(&shard));
    assert_eq!(starts(&shard, at), (40, 40, 40));
    assert_eq!((shard.state().file_count(), shard.state().segment_count()), (0, 0));
}

#[tokio::test]
async fn the_archive_goes_with_the_log_again_when_the_setting_is_taken_away() {
    let shard = Shard::new(Bucket::memory()).await;
    let at = TopicPartition::new(shard.create("t", outliving()), 0);
    shard.append(at, 10);
    shard.flush(true).await;
    shard.archive(at.topic).await;
    shard.advance(2 * HOUR);
    assert!(retain(&shard));
    assert_eq!((starts(&shard, at), shard.state().file_count()), ((10, 0, 10), 1));
    let settings = TopicSettings::default();
    shard.control(Control::AlterTopic { id: at.topic, expected: outliving(), settings });
    assert!(retain(&shard), "though nothing leaves the log any more");
    assert_eq!((starts(&shard, at), shard.state().file_count()), ((10, 10, 10), 0));
}
