//! Long polls and followers.

use tokio::time::Instant;

use super::*;

fn patient() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[tokio::test]
async fn a_long_poll_returns_with_the_first_record() {
    let mut world = World::new().await;
    world.append(&[(0, numbered(0..1))]);
    let request = FetchRequest { wait: Duration::from_secs(60), ..world.request(0, FetchFrom::Latest) };
    let (fetcher, topic) = (world.fetcher.clone(), Arc::clone(&world.topic));
    let poll = tokio::spawn(async move { fetcher.fetch(&topic, &request).await });
    while world.shard.0.applied.receiver_count() == 0 {
        tokio::task::yield_now().await;
    }
    world.append(&[(1, numbered(7..8))]);
    tokio::task::yield_now().await;
    assert!(!poll.is_finished(), "another partition grew");
    world.append(&[(0, numbered(1..3))]);
    let page = poll.await.unwrap().unwrap();
    assert_eq!((page.start, page.next_offset, page.bounds.high_watermark), (1, 3, 3));
}

#[tokio::test]
async fn a_long_poll_that_waited_in_vain_is_an_empty_page() {
    let mut world = World::new().await;
    world.append(&[(0, numbered(0..1))]);
    let request = FetchRequest { wait: Duration::from_millis(5), ..world.request(0, FetchFrom::Offset(1)) };
    let page = world.fetch(&request).await.unwrap();
    assert_eq!((page.start, page.next_offset, page.chunks.len()), (1, 1, 0));
    let at_once = FetchRequest { wait: Duration::from_secs(60), ..world.request(0, FetchFrom::Offset(0)) };
    assert_eq!(world.fetch(&at_once).await.unwrap().next_offset, 1, "there is no need to wait");
}

#[tokio::test]
async fn followers_wait_for_any_of_their_partitions() {
    let mut world = World::new().await;
    world.append(&[(0, numbered(0..1))]);
    let positions = [(world.partition(0), 1), (world.partition(1), 0)];
    let fetcher = world.fetcher.clone();
    let wait = tokio::spawn(async move { fetcher.wait_for_data(&positions, patient(), |_| false).await });
    while world.shard.0.applied.receiver_count() == 0 {
        tokio::task::yield_now().await;
    }
    world.append(&[(2, numbered(0..1))]);
    tokio::task::yield_now().await;
    assert!(!wait.is_finished());
    world.append(&[(1, numbered(0..1))]);
    wait.await.unwrap().unwrap();

    let there = [(world.partition(0), 0)];
    world.fetcher.wait_for_data(&there, patient(), |_| false).await.unwrap();
    let ends = [(world.partition(0), 1)];
    world.fetcher.wait_for_data(&ends, patient(), |_| true).await.unwrap();
    world.fetcher.wait_for_data(&ends, Instant::now(), |_| false).await.unwrap();
    let gone = [(world.partition(PARTITIONS), 1)];
    world.fetcher.wait_for_data(&gone, patient(), |_| false).await.unwrap();
}

#[tokio::test]
async fn what_is_trimmed_during_a_wait_is_skipped_unless_it_was_asked_for() {
    let mut world = World::new().await;
    world.append(&[(0, numbered(0..1))]);
    let request = FetchRequest { wait: Duration::from_secs(60), ..world.request(0, FetchFrom::Latest) };
    let (fetcher, topic) = (world.fetcher.clone(), Arc::clone(&world.topic));
    let before = world.shard.state();
    world.append(&[(0, numbered(1..5))]);
    world.trim(0, 3);
    // The view at which `latest` was resolved and the first page was empty.
    world.shard.0.old_views.lock().unwrap().extend([before.clone(), before]);
    let page = fetcher.fetch(&topic, &request).await.unwrap();
    assert_eq!((page.start, page.next_offset), (3, 5));
}
