//! The real binary as a server: started on a free port and its own directory, killed, stopped, started again.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use tempfile::TempDir;
use tidelog_client::{Client, ClientOptions};

use super::DEADLINE;
use super::binary::command_within;
use super::operators;

/// How a server is started, again and again with the same directory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    listen: Option<String>,
    within: Vec<String>,
    args: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Settings {
    /// A setting, such as `flush.interval` and `1s`.
    #[must_use]
    pub(crate) fn set(mut self, key: &str, value: &str) -> Self {
        let name = format!("TIDELOG__{}", key.replace('.', "__").to_uppercase());
        self.environment.push((name, value.to_owned()));
        self
    }

    /// These, and `others`, which win over them.
    #[must_use]
    pub(crate) fn and(mut self, mut others: Self) -> Self {
        self.environment.append(&mut others.environment);
        self.args.append(&mut others.args);
        self.listen = others.listen.or(self.listen);
        if !others.within.is_empty() {
            self.within = others.within;
        }
        self
    }

    /// An address, so that a later start has the same URL; a free port otherwise.
    #[must_use]
    pub(crate) fn listen(mut self, address: &str) -> Self {
        self.listen = Some(address.to_owned());
        self
    }

    /// A command that runs the binary, as the same process in the end.
    #[must_use]
    pub(crate) fn within(mut self, command: &[&str]) -> Self {
        self.within = command.iter().map(|&part| part.to_owned()).collect();
        self
    }

    /// A variable of the environment.
    #[must_use]
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A flag of `serve`.
    #[must_use]
    pub(crate) fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// Adds the flags and the environment to a command.
    pub(super) fn apply(&self, command: &mut Command) {
        command.args(&self.args).envs(self.environment.iter().map(|(name, value)| (name, value)));
    }
}

/// A running server; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    url: String,
    dir: Arc<TempDir>,
    settings: Settings,
    log: Arc<Mutex<String>>,
    /// Copies what it logs until it has ended.
    reader: Option<JoinHandle<()>>,
}

impl Server {
    /// A server with its own new directory.
    pub(crate) async fn start() -> Self {
        Self::start_with(Settings::default()).await
    }

    /// The same with settings.
    pub(crate) async fn start_with(settings: Settings) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Self::start_in(dir, settings).await
    }

    /// A server on a directory that was used before.
    pub(crate) async fn start_in(dir: Arc<TempDir>, settings: Settings) -> Self {
        match Self::try_start(dir, settings).await {
            Ok(server) => server,
            Err(log) => panic!("the server did not start:\n{log}"),
        }
    }

    /// Starts, and gives the log of a server that ended instead.
    pub(crate) async fn try_start(dir: Arc<TempDir>, settings: Settings) -> Result<Self, String> {
        let data = dir.path().join("data");
        let listen = settings.listen.as_deref().unwrap_or("127.0.0.1:0");
        let serve = ["serve", "--listen", listen, "--admin-listen", "127.0.0.1:0", "--data-dir"];
        let mut command = command_within(&settings.within, &serve);
        command.arg(&data);
        settings.apply(&mut command);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = child.stderr.take().unwrap();
        let reader = std::thread::spawn({
            let log = Arc::clone(&log);
            move || copy_lines(stderr, &log)
        });
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let urls = tokio::task::spawn_blocking(move || first_urls(stdout)).await.unwrap();
        let Some((url, admin)) = urls else {
            let status = child.wait().unwrap();
            reader.join().unwrap();
            let log = log.lock().unwrap().clone();
            return Err(format!("{log}{status}"));
        };
        operators::remember(&url, &admin);
        let mut server = Self { child, url, dir, settings, log, reader: Some(reader) };
        let client = server.client();
        let begun = Instant::now();
        while client.ready().await.is_err() {
            if let Some(status) = server.try_ended() {
                return Err(format!("{}{status}", server.log()));
            }
            assert!(begun.elapsed() < DEADLINE, "the server is not ready:\n{}", server.log());
            tokio::time::sleep(super::POLL).await;
        }
        Ok(server)
    }

    /// Whether the process has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.try_ended().is_some()
    }

    /// `http://127.0.0.1:…`
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.url, ClientOptions::default()).unwrap()
    }

    /// Its data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Its bucket, unless the settings name another.
    pub(crate) fn bucket(&self) -> PathBuf {
        self.data().join("bucket")
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// `127.0.0.1:…`, for a later start at the same place.
    pub(crate) fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// The same, for when the server itself is gone.
    pub(crate) fn log_handle(&self) -> Arc<Mutex<String>> {
        Arc::clone(&self.log)
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as a power switch would its process, and gives its directory.
    pub(crate) fn kill(mut self) -> Arc<TempDir> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.whole_log();
        Arc::clone(&self.dir)
    }

    /// Kills it and starts it again.
    pub(crate) async fn kill_and_restart(self) -> Self {
        let settings = self.settings.clone();
        Self::start_in(self.kill(), settings).await
    }

    /// SIGTERM; it has to end by itself.
    pub(crate) fn terminate(mut self) -> (ExitStatus, Arc<TempDir>) {
        self.signal(rustix::process::Signal::TERM);
        (self.wait(), Arc::clone(&self.dir))
    }

    /// SIGTERM and another start.
    pub(crate) async fn terminate_and_restart(self) -> Self {
        let settings = self.settings.clone();
        let (status, dir) = self.terminate();
        assert!(status.success(), "{status}");
        Self::start_in(dir, settings).await
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Whether it has ended by itself, and how; all that it logged is in its log then.
    pub(crate) fn try_ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().unwrap()?;
        self.whole_log();
        Some(status)
    }

    /// Waits for the rest of what a process logged that has ended.
    fn whole_log(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.try_ended() {
                return status;
            }
            assert!(begun.elapsed() < DEADLINE, "the server does not end:\n{}", self.log());
            std::thread::sleep(super::POLL);
        }
    }

    /// Waits for its end and gives its directory.
    pub(crate) fn ended(mut self) -> (ExitStatus, Arc<TempDir>) {
        (self.wait(), Arc::clone(&self.dir))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- end of the server's log\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}

/// Keeps what the process logs, so that its pipe never fills.
pub(crate) fn copy_lines(pipe: impl Read, log: &Mutex<String>) {
    for line in BufReader::new(pipe).lines().map_while(Result::ok) {
        let mut log = log.lock().unwrap();
        log.push_str(&line);
        log.push('\n');
    }
}

/// The first two URLs that are printed, of the listeners for clients and for operators; the rest is read on a thread so that
/// the pipe stays open.
fn first_urls(mut stdout: impl BufRead + Send + 'static) -> Option<(String, String)> {
    let (mut line, mut clients) = (String::new(), None);
    while stdout.read_line(&mut line).ok()? > 0 {
        let url = line.find("http").and_then(|at| line[at..].split_whitespace().next()).map(str::to_owned);
        match (clients.take(), url) {
            (Some(clients), Some(url)) => {
                std::thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
                return Some((clients, url));
            }
            (first, url) => clients = first.or(url),
        }
        line.clear();
    }
    None
}

/// Copies a directory tree: what another machine would find.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// All files under a directory.
pub(crate) fn files_under(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(path) = pending.pop() {
        // What a running server removes meanwhile is not there.
        let Ok(entries) = std::fs::read_dir(&path) else { continue };
        for entry in entries.filter_map(Result::ok) {
            if entry.path().is_dir() { pending.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    files.sort();
    files
}

/// An address on which a server can listen, end, and listen again: its port is below those that the system gives to
/// connections, or one of them could take it in between, and no other server of this process ever gets it.
pub(crate) fn fixed_address() -> String {
    format!("127.0.0.1:{}", fixed_ports(1))
}

/// The first of so many such ports in a row; a multiple of ten if there are several.
pub(crate) fn fixed_ports(count: u16) -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = rand::random_range(15_000..30_000);
        let first = if count == 1 { port } else { port / 10 * 10 };
        let ports = first..first + count;
        let mut given = GIVEN.lock().unwrap();
        let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        if ports.clone().all(|port| !given.contains(&port) && free(port)) {
            given.extend(ports);
            return first;
        }
    }
}
