//! How the process ends: 0, 1 (it failed), 2 (it was called wrongly).
//!
//! Errors go to standard error as one line with their causes. A reader of our standard output that went away is no
//! failure: `tidelog consume … | head` exits 0.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// The command line does not make sense although clap accepted it.
#[derive(Debug)]
pub(crate) struct UsageError(pub String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Whoever read our standard output is gone.
#[derive(Debug)]
pub(crate) struct OutputClosed;

impl fmt::Display for OutputClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("standard output was closed")
    }
}

impl std::error::Error for OutputClosed {}

/// A usage error as the error that `main` reports.
pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
    UsageError(message.into()).into()
}

/// Reports the result of a command and says how to exit.
pub(crate) fn report(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    if error.is::<OutputClosed>() {
        return ExitCode::SUCCESS;
    }
    note(&format!("error: {error:#}"));
    if error.is::<UsageError>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// Writes a line to standard error; there is nowhere to report that this failed.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
