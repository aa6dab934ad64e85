//! Retention: which log starts to raise, and which archive starts. Pure; looks, of the partitions of all topics, at the ranges
//! that go and at one or two more.
//!
//! By age a range goes when its youngest batch was appended before the retention period. By size the oldest ranges go
//! while what remains is still at least the retention, as in Kafka. Whole stored ranges only: the tail is flushed
//! within seconds, and its age is bounded by that.
//!
//! Where archive files outlive the log, what leaves the log has to be in one: a range in a segment waits until it is archived,
//! or until it would be too old for the archive too. The files' ranges go by age alone.

use crate::model::{LogStart, LogTime, Offset, Place, TopicSettings};
use crate::planted::{self, Bug};
use crate::state::{PartitionState, State};

/// The new starts of a partition, and what they cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rise {
    /// Where it begins.
    pub start: LogStart,
    /// Stored ranges that the one passes, and that go below the other.
    pub ranges: usize,
}

/// The partitions of live topics whose log start or archive start has to rise, with the new ones. Each passes `at_once` ranges at
/// most, since `apply` goes over each of them: what a shorter retention leaves beyond that goes with the next run.
pub fn plan(state: &State, now: LogTime, at_once: usize) -> impl Iterator<Item = Rise> + '_ {
    state.live_topics().flat_map(move |topic| {
        let partitions = state.partitions_of(topic.id);
        partitions.filter_map(move |partition| start(partition, &topic.settings, now, at_once))
    })
}

/// What is appended before this is older than `period`.
fn horizon(now: LogTime, period: Option<u64>) -> Option<LogTime> {
    period.map(|period| now.saturating_sub(period))
}

/// Where a partition is to begin, if that is not where it does.
fn start(partition: &PartitionState, settings: &TopicSettings, now: LogTime, at_once: usize) -> Option<Rise> {
    let (before, kept_from) = (partition.bounds().log_start, partition.archive_start());
    let risen = log_start(partition, settings, now, at_once);
    let (log_start, mut ranges) = risen.unwrap_or((before, 0));
    let period = settings.archive_retention_ms.filter(|_| !planted::is(Bug::ArchiveGoesWithLog));
    let horizon = horizon(now, period);
    let below = partition.ranges().iter().take_while(|range| range.end <= log_start);
    // Without a period the files go with the log.
    let old = below.take_while(|range| horizon.is_none_or(|horizon| range.max_append_time < horizon));
    let mut archive_start = kept_from;
    for range in old.take(at_once) {
        archive_start = range.end;
        ranges += 1;
    }
    let archive_start = archive_start.max(kept_from);
    let rises = log_start > before || archive_start > kept_from;
    rises.then(|| Rise { start: LogStart { partition: partition.id(), log_start, archive_start }, ranges })
}

/// The new log start of a partition, if it has to rise, and how many ranges it passes.
fn log_start(
    partition: &PartitionState,
    settings: &TopicSettings,
    now: LogTime,
    at_once: usize,
) -> Option<(Offset, usize)> {
    if settings.retention_ms.is_none() && settings.retention_bytes.is_none() {
        return None;
    }
    let log_horizon = horizon(now, settings.retention_ms);
    let archive_horizon = horizon(now, settings.archive_retention_ms);
    let mut bytes = partition.stored_bytes().saturating_add(partition.tail_bytes());
    let mut start = None;
    let mut passed = 0;
    for range in partition.ranges().iter_from(partition.bounds().log_start).take(at_once) {
        let is_old = log_horizon.is_some_and(|horizon| range.max_append_time < horizon);
        let rest = bytes.saturating_sub(range.bytes);
        let is_spare = settings.retention_bytes.is_some_and(|retention| rest >= retention);
        let is_archived = matches!(range.place, Place::Archive { .. });
        let may_leave = archive_horizon.is_none_or(|horizon| is_archived || range.max_append_time < horizon);
        if !(is_old || is_spare) || !may_leave {
            break;
        }
        start = Some(range.end);
        passed += 1;
        bytes = rest;
    }
    // A trim that reaches into what is being flushed is what that bug needs: that there is none is a guard of its own.
    if planted::is(Bug::TrimDuringFlushForgotten) {
        let is_old = |append_time| log_horizon.is_some_and(|horizon| append_time < horizon);
        let old = partition.tail().iter().take_while(|batch| is_old(batch.append_time));
        return old.last().map(|batch| batch.end_offset()).or(start).map(|start| (start, passed));
    }
    start.map(|start| (start, passed))
}
