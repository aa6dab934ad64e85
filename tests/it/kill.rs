//! kill -9 at random moments under load, again and again, with producers that retry the same requests across the restarts.

use serde_json::json;

use crate::support::eventually;
use crate::support::http::Http;
use crate::support::load::Load;
use crate::support::server::{Server, Settings, fixed_address};

const PARTITIONS: u64 = 3;

/// How often the server is killed: the number, or more for a long run.
fn rounds() -> usize {
    std::env::var("TIDELOG_TEST_ROUNDS").map_or(20, |rounds| rounds.parse().unwrap())
}

/// Small flushes and jobs: every step of every background job happens several times in a second.
fn busy() -> Settings {
    Settings::default()
        .set("flush.bytes", "64KiB")
        .set("flush.interval", "100ms")
        .set("flush.checkpoint_gap", "20ms")
        .set("archive.interval", "100ms")
        .set("archive.job_size", "1MiB")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retried_requests_are_there_once_however_often_the_server_is_killed() {
    let settings = busy().listen(&fixed_address());
    let mut server = Server::start_with(settings.clone()).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({"partitions": PARTITIONS, "archive_after_ms": 0})).await;
    let mut load = Load::new(&http, "t", PARTITIONS).await;
    for _ in 0..rounds() {
        let enough = load.history().count() + rand::random_range(100..1_500);
        let history = load.history();
        server = load
            .during(async {
                eventually("the load", || async { (history.count() >= enough).then_some(()) }).await;
                // In the middle of requests; those are sent again to the server that follows.
                Server::start_in(server.kill(), settings.clone()).await
            })
            .await;
        load.repeat().await;
        load.check(&http, "t").await;
    }
    // Through the archive too.
    http.flush("t", true).await;
    load.repeat().await;
    load.check(&http, "t").await;
    drop(server);
}
