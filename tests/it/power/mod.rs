//! Power cuts: the real binary on a disk that keeps what was synced and, by chance, some of the rest (`support::power`).
//!
//! The seed is printed: `TIDELOG_TEST_POWER_SEED` makes the same choices again. `TIDELOG_TEST_POWER_ROUNDS` is the number of
//! rounds of the long test.

mod producer;
mod world;

use std::time::Duration;

use rand::Rng;
use serde_json::json;

use crate::support::http::Http;
use crate::support::power::Power;
use crate::support::server::Server;
use world::{World, alone, busy};

const ROUNDS: u64 = 50;
/// What is checked after a round grows with the rounds before it, so a new directory begins now and then.
const ROUNDS_OF_A_DIRECTORY: u64 = 10;
/// A planted bug that a round has a fair chance to show is certain to show in these.
const PLANTED_ROUNDS: u64 = 20;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

fn seed() -> u64 {
    let seed = number("TIDELOG_TEST_POWER_SEED").unwrap_or_else(rand::random);
    eprintln!("TIDELOG_TEST_POWER_SEED={seed}");
    seed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_record_survives_power_cuts_under_load() {
    let (seed, rounds) = (seed(), number("TIDELOG_TEST_POWER_ROUNDS").unwrap_or(ROUNDS));
    let mut records = 0;
    for first in (0..rounds).step_by(usize::try_from(ROUNDS_OF_A_DIRECTORY).unwrap()) {
        let mut world = World::new(seed.wrapping_add(first), busy());
        for round in first..rounds.min(first + ROUNDS_OF_A_DIRECTORY) {
            world.round().await.unwrap_or_else(|broken| panic!("round {round}: {broken}"));
        }
        let server = world.start().await.unwrap();
        world.check(&server).await.unwrap();
        records += world.history.count();
    }
    eprintln!("{rounds} power cuts, {records} records acknowledged or read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_during_the_first_start_leaves_a_directory_that_starts() {
    let seed = seed();
    let steps = {
        let power = Power::new(seed);
        power.switch().kill_after(u32::MAX);
        drop(Server::start_in(power.dir(), power.watch(alone())).await.kill());
        u32::MAX - power.switch().left()
    };
    assert!(steps > 20, "only {steps} operations in a first start");
    let mut killed = 0;
    for attempt in 0..12 {
        let mut power = Power::new(seed.wrapping_add(attempt));
        let operations = power.random().random_range(1..steps);
        power.switch().kill_after(operations);
        match Server::try_start(power.dir(), power.watch(alone())).await {
            Err(log) => {
                assert!(log.ends_with("signal: 9 (SIGKILL)"), "operation {operations}: {log}");
                killed += 1;
            }
            // It took fewer operations than the first one did: what it does beside the start depends on the time.
            Ok(server) => drop(server.kill()),
        }
        // The power goes now, or only after the next process has built on what this one left.
        match power.random().random() {
            true => power.cut(),
            false => power.ended(),
        }
        let server = Server::start_in(power.dir(), power.watch(alone())).await;
        let http = Http::new(server.url());
        http.create_topic("t", &json!({})).await;
        http.produce("t", &json!([{"text": "acknowledged"}])).await.expect(200);
        drop(server.kill());
        power.cut();
        let server = Server::start_in(power.dir(), power.watch(alone())).await;
        let records = Http::new(server.url()).fetch_all("t", 0, "").await;
        assert_eq!(records.len(), 1, "operation {operations}");
    }
    assert!(killed >= 9, "only {killed} starts were killed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_during_a_clean_stop_loses_nothing_and_after_it_the_bucket_alone_has_everything() {
    let mut world = World::new(seed(), busy());
    let mut clean = 0;
    for _ in 0..6 {
        let server = world.start().await.unwrap();
        world.check(&server).await.unwrap();
        let random = world.power.random();
        let (load, operations) = (random.random_range(10..200), random.random_range(1..300));
        // Some stops get to their end.
        let operations = if random.random() { operations } else { 0 };
        let switch = world.power.switch();
        let stop = move |server: Server| {
            std::thread::sleep(Duration::from_millis(load));
            switch.kill_after(operations);
            server.terminate().0
        };
        let status = world.load(server, stop).await.unwrap();
        world.power.cut();
        if status.success() {
            clean += 1;
            let server = Server::start_in(world.bucket_as_it_is(), alone()).await;
            world.history.check(&Http::new(server.url()), world::TOPIC).await;
        }
    }
    let server = world.start().await.unwrap();
    world.check(&server).await.unwrap();
    eprintln!("{clean} of 6 stops were clean");
}

/// Rounds with a planted bug until a promise is broken; what was broken.
async fn caught(failpoints: &str) -> String {
    let mut world = World::new(seed(), busy().env("TIDELOG_FAILPOINTS", failpoints));
    for round in 0..PLANTED_ROUNDS {
        if let Err(broken) = world.round().await {
            eprintln!("{failpoints}: caught in round {round}: {broken}");
            return broken;
        }
    }
    panic!("{failpoints} was not caught in {PLANTED_ROUNDS} rounds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_before_its_fdatasync_is_caught() {
    caught("wal.await_sync=skip").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_the_log_begun_before_the_last_one_is_synced_is_caught() {
    caught("wal.sync_last_file=skip").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_the_log_whose_name_is_not_durable_is_caught() {
    caught("wal.sync_directory=skip").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_put_without_a_sync_of_its_directory_is_caught() {
    caught("bucket.sync_directory=skip").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_before_its_pointer_is_caught() {
    caught("purge.await_pointer=skip;pointer.before_write=sleep:50").await;
}
