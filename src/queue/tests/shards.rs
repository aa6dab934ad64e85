//! Several shards: partitions, leaderships and members over them, and everything that a request has to do in more than one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;

use super::super::SettingsPatch;
use super::group::{Group, until};
use super::*;
use crate::error::Outcome;
use crate::model::{NodeId, ShardId, Topic};

fn three(dir: &Path) -> Config {
    let mut config = config(dir);
    config.cluster.shards = Some(3);
    config.validate().unwrap();
    config
}

async fn open_three(dir: &Path) -> Queue {
    Queue::open(Options { config: three(dir), clock: Clock::system(), restore: false }).await.unwrap()
}

fn with(partitions: u32) -> TopicSettings {
    TopicSettings { partitions, archive_after_ms: 0, ..TopicSettings::default() }
}

async fn create(queue: &Queue, name: &str, partitions: u32) -> Arc<Topic> {
    queue.create_topic(name, with(partitions), NamedSettings::default()).await.unwrap().0.topic
}

/// One record for each of `partitions`, in one request.
fn spread(topic: &str, partitions: u32, value: &str) -> ProduceRequest {
    let record = |partition| {
        let value = Some(bytes::Bytes::from(format!("{value}-{partition}")));
        (Some(partition), Record { timestamp: 1_700_000_000_000, value, ..Record::default() })
    };
    let payload = Payload::Records((0..partitions).map(record).collect());
    ProduceRequest { topic: topic.to_owned(), partition: None, payload, ..request(&[], Acks::Quorum) }
}

async fn written(queue: &Queue, request: ProduceRequest) -> Produced {
    let produced = queue.produce(request).await.unwrap();
    assert!(produced.failures.is_empty(), "{:?}", produced.failures);
    assert!(produced.flush_failure.is_none(), "{:?}", produced.flush_failure);
    produced
}

/// All values of a topic, by partition.
async fn read(queue: &Queue, topic: &str, partitions: u32) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for partition in 0..partitions {
        let request = FetchRequest {
            topic: topic.to_owned(),
            topic_id: None,
            partition,
            from: FetchFrom::Earliest,
            end: None,
            max_records: 1_000,
            max_bytes: 1 << 20,
            wait: Duration::ZERO,
        };
        found.push(values(&records(&queue.fetch(request).await.unwrap()).unwrap()));
    }
    found
}

fn shards_of(queue: &Queue, topic: &Topic) -> Vec<ShardId> {
    (0..topic.settings.partitions).map(|partition| queue.shard_of(topic, partition).unwrap().id()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_with_three_shards_serves_them_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open_three(dir.path()).await;
    assert!(queue.is_ready() && queue.is_sole_voter());
    assert_eq!(queue.status().shards.len(), 3);
    let topic = create(&queue, "t", 7).await;
    let places = shards_of(&queue, &topic);
    assert_eq!(places, [0, 0, 0, 1, 1, 2, 2].map(ShardId), "one stretch each");
    let (first, second) = (spread("t", 7, "a"), spread("t", 7, "b"));
    for request in [first, second] {
        let produced = written(&queue, request).await;
        assert_eq!(produced.records.len(), 7);
    }
    let expected: Vec<Vec<String>> =
        (0..7).map(|partition| vec![format!("a-{partition}"), format!("b-{partition}")]).collect();
    assert_eq!(read(&queue, "t", 7).await, expected);
    let described = queue.describe_topic("t", None).await.unwrap();
    assert!(described.partitions.iter().all(|bounds| bounds.high_watermark == 2));
    assert!(described.leaders.iter().all(Option::is_some));

    // In the bucket, whichever shard it is of.
    written(&queue, ProduceRequest { acks: Acks::Object, ..spread("t", 7, "c") }).await;
    let progress = queue.flush_topic("t", None, false, LONG).await.unwrap();
    assert!(progress.done && progress.targets.iter().all(|target| *target == 3));
    let described = queue.describe_topic("t", None).await.unwrap();
    assert!(described.partitions.iter().all(|bounds| bounds.flushed == 3), "{described:?}");

    // A job of each shard.
    let jobs = queue.archive_jobs();
    let mut claimed = BTreeSet::new();
    while let Some(job) = jobs.claim("w").await.unwrap() {
        claimed.insert(job.job.shard);
        jobs.extend(job.job).await.unwrap();
    }
    assert_eq!(claimed.len(), 3);
    jobs.release("w").await.unwrap();
    let listing = queue.archive_files("t", None, "", 10, None).await.unwrap();
    assert_eq!(listing.archived, vec![(0, 0); 7]);

    queue.shutdown().await;
    drop(queue);
    let queue = open_three(dir.path()).await;
    let all = read(&queue, "t", 7).await;
    assert!(all.iter().all(|values| values.len() == 3), "{all:?}");

    // A clean stop, and the bucket alone.
    queue.close().await.unwrap();
    queue.shutdown().await;
    drop(queue);
    std::fs::remove_dir_all(dir.path().join("wal")).unwrap();
    let queue = open_three(dir.path()).await;
    assert_eq!(queue.status().incarnation, 2);
    assert_eq!(read(&queue, "t", 7).await, all);
    until("topics change again", || async { queue.create_topic("u", with(3), NamedSettings::default()).await.ok() })
        .await;
    written(&queue, spread("t", 7, "d")).await;
    queue.shutdown().await;
    drop(queue);

    // One of the logs is gone: it is not taken for a new one.
    std::fs::remove_dir_all(dir.path().join("wal/shard-00002")).unwrap();
    let lost = Queue::open(Options { config: three(dir.path()), clock: Clock::system(), restore: false }).await;
    assert_eq!(lost.unwrap_err().code(), "corrupt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_with_a_record_of_any_shard_and_with_a_change_of_the_topic() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open_three(dir.path()).await;
    let waits = |topic: &Topic| {
        let (queue, id) = (queue.clone(), topic.id);
        let positions: Vec<(u32, u64)> = (0..3).map(|partition| (partition, 0)).collect();
        tokio::spawn(async move { queue.wait_for_data(id, &positions, 3, LONG).await })
    };
    let begun = std::time::Instant::now();
    for partition in 0..3 {
        let name = format!("t-{partition}");
        let topic = create(&queue, &name, 3).await;
        let wait = waits(&topic);
        let request = ProduceRequest { topic: name, partition: Some(partition), ..request(&["x"], Acks::Quorum) };
        written(&queue, request).await;
        wait.await.unwrap().unwrap();
    }
    let topic = create(&queue, "t", 3).await;
    let wait = waits(&topic);
    queue.delete_topic("t", None).await.unwrap();
    assert_eq!(queue.describe_topic("t", None).await.unwrap_err().code(), "topic_not_found");
    wait.await.unwrap().unwrap();
    assert!(begun.elapsed() < LONG, "none of them waited for its end");
    queue.undelete_topic("t").await.unwrap();
    queue.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_grow_over_shards_and_a_retry_under_a_key_meets_its_partitions() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open_three(dir.path()).await;
    create(&queue, "t", 3).await;
    let keyed = || {
        let record = |number: u32| {
            let key = Some(bytes::Bytes::from(format!("key-{number}")));
            (None, Record { timestamp: 1_700_000_000_000, key, value: Some("v".into()), ..Record::default() })
        };
        ProduceRequest {
            partition: None,
            payload: Payload::Records((0..30).map(record).collect()),
            idempotency_key: Some("k".to_owned()),
            ..request(&[], Acks::Quorum)
        }
    };
    let first = written(&queue, keyed()).await;
    assert!(!first.duplicate);
    let patch = SettingsPatch { partitions: Some(8), rekey: true, ..SettingsPatch::default() };
    let grown = queue.alter_topic("t", None, patch).await.unwrap();
    assert_eq!((grown.topic.settings.partitions, grown.partitions.len()), (8, 8));
    let places: BTreeMap<ShardId, usize> =
        shards_of(&queue, &grown.topic).into_iter().fold(BTreeMap::new(), |mut all, shard| {
            *all.entry(shard).or_default() += 1;
            all
        });
    assert!(places.values().all(|count| (2..=3).contains(count)), "{places:?}");
    let again = written(&queue, keyed()).await;
    assert!(again.duplicate);
    assert_eq!(again.records, first.records);
    let count: usize = read(&queue, "t", 8).await.iter().map(Vec::len).sum();
    assert_eq!(count, 30);
    // What a producer did is remembered where it did it.
    let (id, epoch) = queue.register_producer(None).await.unwrap();
    for partition in [0, 7] {
        let triple = Some(crate::model::Triple { id, epoch, sequence: 0 });
        written(&queue, ProduceRequest { partition: Some(partition), triple, ..request(&["p"], Acks::Quorum) }).await;
    }
    let positions = queue.producer_positions(id, "t", None).await.unwrap();
    assert_eq!(positions.iter().map(|position| position.partition).collect::<Vec<_>>(), [0, 7]);
    queue.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_not_applied_here_yet_is_not_taken_for_visible() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open_three(dir.path()).await;
    let topic = create(&queue, "t", 3).await;
    let applied = *queue.leader().applied().borrow();
    let tell = |changed, within| queue.0.shards.tell(topic.id, changed, Instant::now() + within);
    tell(applied, LONG).await.unwrap();
    // The leader has applied it, and this node is behind.
    let error = tell(u64::MAX, Duration::from_millis(200)).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), ("timeout", Outcome::Unknown));
    queue.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_are_added_and_new_partitions_go_there() {
    let dir = tempfile::tempdir().unwrap();
    let shards = |count: Option<u32>| {
        let mut config = config(dir.path());
        config.cluster.shards = count;
        Queue::open(Options { config, clock: Clock::system(), restore: false })
    };
    // A cluster of one has one, which has everything.
    let queue = shards(None).await.unwrap();
    let old = create(&queue, "old", 4).await;
    written(&queue, spread("old", 4, "a")).await;
    assert_eq!(queue.status().shards.len(), 1);
    queue.shutdown().await;
    drop(queue);
    let queue = shards(Some(3)).await.unwrap();
    assert_eq!(shards_of(&queue, &old), [ShardId(0); 4]);
    let new = create(&queue, "new", 6).await;
    let places: BTreeSet<ShardId> = shards_of(&queue, &new).into_iter().collect();
    assert_eq!(places, [1, 2].map(ShardId).into());
    let patch = SettingsPatch { partitions: Some(9), rekey: true, ..SettingsPatch::default() };
    let old = queue.alter_topic("old", None, patch).await.unwrap().topic;
    assert!(shards_of(&queue, &old)[4..].iter().any(|shard| *shard != ShardId(0)));
    written(&queue, spread("old", 9, "b")).await;
    written(&queue, spread("new", 6, "b")).await;
    queue.shutdown().await;
    drop(queue);
    // There are never less, whatever the settings say.
    let queue = shards(Some(1)).await.unwrap();
    assert_eq!(queue.status().shards.len(), 3);
    let counts: Vec<usize> = read(&queue, "old", 9).await.iter().map(Vec::len).collect();
    assert_eq!(counts, [2, 2, 2, 2, 1, 1, 1, 1, 1]);
    queue.close().await.unwrap();
}

/// Who leads each shard, once all nodes that run agree on it.
async fn leaders(group: &Group) -> Vec<u64> {
    let agreed = || async {
        let seen = group.queues.values().map(|queue| {
            let leaders = queue.0.shards.iter().map(|shard| shard.leader().node().status().leader);
            leaders.collect::<Option<Vec<_>>>()
        });
        let seen: Vec<Vec<NodeId>> = seen.collect::<Option<_>>()?;
        let same = seen[0].len() == 3 && seen.iter().all(|leaders| *leaders == seen[0]);
        same.then(|| seen[0].iter().map(|leader| leader.0).collect())
    };
    until("the nodes agree on the leaders", agreed).await
}

async fn led_by(group: &Group, wanted: [u64; 3]) {
    until("the leaderships are where they belong", || async { (leaders(group).await == wanted).then_some(()) }).await;
}

async fn started(balance_after: Duration) -> Group {
    let mut group = Group::new(3);
    group.balance_after = balance_after;
    group.open_all().await;
    group.ready().await;
    assert!(group.queues.values().all(|queue| queue.status().shards.len() == 3));
    group
}

#[tokio::test(flavor = "multi_thread")]
async fn leaderships_are_spread_move_with_a_failure_and_come_back() {
    let mut group = started(Duration::from_millis(300)).await;
    led_by(&group, [1, 2, 3]).await;
    let topic = create(group.queue(2), "t", 6).await;
    for queue in group.queues.values() {
        written(queue, spread("t", 6, "a")).await;
        let described = queue.describe_topic("t", None).await.unwrap();
        assert_eq!(described.topic.id, topic.id);
        assert_eq!(described.leaders, [1, 1, 2, 2, 3, 3].map(|node| Some(NodeId(node))));
    }
    group.stop(2).await;
    written(group.queue(1), spread("t", 6, "b")).await;
    let without = leaders(&group).await;
    assert!((without[0], without[2]) == (1, 3) && without[1] != 2, "{without:?}");
    group.open(2).await;
    led_by(&group, [1, 2, 3]).await;
    // One that is about to end gets nothing back.
    group.queue(3).drain().await.unwrap();
    assert_ne!(leaders(&group).await[2], 3);
    let profile = group.queue(3).0.shards.zero().known();
    assert_eq!(profile.members.len(), 3);
    let cluster = group.queue(1).cluster().await.unwrap();
    assert_eq!(cluster.shards.len(), 3);
    assert_eq!(cluster.profiles.iter().map(|profile| profile.node.0).collect::<Vec<_>>(), [1, 2, 3]);
    group.same_states().await;
    for node in 1..=3 {
        let read = read(group.queue(node), "t", 6).await;
        assert!(read.iter().all(|values| values.len() == 4), "node {node}: {read:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_is_given_up_leaves_the_node_ready_to_lead() {
    let mut group = started(Duration::from_millis(300)).await;
    led_by(&group, [1, 2, 3]).await;
    for other in [1, 2] {
        group.stop(other).await;
    }
    // Nobody is there to take the leadership over.
    assert!(tokio::time::timeout(Duration::from_millis(100), group.queue(3).drain()).await.is_err());
    for other in [1, 2] {
        group.open(other).await;
    }
    group.ready().await;
    leaders(&group).await;
    group.queue(3).transfer_leader(Some(NodeId(1))).await.unwrap();
    led_by(&group, [1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_shards_have_the_same_members_whatever_is_done_to_them() {
    let mut group = started(Duration::ZERO).await;
    create(group.queue(1), "t", 3).await;
    let voters = |group: &Group| {
        let queue = group.queues.values().next().unwrap().clone();
        async move {
            let cluster = queue.cluster().await.unwrap();
            let of = |shard: &crate::model::GroupStatus| -> Vec<u64> {
                shard.members.iter().filter(|member| member.voter).map(|member| member.node.0).collect()
            };
            let all: Vec<Vec<u64>> = cluster.shards.iter().map(of).collect();
            assert_eq!(all.len(), 3);
            assert!(all.iter().all(|voters| *voters == all[0]), "{all:?}");
            all[0].clone()
        }
    };
    group.listen(4);
    group.open(4).await;
    for _ in 0..2 {
        group.add(2, 4).await.unwrap();
    }
    assert_eq!(voters(&group).await, [1, 2, 3, 4]);
    written(group.queue(4), spread("t", 3, "a")).await;
    // Whatever it leads goes to others first.
    group.queue(3).transfer_leader(Some(NodeId(1))).await.unwrap();
    assert_eq!(leaders(&group).await, [1, 1, 1]);
    for _ in 0..2 {
        group.queue(2).remove_node(NodeId(1)).await.unwrap();
    }
    group.stop(1).await;
    assert_eq!(voters(&group).await, [2, 3, 4]);
    group.stop(2).await;
    group.listen(5);
    group.open(5).await;
    let address = group.address(5);
    group.queue(3).replace_node(NodeId(2), NodeId(5), address).await.unwrap();
    assert_eq!(voters(&group).await, [3, 4, 5]);
    written(group.queue(5), spread("t", 3, "b")).await;
    let read = read(group.queue(4), "t", 3).await;
    assert!(read.iter().all(|values| values.len() == 2), "{read:?}");
    group.same_states().await;

    // A change that broke off after the first shard: its leader goes on.
    let zero = group.queue(leaders(&group).await[0]).0.shards.zero().leader().local().unwrap().clone();
    let gone = if zero.id() == NodeId(3) { NodeId(4) } else { NodeId(3) };
    let left = [3, 4, 5].map(NodeId).into_iter().filter(|node| *node != gone).collect();
    zero.set_voters(left).await.unwrap();
    until("every shard has the members of the first", || async {
        let cluster = group.queue(zero.id().0).cluster().await.unwrap();
        cluster.shards.iter().all(|shard| shard.members.len() == 2).then_some(())
    })
    .await;
}
