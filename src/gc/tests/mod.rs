#![allow(clippy::unwrap_used, clippy::panic)]

mod retention;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;

use super::look::Place;
use super::plan::{Horizon, kept};
use super::survey::{Fate, survey};
use super::{Collector, Deleted, Extent, Log};
use crate::checkpoints::tests::{SHARD, START, Shard};
use crate::error::Result;
use crate::model::{
    Answer, CheckpointRef, Control, Incarnation, LogTime, ObjectId, Rejection, TopicId, TopicPartition, TopicSettings,
};
use crate::state::State;
use crate::store::Bucket;
use crate::store::keys::{ArchiveKey, Key};

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
    Collector::new(shard.bucket.clone(), SHARD, Extent { grace: GRACE, listed: 100_000 })
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
    let found = broken.look(Place::default(), horizon.floor(), named).await.unwrap();
    let named = broken.named(&shard.state(), horizon, &BTreeSet::new()).await.unwrap().unwrap();
    assert!(!found.objects.is_empty(), "more than checkpoints is to go");
    let deleted = broken.delete(found.checkpoints, horizon.floor(), &named).await.unwrap();
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

/// A shard with archived and trimmed segments, orphans, and checkpoints of three hours, the newest of them just now.
async fn littered() -> Shard {
    let shard = Shard::new(Bucket::memory()).await;
    let topic = shard.create("a", TopicSettings::default());
    let partition = TopicPartition::new(topic, 0);
    for round in 0..24 {
        shard.append(partition, 10);
        shard.flush(true).await;
        if round % 6 == 5 {
            shard.archive(topic).await;
        }
        if round % 8 == 7 {
            // Flushes that broke off, one of them before its checkpoint, and an archive file that no job ever named.
            shard.append(partition, 1);
            shard.flush(false).await;
            for orphan in [Key::Segment(SHARD, shard.object()), orphan(&shard, topic)] {
                shard.bucket.put(&orphan.to_string(), vec![Bytes::from_static(b"?")]).await.unwrap();
            }
        }
        shard.advance(HOUR / 8);
    }
    shard.control(Control::trim(vec![(partition, 60)]));
    shard.flush(true).await;
    shard
}

fn orphan(shard: &Shard, topic: TopicId) -> Key {
    Key::Archive(ArchiveKey {
        namespace: "default".to_owned(),
        topic: "a".to_owned(),
        topic_id: topic,
        day: 1,
        shard: SHARD,
        id: shard.object(),
    })
}

#[tokio::test]
async fn bounded_listings_go_on_where_they_ended_and_come_to_all() {
    let (whole, bounded) = (littered().await, littered().await);
    assert_eq!(listed(&whole.bucket).await, listed(&bounded.bucket).await);
    collector(&whole).run(&whole).await.unwrap();
    let left = listed(&whole.bucket).await;

    let mut collector = Collector::new(bounded.bucket.clone(), SHARD, Extent { grace: GRACE, listed: 3 });
    let (mut runs, mut most) = (0, 0);
    while listed(&bounded.bucket).await != left {
        let before = bounded.bucket.list("archive").try_collect::<Vec<_>>().await.unwrap().len();
        let segments = bounded.bucket.list("shards/00000/segments").try_collect::<Vec<_>>().await.unwrap().len();
        collector.run(&bounded).await.unwrap();
        let after = bounded.bucket.list("archive").try_collect::<Vec<_>>().await.unwrap().len()
            + bounded.bucket.list("shards/00000/segments").try_collect::<Vec<_>>().await.unwrap().len();
        most = most.max(before + segments - after);
        assert!(is_whole(&bounded).await);
        runs += 1;
        assert!(runs < 100, "some of the garbage is never looked at");
    }
    assert!(most > 0 && most <= 3 && runs > 3, "{most} at most in {runs} runs");
    for _ in 0..runs {
        assert_eq!(collector.run(&bounded).await.unwrap(), Deleted::default());
    }
}

#[tokio::test]
async fn a_cluster_that_was_replaced_deletes_nothing() {
    let shard = littered().await;
    // Another cluster was started from the bucket two hours ago; what it wrote since is nothing that this one knows of.
    let next = Key::Incarnation(Incarnation(2)).to_string();
    shard.bucket.put(&next, vec![Bytes::from_static(b"{}")]).await.unwrap();
    let theirs = Key::Segment(SHARD, ObjectId::from_parts(shard.time() - 2 * HOUR, 77)).to_string();
    shard.bucket.put(&theirs, vec![Bytes::from_static(b"theirs")]).await.unwrap();
    let before = listed(&shard.bucket).await;
    assert_eq!(collector(&shard).run(&shard).await.unwrap_err().code(), "replaced");
    assert_eq!(listed(&shard.bucket).await, before);
}

/// A shard whose leader sleeps after it proposed to condemn, while another one goes on.
struct Sleeping<'a> {
    shard: &'a Shard,
    meanwhile: tokio::sync::Mutex<Vec<CheckpointRef>>,
    topic: TopicId,
}

impl Log for Sleeping<'_> {
    fn log_time(&self) -> LogTime {
        self.shard.log_time()
    }

    fn view(&self) -> State {
        self.shard.view()
    }

    async fn pinned(&self) -> Result<BTreeSet<CheckpointRef>> {
        Ok(BTreeSet::new())
    }

    async fn condemn(&self, floor: ObjectId) -> Result<()> {
        self.shard.condemn(floor).await?;
        let mut meanwhile = self.meanwhile.lock().await;
        for _ in 0..5 {
            self.shard.advance(HOUR);
            self.shard.append(TopicPartition::new(self.topic, 0), 10);
            meanwhile.push(self.shard.flush(true).await);
        }
        self.shard.archive(self.topic).await;
        meanwhile.push(self.shard.flush(true).await);
        Ok(())
    }
}

#[tokio::test]
async fn a_leader_that_slept_for_hours_deletes_nothing_that_came_meanwhile() {
    let shard = littered().await;
    let topic = shard.state().topic_by_name("a").unwrap().id;
    let before = listed(&shard.bucket).await;
    let sleeping = Sleeping { shard: &shard, meanwhile: tokio::sync::Mutex::default(), topic };
    assert!(collector(&shard).run(&sleeping).await.unwrap().objects > 0);
    let left = listed(&shard.bucket).await;
    let fresh: Vec<_> = left.difference(&before).collect();
    let meanwhile = sleeping.meanwhile.into_inner();
    assert!(meanwhile.iter().all(|checkpoint| left.contains(&Key::Checkpoint(SHARD, *checkpoint).to_string())));
    // Five segments, an archive file, six checkpoints, and index parts.
    assert!(fresh.len() >= 12 && is_whole(&shard).await, "{fresh:#?}");
}

#[tokio::test]
async fn a_survey_tells_what_a_run_deletes_and_why() {
    let shard = littered().await;
    let before = listed(&shard.bucket).await;
    let mut told = BTreeSet::new();
    let surveys = survey(&shard.bucket, shard.time(), GRACE, |judged| {
        if judged.fate.goes() {
            told.insert(judged.object.key.clone());
        }
    });
    let surveys = surveys.await.unwrap();
    assert_eq!(listed(&shard.bucket).await, before, "a survey deletes nothing");
    let deleted = collector(&shard).run(&shard).await.unwrap();
    let left = listed(&shard.bucket).await;
    assert_eq!(told, before.difference(&left).cloned().collect());

    let [found] = surveys.as_slice() else { panic!("one shard: {surveys:?}") };
    let current = shard.state().checkpoint_ref().unwrap();
    assert_eq!(found.checkpoint, Some(Key::Checkpoint(SHARD, current).to_string()));
    assert_eq!((found.log_time_ms, found.floor_ms), (shard.time(), shard.time() - HOUR));
    let goes = found.groups.iter().filter(|group| group.deleted);
    let (objects, bytes) = goes.fold((0, 0), |sum, group| (sum.0 + group.objects, sum.1 + group.bytes));
    assert_eq!((objects, bytes), (deleted.objects, deleted.bytes));
    let of = |kind: &str, fate| found.groups.iter().find(|group| (group.kind, group.fate) == (kind, fate));
    for (kind, fate) in [
        ("checkpoint", Fate::Superseded),
        ("segment", Fate::Replaced),
        ("segment", Fate::Orphan),
        ("archive", Fate::Orphan),
        ("index", Fate::Replaced),
        ("checkpoint", Fate::Kept),
        ("segment", Fate::Live),
        ("archive", Fate::Live),
    ] {
        assert!(of(kind, fate).is_some(), "no {kind} is {fate:?}: {:#?}", found.groups);
    }
    assert!(found.groups.iter().all(|group| group.objects > 0 && group.fate.goes() == group.deleted));
    let left_bytes: u64 = found.groups.iter().filter(|group| !group.deleted).map(|group| group.objects).sum();
    assert_eq!(
        left_bytes as usize,
        left.iter().filter(|key| Key::parse(key).is_some_and(|key| key.shard().is_some())).count()
    );
}

#[tokio::test]
async fn a_survey_of_a_bucket_without_a_checkpoint_judges_nothing() {
    let shard = Shard::new(Bucket::memory()).await;
    let key = Key::Segment(SHARD, ObjectId(1)).to_string();
    shard.bucket.put(&key, vec![Bytes::from_static(b"?")]).await.unwrap();
    let surveys = survey(&shard.bucket, u64::MAX, GRACE, |judged| panic!("{judged:?}")).await.unwrap();
    assert_eq!((surveys.len(), &surveys[0].checkpoint, surveys[0].groups.len()), (1, &None, 0));
    let place = Key::BackupPlace.to_string();
    shard.bucket.put(&place, vec![Bytes::from_static(b"{}")]).await.unwrap();
    let refused = survey(&shard.bucket, u64::MAX, GRACE, |_| {}).await.unwrap_err();
    assert_eq!(refused.code(), "bucket_is_backup");
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
