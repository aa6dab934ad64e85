//! Checkpoints whose catalog contradicts itself are refused: nothing of a checkpoint is trusted.

use super::super::RestoreError;
use super::cluster::Cluster;
use super::world::World;
use crate::model::catalog::Visible;
use crate::model::checkpoint::{Extent, TopicRecord};
use crate::model::{Checkpoint, NodeId, PlacementRun, ShardId};

/// What is done to a checkpoint, and what is wrong with it then.
type Damage = (&'static str, fn(&mut Checkpoint));

/// The world of shard 0 and that of shard 1, each with a checkpoint; two topics of both shards, one of them not visible yet.
fn worlds() -> (World, World) {
    let mut cluster = Cluster::new(2);
    cluster.create("known", 5);
    cluster.converge();
    cluster.create("wanted", 4);
    cluster.worlds.iter_mut().for_each(|world| drop(world.flush()));
    let mut worlds = cluster.worlds.into_iter();
    (worlds.next().unwrap(), worlds.next().unwrap())
}

fn topic<'a>(checkpoint: &'a mut Checkpoint, name: &str) -> &'a mut TopicRecord {
    checkpoint.topics.iter_mut().find(|record| record.topic.name == name).unwrap()
}

fn runs(checkpoint: &mut Checkpoint) -> &mut Vec<PlacementRun> {
    &mut topic(checkpoint, "known").placed.as_mut().unwrap().runs
}

fn first_extent(checkpoint: &mut Checkpoint) -> &mut Extent {
    &mut topic(checkpoint, "known").extents[0]
}

fn check(world: &World, damages: &[Damage]) {
    let whole = world.newest_checkpoint();
    assert_eq!(world.restore_from(whole.clone()).unwrap().hash(), world.state.hash());
    for (what, damage) in damages {
        let mut checkpoint = whole.clone();
        damage(&mut checkpoint);
        let refused = world.restore_from(checkpoint);
        assert!(matches!(refused, Err(RestoreError::Contradiction(_))), "{what}: {refused:?}");
    }
}

#[test]
fn a_catalog_that_contradicts_itself_is_refused() {
    let (zero, _) = worlds();
    check(
        &zero,
        &[
            ("too many shards", |checkpoint| checkpoint.founders = vec![NodeId(1); 65]),
            ("a shard less than partitions are in", |checkpoint| checkpoint.founders.truncate(1)),
            ("no first run", |checkpoint| runs(checkpoint)[0].first = 1),
            ("no run at all", |checkpoint| runs(checkpoint).clear()),
            ("a run twice", |checkpoint| {
                let run = runs(checkpoint)[1];
                runs(checkpoint).push(run);
            }),
            ("a run after the last partition", |checkpoint| {
                runs(checkpoint).push(PlacementRun { first: 5, shard: ShardId(0) });
            }),
            ("a longer run than there are partitions here", |checkpoint| runs(checkpoint)[1].first += 1),
            ("a shorter run than there are partitions here", |checkpoint| runs(checkpoint)[1].first -= 1),
            ("partitions of another shard", |checkpoint| runs(checkpoint)[0].shard = ShardId(1)),
            ("not all partitions of a topic that is here alone", |checkpoint| topic(checkpoint, "known").placed = None),
            ("no extent", |checkpoint| topic(checkpoint, "known").extents.clear()),
            ("an extent at another place", |checkpoint| first_extent(checkpoint).first = 2),
            ("an empty extent", |checkpoint| first_extent(checkpoint).count = 0),
            ("an extent without end", |checkpoint| first_extent(checkpoint).count = u32::MAX),
            ("slots without end", |checkpoint| first_extent(checkpoint).slot = u32::MAX),
            ("slots that nobody got", |checkpoint| checkpoint.next_slot = 1),
            ("the same slots twice", |checkpoint| {
                let slot = topic(checkpoint, "wanted").extents[0].slot;
                first_extent(checkpoint).slot = slot;
            }),
            ("a name twice", |checkpoint| topic(checkpoint, "wanted").topic.name = "known".into()),
            ("another topic to be seen", |checkpoint| {
                let other = topic(checkpoint, "known").topic.clone();
                topic(checkpoint, "wanted").placed.as_mut().unwrap().visible = Visible::Before(Some(other));
            }),
            ("more to be seen than there is", |checkpoint| {
                let record = topic(checkpoint, "wanted");
                let mut more = record.topic.clone();
                more.settings.partitions += 1;
                record.placed.as_mut().unwrap().visible = Visible::Before(Some(more));
            }),
        ],
    );
}

#[test]
fn a_shard_that_says_it_has_the_catalog_is_refused() {
    let (zero, one) = worlds();
    let placed = topic(&mut zero.newest_checkpoint(), "known").placed.clone();
    check(&one, &[("founders", |checkpoint| checkpoint.founders = vec![NodeId(1); 2])]);
    let mut checkpoint = one.newest_checkpoint();
    topic(&mut checkpoint, "known").placed = placed;
    assert!(one.restore_from(checkpoint).is_err());
}
