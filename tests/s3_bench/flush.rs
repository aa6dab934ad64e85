//! How fast a long tail gets into a bucket that is far away and fails now and then, beside bare PUTs to the same place.

use std::time::Instant;

use serde_json::Value;

use super::place::Place;
use super::support::binary::{bench, run, text};
use super::support::http::Http;
use super::support::server::Server;
use super::support::table::{Table, Target};

/// Mebibytes of the tail.
const TAIL_MIB: u64 = 1_024;
/// What is to be reached, unless the place cannot take as much.
const MB_PER_SECOND: f64 = 200.0;
/// The share of what the place can take that is to be reached otherwise.
const SHARE: f64 = 0.8;

/// Written while flushes pause, then flushed.
pub(crate) async fn flush(table: &mut Table, place: &Place) {
    let server = Server::start_with(place.settings().set("archive.enabled", "false")).await;
    let tidelog = |args: &[&str]| tokio::task::block_in_place(|| run(server.url(), args)).ok();
    tidelog(&["admin", "pause", "flush"]);
    let bytes = format!("{}MiB", table.scaled(TAIL_MIB));
    let load = ["produce", "--record-size", "1KiB", "--request-bytes", "1MiB", "--content-type", "record-batches"];
    bench(server.url(), &[&load[..], &["--partitions", "16", "--connections", "4", "--bytes", &bytes]].concat());
    place.set_far(true);
    let (put, disk) = bare(place, &server);
    let http = Http::new(server.url());
    let (before, failed) = (segments(&http).await, place.failed());
    let begun = Instant::now();
    tidelog(&["admin", "resume", "flush"]);
    tidelog(&["topic", "flush", "bench", "--timeout", "10m"]);
    let seconds = begun.elapsed().as_secs_f64();
    let rate = (segments(&http).await - before) / 1e6 / seconds;
    let failed = place.failed() - failed;
    let goal = MB_PER_SECOND.min(SHARE * put).min(SHARE * disk);
    let measured = format!("{rate:.0} MB/s of segments for {seconds:.1} s, {failed} calls failed");
    let beside = format!("bare PUTs {put:.0}, disk {disk:.0}: at least {goal:.0} MB/s");
    table.line("flush", &measured, &beside, (rate / goal, Target::AtLeast(1.0)));
}

/// Bytes of segments that were written.
async fn segments(http: &Http) -> f64 {
    http.metric("tidelog_flush_segment_bytes_total", &[]).await
}

/// What bare PUTs reach, as many at a time and as large as those of a flush, and bare writes to the disk of the log.
fn bare(place: &Place, server: &Server) -> (f64, f64) {
    let directory = server.data().join("bare");
    let bucket = format!("{}/bare", place.url());
    let args = ["bench", "baseline", "--json", "--records", "1", "--bucket", &bucket, "--data-dir", text(&directory)];
    let report: Value = serde_json::from_str(&place.run(&args).ok()).unwrap();
    let rate = |figures: &Value| figures["mb_per_second"].as_f64().unwrap();
    let disks = report["disk"].as_array().unwrap();
    (rate(&report["bucket"]), rate(disks.last().unwrap()))
}
