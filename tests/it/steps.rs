//! Killed between the numbered steps of docs/architecture.md: every fail point that a sole voter passes, at its first and
//! at a later hit. Nothing is lost and nothing doubled, what the crash left in the bucket is collected, and checkpoint
//! and replay give the state that was there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::binary::{run, text};
use crate::support::eventually;
use crate::support::http::Http;
use crate::support::injected::Injected;
use crate::support::load::Load;
use crate::support::server::{Server, Settings, files_under, fixed_address};
use crate::support::wal;

const PARTITIONS: u64 = 2;
/// More than any grace period, and more than the week of which a checkpoint a day is kept.
const TEN_DAYS: Duration = Duration::from_secs(10 * 24 * 3_600);
/// The hits at which the process is killed.
const HITS: [u32; 2] = [1, 3];

/// How a fail point is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    /// By load, through the jobs that it causes.
    Load,
    /// By a run of garbage collection that finds something.
    Garbage,
    /// By opening a log whose last bytes are torn.
    TornLog,
    /// By another leader's log only: tested at the log, `raft::wal::tests`, until there are followers.
    AnotherLeader,
    /// By a cluster of several shards: killed there in `cluster::shards`.
    Shards,
    /// By `tidelog backup`, `restore` and `rebuild`: killed there in `backup`.
    Backup,
}

/// Every fail point there is.
const STEPS: &[(&str, Reached)] = &[
    ("flush.segments", Reached::Load),
    ("flush.checkpoint", Reached::Load),
    ("flush.flushed", Reached::Load),
    ("pointer.before_write", Reached::Load),
    ("pointer.after_write", Reached::Load),
    ("purge.before", Reached::Load),
    ("purge.after", Reached::Load),
    ("truncate.after", Reached::AnotherLeader),
    ("archive.after_claim", Reached::Load),
    ("archive.after_files", Reached::Load),
    ("archive.after_archived", Reached::Load),
    ("gc.condemned", Reached::Garbage),
    ("gc.checkpoints", Reached::Garbage),
    ("produce.assigned", Reached::Load),
    ("wal.append", Reached::Load),
    ("wal.begun", Reached::Load),
    ("wal.header", Reached::Load),
    ("wal.sync", Reached::Load),
    ("spare.renamed", Reached::Load),
    ("spare.filled", Reached::Load),
    ("repair.later_files", Reached::TornLog),
    ("repair.cut", Reached::TornLog),
    ("apply.entry", Reached::Load),
    ("topic.wanted", Reached::Shards),
    ("topic.told", Reached::Shards),
    ("topic.all_told", Reached::Shards),
    ("topic.synced", Reached::Shards),
    // Whoever asked is told of a change that is done; as an error in `topics`, no step of the log.
    ("topic.changed", Reached::Shards),
    ("node.numbered", Reached::Shards),
    ("shard.begun", Reached::Shards),
    ("shard.decided", Reached::Shards),
    ("backup.object", Reached::Backup),
    ("backup.checkpoint", Reached::Backup),
    ("backup.manifest", Reached::Backup),
    ("restore.planned", Reached::Backup),
    ("restore.object", Reached::Backup),
    ("restore.checkpoint", Reached::Backup),
    ("restore.incarnation", Reached::Backup),
    ("rebuild.incarnation", Reached::Backup),
    ("rebuild.checkpoint", Reached::Backup),
];

#[test]
fn every_fail_point_is_in_the_table_of_steps() {
    let listed: BTreeSet<_> = STEPS.iter().map(|(name, _)| *name).collect();
    let there: BTreeSet<_> = tidelog::failpoint::POINTS.iter().copied().collect();
    assert_eq!(listed, there);
    let tested = AREAS.concat();
    let elsewhere = [Reached::AnotherLeader, Reached::Shards, Reached::Backup];
    for (name, reached) in STEPS.iter().filter(|(_, reached)| !elsewhere.contains(reached)) {
        assert!(tested.contains(&area(name)), "{name} ({reached:?}) is in no test");
    }
}

/// The areas of the tests below.
const AREAS: &[&[&str]] =
    &[&["flush"], &["pointer", "purge"], &["archive"], &["gc"], &["produce", "repair", "apply"], &["wal", "spare"]];

fn area(point: &str) -> &str {
    point.split_once('.').unwrap().0
}

/// A server that is killed, with its load and its faults.
struct Victim {
    injected: Injected,
    settings: Settings,
    http: Http,
    load: Load,
    /// Bytes of files of the log that are kept ready.
    spare: &'static str,
    server: Option<Server>,
}

/// Room for one file that is ready, which is filled with zeros as soon as the last one was begun, and for one more, which only a
/// purged file gets: with the first alone it is a matter of luck whether a file is ever recycled.
const ONE_SPARE: &str = "64KiB";
const TWO_SPARES: &str = "128KiB";

impl Victim {
    async fn new() -> Self {
        let injected = Injected::new();
        let settings = injected.followed_by(Settings::default()).listen(&fixed_address());
        // Garbage is to age by jumps of the wall clock, and producers are not.
        let settings = settings.set("raft.clock_jump", "3650d").set("producer.expiry", "36500d");
        let settings = settings.set("idempotency.window", "36500d");
        let server = Server::start_with(busy(settings.clone(), ONE_SPARE)).await;
        let http = Http::new(server.url());
        http.create_topic("t", &json!({"partitions": PARTITIONS, "archive_after_ms": 0})).await;
        let load = Load::new(&http, "t", PARTITIONS).await;
        Self { injected, settings, http, load, spare: ONE_SPARE, server: Some(server) }
    }

    fn take(&mut self) -> Server {
        self.server.take().unwrap()
    }

    /// Another start with this room for files that are ready, unless it has it.
    async fn keep_ready(&mut self, spare: &'static str) {
        if self.spare != spare {
            self.spare = spare;
            let dir = self.take().kill();
            self.server = Some(Server::start_in(dir, busy(self.settings.clone(), spare)).await);
        }
    }

    fn bucket(&self) -> PathBuf {
        self.server.as_ref().unwrap().bucket()
    }

    /// Load until the process dies at `point`; then another start, with which the requests under way are answered.
    async fn crash(&mut self, point: &str, reached: Reached, hit: u32) {
        let server = self.take();
        let (injected, settings) = (&self.injected, busy(self.settings.clone(), self.spare));
        let work = async {
            let dir = match reached {
                Reached::TornLog => crash_while_cutting(server, injected, &settings, point).await,
                _ => crash_at(server, injected, &format!("{point}=crash@{hit}"), reached).await,
            };
            Server::start_in(dir, settings.clone()).await
        };
        let server = self.load.during(work).await;
        self.server = Some(server);
        self.load.repeat().await;
        self.load.check(&self.http, "t").await;
    }

    /// What lies in the bucket now and is not live data is gone once its time has come.
    async fn collect(&mut self) {
        self.http.flush("t", true).await;
        let bucket = self.bucket();
        let left = objects(&bucket);
        for staged in left.iter().filter(|key| key.contains('#')) {
            // A write that the crash broke off: its age is its file's.
            let file = std::fs::File::options().write(true).open(bucket.join(staged)).unwrap();
            file.set_modified(std::time::SystemTime::now() - TEN_DAYS).unwrap();
        }
        for _ in 0..2 {
            self.injected.shift_wall(TEN_DAYS);
            // The newest three checkpoints are kept whatever their age: others have to take their place.
            for _ in 0..2 {
                self.load.once().await;
                self.http.flush("t", true).await;
            }
        }
        let http = &self.http;
        eventually("the collection", || async {
            let listing = http.get("/v1/topics/t/archive?limit=1000").await.expect(200);
            assert_eq!(listing["has_more"], false);
            let live = listing["files"].as_array().unwrap().iter().map(|file| file["key"].as_str().unwrap().to_owned());
            let live: BTreeSet<String> = live.collect();
            left.intersection(&objects(&bucket)).all(|key| live.contains(key)).then_some(())
        })
        .await;
        let url = format!("file://{}", text(&bucket));
        let report: Value = serde_json::from_str(&run("", &["verify", "--json", "--bucket", &url]).ok()).unwrap();
        assert_eq!(report["problems"], json!([]), "{report}");
        self.load.check(&self.http, "t").await;
    }

    /// The state that a restart makes of checkpoint and log is the one that was there.
    async fn compare_replay(&mut self) {
        let quiet = quiet(self.settings.clone());
        // Nothing runs in it but what is asked for, so that the state stands still between two looks.
        let server = Server::start_in(self.take().kill(), quiet.clone()).await;
        self.load.once().await;
        self.http.flush("t", false).await;
        self.load.once().await;
        let before = hash(&self.http).await;
        let server = Server::start_in(server.kill(), quiet.clone()).await;
        let after = hash(&self.http).await;
        assert!(after.0 >= before.0, "applied {} after {}", after.0, before.0);
        assert_eq!(after.1, before.1, "the state is another after the restart");
        self.load.repeat().await;
        self.server = Some(Server::start_in(server.kill(), busy(self.settings.clone(), self.spare)).await);
    }
}

/// Every step of every job, several times in a second.
fn busy(settings: Settings, spare: &str) -> Settings {
    settings
        .set("flush.bytes", "64KiB")
        .set("flush.interval", "100ms")
        .set("flush.checkpoint_gap", "20ms")
        .set("archive.interval", "100ms")
        .set("archive.job_size", "1MiB")
        .set("gc.interval", "50ms")
        // Files of the log that are soon full, and too few of them ready for all.
        .set("wal.file_size", "64KiB")
        .set("wal.spare", spare)
}

/// No job at all.
fn quiet(settings: Settings) -> Settings {
    settings
        .set("flush.interval", "1h")
        .set("flush.metadata_interval", "1h")
        .set("archive.enabled", "false")
        .set("gc.enabled", "false")
        .set("retention.interval", "1h")
}

/// Applied index and hash of the state.
async fn hash(http: &Http) -> (u64, String) {
    let status = http.get("/v1/status?state_hash=true").await.expect(200);
    let shard = &status["shards"][0];
    (shard["applied"].as_u64().unwrap(), shard["state_hash"].as_str().unwrap().to_owned())
}

/// Arms `point`, waits for the end of the process, and disarms.
async fn crash_at(server: Server, injected: &Injected, point: &str, reached: Reached) -> Arc<TempDir> {
    injected.points(point);
    let mut server = server;
    let mut looks = 0;
    let status = eventually(point, || {
        looks += 1;
        // Old objects become garbage as log time jumps; the load makes ever new ones.
        if reached == Reached::Garbage && looks % 20 == 0 {
            injected.shift_wall(TEN_DAYS);
        }
        let ended = server.try_ended();
        async move { ended }
    })
    .await;
    assert!(!status.success(), "{status}");
    injected.points("");
    server.ended().1
}

/// Tears the log of a killed server, and kills the one that repairs it, twice.
async fn crash_while_cutting(server: Server, injected: &Injected, settings: &Settings, point: &str) -> Arc<TempDir> {
    let data = server.data();
    let dir = server.kill();
    let end = wal::end(&data);
    let mut bytes = std::fs::read(&end.path).unwrap();
    let torn = wal::torn_frame(end.offset);
    bytes.resize(bytes.len().max(end.at + torn.len()), 0);
    bytes[end.at..end.at + torn.len()].copy_from_slice(&torn);
    std::fs::write(&end.path, &bytes).unwrap();
    // A later file too: what a group leaves that was torn where one file ends and the next begins.
    let later = wal::next_file(&end);
    std::fs::write(&later, [0xa5; 99]).unwrap();
    for _ in 0..2 {
        injected.points(&format!("{point}=crash"));
        let log = Server::try_start(Arc::clone(&dir), settings.clone()).await.unwrap_err();
        assert!(log.contains("fail point fired"), "{log}");
        if !later.exists() && std::fs::metadata(&end.path).unwrap().len() <= end.at as u64 {
            break;
        }
    }
    injected.points("");
    dir
}

/// Keys of all objects of the shard, and of those that are being written.
fn objects(bucket: &Path) -> BTreeSet<String> {
    let keys = files_under(bucket).into_iter().map(|path| text(path.strip_prefix(bucket).unwrap()).to_owned());
    keys.filter(|key| key.starts_with("shards/") || key.starts_with("archive/")).collect()
}

/// Dies at each step of these areas and comes back.
async fn survive(areas: &[&str]) {
    let mut victim = Victim::new().await;
    let steps = STEPS.iter().filter(|(name, _)| areas.contains(&area(name)));
    for (point, reached) in steps {
        victim.keep_ready(if *point == "spare.renamed" { TWO_SPARES } else { ONE_SPARE }).await;
        for hit in HITS {
            victim.crash(point, *reached, hit).await;
        }
        victim.collect().await;
        victim.compare_replay().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_the_steps_of_a_flush_loses_and_doubles_nothing() {
    survive(AREAS[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_around_pointer_and_purge_loses_and_doubles_nothing() {
    survive(AREAS[1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_the_steps_of_an_archive_job_loses_and_doubles_nothing() {
    survive(AREAS[2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_the_steps_of_garbage_collection_loses_and_doubles_nothing() {
    survive(AREAS[3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_before_the_log_in_its_repair_or_in_apply_loses_and_doubles_nothing() {
    survive(AREAS[4]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_while_the_log_is_written_and_its_files_are_made_ready_loses_and_doubles_nothing() {
    survive(AREAS[5]).await;
}
