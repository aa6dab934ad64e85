//! Which segments the next job takes. Pure: everything it looks at is an argument.

use std::collections::BTreeSet;

use crate::format::archive::append_day;
use crate::model::{LogTime, ObjectId, SegmentInfo, TopicId};

/// Segments a job takes at most: the worker keeps a block of each in memory, and a file's rows come from all of them.
pub const MAX_SEGMENTS: usize = 64;
/// Partition ranges that a job takes at most, though at least one segment: what bounds the time of applying its `Archived`.
/// `benches/state.rs` applies 30,000 over 10,000 partitions in about 4 ms, most of it for the partitions (docs/performance.md).
pub const MAX_RANGES: u32 = 32_000;
/// Append days that a job may span: the worker has a file open for each of them.
const MAX_DAYS: u32 = 2;

/// A live segment as the choice sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The segment.
    pub info: SegmentInfo,
    /// A job holds it.
    pub claimed: bool,
    /// Partitions with a live range in it.
    pub ranges: u32,
    /// The topics with a live range in it.
    pub topics: BTreeSet<TopicId>,
}

/// What decides whether a segment is due, and how much a job takes.
pub struct Rules<'a> {
    /// Log time now.
    pub log_time: LogTime,
    /// No segment waits longer than this, milliseconds.
    pub max_age_ms: u64,
    /// Bytes of segments that a job takes, though at least one segment.
    pub job_bytes: u64,
    /// `archive_after_ms` of a topic.
    pub archive_after: &'a dyn Fn(TopicId) -> u64,
    /// Topics whose archiving was asked for.
    pub requested: &'a BTreeSet<TopicId>,
}

impl Rules<'_> {
    /// Whether `segment` is due: one of its topics was asked for, or it has waited as long as the most patient of them
    /// wants, though no longer than `max_age_ms`.
    fn is_due(&self, segment: &Candidate) -> bool {
        let wait = || segment.topics.iter().map(|topic| (self.archive_after)(*topic)).max().unwrap_or(0);
        !segment.topics.is_disjoint(self.requested)
            || segment.info.max_append_time.saturating_add(wait().min(self.max_age_ms)) <= self.log_time
    }
}

/// The next job: a run of consecutive live segments that nobody holds, beginning at the oldest one that is due; empty if
/// none is. `live` is in flush order.
///
/// The run goes on over segments that are due, and over later ones that hold no other topic than the run already does: a
/// steady topic gets one file each `archive_after_ms` rather than one each flush.
#[must_use]
pub fn next_run(live: &[Candidate], rules: &Rules<'_>) -> Vec<ObjectId> {
    let Some(start) = live.iter().position(|segment| !segment.claimed && rules.is_due(segment)) else {
        return Vec::new();
    };
    let first_day = append_day(live[start].info.min_append_time);
    let mut topics: BTreeSet<TopicId> = BTreeSet::new();
    let (mut bytes, mut ranges) = (0u64, 0u32);
    let mut run = Vec::new();
    for segment in &live[start..] {
        let fits = run.is_empty()
            || (run.len() < MAX_SEGMENTS
                && bytes.saturating_add(segment.info.bytes) <= rules.job_bytes
                && ranges.saturating_add(segment.ranges) <= MAX_RANGES
                && append_day(segment.info.max_append_time) < first_day.saturating_add(MAX_DAYS));
        let belongs = rules.is_due(segment) || segment.topics.is_subset(&topics);
        if segment.claimed || !fits || !belongs {
            break;
        }
        bytes = bytes.saturating_add(segment.info.bytes);
        ranges = ranges.saturating_add(segment.ranges);
        topics.extend(&segment.topics);
        run.push(segment.info.id);
    }
    run
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::format::archive::DAY_MS;

    const MIB: u64 = 1 << 20;
    const NOW: LogTime = 20_000 * DAY_MS + 1_000_000;

    fn topic(number: u128) -> TopicId {
        TopicId(Uuid::from_u128(number))
    }

    /// A segment of 16 MiB whose last append was `age` ago.
    fn segment(id: u128, age: u64, topics: &[u128]) -> Candidate {
        Candidate {
            info: SegmentInfo {
                id: ObjectId(id),
                bytes: 16 * MIB,
                footer_start: 16 * MIB - 100,
                min_append_time: NOW - age - 1_000,
                max_append_time: NOW - age,
            },
            claimed: false,
            ranges: 4,
            topics: topics.iter().map(|number| topic(*number)).collect(),
        }
    }

    fn claimed(segment: Candidate) -> Candidate {
        Candidate { claimed: true, ..segment }
    }

    /// Topic 1 waits a minute, topic 2 an hour, all others for ever.
    fn run(live: &[Candidate], requested: &[u128]) -> Vec<u128> {
        let archive_after = |id: TopicId| match id.0.as_u128() {
            1 => 60_000,
            2 => 3_600_000,
            _ => u64::MAX,
        };
        let requested = requested.iter().map(|number| topic(*number)).collect();
        let rules = Rules {
            log_time: NOW,
            max_age_ms: DAY_MS,
            job_bytes: 64 * MIB,
            archive_after: &archive_after,
            requested: &requested,
        };
        next_run(live, &rules).into_iter().map(|id| id.0).collect()
    }

    #[test]
    fn a_job_ends_before_its_commit_would_take_long_to_apply() {
        let wide = |id| Candidate { ranges: 12_000, ..segment(id, DAY_MS, &[1]) };
        assert_eq!(run(&[wide(1), wide(2), wide(3)], &[]), [1, 2]);
        let huge = |id| Candidate { ranges: 2 * MAX_RANGES, ..segment(id, DAY_MS, &[1]) };
        assert_eq!(run(&[huge(1), huge(2)], &[]), [1], "at least one");
    }

    #[test]
    fn a_segment_is_due_when_its_most_patient_topic_is() {
        assert!(run(&[], &[]).is_empty());
        assert!(run(&[segment(1, 59_999, &[1])], &[]).is_empty());
        assert_eq!(run(&[segment(1, 60_000, &[1])], &[]), [1]);
        assert!(run(&[segment(1, 3_599_999, &[1, 2])], &[]).is_empty());
        assert_eq!(run(&[segment(1, 3_600_000, &[1, 2])], &[]), [1]);
    }

    #[test]
    fn the_largest_age_bounds_the_wait() {
        assert!(run(&[segment(1, DAY_MS - 1, &[1, 9])], &[]).is_empty());
        assert_eq!(run(&[segment(1, DAY_MS, &[1, 9])], &[]), [1]);
    }

    #[test]
    fn a_request_makes_all_segments_of_its_topic_due() {
        let live = [segment(1, 0, &[9]), segment(2, 0, &[2]), segment(3, 0, &[2, 9]), segment(4, 0, &[9])];
        assert_eq!(run(&live, &[2]), [2, 3, 4], "the last one holds nothing new");
        assert_eq!(run(&live, &[9]), [1]);
        assert!(run(&live, &[7]).is_empty());
    }

    #[test]
    fn a_run_goes_on_while_it_needs_to_wait_for_nothing_new() {
        let live =
            [segment(1, 70_000, &[1]), segment(2, 50_000, &[1]), segment(3, 40_000, &[1, 2]), segment(4, 0, &[1])];
        assert_eq!(run(&live, &[]), [1, 2]);
    }

    #[test]
    fn a_run_skips_what_is_held_or_not_due_before_it_and_ends_at_what_is_held() {
        let live = [
            claimed(segment(1, 90_000, &[1])),
            segment(2, 80_000, &[2]),
            segment(3, 70_000, &[1]),
            segment(4, 65_000, &[1]),
            claimed(segment(5, 64_000, &[1])),
            segment(6, 63_000, &[1]),
        ];
        assert_eq!(run(&live, &[]), [3, 4]);
    }

    #[test]
    fn a_run_is_bounded_by_bytes_segments_and_days() {
        let large: Vec<_> = (0..9).map(|id| segment(id, 70_000, &[1])).collect();
        assert_eq!(run(&large, &[]), [0, 1, 2, 3]);
        let mut huge = segment(1, 70_000, &[1]);
        huge.info.bytes = 999 * MIB;
        assert_eq!(run(&[huge, segment(2, 70_000, &[1])], &[]), [1], "one is taken whatever its size");
        let mut small: Vec<_> = (0..200).map(|id| segment(id, 70_000, &[1])).collect();
        small.iter_mut().for_each(|segment| segment.info.bytes = 1);
        assert_eq!(run(&small, &[]).len(), MAX_SEGMENTS);
        let days = [segment(1, 3 * DAY_MS, &[1]), segment(2, 2 * DAY_MS, &[1]), segment(3, DAY_MS, &[1])];
        assert_eq!(run(&days, &[]), [1, 2]);
    }
}
