//! Faults injected into a running server: fail points and a wrong wall clock, set through files that it follows.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::eventually;
use super::server::{Server, Settings};

/// The files; they outlive the servers that follow them.
#[derive(Debug)]
pub(crate) struct Injected {
    dir: TempDir,
    shift: AtomicI64,
}

impl Injected {
    /// Nothing is injected yet.
    pub(crate) fn new() -> Self {
        let injected = Self { dir: tempfile::tempdir().unwrap(), shift: AtomicI64::new(0) };
        injected.points("");
        injected.shift_wall(Duration::ZERO);
        injected
    }

    /// Settings of a server that follows the files.
    pub(crate) fn followed_by(&self, settings: Settings) -> Settings {
        let follow = |name: &str| format!("@{}", self.dir.path().join(name).display());
        settings.env("TIDELOG_FAILPOINTS", &follow("points")).env("TIDELOG_WALL_SHIFT", &follow("shift"))
    }

    /// Arms exactly these fail points from now on.
    pub(crate) fn points(&self, text: &str) {
        self.write("points", text);
    }

    /// Arms this fail point alone, and returns once the server has.
    pub(crate) async fn arm(&self, server: &Server, point: &str, action: &str) {
        let armed = format!("fail point armed name=\"{point}\"");
        let before = server.log().matches(&armed).count();
        self.points(&format!("{point}={action}"));
        eventually("arming", || async { (server.log().matches(&armed).count() > before).then_some(()) }).await;
    }

    /// Has the wall clock go wrong by this much more.
    pub(crate) fn shift_wall(&self, ahead: Duration) {
        let ahead = i64::try_from(ahead.as_millis()).unwrap();
        self.write("shift", &(self.shift.fetch_add(ahead, Ordering::SeqCst) + ahead).to_string());
    }

    /// Has the wall clock be wrong by so many milliseconds altogether.
    pub(crate) fn set_wall(&self, millis: i64) {
        self.shift.store(millis, Ordering::SeqCst);
        self.write("shift", &millis.to_string());
    }

    fn write(&self, name: &str, text: &str) {
        // Whoever reads meanwhile sees the old text or the new one.
        let temporary = self.dir.path().join(format!("{name}.tmp"));
        std::fs::write(&temporary, text).unwrap();
        std::fs::rename(temporary, self.dir.path().join(name)).unwrap();
    }
}

/// Waits until a fail point has fired.
pub(crate) async fn fired(server: &Server, point: &str) {
    let name = format!("name=\"{point}\"");
    let is_it = |line: &str| line.contains("fail point fired") && line.contains(&name);
    eventually(point, || async { server.log().lines().any(is_it).then_some(()) }).await;
}
