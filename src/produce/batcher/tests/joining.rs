//! What shares an entry and a batch, and what answer each submission gets.

use super::*;
use crate::model::Rejection;

#[tokio::test]
async fn a_lone_submission_leaves_at_once() {
    let mut bench = Bench::new(1);
    let pending = bench.submit(bench.many(0, &["a", "b"]));
    let proposal = bench.proposal().await;
    assert_eq!(proposal.values(0), ["a", "b"]);
    proposal.apply(40);
    assert_eq!(place(pending.wait().await), (40, 2));
    assert_eq!(bench.admission.used(), 0, "the permit was given back");
}

#[tokio::test]
async fn what_waits_shares_one_entry_and_a_batch_for_each_partition() {
    let mut bench = Bench::new(1);
    let (plug, first) = bench.plug().await;
    let a = bench.submit(bench.many(0, &["a1", "a2"]));
    let b = bench.submit(bench.one(1, "b"));
    let c = bench.submit(bench.one(0, "c"));
    first.apply(0);
    assert_eq!(place(plug.wait().await), (0, 1));
    let proposal = bench.proposal().await;
    assert_eq!(proposal.appends.len(), 2);
    assert_eq!(
        (proposal.values(0), proposal.values(1)),
        (vec!["a1".into(), "a2".into(), "c".into()], vec!["b".into()])
    );
    proposal.apply(10);
    assert_eq!(place(a.wait().await), (10, 2));
    assert_eq!(place(b.wait().await), (10, 1));
    assert_eq!(place(c.wait().await), (12, 1));
}

#[tokio::test]
async fn what_apply_must_tell_apart_is_not_merged_and_order_is_kept() {
    let mut bench = Bench::new(1);
    let (_plug, first) = bench.plug().await;
    let batch =
        batch::encode(&[Record { value: Some("raw".into()), ..Record::default() }], Compression::None, None).unwrap();
    let submissions = [
        bench.one(0, "plain"),
        Submission { triple: triple(1, 0), ..bench.one(0, "triple") },
        Submission { idempotency: Some(keyed(5)), ..bench.one(0, "key") },
        Submission { expected_offset: Some(3), ..bench.one(0, "expected") },
        Submission { content: Content::Encoded(batch.bytes, batch.info), ..bench.one(0, "") },
        Submission { compression: Compression::Zstd, ..bench.one(0, "zstd") },
        bench.one(0, "other compression"),
    ];
    let pending: Vec<Pending> = submissions.into_iter().map(|submission| bench.submit(submission)).collect();
    first.apply(0);
    let proposal = bench.proposal().await;
    let order: Vec<String> = proposal.appends.iter().flat_map(values).collect();
    assert_eq!(order, ["plain", "triple", "key", "expected", "raw", "zstd", "other compression"]);
    assert_eq!(proposal.appends.len(), pending.len());
    assert_eq!((proposal.appends[1].triple, proposal.appends[2].idempotency), (triple(1, 0), Some(keyed(5))));
    assert_eq!(proposal.appends[3].expected_offset, Some(3));
}

#[tokio::test]
async fn an_entry_and_a_merged_batch_are_bounded() {
    let mut bench = Bench::with(|options| {
        options.slots = 1;
        options.entry_bytes = 4_000;
        options.merge_bytes = 2_000;
    });
    let (_plug, first) = bench.plug().await;
    let value = "x".repeat(900);
    let _pending: Vec<Pending> = (0..5).map(|_| bench.submit(bench.one(0, &value))).collect();
    let large = "y".repeat(10_000);
    let _large = bench.submit(bench.one(0, &large));
    first.apply(0);
    let proposal = bench.proposal().await;
    let sizes: Vec<usize> = (0..proposal.appends.len()).map(|batch| proposal.values(batch).len()).collect();
    assert_eq!(sizes, [2, 2], "two records a batch, four an entry");
    proposal.apply(1);
    let proposal = bench.proposal().await;
    assert_eq!(proposal.values(0).len(), 1);
    proposal.apply(5);
    assert_eq!(bench.proposal().await.values(0), [large], "what is above the limit by itself leaves alone");
}

#[tokio::test]
async fn an_entry_beside_others_waits_until_it_is_as_large_as_the_newest() {
    let mut bench = Bench::new(4);
    let _crowd: Vec<Pending> = ["0", "1", "2"].map(|value| bench.submit(bench.one(0, value))).into();
    let three = bench.proposal().await;
    assert_eq!(three.values(0).len(), 3);
    let _c = bench.submit(bench.one(0, "c"));
    let _d = bench.submit(bench.one(0, "d"));
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(bench.proposals.is_empty(), "two wait for a third, or for the three to land");
    let _e = bench.submit(bench.one(0, "e"));
    let next = bench.proposal().await;
    assert_eq!(next.values(0), ["c", "d", "e"]);
    let _f = bench.submit(bench.one(0, "f"));
    let large = "x".repeat(65 << 10);
    let _large = bench.submit(bench.one(1, &large));
    assert_eq!(bench.proposal().await.appends.len(), 2, "many bytes are worth an entry");
}

#[tokio::test]
async fn several_entries_are_in_flight_but_one_of_a_producer_and_partition() {
    let mut bench = Bench::new(4);
    let first = bench.submit(Submission { triple: triple(1, 0), ..bench.one(0, "p1 s0") });
    let first_proposal = bench.proposal().await;
    let second = bench.submit(Submission { triple: triple(1, 1), ..bench.one(0, "p1 s1") });
    let third = bench.submit(Submission { triple: triple(1, 2), ..bench.one(0, "p1 s2") });
    let elsewhere = bench.submit(Submission { triple: triple(1, 0), ..bench.one(1, "p1 elsewhere") });
    let proposal = bench.proposal().await;
    assert_eq!((proposal.appends.len(), proposal.values(0)), (1, vec!["p1 elsewhere".to_owned()]));
    let other = bench.submit(Submission { triple: triple(2, 0), ..bench.one(0, "p2 s0") });
    let other_proposal = bench.proposal().await;
    assert_eq!(other_proposal.values(0), ["p2 s0"]);
    other_proposal.apply(5);
    assert_eq!(place(other.wait().await), (5, 1));
    assert!(bench.proposals.is_empty());
    first_proposal.apply(6);
    assert_eq!(place(first.wait().await), (6, 1));
    let both = bench.proposal().await;
    let sequences: Vec<u32> = both.appends.iter().map(|append| append.triple.unwrap().sequence).collect();
    assert_eq!(sequences, [1, 2], "what waited for the lane shares the next entry, in order");
    both.apply(7);
    assert_eq!(place(second.wait().await), (7, 1));
    proposal.apply(0);
    assert!(third.wait().await.is_ok() && elsewhere.wait().await.is_ok());
}

#[tokio::test]
async fn entries_of_one_partition_enter_raft_in_order_whatever_their_encoding_takes() {
    let mut bench = Bench::new(4);
    let large = "z".repeat(1 << 20);
    let _large = bench.submit(bench.one(0, &large));
    // Lets the batcher begin with the large one; should it not, both share an entry.
    tokio::task::yield_now().await;
    let _small = bench.submit(bench.one(0, "small"));
    let first = bench.proposal().await;
    assert_eq!(first.values(0)[0].len(), 1 << 20);
    if first.values(0).len() == 1 {
        assert_eq!(bench.proposal().await.values(0), ["small"]);
    }
}

#[tokio::test]
async fn every_batch_has_its_own_outcome() {
    let mut bench = Bench::new(1);
    let (_plug, first) = bench.plug().await;
    let good = bench.submit(bench.one(0, "good"));
    let bad = bench.submit(Submission { expected_offset: Some(3), ..bench.one(1, "bad") });
    first.apply(0);
    let proposal = bench.proposal().await;
    let appended = Appended { base_offset: 8, count: 1, duplicate: true, log_index: 3 };
    proposal.answer(Answer::Appended(vec![Ok(appended), Err(Rejection::OffsetMismatch { actual: 9 })]));
    assert_eq!(good.wait().await.unwrap(), appended);
    let error = bad.wait().await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), ("offset_mismatch", Outcome::NotWritten));
    assert_eq!(error.details(), [("actual_offset", crate::error::Detail::Number(9))]);
}

#[tokio::test]
async fn a_rejected_entry_is_rejected_for_all() {
    let mut bench = Bench::new(1);
    let pending = bench.submit(bench.one(0, "a"));
    bench.proposal().await.answer(Answer::Rejected(Rejection::Closed));
    assert_eq!(failure(pending.wait().await), ("closed", Outcome::NotWritten));
    let pending = bench.submit(bench.one(0, "a"));
    bench.proposal().await.answer(Answer::Done);
    assert_eq!(failure(pending.wait().await), ("internal", Outcome::Unknown));
}

#[tokio::test]
async fn the_gate_refuses_before_anything_is_queued() {
    let mut bench = Bench::with(|options| {
        options.gate = Arc::new(|| Err(crate::produce::admission::overloaded("the log is full", 100)));
    });
    let error = bench.batcher.submit(bench.one(0, "a")).unwrap_err();
    assert_eq!((error.code(), error.outcome()), ("overloaded", Outcome::NotWritten));
    assert_eq!(bench.admission.used(), 0);
    assert!(bench.proposals.try_recv().is_err());
}

#[tokio::test]
async fn the_task_ends_once_all_was_answered_after_the_last_handle() {
    let (sender, mut proposals) = mpsc::unbounded_channel();
    let scripted = Scripted { proposals: sender, log_time: AtomicU64::new(1) };
    let (batcher, task) = Batcher::start(Arc::new(scripted), BatcherOptions::new(Arc::new(|| Ok(()))));
    let bench = Bench::new(1);
    let pending = batcher.submit(bench.one(0, "last")).unwrap();
    drop(batcher);
    proposals.recv().await.unwrap().apply(3);
    assert_eq!(place(pending.wait().await), (3, 1));
    task.await.unwrap();
}
