//! A directory whose power is cut again and again, with producers and a reader that go on; and what is checked after each cut.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use rand::Rng;
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use super::producer::{InBucket, Producer};
use crate::support::binary::{run, text};
use crate::support::history::History;
use crate::support::http::{Http, send};
use crate::support::power::Power;
use crate::support::server::{Server, Settings};

pub(super) const TOPIC: &str = "t";
pub(super) const PARTITIONS: u64 = 3;
const PRODUCERS: u64 = 6;
/// The longest that a round's load lasts; some tens of requests of each producer.
const LOAD_MS: u64 = 400;
/// About as many file operations as happen in that time.
const LOAD_OPERATIONS: u32 = 1_500;
/// More than a start takes.
const START_OPERATIONS: u32 = 120;

/// Everything small, so that in a second of load the log goes through several files, and flush, archive, pointer, purge and
/// garbage collection all happen many times.
pub(super) fn busy() -> Settings {
    let settings = [
        ("wal.keep", "0B"),
        ("wal.file_size", "16KiB"),
        ("wal.spare", "16KiB"),
        ("flush.bytes", "64KiB"),
        ("flush.interval", "100ms"),
        ("flush.checkpoint_gap", "10ms"),
        ("archive.interval", "100ms"),
        ("archive.job_size", "1MiB"),
        ("gc.interval", "100ms"),
        // The shortest grace that is allowed with these deadlines.
        ("gc.grace", "4100ms"),
        ("store.attempt_timeout", "1s"),
        ("store.deadline", "1s"),
        ("flush.deadline", "1s"),
        ("fetch.deadline", "1s"),
        ("fetch.bucket_deadline", "1s"),
        ("archive.claim", "1s"),
        ("archive.deadline", "1s"),
        // Not durable, and not worth its start.
        ("cache.disk", "0B"),
    ];
    settings.iter().fold(Settings::default(), |settings, (key, value)| settings.set(key, value))
}

/// A directory and all that was promised about it.
pub(super) struct World {
    pub(super) power: Power,
    pub(super) history: Arc<History>,
    settings: Settings,
    in_bucket: InBucket,
    producers: Vec<Producer>,
    /// Where the reader goes on.
    read: u64,
    has_topic: bool,
}

impl World {
    pub(super) fn new(seed: u64, settings: Settings) -> Self {
        let (history, in_bucket) = (Arc::new(History::default()), InBucket::default());
        let producer =
            |number| Producer::new(format!("p{number}"), number, Arc::clone(&history), Arc::clone(&in_bucket));
        let producers = (0..PRODUCERS).map(producer).collect();
        Self { power: Power::new(seed), settings, producers, history, in_bucket, read: 0, has_topic: false }
    }

    /// Starts, checks what earlier rounds promised, and lets producers run until the process dies; then the power goes.
    ///
    /// # Errors
    /// The promise that was broken.
    pub(super) async fn round(&mut self) -> Result<(), String> {
        if self.power.random().random_bool(0.2) {
            self.cut_during_a_start().await?;
        }
        let survived = self.bucket_as_it_is();
        let server = self.start().await?;
        let (kept, found) = tokio::join!(self.check(&server), self.check_bucket_alone(survived));
        kept.and(found)?;
        self.load_and_kill(server).await?;
        if self.power.random().random_bool(0.25) {
            // First the process alone: what it left unsynced is still at stake after the next one has built on it.
            self.power.ended();
            let server = self.start().await?;
            self.load_and_kill(server).await?;
        }
        self.power.cut();
        Ok(())
    }

    /// Starts a server that has to start.
    ///
    /// # Errors
    /// Why it did not.
    pub(super) async fn start(&mut self) -> Result<Server, String> {
        let server = Server::try_start(self.power.dir(), self.power.watch(self.settings.clone())).await;
        let server = server.map_err(|log| format!("the server did not start: {log}"))?;
        if !self.has_topic {
            let settings = json!({"partitions": PARTITIONS, "archive_after_ms": 0});
            let path = format!("/v1/topics/{TOPIC}");
            let created = Http::new(server.url()).json(Method::PUT, &path, &settings).await;
            assert!(matches!(created.status, 200 | 201), "{created:?}");
            self.has_topic = true;
        }
        Ok(server)
    }

    async fn cut_during_a_start(&mut self) -> Result<(), String> {
        let operations = self.power.random().random_range(1..START_OPERATIONS);
        self.power.switch().kill_after(operations);
        match Server::try_start(self.power.dir(), self.power.watch(self.settings.clone())).await {
            Ok(server) => drop(server.kill()),
            Err(log) if log.ends_with("signal: 9 (SIGKILL)") => {}
            Err(log) => return Err(format!("the server did not start: {log}")),
        }
        self.power.cut();
        Ok(())
    }

    /// Load until the process is killed, by time or by what it does to files.
    async fn load_and_kill(&mut self, server: Server) -> Result<(), String> {
        let random = self.power.random();
        let operations = if random.random() { random.random_range(1..LOAD_OPERATIONS) } else { 0 };
        let time = Duration::from_millis(random.random_range(10..LOAD_MS));
        let longest = if operations > 0 { Duration::from_millis(LOAD_MS) } else { time };
        self.power.switch().kill_after(operations);
        let killed = self.load(server, move |mut server| {
            let begun = Instant::now();
            while begun.elapsed() < longest && !server.has_ended() {
                std::thread::sleep(Duration::from_millis(1));
            }
            drop(server.kill());
        });
        killed.await
    }

    /// Lets producers and the reader run until `end` has ended the server.
    ///
    /// # Errors
    /// An answer that broke a promise.
    pub(super) async fn load<T: Send + 'static>(
        &mut self,
        server: Server,
        end: impl FnOnce(Server) -> T + Send + 'static,
    ) -> Result<T, String> {
        let http = Http::new(server.url());
        let producers = join_all(self.producers.iter_mut().map(|producer| producer.run(&http)));
        let reader = read(&http, &self.history, &mut self.read);
        let ending = tokio::task::spawn_blocking(move || end(server));
        let (ended, produced, read) = tokio::join!(ending, producers, reader);
        produced.into_iter().chain([read]).collect::<Result<(), String>>().map(|()| ended.unwrap())
    }

    /// All that was acknowledged or read is there, and the bucket is whole.
    ///
    /// # Errors
    /// The promise that was broken.
    pub(super) async fn check(&self, server: &Server) -> Result<(), String> {
        let http = Http::new(server.url());
        self.history.examine(&http, TOPIC).await?;
        // A checkpoint that is newer than any that was cut off.
        let flushed = send(http.request(Method::POST, &format!("/v1/topics/{TOPIC}:flush?wait_ms=10000"))).await;
        if flushed.status != 200 {
            return Err(format!("no flush: {} {}", flushed.status, String::from_utf8_lossy(&flushed.body)));
        }
        let url = format!("file://{}", text(&server.bucket()));
        let verified = tokio::task::spawn_blocking(move || run("", &["verify", "--bucket", &url])).await.unwrap();
        match verified.code {
            0 => Ok(()),
            _ => Err(format!("the bucket is not whole: {}{}", verified.stdout, verified.stderr)),
        }
    }

    /// A machine that has nothing but what is in the bucket now.
    pub(super) fn bucket_as_it_is(&self) -> Arc<TempDir> {
        let machine = Arc::new(tempfile::tempdir().unwrap());
        let bucket = self.power.dir().path().join("data/bucket");
        if bucket.is_dir() {
            link_tree(&bucket, &machine.path().join("data/bucket"));
        }
        machine
    }

    /// What was acknowledged with `acks=object` is there after a start from the bucket alone.
    async fn check_bucket_alone(&self, machine: Arc<TempDir>) -> Result<(), String> {
        let promised = self.in_bucket.lock().unwrap().clone();
        if promised.is_empty() {
            return Ok(());
        }
        let server = Server::try_start(machine, alone().arg("--restore")).await;
        let server = server.map_err(|log| format!("the bucket alone does not start: {log}"))?;
        let http = Http::new(server.url());
        let mut found = HashMap::new();
        for partition in 0..PARTITIONS {
            for record in http.try_fetch_all(TOPIC, u32::try_from(partition).unwrap(), "&values=text").await? {
                found.insert((partition, record["offset"].as_u64().unwrap()), record["text"].clone());
            }
        }
        let lost = promised.iter().find(|(partition, offset, value)| {
            found.get(&(*partition, *offset)).and_then(serde_json::Value::as_str) != Some(value)
        });
        lost.map_or(Ok(()), |lost| Err(format!("acknowledged as in the bucket and not there: {lost:?}")))
    }
}

/// A server that is not watched.
pub(super) fn alone() -> Settings {
    // A file of zeros as large as by default would be most of the journal.
    Settings::default().set("cache.disk", "0B").set("wal.file_size", "16KiB")
}

/// Reads on; whatever is read is committed, so it has to stay.
async fn read(http: &Http, history: &History, offset: &mut u64) -> Result<(), String> {
    loop {
        let path = format!("/v1/topics/{TOPIC}/partitions/0/records?offset={offset}&wait_ms=1000&values=text");
        let Ok(response) = http.request(Method::GET, &path).send().await else { return Ok(()) };
        let status = response.status().as_u16();
        let Ok(bytes) = response.bytes().await else { return Ok(()) };
        match status {
            200 => {
                let page: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                for record in page["records"].as_array().unwrap() {
                    history.acknowledged(0, record["offset"].as_u64().unwrap(), record["text"].as_str().unwrap());
                }
                *offset = page["next_offset"].as_u64().unwrap();
            }
            503 | 504 => tokio::time::sleep(Duration::from_millis(5)).await,
            _ => return Err(format!("a read at {offset}: {status} {}", String::from_utf8_lossy(&bytes))),
        }
    }
}

/// The same tree with the same files, which are never written to again.
fn link_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            link_tree(&entry.path(), &target);
        } else {
            std::fs::hard_link(entry.path(), target).unwrap();
        }
    }
}
