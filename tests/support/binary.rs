//! The client side of the binary: one call, its output and its exit code.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::operators;

/// What a call of `tidelog` gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The standard output of a call that has to succeed.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self.stdout
    }

    /// The standard error of a call that has to fail with this code.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stderr
    }
}

/// The binary with nothing of this process's environment that it would read, content with little space on its disk.
pub(crate) fn command(args: &[&str]) -> Command {
    command_within(&[], args)
}

/// Where the binary is; another one may be named, such as that of an earlier version or another profile.
pub(crate) fn binary() -> String {
    std::env::var("TIDELOG_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_tidelog").to_owned())
}

/// The same, run by another command.
pub(crate) fn command_within(within: &[String], args: &[&str]) -> Command {
    let binary = binary();
    let mut command = match within {
        [] => Command::new(&binary),
        [program, before @ ..] => {
            let mut command = Command::new(program);
            command.args(before).arg(&binary);
            command
        }
    };
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("TIDELOG") || name.starts_with("AWS_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    // Else all tests fail on a machine whose disk is nearly full.
    command.env("TIDELOG__WAL__MIN_FREE", "64MiB").env("TIDELOG__WAL__MIN_FREE_PERCENT", "0");
    command.args(args);
    command
}

/// Calls `tidelog` with these arguments, against a server if there is one, with this standard input.
pub(crate) fn run_with(server: &str, args: &[&str], input: &[u8]) -> Ran {
    let mut child = command(args)
        .env("TIDELOG_SERVER", server)
        .env("TIDELOG_ADMIN_SERVER", operators::of_all(server))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A child that ends before it has read everything closes the pipe: that is its business.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    ran(&output)
}

/// Calls `tidelog` without any input.
pub(crate) fn run(server: &str, args: &[&str]) -> Ran {
    run_with(server, args, b"")
}

/// What `tidelog bench` reports with these arguments, while the other tasks of this process go on: it may serve the bucket.
pub(crate) fn bench(server: &str, args: &[&str]) -> Value {
    let args = [&["bench"], args, &["--json"]].concat();
    serde_json::from_str(&tokio::task::block_in_place(|| run(server, &args)).ok()).unwrap()
}

/// What a finished call gave.
pub(crate) fn ran(output: &Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
