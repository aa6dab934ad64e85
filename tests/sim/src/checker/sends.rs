//! What was sent: each acknowledged record is there, once, where its answers said, in order.

use std::collections::{BTreeMap, HashMap};

use super::{Invariant, Known, Verdict, named};
use crate::history::{Attempt, Durability, Outcome, Part, Record, Scan, Send, Stamp};

pub(super) fn check(known: &Known<'_>, verdict: &mut Verdict) {
    let placed = placed(known);
    one_offset(known, &placed, verdict);
    acknowledged(known, &placed, verdict);
    objects(known, verdict);
    conditional(known, &placed, verdict);
    order(known, &placed, verdict);
    for scan in [&known.end.http, &known.end.bucket] {
        once(known, scan, verdict);
        refused(known, scan, verdict);
        sequences(scan, verdict);
    }
}

/// A record that an answer placed.
struct Placed<'a> {
    send: usize,
    record: &'a Record,
    attempt: &'a Attempt,
    durability: Durability,
    part: Part,
    offset: u64,
    /// When the answer was there.
    ended: Stamp,
}

fn placed<'a>(known: &Known<'a>) -> Vec<Placed<'a>> {
    let mut all = Vec::new();
    for (send, request) in known.history.sends.iter().enumerate() {
        for attempt in &request.attempts {
            let Outcome::Written(durability, places) = &attempt.outcome else { continue };
            for (record, place) in request.records.iter().zip(places) {
                let Some((partition, offset)) = place else { continue };
                let part = (request.topic.clone(), *partition);
                let ended = attempt.ended.unwrap_or(Stamp::MAX);
                all.push(Placed { send, record, attempt, durability: *durability, part, offset: *offset, ended });
            }
        }
    }
    all
}

/// Answers to one request agree, and no two requests share an offset. A start from the bucket that lost an offset may give it
/// to another.
fn one_offset(known: &Known<'_>, placed: &[Placed<'_>], verdict: &mut Verdict) {
    let mut owners: HashMap<(usize, &Part, u64), &str> = HashMap::new();
    let mut places: HashMap<&str, &Placed<'_>> = HashMap::new();
    for answer in placed {
        let value = answer.record.value.as_str();
        if let Some(before) = places.insert(value, answer) {
            let lost = known.lost(before.ended, &before.part, before.offset).is_some();
            let same = before.part == answer.part && before.offset == answer.offset;
            verdict.expect(Invariant::OneOffset, same || lost, || {
                let (part, offset) = (named(&before.part), before.offset);
                format!("{value} was at {part}@{offset}, then at {}@{}", named(&answer.part), answer.offset)
            });
        }
        let life = known.life(answer.ended);
        let before = owners.insert((life, &answer.part, answer.offset), value);
        verdict.expect(Invariant::OneOffset, before.is_none_or(|before| before == value), || {
            format!("{}@{} was promised to {} and to {value}", named(&answer.part), answer.offset, before.unwrap_or(""))
        });
    }
}

fn acknowledged(known: &Known<'_>, placed: &[Placed<'_>], verdict: &mut Verdict) {
    for answer in placed {
        let (part, offset) = (&answer.part, answer.offset);
        let lost = known.lost(answer.ended, part, offset);
        if lost.is_some() && answer.durability == Durability::Quorum || known.may_be_deleted(&part.0) {
            continue;
        }
        let scan = known.part(part);
        // Whether it was old enough to be trimmed is another check's.
        let trimmed = scan.is_some_and(|scan| offset < scan.start);
        let there = scan.and_then(|scan| scan.at(offset));
        verdict.expect(Invariant::AcknowledgedIsThere, trimmed || there == Some(answer.record), || {
            let found = there.map_or("nothing".to_owned(), |there| there.value.clone());
            let (sent, durability) = (&answer.record.value, answer.durability);
            format!("{sent} was acknowledged ({durability:?}) at {}@{offset}, where {found} is", named(part))
        });
    }
}

fn objects(known: &Known<'_>, verdict: &mut Verdict) {
    for promise in &known.history.objects {
        let (part, offset) = &promise.place;
        verdict.expect(Invariant::ObjectIsInTheBucket, *offset < promise.flushed, || {
            format!("{}@{offset} was answered, the bucket had offsets below {}", named(part), promise.flushed)
        });
    }
}

fn conditional(known: &Known<'_>, placed: &[Placed<'_>], verdict: &mut Verdict) {
    for answer in placed {
        let send = &known.history.sends[answer.send];
        let Some(expected) = send.expected else { continue };
        let first = send.records.first() == Some(answer.record);
        verdict.expect(Invariant::Conditional, !first || answer.offset == expected, || {
            format!("{} demanded offset {expected} and got {}", answer.record.value, answer.offset)
        });
    }
}

/// In each partition a request that was begun after the answer to another has the larger offset, whoever sent them.
fn order(known: &Known<'_>, placed: &[Placed<'_>], verdict: &mut Verdict) {
    let mut parts: BTreeMap<(usize, &Part), Vec<&Placed<'_>>> = BTreeMap::new();
    for answer in placed {
        // A retry that is told again where it is says nothing about when it was written.
        let begun = known.history.sends[answer.send].begun();
        if known.life(begun) == known.life(answer.ended) {
            parts.entry((known.life(begun), &answer.part)).or_default().push(answer);
        }
    }
    for ((_, part), answers) in parts {
        let mut by_begin = answers.clone();
        by_begin.sort_unstable_by_key(|answer| known.history.sends[answer.send].begun());
        let mut by_end = answers;
        by_end.sort_unstable_by_key(|answer| answer.ended);
        let (mut ended, mut highest) = (by_end.into_iter().peekable(), None::<&Placed<'_>>);
        for answer in by_begin {
            let begun = known.history.sends[answer.send].begun();
            while let Some(before) = ended.next_if(|before| before.ended < begun) {
                if highest.is_none_or(|highest| highest.offset < before.offset) {
                    highest = Some(before);
                }
            }
            let Some(before) = highest else { continue };
            verdict.expect(Invariant::Order, answer.offset > before.offset, || {
                let (earlier, later) = (&before.record.value, &answer.record.value);
                let at = answer.attempt.time;
                format!(
                    "{later} (answered at {at} ms) is at {}@{}, below {earlier} at {}, which was answered before it was sent",
                    named(part),
                    answer.offset,
                    before.offset
                )
            });
        }
    }
}

/// Each value that is there was sent, like this, to there, and is there once.
fn once(known: &Known<'_>, scan: &Scan, verdict: &mut Verdict) {
    let mut seen: HashMap<&str, (&Part, u64)> = HashMap::new();
    for (part, found) in &scan.parts {
        for (offset, record) in &found.records {
            let sent = known.sent.get(record.value.as_str()).map(|(send, at)| (&known.history.sends[*send], *at));
            let agrees = sent.is_some_and(|(send, at)| is_of(send, at, part, record));
            verdict.expect(Invariant::OnlyWhatWasSent, agrees, || {
                format!("{}: {} at {}@{offset} was never sent like that", scan.source, record.value, named(part))
            });
            let before = seen.insert(&record.value, (part, *offset));
            verdict.expect(Invariant::Once, before.is_none(), || {
                let places = before.map_or(String::new(), |(part, offset)| format!("{}@{offset}", named(part)));
                let guard = sent.map(|(send, _)| &send.guard);
                let (source, value) = (&scan.source, &record.value);
                format!("{source}: {value} is at {}@{offset} and at {places} ({guard:?})", named(part))
            });
        }
    }
}

pub(super) fn is_of(send: &Send, at: usize, part: &Part, record: &Record) -> bool {
    let there = send.partition.is_none_or(|partition| partition == part.1);
    send.topic == part.0 && there && send.records.get(at) == Some(record)
}

fn refused(known: &Known<'_>, scan: &Scan, verdict: &mut Verdict) {
    let there: HashMap<&str, (&Part, u64)> = scan
        .parts
        .iter()
        .flat_map(|(part, found)| found.records.iter().map(move |(offset, record)| (&*record.value, (part, *offset))))
        .collect();
    for send in known.history.sends.iter().filter(|send| send.is_refused()) {
        for record in &send.records {
            let place = there.get(record.value.as_str());
            verdict.expect(Invariant::RefusedIsNotThere, place.is_none(), || {
                let at = place.map_or(String::new(), |(part, offset)| format!("{}@{offset}", named(part)));
                format!("{}: {} was answered as not written and is at {at}", scan.source, record.value)
            });
        }
    }
}

/// The sequences of a producer's epoch ascend one by one in each partition; epochs do not go back.
fn sequences(scan: &Scan, verdict: &mut Verdict) {
    let mut last: HashMap<(&Part, u64), (u16, u32)> = HashMap::new();
    for (part, offset, stamp) in &scan.stamps {
        let now = (stamp.epoch, stamp.sequence);
        let Some((epoch, sequence)) = last.insert((part, stamp.producer), now) else { continue };
        let next = if stamp.epoch == epoch { stamp.sequence == sequence + 1 } else { stamp.epoch > epoch };
        verdict.expect(Invariant::SequencesAscend, next, || {
            let producer = stamp.producer;
            format!("{}@{offset}: {now:?} of producer {producer} after {:?}", named(part), (epoch, sequence))
        });
    }
}
