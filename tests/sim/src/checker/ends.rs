//! What is there in the end: dense, the same for both readers, old enough where it is gone, and the same in all replicas.

use std::collections::HashMap;

use super::{Invariant, Known, Verdict, named};
use crate::history::{Outcome, PartScan, Sample, Scan};

/// Log time runs at most a tenth too slowly or too fast (DESIGN section 4), and stands still while nobody leads.
const SLOWEST_PER_MILLE: u64 = 850;
/// How far log time may be ahead of the time, milliseconds: what is slewed in a run of some minutes.
const MOST_AHEAD: i64 = 60_000;

pub(super) fn check(known: &Known<'_>, verdict: &mut Verdict) {
    for scan in [&known.end.http, &known.end.bucket] {
        for (part, found) in &scan.parts {
            dense(scan, &named(part), found, verdict);
        }
    }
    same(known, verdict);
    verdict.expect(Invariant::BucketIsWhole, known.end.bucket.problems.is_empty(), || {
        known.end.bucket.problems.join("; ")
    });
    verdict
        .expect(Invariant::SameEverywhere, known.end.http.problems.is_empty(), || known.end.http.problems.join("; "));
    replicas(known, verdict);
    samples(known, verdict);
    retention(known, verdict);
    archived(known, verdict);
    topics(known, verdict);
}

fn dense(scan: &Scan, part: &str, found: &PartScan, verdict: &mut Verdict) {
    let offsets = found.records.iter().map(|(offset, _)| *offset);
    let gapless = offsets.eq(found.start..found.end);
    verdict.expect(Invariant::Dense, gapless, || {
        let gap = found.records.iter().zip(found.start..).find(|((offset, _), place)| offset != place);
        let (start, end, count) = (found.start, found.end, found.records.len());
        let gap = gap.map(|((offset, _), place)| format!("{offset} is in the place of {place}"));
        format!("{}: {part} is [{start}, {end}) with {count} records; {gap:?}", scan.source)
    });
}

/// What the bucket has of a partition, HTTP has too, byte for byte.
fn same(known: &Known<'_>, verdict: &mut Verdict) {
    for (part, stored) in &known.end.bucket.parts {
        let Some(read) = known.part(part) else {
            let gone = known.may_be_deleted(&part.0);
            verdict.expect(Invariant::SameEverywhere, gone, || format!("{} is only in the bucket", named(part)));
            continue;
        };
        verdict.expect(Invariant::SameEverywhere, stored.end <= read.end, || {
            format!("{}: the bucket ends at {}, HTTP at {}", named(part), stored.end, read.end)
        });
        for (offset, record) in &stored.records {
            let there = read.at(*offset);
            // The bucket's reader may have been there before a trim.
            verdict.expect(Invariant::SameEverywhere, *offset < read.start || there == Some(record), || {
                let found = there.map_or("nothing", |there| &there.value);
                format!("{}@{offset}: {} in the bucket, {found} over HTTP", named(part), record.value)
            });
        }
    }
}

fn replicas(known: &Known<'_>, verdict: &mut Verdict) {
    let mut states: HashMap<(u32, u64), (u64, &str)> = HashMap::new();
    for replica in &known.end.replicas {
        let (node, hash) = (replica.node, replica.hash.as_str());
        let first = *states.entry((replica.shard, replica.applied)).or_insert((node, hash));
        verdict.expect(Invariant::ReplicasAgree, first.1 == hash, || {
            let (shard, applied) = (replica.shard, replica.applied);
            format!("shard {shard} at {applied}: {hash} on node {node}, {} on node {}", first.1, first.0)
        });
        let ahead = replica.log_time - i64::try_from(known.end.time).unwrap_or(i64::MAX);
        verdict.expect(Invariant::LogTime, ahead <= MOST_AHEAD, || {
            format!("node {node}: log time of shard {} is {ahead} ms ahead", replica.shard)
        });
    }
}

/// A state is a function of the log up to an index: whoever was there, at whatever time, had the same.
fn samples(known: &Known<'_>, verdict: &mut Verdict) {
    let mut states: HashMap<(u64, u32, u64, u64), &Sample> = HashMap::new();
    for sample in &known.end.samples {
        let key = (sample.incarnation, sample.shard, sample.applied, sample.flushed);
        let first = *states.entry(key).or_insert(sample);
        verdict.expect(Invariant::ReplicasAgree, first.hash == sample.hash, || {
            let Sample { incarnation, shard, applied, node, at, hash, .. } = sample;
            format!(
                "shard {shard} at {applied} in life {incarnation}: {hash:032x} on {node} at {at} ms, {:032x} on {} at {} ms",
                first.hash, first.node, first.at
            )
        });
    }
}

/// A record that was acknowledged and is below the log start now was as old as its topic says.
fn retention(known: &Known<'_>, verdict: &mut Verdict) {
    for send in &known.history.sends {
        for attempt in &send.attempts {
            let (Outcome::Written(_, places), Some(ended)) = (&attempt.outcome, attempt.ended) else { continue };
            for (partition, offset) in places.iter().flatten() {
                let part = (send.topic.clone(), *partition);
                let trimmed = known.part(&part).is_some_and(|scan| *offset < scan.start);
                if !trimmed || known.lost(ended, &part, *offset).is_some() {
                    continue;
                }
                let age = known.end.time.saturating_sub(first_time(send));
                let retention = known.history.topics.get(&send.topic).and_then(|topic| topic.retention);
                let old = retention.is_some_and(|retention| age >= retention * SLOWEST_PER_MILLE / 1000);
                verdict.expect(Invariant::Retention, old, || {
                    format!("{}@{offset} is gone after {age} ms, retention is {retention:?} ms", named(&part))
                });
            }
        }
    }
}

/// A record that was acknowledged and has left the log is in an archive file, with its bytes, unless it was as old as its topic
/// says that they keep it.
fn archived(known: &Known<'_>, verdict: &mut Verdict) {
    for send in &known.history.sends {
        let topic = known.history.topics.get(&send.topic);
        let Some(archive) = topic.and_then(|topic| topic.archive) else { continue };
        let age = known.end.time.saturating_sub(first_time(send));
        if age >= archive * SLOWEST_PER_MILLE / 1000 {
            continue;
        }
        for attempt in &send.attempts {
            let (Outcome::Written(_, places), Some(ended)) = (&attempt.outcome, attempt.ended) else { continue };
            for (record, place) in send.records.iter().zip(places) {
                let Some((partition, offset)) = *place else { continue };
                let part = (send.topic.clone(), partition);
                let Some(scan) = known.end.bucket.parts.get(&part).filter(|scan| offset < scan.start) else { continue };
                if known.lost(ended, &part, offset).is_some() {
                    continue;
                }
                let kept = known.end.bucket.kept.get(&part).map_or(&[][..], Vec::as_slice);
                let there = kept.binary_search_by_key(&offset, |(offset, _)| *offset).ok().map(|at| &kept[at].1);
                verdict.expect(Invariant::ArchiveRetention, there == Some(record), || {
                    let (found, start) = (there.map_or("nothing", |there| &there.value), scan.start);
                    format!(
                        "{}@{offset} left the log, which starts at {start}, and the archive has {found} after {age} of {archive} ms",
                        named(&part)
                    )
                });
            }
        }
    }
}

fn first_time(send: &crate::history::Send) -> u64 {
    send.attempts.first().map_or(0, |attempt| attempt.time)
}

fn topics(known: &Known<'_>, verdict: &mut Verdict) {
    for (name, topic) in &known.history.topics {
        let there = known.end.http.parts.keys().any(|(found, _)| found == name);
        // What a start from the bucket did not have is the records' check.
        let lost = topic.created.is_some_and(|created| known.life(created) < known.history.cuts.len());
        if topic.created.is_some() && topic.deleting.is_none() && !lost {
            verdict.expect(Invariant::Topics, there, || format!("topic {name} was created and is not there"));
        }
        let lost = topic.deleted.is_some_and(|deleted| known.life(deleted) < known.history.cuts.len());
        if topic.deleted.is_some() && !lost {
            verdict.expect(Invariant::Topics, !there, || format!("topic {name} was deleted and is there"));
        }
    }
}
