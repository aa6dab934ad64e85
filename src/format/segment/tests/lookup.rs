//! Lookup by offset and by timestamp.

use super::*;

/// Timestamps that go up and down over many intervals.
fn wavy() -> Content {
    let timestamp = |n: u64| ((n * 7919) % 101) as i64 + if n > 70 { 40 } else { 0 };
    let batches = (0..100).map(|n| batch_of(10 + 2 * n, &[timestamp(n), timestamp(n) - 1], 10_000)).collect();
    vec![(1, 0, vec![batch_of(0, &[5], 100_000)]), (1, 1, batches)]
}

#[test]
fn an_offset_is_at_or_shortly_after_its_position() {
    let content = wavy();
    let object = object(&write(&content));
    let footer = footer_of(&object);
    let wavy = partition(1, 1);
    for offset in 10..210 {
        let seek = footer.position_of(wavy, offset).unwrap();
        let batches = read(&object, wavy, seek).unwrap();
        assert_eq!(batches[0].base_offset, seek.offset);
        assert!(seek.offset <= offset);
        let before: usize =
            batches.iter().take_while(|batch| batch.end_offset() <= offset).map(|b| b.bytes.len()).sum();
        assert!(before as u64 <= INDEX_INTERVAL_BYTES + 21_000, "{before} bytes read in vain");
    }
    for offset in [0, 9, 210, u64::MAX] {
        assert_eq!(footer.position_of(wavy, offset), None);
    }
    assert_eq!(footer.position_of(partition(3, 0), 0), None);
}

#[test]
fn a_timestamp_is_found_exactly_though_not_monotonic() {
    let content = wavy();
    let object = object(&write(&content));
    let footer = footer_of(&object);
    let batches = &content[1].2;
    for timestamp in -2..150i64 {
        // A record of a batch of two is below its maximum; so the batch decides here.
        let expected = batches.iter().find(|batch| batch.max_timestamp >= timestamp).map(|batch| batch.base_offset);
        let found = footer.position_of_timestamp(partition(1, 1), timestamp).and_then(|seek| {
            let batches = read(&object, partition(1, 1), seek).unwrap();
            batches.into_iter().find(|batch| batch.max_timestamp >= timestamp).map(|batch| batch.base_offset)
        });
        assert_eq!(found, expected, "{timestamp}");
    }
    assert_eq!(footer.position_of_timestamp(partition(1, 0), 6), None);
    assert_eq!(footer.position_of_timestamp(partition(1, 0), 5).unwrap().offset, 0);
}

#[test]
fn a_partition_of_one_interval_has_no_index() {
    let footer = footer_of(&object(&write(&wavy())));
    assert!(footer.partitions()[0].index.is_empty());
    let index = &footer.partitions()[1].index;
    assert!((15..40).contains(&index.len()), "{}", index.len());
}
