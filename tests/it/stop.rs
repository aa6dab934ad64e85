//! SIGTERM under load: a clean end within its time, everybody told, and then the bucket alone is enough.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::support::eventually;
use crate::support::faults::Fault;
use crate::support::http::{Answer, Http, send};
use crate::support::producers::Producers;
use crate::support::s3::S3;
use crate::support::server::{Server, Settings, copy_tree};

/// What `docs/operations.md` promises: the default of `shutdown.deadline`.
const PROMISED: Duration = Duration::from_secs(10);
const PARTITIONS: u32 = 3;

/// Small flushes, so that little is left when the end comes.
fn busy(settings: Settings) -> Settings {
    settings.set("flush.interval", "200ms").set("flush.checkpoint_gap", "50ms").set("archive.interval", "200ms")
}

/// SIGTERM, and how long it took.
async fn terminate(server: Server) -> (Duration, Arc<TempDir>, String) {
    let begun = Instant::now();
    let log = server.log_handle();
    let (status, dir) = tokio::task::spawn_blocking(|| server.terminate()).await.unwrap();
    let took = begun.elapsed();
    assert!(status.success(), "{status}");
    assert!(took <= PROMISED, "the end took {took:?}");
    let log = log.lock().unwrap().clone();
    (took, dir, log)
}

/// Reads a stream of events to its end, which has to be a proper one.
fn follower(http: &Http, partition: u32) -> JoinHandle<String> {
    let path = format!("/v1/topics/t/partitions/{partition}/records?offset=latest");
    let request = http.request(Method::GET, &path).header("accept", "text/event-stream");
    tokio::spawn(async move {
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        let mut text = Vec::new();
        let mut body = response.bytes_stream();
        while let Some(chunk) = body.next().await {
            text.extend_from_slice(&chunk.expect("a stream ends with its last chunk"));
        }
        String::from_utf8(text).unwrap()
    })
}

/// Waits for a record of a topic that gets none.
fn long_poll(http: &Http) -> JoinHandle<Answer> {
    let request = http.request(Method::GET, "/v1/topics/silent/partitions/0/records?offset=latest&wait_ms=30000");
    tokio::spawn(send(request))
}

/// Producers, followers and long polls of a server.
struct Crowd {
    producers: Producers,
    followers: Vec<JoinHandle<String>>,
    polls: Vec<JoinHandle<Answer>>,
}

impl Crowd {
    async fn gather(server: &Server) -> Self {
        let http = Http::new(server.url());
        http.create_topic("t", &json!({"partitions": PARTITIONS, "archive_after_ms": 0})).await;
        http.create_topic("silent", &json!({})).await;
        let mut producers = Producers::new(server.url());
        for partition in 0..PARTITIONS {
            producers = producers.records("t", partition, Duration::from_millis(2));
        }
        let followers = (0..10).map(|number| follower(&http, number % PARTITIONS)).collect();
        let polls = (0..10).map(|_| long_poll(&http)).collect();
        // All of them are there, and enough was written to have been flushed and archived several times.
        eventually("the crowd", || async {
            let metrics = String::from_utf8(http.get("/metrics").await.body).unwrap();
            let value = |name: &str| {
                let line = metrics.lines().find_map(|line| line.strip_prefix(name));
                line.and_then(|value| value.trim().parse::<f64>().ok()).unwrap_or(0.0)
            };
            let all = value("tidelog_http_followers ") >= 10.0 && value("tidelog_fetch_waiting ") >= 10.0;
            (all && producers.history().count() > 2_000).then_some(())
        })
        .await;
        Self { producers, followers, polls }
    }

    /// Everybody was told: followers by an event and a proper end, long polls by an empty page.
    async fn was_told(self) -> Producers {
        for follower in self.followers {
            let text = follower.await.unwrap();
            assert!(text.contains("event: record\n"), "it followed");
            assert!(text.ends_with("event: reconnect\ndata: {}\n\n"), "{}", &text[text.len().saturating_sub(200)..]);
        }
        for poll in self.polls {
            let page = poll.await.unwrap().expect(200);
            assert_eq!((&page["records"], &page["next_offset"]), (&json!([]), &json!(0)), "{page}");
        }
        let mut producers = self.producers;
        producers.abandon().await;
        producers
    }
}

/// A new machine that finds this bucket and nothing else.
fn machine_with(bucket: &Path) -> Arc<TempDir> {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    copy_tree(bucket, &dir.path().join("data").join("bucket"));
    dir
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_sigterm_under_load_the_bucket_alone_has_everything() {
    let server = Server::start_with(busy(Settings::default())).await;
    let bucket = server.bucket();
    let crowd = Crowd::gather(&server).await;
    let (took, _old, _) = terminate(server).await;
    let producers = crowd.was_told().await;
    println!("ended in {took:?} with {} records acknowledged", producers.history().count());

    let server = Server::start_in(machine_with(&bucket), busy(Settings::default())).await;
    let http = Http::new(server.url());
    producers.history().check(&http, "t").await;
    assert_eq!(http.get("/v1/status").await.expect(200)["incarnation"], 2);
    // It works on, and ends another way.
    http.produce("t", &json!([{"text": "of the second life"}])).await.expect(200);
    let bucket = server.bucket();
    let _wal = tokio::task::block_in_place(|| server.kill());
    let refused = Server::try_start(machine_with(&bucket), busy(Settings::default())).await.unwrap_err();
    assert!(refused.contains("--restore") && refused.contains("was not closed cleanly"), "{refused}");
    let restored = Server::start_in(machine_with(&bucket), busy(Settings::default()).arg("--restore")).await;
    let http = Http::new(restored.url());
    for partition in 0..PARTITIONS {
        assert!(!http.fetch_all("t", partition, "").await.is_empty());
    }
}

/// SIGTERM while the bucket does what `fault` says: it ends in time, says that it is not clean, and goes on from its log.
async fn ends_without_the_bucket(fault: Fault) {
    let s3 = S3::start().await;
    // All of its time passes here, and the process has to be gone within what is promised by default.
    let server = Server::start_with(busy(s3.settings()).set("shutdown.deadline", "6s")).await;
    let crowd = Crowd::gather(&server).await;
    s3.faults().set(fault);
    // Something is there that no flush has taken.
    let before = crowd.producers.history().count();
    eventually("the load", || async { (crowd.producers.history().count() > before + 500).then_some(()) }).await;
    let (took, dir, log) = terminate(server).await;
    assert!(log.contains("not closed"), "{log}");
    let producers = crowd.was_told().await;
    println!("ended in {took:?} with {} records acknowledged", producers.history().count());

    // From the bucket alone it would lose records, and says so.
    s3.faults().set(Fault::None);
    let refused = Server::try_start(Arc::new(tempfile::tempdir().unwrap()), busy(s3.settings())).await.unwrap_err();
    assert!(refused.contains("--restore"), "{refused}");
    // From its log it has everything, with the bucket or without.
    s3.faults().set(fault);
    let server = Server::start_in(dir, busy(s3.settings())).await;
    let http = Http::new(server.url());
    producers.history().sending("without a bucket");
    http.produce("t", &json!([{"text": "without a bucket", "partition": 0}])).await.expect(200);
    s3.faults().set(Fault::None);
    producers.history().check(&http, "t").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_in_time_when_the_bucket_refuses() {
    ends_without_the_bucket(Fault::Fail).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_in_time_when_the_bucket_does_not_answer() {
    ends_without_the_bucket(Fault::Hang).await;
}
