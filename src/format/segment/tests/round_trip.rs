//! What is written is read, whole and in parts.

use proptest::prelude::*;

use super::*;

fn check_content(content: &Content) {
    let segment = write(content);
    let object = object(&segment);
    let footer = footer_of(&object);
    assert_eq!(segment.info, *footer.info());
    assert_eq!(segment.info.bytes, object.len() as u64);
    assert_eq!(segment.ranges, footer.ranges().copied().collect::<Vec<_>>());
    assert_eq!(segment.ranges.len(), content.len());
    for ((n, p, batches), range) in content.iter().zip(&segment.ranges) {
        assert_eq!(range.partition, partition(*n, *p));
        assert_eq!((range.start, range.end), (batches[0].base_offset, batches.last().unwrap().end_offset()));
        assert_eq!(Some(range.max_timestamp), batches.iter().map(|batch| batch.max_timestamp).max());
        assert_eq!(Some(range.min_append_time), batches.iter().map(|batch| batch.append_time).min());
        assert_eq!(Some(range.max_append_time), batches.iter().map(|batch| batch.append_time).max());
        let seek = footer.position_of(range.partition, range.start).unwrap();
        assert_eq!(&read(&object, range.partition, seek).unwrap(), batches);
    }
    let records = content.iter().flat_map(|(_, _, batches)| batches).map(|batch| u64::from(batch.count)).sum::<u64>();
    assert_eq!(verify(ID, &object).unwrap(), (footer, records));
}

#[test]
fn small_and_large() {
    check_content(&small());
    check_content(&large());
}

/// Frames that end at, just before and just after the end of the first block.
#[test]
fn frames_at_block_borders() {
    let frame_of = |value_len| FRAME_HEADER_LEN + batch_of(0, &[1], value_len).bytes.len();
    let base = PAYLOAD_BYTES - HEADER_LEN;
    let fill = (base - 200..base).find(|len| frame_of(*len) == base).unwrap();
    for value_len in fill - FRAME_HEADER_LEN - 2..fill + 3 {
        check_content(&vec![
            (1, 0, vec![batch_of(0, &[1], value_len), batch_of(1, &[2], 50)]),
            (1, 1, vec![batch_of(0, &[1], 4)]),
        ]);
    }
    let exact = write(&vec![(1, 0, vec![batch_of(0, &[1], fill)])]);
    assert_eq!(exact.info.footer_start, BLOCK_BYTES as u64);
}

#[test]
fn the_object_comes_in_blocks_and_no_chunk_is_larger() {
    let segment = write(&large());
    let (footer, blocks) = segment.bytes.split_last().unwrap();
    assert_eq!(blocks.len() as u32, block_count(segment.info.footer_start));
    let (last, whole) = blocks.split_last().unwrap();
    assert!(whole.iter().all(|block| block.len() == BLOCK_BYTES) && last.len() <= BLOCK_BYTES);
    assert_eq!(segment.info.bytes - segment.info.footer_start, footer.len() as u64);
}

#[test]
fn batches_within_a_block_are_not_copied() {
    let object = object(&write(&small()));
    let footer = footer_of(&object);
    let range = *footer.range(partition(1, 0)).unwrap();
    let payload = payload(&object, &footer, 0).unwrap();
    let mut reader = FrameReader::new(&range, footer.position_of(range.partition, 5).unwrap());
    assert_eq!(reader.needs(), Some(0));
    reader.feed(&payload).unwrap();
    let batch = reader.next().unwrap().unwrap();
    assert!(payload.as_ptr_range().contains(&batch.bytes.as_ptr()));
    assert!(reader.needs().is_none());
    assert!(reader.next().unwrap().is_some() && reader.next().unwrap().is_none());
    assert!(reader.needs().is_none());
}

#[test]
fn the_writer_refuses_what_is_out_of_order_or_damaged() {
    let writer = || {
        let mut writer = SegmentWriter::new(ID);
        writer.push(&topic(2), 1, &batch_of(10, &[1], 5)).unwrap();
        writer
    };
    let batch = batch_of(0, &[1], 5);
    assert_eq!(writer().push(&topic(1), 0, &batch).unwrap_err().code(), "internal");
    assert_eq!(writer().push(&topic(2), 0, &batch).unwrap_err().code(), "internal");
    assert_eq!(writer().push(&topic(2), 1, &batch_of(12, &[1], 5)).unwrap_err().code(), "internal");
    assert_eq!(writer().push(&topic(2), 1, &batch_of(10, &[1], 5)).unwrap_err().code(), "internal");
    let mut bytes = batch.bytes.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let damaged = StoredBatch { bytes: bytes.into(), ..batch };
    assert_eq!(writer().push(&topic(2), 2, &damaged).unwrap_err().code(), "corrupt");
    assert!(SegmentWriter::new(ID).is_empty());
    assert_eq!(SegmentWriter::new(ID).finish().unwrap_err().code(), "internal");
}

#[test]
fn the_footer_names_the_topics() {
    let footer = footer_of(&object(&write(&small())));
    let names: Vec<&str> = footer.topics().iter().map(|topic| topic.name.as_str()).collect();
    assert_eq!(names, ["topic-1", "topic-2"]);
    assert_eq!(footer.topics()[0].settings, topic(1).settings);
    assert_eq!(footer.range(partition(1, 1)), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_content(shape in prop::collection::btree_map((1..4u128, 0..5u32), prop::collection::vec((1..4usize, 0..120_000usize, -9..9i64), 1..12), 1..6)) {
        let content: Content = shape.into_iter().map(|((n, p), batches)| {
            let mut next = u64::from(p) * 1000;
            let batches = batches.into_iter().map(|(count, value_len, timestamp)| {
                let batch = batch_of(next, &vec![timestamp; count], value_len);
                next += count as u64;
                batch
            });
            (n, p, batches.collect())
        }).collect();
        check_content(&content);
    }
}
