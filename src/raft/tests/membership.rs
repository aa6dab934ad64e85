//! Nodes come, are replaced and go; leadership is handed over.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::group::{Group, batches, eventually, member, write};
use super::*;
use crate::error::Outcome;

fn voters(nodes: &[u64]) -> BTreeSet<NodeId> {
    nodes.iter().map(|node| NodeId(*node)).collect()
}

fn voters_of(node: &RaftNode) -> Vec<u64> {
    node.members().iter().filter(|member| member.voter).map(|member| member.node.0).collect()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_node_grows_to_three_and_shrinks_again() {
    let mut group = Group::of(1).await;
    assert!(group.node(1).is_alone());
    write(group.at(1), create_topic()).await;
    for _ in 0..10 {
        write(group.at(1), append(1_000)).await;
    }
    group.flush(1).await;
    for node in [2, 3] {
        group.start(node, Start::Join).await;
        for _ in 0..2 {
            group.node(1).add_learner(NodeId(node), member(node)).await.unwrap();
        }
        group.node(1).wait_caught_up(NodeId(node), 0, soon()).await.unwrap();
    }
    assert!(group.node(1).is_alone(), "learners do not vote");
    for _ in 0..2 {
        group.node(1).set_voters(voters(&[1, 2, 3])).await.unwrap();
    }
    assert_eq!(voters_of(group.node(1)), [1, 2, 3]);
    eventually("it is not alone any more", || !group.node(1).is_alone()).await;
    group.leader().await;
    for node in [1, 2, 3] {
        write(group.at(node), append(1_000)).await;
    }
    group.converge(&[1, 2, 3]).await;

    // A change is made by the leader only, which the others name.
    let refused = group.node(2).set_voters(voters(&[1, 2])).await.unwrap_err();
    assert_eq!((refused.code(), refused.outcome()), ("not_leader", Outcome::NotWritten));
    assert_eq!(refused.details(), [("leader", crate::error::Detail::Number(1))]);

    for _ in 0..2 {
        group.node(1).set_voters(voters(&[1])).await.unwrap();
    }
    assert_eq!(group.node(1).members().len(), 1, "who was removed left completely");
    group.stop(2).await;
    group.stop(3).await;
    eventually("it is alone again", || group.node(1).is_alone()).await;
    write(group.at(1), append(1_000)).await;
    assert_eq!(batches(group.node(1)), 14);
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_removed_and_another_takes_over() {
    let group = Group::of(3).await;
    let leader = group.leader().await;
    write(group.at(leader), create_topic()).await;
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    group.node(leader).set_voters(voters(&others)).await.unwrap();
    let next = group.leader_among(&others).await;
    write(group.at(next), append(10)).await;
    group.converge(&others).await;
    assert_eq!(voters_of(group.node(next)), others);
    assert_eq!(group.node(next).members().len(), 2);
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_under_load_without_a_loss() {
    let group = Group::of(3).await;
    let first = group.leader().await;
    write(group.at(first), create_topic()).await;
    let mut leader = first;
    let writer = group.at(group.other(first)).clone();
    let writing = tokio::spawn(async move {
        let mut written = 0;
        for _ in 0..300 {
            match writer.propose(append(100)).await {
                Ok(_) => written += 1,
                Err(error) => {
                    assert_eq!(error.outcome(), Outcome::NotWritten, "{error:?}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
        written
    });
    for _ in 0..3 {
        let to = group.other(leader);
        group.node(leader).transfer_leader(NodeId(to)).await.unwrap();
        assert_eq!(group.leader().await, to);
        // Again changes nothing.
        group.node(to).transfer_leader(NodeId(to)).await.unwrap();
        leader = to;
    }
    let written = writing.await.unwrap();
    group.converge(&[1, 2, 3]).await;
    assert_eq!(batches(group.node(1)), written);
    let unknown = group.node(leader).transfer_leader(NodeId(8)).await.unwrap_err();
    assert_eq!(unknown.code(), "node_not_found");
    let follower = group.other(leader);
    let refused = group.node(follower).transfer_leader(NodeId(follower)).await.unwrap_err();
    assert_eq!(refused.code(), "not_leader");
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_voter_is_refused_and_replaced() {
    let mut group = Group::of(3).await;
    let leader = group.leader().await;
    write(group.at(leader), create_topic()).await;
    for _ in 0..5 {
        write(group.at(leader), append(100)).await;
    }
    let wiped = group.other(leader);
    group.stop(wiped).await;
    group.wipe(wiped);
    let foreign = Uuid::from_u128(0xbad);
    group.start_as(wiped, Start::Join, foreign).await;
    // It is not talked to, and not listened to.
    let vote = openraft::raft::VoteRequest::new(crate::raft::types::Vote::new(99, wiped), None);
    let body = crate::raft::wire::encode_vote(&vote).unwrap();
    let refused = group.node(leader).handle(NodeId(wiped), foreign, kind::VOTE, body).await.unwrap_err();
    assert_eq!(refused.code(), "node_identity_mismatch");
    write(group.at(leader), append(100)).await;
    assert_eq!(group.node(wiped).status().last_log, 0);
    let again = Member { address: format!("mem:{wiped}"), directory: foreign };
    let refused = group.node(leader).add_learner(NodeId(wiped), again).await.unwrap_err();
    assert_eq!(refused.code(), "node_identity_mismatch");
    let refused = group.node(leader).add_learner(NodeId(7), member(wiped)).await.unwrap_err();
    assert_eq!(refused.code(), "node_identity_mismatch", "that directory is another node's");
    // A new id takes its place.
    group.stop(wiped).await;
    group.start(4, Start::Join).await;
    group.node(leader).add_learner(NodeId(4), member(4)).await.unwrap();
    group.node(leader).wait_caught_up(NodeId(4), 8, soon()).await.unwrap();
    let kept: Vec<u64> = (1..=4).filter(|node| *node != wiped).collect();
    group.node(leader).set_voters(voters(&kept)).await.unwrap();
    assert_eq!(voters_of(group.node(leader)), kept);
    write(group.at(leader), append(100)).await;
    group.converge(&kept).await;
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_group_is_refused() {
    let group = Group::of(1).await;
    let leader = group.node(1);
    let nobody = leader.set_voters(BTreeSet::new()).await.unwrap_err();
    assert_eq!(nobody.code(), "invalid_members");
    let many = leader.set_voters(voters(&[1, 2, 3, 4, 5, 6])).await.unwrap_err();
    assert_eq!(many.code(), "invalid_members");
    let unknown = leader.set_voters(voters(&[1, 2])).await.unwrap_err();
    assert_eq!(unknown.code(), "node_not_found");
    let voter = leader.remove_learner(NodeId(1)).await.unwrap_err();
    assert_eq!(voter.code(), "node_is_voter");
    let homeless = Member { address: String::new(), directory: Uuid::from_u128(9) };
    assert_eq!(leader.add_learner(NodeId(2), homeless).await.unwrap_err().code(), "invalid_members");
    leader.remove_learner(NodeId(9)).await.unwrap();
    // A node that nobody answers for is a learner until it is removed, and costs nobody anything.
    leader.add_learner(NodeId(2), member(2)).await.unwrap();
    let behind = leader.wait_caught_up(NodeId(2), 0, Instant::now() + Duration::from_millis(100)).await.unwrap_err();
    assert_eq!(behind.code(), "unavailable");
    for _ in 0..2 {
        leader.remove_learner(NodeId(2)).await.unwrap();
    }
    assert_eq!(leader.members().len(), 1);
    group.end().await;
}

#[tokio::test]
async fn a_group_begins_with_its_founder_and_a_bounded_number() {
    let dir = tempfile::tempdir().unwrap();
    let begin = |members: &[u64]| {
        let members = members.iter().map(|node| (NodeId(*node), member(*node))).collect();
        RaftOptions {
            directory: super::group::directory(1),
            advertise: "mem:1".to_owned(),
            ..options(dir.path(), Start::New(members))
        }
    };
    for members in [&[2, 3][..], &[1, 2, 3, 4, 5, 6]] {
        assert_eq!(RaftNode::start(begin(members)).await.err().unwrap().code(), "invalid_members");
    }
    let foreign = RaftOptions { directory: Uuid::from_u128(1), ..begin(&[1, 2, 3]) };
    assert_eq!(RaftNode::start(foreign).await.err().unwrap().code(), "invalid_members");
    run(begin(&[1])).await.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_can_change() {
    let mut group = Group::of(3).await;
    let leader = group.leader().await;
    write(group.at(leader), create_topic()).await;
    let moved = group.other(leader);
    let elsewhere = Member { address: "mem:nowhere".to_owned(), ..member(moved) };
    group.node(leader).add_learner(NodeId(moved), elsewhere).await.unwrap();
    assert_eq!(voters_of(group.node(leader)), [1, 2, 3], "it votes as before");
    write(group.at(leader), append(10)).await;
    let has = group.node(moved).status().last_log;
    group.node(leader).add_learner(NodeId(moved), member(moved)).await.unwrap();
    eventually("it is reached again", || group.node(moved).status().last_log > has).await;
    let leader = group.leader().await;
    write(group.at(leader), append(10)).await;
    group.converge(&[1, 2, 3]).await;
    group.stop(moved).await;
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_stopped_halfway_is_ended_by_the_next() {
    let group = Group::of(3).await;
    let leader = group.leader().await;
    let kept: Vec<u64> = [leader, group.other(leader)].into();
    let nodes = (1..=3).map(|node| (node, member(node))).collect::<std::collections::BTreeMap<_, _>>();
    let sets = vec![[1, 2, 3].into(), kept.iter().copied().collect()];
    let joint = crate::raft::types::Membership::new(sets, nodes).unwrap();
    let raft = &group.node(leader).inner.raft;
    raft.append_membership(joint, openraft::EntryPayload::Blank, []).await.unwrap();
    // What the next one asks for is another thing.
    group.node(leader).add_learner(NodeId(9), member(9)).await.unwrap();
    let members: Vec<(u64, bool)> =
        group.node(leader).members().iter().map(|member| (member.node.0, member.voter)).collect();
    let mut expected: Vec<(u64, bool)> = kept.iter().map(|node| (*node, true)).collect();
    expected.sort_unstable();
    expected.push((9, false));
    assert_eq!(members, expected);
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_stopped_halfway_is_ended_without_another() {
    let group = Group::of(3).await;
    let leader = group.leader().await;
    let kept: std::collections::BTreeSet<u64> = [leader, group.other(leader)].into();
    let nodes = (1..=3).map(|node| (node, member(node))).collect::<std::collections::BTreeMap<_, _>>();
    let joint = crate::raft::types::Membership::new(vec![[1, 2, 3].into(), kept.clone()], nodes).unwrap();
    group.node(leader).inner.raft.append_membership(joint, openraft::EntryPayload::Blank, []).await.unwrap();
    eventually("the change", || group.node(leader).is_changing()).await;
    group.node(leader).end_change().await.unwrap();
    let members: Vec<(u64, bool)> =
        group.node(leader).members().iter().map(|member| (member.node.0, member.voter)).collect();
    assert_eq!(members, kept.iter().map(|node| (*node, true)).collect::<Vec<_>>());
    // Nothing to end is no error.
    group.node(leader).end_change().await.unwrap();
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_for_one_that_cannot_be_reached_ends_in_an_election() {
    let group = Group::of(3).await;
    let leader = group.leader().await;
    write(group.at(leader), create_topic()).await;
    group.converge(&[1, 2, 3]).await;
    let to = group.other(leader);
    group.node(leader).wait_caught_up(NodeId(to), 0, soon()).await.unwrap();
    group.net.isolate(to);
    let refused = group.node(leader).transfer_leader(NodeId(to)).await.unwrap_err();
    assert_eq!(refused.code(), "unavailable");
    let others: Vec<u64> = (1..=3).filter(|node| *node != to).collect();
    let next = group.leader_among(&others).await;
    write(group.at(next), append(10)).await;
    group.net.heal();
    group.leader().await;
    group.converge(&[1, 2, 3]).await;
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_time_jumps_with_the_voters_clocks_and_not_with_the_leaders_alone() {
    const DAY_MS: i64 = 24 * 3_600_000;
    let group = Group::of(3).await;
    let leader = group.leader().await;
    let log_time = || group.node(leader).with_state(|state| i64::try_from(state.log_time()).unwrap());
    group.at(leader).control(Control::Tick).await.unwrap();
    let begun = log_time();
    group.shift_wall(leader, 400 * DAY_MS);
    let asked = group.net.calls(kind::STATUS);
    eventually("the voters were asked again", || group.net.calls(kind::STATUS) >= asked + 4).await;
    group.at(leader).control(Control::Tick).await.unwrap();
    assert!(log_time() < begun + DAY_MS, "the leader's clock alone moved log time");
    for node in 1..=3 {
        group.shift_wall(node, 2 * DAY_MS);
    }
    let asked = group.net.calls(kind::STATUS);
    eventually("the voters were asked again", || group.net.calls(kind::STATUS) >= asked + 4).await;
    group.at(leader).control(Control::Tick).await.unwrap();
    assert!(log_time() > begun + DAY_MS, "all agree, and log time stays behind");
    assert!(log_time() < begun + 3 * DAY_MS);
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_under_way_when_leadership_is_handed_over_is_answered() {
    let group = Group::of(3).await;
    let mut leader = group.leader().await;
    write(group.at(leader), create_topic()).await;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writing: Vec<_> = (0..12)
        .map(|number| {
            let (writer, stop) = (group.at(1 + number % 3).clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut written = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    write(&writer, append(10_000)).await;
                    written += 1;
                }
                written
            })
        })
        .collect();
    for round in 0..6 {
        let applied = *group.node(leader).applied().borrow();
        eventually("some load", || *group.node(leader).applied().borrow() > applied + 20).await;
        let to = if round % 2 == 0 {
            group.other(leader)
        } else {
            group.running().into_iter().rfind(|node| *node != leader).unwrap()
        };
        group.node(leader).transfer_leader(NodeId(to)).await.unwrap();
        assert_eq!(group.leader().await, to);
        leader = to;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut written = 0;
    for task in writing {
        // A proposal whose fate is not known panics.
        written += task.await.unwrap();
    }
    group.converge(&[1, 2, 3]).await;
    assert_eq!(batches(group.node(1)), written);
    group.end().await;
}
