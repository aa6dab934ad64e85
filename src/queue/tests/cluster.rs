//! Several nodes as one cluster: replication, forwarding, failover, flushes, growing, shrinking, replacing.

use std::time::Duration;

use super::group::{Group, until};
use super::*;
use crate::config::NodeChoice;
use crate::error::{ErrorKind, Outcome};
use crate::model::NodeId;
use crate::shard::Shard;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_anywhere_is_read_everywhere() {
    let group = Group::started(3).await;
    // A topic that a node has just heard of, or not yet.
    let leader = group.leader().await;
    let far = group.other_than(leader);
    let created =
        group.queue(far).create_topic("far", TopicSettings::default(), NamedSettings::default()).await.unwrap();
    assert!(created.0.leaders[0].is_some(), "whoever leads its shard");
    for (node, queue) in &group.queues {
        assert!(queue.is_ready(), "node {node}");
        produce(queue, &[&format!("by-{node}")], Acks::Quorum).await;
        assert!(queue.describe_topic("far", None).await.is_ok());
    }
    assert_eq!(group.read().await, ["by-1", "by-2", "by-3"]);
    group.same_states().await;
    let status = group.queue(far).cluster().await.unwrap();
    assert_eq!((status.node, status.leader), (NodeId(far), Some(NodeId(leader))));
    assert_eq!(status.members.len(), 3);
    for member in &status.members {
        assert_eq!((member.voter, member.is_leader), (true, member.node.0 == leader));
        assert_eq!(member.address, group.address(member.node.0));
        assert!(member.lag.is_some() && member.matched.is_some(), "{member:?}");
    }
    assert!(group.queue(far).flush_topic("t", None, false, LONG).await.unwrap().done, "the leader flushes for all");
    // Whichever node has a worker hears of it.
    let asked = group.queue(far).flush_topic("t", None, true, Duration::from_millis(1)).await.unwrap();
    assert!(!asked.done);
    let all_know = || async {
        let asked_of = |shard: &Shard| {
            shard.archive_requests().open(&shard.leader().node().view()).contains(&asked.topic.topic.id)
        };
        let knows = |queue: &Queue| queue.0.shards.iter().any(asked_of);
        group.queues.values().all(knows).then_some(())
    };
    until("all nodes know what is to be archived", all_know).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_without_the_bucket_gets_checkpoints_from_the_leader() {
    let mut group = Group::new(3);
    group.keep = 0;
    group.open_all().await;
    let leader = group.leader().await;
    group.queue(leader).create_topic("t", TopicSettings::default(), NamedSettings::default()).await.unwrap();
    let follower = group.other_than(leader);
    group.stop(follower).await;
    let leader = group.leader().await;
    let large = "x".repeat(100 << 10);
    for _ in 0..3 {
        produce(group.queue(leader), &[&large], Acks::Object).await;
    }
    group.adopted().await;
    // Where it looks there is nothing, so the name of the checkpoint that it is sent says nothing to it.
    let mut config = group.config(follower);
    config.bucket = Some(format!("file://{}", group.data_dir(9).display()));
    group.queues.insert(follower, Group::open_with(config).await.unwrap());
    group.same_states().await;
    produce(group.queue(leader), &[&large], Acks::Object).await;
    group.adopted().await;
    group.same_states().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_collected_once_every_member_has_said_where_it_is() {
    let mut group = Group::started(3).await;
    produce(group.queue(1), &["a"], Acks::Object).await;
    let leader = group.leader().await;
    until("the leader collects", || async { gc(group.queue(leader)).0 }).await;
    let away = group.other_than(leader);
    group.stop(away).await;
    let next = *group.queues.keys().find(|node| **node != leader).unwrap();
    group.queue(leader).transfer_leader(Some(NodeId(next))).await.unwrap();
    let named = format!("node {away} has not said yet which checkpoint it would start from");
    until("it waits for the one that is away", || async {
        gc(group.queue(next)).1.filter(|error| error.contains(&named))
    })
    .await;
    assert_eq!(gc(group.queue(leader)).1, None, "what it did not do any more is not its fault");
    group.open(away).await;
    let collects = || async {
        let leader = group.leader().await;
        matches!(gc(group.queue(leader)), (Some(_), None)).then_some(())
    };
    until("it collects again", collects).await;
}

/// When garbage collection last succeeded, and what went wrong since.
fn gc(queue: &Queue) -> (Option<u64>, Option<String>) {
    let job = queue.status().jobs.into_iter().find(|job| job.name == "gc").unwrap();
    (job.last_success_ms, job.last_error)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_the_leader_goes_and_it_comes_back() {
    let mut group = Group::started(3).await;
    let mut written = Vec::new();
    for round in 0..3 {
        let leader = group.leader().await;
        let survivor = group.other_than(leader);
        let value = format!("before-{round}");
        produce(group.queue(survivor), &[&value], Acks::Quorum).await;
        written.push(value);
        group.stop(leader).await;
        // It waits for the next leader within its time.
        let value = format!("without-{leader}-{round}");
        produce(group.queue(survivor), &[&value], Acks::Quorum).await;
        written.push(value);
        group.open(leader).await;
        assert_eq!(group.read().await, written);
    }
    group.same_states().await;
    // All of them at once.
    for node in 1..=3 {
        group.stop(node).await;
    }
    group.open_all().await;
    assert_eq!(group.read().await, written);
    produce(group.queue(2), &["after"], Acks::Quorum).await;
    group.same_states().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_created_again_is_there_for_a_node_that_was_away() {
    let mut group = Group::started(3).await;
    produce(group.queue(1), &["of the first one"], Acks::Quorum).await;
    // A look, a look at what the node knows, and a write come first in turn.
    for round in 0..3 {
        group.same_states().await;
        let leader = group.leader().await;
        let away = group.other_than(leader);
        group.stop(away).await;
        let other = group.queue(leader);
        other.delete_topic("t", None).await.unwrap();
        let again = other.create_topic("t", TopicSettings::default(), NamedSettings::default()).await.unwrap();
        let id = again.0.topic.id;
        group.open(away).await;
        let queue = group.queue(away);
        let fetched = match round {
            0 => queue.fetch(page_from(FetchFrom::Earliest)).await.map(|page| page.topic.id),
            1 => queue.fetch_any(page_from(FetchFrom::Earliest)).await.map(|page| page.topic.id),
            _ => {
                let produced = queue.produce(request(&["a"], Acks::Quorum)).await;
                produced.and_then(|mut produced| match produced.failures.pop() {
                    Some(failed) => Err(failed),
                    None => Ok(produced.topic_id),
                })
            }
        };
        match fetched {
            // What it knew was true once; what is not there it says only if it is not.
            Ok(found) => assert!(found == id || round == 1, "round {round}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "round {round}: {error:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flushes_are_asked_of_the_leader_and_taken_over_by_all() {
    let mut group = Group::new(3);
    group.keep = 0;
    group.open_all().await;
    let leader = group.leader().await;
    group.queue(leader).create_topic("t", TopicSettings::default(), NamedSettings::default()).await.unwrap();
    let follower = group.other_than(leader);
    let large = "x".repeat(100 << 10);
    for _ in 0..4 {
        produce(group.queue(follower), &[&large], Acks::Object).await;
    }
    group.adopted().await;
    for queue in group.queues.values() {
        assert!(queue.leader().node().status().purged > Some(0), "what is flushed goes from every log");
    }
    // A follower that is away while all of its log goes at the others.
    group.stop(follower).await;
    let leader = group.leader().await;
    for _ in 0..4 {
        produce(group.queue(leader), &[&large], Acks::Object).await;
    }
    produce(group.queue(leader), &["tail"], Acks::Quorum).await;
    group.adopted().await;
    group.open(follower).await;
    let read = group.read().await;
    assert_eq!((read.len(), read[8].as_str()), (9, "tail"));
    group.same_states().await;
    // It starts from what it was sent, and can lead.
    group.stop(follower).await;
    group.open(follower).await;
    group.leader().await;
    group.queue(follower).transfer_leader(Some(NodeId(follower))).await.unwrap();
    produce(group.queue(follower), &["led"], Acks::Object).await;
    group.same_states().await;
    group.adopted().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over_by_command_drain_and_stop() {
    let mut group = Group::started(3).await;
    let leader = group.leader().await;
    let next = group.other_than(leader);
    // Asked of any node; twice is once.
    for node in [next, leader] {
        let status = group.queue(node).transfer_leader(Some(NodeId(next))).await.unwrap();
        assert_eq!(status.node, NodeId(node));
    }
    assert_eq!(group.leader().await, next);
    let follower = group.other_than(next);
    group.queue(follower).drain().await.unwrap();
    assert_eq!(group.leader().await, next, "one that does not lead has nothing to hand over");
    group.queue(next).drain().await.unwrap();
    let third = group.leader().await;
    assert_ne!(third, next);
    assert_eq!(group.queue(next).transfer_leader(Some(NodeId(9))).await.unwrap_err().code(), "invalid_membership");
    // As SIGTERM does: the others go on, and nothing is closed.
    group.queue(third).drain().await.unwrap();
    assert_ne!(group.leader().await, third);
    group.stop(third).await;
    let left = group.other_than(third);
    produce(group.queue(left), &["open"], Acks::Quorum).await;
    assert!(!group.queue(left).status().closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_its_log_is_refused_and_replaced() {
    let mut group = Group::started(3).await;
    produce(group.queue(1), &["a"], Acks::Quorum).await;
    group.stop(3).await;
    let mut other = group.config(3);
    other.cluster.node_id = Some(NodeChoice::Id(2));
    let error = Group::open_with(other).await.unwrap_err();
    assert_eq!(error.code(), "node_identity_mismatch");
    assert!(error.message().contains("belongs to node 3"), "{error}");
    group.open(3).await;
    for lost in [3, 1] {
        group.stop(lost).await;
        group.leader().await;
        std::fs::remove_dir_all(group.data_dir(lost)).unwrap();
        let error = group.try_open(lost).await.unwrap_err();
        assert_eq!(error.code(), "node_identity_mismatch");
        assert!(error.message().contains(&format!("tidelog admin replace-node {lost} NEW")), "{error}");
        // The same machine under another number.
        let new = lost + 10;
        group.listen(new);
        let mut config = group.config(new);
        if lost == 3 {
            config.cluster.node_id = Some(NodeChoice::Auto);
        }
        let queue = Group::open_with(config).await.unwrap();
        let number = queue.node_id();
        assert_eq!(number, if lost == 3 { 4 } else { new });
        let address = group.address(new);
        let (old, node) = (NodeId(lost), NodeId(number));
        for _ in 0..2 {
            group.queue(2).replace_node(old, node, address.clone()).await.unwrap();
        }
        group.queues.insert(number, queue);
        assert!(!group.voters().await.contains(&lost));
        produce(group.queue(number), &["b"], Acks::Quorum).await;
    }
    assert_eq!(group.voters().await, [2, 4, 11]);
    assert_eq!(group.read().await, ["a", "b", "b"]);
    let nobody = group.queue(2).replace_node(NodeId(9), NodeId(8), group.address(1)).await.unwrap_err();
    assert_eq!(nobody.code(), "node_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_grows_from_one_node_and_shrinks_to_one() {
    let mut group = Group::new(1);
    let mut alone = group.config(1);
    alone.cluster.nodes.clear();
    alone.peer.listen = None;
    let queue = Group::open_with(alone).await.unwrap();
    queue.create_topic("t", TopicSettings::default(), NamedSettings::default()).await.unwrap();
    produce(&queue, &["alone"], Acks::Object).await;
    assert!(queue.is_sole_voter() && queue.cluster().await.unwrap().members[0].address.is_empty());
    let refused = queue.add_node(NodeId(2), "127.0.0.1:1".to_owned()).await.unwrap_err();
    assert_eq!(refused.code(), "invalid_membership");
    queue.close().await.unwrap();
    queue.shutdown().await;
    drop(queue);
    // It has been stopped cleanly, and gets a listener.
    group.open(1).await;
    for node in [2, 3] {
        group.listen(node);
        group.open(node).await;
        assert!(!group.queue(node).is_ready(), "it belongs to nobody yet");
        let refused = group.add(node, node).await.unwrap_err();
        assert_eq!((refused.kind(), refused.outcome()), (ErrorKind::Unavailable, Outcome::NotWritten));
        assert!(refused.message().contains(&format!("node {node} is not a member of the cluster")), "{refused}");
        group.add(1, node).await.unwrap();
        group.add(node, node).await.unwrap();
        until("it has reached a leader", || async { group.queue(node).is_ready().then_some(()) }).await;
    }
    assert_eq!(group.voters().await, [1, 2, 3]);
    produce(group.queue(3), &["three"], Acks::Object).await;
    assert_eq!(group.read().await, ["alone", "three"]);
    group.same_states().await;
    let address = group.queue(2).cluster().await.unwrap().members[0].address.clone();
    assert_eq!(address, group.address(1), "the others were told where the first one is");

    for gone in [1, 3] {
        for _ in 0..2 {
            group.queue(2).remove_node(NodeId(gone)).await.unwrap();
        }
        group.stop(gone).await;
    }
    assert_eq!(group.voters().await, [2]);
    let last = group.queue(2).remove_node(NodeId(2)).await.unwrap_err();
    assert_eq!(last.code(), "invalid_membership");
    until("it is alone", || async { group.queue(2).is_sole_voter().then_some(()) }).await;
    produce(group.queue(2), &["one"], Acks::Object).await;
    // Alone again, it ends with a clean checkpoint: the bucket is enough.
    group.queue(2).close().await.unwrap();
    group.stop(2).await;
    let mut fresh = group.config(2);
    fresh.cluster.nodes.clear();
    std::fs::remove_dir_all(group.data_dir(2)).unwrap();
    let queue = Group::open_with(fresh).await.unwrap();
    assert_eq!(values(&all(&queue).await), ["alone", "three", "one"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn voters_that_could_decide_nothing_are_not_made() {
    let mut group = Group::started(3).await;
    let leader = group.leader().await;
    let away = group.other_than(leader);
    group.stop(away).await;
    let third = group.other_than(leader);
    let error = group.queue(leader).remove_node(NodeId(third)).await.unwrap_err();
    assert_eq!(error.code(), "invalid_membership");
    assert!(error.message().contains(&format!("not: {away}")), "{error}");
    group.queue(leader).remove_node(NodeId(away)).await.unwrap();
    produce(group.queue(third), &["two"], Acks::Quorum).await;
    // Its log is of this group: with it, it is taken in again, and has what it missed.
    group.open(away).await;
    group.add(leader, away).await.unwrap();
    group.same_states().await;
    for (node, address) in [(0, group.address(away)), (9, "nowhere".to_owned())] {
        let error = group.queue(leader).add_node(NodeId(node), address).await.unwrap_err();
        assert_eq!(error.code(), "invalid_node");
    }
    let wrong = group.queue(leader).add_node(NodeId(9), group.address(third)).await.unwrap_err();
    assert_eq!(wrong.code(), "node_identity_mismatch");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minority_says_that_it_can_neither_write_nor_read_the_end() {
    let mut group = Group::started(3).await;
    produce(group.queue(1), &["a", "z"], Acks::Quorum).await;
    group.same_states().await;
    let left = group.leader().await;
    for _ in 0..2 {
        let other = group.other_than(left);
        group.stop(other).await;
    }
    let queue = group.queue(left);
    let hurried = ProduceRequest { timeout: Duration::from_secs(2), ..request(&["b"], Acks::Quorum) };
    let produced = queue.produce(hurried).await.unwrap();
    assert_eq!(produced.failures.len(), 1);
    assert!(queue.describe_topic("t", None).await.is_err());
    let from = |from| FetchRequest {
        topic: "t".to_owned(),
        topic_id: None,
        partition: 0,
        from,
        end: None,
        max_records: 100,
        max_bytes: 1 << 20,
        wait: Duration::ZERO,
    };
    let below = FetchRequest { max_records: 1, ..from(FetchFrom::Offset(0)) };
    let known = queue.fetch(below).await.unwrap();
    assert_eq!(values(&records(&known).unwrap())[0], "a", "what was committed is");
    // Where the end is another node may know better.
    for start in [FetchFrom::Offset(0), FetchFrom::Latest] {
        assert_eq!(queue.fetch(from(start)).await.unwrap_err().code(), "unavailable");
    }
}
