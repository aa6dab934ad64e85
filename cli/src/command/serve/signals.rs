//! What ends a server: a signal, the end of whoever started it, an operator's request, or a panic.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Exit code of a process that had to be ended by a second signal or by a panic.
const FAILED: i32 = 1;

/// SIGTERM and SIGINT, and the end of standard input if that counts.
pub(in crate::command) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    stdin: Option<oneshot::Receiver<()>>,
}

impl Signals {
    /// From now on the signals no longer end the process by themselves.
    pub(in crate::command) fn new() -> Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
        Ok(Self { terminate, interrupt, stdin: None })
    }

    /// The end of standard input counts as a signal too: the process that holds its other end is gone.
    pub(in crate::command) fn with_stdin(mut self) -> Result<Self> {
        let (ended, end) = oneshot::channel();
        let watch = move || {
            // An input that cannot be read has ended as well.
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            let _ = ended.send(());
        };
        std::thread::Builder::new().name("stdin".to_owned()).spawn(watch).context("cannot watch standard input")?;
        self.stdin = Some(end);
        Ok(self)
    }

    /// The name of the next signal.
    pub(in crate::command) async fn next(&mut self) -> &'static str {
        let stdin = async {
            match &mut self.stdin {
                Some(end) => drop(end.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            () = stdin => {
                self.stdin = None;
                "the end of standard input"
            }
        }
    }

    /// Ends the process at the next signal: whoever asks twice does not want to wait.
    pub(in crate::command) fn end_at_next(mut self) {
        tokio::spawn(async move {
            let name = self.next().await;
            tracing::warn!(signal = name, "a second signal, ending at once");
            std::process::exit(FAILED);
        });
    }
}

/// A panic in any task or thread ends the process: what it left half done is repaired by a restart, which is tested,
/// and by nothing else.
pub(super) fn end_on_panic() {
    static PANICKED: AtomicBool = AtomicBool::new(false);
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // A panic while the first one is reported must not report again.
        if !PANICKED.swap(true, Ordering::SeqCst) {
            report(panic);
            tracing::error!(%panic, "a panic ends the process");
        }
        std::process::exit(FAILED);
    }));
}
