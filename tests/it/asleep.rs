//! What slept past the grace period wakes up: flushes and archive jobs whose objects were collected meanwhile, a process
//! that was stopped, checkpoints that cannot be written for longer than the grace period. Nothing that is named is deleted.
//!
//! Log time passes by jumps of the wall clock that are small enough to be believed, as after a machine's sleep.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::binary::{run, text};
use crate::support::eventually;
use crate::support::http::{Http, send};
use crate::support::injected::{Injected, fired};
use crate::support::load::Load;
use crate::support::server::{Server, Settings, copy_tree, files_under};

/// Twice the grace period.
const SLEEP: Duration = Duration::from_secs(2 * 3_600);

/// Garbage is looked for all the time; grace is an hour of log time.
fn settings(injected: &Injected) -> Settings {
    injected
        .followed_by(Settings::default())
        .set("flush.interval", "50ms")
        .set("flush.checkpoint_gap", "20ms")
        .set("archive.interval", "50ms")
        .set("gc.interval", "30ms")
        .set("gc.grace", "1h")
        // What is asked here is what is deleted, not what is forgotten.
        .set("idempotency.window", "30d")
}

struct Sleeper {
    injected: Injected,
    server: Server,
    http: Http,
    load: Load,
}

impl Sleeper {
    /// A server with some segments and archive files of a topic.
    async fn new(topic: &Value) -> Self {
        let injected = Injected::new();
        let server = Server::start_with(settings(&injected)).await;
        let http = Http::new(server.url());
        http.create_topic("t", topic).await;
        let mut load = Load::new(&http, "t", 1).await;
        load.once().await;
        http.flush("t", true).await;
        load.once().await;
        http.flush("t", false).await;
        Self { injected, server, http, load }
    }

    /// The machine sleeps: more than the grace period passes in log time.
    fn sleep(&self) {
        self.injected.shift_wall(SLEEP);
    }

    /// The wall clock jumps, and the server has noticed: two jumps at once could be more than is believed.
    async fn jump(&self, ahead: Duration) {
        let noticed = || self.server.log().matches("the wall clock is shifted").count();
        let before = noticed();
        self.injected.shift_wall(ahead);
        eventually("the jump", || async { (noticed() > before).then_some(()) }).await;
    }

    fn objects(&self, ending: &str) -> BTreeSet<PathBuf> {
        objects(&self.server.bucket(), ending)
    }

    /// Waits until none of `objects` is in the bucket.
    async fn gone(&self, objects: &BTreeSet<PathBuf>) {
        eventually("the collection", || async { objects.iter().all(|path| !path.exists()).then_some(()) }).await;
    }

    /// Waits until garbage collection has run twice from now on, so that one whole run began after now.
    async fn two_collections(&self) {
        for _ in 0..2 {
            let before = last_collection(&self.http).await;
            eventually("a collection", || async { (last_collection(&self.http).await > before).then_some(()) }).await;
        }
    }

    /// Everything is there, in the server and after a start from its log; the bucket is whole.
    async fn check(self) {
        self.load.check(&self.http, "t").await;
        verify(&self.server.bucket());
        let server = Server::start_in(self.server.kill(), settings(&self.injected)).await;
        let http = Http::new(server.url());
        http.flush("t", true).await;
        self.load.history().check(&http, "t").await;
        verify(&server.bucket());
    }
}

fn objects(bucket: &Path, ending: &str) -> BTreeSet<PathBuf> {
    files_under(bucket).into_iter().filter(|path| path.extension().is_some_and(|end| end == ending)).collect()
}

fn verify(bucket: &Path) {
    run("", &["verify", "--bucket", &format!("file://{}", text(bucket))]).ok();
}

async fn last_collection(http: &Http) -> u64 {
    let status = http.get("/v1/status").await.expect(200);
    let gc = status["jobs"].as_array().unwrap().iter().find(|job| job["name"] == "gc").unwrap();
    assert_eq!(gc["last_error"], Value::Null, "{gc}");
    gc["last_success_ms"].as_u64().unwrap_or_default()
}

/// Records that were flushed, in a start from a copy of the bucket alone.
async fn restored(bucket: &Path) -> Vec<Value> {
    let copy = tempfile::tempdir().unwrap();
    copy_tree(bucket, &copy.path().join("bucket"));
    let url = format!("file://{}", text(&copy.path().join("bucket")));
    let settings = Settings::default().arg("--bucket").arg(&url).arg("--restore");
    let server = Server::start_with(settings).await;
    Http::new(server.url()).fetch_all("t", 0, "").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_that_slept_past_the_grace_period_is_made_anew() {
    let mut sleeper = Sleeper::new(&json!({"archive_after_ms": 86_400_000})).await;
    let before = sleeper.objects("seg");
    // Its objects are in the bucket, `Flushed` is not proposed.
    sleeper.injected.arm(&sleeper.server, "flush.checkpoint", "pause").await;
    sleeper.load.once().await;
    fired(&sleeper.server, "flush.checkpoint").await;
    let late: BTreeSet<PathBuf> = sleeper.objects("seg").difference(&before).cloned().collect();
    assert!(!late.is_empty());
    sleeper.sleep();
    // Nothing names them: they are collected, and the leader wakes with a `Flushed` that does.
    sleeper.gone(&late).await;
    sleeper.load.repeat().await;
    sleeper.injected.points("");
    sleeper.http.flush("t", false).await;
    assert!(sleeper.server.log().contains("a flush failed and will be made anew"), "the late flush was declined");
    sleeper.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_job_that_slept_past_the_grace_period_is_made_anew() {
    let mut sleeper = Sleeper::new(&json!({"archive_after_ms": 0})).await;
    sleeper.http.flush("t", true).await;
    let before = sleeper.objects("parquet");
    sleeper.injected.arm(&sleeper.server, "archive.after_files", "pause").await;
    sleeper.load.once().await;
    fired(&sleeper.server, "archive.after_files").await;
    let late: BTreeSet<PathBuf> = sleeper.objects("parquet").difference(&before).cloned().collect();
    assert!(!late.is_empty());
    sleeper.sleep();
    sleeper.gone(&late).await;
    sleeper.injected.points("");
    sleeper.http.flush("t", true).await;
    sleeper.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_stopped_and_goes_on_hours_later_loses_nothing() {
    let mut sleeper = Sleeper::new(&json!({"archive_after_ms": 0})).await;
    for _ in 0..8 {
        let history = sleeper.load.history();
        let enough = history.count() + 200;
        let (server, injected) = (&sleeper.server, &sleeper.injected);
        sleeper
            .load
            .during(async {
                eventually("the load", || async { (history.count() >= enough).then_some(()) }).await;
                server.signal(rustix::process::Signal::STOP);
                injected.shift_wall(SLEEP);
                server.signal(rustix::process::Signal::CONT);
            })
            .await;
        sleeper.load.repeat().await;
    }
    sleeper.two_collections().await;
    sleeper.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_shard_whose_segments_were_archived_keeps_what_its_checkpoint_names() {
    let sleeper = Sleeper::new(&json!({"archive_after_ms": 86_400_000})).await;
    let inputs = sleeper.objects("seg");
    // No checkpoint any more: the newest one names the segments that the job replaces.
    send(sleeper.http.request(Method::POST, "/v1/admin/jobs/flush:pause")).await.expect(200);
    send(sleeper.http.request(Method::POST, "/v1/topics/t:flush?archive=true&wait_ms=0")).await.expect(202);
    eventually("the archive", || async {
        let topic = sleeper.http.get("/v1/topics/t").await.expect(200);
        let partition = &topic["partitions"][0];
        (partition["archived_offset"] == partition["high_watermark"]).then_some(())
    })
    .await;
    for _ in 0..3 {
        sleeper.sleep();
        sleeper.two_collections().await;
    }
    let newest = sleeper.objects("seg");
    assert!(newest.iter().all(|segment| inputs.contains(segment)) && !newest.is_empty());
    verify(&sleeper.server.bucket());
    assert_eq!(restored(&sleeper.server.bucket()).await.len(), sleeper.load.history().count());
    // Once there are checkpoints again, they go: three others have to be newer.
    send(sleeper.http.request(Method::POST, "/v1/admin/jobs/flush:resume")).await.expect(200);
    let mut sleeper = sleeper;
    for _ in 0..4 {
        sleeper.load.once().await;
        sleeper.http.flush("t", true).await;
        // More than the week of which a checkpoint a day is kept, in jumps that are believed.
        sleeper.jump(5 * 24 * SLEEP / 2).await;
    }
    sleeper.gone(&inputs).await;
    sleeper.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_that_fail_for_longer_than_the_grace_period_cost_nothing_that_is_named() {
    let mut sleeper = Sleeper::new(&json!({"archive_after_ms": 0})).await;
    let flushed = restored(&sleeper.server.bucket()).await;
    // Segments and checkpoints reach the bucket, and no flush is ever committed; archiving goes on.
    sleeper.injected.arm(&sleeper.server, "flush.checkpoint", "error").await;
    for _ in 0..4 {
        sleeper.load.once().await;
        fired(&sleeper.server, "flush.checkpoint").await;
        sleeper.sleep();
        sleeper.two_collections().await;
    }
    verify(&sleeper.server.bucket());
    let again = restored(&sleeper.server.bucket()).await;
    assert!(again.len() >= flushed.len());
    assert_eq!(again[..flushed.len()], flushed);
    sleeper.injected.points("");
    sleeper.http.flush("t", true).await;
    sleeper.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_was_replaced_while_it_had_nothing_to_do_deletes_nothing_and_ends() {
    let sleeper = Sleeper::new(&json!({"archive_after_ms": 0})).await;
    sleeper.http.flush("t", true).await;
    let bucket = sleeper.server.bucket();
    let url = format!("file://{}", text(&bucket));
    let taker = Server::start_with(Settings::default().arg("--bucket").arg(&url).arg("--restore")).await;
    let http = Http::new(taker.url());
    http.create_topic("theirs", &json!({"archive_after_ms": 86_400_000})).await;
    http.produce("theirs", &json!([{"text": "of the second life"}])).await.expect(200);
    http.flush("theirs", false).await;
    let theirs: Vec<PathBuf> = objects(&bucket, "seg").union(&objects(&bucket, "ckpt")).cloned().collect();
    // For the first life the grace period is over, and it has nothing to write that would tell it of the second.
    sleeper.sleep();
    let log = sleeper.server.log_handle();
    let (status, _dir) = sleeper.server.ended();
    assert!(!status.success(), "{status}");
    assert!(log.lock().unwrap().contains("nothing is deleted"), "{}", log.lock().unwrap());
    assert_eq!(theirs.iter().filter(|path| !path.exists()).collect::<Vec<_>>(), [] as [&PathBuf; 0]);
    let records = http.fetch_all("theirs", 0, "").await;
    assert_eq!(records.len(), 1);
    verify(&bucket);
}
