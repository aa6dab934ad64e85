//! Where a fetch begins, and the errors about offsets.

use super::*;

async fn page(world: &World, from: FetchFrom) -> (Offset, Offset) {
    let page = world.fetch(&world.request(0, from)).await.unwrap();
    (page.start, page.next_offset)
}

/// Twelve records, timestamps not monotonic, in three tiers; the first two are trimmed.
async fn jumbled() -> World {
    let mut world = World::new().await;
    let stamped = |timestamps: &[i64]| timestamps.iter().map(|timestamp| record(*timestamp, "v")).collect::<Vec<_>>();
    world.append(&[(0, stamped(&[900, 10, 50, 20]))]);
    world.flush().await;
    world.archive().await;
    world.append(&[(0, stamped(&[40, 70])), (0, stamped(&[60, 5]))]);
    world.flush().await;
    world.append(&[(0, stamped(&[65, 80])), (0, stamped(&[75, 90]))]);
    world.trim(0, 2);
    world
}

#[tokio::test]
async fn named_positions() {
    let world = jumbled().await;
    assert_eq!(page(&world, FetchFrom::Earliest).await, (2, 12));
    assert_eq!(page(&world, FetchFrom::Latest).await, (12, 12));
    assert_eq!(page(&world, FetchFrom::Tail(3)).await, (9, 12));
    assert_eq!(page(&world, FetchFrom::Tail(0)).await, (12, 12));
    assert_eq!(page(&world, FetchFrom::Tail(u64::MAX)).await, (2, 12));
    assert_eq!(page(&world, FetchFrom::Offset(12)).await, (12, 12));
}

#[tokio::test]
async fn a_timestamp_finds_the_lowest_offset_that_is_at_least_it() {
    let world = jumbled().await;
    let expected = [
        (i64::MIN, 2),
        (20, 2),
        (50, 2),
        (51, 5),
        (70, 5),
        (71, 9),
        (80, 9),
        (81, 11),
        (90, 11),
        (91, 12),
        (900, 12),
        (i64::MAX, 12),
    ];
    for (timestamp, offset) in expected {
        let found = world.fetch(&world.request(0, FetchFrom::Timestamp(timestamp))).await.unwrap();
        assert_eq!(found.start, offset, "{timestamp}");
    }
}

#[tokio::test]
async fn offsets_outside_the_bounds_are_refused_with_the_bounds() {
    let world = jumbled().await;
    let at = |offset| world.request(0, FetchFrom::Offset(offset));
    assert_eq!(world.refused(&at(1)).await, ("offset_expired", vec![2, 12]));
    assert_eq!(*world.shard.0.linearized.borrow(), 0);
    assert_eq!(world.refused(&at(13)).await, ("offset_out_of_range", vec![2, 12]));
    assert_eq!(*world.shard.0.linearized.borrow(), 1, "only a linearizable look proves it");
    let missing = world.request(PARTITIONS, FetchFrom::Earliest);
    assert_eq!(world.refused(&missing).await.0, "partition_not_found");
}

#[tokio::test]
async fn a_node_that_is_behind_looks_again_before_it_refuses() {
    let mut world = World::new().await;
    world.append(&[(0, numbered(0..2))]);
    let behind = world.shard.state();
    world.append(&[(0, numbered(2..4))]);
    world.shard.0.old_views.lock().unwrap().extend([behind.clone(), behind]);
    let page = world.fetch(&world.request(0, FetchFrom::Offset(3))).await.unwrap();
    assert_eq!((page.start, page.next_offset), (3, 4));
}

#[tokio::test]
async fn a_cacheable_range_is_flushed_and_exact() {
    let world = jumbled().await;
    let range = |start, end| FetchRequest { end: Some(end), ..world.request(0, FetchFrom::Offset(start)) };
    let page = world.fetch(&range(3, 7)).await.unwrap();
    assert_eq!((page.start, page.next_offset), (3, 7));
    assert_eq!(super::super::records(&page).unwrap(), world.written[0][3..7]);
    let page = world.fetch(&range(5, 5)).await.unwrap();
    assert_eq!((page.start, page.next_offset, page.chunks.len()), (5, 5, 0));
    assert_eq!(world.refused(&range(3, 9)).await, ("invalid_parameter", vec![2, 12, 8]));
    assert_eq!(world.refused(&range(7, 3)).await.0, "invalid_parameter");
    assert_eq!(world.refused(&range(1, 3)).await.0, "offset_expired");
    let named = FetchRequest { end: Some(4), ..world.request(0, FetchFrom::Earliest) };
    assert_eq!(world.refused(&named).await.0, "invalid_parameter");
}

#[tokio::test]
async fn a_deleted_topic_is_gone() {
    let mut world = jumbled().await;
    world.control(Control::DeleteTopic { id: world.topic.id });
    assert_eq!(world.refused(&world.request(0, FetchFrom::Earliest)).await.0, "topic_not_found");
}
