//! Disks of a few megabytes: file systems in memory, in a mount namespace that a process of ours holds.
//!
//! A server is started inside of the namespace ([`SmallDisks::enter`]), the test reaches the files through `/proc`. No
//! privileges are needed where user namespaces are allowed; root needs none of them anyway.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::server::Settings;

/// A file that takes the room.
const BALLAST: &str = "ballast";

/// A namespace with disks in it; they are gone when it is dropped.
#[derive(Debug)]
pub(crate) struct SmallDisks {
    holder: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl SmallDisks {
    /// A namespace without disks; `None`, loudly, where the kernel does not let us have one.
    pub(crate) fn new() -> Option<Self> {
        let holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "--propagation", "private", "sh"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut holder = match holder {
            Ok(holder) => holder,
            Err(error) => return skipped(&error.to_string()),
        };
        let (stdin, stdout) = (holder.stdin.take().unwrap(), BufReader::new(holder.stdout.take().unwrap()));
        let mut disks = Self { holder, stdin, stdout };
        let probe = "mount -t tmpfs -o size=64k none /mnt && umount /mnt";
        if disks.run(probe).as_deref() == Some("0") { Some(disks) } else { skipped("mounting is not permitted") }
    }

    /// Mounts a disk of this size at `path`, which exists outside.
    pub(crate) fn mount(&mut self, path: &Path, size: &str) {
        let said = self.run(&format!("mount -t tmpfs -o size={size} none '{}'", path.display()));
        assert_eq!(said.as_deref(), Some("0"), "mounting {}", path.display());
    }

    /// Settings of a server that sees the disks.
    pub(crate) fn enter(&self, settings: Settings) -> Settings {
        let id = self.holder.id().to_string();
        settings.within(&["nsenter", "--target", &id, "--user", "--mount", "--preserve-credentials", "--"])
    }

    /// Where the test finds `path` of the namespace.
    pub(crate) fn inside(&self, path: &Path) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(path.strip_prefix("/").unwrap())
    }

    /// Bytes that are free at `path`.
    pub(crate) fn free(&self, path: &Path) -> u64 {
        let disk = rustix::fs::statvfs(self.inside(path)).unwrap();
        disk.f_bavail * disk.f_frsize
    }

    /// Takes all room at `path` but `left` bytes.
    pub(crate) fn fill(&self, path: &Path, left: u64) {
        self.empty(path);
        let bytes = self.free(path).saturating_sub(left);
        let mut file = std::fs::File::create(self.inside(path).join(BALLAST)).unwrap();
        let block = vec![0; 64 << 10];
        let mut rest = bytes;
        while rest > 0 {
            let part = block.len().min(usize::try_from(rest).unwrap());
            file.write_all(&block[..part]).unwrap();
            rest -= part as u64;
        }
    }

    /// Gives the room back.
    pub(crate) fn empty(&self, path: &Path) {
        let _ = std::fs::remove_file(self.inside(path).join(BALLAST));
    }

    /// Runs a line of shell in the namespace; its exit code.
    fn run(&mut self, line: &str) -> Option<String> {
        writeln!(self.stdin, "{line} 1>&2; echo $?").ok()?;
        let mut code = String::new();
        self.stdout.read_line(&mut code).ok().filter(|read| *read > 0)?;
        Some(code.trim().to_owned())
    }
}

impl Drop for SmallDisks {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn skipped(why: &str) -> Option<SmallDisks> {
    eprintln!("=== NOT TESTED: no small disk can be mounted here, so nothing was shown about full disks: {why} ===");
    None
}
