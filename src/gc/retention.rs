//! Retention: which log starts to raise. Pure; looks at topics that have a retention and, of their partitions, at the
//! ranges that go and one more.
//!
//! By age a range goes when its youngest batch was appended before the retention period. By size the oldest ranges go
//! while what remains is still at least the retention, as in Kafka. Whole stored ranges only: the tail is flushed
//! within seconds, and its age is bounded by that.

use crate::model::{LogTime, Offset, TopicPartition, TopicSettings};
use crate::planted::{self, Bug};
use crate::state::{PartitionState, State};

/// The partitions of live topics whose log start has to rise, with the new one.
pub fn plan(state: &State, now: LogTime) -> impl Iterator<Item = (TopicPartition, Offset)> + '_ {
    let retaining = state.live_topics().filter(|topic| {
        let TopicSettings { retention_ms, retention_bytes, .. } = topic.settings;
        retention_ms.is_some() || retention_bytes.is_some()
    });
    retaining.flat_map(move |topic| {
        let partitions = state.partitions_of(topic.id);
        partitions.filter_map(move |partition| Some((partition.id(), log_start(partition, &topic.settings, now)?)))
    })
}

/// The new log start of a partition, if it has to rise.
fn log_start(partition: &PartitionState, settings: &TopicSettings, now: LogTime) -> Option<Offset> {
    let horizon = settings.retention_ms.map(|retention| now.saturating_sub(retention));
    let mut bytes = partition.stored_bytes().saturating_add(partition.tail_bytes());
    let mut start = None;
    for range in partition.ranges().iter() {
        let is_old = horizon.is_some_and(|horizon| range.max_append_time < horizon);
        let rest = bytes.saturating_sub(range.bytes);
        let is_spare = settings.retention_bytes.is_some_and(|retention| rest >= retention);
        if !is_old && !is_spare {
            break;
        }
        start = Some(range.end);
        bytes = rest;
    }
    // A trim that reaches into what is being flushed is what that bug needs: that there is none is a guard of its own.
    if planted::is(Bug::TrimDuringFlushForgotten) {
        let is_old = |append_time| horizon.is_some_and(|horizon| append_time < horizon);
        let old = partition.tail().iter().take_while(|batch| is_old(batch.append_time));
        return old.last().map(|batch| batch.end_offset()).or(start);
    }
    start
}
