//! A wall clock that is a year wrong, at start and while the server runs, and then right again: nothing expires, appends go on,
//! log time goes on.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::http::{Http, send};
use crate::support::injected::Injected;
use crate::support::load::Load;
use crate::support::server::{Server, Settings, fixed_address};

const YEAR_MS: i64 = 365 * 24 * 3_600 * 1_000;
/// Log time may run by a tenth too fast or too slow, and the tests take a minute at most.
const TOLERANCE_MS: i64 = 60_000;

/// Everything that could expire does so within the hour, and is looked for all the time.
fn settings(injected: &Injected) -> Settings {
    injected
        .followed_by(Settings::default())
        .set("flush.interval", "50ms")
        .set("flush.checkpoint_gap", "20ms")
        .set("archive.interval", "50ms")
        .set("gc.interval", "30ms")
        .set("retention.interval", "30ms")
        .set("producer.expiry", "1h")
        .set("idempotency.window", "1h")
        .set("topic.delete_grace", "1h")
}

struct Clocked {
    injected: Injected,
    server: Server,
    http: Http,
    load: Load,
    settings: Settings,
}

impl Clocked {
    async fn new() -> Self {
        let injected = Injected::new();
        let settings = settings(&injected).listen(&fixed_address());
        let server = Server::start_with(settings.clone()).await;
        let http = Http::new(server.url());
        http.create_topic("t", &json!({"retention_ms": 3_600_000, "archive_after_ms": 0})).await;
        let mut load = Load::new(&http, "t", 1).await;
        load.once().await;
        http.flush("t", true).await;
        load.once().await;
        http.flush("t", false).await;
        http.create_topic("deleted", &json!({})).await;
        http.produce("deleted", &json!([{"text": "kept"}])).await.expect(200);
        http.flush("deleted", false).await;
        let deleted = http.json(Method::DELETE, "/v1/topics/deleted", &json!({})).await;
        assert!((200..300).contains(&deleted.status), "{deleted:?}");
        Self { injected, server, http, load, settings }
    }

    async fn restart(mut self) -> Self {
        self.server = Server::start_in(self.server.kill(), self.settings.clone()).await;
        self
    }

    async fn shard(&self) -> Value {
        self.http.get("/v1/status").await.expect(200)["shards"][0].clone()
    }

    /// Waits until each background job has run twice from now on.
    async fn jobs_run(&self) {
        let last = || async {
            let status = self.http.get("/v1/status").await.expect(200);
            let of = |name: &str| {
                let jobs = status["jobs"].as_array().unwrap();
                jobs.iter().find(|job| job["name"] == name).unwrap()["last_success_ms"].clone()
            };
            [of("gc"), of("retention")]
        };
        for _ in 0..2 {
            let before = last().await;
            eventually("the background jobs", || async {
                let now = last().await;
                now.iter().zip(&before).all(|(now, before)| now != before).then_some(())
            })
            .await;
        }
    }

    async fn logged(&self, what: &str) {
        eventually(what, || async { self.server.log().contains(what).then_some(()) }).await;
    }

    /// Appends, retries and reads are as if the clock was right.
    async fn nothing_expired(&mut self) {
        self.jobs_run().await;
        self.load.repeat().await;
        self.load.once().await;
        self.load.repeat().await;
        self.jobs_run().await;
        self.load.check(&self.http, "t").await;
        let topic = self.http.get("/v1/topics/t").await.expect(200);
        assert_eq!(topic["partitions"][0]["log_start_offset"], 0);
    }

    /// Log time is the time that a right clock would show.
    async fn log_time_is_right(&self) {
        let log_time = self.shard().await["log_time_ms"].as_i64().unwrap();
        let right = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let apart = i64::try_from(right.as_millis()).unwrap() - log_time;
        assert!(apart.abs() < TOLERANCE_MS, "log time is {apart} ms off");
    }

    /// The deleted topic can be had back, with its records.
    async fn undelete(&self) {
        send(self.http.request(Method::POST, "/v1/topics/deleted:undelete")).await.expect(200);
        assert_eq!(self.http.fetch_all("deleted", 0, "").await[0]["text"], "kept");
    }
}

const DISBELIEVED: &str = "raft.clock_jump and is not believed";
const BELIEVED: &str = "the wall clock is near log time again";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_a_year_wrong_at_start_and_then_right_again_expires_nothing() {
    let mut clocked = Clocked::new().await;
    for wrong in [YEAR_MS, -YEAR_MS] {
        clocked.injected.set_wall(wrong);
        clocked = clocked.restart().await;
        clocked.nothing_expired().await;
        clocked.logged(DISBELIEVED).await;
        clocked.log_time_is_right().await;
        // Right again while it runs.
        clocked.injected.set_wall(0);
        clocked.logged(BELIEVED).await;
        clocked.nothing_expired().await;
        clocked.log_time_is_right().await;
    }
    // And with the next start.
    clocked = clocked.restart().await;
    clocked.nothing_expired().await;
    assert!(!clocked.server.log().contains(DISBELIEVED));
    clocked.log_time_is_right().await;
    clocked.undelete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_goes_wrong_by_a_year_under_load_expires_nothing() {
    let mut clocked = Clocked::new().await;
    let history = clocked.load.history();
    for wrong in [YEAR_MS, 0, -YEAR_MS, 0] {
        let enough = history.count() + 100;
        clocked.injected.set_wall(wrong);
        clocked.load.during(eventually("the load", || async { (history.count() >= enough).then_some(()) })).await;
        clocked.nothing_expired().await;
        clocked.log_time_is_right().await;
    }
    let log = clocked.server.log();
    assert_eq!((log.matches(DISBELIEVED).count(), log.matches(BELIEVED).count()), (2, 2), "once each time");
    clocked.undelete().await;
}
