//! Which place an empty directory of a cluster gets, with the other nodes as a table of answers.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::super::hello::Known;
use super::*;
use crate::config::Cluster;

/// The other nodes, and what this one told them.
#[derive(Default)]
struct Others {
    answers: Mutex<BTreeMap<u64, Hello>>,
    opened: Option<(NodeIdentity, bool)>,
}

impl Others {
    fn answering(hellos: impl IntoIterator<Item = Hello>) -> Self {
        let answers = hellos.into_iter().map(|hello| (hello.node.0, hello)).collect();
        Self { answers: Mutex::new(answers), opened: None }
    }
}

impl Peering for Others {
    fn open(&mut self, identity: &NodeIdentity, fresh: bool) -> Result<()> {
        assert!(self.opened.is_none(), "the peers are answered once");
        self.opened = Some((identity.clone(), fresh));
        Ok(())
    }

    async fn hello(&self, _identity: &NodeIdentity, node: &ClusterNode) -> Result<Hello> {
        let answer = self.answers.lock().unwrap().get(&node.id).cloned();
        answer.ok_or_else(|| Error::unavailable("nobody is there"))
    }

    fn address(&self, node: NodeId) -> String {
        format!("host-{node}:7072")
    }
}

fn directory(node: u64) -> Uuid {
    Uuid::from_u128(u128::from(node))
}

fn fresh(node: u64) -> Hello {
    Hello { node: NodeId(node), directory: directory(node), empty: true, members: Vec::new() }
}

fn member(node: u64) -> Hello {
    let known = |node| Known { node: NodeId(node), directory: directory(node), address: format!("host-{node}:7072") };
    Hello { empty: false, members: (1..=3).map(known).collect(), ..fresh(node) }
}

fn cluster(node_id: Option<NodeChoice>) -> Cluster {
    let nodes = (1..=3).map(|id| ClusterNode { id, address: format!("host-{id}:7072") }).collect();
    Cluster { node_id, nodes, ..Cluster::default() }
}

struct Bench {
    bucket: Bucket,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { bucket: Bucket::memory(), dir: tempfile::tempdir().unwrap() }
    }

    /// A bench whose bucket has the cluster of three already, which `dir` knows nothing of.
    async fn begun() -> Self {
        let bench = Self::new();
        let elsewhere = tempfile::tempdir().unwrap();
        let cluster = cluster(Some(NodeChoice::Id(1)));
        let mut others = Others::answering([fresh(2), fresh(3)]);
        begin(&bench.bucket, request(elsewhere.path(), &cluster), &mut others).await.unwrap();
        bench
    }

    async fn begin(&self, node: u64, others: &mut Others) -> Result<Life> {
        let cluster = cluster(Some(NodeChoice::Id(node)));
        begin(&self.bucket, request(self.dir.path(), &cluster), others).await
    }
}

fn request<'a>(wal_dir: &'a Path, cluster: &'a Cluster) -> Request<'a> {
    Request { wal_dir, restore: false, now: 1_700_000_000_000, cluster }
}

#[tokio::test]
async fn the_founder_begins_with_the_directories_of_all() {
    let bench = Bench::new();
    let mut others = Others::answering([fresh(2), fresh(3)]);
    let life = bench.begin(1, &mut others).await.unwrap();
    let Start::New(members) = life.start else { panic!("{:?}", life.start) };
    assert_eq!(members.keys().copied().collect::<Vec<_>>(), [NodeId(1), NodeId(2), NodeId(3)]);
    assert_eq!(members[&NodeId(1)].directory, life.identity.directory);
    assert_eq!(members[&NodeId(3)], crate::raft::Member { address: "host-3:7072".to_owned(), directory: directory(3) });
    assert!(matches!(&others.opened, Some((identity, true)) if *identity == life.identity));
    // It broke off before it had a log, and goes on.
    let again = bench.begin(1, &mut Others::answering([fresh(2), fresh(3)])).await.unwrap();
    assert_eq!(again.identity, life.identity);
    assert!(matches!(again.start, Start::New(again) if again == members));
}

#[tokio::test]
async fn the_founder_waits_until_all_have_answered() {
    let bench = Bench::new();
    let mut others = Others::answering([fresh(2)]);
    let waiting = tokio::time::timeout(Duration::from_millis(500), bench.begin(1, &mut others)).await;
    assert!(waiting.is_err(), "it does not begin without node 3");
    let mut all = Others::answering([fresh(2), fresh(3)]);
    assert!(matches!(bench.begin(1, &mut all).await.unwrap().start, Start::New(members) if members.len() == 3));
}

#[tokio::test]
async fn the_others_wait_for_the_founder_and_are_taken_in() {
    let bench = Bench::new();
    let waiting = tokio::time::timeout(Duration::from_millis(500), bench.begin(2, &mut Others::default())).await;
    assert!(waiting.is_err(), "there is no cluster yet");
    let bench = Bench::begun().await;
    let mut others = Others::answering([fresh(1), fresh(3)]);
    let life = bench.begin(2, &mut others).await.unwrap();
    assert!(matches!(life.start, Start::Join), "{:?}", life.start);
    assert_eq!(
        (life.identity.node, life.identity.incarnation, life.identity.opened),
        (NodeId(2), Incarnation(1), false)
    );
    let again = bench.begin(2, &mut Others::answering([fresh(1), fresh(3)])).await.unwrap();
    assert_eq!(again.identity, life.identity, "a directory that was not taken in yet stays the same");
    // The others may be slower; it opens all the same.
    let alone = Bench { bucket: bench.bucket.clone(), dir: tempfile::tempdir().unwrap() };
    assert!(matches!(alone.begin(3, &mut Others::default()).await.unwrap().start, Start::Join));
    // One that is on no list is taken in later too.
    let fourth = Bench { bucket: bench.bucket.clone(), dir: tempfile::tempdir().unwrap() };
    assert!(matches!(fourth.begin(4, &mut Others::answering([member(1)])).await.unwrap().start, Start::Join));
}

#[tokio::test]
async fn a_number_that_the_members_know_with_another_directory_is_refused() {
    let bench = Bench::begun().await;
    for node in [2, 1] {
        // The founder as well: it is not its cluster to begin.
        let mut others = Others::answering([member(node % 3 + 1), fresh((node + 1) % 3 + 1)]);
        let error = bench.begin(node, &mut others).await.unwrap_err();
        assert_eq!(error.code(), "node_identity_mismatch");
        let command = format!("tidelog admin replace-node {node} NEW host-{node}:7072");
        assert!(error.message().contains(&command), "{error}");
        assert_eq!(NodeIdentity::load(bench.dir.path()).unwrap(), None, "it can begin under another number");
    }
}

#[tokio::test]
async fn a_directory_that_was_open_and_lost_its_log_is_another_one() {
    let bench = Bench::begun().await;
    let life = bench.begin(2, &mut Others::answering([fresh(1), fresh(3)])).await.unwrap();
    let mut identity = life.identity;
    identity.opened = true;
    identity.save(bench.dir.path()).unwrap();
    let mut known = member(1);
    known.members[1].directory = identity.directory;
    let error = bench.begin(2, &mut Others::answering([known.clone()])).await.unwrap_err();
    assert_eq!(error.code(), "node_identity_mismatch");
    // As the message advises.
    let auto = cluster(Some(NodeChoice::Auto));
    let mut others = Others::answering([known]);
    let life = begin(&bench.bucket, request(bench.dir.path(), &auto), &mut others).await.unwrap();
    assert_eq!((life.identity.node, life.identity.opened), (NodeId(4), false));
    assert_ne!(life.identity.directory, identity.directory);
}

#[tokio::test]
async fn a_founder_that_finds_nobody_goes_the_way_of_the_bucket() {
    let bench = Bench::begun().await;
    for others in [vec![fresh(2), fresh(3)], vec![]] {
        let error = bench.begin(1, &mut Others::answering(others)).await.unwrap_err();
        assert_eq!(error.code(), "unclean_bucket");
    }
    let cluster = cluster(Some(NodeChoice::Id(1)));
    let restore = Request { restore: true, ..request(bench.dir.path(), &cluster) };
    let mut others = Others::answering([fresh(2), fresh(3)]);
    let life = begin(&bench.bucket, restore, &mut others).await.unwrap();
    assert_eq!((life.identity.node, life.identity.incarnation), (NodeId(1), Incarnation(2)));
    assert!(matches!(life.start, Start::New(members) if members.len() == 1), "the others are added again");
    assert!(is_over(&bench.bucket, &NodeIdentity::new("c", Incarnation(1), NodeId(2))).await.is_some());
    assert!(is_over(&bench.bucket, &life.identity).await.is_none());
}

#[tokio::test]
async fn auto_takes_the_number_after_all_that_are_known() {
    let bench = Bench::begun().await;
    let cluster = cluster(Some(NodeChoice::Auto));
    let mut known = member(2);
    known.members.push(Known { node: NodeId(7), directory: directory(7), address: "host-7:7072".to_owned() });
    let mut others = Others::answering([member(1), known]);
    let life = begin(&bench.bucket, request(bench.dir.path(), &cluster), &mut others).await.unwrap();
    assert_eq!(life.identity.node, NodeId(8));
    assert!(matches!(life.start, Start::Join));
    let again = begin(&bench.bucket, request(bench.dir.path(), &cluster), &mut Others::answering([member(1)])).await;
    assert_eq!(again.unwrap().identity, life.identity, "it has its number now");
}

#[tokio::test]
async fn auto_hands_out_no_number_again_that_a_node_had_that_is_gone() {
    let bench = Bench::begun().await;
    let auto = cluster(Some(NodeChoice::Auto));
    let another = || async {
        let dir = tempfile::tempdir().unwrap();
        let mut others = Others::answering([member(1)]);
        begin(&bench.bucket, request(dir.path(), &auto), &mut others).await.unwrap().identity.node
    };
    // None of them is a member for long.
    assert_eq!((another().await, another().await), (NodeId(4), NodeId(5)));
    let given = Bench { bucket: bench.bucket.clone(), dir: tempfile::tempdir().unwrap() };
    given.begin(9, &mut Others::answering([member(1)])).await.unwrap();
    assert_eq!(another().await, NodeId(10));
    // Nor one that has its log since before numbers were noted.
    let old = NodeIdentity::new(files::cluster(&bench.bucket).await.unwrap().unwrap().cluster_id, FIRST, NodeId(12));
    assert_eq!(watch_bucket(&bench.bucket, &old).await, None);
    assert_eq!(another().await, NodeId(13));
    // Another life begins anew.
    assert_eq!(files::highest_number(&bench.bucket, Incarnation(2)).await.unwrap(), 0);
}

#[tokio::test]
async fn two_that_ask_at_the_same_time_get_two_numbers() {
    let bench = Bench::begun().await;
    let auto = cluster(Some(NodeChoice::Auto));
    let asking = (0..8).map(|_| async {
        let dir = tempfile::tempdir().unwrap();
        let mut others = Others::answering([member(1)]);
        begin(&bench.bucket, request(dir.path(), &auto), &mut others).await.unwrap().identity.node
    });
    let mut numbers = futures::future::join_all(asking).await;
    numbers.sort_unstable();
    assert_eq!(numbers, (4..12).map(NodeId).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_number_that_another_directory_was_taken_in_with_is_not_kept_by_auto() {
    let bench = Bench::begun().await;
    let cluster = cluster(Some(NodeChoice::Auto));
    let begin = |others| {
        let (bucket, wal_dir, cluster) = (&bench.bucket, bench.dir.path(), &cluster);
        async move { begin(bucket, request(wal_dir, cluster), &mut Others::answering([others])).await.unwrap().identity }
    };
    let first = begin(member(1)).await;
    assert_eq!(first.node, NodeId(4));
    // One that began at the same moment took the same number, and was added first.
    let mut known = member(1);
    known.members.push(Known { node: NodeId(4), directory: directory(40), address: "host-4:7072".to_owned() });
    let second = begin(known.clone()).await;
    assert_eq!(second.node, NodeId(5));
    assert_ne!(second.directory, first.directory);
    assert_eq!(begin(known).await, second, "it has its number now");
}

#[tokio::test]
async fn a_directory_that_was_never_open_may_get_another_number_and_no_other_cluster() {
    let bench = Bench::begun().await;
    let second = bench.begin(2, &mut Others::answering([fresh(1), fresh(3)])).await.unwrap();
    let third = bench.begin(3, &mut Others::answering([fresh(1), fresh(2)])).await.unwrap();
    assert_eq!(third.identity.node, NodeId(3));
    assert_ne!(third.identity.directory, second.identity.directory);
    let other = Bench { bucket: Bench::begun().await.bucket, dir: bench.dir };
    assert_eq!(other.begin(3, &mut Others::default()).await.unwrap_err().code(), "cluster_mismatch");
}

#[tokio::test]
async fn a_node_alone_begins_as_ever() {
    let bench = Bench::new();
    let life = |cluster: Cluster| async move {
        let dir = tempfile::tempdir().unwrap();
        let bucket = Bucket::memory();
        let life = begin(&bucket, request(dir.path(), &cluster), &mut Others::default()).await.unwrap();
        let Start::New(members) = life.start else { panic!("{:?}", life.start) };
        assert_eq!(members.keys().copied().collect::<Vec<_>>(), [life.identity.node]);
        life.identity.node
    };
    assert_eq!(life(Cluster::default()).await, NodeId(1));
    assert_eq!(life(Cluster { node_id: Some(NodeChoice::Id(5)), ..Cluster::default() }).await, NodeId(5));
    // A cluster of which this is the only node.
    let only = Cluster { nodes: vec!["1=host-1:7072".parse().unwrap()], ..cluster(Some(NodeChoice::Id(1))) };
    assert_eq!(life(only).await, NodeId(1));
    drop(bench);
}

#[tokio::test]
async fn with_which_members_a_shard_begins_is_decided_once() {
    let bucket = Bucket::memory();
    let of = |nodes: &[u64]| -> BTreeMap<NodeId, crate::raft::Member> {
        let member =
            |node: &u64| crate::raft::Member { address: format!("host-{node}:7072"), directory: directory(*node) };
        nodes.iter().map(|node| (NodeId(*node), member(node))).collect()
    };
    let (shard, other) = (ShardId(1), ShardId(2));
    assert_eq!(group_of(&bucket, FIRST, shard).await.unwrap(), None);
    assert_eq!(begin_group(&bucket, FIRST, shard, of(&[1, 2, 3])).await.unwrap(), of(&[1, 2, 3]));
    assert_eq!(begin_group(&bucket, FIRST, shard, of(&[2, 3, 4])).await.unwrap(), of(&[1, 2, 3]));
    assert_eq!(group_of(&bucket, FIRST, shard).await.unwrap(), Some(of(&[1, 2, 3])));
    for (incarnation, shard) in [(FIRST, other), (Incarnation(2), shard)] {
        assert_eq!(group_of(&bucket, incarnation, shard).await.unwrap(), None);
    }
}

/// What is in a bucket, and in the directory, by names.
async fn names(bucket: &Bucket) -> Vec<String> {
    use futures::TryStreamExt as _;
    let mut names: Vec<String> = bucket.list("").map_ok(|object| object.key).try_collect().await.unwrap();
    names.sort();
    names
}

#[tokio::test]
async fn no_cluster_is_founded_over_what_is_left_of_another() {
    for left in [
        "incarnations/0000000003.json",
        "shards/00000/segments/01HF7YAT00000000000000000A.seg",
        "shards/00001/checkpoints/0000000003-00000000000000000007-01HF7YAT00000000000000000A.ckpt",
        "archive/default/a/00000000-0000-0000-0000-000000000007/dt=2023-11-14/00000-01HF7YAT00000000000000000A.parquet",
    ] {
        for config in [Cluster::default(), cluster(Some(NodeChoice::Id(1)))] {
            for restore in [false, true] {
                let bench = Bench::new();
                bench.bucket.put(left, vec![bytes::Bytes::from_static(b"x")]).await.unwrap();
                let request = Request { restore, ..request(bench.dir.path(), &config) };
                let mut others = Others::answering([fresh(2), fresh(3)]);
                let error = begin(&bench.bucket, request, &mut others).await.unwrap_err();
                assert_eq!(error.code(), "rebuild_needed", "{left}");
                assert!(error.message().contains(left) && error.message().contains("`tidelog rebuild"), "{error}");
                assert_eq!(names(&bench.bucket).await, [left]);
                assert_eq!(NodeIdentity::load(bench.dir.path()).unwrap(), None, "the directory stays as it was");
            }
        }
    }
}

#[tokio::test]
async fn objects_of_others_keep_no_cluster_from_being_founded() {
    let bench = Bench::new();
    for foreign in ["archive/2019/notes.csv", "shards/notes.txt", "incarnations/notes.json"] {
        bench.bucket.put(foreign, vec![bytes::Bytes::from_static(b"x")]).await.unwrap();
    }
    let config = Cluster::default();
    let life = begin(&bench.bucket, request(bench.dir.path(), &config), &mut Others::default()).await.unwrap();
    assert_eq!(life.identity.incarnation, FIRST);
}

#[tokio::test]
async fn a_founder_that_finds_what_another_one_has_just_created_says_that() {
    let bench = Bench::begun().await;
    let error = files::refuse_to_found_over(&bench.bucket).await.unwrap_err();
    assert_eq!(error.code(), "cluster_started_elsewhere");
}

/// A bucket with a cluster and a checkpoint of its first life.
async fn with_checkpoint() -> Bucket {
    with_checkpoint_of_shards(1).await
}

/// The same where the catalog counts `shards` shards.
async fn with_checkpoint_of_shards(shards: u32) -> Bucket {
    let shard = crate::checkpoints::tests::Shard::new(Bucket::memory()).await;
    let bucket = shard.bucket.clone();
    let topic = shard.create("a", crate::model::TopicSettings::default());
    if shards > 1 {
        let founders = vec![NodeId(1); usize::try_from(shards).unwrap()];
        shard.control(crate::model::Control::SetShards { founders });
    }
    shard.append(crate::model::TopicPartition::new(topic, 0), 3);
    shard.flush(true).await;
    bucket
}

#[tokio::test]
async fn a_bucket_whose_lives_are_lost_is_not_clean_and_its_next_life_is_above_its_checkpoints() {
    let bucket = with_checkpoint().await;
    bucket.delete(vec!["incarnations/0000000001.json".to_owned()]).await.unwrap();
    let before = names(&bucket).await;
    let (dir, config) = (tempfile::tempdir().unwrap(), Cluster::default());
    let refused = begin(&bucket, request(dir.path(), &config), &mut Others::default()).await.unwrap_err();
    assert_eq!(refused.code(), "unclean_bucket");
    assert_eq!(names(&bucket).await, before);
    let request = Request { restore: true, ..request(dir.path(), &config) };
    let life = begin(&bucket, request, &mut Others::default()).await.unwrap();
    assert_eq!(life.identity.incarnation, Incarnation(2));
    assert!(matches!(life.start, Start::Checkpoint(_)), "{:?}", life.start);
}

#[tokio::test]
async fn no_life_begins_without_a_catalog_where_records_are_even_with_restore() {
    let bucket = with_checkpoint().await;
    let (dir, config) = (tempfile::tempdir().unwrap(), Cluster::default());
    let delete = async |lost: &[&str]| {
        let is_lost = |name: &String| lost.iter().any(|lost| name.contains(lost));
        bucket.delete(names(&bucket).await.into_iter().filter(is_lost).collect()).await.unwrap();
    };
    delete(&[".ckpt"]).await;
    let before = names(&bucket).await;
    for restore in [false, true] {
        let request = Request { restore, ..request(dir.path(), &config) };
        let refused = begin(&bucket, request, &mut Others::default()).await.unwrap_err();
        assert_eq!(refused.code(), "rebuild_needed");
        assert_eq!(names(&bucket).await, before);
    }
    // Where there are none, none can get lost.
    delete(&[".seg"]).await;
    let request = Request { restore: true, ..request(dir.path(), &config) };
    let life = begin(&bucket, request, &mut Others::default()).await.unwrap();
    assert_eq!(life.identity.incarnation, Incarnation(2));
}

#[tokio::test]
async fn no_life_begins_with_an_empty_shard_where_its_records_are_even_with_restore() {
    let of = |shard: u32, rest: &str| format!("{rest}/{shard:05}-01HF7YAT00000000000000000A.parquet");
    let day = "archive/default/a/00000000-0000-0000-0000-000000000007/dt=2023-11-14";
    for left in ["shards/00002/segments/01HF7YAT00000000000000000A.seg".to_owned(), of(2, day)] {
        let bucket = with_checkpoint_of_shards(3).await;
        // Those of other shards, and what a flush that came to nothing leaves, are nothing to it.
        for other in [of(0, day), "shards/00002/index/01HF7YAT00000000000000000A.idx".to_owned()] {
            bucket.put(&other, vec![bytes::Bytes::from_static(b"x")]).await.unwrap();
        }
        let (dir, config) = (tempfile::tempdir().unwrap(), Cluster::default());
        let restore = Request { restore: true, ..request(dir.path(), &config) };
        bucket.put(&left, vec![bytes::Bytes::from_static(b"x")]).await.unwrap();
        let before = names(&bucket).await;
        for request in [request(dir.path(), &config), restore] {
            let refused = begin(&bucket, request, &mut Others::default()).await.unwrap_err();
            assert_eq!(refused.code(), "rebuild_needed", "{left}");
            assert!(refused.message().contains(&left) && refused.message().contains("shard 2"), "{refused}");
            assert_eq!(names(&bucket).await, before);
        }
        bucket.delete(vec![left.clone()]).await.unwrap();
        let life = begin(&bucket, restore, &mut Others::default()).await.unwrap();
        assert!(life.others.iter().all(|(_, start)| matches!(start, Start::New(_))), "{:?}", life.others);
        assert_eq!(life.others.len(), 2);
        // A start that broke off after it had created its life looks again, whatever came meanwhile.
        bucket.put(&left, vec![bytes::Bytes::from_static(b"x")]).await.unwrap();
        let refused = begin(&bucket, restore, &mut Others::default()).await.unwrap_err();
        assert_eq!(refused.code(), "rebuild_needed", "{left}");
        assert!(!names(&bucket).await.contains(&"incarnations/0000000003.json".to_owned()), "it is the same life");
    }
}

#[tokio::test]
async fn segments_of_which_neither_a_life_nor_a_checkpoint_is_known_are_not_begun_over() {
    let bucket = with_checkpoint().await;
    let lost = |name: &String| name.ends_with(".ckpt") || name.starts_with("incarnations/");
    let lost = names(&bucket).await.into_iter().filter(lost).collect();
    bucket.delete(lost).await.unwrap();
    let before = names(&bucket).await;
    let (dir, config) = (tempfile::tempdir().unwrap(), Cluster::default());
    // Also by a directory whose founding broke off.
    let founder = tempfile::tempdir().unwrap();
    NodeIdentity::new("c".to_owned(), FIRST, NodeId(1)).save(founder.path()).unwrap();
    for dir in [dir.path(), founder.path()] {
        for restore in [false, true] {
            let request = Request { restore, ..request(dir, &config) };
            let refused = begin(&bucket, request, &mut Others::default()).await.unwrap_err();
            assert_eq!(refused.code(), "rebuild_needed");
            assert_eq!(names(&bucket).await, before);
        }
    }
}
