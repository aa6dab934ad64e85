//! Cuts a tail into segments. Pure.

use crate::model::{TailRef, TopicPartition};

/// Bytes of tail that are sorted together. A segment is built from the log entries of its window only, so that a long
/// tail (a bucket that was away) does not read the whole log for every segment.
const WINDOW_BYTES: u64 = 128 << 20;
/// Partition ranges that one `Flushed` names at most, about: what bounds the size of the command.
const MAX_RANGES: u64 = 32_768;

/// Bytes of segments that are read together, about: each log entry of a window has batches of many segments.
const READ_BYTES: u64 = 64 << 20;

/// A segment to write: batches sorted by partition, then offset.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlannedSegment {
    /// Each partition once, with its batches in offset order.
    pub partitions: Vec<(TopicPartition, Vec<TailRef>)>,
    /// Encoded bytes of the batches.
    pub bytes: u64,
}

/// A batch of the tail with its partition.
pub type TailBatch = (TopicPartition, TailRef);

/// Cuts `tail` into segments of at least `target` bytes, if it has as many, and less than twice that, but for a batch at the
/// end: windows of the log in log order, each sorted by partition and offset. A window is shared out evenly, so that none ends
/// with a small segment, which would be a call and a footer as any other. A partition may go on in the next segment, and its
/// ranges follow each other in the order of the segments. Costs O(n log n) for n batches.
#[must_use]
pub fn cut(mut tail: Vec<TailBatch>, target: u64) -> Vec<PlannedSegment> {
    tail.sort_unstable_by_key(|(_, batch)| (batch.log_index, batch.position));
    let window = window_bytes(&tail);
    let mut segments = Vec::new();
    let mut rest = tail.as_mut_slice();
    while !rest.is_empty() {
        let (head, tail) = rest.split_at_mut(window_end(rest, window));
        head.sort_unstable_by_key(|(partition, batch)| (*partition, batch.base_offset));
        cut_window(head, share(head, target), &mut segments);
        rest = tail;
    }
    segments
}

/// How many of the first of `segments` are read together, each log entry once for all of them: at most `most`, at least one.
#[must_use]
pub fn read_together(segments: &[PlannedSegment], most: usize) -> usize {
    let mut bytes = 0;
    let fits = segments.iter().take(most).take_while(|segment| {
        bytes += segment.bytes;
        bytes <= READ_BYTES
    });
    fits.count().max(1)
}

/// The bytes of a window: larger if many partitions would be named once for each window.
fn window_bytes(tail: &[TailBatch]) -> u64 {
    let total: u64 = tail.iter().map(|(_, batch)| u64::from(batch.len)).sum();
    if total <= WINDOW_BYTES {
        return total;
    }
    let mut partitions: Vec<TopicPartition> = tail.iter().map(|(partition, _)| *partition).collect();
    partitions.sort_unstable();
    partitions.dedup();
    let windows = (MAX_RANGES / partitions.len() as u64).max(1);
    WINDOW_BYTES.max(total.div_ceil(windows))
}

/// How many of `batches` make the first window; a log entry is never split between two.
fn window_end(batches: &[TailBatch], window: u64) -> usize {
    let mut bytes = 0;
    for (at, (_, batch)) in batches.iter().enumerate() {
        if bytes >= window && batch.log_index != batches[at - 1].1.log_index {
            return at;
        }
        bytes += u64::from(batch.len);
    }
    batches.len()
}

/// The bytes at which segments of a window end, so that all are about as large and none is smaller than `target`.
fn share(window: &[TailBatch], target: u64) -> u64 {
    let total: u64 = window.iter().map(|(_, batch)| u64::from(batch.len)).sum();
    total.div_ceil((total / target.max(1)).max(1))
}

/// A segment ends with the batch that reaches `target`.
fn cut_window(batches: &[TailBatch], target: u64, segments: &mut Vec<PlannedSegment>) {
    let mut current = PlannedSegment::default();
    for (partition, batch) in batches {
        match current.partitions.last_mut() {
            Some((last, batches)) if last == partition => batches.push(*batch),
            _ => current.partitions.push((*partition, vec![*batch])),
        }
        current.bytes += u64::from(batch.len);
        if current.bytes >= target {
            segments.push(std::mem::take(&mut current));
        }
    }
    if !current.partitions.is_empty() {
        segments.push(current);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::model::TopicId;

    fn batch(partition: u32, base_offset: u64, log_index: u64, len: u32) -> TailBatch {
        let batch = TailRef { base_offset, count: 1, log_index, position: 0, len, max_timestamp: 0, append_time: 0 };
        (TopicPartition::new(TopicId(Uuid::nil()), partition), batch)
    }

    fn offsets(segments: &[PlannedSegment]) -> Vec<Vec<(u32, Vec<u64>)>> {
        let offsets = |refs: &Vec<TailRef>| refs.iter().map(|batch| batch.base_offset).collect();
        segments
            .iter()
            .map(|segment| segment.partitions.iter().map(|(tp, refs)| (tp.partition, offsets(refs))).collect())
            .collect()
    }

    #[test]
    fn cuts_at_the_target_and_goes_on_with_the_same_partition() {
        let tail =
            vec![batch(2, 5, 1, 100), batch(0, 0, 2, 6), batch(1, 0, 3, 3), batch(0, 1, 4, 6), batch(0, 2, 5, 6)];
        let cut = cut(tail, 10);
        assert_eq!(offsets(&cut), vec![vec![(0, vec![0, 1])], vec![(0, vec![2]), (1, vec![0]), (2, vec![5])]]);
        assert_eq!(cut.iter().map(|segment| segment.bytes).collect::<Vec<_>>(), vec![12, 109]);
    }

    #[test]
    fn a_long_tail_is_sorted_in_windows_of_the_log() {
        let mib = 1 << 20;
        let tail = (0..600).map(|at| batch(at % 2, u64::from(at / 2), u64::from(at), mib)).collect();
        let segments = cut(tail, 16 << 20);
        let mut next = [0, 0];
        for segment in &segments {
            let indexes: Vec<u64> = segment.partitions.iter().flat_map(|(_, refs)| refs).map(|b| b.log_index).collect();
            let spread = indexes.iter().max().unwrap_or(&0) - indexes.iter().min().unwrap_or(&0);
            assert!(spread < 256, "a segment reads {spread} entries");
            for (partition, refs) in &segment.partitions {
                for batch in refs {
                    assert_eq!(batch.base_offset, next[partition.partition as usize]);
                    next[partition.partition as usize] += 1;
                }
            }
        }
        assert_eq!(next, [300, 300]);
    }

    #[test]
    fn no_segment_is_smaller_than_the_target_beside_others() {
        let kib = 1 << 10;
        for batches in [63, 64, 65, 70, 127, 128, 129, 200, 640, 650] {
            let tail = (0..batches).map(|at| batch(at as u32 % 16, at / 16, at, kib)).collect();
            let sizes: Vec<u64> = cut(tail, 64 << 10).iter().map(|segment| segment.bytes >> 10).collect();
            assert_eq!(sizes.iter().sum::<u64>(), batches);
            assert_eq!(sizes.len() as u64, (batches / 64).max(1), "{sizes:?}");
            assert!(sizes.len() == 1 || sizes.iter().all(|size| (60..128).contains(size)), "{sizes:?}");
        }
    }

    #[test]
    fn segments_are_read_together_as_far_as_memory_allows() {
        let segments = |mib: &[u64]| -> Vec<PlannedSegment> {
            mib.iter().map(|mib| PlannedSegment { partitions: Vec::new(), bytes: mib << 20 }).collect()
        };
        assert_eq!(read_together(&segments(&[16; 9]), 8), 4);
        assert_eq!(read_together(&segments(&[16; 9]), 2), 2);
        assert_eq!(read_together(&segments(&[1, 1, 1]), 8), 3, "there are no more");
        assert_eq!(read_together(&segments(&[100, 1]), 8), 1);
        assert_eq!(read_together(&segments(&[60, 5, 1]), 8), 1, "in order");
    }

    #[test]
    fn an_empty_tail_makes_no_segment() {
        assert!(cut(Vec::new(), 10).is_empty());
    }
}
