//! The bucket away, failing, slow, or lying about what it did: no producer notices, no restart needs it, and all is in it
//! when it is back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::eventually;
use crate::support::faults::Fault;
use crate::support::http::{Answer, Http, send};
use crate::support::process::Process;
use crate::support::producers::Producers;
use crate::support::s3::S3;
use crate::support::server::{Server, Settings};

const MIB: u64 = 1 << 20;
/// Bytes of all memory budgets of [`small`], a flush's segments included.
const BUDGETS: u64 = (8 + 8 + 8 + 8 + 32 + 4 * 4) * MIB;
/// What a process takes beside its budgets.
const BASE: u64 = 200 * MIB;
/// Warnings and errors that an outage may log a minute: a failed flush tells it every few seconds, a job once.
const LINES_A_MINUTE: usize = 60;
/// `TIDELOG_TEST_OUTAGE_SECONDS`
const OUTAGE_SECONDS: u64 = 60;

/// Small budgets and quick jobs, so that seconds of load go many times through all of them.
fn small(s3: &S3) -> Settings {
    s3.settings()
        .set("flush.bytes", "4MiB")
        .set("flush.uploads", "4")
        .set("flush.interval", "500ms")
        .set("flush.checkpoint_gap", "100ms")
        .set("tail.memory", "8MiB")
        .set("cache.memory", "8MiB")
        .set("cache.disk", "0B")
        .set("fetch.memory", "32MiB")
        .set("produce.memory", "8MiB")
        .set("http.max_body", "4MiB")
        .set("http.body_memory", "8MiB")
        .set("archive.interval", "200ms")
        .set("wal.keep", "0B")
}

/// Asks for readiness all the time; a server that is not there is no answer.
struct Readiness {
    stop: Arc<AtomicBool>,
    away: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Readiness {
    fn watch(url: &str) -> Self {
        let (http, stop, away, asked) = (Http::new(url), Arc::default(), Arc::default(), Arc::default());
        let (done, gone, count): (Arc<AtomicBool>, Arc<AtomicBool>, Arc<AtomicU64>) =
            (Arc::clone(&stop), Arc::clone(&away), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(10));
            while !done.load(Ordering::Relaxed) {
                if !gone.load(Ordering::Relaxed)
                    && let Ok(answer) = http.request(Method::GET, "/readyz").send().await
                    && !gone.load(Ordering::Relaxed)
                {
                    assert_eq!(answer.status().as_u16(), 200, "not ready in an outage");
                    count.fetch_add(1, Ordering::Relaxed);
                }
                ticks.tick().await;
            }
        });
        Self { stop, away, asked, task }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        assert!(self.asked.load(Ordering::Relaxed) > 10);
    }
}

/// Warnings and errors of a log.
fn complaints(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).collect()
}

/// What a partition's description says.
async fn offsets(http: &Http, topic: &str, partition: usize) -> (u64, u64, u64) {
    let description = http.get(&format!("/v1/topics/{topic}")).await.expect(200);
    let bounds = &description["partitions"][partition];
    let number = |name: &str| bounds[name].as_u64().unwrap();
    (number("high_watermark"), number("flushed_offset"), number("archived_offset"))
}

/// Waits until all is flushed, and archived if asked, without a request to do so.
async fn drained(http: &Http, topic: &'static str, archived: bool) {
    eventually("the drain", || async {
        let (high, flushed, archive) = offsets(http, topic, 0).await;
        (flushed == high && (!archived || archive == high)).then_some(())
    })
    .await;
}

async fn object_ack(http: &Http, key: &str, timeout_ms: u64) -> Answer {
    let path = format!("/v1/topics/acks/records?acks=object&timeout_ms={timeout_ms}");
    let request = http.request(Method::POST, &path).header("content-type", "application/json");
    send(request.header("idempotency-key", key).body(json!({"records": [{"text": key}]}).to_string())).await
}

/// A record that waited for the bucket in vain is written, says so, and is found once after a retry.
async fn object_ack_fails_as_written(http: &Http, key: &str) {
    let error = object_ack(http, key, 300).await.error(504, "flush_timeout");
    assert_eq!(error["outcome"], "written", "{error}");
    assert_eq!(error["details"]["records"].as_array().map(Vec::len), Some(1), "{error}");
}

/// Memory of one process over time.
struct Memory {
    process: Process,
    samples: Vec<u64>,
}

impl Memory {
    fn of(server: &Server) -> Self {
        Self { process: Process::of(server.id()), samples: Vec::new() }
    }

    /// Samples until `end`.
    async fn watch(&mut self, end: Instant) {
        while Instant::now() < end {
            self.samples.push(self.process.resident());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Within its budgets; and the last third of the time needs at most `more` than what came before.
    fn check(&self, flowed: u64, more: u64) {
        let third = self.samples.len() / 3;
        let before = *self.samples[..2 * third].iter().max().unwrap();
        let last = *self.samples[2 * third..].iter().max().unwrap();
        println!("resident: {} MiB, then {} MiB, while {} MiB flowed", before / MIB, last / MIB, flowed / MIB);
        assert!(before.max(last) < BUDGETS + BASE, "{} bytes are resident", before.max(last));
        assert!(last < before + more, "memory grows: {before}, then {last}");
    }
}

fn outage() -> Duration {
    let seconds = std::env::var("TIDELOG_TEST_OUTAGE_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(OUTAGE_SECONDS))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_fails_for_a_minute_and_a_restart_in_it_stop_nobody() {
    const BULK: u64 = 256 << 10;
    let s3 = S3::start().await;
    let server = Server::start_with(small(&s3)).await;
    let url = server.url().to_owned();
    let address = server.address().to_owned();
    let http = Http::new(&url);
    http.create_topic("t", &json!({"partitions": 3, "archive_after_ms": 0})).await;
    http.create_topic("bulk", &json!({"compression": "none", "archive_after_ms": 86_400_000})).await;
    http.create_topic("acks", &json!({})).await;
    let pause = Duration::from_millis(20);
    let mut producers = Producers::new(&url).bulk("bulk", BULK as usize, Duration::from_millis(80));
    for partition in 0..3 {
        producers = producers.records("t", partition, pause);
    }
    eventually("a flush", || async { (offsets(&http, "t", 0).await.1 > 0).then_some(()) }).await;
    let readiness = Readiness::watch(&url);

    // The first half: every call is refused or cut off.
    s3.faults().set(Fault::Fail);
    assert_eq!(producers.take_errors(), [] as [String; 0]);
    let begun = Instant::now();
    object_ack_fails_as_written(&http, "first").await;
    let mut memory = Memory::of(&server);
    let bulk = producers.bulk_count();
    memory.watch(begun + outage() / 2).await;
    memory.check((producers.bulk_count() - bulk) * BULK, 24 * MIB);
    assert_eq!(producers.take_errors(), [] as [String; 0], "in the outage");
    let log = server.log();
    assert!(complaints(&log).len() <= LINES_A_MINUTE / 2, "{:#?}", complaints(&log));

    // Killed and started again without a bucket; nobody answers it any more, and it gives up sooner.
    readiness.away.store(true, Ordering::Relaxed);
    let dir = tokio::task::block_in_place(|| server.kill());
    s3.faults().set(Fault::Hang);
    let settings = small(&s3).listen(&address).set("store.attempt_timeout", "1s").set("store.deadline", "3s");
    let server = Server::start_in(dir, settings).await;
    readiness.away.store(false, Ordering::Relaxed);
    object_ack_fails_as_written(&http, "second").await;
    producers.take_errors();
    let mut memory = Memory::of(&server);
    let (bulk, threads) = (producers.bulk_count(), memory.process.threads());
    let files = memory.process.open_files();
    let half = tokio::time::Instant::now();
    let reads = tokio::spawn(reads_in_the_outage(http.clone()));
    memory.watch(Instant::now() + outage() / 2).await;
    // Flushes are begun and given up all the time: the allocator takes longer to come to rest.
    memory.check((producers.bulk_count() - bulk) * BULK, 64 * MIB);
    reads.await.unwrap();
    assert_eq!(producers.take_errors(), [] as [String; 0], "after the restart");
    let (threads_now, files_now) = (memory.process.threads(), memory.process.open_files());
    println!("threads {threads}, then {threads_now}; files {files}, then {files_now}; {:?}", half.elapsed());
    assert!(files_now < files + 100, "open files: {files}, then {files_now}");
    let log = server.log();
    println!("{} complaints", complaints(&log).len());
    assert!(complaints(&log).len() <= LINES_A_MINUTE / 2, "{:#?}", complaints(&log));

    // It is back: everything goes on by itself.
    s3.faults().set(Fault::None);
    readiness.end().await;
    producers.stop().await;
    assert_eq!(producers.take_errors(), [] as [String; 0], "after the outage");
    for topic in ["t", "bulk", "acks"] {
        drained(&http, topic, false).await;
    }
    // Its segments hold records of other topics too, whose time to be archived has not come.
    http.flush("t", true).await;
    for (key, offset) in [("first", 0), ("second", 1)] {
        let again = object_ack(&http, key, 30_000).await.expect(200);
        assert_eq!((&again["duplicate"], &again["records"][0]["offset"]), (&json!(true), &json!(offset)), "{again}");
    }
    assert_eq!(http.fetch_all("acks", 0, "").await.len(), 2);
    assert_eq!(offsets(&http, "bulk", 0).await.0, producers.bulk_count());
    producers.history().check(&http, "t").await;
    println!("{} records and {} bulk records", producers.history().count(), producers.bulk_count());
    let (status, _dir) = tokio::task::block_in_place(|| server.terminate());
    assert!(status.success());
    s3.verify().await.ok();
}

/// What is in the log is read as ever; what is in the bucket only is said to be unavailable, and when to come again.
async fn reads_in_the_outage(http: Http) {
    let tail = http.get("/v1/topics/t/partitions/0/records?tail=5").await.expect(200);
    assert_eq!(tail["records"].as_array().unwrap().len(), 5);
    let cold = http.get("/v1/topics/t/partitions/0/records?offset=earliest").await;
    cold.error(503, "unavailable");
    let pause: u64 = cold.header("retry-after").expect("when to come again").parse().unwrap();
    assert!(pause >= 1);
}

/// A server under load while `fault` holds, then without: all is there, flushed and archived by itself, and `verify` agrees.
async fn survives(fault: Fault, during: impl AsyncFnOnce(&Http)) {
    let s3 = S3::start().await;
    let server = Server::start_with(small(&s3)).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({"archive_after_ms": 0})).await;
    s3.faults().set(fault);
    let mut producers = Producers::new(server.url()).records("t", 0, Duration::from_millis(20));
    during(&http).await;
    assert_eq!(producers.take_errors(), [] as [String; 0]);
    producers.stop().await;
    // Flushing and archiving get through a fault that does not last for each call.
    drained(&http, "t", true).await;
    let (calls, hurt) = s3.faults().counts();
    println!("{calls} calls, {hurt} hurt, {} records", producers.history().count());
    assert!(hurt > 0);
    s3.faults().set(Fault::None);
    producers.history().check(&http, "t").await;
    let (status, _dir) = tokio::task::block_in_place(|| server.terminate());
    assert!(status.success());
    let report = s3.verify().await.ok();
    println!("{report}");
}

/// Waits until the flushed offset moved so many times.
async fn flushes(http: &Http, times: usize) {
    for _ in 0..times {
        let before = offsets(http, "t", 0).await.1;
        eventually("a flush", || async { (offsets(http, "t", 0).await.1 > before).then_some(()) }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fifth_of_all_calls_failing_hurts_no_producer_and_all_is_flushed_and_archived() {
    survives(Fault::Some(0.2), async |http| flushes(http, 5).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_are_done_but_answered_with_an_error_double_nothing() {
    survives(Fault::LoseSomeAnswers(0.5), async |http| {
        flushes(http, 5).await;
        http.create_topic("acks", &json!({"archive_after_ms": 0})).await;
        object_ack(http, "lost", 30_000).await.expect(200);
        assert_eq!(http.fetch_all("acks", 0, "").await.len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_created_once_although_no_change_was_ever_confirmed() {
    let s3 = S3::start().await;
    s3.faults().set(Fault::LoseAnswers);
    // A bucket that loses every answer cannot confirm the creation by a write, but a read shows whose it is.
    let settings = small(&s3).set("store.attempt_timeout", "1s").set("store.deadline", "3s");
    let server = Server::start_with(settings).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({})).await;
    http.produce("t", &json!([{"text": "x"}])).await.expect(200);
    assert_eq!(offsets(&http, "t", 0).await, (1, 0, 0), "no flush was confirmed");
    s3.faults().set(Fault::None);
    drained(&http, "t", false).await;
    assert_eq!(http.get("/v1/status").await.expect(200)["incarnation"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_slow_by_two_seconds_slows_no_producer() {
    survives(Fault::Slow(Duration::from_secs(2)), async |http| {
        let count = async || offsets(http, "t", 0).await.0;
        flushes(http, 1).await;
        let (before, begun) = (count().await, Instant::now());
        flushes(http, 1).await;
        // A flush takes two calls one after the other; a producer that waited for it would have written two requests.
        assert!(begun.elapsed() >= Duration::from_secs(2) && count().await > before + 100);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_break_off_are_read_again() {
    survives(Fault::CutBodies(0.5), async |http| {
        // Nothing is in the cache of what the archive and the segments hold.
        flushes(http, 3).await;
        let records = http.fetch_all("t", 0, "").await;
        assert!(records.iter().zip(0..).all(|(record, offset)| record["offset"] == json!(offset)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_full_in_an_outage_says_overloaded_and_drains_by_itself() {
    let s3 = S3::start().await;
    // The smallest budget there is: 64 MiB for records.
    let settings = small(&s3).set("wal.budget", "72MiB").set("wal.reserve", "8MiB");
    let server = Server::start_with(settings).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({"compression": "none"})).await;
    http.produce("t", &json!([{"text": "before"}])).await.expect(200);
    drained(&http, "t", false).await;
    let readiness = Readiness::watch(server.url());
    s3.faults().set(Fault::Fail);
    let mut written = 1;
    let body: Vec<Value> = (0..3).map(|_| json!({"base64": base64_of(900 << 10)})).collect();
    let refused = loop {
        let answer = http.produce("t", &json!(body)).await;
        if answer.status != 200 {
            break answer;
        }
        written += body.len() as u64;
        assert!(written < 100, "the budget is not kept");
    };
    let error = refused.error(503, "overloaded");
    assert_eq!((&error["outcome"], &error["retryable"]), (&json!("not_written"), &json!(true)), "{error}");
    assert!(error["details"]["retry_after_ms"].as_u64().is_some_and(|pause| pause > 0), "{error}");
    assert!(refused.header("retry-after").is_some_and(|pause| pause.parse::<u64>().unwrap() >= 1));
    assert_eq!(offsets(&http, "t", 0).await.0, written, "what was refused was not written");
    let tail = http.get("/v1/topics/t/partitions/0/records?tail=1&values=base64").await.expect(200);
    assert_eq!(tail["next_offset"], json!(written), "reads go on");
    // It is the same after a restart, and an operator's work is not refused.
    http.create_topic("another", &json!({})).await;
    readiness.away.store(true, Ordering::Relaxed);
    let address = server.address().to_owned();
    let dir = tokio::task::block_in_place(|| server.kill());
    let settings = small(&s3).set("wal.budget", "72MiB").set("wal.reserve", "8MiB").listen(&address);
    let server = Server::start_in(dir, settings).await;
    readiness.away.store(false, Ordering::Relaxed);
    http.produce("t", &json!([{"text": "still full"}])).await.error(503, "overloaded");

    // A producer that was refused gets in without a hand on anything.
    let mut producers = Producers::new(server.url()).records("another", 0, Duration::from_millis(20));
    s3.faults().set(Fault::None);
    eventually("a write", || async { (producers.history().count() > 0).then_some(()) }).await;
    producers.stop().await;
    readiness.end().await;
    drained(&http, "t", false).await;
    assert_eq!(offsets(&http, "t", 0).await.0, written);
    producers.history().check(&http, "another").await;
    assert!(producers.take_errors().iter().all(|error| error.contains("overloaded")));
}

/// Random bytes, which nothing compresses, as JSON has them.
fn base64_of(bytes: usize) -> String {
    use base64::Engine as _;
    let mut value = vec![0; bytes];
    rand::Rng::fill(&mut rand::rng(), value.as_mut_slice());
    base64::engine::general_purpose::STANDARD.encode(value)
}
