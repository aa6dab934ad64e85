//! The subcommands.

mod admin;
mod backup;
mod bench;
mod bucket;
mod cluster;
mod compact;
mod consume;
mod cost;
mod dev_cluster;
mod gc;
mod produce;
mod serve;
mod token;
mod topic;
mod verify;

use anyhow::{Context, Result};
pub(crate) use backup::{BackupArgs, RebuildArgs, RestoreArgs};
pub(crate) use bench::args::BenchCommand;
pub(crate) use cost::CostArgs;
pub(crate) use gc::GcArgs;
pub(crate) use token::TokenCommand;
pub(crate) use verify::VerifyArgs;

use crate::args::Command;
use crate::output;
use crate::remote::{Remote, connect, connect_for};

/// Runs a subcommand to its end.
pub(crate) fn run(command: Command) -> Result<()> {
    if let Command::Serve(args) = command {
        return serve::run(&args);
    }
    if let Command::Bench(command) = command {
        return bench::run(&command);
    }
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let result = runtime.block_on(async {
        match command {
            Command::Serve(_) | Command::Bench(_) => Ok(()),
            Command::Compact(args) => compact::run(args).await,
            Command::Token(command) => token::run(&command),
            Command::Cost(args) => cost::run(&args),
            Command::Topic(command) => topic::run(command).await,
            Command::Produce(args) => produce::run(&args).await,
            Command::Consume(args) => consume::run(&args).await,
            Command::Backup(args) => backup::run(&args).await,
            Command::Restore(args) => backup::restore(&args).await,
            Command::Rebuild(args) => backup::rebuild(&args).await,
            Command::Bucket(command) => bucket::run(command).await,
            Command::Ready { remote } => ready(&remote).await,
            Command::Verify(args) => verify::run(&args).await,
            Command::Gc(args) => gc::run(&args).await,
            Command::Admin(command) => admin::run(command).await,
            Command::DevCluster(args) => dev_cluster::run(&args).await,
        }
    });
    // A thread that waits for standard input must not keep the process.
    runtime.shutdown_background();
    result
}

/// Asks the server once; its answer is the exit code.
async fn ready(remote: &Remote) -> Result<()> {
    connect(remote)?.ready().await?;
    if remote.json { output::json(&serde_json::json!({"ready": true})) } else { output::line("ready") }
}
