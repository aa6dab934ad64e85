//! How many calls a gibibyte costs that is written, archived, and read by who has nothing in a cache: as the server counts them
//! by job, beside the proxy's count of the same by object.

use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;

use super::place::{Place, since};
use super::support::binary::{bench, run};
use super::support::far::{Calls, Does};
use super::support::http::Http;
use super::support::server::{Server, Settings};
use super::support::table::{Table, Target};

/// Mebibytes that are written.
const WRITTEN_MIB: u64 = 1_024;
/// Fewer of them say nothing: a run ends with a flush that is smaller than the others.
const LEAST_MIB: u64 = 512;
/// Requests of 1 MiB a second: as many as make flushes of hardly more than 64 MiB, one checkpoint a second at most.
const RATE: &str = "48";
const TOPIC: &str = "bench";
/// Partitions, and connections that read them.
const PARTITIONS: &str = "16";
const METADATA_AND_SEGMENTS: [&str; 3] = ["segment", "index", "checkpoint"];

/// One run of a server on the bucket, from its start.
struct Life<'a> {
    place: &'a Place,
    server: Server,
    before: Calls,
}

impl<'a> Life<'a> {
    /// On a new directory, or on one whose cache is emptied.
    async fn start(place: &'a Place, archive: bool, dir: Option<Arc<TempDir>>) -> Self {
        let settings = settings(place).set("archive.enabled", if archive { "true" } else { "false" });
        let before = place.calls();
        let server = match dir {
            None => Server::start_with(settings).await,
            Some(dir) => {
                std::fs::remove_dir_all(dir.path().join("data/cache")).unwrap();
                Server::start_in(dir, settings).await
            }
        };
        Self { place, server, before }
    }

    /// Calls that the server made for a job.
    async fn counted(&self, job: &str, kinds: &[&str]) -> u64 {
        let http = Http::new(self.server.url());
        let mut sum = 0.0;
        for kind in kinds {
            sum += http.metric("tidelog_bucket_job_calls_total", &[("task", job), ("kind", kind)]).await;
        }
        sum as u64
    }

    /// Bytes that it read for its clients.
    async fn read(&self) -> f64 {
        let labels = [("task", "fetch"), ("direction", "read")];
        Http::new(self.server.url()).metric("tidelog_bucket_job_bytes_total", &labels).await
    }

    /// Calls that the proxy saw.
    fn seen(&self, does: Does, kinds: &[&str]) -> u64 {
        since(&self.place.calls(), &self.before, does, kinds)
    }

    fn end(self) -> Arc<TempDir> {
        self.server.kill()
    }
}

fn settings(place: &Place) -> Settings {
    place.settings().set("flush.bytes", "64MiB").set("flush.interval", "60s")
}

/// Written, read cold from segments, archived, read cold from the archive.
pub(crate) async fn calls(table: &mut Table, place: &Place) {
    let mib = table.scaled(WRITTEN_MIB).max(LEAST_MIB);
    let life = Life::start(place, false, None).await;
    let bytes = format!("{mib}MiB");
    let load = ["--record-size", "1KiB", "--request-bytes", "1MiB", "--content-type", "record-batches", "--rate", RATE];
    let extent = ["--partitions", PARTITIONS, "--connections", "4", "--topic", TOPIC, "--bytes", &bytes];
    let report = bench(life.server.url(), &[&["produce"], &load[..], &extent[..]].concat());
    let gib = report["value_bytes"].as_f64().unwrap() / f64::from(1 << 30);
    archive_or_flush(&life, &[]);
    let flushed = life.counted("flush", &["put"]).await;
    let seen = life.seen(Does::Put, &METADATA_AND_SEGMENTS);
    let dir = read(table, Life::start(place, false, Some(life.end())).await, "segments").await;

    let life = Life::start(place, true, Some(dir)).await;
    archive_or_flush(&life, &["--archive"]);
    // The archive's index parts and the checkpoints that name them are what a flush writes too.
    let flushed = flushed + life.counted("flush", &["put"]).await;
    let seen = seen + life.seen(Does::Put, &METADATA_AND_SEGMENTS);
    let measured = format!("{flushed} PUTs of segments, index parts and checkpoints, {gib:.2} GiB");
    let ratio = flushed as f64 / gib;
    table.line("calls", &measured, &format!("the proxy saw {seen}; a GiB"), (ratio, Target::AtMost(90.0)));
    let archived = life.counted("archive", &["put", "put_part"]).await;
    let seen = life.seen(Does::Put, &["archive"]);
    let measured = format!("{archived} PUT-class calls of the archive");
    let ratio = archived as f64 / gib;
    table.line("calls", &measured, &format!("the proxy saw {seen}; a GiB"), (ratio, Target::AtMost(40.0)));
    let gets = life.counted("archive", &["get"]).await;
    table.told("calls", &format!("{gets} GETs to archive it"), &format!("{:.2} a MiB", gets as f64 / gib / 1024.0));
    read(table, Life::start(place, false, Some(life.end())).await, "the archive").await;
}

fn archive_or_flush(life: &Life<'_>, flags: &[&str]) {
    let args = [&["topic", "flush", TOPIC, "--timeout", "30m"], flags].concat();
    tokio::task::block_in_place(|| run(life.server.url(), &args)).ok();
}

/// All partitions side by side, as far as they go.
async fn read(table: &mut Table, life: Life<'_>, tier: &str) -> Arc<TempDir> {
    let args = ["consume", "--topic", TOPIC, "--connections", PARTITIONS, "--format", "batches"];
    let report: Value = bench(life.server.url(), &args);
    let gets = life.counted("fetch", &["get"]).await;
    let seen = life.seen(Does::Get, &["segment", "archive"]);
    let mib = report["runs"][0]["records"].as_f64().unwrap() / 1024.0;
    let read = life.read().await / f64::from(1 << 20);
    let measured = format!("{gets} GETs of {read:.0} MiB to read {mib:.0} MiB of values from {tier}");
    let beside = format!("the proxy saw {seen}; a MiB");
    table.line("calls", &measured, &beside, (gets as f64 / mib, Target::AtMost(1.0)));
    life.end()
}
