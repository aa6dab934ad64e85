//! What the kernel says of another process.

use std::path::PathBuf;
use std::time::Duration;

/// Clock ticks of a second, in which the kernel tells processor time; the same everywhere.
const TICKS: u64 = 100;

/// A process by its id.
#[derive(Debug, Clone)]
pub(crate) struct Process(PathBuf);

impl Process {
    /// The process `id`.
    pub(crate) fn of(id: u32) -> Self {
        Self(PathBuf::from(format!("/proc/{id}")))
    }

    /// Resident memory, bytes.
    pub(crate) fn resident(&self) -> u64 {
        self.status("VmRSS:") * 1024
    }

    /// Its threads.
    pub(crate) fn threads(&self) -> u64 {
        self.status("Threads:")
    }

    /// Its open files and sockets.
    pub(crate) fn open_files(&self) -> u64 {
        std::fs::read_dir(self.0.join("fd")).unwrap().count() as u64
    }

    /// Processor time that it has used.
    pub(crate) fn processor(&self) -> Duration {
        let stat = std::fs::read_to_string(self.0.join("stat")).unwrap();
        // Behind the name, which may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 1_000 / TICKS)
    }

    fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(self.0.join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }
}
