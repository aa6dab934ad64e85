//! Cuts a tail into segments. Pure.

use crate::model::{TailRef, TopicPartition};

/// A segment to write: batches sorted by partition, then offset.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlannedSegment {
    /// Each partition once, with its batches in offset order.
    pub partitions: Vec<(TopicPartition, Vec<TailRef>)>,
    /// Encoded bytes of the batches.
    pub bytes: u64,
}

/// Cuts `tail`, which comes sorted by partition and offset, into segments of about `target` bytes. A segment ends with
/// the batch that reaches the target; a partition may go on in the next one. Costs one step for each batch.
pub fn cut<'a>(tail: impl Iterator<Item = (TopicPartition, &'a TailRef)>, target: u64) -> Vec<PlannedSegment> {
    let mut segments = Vec::new();
    let mut current = PlannedSegment::default();
    for (partition, batch) in tail {
        match current.partitions.last_mut() {
            Some((last, batches)) if *last == partition => batches.push(*batch),
            _ => current.partitions.push((partition, vec![*batch])),
        }
        current.bytes += u64::from(batch.len);
        if current.bytes >= target {
            segments.push(std::mem::take(&mut current));
        }
    }
    if !current.partitions.is_empty() {
        segments.push(current);
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TopicId;
    use uuid::Uuid;

    fn batch(base_offset: u64, len: u32) -> TailRef {
        TailRef { base_offset, count: 1, log_index: base_offset, position: 0, len, max_timestamp: 0, append_time: 0 }
    }

    fn lens(segments: &[PlannedSegment]) -> Vec<Vec<(u32, Vec<u64>)>> {
        let offsets = |refs: &Vec<TailRef>| refs.iter().map(|batch| batch.base_offset).collect();
        segments
            .iter()
            .map(|segment| segment.partitions.iter().map(|(tp, refs)| (tp.partition, offsets(refs))).collect())
            .collect()
    }

    #[test]
    fn cuts_at_the_target_and_goes_on_with_the_same_partition() {
        let topic = TopicId(Uuid::nil());
        let tail = [(0, batch(0, 6)), (0, batch(1, 6)), (0, batch(2, 6)), (1, batch(0, 3)), (2, batch(5, 100))];
        let tail: Vec<_> = tail.into_iter().map(|(p, b)| (TopicPartition::new(topic, p), b)).collect();
        let cut = cut(tail.iter().map(|(tp, b)| (*tp, b)), 10);
        assert_eq!(lens(&cut), vec![vec![(0, vec![0, 1])], vec![(0, vec![2]), (1, vec![0]), (2, vec![5])]]);
        assert_eq!(cut.iter().map(|segment| segment.bytes).collect::<Vec<_>>(), vec![12, 109]);
    }

    #[test]
    fn an_empty_tail_makes_no_segment() {
        assert!(cut(std::iter::empty(), 10).is_empty());
    }
}
