//! Commands that arise on nodes that do not lead.

use super::group::{Group, batches, eventually, write};
use super::*;
use crate::error::{Error, Outcome};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_takes_commands_and_reads_its_own_writes() {
    let group = Group::of(3).await;
    group.leader().await;
    let create = Control::CreateTopic {
        id: TOPIC,
        name: "t".to_owned(),
        settings: TopicSettings::default(),
        named: NamedSettings::default(),
    };
    for node in 1..=3 {
        let (_, answer) = group.at(node).control(create.clone()).await.unwrap();
        assert_eq!(answer, Answer::Topic { id: TOPIC, created: node == 1 });
        assert!(group.node(node).with_state(|state| state.partition(PARTITION).is_some()), "node {node}");
    }
    let refused = group.at(2).control(Control::UndeleteTopic { name: "t".to_owned() }).await.unwrap_err();
    assert_eq!(refused.code(), "topic_not_found");
    for node in [1, 2, 3, 1, 2, 3] {
        let (index, answer) = group.at(node).propose(append(5_000)).await.unwrap();
        let Answer::Appended(outcomes) = answer else { panic!("an append is answered as one") };
        assert_eq!(outcomes[0].as_ref().unwrap().log_index, index);
    }
    group.converge(&[1, 2, 3]).await;
    assert_eq!(batches(group.node(1)), 6);
    group.end().await;
}

/// An append that says it is of the year 2286.
fn from_the_future() -> Bytes {
    let mut bytes = append(10).to_vec();
    command::restamp(&mut bytes, 10_000_000_000_000);
    bytes.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_stamps_its_own_log_time() {
    let group = Group::of(3).await;
    let leader = group.leader().await;
    write(group.at(leader), create_topic()).await;
    for node in 1..=3 {
        group.at(node).propose(from_the_future()).await.unwrap();
    }
    group.converge(&[1, 2, 3]).await;
    assert!(group.node(1).with_state(|state| state.log_time()) < 9_000_000_000_000);
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_breaks_after_it_was_sent_has_no_known_outcome() {
    let group = Group::of(3).await;
    let leader = group.leader().await;
    write(group.at(leader), create_topic()).await;
    let follower = group.other(leader);
    group.net.lose_answers(kind::PROPOSE);
    let refused = group.at(follower).propose(append(10)).await.unwrap_err();
    assert!(matches!(refused, ProposeError::Unknown), "{refused:?}");
    let refused = group.at(follower).control(Control::Tick).await.unwrap_err();
    assert_eq!((refused.code(), refused.outcome()), ("unavailable", Outcome::Unknown));
    eventually("it was written all the same", || batches(group.node(leader)) == 1).await;

    group.net.heal();
    group.net.cut(follower, leader);
    let refused = group.at(follower).propose(append(10)).await.unwrap_err();
    assert!(matches!(refused, ProposeError::NotWritten { .. }), "{refused:?}");
    assert_eq!(batches(group.node(leader)), 1);
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leaders_gate_stops_appends_of_others_and_no_controls() {
    let group = Group::of(3).await;
    let leader = group.leader().await;
    write(group.at(leader), create_topic()).await;
    let full = || Err(Error::overloaded("full").with_number("retry_after_ms", 7));
    group.node(leader).set_append_gate(Box::new(full));
    let follower = group.other(leader);
    let refused = group.at(follower).propose(append(10)).await.unwrap_err();
    let ProposeError::Refused(error) = refused else { panic!("{refused:?}") };
    assert_eq!((error.code(), error.outcome()), ("overloaded", Outcome::NotWritten));
    group.at(follower).control(Control::Tick).await.unwrap();
    // The leader's own batcher asks the gate itself, before it encodes anything.
    group.at(leader).propose(append(10)).await.unwrap();
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_command_finds_the_next_leader() {
    let mut group = Group::of(3).await;
    let leader = group.leader().await;
    let follower = group.at(group.other(leader)).clone();
    let controlling = tokio::spawn(async move {
        for _ in 0..200 {
            match follower.control(Control::Tick).await {
                Ok(_) => {}
                // It was on its way when the leader went.
                Err(error) => assert_eq!(error.outcome(), Outcome::Unknown, "{error}"),
            }
        }
    });
    group.stop(leader).await;
    controlling.await.unwrap();
    group.leader().await;
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_command_is_not_proposed() {
    let group = Group::of(3).await;
    let leader = group.leader().await;
    let follower = group.other(leader);
    for bytes in [&b""[..], b"nonsense", &[9, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
        let refused = group.at(follower).propose(Bytes::copy_from_slice(bytes)).await.unwrap_err();
        assert!(matches!(&refused, ProposeError::Refused(error) if error.code() == "peer_message"), "{refused:?}");
    }
    group.at(follower).control(Control::Tick).await.unwrap();
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_calls_change_nothing() {
    let group = Group::of(3).await;
    let leader = group.leader().await;
    let (other, target) = (group.other(leader), group.node(leader));
    for kind in 0..=12 {
        for body in [&b""[..], b"\xff\xff\xff\xff\xff", &[7; 300]] {
            // Kinds without a body answer.
            let _ =
                target.handle(NodeId(other), super::group::directory(other), kind, Bytes::copy_from_slice(body)).await;
        }
    }
    let speaking_for_another = super::group::directory(other);
    let vote = openraft::raft::VoteRequest::new(crate::raft::types::Vote::new(99, 9), None);
    let body = crate::raft::wire::encode_vote(&vote).unwrap();
    let refused = target.handle(NodeId(other), speaking_for_another, kind::VOTE, body).await.unwrap_err();
    assert_eq!(refused.code(), "peer_message");
    assert_eq!(group.leader().await, leader);
    group.at(other).control(Control::Tick).await.unwrap();
    group.end().await;
}
