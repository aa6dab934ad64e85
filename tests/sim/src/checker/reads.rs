//! What readers saw meanwhile: whole pages of committed records that stay, and bounds that never go back.

use std::collections::BTreeMap;

use super::{Invariant, Known, Verdict, named, sends};
use crate::history::{Bounds, Outcome, Page, Part, Stamp};

pub(super) fn check(known: &Known<'_>, verdict: &mut Verdict) {
    for page in &known.history.pages {
        whole(page, verdict);
        stays(known, page, verdict);
    }
    monotonic(known, verdict);
}

/// From the offset that was asked for on without a gap, up to where the next page begins, all below the high watermark.
fn whole(page: &Page, verdict: &mut Verdict) {
    let offsets = page.records.iter().map(|(offset, _)| *offset);
    let dense = offsets.clone().eq((page.from..).take(page.records.len()));
    let next = page.from + page.records.len() as u64;
    let committed = page.next <= page.bounds.high_watermark && page.from >= page.bounds.log_start;
    verdict.expect(Invariant::PagesAreWhole, dense && next == page.next && committed, || {
        let (part, from, next, bounds) = (named(&page.part), page.from, page.next, page.bounds);
        let offsets: Vec<u64> = offsets.take(20).collect();
        format!("{part} from {from} gave {offsets:?}…, the next is {next}, bounds are {bounds:?}")
    });
}

fn stays(known: &Known<'_>, page: &Page, verdict: &mut Verdict) {
    let part = &page.part;
    let scan = known.part(part);
    for (offset, record) in &page.records {
        let sent = known.sent.get(record.value.as_str()).map(|(send, at)| (&known.history.sends[*send], *at));
        let agrees = sent.is_some_and(|(send, at)| sends::is_of(send, at, part, record) && send.begun() < page.ended);
        verdict.expect(Invariant::OnlyWhatWasSent, agrees, || {
            format!("{} was read at {}@{offset} and never sent like that", record.value, named(part))
        });
        let refused = sent.is_some_and(|(send, _)| send.is_refused());
        verdict.expect(Invariant::RefusedIsNotThere, !refused, || {
            format!("{} was answered as not written and was read at {}@{offset}", record.value, named(part))
        });
        if known.may_be_deleted(&part.0) || known.lost(page.ended, part, *offset).is_some() {
            continue;
        }
        let trimmed = scan.is_some_and(|scan| *offset < scan.start);
        let there = scan.and_then(|scan| scan.at(*offset));
        verdict.expect(Invariant::ReadsStay, trimmed || there == Some(record), || {
            let found = there.map_or("nothing", |there| &there.value);
            format!("{} was read at {}@{offset}, where {found} is in the end", record.value, named(part))
        });
    }
}

/// Something that is known of a partition from a moment on, or has to be known at one.
enum Event {
    /// An answer said that bounds are at least these.
    Known(Bounds),
    /// A linearizable question was answered with these; its beginning says how much was known.
    Answered(Stamp, Bounds),
}

fn monotonic(known: &Known<'_>, verdict: &mut Verdict) {
    let mut parts: BTreeMap<Part, Vec<(Stamp, Event)>> = BTreeMap::new();
    let mut add = |part: &Part, at: Stamp, event| parts.entry(part.clone()).or_default().push((at, event));
    for send in &known.history.sends {
        for attempt in &send.attempts {
            let (Outcome::Written(_, places), Some(ended)) = (&attempt.outcome, attempt.ended) else { continue };
            for (partition, offset) in places.iter().flatten() {
                let bounds = Bounds { log_start: 0, high_watermark: offset + 1 };
                add(&(send.topic.clone(), *partition), ended, Event::Known(bounds));
            }
        }
    }
    for page in &known.history.pages {
        if page.to_the_end {
            add(&page.part, page.ended, Event::Answered(page.begun, page.bounds));
        } else {
            add(&page.part, page.ended, Event::Known(page.bounds));
        }
    }
    for look in &known.history.looks {
        add(&look.part, look.ended, Event::Answered(look.begun, look.bounds));
    }
    for (part, mut events) in parts {
        events.sort_by_key(|(at, _)| *at);
        // What was known from which moment on: both grow.
        let mut steps: Vec<(Stamp, Bounds)> = Vec::new();
        for (at, event) in events {
            let bounds = match event {
                Event::Known(bounds) => bounds,
                Event::Answered(begun, bounds) => {
                    answered(known, &part, (begun, at, bounds), &steps, verdict);
                    bounds
                }
            };
            let (before, last) = steps.last().map_or((0, Bounds::default()), |(at, bounds)| (*at, *bounds));
            let last = if known.life(before) == known.life(at) { last } else { Bounds::default() };
            let log_start = last.log_start.max(bounds.log_start);
            steps.push((at, Bounds { log_start, high_watermark: last.high_watermark.max(bounds.high_watermark) }));
        }
    }
}

/// An answer to a question that began at `begun` knows of all that was known before.
fn answered(
    known: &Known<'_>,
    part: &Part,
    (begun, at, bounds): (Stamp, Stamp, Bounds),
    steps: &[(Stamp, Bounds)],
    verdict: &mut Verdict,
) {
    let before = steps[..steps.partition_point(|(known, _)| *known < begun)].last();
    let Some((learnt, least)) = before.filter(|(learnt, _)| known.life(*learnt) == known.life(at)) else { return };
    let grown = bounds.high_watermark >= least.high_watermark && bounds.log_start >= least.log_start;
    verdict.expect(Invariant::Monotonic, grown, || {
        format!("{}: {bounds:?} asked for at {begun} after {least:?} was known at {learnt}", named(part))
    });
}
