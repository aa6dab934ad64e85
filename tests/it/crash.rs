//! kill -9 and SIGTERM of the real binary under load: every acknowledged record is found again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::binary::{run, text};
use crate::support::eventually;
use crate::support::history::History;
use crate::support::http::Http;
use crate::support::server::{Server, Settings};

const PARTITIONS: u64 = 3;

/// Small flushes and files, so that a few seconds of load go through every step.
fn busy() -> Settings {
    Settings::default()
        .set("flush.bytes", "128KiB")
        .set("flush.interval", "200ms")
        .set("flush.checkpoint_gap", "50ms")
        .set("archive.interval", "200ms")
        .set("archive.job_size", "1MiB")
        .set("wal.keep", "0B")
}

/// One producer that waits for each answer; ends with the first that does not come.
async fn produce(http: Http, history: Arc<History>, name: String, counter: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let partition = counter.fetch_add(1, Ordering::Relaxed) % PARTITIONS;
    while !stop.load(Ordering::Relaxed) {
        let values: Vec<String> = (0..20)
            .map(|_| format!("{name}-{}-{}", counter.fetch_add(1, Ordering::Relaxed), "x".repeat(200)))
            .collect();
        for value in &values {
            history.sending(value);
            history.next_of(&name, value);
        }
        let records: Vec<Value> = values.iter().map(|value| json!({"text": value})).collect();
        let request = http
            .request(Method::POST, &format!("/v1/topics/t/partitions/{partition}/records"))
            .header("content-type", "application/json")
            .body(json!({ "records": records }).to_string());
        let Ok(response) = request.send().await else { return };
        let status = response.status().as_u16();
        let Ok(body) = response.bytes().await else { return };
        let body: Value = serde_json::from_slice(&body).unwrap();
        if status != 200 {
            // A server on its way down declines; anything else is a failure of the test.
            assert!(matches!(status, 503 | 504), "{status}: {body}");
            return;
        }
        for (value, place) in values.iter().zip(body["records"].as_array().unwrap()) {
            history.acknowledged(place["partition"].as_u64().unwrap(), place["offset"].as_u64().unwrap(), value);
        }
    }
}

/// Load from several producers until `enough` more records are acknowledged; then `end` ends the server.
async fn load<T>(
    server: Server,
    history: &Arc<History>,
    counter: &Arc<AtomicU64>,
    round: usize,
    end: impl FnOnce(Server) -> T,
) -> T {
    let http = Http::new(server.url());
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..6)
        .map(|task| {
            let name = format!("r{round}t{task}");
            tokio::spawn(produce(http.clone(), Arc::clone(history), name, Arc::clone(counter), Arc::clone(&stop)))
        })
        .collect();
    let enough = history.count() + 4_000;
    eventually("the load", || async { (history.count() >= enough).then_some(()) }).await;
    // In the middle of requests.
    let ended = tokio::task::block_in_place(|| end(server));
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    ended
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_record_survives_kill_9_under_load() {
    let history = Arc::new(History::default());
    let counter = Arc::new(AtomicU64::new(0));
    let mut server = Server::start_with(busy()).await;
    Http::new(server.url()).create_topic("t", &json!({"partitions": PARTITIONS, "archive_after_ms": 0})).await;
    for round in 0..4 {
        let dir = load(server, &history, &counter, round, Server::kill).await;
        server = Server::start_in(dir, busy()).await;
        history.check(&Http::new(server.url()), "t").await;
    }
    // Through the archive too.
    let http = Http::new(server.url());
    http.flush("t", true).await;
    history.check(&http, "t").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_loses_nothing_and_ends_in_time() {
    let history = Arc::new(History::default());
    let counter = Arc::new(AtomicU64::new(0));
    let mut server = Server::start_with(busy()).await;
    Http::new(server.url()).create_topic("t", &json!({"partitions": PARTITIONS})).await;
    for round in 0..2 {
        let (status, dir) = load(server, &history, &counter, round, Server::terminate).await;
        assert!(status.success(), "{status}");
        server = Server::start_in(dir, busy()).await;
        history.check(&Http::new(server.url()), "t").await;
    }
}

#[tokio::test]
async fn a_restart_needs_no_bucket() {
    let server = Server::start_with(busy()).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({})).await;
    http.produce("t", &json!([{"text": "flushed"}])).await.expect(200);
    http.flush("t", false).await;
    http.produce("t", &json!([{"text": "not flushed"}])).await.expect(200);
    let bucket = server.bucket();
    let away = bucket.with_file_name("elsewhere");
    let dir = server.kill();
    std::fs::rename(&bucket, &away).unwrap();
    // A file where the directory should be: every call to the bucket fails.
    std::fs::write(&bucket, "no directory").unwrap();
    let server = Server::start_in(dir, busy()).await;
    let http = Http::new(server.url());
    http.produce("t", &json!([{"text": "without a bucket"}])).await.expect(200);
    let page = http.get("/v1/topics/t/partitions/0/records?offset=1").await.expect(200);
    assert_eq!(page["records"].as_array().unwrap().len(), 2);
    // It comes back, and so does everything.
    std::fs::remove_file(&bucket).unwrap();
    std::fs::rename(&away, &bucket).unwrap();
    http.flush("t", false).await;
    let texts: Vec<Value> = http.fetch_all("t", 0, "").await.into_iter().map(|record| record["text"].clone()).collect();
    assert_eq!(texts, ["flushed", "not flushed", "without a bucket"]);
}

#[tokio::test]
async fn a_data_directory_and_a_port_have_one_holder() {
    let server = Server::start().await;
    let port = server.url().trim_start_matches("http://");
    let data = server.data();
    let serve = |listen: &str, data: &Path| {
        run("", &["serve", "--listen", listen, "--admin-listen", "none", "--data-dir", text(data)])
    };
    let same_dir = serve("127.0.0.1:0", &data);
    let message = same_dir.failed(1);
    assert!(message.contains("in use by") && message.contains(&server.id().to_string()), "{message}");
    let other = tempfile::tempdir().unwrap();
    let same_port = serve(port, other.path());
    let message = same_port.failed(1);
    assert!(message.contains("in use by") && message.contains(&server.id().to_string()), "{message}");
    server.client().ready().await.unwrap();
}
