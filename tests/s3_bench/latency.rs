//! What producers see of a bucket that is far away and fails now and then: of `acks=quorum` nothing, of `acks=object` as much as
//! the flush takes.

use std::time::Duration;

use serde_json::Value;

use super::place::{DELAY, Place};
use super::support::binary::bench;
use super::support::server::Server;
use super::support::table::{Table, Target};

/// The flush interval that is asked for.
const INTERVAL: Duration = Duration::from_secs(1);
/// Each way in turn, this often: a disk has good and bad seconds.
const ROUNDS: usize = 5;
/// Seconds of each of them.
const SECONDS: u64 = 4;
/// Seconds of `acks=object`.
const OBJECT_SECONDS: u64 = 20;
/// Open loops at less than the machine can take, so that latencies are not those of a queue.
const QUORUM: [&str; 6] = ["--rate", "1000", "--connections", "16", "--record-size", "1KiB"];
const OBJECT: [&str; 8] = ["--rate", "60", "--connections", "200", "--record-size", "1KiB", "--acks", "object"];

/// Both, of one server.
pub(crate) async fn latency(table: &mut Table, place: &Place) {
    let interval = format!("{}ms", INTERVAL.as_millis());
    let server = Server::start_with(place.settings().set("flush.interval", &interval)).await;
    quorum(table, place, &server);
    object(table, place, &server);
}

fn quorum(table: &mut Table, place: &Place, server: &Server) {
    let duration = format!("{}s", table.scaled(SECONDS));
    let load = [&["produce", "--warm-up", "1s", "--duration", &duration], &QUORUM[..]].concat();
    let (mut near, mut far) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (is_far, percentiles) in [(false, &mut near), (true, &mut far)] {
            place.set_far(is_far);
            percentiles.push(p99(&bench(server.url(), &load)));
        }
    }
    let (near, far) = (median(&mut near), median(&mut far));
    let failed = place.failed();
    let measured = format!("acks=quorum p99 {far:.2} ms, {DELAY:?} more a call, {failed} calls failed");
    let beside = format!("{near:.2} ms without; medians of {ROUNDS}");
    table.line("latency", &measured, &beside, (far / near, Target::AtMost(1.2)));
}

fn object(table: &mut Table, place: &Place, server: &Server) {
    let run = |seconds: u64| {
        let duration = format!("{}s", table.scaled(seconds));
        bench(server.url(), &[&["produce", "--warm-up", "2s", "--duration", &duration], &OBJECT[..]].concat())
    };
    place.set_far(false);
    let near = p99(&run(OBJECT_SECONDS / 3));
    place.set_far(true);
    let before = place.failed();
    let report = run(OBJECT_SECONDS);
    let (far, failed) = (p99(&report), place.failed() - before);
    let most = (3 * DELAY + INTERVAL).as_secs_f64() * 1e3;
    let measured = format!("acks=object p99 {far:.0} ms, {DELAY:?} more a call, {failed} calls failed");
    let beside = format!("3 x {DELAY:?} + {INTERVAL:?} = {most:.0} ms; {near:.0} ms without");
    table.line("latency", &measured, &beside, (far / most, Target::AtMost(1.0)));
}

/// Milliseconds.
fn p99(report: &Value) -> f64 {
    report["latency"]["p99_us"].as_f64().unwrap() / 1e3
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
