//! What a view of the state says about segments: for the plan, and for the worker of a job.

use std::collections::{BTreeMap, BTreeSet};

use super::job::ClaimedSegment;
use super::plan::{Candidate, Rules};
use crate::config;
use crate::model::{LogTime, ObjectId, SegmentRange, Topic, TopicId};
use crate::state::State;

/// The next job in `view`, or nothing. Reads every live segment range of the view if anything may be due: take a view,
/// and leave the runtime's threads out of it.
#[must_use]
pub fn next_run(
    view: &State,
    settings: &config::Archive,
    log_time: LogTime,
    requested: &BTreeSet<TopicId>,
) -> Vec<ObjectId> {
    let archive_after = |id: TopicId| view.wanted(id).map_or(0, |topic| topic.settings.archive_after_ms);
    let rules = Rules {
        log_time,
        max_age_ms: u64::try_from(settings.max_age.as_millis()).unwrap_or(u64::MAX),
        job_bytes: settings.job_size,
        archive_after: &archive_after,
        requested,
    };
    if !view.segments().any(|segment| view.claimed_by(segment).is_none()) {
        return Vec::new();
    }
    super::plan::next_run(&candidates(view), &rules)
}

/// All live segments in flush order.
fn candidates(view: &State) -> Vec<Candidate> {
    let mut topics: BTreeMap<ObjectId, BTreeSet<TopicId>> = BTreeMap::new();
    for_each_range(view, |id, range| {
        topics.entry(id).or_default().insert(range.partition.topic);
    });
    view.segments()
        .map(|segment| Candidate {
            info: segment.info,
            claimed: view.claimed_by(segment).is_some(),
            ranges: segment.live_ranges,
            topics: topics.remove(&segment.info.id).unwrap_or_default(),
        })
        .collect()
}

/// What is live in `segments`, and the topics of it; segments that went meanwhile are left out. `None` if all did.
#[must_use]
pub fn claimed(view: &State, segments: &[ObjectId]) -> Option<(Vec<ClaimedSegment>, Vec<Topic>)> {
    let mut ranges: BTreeMap<ObjectId, Vec<SegmentRange>> = segments.iter().map(|id| (*id, Vec::new())).collect();
    let mut ids = BTreeSet::new();
    for_each_range(view, |id, range| {
        if let Some(ranges) = ranges.get_mut(&id) {
            ids.insert(range.partition.topic);
            ranges.push(range);
        }
    });
    let live = segments.iter().filter_map(|id| {
        let mut ranges = ranges.remove(id).filter(|ranges| !ranges.is_empty())?;
        ranges.sort_by_key(|range| range.partition);
        Some(ClaimedSegment { info: view.segment(*id)?.info, ranges })
    });
    let live: Vec<ClaimedSegment> = live.collect();
    let topics = ids.into_iter().filter_map(|id| view.wanted(id).map(|topic| Topic::clone(topic))).collect();
    (!live.is_empty()).then_some((live, topics))
}

/// Calls `visit` for every range that is in a segment.
fn for_each_range(view: &State, mut visit: impl FnMut(ObjectId, SegmentRange)) {
    for partition in view.partitions() {
        for range in partition.ranges().iter_from(partition.bounds().archived) {
            if let Some((id, range)) = range.in_segment(partition.id()) {
                visit(id, range);
            }
        }
    }
}
