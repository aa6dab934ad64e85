//! Readers whose view is overtaken, and objects that are damaged or missing.

use super::*;

#[tokio::test]
async fn a_tail_that_was_flushed_and_purged_meanwhile_is_planned_again() {
    let mut world = World::new().await;
    world.append(&[(0, numbered(0..5))]);
    let before = world.shard.state();
    world.flush().await;
    world.shard.0.old_views.lock().unwrap().extend([before.clone(), before]);
    assert_eq!(values(&world.records(0, FetchFrom::Earliest).await), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn a_segment_that_was_archived_and_deleted_meanwhile_is_planned_again() {
    let mut world = World::new().await;
    world.append(&[(0, numbered(0..5))]);
    world.flush().await;
    let before = world.shard.state();
    world.archive().await;
    world.shard.0.old_views.lock().unwrap().extend([before.clone(), before.clone()]);
    assert_eq!(values(&world.records(0, FetchFrom::Earliest).await), [0, 1, 2, 3, 4]);
    world.shard.0.old_views.lock().unwrap().extend([before.clone(), before]);
    let found = world.fetch(&world.request(0, FetchFrom::Timestamp(3))).await.unwrap();
    assert_eq!(found.start, 3);
}

#[tokio::test]
async fn a_range_that_was_trimmed_meanwhile_is_expired() {
    let mut world = World::new().await;
    world.append(&[(0, numbered(0..5))]);
    world.flush().await;
    let before = world.shard.state();
    let segment = Key::Segment(SHARD, world.segments()[0]).to_string();
    world.trim(0, 5);
    world.bucket.delete(vec![segment]).await.unwrap();
    world.shard.0.old_views.lock().unwrap().extend([before.clone(), before]);
    assert_eq!(world.refused(&world.request(0, FetchFrom::Offset(1))).await, ("offset_expired", vec![5, 5]));
}

#[tokio::test]
async fn an_object_that_the_newest_view_names_and_nobody_has_is_an_error() {
    let mut world = World::new().await;
    world.append(&[(0, numbered(0..5))]);
    world.flush().await;
    let segment = Key::Segment(SHARD, world.segments()[0]).to_string();
    world.bucket.delete(vec![segment]).await.unwrap();
    assert_eq!(world.refused(&world.request(0, FetchFrom::Earliest)).await.0, "corrupt");
    world.append(&[(0, numbered(5..6))]);
    world.shard.0.log.lock().unwrap().clear();
    assert_eq!(world.refused(&world.request(0, FetchFrom::Offset(5))).await.0, "corrupt");
}

#[tokio::test]
async fn what_is_gone_is_not_called_damaged_while_nobody_says_what_is_the_newest() {
    let mut world = World::new().await;
    world.append(&[(0, numbered(0..5))]);
    world.flush().await;
    let segment = Key::Segment(SHARD, world.segments()[0]).to_string();
    world.bucket.delete(vec![segment]).await.unwrap();
    world.shard.0.leaderless.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(world.refused(&world.request(0, FetchFrom::Earliest)).await.0, "unavailable");
    world.shard.0.leaderless.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(world.refused(&world.request(0, FetchFrom::Earliest)).await.0, "corrupt");
}

#[tokio::test]
async fn a_view_that_is_too_old_is_not_read() {
    let mut world = World::new().await;
    world.append(&[(0, numbered(0..5))]);
    world.flush().await;
    world.shard.0.outdated.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(world.refused(&world.request(0, FetchFrom::Earliest)).await.0, "unavailable");
    world.shard.0.outdated.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(values(&world.records(0, FetchFrom::Earliest).await), [0, 1, 2, 3, 4]);
}

/// Flips one bit of an object.
async fn damage(world: &World, key: &str, at: usize) -> Bytes {
    let good = world.bucket.get(key, u64::MAX).await.unwrap();
    let mut bad = good.to_vec();
    bad[at] ^= 1;
    world.bucket.put(key, vec![bad.into()]).await.unwrap();
    good
}

#[tokio::test]
async fn damaged_segments_are_never_served_and_do_not_stay_in_the_cache() {
    let mut world = World::new().await;
    world.append(&[(0, numbered(0..5))]);
    world.flush().await;
    let key = Key::Segment(SHARD, world.segments()[0]).to_string();
    let len = world.bucket.head(&key).await.unwrap() as usize;
    let request = world.request(0, FetchFrom::Earliest);
    // In a block, then in the footer.
    for at in [100, len - 30] {
        let good = damage(&world, &key, at).await;
        assert_eq!(world.refused(&request).await.0, "corrupt");
        assert_eq!(world.refused(&world.request(0, FetchFrom::Timestamp(3))).await.0, "corrupt");
        world.bucket.put(&key, vec![good]).await.unwrap();
        if at == 100 {
            assert_eq!(values(&world.records(0, FetchFrom::Earliest).await), [0, 1, 2, 3, 4]);
            world = World::new().await;
            world.append(&[(0, numbered(0..5))]);
            world.flush().await;
        }
    }
    assert_eq!(values(&world.records(0, FetchFrom::Earliest).await), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn damaged_archive_files_are_never_served_and_do_not_stay_in_the_cache() {
    let mut world = World::new().await;
    world.append(&[(0, numbered(0..5))]);
    world.flush().await;
    world.archive().await;
    let file = world.shard.state().files().next().unwrap().file.clone();
    let key = world.archive_key(file.id, file.day);
    for at in [60, file.bytes as usize - 30] {
        let good = damage(&world, &key, at).await;
        let result = world.fetch(&world.request(0, FetchFrom::Earliest)).await;
        // The footer was decoded when its row group was found damaged, and is not read again.
        if at == 60 {
            assert_eq!(result.unwrap_err().code(), "corrupt");
        } else {
            assert!(result.is_ok());
        }
        world.bucket.put(&key, vec![good]).await.unwrap();
        assert_eq!(values(&world.records(0, FetchFrom::Earliest).await), [0, 1, 2, 3, 4]);
    }
}

#[tokio::test]
async fn a_page_is_answered_as_far_as_it_got() {
    let mut world = World::new().await;
    world.append(&[(0, numbered(0..5))]);
    world.flush().await;
    world.append(&[(0, numbered(5..10))]);
    world.flush().await;
    let key = Key::Segment(SHARD, world.segments()[1]).to_string();
    damage(&world, &key, 100).await;
    let page = world.fetch(&world.request(0, FetchFrom::Earliest)).await.unwrap();
    assert_eq!((page.next_offset, page.bounds.high_watermark), (5, 10));
    assert_eq!(world.refused(&world.request(0, FetchFrom::Offset(5))).await.0, "corrupt");
}

#[tokio::test]
async fn damaged_entries_of_the_log_are_not_served() {
    let mut world = World::new().await;
    world.append(&[(0, numbered(0..5))]);
    let (index, entry) = world.shard.0.log.lock().unwrap().last_key_value().map(|(i, e)| (*i, e.clone())).unwrap();
    world.shard.0.log.lock().unwrap().insert(index, entry.slice(..entry.len() - 1));
    assert_eq!(world.refused(&world.request(0, FetchFrom::Earliest)).await.0, "corrupt");
}
