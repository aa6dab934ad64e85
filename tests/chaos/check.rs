//! The checker: what a run promised, read and found at its end, held against what DESIGN promises. Pure.
//!
//! Each invariant says how often it was evaluated, so that one that never was is seen, and what breaks it.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::journal::record::Found;
use super::journal::{Fate, Place, Records};

/// Broken promises of one invariant that are told; more say nothing new.
const TOLD: usize = 5;

/// Everything that is there at the end: the records of each partition from offset 0 on.
pub(crate) type Scan = BTreeMap<u32, Vec<Found>>;

/// What became of one invariant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) invariant: &'static str,
    pub(crate) evaluated: u64,
    pub(crate) broken: Vec<String>,
}

impl Verdict {
    fn new(invariant: &'static str) -> Self {
        Self { invariant, evaluated: 0, broken: Vec::new() }
    }

    fn holds(&mut self, holds: bool, broken: impl FnOnce() -> String) {
        self.evaluated += 1;
        if !holds && self.broken.len() < TOLD {
            self.broken.push(broken());
        }
    }
}

/// All invariants over a history and the scan after it.
pub(crate) fn check(records: &Records, scan: &Scan) -> Vec<Verdict> {
    let places = places(scan);
    vec![
        acknowledged_is_there(records, scan),
        whole(records, scan),
        promised_once(records),
        there_once(scan),
        only_what_was_sent(records, scan),
        nothing_that_was_refused(records, &places),
        order_of_a_producer(records, scan),
        readers_skip_nothing(records, scan),
        ends_are_new(records),
        retries_get_the_first_answer(records),
        answers(records),
    ]
}

/// Two readers found the same.
pub(crate) fn same(invariant: &'static str, one: &Scan, other: &Scan) -> Verdict {
    let mut verdict = Verdict::new(invariant);
    let partitions: HashSet<u32> = one.keys().chain(other.keys()).copied().collect();
    let nothing = Vec::new();
    for partition in partitions {
        let (one, other) = (one.get(&partition).unwrap_or(&nothing), other.get(&partition).unwrap_or(&nothing));
        verdict.holds(one.len() == other.len(), || {
            format!("partition {partition}: {} records and {} records", one.len(), other.len())
        });
        for (offset, (one, other)) in one.iter().zip(other).enumerate() {
            verdict.holds(one == other, || format!("offset {offset} of partition {partition}: {one} and {other}"));
        }
    }
    verdict
}

fn places(scan: &Scan) -> HashMap<&str, Place> {
    let mut places = HashMap::with_capacity(scan.values().map(Vec::len).sum());
    for (partition, found) in scan {
        for (offset, found) in (0..).zip(found) {
            places.insert(found.value.as_str(), (*partition, offset));
        }
    }
    places
}

fn at(scan: &Scan, (partition, offset): Place) -> Option<&Found> {
    scan.get(&partition)?.get(usize::try_from(offset).ok()?)
}

fn acknowledged_is_there(records: &Records, scan: &Scan) -> Verdict {
    let mut verdict = Verdict::new("an acknowledged record is at its offset with its bytes");
    for acked in &records.acked {
        let there = at(scan, acked.place).map(|found| &found.value);
        verdict.holds(there == Some(&acked.value), || {
            format!("{} was acknowledged at {:?}, where {there:?} is", acked.value, acked.place)
        });
    }
    verdict
}

/// What is there at the end, and what each reader saw before.
fn whole(records: &Records, scan: &Scan) -> Verdict {
    let mut verdict = Verdict::new("a record has the key, the headers and the timestamp that it was sent with");
    for (partition, found) in scan {
        for (offset, found) in found.iter().enumerate() {
            verdict.holds(found.is_whole(), || format!("at {:?} is {found}", (*partition, offset)));
        }
    }
    for page in &records.pages {
        for (offset, found) in (page.from..).zip(&page.found) {
            verdict.holds(found.is_whole(), || {
                format!("consumer {} read at {:?}: {found}", page.consumer, (page.partition, offset))
            });
        }
    }
    verdict
}

fn promised_once(records: &Records) -> Verdict {
    let mut verdict = Verdict::new("an offset is promised to one record");
    let mut promised = HashMap::new();
    for acked in &records.acked {
        let before = promised.insert(acked.place, &acked.value).filter(|before| *before != &acked.value);
        verdict.holds(before.is_none(), || {
            format!("{:?} was promised to {} and to {}", acked.place, before.map_or("", String::as_str), acked.value)
        });
    }
    verdict
}

fn there_once(scan: &Scan) -> Verdict {
    let mut verdict = Verdict::new("a record that was sent once or retried is there once");
    let mut seen = HashMap::new();
    for (partition, found) in scan {
        for (offset, Found { value, .. }) in found.iter().enumerate() {
            let before = seen.insert(value, (*partition, offset));
            verdict.holds(before.is_none(), || format!("{value} is at {before:?} and at {:?}", (partition, offset)));
        }
    }
    verdict
}

fn only_what_was_sent(records: &Records, scan: &Scan) -> Verdict {
    let mut verdict = Verdict::new("nothing is there that was not sent");
    for Found { value, .. } in scan.values().flatten() {
        verdict.holds(records.sent.contains_key(value), || format!("{value} was never sent"));
    }
    verdict
}

fn nothing_that_was_refused(records: &Records, places: &HashMap<&str, Place>) -> Verdict {
    let mut verdict = Verdict::new("what a server said it did not write is not there");
    for (value, _) in records.sent.iter().filter(|(_, sent)| sent.fate == Fate::Refused) {
        let there = places.get(value.as_str());
        verdict.holds(there.is_none(), || format!("{value} was refused and is at {there:?}"));
    }
    verdict
}

fn order_of_a_producer(records: &Records, scan: &Scan) -> Verdict {
    let mut verdict = Verdict::new("a producer's records keep their order in a partition");
    for (partition, found) in scan {
        let mut last: HashMap<usize, (u64, &String)> = HashMap::new();
        for Found { value, .. } in found {
            let Some(sent) = records.sent.get(value).filter(|sent| sent.fate != Fate::Unknown) else { continue };
            let before = last.insert(sent.producer, (sent.number, value));
            verdict.holds(before.is_none_or(|(number, _)| number < sent.number), || {
                format!("partition {partition}: {value} comes after {before:?}")
            });
        }
    }
    verdict
}

fn readers_skip_nothing(records: &Records, scan: &Scan) -> Verdict {
    let mut verdict = Verdict::new("a reader sees each offset in turn, as it is at the end");
    let mut next: HashMap<(usize, u32), u64> = HashMap::new();
    for page in &records.pages {
        let next = next.entry((page.consumer, page.partition)).or_default();
        verdict.holds(page.from == *next, || {
            format!("consumer {} got {} of partition {} after {next}", page.consumer, page.from, page.partition)
        });
        for (offset, found) in (page.from..).zip(&page.found) {
            let there = at(scan, (page.partition, offset));
            verdict.holds(there == Some(found), || {
                format!(
                    "consumer {} read {found:?} at {:?}: {there:?} is there",
                    page.consumer,
                    (page.partition, offset)
                )
            });
        }
        *next = page.from + page.found.len() as u64;
    }
    verdict
}

/// A page that says that there is nothing more must not have missed what was acknowledged before it was asked for.
fn ends_are_new(records: &Records) -> Verdict {
    let mut verdict = Verdict::new("the end of a partition is not older than the last acknowledgement");
    let mut acked: Vec<(u64, Place)> = records.acked.iter().map(|acked| (acked.at, acked.place)).collect();
    acked.sort_unstable();
    let mut pages: Vec<_> = records.pages.iter().filter_map(|page| Some((page.asked, page, page.end?))).collect();
    pages.sort_unstable_by_key(|(asked, ..)| *asked);
    let mut highest: HashMap<u32, u64> = HashMap::new();
    let mut acked = acked.into_iter().peekable();
    for (asked, page, end) in pages {
        while let Some((_, (partition, offset))) = acked.next_if(|(at, _)| *at < asked) {
            let highest = highest.entry(partition).or_default();
            *highest = (*highest).max(offset + 1);
        }
        let least = highest.get(&page.partition).copied().unwrap_or(0);
        verdict.holds(end >= least, || {
            format!(
                "consumer {} was told at {asked} us that partition {} ends at {end}; {least} was acknowledged before",
                page.consumer, page.partition
            )
        });
    }
    verdict
}

fn retries_get_the_first_answer(records: &Records) -> Verdict {
    let mut verdict = Verdict::new("a request that is repeated gets its first answer");
    for repeated in &records.repeated {
        verdict.holds(repeated.duplicate && repeated.first == repeated.again, || format!("{repeated:?}"));
    }
    verdict
}

/// Counted by the requests that were answered as they may be: acknowledgements, pages, `/readyz`.
fn answers(records: &Records) -> Verdict {
    let mut verdict = Verdict::new("no answer is one that a server must not give");
    verdict.evaluated = (records.acked.len() + records.pages.len() + records.wrong.len()) as u64 + records.ready_asked;
    verdict.broken = records.wrong.iter().take(TOLD).cloned().collect();
    verdict
}
