//! Hand-made histories: one that holds, and for each way to break a promise one that breaks it and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::history::{
    Attempt, Bounds, Durability, Guard, Look, ObjectPromise, Outcome, Page, Replica, Sample, Scan, Send, Stamped, Topic,
};

fn part(partition: u32) -> Part {
    ("t".to_owned(), partition)
}

fn record(value: &str) -> Record {
    Record { value: value.to_owned(), rest: 7 }
}

/// A history with its end, both to be broken.
#[derive(Clone)]
struct Case {
    history: History,
    end: End,
}

impl Case {
    /// Three records acknowledged in partition 0 one after the other, read, flushed (the first two) and replicated.
    fn good() -> Self {
        let mut case = Self { history: History::default(), end: End::default() };
        case.history.topics.insert(
            "t".to_owned(),
            Topic { created: Some(0), deleting: None, deleted: None, retention: None, archive: None },
        );
        for (at, value) in ["a", "b", "c"].into_iter().enumerate() {
            case.send(value, Outcome::Written(Durability::Quorum, vec![Some((0, at as u64))]));
        }
        let (begun, ended) = (case.history.stamp(), case.history.stamp());
        let bounds = Bounds { log_start: 0, high_watermark: 3 };
        let records: Vec<_> = (0..).zip(["a", "b", "c"].map(record)).collect();
        case.history.pages.push(Page {
            part: part(0),
            from: 0,
            begun,
            ended,
            records: records.clone(),
            next: 3,
            to_the_end: true,
            bounds,
        });
        let (begun, ended) = (case.history.stamp(), case.history.stamp());
        case.history.looks.push(Look { part: part(0), begun, ended, bounds });
        case.history.objects.push(ObjectPromise { place: (part(0), 1), flushed: 2 });
        let scan = PartScan { start: 0, end: 3, records: records.clone() };
        case.end.http = Scan { source: "http".to_owned(), ..Scan::default() };
        case.end.http.parts.insert(part(0), scan);
        case.end.http.parts.insert(part(1), PartScan::default());
        case.end.bucket = Scan { source: "bucket".to_owned(), ..Scan::default() };
        case.end.bucket.parts.insert(part(0), PartScan { start: 0, end: 2, records: records[..2].to_vec() });
        let stamped = |sequence| Stamped { producer: 1, epoch: 0, sequence };
        case.end.bucket.stamps = vec![(part(0), 0, stamped(0)), (part(0), 1, stamped(1))];
        for node in 1..=3 {
            let hash = "abc".to_owned();
            case.end.replicas.push(Replica { node, shard: 0, applied: 9, hash, log_time: 900 });
        }
        case.end.time = 1_000;
        case
    }

    fn send(&mut self, value: &str, outcome: Outcome) -> &mut Send {
        let (begun, ended) = (self.history.stamp(), self.history.stamp());
        let attempt = Attempt { begun, ended: Some(ended), time: 10, outcome };
        self.history.sends.push(Send {
            client: 1,
            topic: "t".to_owned(),
            partition: Some(0),
            records: vec![record(value)],
            guard: Guard::Plain,
            expected: None,
            attempts: vec![attempt],
        });
        self.history.sends.last_mut().unwrap()
    }

    fn http(&mut self) -> &mut PartScan {
        self.end.http.parts.get_mut(&part(0)).unwrap()
    }

    fn bucket(&mut self) -> &mut PartScan {
        self.end.bucket.parts.get_mut(&part(0)).unwrap()
    }

    /// A record that is there in the end, at the next offset.
    fn add(&mut self, value: &str) {
        let scan = self.http();
        scan.records.push((scan.end, record(value)));
        scan.end += 1;
    }

    fn cut(&mut self, kept: u64) {
        let at = self.history.stamp();
        self.history.cuts.push(Cut { at, kept: BTreeMap::from([(part(0), kept)]) });
    }
}

/// The promises that are broken once `change` was made to the good history.
fn broken(change: impl FnOnce(&mut Case)) -> BTreeSet<Invariant> {
    let mut case = Case::good();
    change(&mut case);
    check(&case.history, &case.end).violations.into_iter().map(|violation| violation.invariant).collect()
}

/// Exactly these are broken.
fn breaks<const N: usize>(invariants: [Invariant; N], change: impl FnOnce(&mut Case)) {
    assert_eq!(broken(change), BTreeSet::from(invariants));
}

#[test]
fn a_good_history_holds() {
    let case = Case::good();
    let verdict = check(&case.history, &case.end);
    assert_eq!(verdict.violations, []);
    assert!(verdict.evaluated > 30, "{}", verdict.evaluated);
}

#[test]
fn an_acknowledged_record_that_is_gone_or_changed_is_found() {
    let gone = [Invariant::AcknowledgedIsThere, Invariant::ReadsStay];
    breaks(gone, |case| {
        let scan = case.http();
        scan.records.pop();
        scan.end = 2;
    });
    breaks([Invariant::AcknowledgedIsThere], |case| {
        case.send("d", Outcome::Written(Durability::Quorum, vec![Some((0, 3))]));
    });
    let changed = [Invariant::AcknowledgedIsThere, Invariant::OnlyWhatWasSent, Invariant::ReadsStay];
    breaks(changed, |case| case.http().records[2].1.rest = 8);
}

#[test]
fn records_that_nobody_sent_are_found() {
    breaks([Invariant::OnlyWhatWasSent], |case| case.add("x"));
    breaks([Invariant::OnlyWhatWasSent], |case| {
        case.send("d", Outcome::Unknown).partition = Some(1);
        case.add("d");
    });
    breaks([Invariant::OnlyWhatWasSent, Invariant::ReadsStay], |case| {
        let mut page = case.history.pages[0].clone();
        page.records[0].1 = record("x");
        case.history.pages.push(page);
    });
}

#[test]
fn what_is_there_although_nobody_knew_or_nothing_was_promised_is_fine() {
    breaks([], |case| {
        case.send("d", Outcome::Unknown);
        case.send("e", Outcome::Accepted);
        case.send("f", Outcome::Unknown);
        case.add("e");
        case.add("d");
    });
}

#[test]
fn a_record_that_is_there_twice_is_found() {
    breaks([Invariant::Once], |case| case.add("b"));
}

#[test]
fn a_refused_record_that_is_there_is_found() {
    breaks([Invariant::RefusedIsNotThere], |case| {
        case.send("d", Outcome::NotWritten);
        case.add("d");
    });
    breaks([], |case| {
        let again = Attempt { begun: 90, ended: Some(91), time: 20, outcome: Outcome::NotWritten };
        case.send("d", Outcome::Unknown).attempts.push(again);
        case.add("d");
    });
}

#[test]
fn answers_that_contradict_each_other_are_found() {
    breaks([Invariant::OneOffset, Invariant::AcknowledgedIsThere], |case| {
        let outcome = Outcome::Written(Durability::Quorum, vec![Some((0, 5))]);
        case.history.sends[2].attempts.push(Attempt { begun: 90, ended: Some(91), time: 20, outcome });
    });
    let shared = [Invariant::OneOffset, Invariant::AcknowledgedIsThere, Invariant::Order];
    breaks(shared, |case| {
        case.send("d", Outcome::Written(Durability::Quorum, vec![Some((0, 2))]));
    });
}

#[test]
fn sequences_that_repeat_or_skip_are_found() {
    let stamped = |epoch, sequence| (part(0), 2, Stamped { producer: 1, epoch, sequence });
    for (epoch, sequence, fine) in [(0, 2, true), (0, 1, false), (0, 3, false), (1, 0, true), (0, 0, false)] {
        let invariants = broken(|case| case.end.bucket.stamps.push(stamped(epoch, sequence)));
        assert_eq!(invariants.is_empty(), fine, "{epoch} {sequence}");
        assert!(fine || invariants == BTreeSet::from([Invariant::SequencesAscend]));
    }
}

#[test]
fn requests_out_of_order_are_found() {
    breaks([Invariant::Order], |case| {
        for (value, offset) in [("d", 4), ("e", 3)] {
            case.send(value, Outcome::Written(Durability::Quorum, vec![Some((0, offset))]));
        }
        case.add("e");
        case.add("d");
    });
    // Beside each other any order is fine.
    breaks([], |case| {
        for (value, offset) in [("d", 4), ("e", 3)] {
            case.send(value, Outcome::Written(Durability::Quorum, vec![Some((0, offset))])).attempts[0].begun = 11;
        }
        case.add("e");
        case.add("d");
    });
}

#[test]
fn a_conditional_request_at_another_offset_is_found() {
    breaks([Invariant::Conditional], |case| case.history.sends[2].expected = Some(1));
    breaks([], |case| case.history.sends[2].expected = Some(2));
}

#[test]
fn a_gap_is_found() {
    breaks(
        [Invariant::Dense, Invariant::AcknowledgedIsThere, Invariant::ReadsStay, Invariant::SameEverywhere],
        |case| {
            case.http().records.remove(1);
        },
    );
    breaks([Invariant::Dense], |case| {
        case.bucket().records.remove(0);
    });
    breaks([Invariant::Dense], |case| case.http().end = 4);
}

#[test]
fn pages_with_gaps_or_beyond_the_high_watermark_are_found() {
    breaks([Invariant::PagesAreWhole], |case| {
        case.history.pages[0].records.remove(1);
    });
    breaks([Invariant::PagesAreWhole], |case| case.history.pages[0].next = 4);
    breaks([Invariant::PagesAreWhole, Invariant::Monotonic], |case| {
        case.history.pages[0].bounds.high_watermark = 2;
    });
}

#[test]
fn a_read_that_did_not_stay_is_found() {
    breaks([Invariant::ReadsStay], |case| {
        case.send("d", Outcome::Unknown);
        case.send("e", Outcome::Unknown);
        let mut page = case.history.pages[0].clone();
        page.from = 3;
        page.next = 4;
        page.bounds.high_watermark = 4;
        (page.begun, page.ended) = (case.history.stamp(), case.history.stamp());
        page.records = vec![(3, record("d"))];
        case.history.pages.push(page);
        case.add("e");
    });
}

#[test]
fn a_stale_read_is_found() {
    // It was asked for after "c" was acknowledged.
    breaks([Invariant::Monotonic], |case| case.history.looks[0].bounds.high_watermark = 2);
    // And before: fine.
    breaks([], |case| {
        let look = &mut case.history.looks[0];
        (look.begun, look.bounds.high_watermark) = (3, 1);
    });
    breaks([Invariant::Monotonic], |case| {
        let mut look = case.history.looks[0].clone();
        look.bounds.log_start = 1;
        case.history.looks.insert(0, look);
        let (begun, ended) = (case.history.stamp(), case.history.stamp());
        (case.history.looks[1].begun, case.history.looks[1].ended) = (begun, ended);
    });
}

#[test]
fn tiers_that_differ_are_found() {
    breaks([Invariant::SameEverywhere, Invariant::OnlyWhatWasSent], |case| case.bucket().records[1].1.rest = 8);
    breaks([Invariant::SameEverywhere], |case| case.end.http.problems.push("another page".to_owned()));
    breaks([Invariant::BucketIsWhole], |case| case.end.bucket.problems.push("a segment is missing".to_owned()));
}

#[test]
fn a_state_that_differs_from_one_that_was_before_is_found() {
    let sample =
        |node, applied, hash| Sample { incarnation: 1, shard: 2, applied, flushed: 4, node, at: 5 * applied, hash };
    breaks([Invariant::ReplicasAgree], |case| {
        case.end.samples = vec![sample(1, 7, 1), sample(2, 7, 1), sample(1, 8, 2), sample(1, 7, 3)];
    });
    breaks([], |case| {
        let other = Sample { incarnation: 2, ..sample(1, 7, 3) };
        let elsewhere = Sample { shard: 1, ..sample(1, 7, 4) };
        let restored = Sample { flushed: 6, ..sample(1, 7, 5) };
        case.end.samples = vec![sample(1, 7, 1), sample(2, 7, 1), sample(1, 8, 2), other, elsewhere, restored];
    });
}

#[test]
fn replicas_that_differ_and_log_time_that_runs_away_are_found() {
    breaks([Invariant::ReplicasAgree], |case| case.end.replicas[2].hash = "abd".to_owned());
    breaks([], |case| {
        case.end.replicas[2].hash = "abd".to_owned();
        case.end.replicas[2].applied = 8;
    });
    breaks([Invariant::LogTime], |case| case.end.replicas[0].log_time = 400 * 86_400_000);
}

#[test]
fn records_that_went_before_their_time_are_found() {
    let trim = |case: &mut Case| {
        for scan in [&mut case.end.http, &mut case.end.bucket] {
            let scan = scan.parts.get_mut(&part(0)).unwrap();
            scan.records.remove(0);
            scan.start = 1;
        }
        case.end.time = 100_000;
    };
    breaks([Invariant::Retention], trim);
    let with_retention = |case: &mut Case, retention| {
        trim(case);
        case.history.topics.get_mut("t").unwrap().retention = Some(retention);
    };
    breaks([], |case| with_retention(case, 90_000));
    breaks([Invariant::Retention], |case| with_retention(case, 900_000));

    // In the archive they may stay for longer.
    let with_archive = |case: &mut Case, archive, kept: &[(u64, Record)]| {
        with_retention(case, 90_000);
        case.history.topics.get_mut("t").unwrap().archive = Some(archive);
        case.end.bucket.kept.insert(part(0), kept.to_vec());
    };
    breaks([], |case| with_archive(case, 200_000, &[(0, record("a"))]));
    breaks([], |case| with_archive(case, 100_000, &[]));
    for kept in [vec![], vec![(0, record("b"))], vec![(1, record("a"))]] {
        breaks([Invariant::ArchiveRetention], |case| with_archive(case, 200_000, &kept));
    }
}

#[test]
fn topics_that_are_gone_or_stay_are_found() {
    let gone = [Invariant::Topics];
    breaks(gone, |case| {
        let topic = Topic { created: Some(1), deleting: None, deleted: None, retention: None, archive: None };
        case.history.topics.insert("u".to_owned(), topic);
    });
    breaks(gone, |case| {
        let topic = case.history.topics.get_mut("t").unwrap();
        (topic.deleting, topic.deleted) = (Some(20), Some(21));
    });
}

#[test]
fn an_answer_of_the_bucket_before_it_was_there_is_found() {
    breaks([Invariant::ObjectIsInTheBucket], |case| case.history.objects[0].place.1 = 2);
}

#[test]
fn a_start_from_the_bucket_may_lose_what_was_not_in_it_and_nothing_else() {
    let shorten = |case: &mut Case| {
        let scan = case.http();
        scan.records.truncate(2);
        scan.end = 2;
    };
    breaks([], |case| {
        shorten(case);
        case.cut(2);
        // The offset is given anew.
        case.send("d", Outcome::Written(Durability::Quorum, vec![Some((0, 2))]));
        case.add("d");
    });
    breaks([Invariant::AcknowledgedIsThere], |case| {
        shorten(case);
        case.cut(2);
        case.history.sends[2].attempts[0].outcome = Outcome::Written(Durability::Object, vec![Some((0, 2))]);
    });
    breaks([Invariant::AcknowledgedIsThere, Invariant::ReadsStay], |case| {
        shorten(case);
        case.cut(3);
    });
}
