//! `tidelog bench`: the load generator.
//!
//! | file | what |
//! |---|---|
//! | `args` | the arguments and their help |
//! | `pace` | when requests are due, and from when their latency counts (pure) |
//! | `body` | request bodies, made beforehand |
//! | `wire` | one HTTP/1.1 connection |
//! | `drive` | connections at a pace: the run |
//! | `tally` | histograms and counts |
//! | `observe` | processor time, memory and counters of the server |
//! | `report` | JSON and table |
//! | `produce`, `consume`, `latency`, `baseline` with `disk` and `bucket` | the subcommands |
//!
//! It shares the machine with the server it measures, so a request is cheap: bodies and addresses are made before the run, a
//! request allocates its head and nothing else of ours, and an answer is parsed only if it is an error. It does not check what
//! the server stored; the tests do.

pub(crate) mod args;
mod baseline;
mod body;
mod bucket;
mod consume;
mod disk;
mod drive;
mod latency;
mod observe;
mod pace;
mod produce;
mod report;
mod tally;
mod wire;

use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, Result};

use self::args::BenchCommand;

/// How long is measured if nothing says so.
const DEFAULT_DURATION: Duration = Duration::from_secs(10);
/// How often the server is looked at while it is measured.
const OBSERVE_EVERY: Duration = Duration::from_millis(500);

/// Runs a benchmark to its end. It makes its own threads and runtimes.
pub(super) fn run(command: &BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Produce(args) => produce::run(args),
        BenchCommand::Consume(args) => consume::run(args),
        BenchCommand::Latency(args) => latency::run(args),
        BenchCommand::Baseline(args) => baseline::run(args),
        BenchCommand::BaselineServer => baseline::serve(),
    }
}

/// Runs what is not measured.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the async runtime")?;
    runtime.block_on(future)
}
