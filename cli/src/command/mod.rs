//! The subcommands.

mod admin;
mod bench;
mod bucket;
mod cluster;
mod compact;
mod consume;
mod dev_cluster;
mod produce;
mod serve;
mod topic;
mod verify;

use std::time::Duration;

use anyhow::{Context, Result};
pub(crate) use bench::args::BenchCommand;
use tidelog_client::{Client, ClientOptions, RetryPolicy};

use crate::args::{Command, Remote};
use crate::exit::usage;

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
            Command::Topic(command) => topic::run(command).await,
            Command::Produce(args) => produce::run(&args).await,
            Command::Consume(args) => consume::run(&args).await,
            Command::Bucket(command) => bucket::run(command).await,
            Command::Verify(args) => verify::run(&args).await,
            Command::Admin(command) => admin::run(command).await,
            Command::DevCluster(args) => dev_cluster::run(&args).await,
        }
    });
    // A thread that waits for standard input must not keep the process.
    runtime.shutdown_background();
    result
}

/// The client for the server or servers that were named.
fn connect(remote: &Remote) -> Result<Client> {
    Client::new(&remote.server, ClientOptions::default()).map_err(|error| usage(error.to_string()))
}

/// The same, for calls that are tried again for so long.
fn connect_for(remote: &Remote, deadline: Duration) -> Result<Client> {
    let retry = RetryPolicy { deadline, ..RetryPolicy::default() };
    let options = ClientOptions { retry, ..ClientOptions::default() };
    Client::new(&remote.server, options).map_err(|error| usage(error.to_string()))
}
