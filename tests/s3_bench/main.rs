//! The measured lines over S3: each starts servers of its own on a bucket behind a proxy, measures them and what they are held
//! against in the same run, and says whether the target is reached. `tests/s3-bench.sh` builds it as a release and lists the
//! lines.
//!
//! The S3 server, unless the environment names another, is in this process and on the same machine and disk as what is
//! measured. Exits 101 if a target is missed.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../support/mod.rs"]
mod support;

mod calls;
mod engine;
mod flush;
mod latency;
mod place;

use clap::ValueEnum;

use place::Place;
use support::table::asked_for;

/// The lines, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Line {
    /// Calls to the bucket for what is written and read
    Calls,
    /// Acknowledgements while the bucket is far away and fails now and then
    Latency,
    /// How fast a long tail is flushed to such a bucket
    Flush,
    /// Lines of tests/bench.sh with a bucket on S3
    Engine,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let (lines, mut table) = asked_for::<Line>();
    for line in lines {
        // What the lines before it wrote is gone, unless the bucket is somebody else's.
        let place = Place::open().await;
        match line {
            Line::Calls => calls::calls(&mut table, &place).await,
            Line::Latency => latency::latency(&mut table, &place).await,
            Line::Flush => flush::flush(&mut table, &place).await,
            Line::Engine => engine::engine(&mut table, &place),
        }
    }
    assert!(!table.missed(), "a target was missed");
}
