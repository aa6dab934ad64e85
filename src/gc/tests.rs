#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;

use super::plan::{Horizon, kept};
use super::{Collector, Deleted, Log, retention};
use crate::checkpoints::tests::{SHARD, START, Shard};
use crate::error::Result;
use crate::model::{
    Answer, CheckpointRef, Control, Incarnation, LogTime, ObjectId, Rejection, TopicPartition, TopicSettings,
};
use crate::state::State;
use crate::store::Bucket;
use crate::store::keys::{self, Key};

const GRACE: Duration = Duration::from_secs(3_600);
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

impl Log for Shard {
    fn log_time(&self) -> LogTime {
        self.time()
    }

    fn view(&self) -> State {
        self.state()
    }

    async fn pinned(&self) -> Result<BTreeSet<CheckpointRef>> {
        Ok(BTreeSet::new())
    }

    async fn condemn(&self, floor: ObjectId) -> Result<()> {
        assert_eq!(self.control(Control::Condemn { floor }), Answer::Done);
        Ok(())
    }
}

fn collector(shard: &Shard) -> Collector {
    Collector::new(shard.bucket.clone(), SHARD, GRACE)
}

async fn listed(bucket: &Bucket) -> BTreeSet<String> {
    bucket.list("").map_ok(|listed| listed.key).try_collect().await.unwrap()
}

/// Everything that the current checkpoint names is there.
async fn is_whole(shard: &Shard) -> bool {
    let listed = listed(&shard.bucket).await;
    let ids: BTreeSet<ObjectId> = listed.iter().filter_map(|key| Key::parse(key)?.object_id()).collect();
    let state = shard.state();
    state.segments().all(|segment| ids.contains(&segment.info.id))
        && state.files().all(|file| ids.contains(&file.file.id))
        && state.index_parts().all(|part| ids.contains(&part.id))
        && state.checkpoint_ref().is_none_or(|checkpoint| ids.contains(&checkpoint.id))
}

#[tokio::test]
async fn replaced_segments_go_after_grace_and_nothing_else() {
    let shard = Shard::new(Bucket::memory()).await;
    let mut collector = collector(&shard);
    assert_eq!(collector.run(&shard).await.unwrap(), Deleted::default(), "there is no checkpoint yet");
    let topic = shard.create("a", TopicSettings::default());
    let partition = TopicPartition::new(topic, 0);
    for _ in 0..3 {
        shard.append(partition, 10);
        shard.advance(1_000);
        shard.flush(true).await;
    }
    let segments: Vec<ObjectId> = shard.state().segments().map(|segment| segment.info.id).collect();
    shard.archive(topic).await;
    shard.flush(true).await;
    shard.bucket.put("shards/00000/segments/notes.txt", vec![Bytes::new()]).await.unwrap();
    let other = Key::Segment(crate::model::ShardId(7), ObjectId(1)).to_string();
    shard.bucket.put(&other, vec![Bytes::new()]).await.unwrap();

    let before = listed(&shard.bucket).await;
    assert_eq!(collector.run(&shard).await.unwrap(), Deleted::default(), "all of it is young");
    assert_eq!(shard.state().condemned(), ObjectId(0), "a run without garbage proposes nothing");
    assert_eq!(listed(&shard.bucket).await, before);

    // Nothing happened for the grace period, then the shard goes on: the old checkpoints are still the last three.
    shard.advance(2 * HOUR);
    for _ in 0..4 {
        shard.append(partition, 10);
        shard.advance(1_000);
        shard.flush(true).await;
    }
    // What was live when the grace period began is kept: the checkpoint from before it names the archive, not the segments.
    let deleted = collector.run(&shard).await.unwrap();
    let left = listed(&shard.bucket).await;
    assert!(segments.iter().all(|id| !left.contains(&Key::Segment(SHARD, *id).to_string())), "{left:#?}");
    assert!(deleted.objects >= 3 && is_whole(&shard).await);
    assert!(left.contains("shards/00000/segments/notes.txt") && left.contains(&other) && left.contains("cluster.json"));
    assert_eq!(collector.run(&shard).await.unwrap(), Deleted::default());
}

#[tokio::test]
async fn what_was_live_within_grace_stays() {
    let shard = Shard::new(Bucket::memory()).await;
    let topic = shard.create("a", TopicSettings::default());
    let partition = TopicPartition::new(topic, 0);
    shard.append(partition, 10);
    shard.flush(true).await;
    let segment = shard.state().segments().next().unwrap().info.id;
    shard.advance(6 * HOUR);
    shard.archive(topic).await;
    // Long since replaced by many newer checkpoints, but a reader may have planned with it half an hour ago.
    for _ in 0..8 {
        shard.append(partition, 1);
        shard.advance(HOUR / 16);
        shard.flush(true).await;
    }
    collector(&shard).run(&shard).await.unwrap();
    assert!(listed(&shard.bucket).await.contains(&Key::Segment(SHARD, segment).to_string()));
    shard.advance(HOUR);
    shard.append(partition, 1);
    shard.flush(true).await;
    collector(&shard).run(&shard).await.unwrap();
    assert!(!listed(&shard.bucket).await.contains(&Key::Segment(SHARD, segment).to_string()));
    assert!(is_whole(&shard).await);
}

#[tokio::test]
async fn a_flush_that_is_too_late_is_declined_and_collected() {
    let shard = Shard::new(Bucket::memory()).await;
    let topic = shard.create("a", TopicSettings::default());
    shard.append(TopicPartition::new(topic, 0), 10);
    shard.flush(true).await;
    shard.append(TopicPartition::new(topic, 0), 10);
    let late = shard.flush(false).await;
    let previous = shard.state().flushed_index();
    shard.advance(2 * HOUR);
    collector(&shard).run(&shard).await.unwrap();
    let flushed = Control::Flushed {
        previous,
        index: late.index,
        segments: Vec::new(),
        ranges: Vec::new(),
        checkpoint: late,
        parts: Vec::new(),
    };
    assert_eq!(shard.control(flushed), Answer::Rejected(Rejection::Condemned));
    assert!(!listed(&shard.bucket).await.contains(&Key::Checkpoint(SHARD, late).to_string()));
    assert!(is_whole(&shard).await);
}

#[tokio::test]
async fn a_run_that_broke_off_leaves_checkpoints_that_can_be_started_from() {
    let shard = Shard::new(Bucket::memory()).await;
    let topic = shard.create("a", TopicSettings::default());
    for _ in 0..6 {
        shard.append(TopicPartition::new(topic, 0), 10);
        shard.advance(60_000);
        shard.flush(true).await;
    }
    shard.archive(topic).await;
    shard.flush(true).await;
    shard.advance(2 * HOUR);
    for _ in 0..4 {
        shard.append(TopicPartition::new(topic, 0), 1);
        shard.flush(true).await;
    }
    // A run up to the point where the checkpoints are gone and what they named is still there.
    let mut broken = collector(&shard);
    let horizon = Horizon { now: shard.time(), grace: GRACE };
    shard.condemn(horizon.floor()).await.unwrap();
    let named = broken.named(&shard.state(), horizon, &BTreeSet::new()).await.unwrap().unwrap();
    let deleted = broken.delete(&keys::checkpoints_of(SHARD), horizon.floor(), &named).await.unwrap();
    assert!(deleted.objects > 0);
    for checkpoint in crate::checkpoints::list(&shard.bucket, SHARD).await.unwrap() {
        let loaded = crate::checkpoints::load(&shard.bucket, SHARD, checkpoint).await.unwrap();
        assert_eq!(crate::checkpoints::first_missing(&shard.bucket, &loaded.checkpoint).await.unwrap(), None);
    }
    assert!(collector(&shard).run(&shard).await.unwrap().objects > 0);
}

/// A shard one of whose nodes would go back to `pinned`; `None` if it has not said to which.
struct Pinned<'a> {
    shard: &'a Shard,
    pinned: Option<CheckpointRef>,
}

impl Log for Pinned<'_> {
    fn log_time(&self) -> LogTime {
        self.shard.log_time()
    }

    fn view(&self) -> State {
        self.shard.view()
    }

    async fn pinned(&self) -> Result<BTreeSet<CheckpointRef>> {
        let unknown = || crate::error::Error::unavailable("node 3 has not said");
        Ok([self.pinned.ok_or_else(unknown)?].into())
    }

    async fn condemn(&self, floor: ObjectId) -> Result<()> {
        self.shard.condemn(floor).await
    }
}

#[tokio::test]
async fn what_a_node_would_go_back_to_stays_and_nothing_goes_until_it_is_known() {
    let shard = Shard::new(Bucket::memory()).await;
    let topic = shard.create("a", TopicSettings::default());
    let mut checkpoints = Vec::new();
    for _ in 0..6 {
        shard.append(TopicPartition::new(topic, 0), 10);
        shard.advance(60_000);
        checkpoints.push(shard.flush(true).await);
    }
    shard.archive(topic).await;
    shard.advance(2 * HOUR);
    for _ in 0..4 {
        shard.append(TopicPartition::new(topic, 0), 1);
        shard.flush(true).await;
    }
    let before = listed(&shard.bucket).await;
    let unknown = Pinned { shard: &shard, pinned: None };
    assert_eq!(collector(&shard).run(&unknown).await.unwrap_err().code(), "unavailable");
    assert_eq!(listed(&shard.bucket).await, before);

    let pinned = Pinned { shard: &shard, pinned: Some(checkpoints[1]) };
    assert!(collector(&shard).run(&pinned).await.unwrap().objects > 0);
    let left = crate::checkpoints::list(&shard.bucket, SHARD).await.unwrap();
    assert!(left.contains(&checkpoints[1]) && !left.contains(&checkpoints[0]) && !left.contains(&checkpoints[2]));
    let loaded = crate::checkpoints::load(&shard.bucket, SHARD, checkpoints[1]).await.unwrap();
    assert_eq!(crate::checkpoints::first_missing(&shard.bucket, &loaded.checkpoint).await.unwrap(), None);

    let moved_on = Pinned { shard: &shard, pinned: shard.state().checkpoint_ref() };
    assert!(collector(&shard).run(&moved_on).await.unwrap().objects > 0);
    assert!(!crate::checkpoints::list(&shard.bucket, SHARD).await.unwrap().contains(&checkpoints[1]));
}

#[tokio::test]
async fn an_unreadable_kept_checkpoint_stops_the_run() {
    let shard = Shard::new(Bucket::memory()).await;
    let topic = shard.create("a", TopicSettings::default());
    shard.append(TopicPartition::new(topic, 0), 10);
    let checkpoint = shard.flush(true).await;
    shard.bucket.put(&Key::Checkpoint(SHARD, checkpoint).to_string(), vec![Bytes::from_static(b"?")]).await.unwrap();
    shard.advance(2 * HOUR);
    assert_eq!(collector(&shard).run(&shard).await.unwrap_err().code(), "corrupt");
}

fn checkpoint(time: u64, index: u64) -> CheckpointRef {
    CheckpointRef { incarnation: Incarnation(1), index, id: ObjectId::from_parts(time, u128::from(index)) }
}

#[test]
fn three_newest_one_a_day_and_those_around_the_grace_period_are_kept() {
    let now = START;
    // One every ten minutes for ten days, oldest first.
    let listed: Vec<_> = (0..1_440).map(|at| checkpoint(now - 10 * DAY + at * 600_000, at)).collect();
    let current = checkpoint(now, 2_000);
    let flying = checkpoint(now, 2_001);
    let all: Vec<_> = listed.iter().copied().chain([current, flying]).collect();
    let kept = kept(&all, current, Horizon { now, grace: GRACE });
    let mut expected: BTreeSet<_> = [current, listed[1_439], listed[1_438]].into();
    // The grace period begins exactly at the checkpoint of an hour ago.
    expected.extend([listed[1_440 - 6], listed[1_440 - 7]]);
    // It is noon: the last one of each day was at 23:50, 73 checkpoints before now.
    expected.extend((0..7).map(|day| listed[1_440 - 73 - 144 * day]));
    assert_eq!(kept, expected);
    assert!(!kept.contains(&flying));
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
    let state = shard.state();
    let plan: Vec<_> = retention::plan(&state, shard.time()).collect();
    assert_eq!(plan, [(first(by_age), 20), (first(by_size), 10)]);
    shard.control(Control::Trim { starts: plan });
    assert_eq!(retention::plan(&shard.state(), shard.time()).count(), 0);
    assert_eq!(retention::plan(&shard.state(), shard.time() + DAY).collect::<Vec<_>>(), [(first(by_age), 40)]);
}
