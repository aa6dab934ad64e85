//! What a caller learns when Raft fails, time is up, or the caller itself goes away.

use super::*;
use crate::model::Rejection;

/// A deadline that is over as soon as somebody looks.
fn hurried(submission: Submission) -> Submission {
    Submission { deadline: Instant::now() + Duration::from_millis(20), ..submission }
}

#[tokio::test]
async fn what_was_not_written_is_proposed_again() {
    let mut bench = Bench::new(2);
    let pending = bench.submit(bench.one(0, "a"));
    for _ in 0..3 {
        bench.proposal().await.fail(ProposeFailure::NotWritten);
    }
    let proposal = bench.proposal().await;
    assert_eq!(proposal.values(0), ["a"]);
    proposal.apply(4);
    assert_eq!(place(pending.wait().await), (4, 1));
}

#[tokio::test]
async fn what_the_leader_refuses_is_told_to_everybody_as_the_leader_said_it() {
    let mut bench = Bench::new(1);
    let (_plug, first) = bench.plug().await;
    let plain = bench.submit(bench.one(0, "plain"));
    let keyed = bench.submit(Submission { idempotency: Some(keyed(1)), ..bench.one(1, "keyed") });
    let doubtful = bench.submit(Submission { triple: triple(1, 0), ..bench.one(2, "doubtful") });
    first.apply(0);
    let refusal = || ProposeFailure::Refused(Error::overloaded("full").with_number("retry_after_ms", 7));
    bench.proposal().await.fail(ProposeFailure::Unknown);
    assert_eq!(failure(plain.wait().await), ("unavailable", Outcome::Unknown));
    bench.proposal().await.fail(refusal());
    // An earlier proposal of theirs may have been written.
    assert_eq!(failure(keyed.wait().await), ("overloaded", Outcome::Unknown));
    assert_eq!(failure(doubtful.wait().await), ("overloaded", Outcome::Unknown));
    let pending = bench.submit(bench.one(0, "next"));
    bench.proposal().await.fail(refusal());
    let error = pending.wait().await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), ("overloaded", Outcome::NotWritten));
    assert_eq!(error.details(), [("retry_after_ms", crate::error::Detail::Number(7))]);
}

#[tokio::test]
async fn what_is_never_written_within_its_time_was_not_written() {
    let mut bench = Bench::new(1);
    let pending = bench.submit(hurried(bench.one(0, "a")));
    let refuse = async {
        while let Some(proposal) = bench.proposals.recv().await {
            proposal.fail(ProposeFailure::NotWritten);
        }
    };
    let answer = tokio::select! {
        answer = pending.wait() => answer,
        () = refuse => unreachable!("the batcher runs"),
    };
    let (code, outcome) = failure(answer);
    assert_eq!(code, "timeout");
    // The alarm rings either in a pause between two proposals or while one is out.
    assert!(matches!(outcome, Outcome::NotWritten | Outcome::Unknown));
}

#[tokio::test]
async fn an_unknown_outcome_is_told_to_those_who_cannot_repeat_and_tried_again_for_the_others() {
    let mut bench = Bench::new(1);
    let (_plug, first) = bench.plug().await;
    let plain = bench.submit(bench.one(0, "plain"));
    let conditional = bench.submit(Submission { expected_offset: Some(0), ..bench.one(1, "conditional") });
    let producer = bench.submit(Submission { triple: triple(1, 0), ..bench.one(0, "producer") });
    let keyed = bench.submit(Submission { idempotency: Some(keyed(1)), ..bench.one(2, "keyed") });
    first.apply(0);
    let mixed = bench.proposal().await;
    assert_eq!(mixed.appends.len(), 4);
    mixed.fail(ProposeFailure::Unknown);
    assert_eq!(failure(plain.wait().await), ("unavailable", Outcome::Unknown));
    assert_eq!(failure(conditional.wait().await), ("unavailable", Outcome::Unknown));
    let again = bench.proposal().await;
    let order: Vec<String> = again.appends.iter().flat_map(values).collect();
    assert_eq!(order, ["producer", "keyed"]);
    again.apply(6);
    assert_eq!(place(producer.wait().await), (6, 1));
    assert_eq!(place(keyed.wait().await), (6, 1));
}

#[tokio::test]
async fn a_retry_goes_before_what_its_producer_sent_later() {
    let mut bench = Bench::new(4);
    let first = bench.submit(Submission { triple: triple(1, 0), ..bench.one(0, "s0") });
    let proposal = bench.proposal().await;
    let second = bench.submit(Submission { triple: triple(1, 1), ..bench.one(0, "s1") });
    proposal.fail(ProposeFailure::Unknown);
    let retry = bench.proposal().await;
    let sequences: Vec<u32> = retry.appends.iter().map(|append| append.triple.unwrap().sequence).collect();
    assert_eq!(sequences, [0, 1]);
    retry.apply(0);
    assert!(first.wait().await.is_ok() && second.wait().await.is_ok());
}

#[tokio::test]
async fn after_an_unknown_attempt_no_answer_claims_that_nothing_was_written() {
    let mut bench = Bench::new(1);
    let pending = bench.submit(Submission { triple: triple(1, 0), ..bench.one(0, "a") });
    bench.proposal().await.fail(ProposeFailure::Unknown);
    bench.proposal().await.answer(Answer::Rejected(Rejection::Closed));
    assert_eq!(failure(pending.wait().await), ("closed", Outcome::Unknown));
}

#[tokio::test]
async fn time_that_is_up_before_the_proposal_writes_nothing() {
    let mut bench = Bench::new(1);
    let (plug, first) = bench.plug().await;
    let late = bench.submit(hurried(bench.one(0, "late")));
    let patient = bench.submit(bench.one(0, "patient"));
    assert_eq!(failure(late.wait().await), ("timeout", Outcome::NotWritten));
    first.apply(0);
    assert!(plug.wait().await.is_ok());
    let proposal = bench.proposal().await;
    assert_eq!(proposal.values(0), ["patient"], "what the caller took back is not written later");
    proposal.apply(1);
    assert!(patient.wait().await.is_ok());
    assert_eq!(bench.admission.used(), 0);
}

#[tokio::test]
async fn time_that_is_up_after_the_proposal_is_unknown_and_frees_the_slot() {
    let mut bench = Bench::new(1);
    let late = bench.submit(hurried(bench.one(0, "late")));
    let hanging = bench.proposal().await;
    assert_eq!(failure(late.wait().await), ("timeout", Outcome::Unknown));
    let next = bench.submit(bench.one(0, "next"));
    let proposal = bench.proposal().await;
    assert_eq!(proposal.values(0), ["next"]);
    proposal.apply(1);
    assert!(next.wait().await.is_ok());
    drop(hanging);
}

#[tokio::test]
async fn callers_that_go_away_change_nothing_for_others() {
    let mut bench = Bench::new(1);
    let (plug, first) = bench.plug().await;
    drop(plug);
    let gone = bench.submit(bench.one(0, "gone"));
    let stays = bench.submit(bench.one(0, "stays"));
    drop(gone);
    first.apply(0);
    let proposal = bench.proposal().await;
    assert_eq!(proposal.values(0), ["gone", "stays"], "acks=none drops the answer, not the records");
    proposal.apply(5);
    assert_eq!(place(stays.wait().await), (6, 1));
}

#[tokio::test]
async fn a_stopped_node_is_unknown_for_what_is_in_flight_and_nothing_for_the_rest() {
    let mut bench = Bench::new(1);
    let (plug, first) = bench.plug().await;
    let queued = bench.submit(bench.one(0, "queued"));
    first.fail(ProposeFailure::Fatal);
    assert_eq!(failure(plug.wait().await), ("unavailable", Outcome::Unknown));
    assert_eq!(failure(queued.wait().await), ("unavailable", Outcome::NotWritten));
    let later = bench.submit(bench.one(0, "later"));
    assert_eq!(failure(later.wait().await), ("unavailable", Outcome::NotWritten));
}
