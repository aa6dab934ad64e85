//! The measured lines of a cluster: each starts clusters of its own, measures them and what they are held against in the same
//! run, and says whether the target is reached. `tests/cluster-bench.sh` builds it as a release and lists the lines.
//!
//! All nodes and the generator share one machine. The nodes reach each other without the proxies of the tests. Exits 101 if a
//! target is missed.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../support/mod.rs"]
mod support;

mod availability;
mod behind;
mod idle;
mod load;
mod rates;
mod traffic;

use clap::ValueEnum;

use support::table::asked_for;

/// The lines, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Line {
    /// Leader killed under load
    Failover,
    /// Leadership moved under load
    Transfer,
    /// Leader drained under load
    Drain,
    /// 64 connections on three nodes against one
    Many,
    /// 1 MiB batches on three nodes against one
    Large,
    /// A follower back after 1 GB
    Behind,
    /// Bytes on the peer network
    Traffic,
    /// 10,000 partitions, idle and written
    Idle,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let (lines, mut table) = asked_for::<Line>();
    for line in lines {
        match line {
            Line::Failover => availability::failover(&mut table).await,
            Line::Transfer => availability::transfer(&mut table).await,
            Line::Drain => availability::drain(&mut table).await,
            Line::Many => rates::many(&mut table).await,
            Line::Large => rates::large(&mut table).await,
            Line::Behind => behind::behind(&mut table).await,
            Line::Traffic => traffic::traffic(&mut table).await,
            Line::Idle => idle::idle(&mut table).await,
        }
    }
    assert!(!table.missed(), "a target was missed");
}
