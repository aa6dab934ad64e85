//! A shard that is followed by a process that keeps none of its log.

use std::sync::atomic::Ordering;

use proptest::test_runner::{Config as Cases, TestRunner};

use super::group::{Group, batches, eventually, write};
use super::*;
use crate::error::Outcome;

/// Nothing between the gateway and `node` passes any more.
fn cut_off(group: &Group, node: u64) {
    group.net.cut(0, node);
}

async fn followed(group: &Group) -> Remote {
    let remote = group.remote();
    remote.linearize().await.unwrap();
    remote
}

/// Waits until `remote` has applied what `node` has, and compares the states.
async fn same(group: &Group, remote: &Remote, node: u64) {
    let node = group.node(node);
    let look = |node: &RaftNode| node.with_state(|state| (state.applied(), state.hash()));
    eventually("the gateway has applied the same", || {
        let (applied, hash) = remote.with_state(|state| (state.applied(), state.hash()));
        let theirs = look(node);
        assert!(applied != theirs.0 || hash == theirs.1, "the states differ at entry {applied}");
        applied == theirs.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_sees_what_the_nodes_see_and_reads_its_own_writes() {
    let group = Group::of(3).await;
    let leader = group.leader().await;
    let remote = followed(&group).await;
    let create = Control::CreateTopic {
        id: TOPIC,
        name: "t".to_owned(),
        settings: TopicSettings::default(),
        named: NamedSettings::default(),
    };
    let (_, answer) = remote.control(create).await.unwrap();
    assert_eq!(answer, Answer::Topic { id: TOPIC, created: true });
    assert!(remote.with_state(|state| state.partition(PARTITION).is_some()));
    let refused = remote.control(Control::UndeleteTopic { name: "t".to_owned() }).await.unwrap_err();
    assert_eq!(refused.code(), "topic_not_found");
    let mut growth = remote.watch_growth(&[PARTITION]).unwrap();
    let (index, _) = remote.propose(append(3_000)).await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), growth.changed()).await.unwrap();
    let theirs = write(group.at(leader), append(50)).await;
    remote.linearize().await.unwrap();
    assert_eq!(remote.with_state(|state| state.partition(PARTITION).unwrap().bounds().high_watermark), 2);
    same(&group, &remote, leader).await;
    // What it proposed itself it has, but for the log time of the leader; the rest is asked for.
    let own = remote.read_entry(index).await.unwrap().unwrap();
    assert_eq!(own[10..], group.node(leader).read_entry(index).await.unwrap().unwrap()[10..]);
    assert_eq!(group.net.calls(kind::READ_ENTRIES), 0);
    assert_eq!(remote.read_entry(theirs).await.unwrap(), group.node(leader).read_entry(theirs).await.unwrap());
    assert_eq!(remote.read_entry(theirs).await.unwrap().map(|entry| entry.len()), Some(append(50).len()));
    assert_eq!(group.net.calls(kind::READ_ENTRIES), 1);
    assert_eq!(remote.read_entry(1_000_000).await.unwrap_err().code(), "unavailable", "nobody has it yet");
    assert!(remote.usable().is_ok() && remote.status().leader == Some(NodeId(leader)) && !remote.status().is_leader);
    group.end().await;
}

/// On one thread, so that all are wanted before the first call goes out.
#[tokio::test]
async fn entries_that_are_wanted_together_are_asked_for_together() {
    let group = Group::of(1).await;
    write(group.at(1), create_topic()).await;
    let mut indices = Vec::new();
    for _ in 0..200 {
        indices.push(write(group.at(1), append(100)).await);
    }
    let remote = followed(&group).await;
    let wanted = indices.iter().map(|index| remote.read_entry(*index));
    let read = futures::future::join_all(wanted).await;
    assert!(read.into_iter().all(|entry| entry.unwrap().unwrap().len() == append(100).len()));
    assert_eq!(group.net.calls(kind::READ_ENTRIES), 1);
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_goes_on_at_the_next_leader() {
    let mut group = Group::of(3).await;
    let leader = group.leader().await;
    write(group.at(leader), create_topic()).await;
    let remote = followed(&group).await;
    remote.propose(append(10)).await.unwrap();
    group.stop(leader).await;
    let next = group.leader().await;
    // A control command looks for the leader by itself, and a read does.
    remote.control(Control::Tick).await.unwrap();
    remote.linearize().await.unwrap();
    remote.propose(append(10)).await.unwrap();
    assert_eq!(remote.status().leader, Some(NodeId(next)));
    same(&group, &remote, next).await;
    assert_eq!(batches(group.node(next)), 2);
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposal_whose_answer_is_lost_has_no_known_outcome_and_one_that_was_not_sent_was_not_written() {
    let group = Group::of(3).await;
    let leader = group.leader().await;
    write(group.at(leader), create_topic()).await;
    let remote = followed(&group).await;
    group.net.lose_answers(kind::PROPOSE);
    assert_eq!(remote.propose(append(10)).await.unwrap_err().outcome(), Outcome::Unknown);
    group.net.heal();
    cut_off(&group, leader);
    assert_eq!(remote.propose(append(10)).await.unwrap_err().outcome(), Outcome::NotWritten);
    group.net.heal();
    assert_eq!(batches(group.node(leader)), 1);
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_leader_a_gateway_follows_another_node() {
    let group = Group::of(3).await;
    let leader = group.leader().await;
    write(group.at(leader), create_topic()).await;
    let remote = followed(&group).await;
    cut_off(&group, leader);
    let index = write(group.at(leader), append(500)).await;
    let mut applied = remote.applied();
    tokio::time::timeout(Duration::from_secs(60), applied.wait_for(|applied| *applied >= index))
        .await
        .unwrap()
        .unwrap();
    let entry = remote.read_entry(index).await.unwrap();
    assert_eq!(entry, group.node(leader).read_entry(index).await.unwrap());
    group.net.heal();
    remote.linearize().await.unwrap();
    group.end().await;
}

/// Writes and flushes until the log of `node` begins after `index`.
async fn purge_beyond(group: &Group, node: u64, index: LogIndex) {
    while group.node(node).status().purged.is_none_or(|purged| purged <= index) {
        for _ in 0..5 {
            write(group.at(node), append(5_000)).await;
        }
        group.flush(node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_behind_the_log_goes_on_from_a_checkpoint_of_the_bucket_or_else_of_a_node() {
    let group = Group::of(1).await;
    write(group.at(1), create_topic()).await;
    write(group.at(1), append(100)).await;
    let remote = followed(&group).await;
    assert_eq!(group.checkpoints.fetched.load(Ordering::Relaxed), 0, "the log had everything");
    for away in [false, true] {
        group.checkpoints.away.store(away, Ordering::Relaxed);
        let fetched = group.checkpoints.fetched.load(Ordering::Relaxed);
        cut_off(&group, 1);
        purge_beyond(&group, 1, *remote.applied().borrow()).await;
        write(group.at(1), append(100)).await;
        let mut growth = remote.watch_growth(&[PARTITION]).unwrap();
        group.net.heal();
        tokio::time::timeout(Duration::from_secs(60), growth.changed()).await.unwrap();
        same(&group, &remote, 1).await;
        assert_eq!(group.checkpoints.fetched.load(Ordering::Relaxed) > fetched, !away);
        // One that begins now does so there too.
        same(&group, &followed(&group).await, 1).await;
    }
    assert!(group.net.calls(kind::CHECKPOINT_FILES) > 0);
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_has_no_vote_and_does_not_decide_what_a_leader_decides() {
    let group = Group::of(1).await;
    let leader = group.node(1);
    for kind in [kind::APPEND, kind::VOTE, kind::PRE_VOTE, kind::SNAPSHOT, kind::TRANSFER, 99] {
        let refused = leader.handle(NodeId::GATEWAY, Uuid::from_u128(9), kind, Bytes::new()).await.unwrap_err();
        assert_eq!(refused.code(), "peer_message", "kind {kind}");
    }
    let remote = followed(&group).await;
    for control in [
        Control::Condemn { floor: ObjectId(u128::MAX) },
        Control::Trim { starts: Vec::new() },
        Control::RemoveTopics { ids: vec![TOPIC] },
        Control::Unseal,
        Control::Reopen { incarnation: Incarnation(9) },
    ] {
        assert_eq!(remote.control(control).await.unwrap_err().code(), "peer_message");
    }
    group.end().await;
}

#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    Create(u8),
    Delete(u8),
    Flush,
    Cut,
    Heal,
}

/// Random histories with flushes and purges, and a gateway that is away again and again.
#[test]
fn a_view_equals_the_state_of_the_leader_at_the_same_index() {
    use proptest::prelude::*;
    let step = prop_oneof![
        6 => (1..4_000_usize).prop_map(Step::Append),
        1 => (0..4_u8).prop_map(Step::Create),
        1 => (0..4_u8).prop_map(Step::Delete),
        2 => Just(Step::Flush),
        1 => Just(Step::Cut),
        1 => Just(Step::Heal),
    ];
    let histories = proptest::collection::vec(step, 1..60);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut runner = TestRunner::new(Cases { cases: 12, max_shrink_iters: 20, ..Cases::default() });
    let run = |history: Vec<Step>| runtime.block_on(play(history));
    runner
        .run(&histories, |history| {
            run(history);
            Ok(())
        })
        .unwrap();
}

async fn play(history: Vec<Step>) {
    let group = Group::of(1).await;
    write(group.at(1), create_topic()).await;
    let remote = followed(&group).await;
    for step in history {
        match step {
            Step::Append(len) => drop(write(group.at(1), append(len)).await),
            Step::Create(number) => {
                let create = Control::CreateTopic {
                    id: TopicId(Uuid::new_v4()),
                    name: format!("topic-{number}"),
                    settings: TopicSettings { partitions: 1 + u32::from(number), ..TopicSettings::default() },
                    named: NamedSettings::default(),
                };
                let _ = group.at(1).control(create).await;
            }
            Step::Delete(number) => {
                let name = format!("topic-{number}");
                let topic = group.node(1).with_state(|state| state.topic_by_name(&name).map(|topic| topic.id));
                if let Some(id) = topic {
                    group.at(1).control(Control::DeleteTopic { id }).await.unwrap();
                }
            }
            Step::Flush => drop(group.flush(1).await),
            Step::Cut => cut_off(&group, 1),
            Step::Heal => group.net.heal(),
        }
    }
    group.net.heal();
    remote.linearize().await.unwrap();
    same(&group, &remote, 1).await;
    group.end().await;
}
