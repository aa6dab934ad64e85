//! The checker finds each kind of broken promise, and none in a history without.

use serde_json::{Value, json};

use super::check::{Scan, check, same};
use super::journal::record::{self, Found, Rest};
use super::journal::{Fate, Journal, Page, Records, Repeated};

/// The record with this value as it was sent.
fn found(value: &str) -> Found {
    changed(value, |_| ())
}

/// The same with something else than it was sent with.
fn changed(value: &str, change: impl FnOnce(&mut Rest)) -> Found {
    let mut rest = Rest::of(value);
    change(&mut rest);
    Found::new(value.to_owned(), &rest)
}

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
    let all = |names: &[&str]| names.iter().map(|name| found(name)).collect::<Vec<_>>();
    let page =
        |from, names: &[&str], end, asked| Page { consumer: 0, partition: 0, from, found: all(names), end, asked };
    for acked in &mut records.acked {
        acked.at = 10;
    }
    records.pages = vec![page(0, &[], Some(0), 5), page(0, &["a", "c"], None, 6), page(2, &["b"], Some(3), 11)];
    records.repeated = vec![Repeated { first: vec![(0, 1)], again: vec![(0, 1)], duplicate: true }];
    (records, Scan::from([(0, all(&["a", "c", "b"]))]))
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
    only(|_, scan| scan.get_mut(&0).unwrap().push(found("a")), "there once");
    only(|_, scan| scan.get_mut(&0).unwrap().push(found("foreign")), "not sent");
    only(|_, scan| scan.get_mut(&0).unwrap().push(found("refused")), "did not write");
    only(|_, scan| scan.get_mut(&0).unwrap().swap(0, 2), "keep their order");
    only(|records, _| drop(records.pages.remove(1)), "each offset in turn");
    only(|records, _| records.pages[1].found[1] = found("b"), "each offset in turn");
    let whole = "has the key, the headers and the timestamp";
    only(|_, scan| scan.get_mut(&0).unwrap()[1] = changed("c", |rest| rest.key = Some(Vec::new())), whole);
    only(|_, scan| scan.get_mut(&0).unwrap()[1] = changed("c", |rest| rest.headers.reverse()), whole);
    only(|records, _| records.pages[1].found[0] = changed("a", |rest| rest.timestamp = Some(7)), whole);
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
            scan.get_mut(&0).unwrap().extend([found("d"), found("late")]);
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
    other.get_mut(&0).unwrap()[1] = found("x");
    let told = "offset 1 of partition 0: c (timestamp 1700006544813) and x (timestamp 1700006544813)";
    assert_eq!(same("s", &scan, &other).broken, [told]);
    other.get_mut(&0).unwrap()[1] = changed("c", |rest| rest.headers.clear());
    assert_eq!(same("s", &scan, &other).broken.len(), 1);
    other.remove(&0);
    assert_eq!(same("s", &scan, &other).broken.len(), 1);
}

/// A record as a server answers it that was sent with this value.
fn answered(value: &str) -> Value {
    let mut record = json!({"key": null, "headers": [], "timestamp": 1_800_000_000_000_u64});
    let sent = record::body(value);
    if sent["key_base64"].is_string() {
        record.as_object_mut().unwrap().remove("key");
    }
    record.as_object_mut().unwrap().extend(sent.as_object().unwrap().clone());
    record
}

#[test]
fn whatever_a_record_has_is_missed_when_it_is_another() {
    // So many that each kind of key, of headers and of timestamp was there with each other one.
    for value in (0..4).flat_map(|producer| (0..140).map(move |number| format!("{producer}-{number}-x"))) {
        let answered = answered(&value);
        assert!(Found::read(&answered).is_whole(), "{answered}");
        let missed = |member: &str, other: Value| {
            let mut record = answered.clone();
            if member == "key" {
                record.as_object_mut().unwrap().remove("key_base64");
            }
            record[member] = other;
            assert!(!Found::read(&record).is_whole(), "{record} instead of {answered}");
        };
        missed("key", if answered["key"] == "" { Value::Null } else { "".into() });
        missed("key", "other".into());
        let headers = answered["headers"].as_array().unwrap();
        missed("headers", [headers.as_slice(), &[json!(["more", null])]].concat().into());
        if headers.len() > 1 {
            missed("headers", headers.iter().rev().cloned().collect());
        }
        if !headers.is_empty() {
            missed("headers", headers[1..].into());
            missed("headers", json!([[headers[0][0], "other"]]));
        }
        let sent = Rest::of(&value).timestamp;
        missed("timestamp", sent.map_or(0, |timestamp| timestamp + 1).into());
        missed("timestamp", Value::Null);
    }
}

#[test]
fn a_timestamp_of_the_server_is_the_same_for_all_readers() {
    let at = |time| changed("0-6-x", |rest| rest.timestamp = Some(time));
    let (one, other) = (at(1_800_000_000_000), at(1_800_000_000_001));
    assert!(Rest::of("0-6-x").timestamp.is_none() && one.is_whole() && other.is_whole());
    assert_eq!(same("s", &Scan::from([(0, vec![one])]), &Scan::from([(0, vec![other])])).broken.len(), 1);
}
