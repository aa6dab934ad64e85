//! One node of a cluster for trying it: a child process, in a process group of its own so that Ctrl-C reaches only its parent.

use std::fmt;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tidelog::config::Config;
use tidelog_client::{Client, ClientOptions, RetryPolicy};

use super::certificates::Certificate;

/// Lines of a node's log that a report shows.
const LAST_LINES: usize = 10;
/// Bytes of the end of a log among which they are looked for.
const LAST_BYTES: u64 = 16 << 10;
/// How long a node that answers nothing is waited for, at a time.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// What a process is, and which of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    /// Keeps the log.
    Node(u16),
    /// Follows the nodes.
    Gateway(u16),
}

impl Name {
    /// As files and directories are named after it.
    pub(super) fn file(self) -> String {
        self.to_string().replace(' ', "-")
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(number) => write!(f, "node {number}"),
            Self::Gateway(number) => write!(f, "gateway {number}"),
        }
    }
}

/// Where a process listens, on loopback; a gateway not for peers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) name: Name,
    pub(super) client: u16,
    pub(super) admin: u16,
    pub(super) peer: u16,
}

impl Place {
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client)
    }

    pub(super) fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin)
    }
}

/// A child process.
pub(super) struct Node {
    place: Place,
    child: Child,
    client: Client,
    log: PathBuf,
    ended: Option<ExitStatus>,
    /// Its end was reported.
    reported: bool,
}

impl Node {
    /// Starts the process at `place` of `all`, with everything of it in `home`.
    pub(super) fn start(place: &Place, all: &[Place], certificate: &Certificate, home: &Path) -> Result<Self> {
        let name = place.name.file();
        let log = home.join(format!("{name}.log"));
        let lines = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let bucket = Config { data_dir: home.to_owned(), ..Config::default() }.bucket_url()?;
        let peer = |place: &Place| match place.name {
            Name::Node(number) => Some(format!("{number}=127.0.0.1:{}", place.peer)),
            Name::Gateway(_) => None,
        };
        let peers: Vec<String> = all.iter().filter_map(peer).collect();
        let own = match place.name {
            Name::Node(number) => {
                let peer = format!("127.0.0.1:{}", place.peer);
                ["--node-id".to_owned(), number.to_string(), "--peer-listen".to_owned(), peer].to_vec()
            }
            Name::Gateway(_) => ["--roles".to_owned(), "gateway".to_owned()].to_vec(),
        };
        let child = Command::new(std::env::current_exe().context("cannot find this program")?)
            .args(["serve", "--until-stdin-closes", "--cluster", &peers.join(",")])
            .args(own)
            .args(["--listen", &format!("127.0.0.1:{}", place.client)])
            .args(["--admin-listen", &format!("127.0.0.1:{}", place.admin)])
            .args(["--bucket", &bucket, "--data-dir"])
            .arg(home.join(&name))
            .env("TIDELOG__PEER__TLS__CERT", &certificate.cert)
            .env("TIDELOG__PEER__TLS__KEY", &certificate.key)
            .env("TIDELOG__PEER__TLS__CA", &certificate.ca)
            // Held open by this process and by nobody else.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(lines)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", place.name))?;
        let options = ClientOptions { retry: RetryPolicy::never(), attempt_timeout: ASK_TIMEOUT };
        let client = Client::new(&place.url(), options)?;
        Ok(Self { place: *place, child, client, log, ended: None, reported: false })
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) async fn is_ready(&self) -> bool {
        self.client.ready().await.is_ok()
    }

    /// Whether it has ended, as [`Node::take_end`], [`Node::take_failure`] or [`Node::kill`] found.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// What there is to say about its end, once.
    pub(super) fn take_end(&mut self) -> Option<String> {
        let status = self.look()?;
        let first = !std::mem::replace(&mut self.reported, true);
        first.then(|| format!("{} has ended: {status}; {}", self.place.name, self.last_words()))
    }

    /// The same, if it did not end as it was asked to.
    pub(super) fn take_failure(&mut self) -> Option<String> {
        if self.look()?.success() { None } else { self.take_end() }
    }

    /// SIGTERM.
    pub(super) fn ask_to_end(&mut self) {
        if self.look().is_none() {
            // One that has just ended needs no signal.
            let id = rustix::process::Pid::from_child(&self.child);
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
    }

    /// Kills it, if it still runs.
    pub(super) fn kill(&mut self) -> Option<String> {
        if self.look().is_some() {
            return None;
        }
        // It can only have ended meanwhile.
        let _ = self.child.kill();
        self.ended = self.child.wait().ok();
        self.reported = true;
        Some(format!("{} did not end and was killed; {}", self.place.name, self.last_words()))
    }

    /// The end of its log, for a report.
    pub(super) fn last_words(&self) -> String {
        let lines = last_lines(&self.log).unwrap_or_default();
        format!("the end of {}:\n{lines}", self.log.display())
    }

    fn look(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }
}

impl Drop for Node {
    /// A start that failed half way leaves no process behind.
    fn drop(&mut self) {
        if self.look().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn last_lines(path: &Path) -> std::io::Result<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(LAST_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(LAST_LINES)..].join("\n"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::last_lines;

    #[test]
    fn the_end_of_a_log_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, (0..100_000).map(|n| format!("line {n}\n")).collect::<String>()).unwrap();
        let lines = last_lines(&path).unwrap();
        assert_eq!((lines.lines().count(), lines.lines().next_back()), (10, Some("line 99999")));
        std::fs::write(&path, "only one").unwrap();
        assert_eq!(last_lines(&path).unwrap(), "only one");
        assert!(last_lines(&dir.path().join("none")).is_err());
    }
}
