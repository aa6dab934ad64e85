//! Chaos: a cluster of real processes under load, faults chosen at random from a seed, and a checker over what its clients were
//! promised, read and found.
//!
//!   cargo test -p tidelog-cli --test chaos -- --seconds 90            as in CI
//!   cargo test --release -p tidelog-cli --test chaos -- --minutes 30  the long form
//!
//! The seed decides which fault comes when and whom it hits, what the producers send, when they repeat it, and whether the nodes
//! that keep the log have a listener for clients. It does not decide what the machine does meanwhile: a seed that failed may have
//! to be run more than once. Exits 101 if a promise was broken.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../support/mod.rs"]
mod support;

mod bucket;
mod check;
mod compactor;
mod consume;
mod damage;
mod faults;
mod journal;
mod produce;
mod report;
mod schedule;
mod verdict;
mod world;

use std::time::{Duration, Instant};

use clap::Parser;

use faults::Fault;
use report::Report;
use schedule::Schedule;
use world::{Roles, World};

const TOPIC: &str = "chaos";
const PARTITIONS: u32 = 6;
/// Faults between two times at which the load stops and the states of all nodes are compared.
const ROUND: usize = 7;

/// Faults against a cluster of real processes under load.
#[derive(Debug, Parser)]
struct Arguments {
    /// No fault begins later than this
    #[arg(long, default_value_t = 90, value_name = "N")]
    seconds: u64,
    /// The same in minutes
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    minutes: Option<u64>,
    /// What is chosen at random [default: another one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Nodes that vote
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(3..=5), value_name = "N")]
    voters: u64,
    /// Processes that keep no log, which the clients talk to
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(2..=9), value_name = "N")]
    gateways: u64,
    /// Only faults whose name has this in it
    #[arg(long, default_value = "", value_name = "PART")]
    only: String,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
    let within = Duration::from_secs(arguments.minutes.map_or(arguments.seconds, |minutes| 60 * minutes));
    let (voters, gateways) = (arguments.voters, arguments.gateways);
    let roles = Roles::of(seed);
    println!(
        "chaos: seed {seed}, {voters} voters with the roles {}, {gateways} gateways, faults for {} s",
        roles.name(),
        within.as_secs()
    );
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        hook(panic);
        eprintln!("chaos: to be run again with --seed {seed}");
    }));
    let begun = Instant::now();
    let mut world = World::start(voters, gateways, roles, seed).await;
    let mut report = Report::default();
    let mut schedule = Schedule::new(seed, &arguments.only);
    while begun.elapsed() < within {
        round(&mut world, &mut schedule, &mut report, begun, within).await;
    }
    let verdicts = verdict::reach(world).await;
    let whole = report.print(seed, begun.elapsed(), &verdicts);
    assert!(whole, "a promise was broken, or never put to the test");
}

/// Some faults under load, and then the comparison of all nodes without.
async fn round(world: &mut World, schedule: &mut Schedule, report: &mut Report, begun: Instant, within: Duration) {
    world.produce();
    world.more(100).await;
    for _ in 0..ROUND {
        if begun.elapsed() >= within {
            break;
        }
        let fault = schedule.next();
        println!("{:5} s  {}", begun.elapsed().as_secs(), fault.name());
        world.journal.take_longest_pause();
        faults::inject(world, fault).await;
        report.injected(fault, world.journal.take_longest_pause());
    }
    world.stop_producing().await;
    world.cluster.converge().await;
    report.converged();
    world.repeat().await;
}
