//! Which of the ranges that are stored of a partition are the partition. Pure.
//!
//! A bucket holds more than what was live: segments that were archived and not collected yet, flushes and conversions that never took
//! effect, rests of what was trimmed, and what a life wrote whose end was given up by a start with `--restore`. Of one life, the same
//! offsets are the same records wherever they are. So the partition is a chain of ranges without a gap: it ends at the highest offset
//! that no later life wrote anew, and goes back as far as there is a range before it. What lies before a gap cannot be kept, since
//! the offsets of a partition have none.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use crate::model::{LogTime, Offset, Place, StoredRange};

/// The ranges of a partition, and what was left out of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Chain {
    /// Ascending, without a gap.
    pub(super) ranges: Vec<StoredRange>,
    /// Offsets that are stored somewhere and are not in the chain, ascending.
    pub(super) left_out: Vec<(Offset, Offset)>,
}

/// What is better is smaller: where the chain begins, ranges that a later life has overwritten, ranges in segments.
type Cost = (Offset, u32, u32);

/// Chooses among `stored`; `restarts` are the times at which lives began that gave up what came after their checkpoint.
pub(super) fn choose(stored: Vec<StoredRange>, restarts: &[LogTime]) -> Chain {
    let mut stored: Vec<StoredRange> = stored.into_iter().filter(|range| range.start < range.end).collect();
    stored.sort_by_key(|range| (range.end, range.start, Reverse(range.place.object())));
    let overwritten = Overwritten::new(&stored, restarts);
    let Some(end) = stored.iter().filter(|range| !overwritten.is(range)).map(|range| range.end).max() else {
        return Chain::default();
    };
    // By the offset at which a chain ends: its cost and its last range. Ranges come by their ends, so those before are known.
    let mut best: HashMap<Offset, (Cost, usize)> = HashMap::new();
    for (at, range) in stored.iter().enumerate() {
        let (first, dead, segments) = best.get(&range.start).map_or((range.start, 0, 0), |(cost, _)| *cost);
        let cost = (first, dead + u32::from(overwritten.is(range)), segments + u32::from(is_segment(range)));
        if best.get(&range.end).is_none_or(|(known, _)| cost < *known) {
            best.insert(range.end, (cost, at));
        }
    }
    let mut ranges = Vec::new();
    let mut next = end;
    while let Some((_, at)) = best.get(&next) {
        let range = stored[*at];
        next = range.start;
        ranges.push(range);
    }
    ranges.reverse();
    let left_out = outside(&stored, next..end);
    Chain { ranges: merged(ranges), left_out }
}

const fn is_segment(range: &StoredRange) -> bool {
    matches!(range.place, Place::Segment { .. })
}

/// Log time follows wall time to within this; what is further apart it leaps over. Names carry log time, restarts wall time.
const CLOCK_SLACK: LogTime = 60_000;

/// From which offset on a later life has written.
struct Overwritten<'a> {
    restarts: &'a [LogTime],
    /// By time: the lowest offset of a segment that was named then or later.
    from: BTreeMap<LogTime, Offset>,
}

impl<'a> Overwritten<'a> {
    fn new(stored: &[StoredRange], restarts: &'a [LogTime]) -> Self {
        let mut from: BTreeMap<LogTime, Offset> = BTreeMap::new();
        for range in stored.iter().filter(|range| is_segment(range)) {
            let lowest = from.entry(range.place.object().time()).or_insert(range.start);
            *lowest = range.start.min(*lowest);
        }
        let mut lowest = Offset::MAX;
        for start in from.values_mut().rev() {
            lowest = lowest.min(*start);
            *start = lowest;
        }
        Self { restarts, from }
    }

    /// Whether part of the range was given up by a restart and written anew since.
    fn is(&self, range: &StoredRange) -> bool {
        let named = range.place.object().time();
        let before = self.restarts.iter().filter(|restart| named <= restart.saturating_add(CLOCK_SLACK));
        before.into_iter().any(|restart| {
            let since = restart.saturating_sub(CLOCK_SLACK).max(named + 1);
            self.from.range(since..).next().is_some_and(|(_, from)| *from < range.end)
        })
    }
}

/// What of `stored` lies outside of `kept`, merged.
fn outside(stored: &[StoredRange], kept: std::ops::Range<Offset>) -> Vec<(Offset, Offset)> {
    let before = stored.iter().map(|range| (range.start, range.end.min(kept.start)));
    let after = stored.iter().map(|range| (range.start.max(kept.end), range.end));
    let mut pieces: Vec<(Offset, Offset)> = before.chain(after).filter(|(start, end)| start < end).collect();
    pieces.sort_unstable();
    let mut merged: Vec<(Offset, Offset)> = Vec::new();
    for (start, end) in pieces {
        match merged.last_mut().filter(|last| last.1 >= start) {
            Some(last) => last.1 = last.1.max(end),
            None => merged.push((start, end)),
        }
    }
    merged
}

/// Neighbours in the same archive file become one range, as the file's writer has them.
fn merged(ranges: Vec<StoredRange>) -> Vec<StoredRange> {
    let mut merged: Vec<StoredRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut().filter(|last| !is_segment(last) && last.place == range.place) {
            Some(last) => {
                last.end = range.end;
                last.bytes += range.bytes;
                last.max_timestamp = last.max_timestamp.max(range.max_timestamp);
                last.max_append_time = range.max_append_time;
            }
            None => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ObjectId;

    const HOUR: LogTime = 3_600_000;

    /// A range in a segment that was named at hour `time`.
    fn segment(start: Offset, end: Offset, time: LogTime) -> StoredRange {
        let id = ObjectId::from_parts(time * HOUR, u128::from(start * 1_000 + end));
        let place = Place::Segment { id, position: 32 };
        StoredRange { start, end, bytes: end - start, max_timestamp: 0, min_append_time: 0, max_append_time: 0, place }
    }

    /// A row group in file `file` whose job was claimed at hour `time`.
    fn archived(start: Offset, end: Offset, time: LogTime, file: u128) -> StoredRange {
        let place = Place::Archive { file: ObjectId::from_parts(time * HOUR, file) };
        StoredRange { place, ..segment(start, end, 0) }
    }

    /// Of each range where it begins and ends and whether it is in a segment; what was left out.
    type Found = (Vec<(Offset, Offset, bool)>, Vec<(Offset, Offset)>);

    fn chosen(stored: &[StoredRange], restarts: &[LogTime]) -> Found {
        let mut expected = None;
        // Whatever the order in which they are found.
        for turn in 0..stored.len().max(1) {
            let mut stored = stored.to_vec();
            stored.rotate_left(turn);
            let chain = choose(stored, restarts);
            let ranges = chain.ranges.iter().map(|range| (range.start, range.end, is_segment(range))).collect();
            let found: Found = (ranges, chain.left_out);
            assert_eq!(expected.get_or_insert(found.clone()), &found);
        }
        expected.unwrap_or_default()
    }

    #[test]
    fn flushes_follow_one_another() {
        let stored = [segment(0, 10, 1), segment(10, 15, 2), segment(15, 40, 3)];
        assert_eq!(chosen(&stored, &[]), (vec![(0, 10, true), (10, 15, true), (15, 40, true)], vec![]));
        assert_eq!(chosen(&[], &[]), (vec![], vec![]));
    }

    #[test]
    fn the_archive_is_taken_before_the_segments_that_it_replaced() {
        let stored = [
            segment(0, 10, 1),
            segment(10, 15, 2),
            archived(0, 6, 9, 1),
            archived(6, 10, 9, 1),
            archived(10, 15, 9, 2),
            segment(15, 40, 10),
        ];
        assert_eq!(chosen(&stored, &[]), (vec![(0, 10, false), (10, 15, false), (15, 40, true)], vec![]));
    }

    #[test]
    fn a_flush_that_never_took_effect_does_no_harm() {
        // Two leaders flushed at once: the one to 15 or the one to 40 was declined, and nobody knows which.
        let stored = [segment(0, 10, 1), segment(10, 15, 2), segment(10, 40, 2), segment(15, 60, 3)];
        assert_eq!(chosen(&stored, &[]).0, [(0, 10, true), (10, 15, true), (15, 60, true)]);
        let stored = [segment(0, 10, 1), segment(10, 15, 2), segment(10, 40, 2), segment(40, 60, 3)];
        assert_eq!(chosen(&stored, &[]).0, [(0, 10, true), (10, 40, true), (40, 60, true)]);
    }

    #[test]
    fn what_lies_before_a_gap_is_left_out() {
        let stored = [segment(0, 10, 1), segment(20, 30, 2), segment(30, 31, 3)];
        assert_eq!(chosen(&stored, &[]), (vec![(20, 30, true), (30, 31, true)], vec![(0, 10)]));
    }

    #[test]
    fn a_later_life_wins_where_it_wrote_anew() {
        // The first life wrote up to 300; the second began at 100.
        let first = [segment(0, 100, 1), segment(100, 200, 2), segment(200, 300, 3)];
        let stored = [&first[..], &[segment(100, 150, 10)]].concat();
        assert_eq!(chosen(&stored, &[9 * HOUR]), (vec![(0, 100, true), (100, 150, true)], vec![(150, 300)]));
        // Without a restart the same objects are of one life, so they agree.
        assert_eq!(chosen(&stored, &[]).0.last(), Some(&(200, 300, true)));
        let stored = [&first[..], &[segment(100, 150, 10), segment(150, 300, 11)]].concat();
        assert_eq!(chosen(&stored, &[9 * HOUR]), (vec![(0, 100, true), (100, 150, true), (150, 300, true)], vec![]));
        // It has written nothing: what the first one wrote is all there is.
        assert_eq!(chosen(&first, &[9 * HOUR]).0.last(), Some(&(200, 300, true)));
    }

    #[test]
    fn a_log_time_that_lags_after_a_restart_does_not_hide_the_later_life() {
        let late = StoredRange {
            place: Place::Segment { id: ObjectId::from_parts(9 * HOUR - 30_000, 1), position: 32 },
            ..segment(100, 150, 0)
        };
        let stored = [segment(0, 100, 1), segment(100, 300, 2), late];
        assert_eq!(chosen(&stored, &[9 * HOUR]).0, [(0, 100, true), (100, 150, true)]);
    }

    #[test]
    fn an_archive_of_a_later_life_counts_too() {
        let stored = [segment(0, 100, 1), segment(100, 200, 2), archived(0, 100, 12, 1), segment(100, 150, 10)];
        assert_eq!(chosen(&stored, &[9 * HOUR]), (vec![(0, 100, false), (100, 150, true)], vec![(150, 200)]));
    }
}
