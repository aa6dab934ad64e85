//! Disks that are full: refused before it is too late, survived when it is, and over as soon as there is room.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::eventually;
use crate::support::http::Http;
use crate::support::producers::Producers;
use crate::support::server::{Server, Settings};
use crate::support::small_disk::SmallDisks;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const PAUSE: Duration = Duration::from_millis(5);

/// A data directory with a small disk at `place` in it.
fn small(place: &str, size: &str) -> Option<(SmallDisks, Arc<TempDir>, PathBuf)> {
    let mut disks = SmallDisks::new()?;
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let path = dir.path().join(place);
    std::fs::create_dir_all(&path).unwrap();
    disks.mount(&path, size);
    Some((disks, dir, path))
}

async fn bounds(http: &Http, topic: &str) -> (u64, u64) {
    let description = http.get(&format!("/v1/topics/{topic}")).await.expect(200);
    let number = |name: &str| description["partitions"][0][name].as_u64().unwrap();
    (number("high_watermark"), number("flushed_offset"))
}

async fn drained(http: &Http, topic: &str) {
    eventually("the flush", || async {
        let (high, flushed) = bounds(http, topic).await;
        (high == flushed).then_some(())
    })
    .await;
}

/// Waits until so many flushes in a row have failed.
async fn failed_flushes(server: &Server, count: usize) {
    let failures = || server.log().matches("a flush failed and will be made anew").count();
    let before = failures();
    eventually("failed flushes", || async { (failures() >= before + count).then_some(()) }).await;
}

async fn flush_error(http: &Http) -> Value {
    let status = http.get("/v1/status").await.expect(200);
    let jobs = status["jobs"].as_array().unwrap();
    jobs.iter().find(|job| job["name"] == "flush").unwrap()["last_error"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_runs_low_refuses_appends_before_it_is_full() {
    let Some((disks, dir, wal)) = small("data/wal", "64m") else { return };
    let server = Server::start_in(dir, disks.enter(Settings::default())).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({})).await;
    let mut producers = Producers::new(server.url()).records("t", 0, PAUSE);
    eventually("the load", || async { (producers.history().count() > 100).then_some(()) }).await;
    assert_eq!(producers.take_errors(), [] as [String; 0]);
    // The mark of a small disk is a quarter of it.
    disks.fill(&wal, 8 * MIB);
    http.create_topic("other", &json!({})).await;
    let refused = eventually("a refusal", || async {
        let answer = http.produce("other", &json!([{"text": "x"}])).await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    let error = refused.error(503, "overloaded");
    assert_eq!((&error["outcome"], &error["retryable"]), (&json!("not_written"), &json!(true)), "{error}");
    assert!(refused.header("retry-after").is_some());
    http.get("/readyz").await.expect(200);
    http.create_topic("control-commands-have-room", &json!({})).await;
    let count = producers.history().count();
    disks.empty(&wal);
    eventually("the load again", || async { (producers.history().count() > count + 100).then_some(()) }).await;
    producers.stop().await;
    assert!(producers.take_errors().iter().all(|error| error.contains("overloaded")));
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_meets_the_end_of_its_disk_loses_nothing_and_starts_again_with_room() {
    let Some((disks, dir, wal)) = small("data/wal", "64m") else { return };
    let settings = Settings::default()
        .set("wal.min_free", "0B")
        .set("wal.min_free_percent", "0")
        // The log is never purged, so that it meets the end.
        .set("flush.interval", "1h")
        .set("flush.bytes", "1GiB")
        .set("archive.job_size", "1GiB");
    let settings = disks.enter(settings);
    let mut server = Server::start_in(Arc::clone(&dir), settings.clone()).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({"partitions": 2})).await;
    http.create_topic("bulk", &json!({"compression": "none"})).await;
    let settings = settings.listen(server.address());
    let mut producers = Producers::new(server.url());
    // In the middle of a file, of a record, and where the next file begins.
    for left in [5 * MIB, 300 * KIB, 20 * MIB, 4 * KIB] {
        disks.fill(&wal, left);
        producers = producers.records("t", 0, PAUSE).records("t", 1, PAUSE).bulk("bulk", 100 << 10, Duration::ZERO);
        let (status, log) = ended(server).await;
        assert_eq!(status, Some(1), "{log}");
        assert!(log.contains("No space left"), "{log}");
        producers.abandon().await;
        for error in producers.take_errors() {
            let told = error.contains("\"code\":\"unavailable\"") || error.contains("\"code\":\"overloaded\"");
            assert!(told || !error.contains("\"error\""), "{error}");
        }
        // Without room it may run or not, but it finds nothing wrong with what is there.
        match Server::try_start(Arc::clone(&dir), settings.clone()).await {
            Ok(server) => drop(server),
            Err(log) => assert!(log.contains("No space left") && !log.contains("damaged"), "{log}"),
        }
        disks.empty(&wal);
        server = Server::start_in(Arc::clone(&dir), settings.clone()).await;
        producers.history().check(&http, "t").await;
        assert!(bounds(&http, "bulk").await.0 >= producers.bulk_count());
        // The log is emptied for the next round.
        http.flush("t", false).await;
    }
    println!("{} records and {} bulk records", producers.history().count(), producers.bulk_count());
}

/// Waits until the server ends by itself.
async fn ended(server: Server) -> (Option<i32>, String) {
    let log = server.log_handle();
    let (status, _dir) = tokio::task::spawn_blocking(|| server.ended()).await.unwrap();
    let log = log.lock().unwrap().clone();
    (status.code(), log)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_room_for_the_local_checkpoint_stops_flushes_only_and_leaves_nothing_behind() {
    // Room for some files, of a page each.
    for left in [0, 4 * KIB, 8 * KIB] {
        let Some((disks, dir, meta)) = small("data/wal/shard-00000/meta", "256k") else { return };
        let settings =
            disks.enter(Settings::default().set("flush.interval", "100ms").set("flush.checkpoint_gap", "0ms"));
        let server = Server::start_in(dir, settings).await;
        let http = Http::new(server.url());
        http.create_topic("t", &json!({})).await;
        let mut producers = Producers::new(server.url()).records("t", 0, PAUSE);
        eventually("a flush", || async { (bounds(&http, "t").await.1 > 0).then_some(()) }).await;
        disks.fill(&meta, left);
        failed_flushes(&server, 4).await;
        assert!(flush_error(&http).await.as_str().is_some_and(|error| error.contains("meta")));
        let files = std::fs::read_dir(disks.inside(&meta)).unwrap().count();
        assert!(files < 16, "{files} files were left behind");
        // A crash in it costs nothing.
        producers.abandon().await;
        assert_eq!(producers.take_errors(), [] as [String; 0]);
        let server = server.kill_and_restart().await;
        let http = Http::new(server.url());
        http.get("/readyz").await.expect(200);
        disks.empty(&meta);
        drained(&http, "t").await;
        producers.history().check(&http, "t").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_room_in_a_local_bucket_stops_flushes_only_and_is_not_used_up() {
    let Some((disks, dir, bucket)) = small("data/bucket", "32m") else { return };
    let settings = Settings::default()
        .set("flush.interval", "200ms")
        .set("flush.bytes", "256KiB")
        .set("flush.uploads", "2")
        .set("archive.enabled", "false")
        .set("store.attempt_timeout", "1s")
        .set("store.deadline", "1s");
    let server = Server::start_in(dir, disks.enter(settings)).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({})).await;
    http.create_topic("bulk", &json!({"compression": "none"})).await;
    let mut producers = Producers::new(server.url()).records("t", 0, PAUSE);
    eventually("a flush", || async { (bounds(&http, "t").await.1 > 0).then_some(()) }).await;
    disks.fill(&bucket, 2 * MIB);
    let mut bulk = Producers::new(server.url()).bulk("bulk", 256 << 10, Duration::ZERO);
    eventually("the bulk", || async { (bulk.bulk_count() > 40).then_some(()) }).await;
    bulk.stop().await;
    failed_flushes(&server, 3).await;
    assert_eq!((producers.take_errors(), bulk.take_errors()), (Vec::new(), Vec::new()));
    // What a flush wrote before it failed is of no use to anybody.
    eventually("room", || async { (disks.free(&bucket) >= MIB).then_some(()) }).await;
    disks.empty(&bucket);
    producers.stop().await;
    drained(&http, "t").await;
    drained(&http, "bulk").await;
    producers.history().check(&http, "t").await;
    let server = server.terminate_and_restart().await;
    producers.history().check(&Http::new(server.url()), "t").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_room_for_the_cache_costs_hits_only() {
    let Some((disks, dir, cache)) = small("data/cache", "8m") else { return };
    disks.fill(&cache, 100 * KIB);
    let settings = Settings::default().set("flush.interval", "200ms").set("cache.memory", "8MiB");
    let server = Server::start_in(dir, disks.enter(settings.set("cache.disk", "64MiB"))).await;
    let http = Http::new(server.url());
    http.create_topic("bulk", &json!({"compression": "none"})).await;
    let mut producers = Producers::new(server.url()).bulk("bulk", 500 << 10, Duration::ZERO);
    eventually("the load", || async { (producers.bulk_count() > 40).then_some(()) }).await;
    producers.stop().await;
    http.flush("bulk", false).await;
    for _ in 0..2 {
        // More than the memory holds.
        assert_eq!(http.fetch_all("bulk", 0, "&values=base64").await.len() as u64, producers.bulk_count());
    }
    assert_eq!(producers.take_errors(), [] as [String; 0]);
    http.get("/readyz").await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_with_one_full_disk_refuses_and_takes_up_work_with_room() {
    let Some((disks, dir, data)) = small("data", "96m") else { return };
    disks.fill(&data, 60 * MIB);
    let settings = Settings::default()
        .set("flush.interval", "200ms")
        .set("flush.bytes", "1MiB")
        .set("archive.interval", "200ms")
        .set("cache.disk", "0B");
    let settings = disks.enter(settings);
    let server = Server::start_in(Arc::clone(&dir), settings.clone()).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({"archive_after_ms": 0})).await;
    http.create_topic("bulk", &json!({"compression": "none"})).await;
    let mut producers =
        Producers::new(server.url()).records("t", 0, PAUSE).bulk("bulk", 200 << 10, Duration::from_millis(10));
    let overloaded = || producers.take_errors().iter().any(|error| error.contains("overloaded"));
    eventually("the end of the room", || async { overloaded().then_some(()) }).await;
    http.get("/readyz").await.expect(200);
    assert!(!server.log().contains(" ERROR "), "nothing but appends is refused");
    let count = producers.bulk_count();
    disks.empty(&data);
    eventually("more", || async { (producers.bulk_count() > count + 5).then_some(()) }).await;
    producers.stop().await;
    drained(&http, "t").await;
    producers.history().check(&http, "t").await;
    let server = Server::start_in(server.kill(), settings).await;
    producers.history().check(&Http::new(server.url()), "t").await;
}
