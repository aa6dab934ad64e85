//! The binary `tidelog`: every role of the server, and the client side for people and scripts.
//!
//! [`args`] is what was typed; each module of [`command`] does one subcommand; [`input`] reads what `produce` sends. Errors
//! are `anyhow` here and nowhere else. Nothing prints with `println!`: it panics when a pipe is closed.

mod args;
mod command;
mod exit;
mod input;
mod output;
mod progress;
mod remote;
mod start;
#[cfg(test)]
#[path = "stub_tests.rs"]
mod stub;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;

/// A produce request is some dozens of small allocations, made and freed on different threads, and that is where the C
/// library's allocator spends time. Without huge pages (its feature `no_thp`), which would nearly double what is resident.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    exit::report(command::run(cli.command))
}
