//! The checker finds each kind of broken promise, and none in a history without.

use super::check::{Scan, check, same};
use super::journal::{Fate, Journal, Page, Records, Repeated};

/// Two producers, one consumer, one partition.
fn history() -> (Records, Scan) {
    let journal = Journal::new();
    let values = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    journal.sending(0, 0, &values(&["a", "b"]));
    journal.sending(1, 0, &values(&["c"]));
    journal.sending(1, 1, &values(&["refused"]));
    journal.given_up(&values(&["refused"]), Fate::Refused);
    journal.acked(&values(&["a", "b"]), &[(0, 0), (0, 2)]);
    journal.acked(&values(&["c"]), &[(0, 1)]);
    let mut records = std::mem::take(&mut *journal.records());
    let page =
        |from, names: &[&str], end, asked| Page { consumer: 0, partition: 0, from, values: values(names), end, asked };
    for acked in &mut records.acked {
        acked.at = 10;
    }
    records.pages = vec![page(0, &[], Some(0), 5), page(0, &["a", "c"], None, 6), page(2, &["b"], Some(3), 11)];
    records.repeated = vec![Repeated { first: vec![(0, 1)], again: vec![(0, 1)], duplicate: true }];
    (records, Scan::from([(0, values(&["a", "c", "b"]))]))
}

/// The invariants that a changed history breaks.
fn broken(change: impl FnOnce(&mut Records, &mut Scan)) -> Vec<&'static str> {
    let (mut records, mut scan) = history();
    change(&mut records, &mut scan);
    let verdicts = check(&records, &scan);
    verdicts.into_iter().filter(|verdict| !verdict.broken.is_empty()).map(|verdict| verdict.invariant).collect()
}

#[test]
fn a_history_that_keeps_its_promises_is_told_to_and_every_invariant_was_looked_at() {
    let (records, scan) = history();
    for verdict in check(&records, &scan) {
        assert!(verdict.evaluated > 0 && verdict.broken.is_empty(), "{verdict:?}");
    }
}

#[test]
fn each_broken_promise_is_found() {
    let only = |change: fn(&mut Records, &mut Scan), part: &str| {
        let found = broken(change);
        assert!(found.iter().any(|invariant| invariant.contains(part)), "{part}: {found:?}");
    };
    only(|_, scan| drop(scan.get_mut(&0).unwrap().pop()), "acknowledged record is at its offset");
    only(|records, _| records.acked[0].value = "c".to_owned(), "acknowledged record is at its offset");
    only(|records, _| records.acked[0].place = (0, 1), "promised to one record");
    only(|_, scan| scan.get_mut(&0).unwrap().push("a".to_owned()), "there once");
    only(|_, scan| scan.get_mut(&0).unwrap().push("foreign".to_owned()), "not sent");
    only(|_, scan| scan.get_mut(&0).unwrap().push("refused".to_owned()), "did not write");
    only(|_, scan| scan.get_mut(&0).unwrap().swap(0, 2), "keep their order");
    only(|records, _| drop(records.pages.remove(1)), "each offset in turn");
    only(|records, _| records.pages[1].values[1] = "b".to_owned(), "each offset in turn");
    only(|records, _| records.pages[2].end = Some(2), "not older than");
    only(|records, _| records.repeated[0].duplicate = false, "gets its first answer");
    only(|records, _| records.repeated[0].again = vec![(0, 2)], "gets its first answer");
    only(|records, _| records.wrong.push("500".to_owned()), "must not give");
}

#[test]
fn an_end_that_was_true_when_it_was_asked_for_is_not_old() {
    // Acknowledged while the page was on its way.
    assert!(broken(|records, _| records.pages[0].asked = 10).is_empty());
    assert_eq!(broken(|records, _| records.pages[0].asked = 11).len(), 1);
}

#[test]
fn a_record_of_unknown_outcome_may_be_there_late() {
    let late = |fate| {
        broken(move |records, scan| {
            scan.get_mut(&0).unwrap().extend(["d".to_owned(), "late".to_owned()]);
            for (value, number) in [("late", 2), ("d", 3)] {
                let sent = super::journal::Sent { producer: 1, number, fate };
                records.sent.insert(value.to_owned(), sent);
            }
        })
    };
    assert!(late(Fate::Unknown).is_empty());
    assert_eq!(late(Fate::Retried).len(), 1);
}

#[test]
fn readers_that_differ_are_told_where() {
    let (_, scan) = history();
    assert!(same("s", &scan, &scan).broken.is_empty());
    let mut other = scan.clone();
    other.get_mut(&0).unwrap()[1] = "x".to_owned();
    assert_eq!(same("s", &scan, &other).broken, ["offset 1 of partition 0: c and x"]);
    other.remove(&0);
    assert_eq!(same("s", &scan, &other).broken.len(), 1);
}
