//! The compactor: a process of its own that asks any of the nodes for work.

use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use super::support::binary::command;
use super::support::server::copy_lines;

/// A running compactor, killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Compactor {
    servers: String,
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Compactor {
    /// Starts one for these servers.
    pub(crate) fn start(servers: &str) -> Self {
        let log = Arc::default();
        Self { servers: servers.to_owned(), child: spawn(servers, &log), log }
    }

    /// `kill -9`, and another start.
    pub(crate) fn kill_and_restart(&mut self) {
        self.end();
        self.child = spawn(&self.servers, &self.log);
    }

    /// It must not have ended by itself.
    pub(crate) fn check(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "the compactor has ended: {ended:?}\n{}", self.log.lock().unwrap());
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    fn end(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Compactor {
    fn drop(&mut self) {
        self.end();
    }
}

fn spawn(servers: &str, log: &Arc<Mutex<String>>) -> Child {
    let mut compact = command(&["compact", "--server", servers]);
    compact.env("TIDELOG__ARCHIVE__INTERVAL", "500ms");
    let mut child = compact.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let (stderr, log) = (child.stderr.take().unwrap(), Arc::clone(log));
    std::thread::spawn(move || copy_lines(stderr, &log));
    child
}
