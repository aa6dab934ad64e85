//! Files of the log are given up only once the purge is on disk: killed while its sync is under way, the log is still there.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::support::eventually;
use crate::support::http::Http;
use crate::support::injected::{Injected, fired};
use crate::support::server::{Server, Settings};
use crate::support::wal;

const RECORDS: usize = 30;

fn settings() -> Settings {
    Settings::default()
        .set("flush.interval", "1h")
        .set("flush.metadata_interval", "1h")
        .set("cache.disk", "0B")
        .set("wal.file_size", "16KiB")
        .set("wal.spare", "0B")
}

/// The directory of a server that was killed when it had asked for a purge of several files, and an earlier sync was
/// not yet over; and how many files the purge had cost by then.
async fn killed_in_a_purge(planted: &str) -> (Arc<TempDir>, usize) {
    let injected = Injected::new();
    let points = |text: &str| injected.points(&format!("{text};{planted}"));
    points("");
    let server = Server::start_with(injected.followed_by(settings())).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({"compression": "none"})).await;
    for number in 0..RECORDS {
        http.produce("t", &json!([{"text": format!("{number:04000}")}])).await.expect(200);
    }
    let before = wal::files(&server.data()).len();
    assert!(before > 5, "{before} files");
    // The flush is done, and its purge is not asked for yet.
    points("purge.before=pause");
    armed(&server, "purge.before").await;
    let flushing = tokio::spawn(http.request(reqwest::Method::POST, "/v1/topics/t:flush").send());
    fired(&server, "purge.before").await;
    // A group is on disk and the thread of the log does not go on, so that the purge waits for it.
    points("purge.before=pause;wal.sync=pause");
    armed(&server, "wal.sync").await;
    let request = http.request(reqwest::Method::POST, "/v1/topics/t/records");
    let late =
        request.header("content-type", "application/json").body(json!({"records": [{"text": "late"}]}).to_string());
    let late = tokio::spawn(late.send());
    fired(&server, "wal.sync").await;
    points("wal.sync=pause;purge.after=pause");
    fired(&server, "purge.after").await;
    // What the purge does without waiting is done soon.
    let files = || wal::files(&server.data()).len();
    if planted.is_empty() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    } else {
        eventually("the loss", || async { (files() < before - 3).then_some(()) }).await;
    }
    let lost = before.saturating_sub(files());
    let dir = server.kill();
    assert!(late.await.unwrap().is_err(), "nobody was told");
    flushing.abort();
    (dir, lost)
}

async fn armed(server: &Server, point: &str) {
    let line = format!("fail point armed name=\"{point}\"");
    eventually("arming", || async { server.log().contains(&line).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_whose_sync_is_not_over_costs_no_file() {
    let (dir, lost) = killed_in_a_purge("").await;
    assert_eq!(lost, 0);
    let server = Server::start_in(dir, settings()).await;
    let records = Http::new(server.url()).fetch_all("t", 0, "").await;
    assert!(records.len() >= RECORDS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_that_costs_files_before_its_sync_is_caught() {
    let (dir, lost) = killed_in_a_purge("purge.await_sync=skip").await;
    assert!(lost > 3, "{lost} files");
    let log = Server::try_start(dir, settings()).await.unwrap_err();
    assert!(log.contains("damaged") && log.contains("not purged"), "{log}");
}
