//! The tasks of a shard: a panic in one of them, or a task that ends with a reason, is fatal to the process. Those of a scope
//! end with it: a leadership has such.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Spawns and ends tasks; clones share them.
#[derive(Debug, Clone)]
pub(super) struct Tasks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    fatal: Arc<watch::Sender<Option<String>>>,
    running: Mutex<Vec<AbortHandle>>,
}

impl Tasks {
    /// No tasks yet.
    #[must_use]
    pub(super) fn new() -> Self {
        Self::reporting_to(Arc::new(watch::Sender::new(None)))
    }

    fn reporting_to(fatal: Arc<watch::Sender<Option<String>>>) -> Self {
        Self(Arc::new(Inner { fatal, running: Mutex::default() }))
    }

    /// Other tasks, which are fatal to the process as these are.
    pub(super) fn others(&self) -> Self {
        Self::reporting_to(Arc::clone(&self.0.fatal))
    }

    /// Tasks that end when the scope is dropped, and are fatal to the process as these are.
    pub(super) fn scope(&self) -> Scope {
        Scope(self.others())
    }

    /// Runs `task` until it ends or [`Tasks::abort`]; what it returns is why the process has to end, `None` if it need not.
    pub(super) fn spawn(&self, name: &'static str, task: impl Future<Output = Option<String>> + Send + 'static) {
        let task = tokio::spawn(task);
        self.running().push(task.abort_handle());
        let fatal = Arc::clone(&self.0.fatal);
        tokio::spawn(async move {
            let reason = match task.await {
                Ok(reason) => reason,
                Err(error) if error.is_cancelled() => None,
                Err(error) => Some(format!("the task {name} panicked: {error}")),
            };
            if let Some(reason) = reason {
                fatal.send_if_modified(|first| first.is_none() && first.replace(reason).is_none());
            }
        });
    }

    /// Waits for the first fatal end.
    pub(super) async fn fatal(&self) -> String {
        let mut fatal = self.0.fatal.subscribe();
        match fatal.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the tasks are gone".to_owned(),
        }
    }

    /// Ends all tasks where they are.
    pub(super) fn abort(&self) {
        self.running().drain(..).for_each(|task| task.abort());
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Vec<AbortHandle>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Tasks::scope`].
#[derive(Debug)]
pub(super) struct Scope(Tasks);

impl std::ops::Deref for Scope {
    type Target = Tasks;

    fn deref(&self) -> &Tasks {
        &self.0
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}
